//! `/sys/class/thermal`, and the fan's two chips.

use std::io;

use super::Tree;
use crate::faults::{Faults, Sense};
use crate::module::Module;
use crate::readings::Readings;
use crate::rounding::millidegrees;

const CLASS: &str = "sys/class/thermal";
/// Published: where people are told that the outside is hot, and where not any more.
const HOT_SURFACE_CELSIUS: f64 = 70.0;
const HOT_SURFACE_OFF_CELSIUS: f64 = 62.0;

/// Types of the zones in the order of NVIDIA's device tree.
pub(super) fn zones(module: &Module) -> &'static [&'static str] {
    const ALL: [&str; 11] = [
        "cpu-thermal",
        "gpu-thermal",
        "cv0-thermal",
        "cv1-thermal",
        "cv2-thermal",
        "soc0-thermal",
        "soc1-thermal",
        "soc2-thermal",
        "tj-thermal",
        "tboard-thermal",
        "tdiode-thermal",
    ];
    if module.is_agx() { &ALL } else { &ALL[..9] }
}

/// What can be done about heat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cooler {
    Fan,
    Cpu(u32),
    Gpu,
    Alert(&'static str),
    HotSurface,
}

pub(super) fn coolers(module: &Module) -> Vec<Cooler> {
    let parts = ["cpu", "gpu", "cv0", "cv1", "cv2", "soc0", "soc1", "soc2"];
    let mut coolers = vec![Cooler::Fan];
    coolers.extend(module.cpu.policies.iter().map(|core| Cooler::Cpu(*core)));
    coolers.push(Cooler::Gpu);
    coolers.extend(parts.map(Cooler::Alert));
    if !module.is_agx() {
        coolers.push(Cooler::HotSurface);
    }
    coolers
}

impl Cooler {
    fn kind(self) -> String {
        match self {
            Self::Fan => "pwm-fan".into(),
            Self::Cpu(core) => format!("cpufreq-cpu{core}"),
            Self::Gpu => "devfreq-17000000.gpu".into(),
            Self::Alert(part) => format!("{part}-throttle-alert"),
            Self::HotSurface => "hot-surface-alert".into(),
        }
    }

    fn most(self, module: &Module) -> usize {
        match self {
            Self::Fan if module.is_agx() => 2,
            Self::Fan => 3,
            Self::Cpu(_) => 25,
            Self::Gpu => module.gpu.hz.len() - 1,
            Self::Alert(_) | Self::HotSurface => 2,
        }
    }

    fn state(self, module: &Module, readings: &Readings, before: u32) -> u32 {
        // Published: the drives of the fan's states above the lowest.
        let levels: &[u8] = if module.is_agx() { &[215, 255] } else { &[88, 187, 255] };
        match self {
            Self::Fan => levels.iter().filter(|level| readings.fan_pwm >= **level).count(),
            Self::Cpu(_) | Self::Gpu => return readings.throttle_steps,
            Self::Alert("cpu" | "gpu") => usize::from(readings.throttle_steps > 0),
            Self::Alert(_) => 0,
            Self::HotSurface => {
                let from = if before > 0 { HOT_SURFACE_OFF_CELSIUS } else { HOT_SURFACE_CELSIUS };
                usize::from(readings.tj_celsius >= from)
            }
        }
        .try_into()
        .unwrap_or(u32::MAX)
    }
}

/// Kind, m°C and hysteresis of a zone's trips.
fn trips(module: &Module, zone: &str) -> &'static [(&'static str, i32, i32)] {
    const PART: [(&str, i32, i32); 3] =
        [("passive", 99_000, 0), ("critical", 104_500, 0), ("passive", 70_000, 8000)];
    const JUNCTION: [(&str, i32, i32); 4] = [
        ("active", 35_000, 4000),
        ("active", 74_000, 4000),
        ("active", 95_000, 4000),
        ("critical", 104_500, 0),
    ];
    const AGX_JUNCTION: [(&str, i32, i32); 3] =
        [("active", 75_000, 4000), ("active", 95_000, 4000), ("critical", 104_500, 0)];
    match (module.is_agx(), zone) {
        (false, "tj-thermal") => &JUNCTION,
        (true, "tj-thermal") => &AGX_JUNCTION,
        (_, "tboard-thermal" | "tdiode-thermal") => &[("hot", 106_000, 0)],
        (false, _) => &PART,
        (true, _) => &PART[..2],
    }
}

impl Tree {
    pub(super) fn heat_once(&mut self) -> io::Result<()> {
        let module = self.module.clone();
        for (at, cooler) in coolers(&module).into_iter().enumerate() {
            let dir = format!("{CLASS}/cooling_device{}", self.numbers.coolers[at]);
            self.files.line(&format!("{dir}/type"), cooler.kind())?;
            self.files.line(&format!("{dir}/max_state"), cooler.most(&module))?;
            self.files.line(&format!("{dir}/cur_state"), 0)?;
        }
        for (at, zone) in zones(&module).iter().enumerate() {
            let dir = format!("{CLASS}/thermal_zone{}", self.numbers.zones[at]);
            self.files.line(&format!("{dir}/type"), zone)?;
            self.files.line(&format!("{dir}/mode"), "enabled")?;
            self.files.line(&format!("{dir}/policy"), "step_wise")?;
            for (trip, (kind, celsius, hysteresis)) in trips(&module, zone).iter().enumerate() {
                self.files.line(&format!("{dir}/trip_point_{trip}_type"), kind)?;
                self.files.line(&format!("{dir}/trip_point_{trip}_temp"), celsius)?;
                self.files.line(&format!("{dir}/trip_point_{trip}_hyst"), hysteresis)?;
            }
            self.bind(zone, &dir, &module)?;
        }
        Ok(())
    }

    /// Which trips do what. The part's own alert and all clocks hang on the
    /// first, the hot-surface alert on the third; the junction's trips turn the
    /// fan.
    fn bind(&mut self, zone: &str, dir: &str, module: &Module) -> io::Result<()> {
        let part = zone.trim_end_matches("-thermal");
        let bound = coolers(module).into_iter().enumerate().filter_map(|(at, cooler)| {
            let trip = match cooler {
                Cooler::Fan => (part == "tj").then_some(0),
                Cooler::Alert(of) => (of == part).then_some(0),
                _ if part.starts_with('t') => None,
                Cooler::Cpu(_) | Cooler::Gpu => Some(0),
                Cooler::HotSurface => Some(2),
            };
            trip.map(|trip| (at, trip))
        });
        for (index, (at, trip)) in bound.enumerate() {
            let device = self.numbers.coolers[at];
            self.files
                .link(&format!("{dir}/cdev{index}"), &format!("../cooling_device{device}"))?;
            self.files.line(&format!("{dir}/cdev{index}_trip_point"), trip)?;
            self.files.line(&format!("{dir}/cdev{index}_weight"), 0)?;
        }
        Ok(())
    }

    pub(super) fn show_heat(&mut self, readings: &Readings, faults: &Faults) -> io::Result<()> {
        let module = self.module.clone();
        for (at, zone) in zones(&module).iter().enumerate() {
            let Some(celsius) = celsius(zone, readings) else { continue };
            let path = format!("{CLASS}/thermal_zone{}/temp", self.numbers.zones[at]);
            let said = match faults.of(zone) {
                Some(Sense::Cold) => -256.0,
                Some(Sense::Jumping) if odd_second(readings) => celsius + 40.0,
                _ => celsius,
            };
            self.sense(&path, millidegrees(said), faults.of(zone))?;
        }
        for (at, cooler) in coolers(&module).into_iter().enumerate() {
            let path = format!("{CLASS}/cooling_device{}/cur_state", self.numbers.coolers[at]);
            let before = self.files.read(&path).and_then(|text| text.trim().parse().ok());
            self.files.line(&path, cooler.state(&module, readings, before.unwrap_or(0)))?;
        }
        let (fan, tachometer) = (self.chip(0), self.chip(2));
        self.files.line(&format!("{fan}/pwm1"), readings.fan_pwm)?;
        let rpm = if faults.of("fan") == Some(Sense::Cold) { 0 } else { readings.fan_rpm };
        self.sense(&format!("{tachometer}/rpm"), rpm, faults.of("fan"))
    }

    /// A sensor's value, or what its fault makes of the file.
    pub(super) fn sense(
        &mut self,
        path: &str,
        value: impl std::fmt::Display,
        fault: Option<Sense>,
    ) -> io::Result<()> {
        match fault {
            Some(Sense::Dead) => self.files.remove(path),
            Some(Sense::Hanging) => self.files.hang(path),
            Some(Sense::Frozen) => Ok(()),
            Some(Sense::Cold | Sense::Jumping) | None => self.files.line(path, value),
        }
    }
}

/// `None` for zones that answer `EAGAIN`.
fn celsius(zone: &str, readings: &Readings) -> Option<f64> {
    let [soc0, soc1, soc2] = readings.soc_celsius;
    Some(match zone {
        "cpu-thermal" => readings.cpu_celsius,
        "gpu-thermal" => readings.gpu_celsius,
        "soc0-thermal" => soc0,
        "soc1-thermal" => soc1,
        "soc2-thermal" => soc2,
        "tj-thermal" => readings.tj_celsius,
        "tboard-thermal" | "tdiode-thermal" => readings.board_celsius,
        _ => return None,
    })
}

pub(super) fn odd_second(readings: &Readings) -> bool {
    crate::rounding::below(readings.uptime_s) % 2 == 1
}

//! Power, from `/sys/class/hwmon`: what chips report in watts, and the rails
//! of a Jetson's INA3221 monitors as voltage times current.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::absent::split;
use crate::group::Sensors;
use crate::hwmon::{self, Channel, Chip};
use crate::root::read_number;
use crate::{Absent, Board, Root, Watts};

/// More than any supply of a board or PC gives.
const PLAUSIBLE: Watts = Watts::from_milliwatts(10_000_000);

/// One measured supply.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rail {
    /// The board's name for it, for example `VDD_IN`.
    pub label: String,
    pub watts: Option<Watts>,
    /// Why `watts` is `None`.
    pub absent: Option<Absent>,
    /// What this supply carries. Only a rail of a Jetson says so.
    pub volts: Option<f64>,
    /// At the present voltage, from here on the average current throttles the
    /// board; on an Orin that is the over-current event `oc2`.
    pub warn_watts: Option<Watts>,
    /// The same for the momentary current; on an Orin, `oc3`.
    pub critical_watts: Option<Watts>,
}

/// Where a rail is read, found now and then.
#[derive(Debug, Clone)]
struct Sensor {
    label: String,
    source: Source,
    /// Currents in milliamperes, set at boot and by nobody later.
    warn: Option<u32>,
    critical: Option<u32>,
}

#[derive(Debug, Clone)]
enum Source {
    Microwatts(PathBuf),
    Product { millivolts: PathBuf, milliamperes: PathBuf },
}

/// All rails, in the order of their chips and channels.
#[derive(Debug, Clone)]
pub(crate) struct Rails {
    root: Root,
    sensors: Vec<Sensor>,
}

impl Rails {
    pub(crate) fn new(root: &Root) -> Self {
        Self { root: root.clone(), sensors: Vec::new() }
    }
}

impl Sensors for Rails {
    type Reading = Vec<Rail>;

    fn find(&mut self) {
        self.sensors = sensors(&hwmon::chips(&self.root));
    }

    fn read(&mut self, _: Instant) -> Vec<Rail> {
        self.sensors.iter().map(Sensor::read).collect()
    }

    fn silence(rails: &mut Vec<Rail>, absent: &Absent) {
        for rail in rails {
            *rail = Rail { label: std::mem::take(&mut rail.label), ..Rail::unknown(absent) };
        }
    }
}

impl Rail {
    fn unknown(absent: &Absent) -> Self {
        Self {
            label: String::new(),
            watts: None,
            absent: Some(absent.clone()),
            volts: None,
            warn_watts: None,
            critical_watts: None,
        }
    }
}

impl Sensor {
    fn read(&self) -> Rail {
        let voltage = self.millivolts();
        let (watts, absent) = split(self.watts(voltage.clone()));
        let at_limit = |milliamperes: Option<u32>| {
            Some(product(voltage.clone()?.ok()?, milliamperes.filter(|limit| *limit > 0)?))
        };
        Rail {
            label: self.label.clone(),
            watts,
            absent,
            warn_watts: at_limit(self.warn),
            critical_watts: at_limit(self.critical),
            volts: voltage.and_then(Result::ok).map(|millivolts| f64::from(millivolts) / 1e3),
        }
    }

    /// The voltage, where the supply is measured by voltage and current.
    fn millivolts(&self) -> Option<Result<u32, Absent>> {
        match &self.source {
            Source::Microwatts(_) => None,
            Source::Product { millivolts, .. } => Some(read_number(millivolts)),
        }
    }

    fn watts(&self, voltage: Option<Result<u32, Absent>>) -> Result<Watts, Absent> {
        let watts = match (&self.source, voltage) {
            (Source::Product { milliamperes, .. }, Some(voltage)) => {
                product(voltage?, read_number(milliamperes)?)
            }
            (Source::Microwatts(path) | Source::Product { milliamperes: path, .. }, _) => {
                Watts::from_microwatts(read_number(path)?)
            }
        };
        if watts <= PLAUSIBLE { Ok(watts) } else { Err(Absent::Garbled) }
    }
}

fn product(millivolts: u32, milliamperes: u32) -> Watts {
    Watts::from_microwatts(u64::from(millivolts) * u64::from(milliamperes))
}

fn sensors(chips: &[Chip]) -> Vec<Sensor> {
    let mut sensors = Vec::new();
    for chip in chips {
        sensors.extend(rails(chip));
        sensors.extend(meters(chip, "_input"));
        sensors.extend(meters(chip, "_average"));
    }
    sensors
}

/// A channel with a label, a voltage and a current is a rail. The sum channels
/// of an INA3221 have no current of their own; unused ones are labelled `NC`.
fn rails(chip: &Chip) -> Vec<Sensor> {
    let rail = |Channel { number, label }: Channel| {
        let label = label.filter(|label| label != "NC")?;
        let milliamperes = format!("curr{number}_input");
        chip.has(&milliamperes).then(|| Sensor {
            label,
            source: Source::Product {
                millivolts: chip.path(&format!("in{number}_input")),
                milliamperes: chip.path(&milliamperes),
            },
            warn: read_number(&chip.path(&format!("curr{number}_max"))).ok(),
            critical: read_number(&chip.path(&format!("curr{number}_crit"))).ok(),
        })
    };
    if chip.name != "ina3221" {
        return Vec::new();
    }
    chip.channels("in", "_input").into_iter().filter_map(rail).collect()
}

fn meters(chip: &Chip, suffix: &str) -> Vec<Sensor> {
    let name = |channel: &Channel| match &channel.label {
        Some(label) => format!("{} {label}", chip.name),
        None => format!("{} power{}", chip.name, channel.number),
    };
    chip.channels("power", suffix)
        .into_iter()
        // A chip may offer both; the momentary value is enough.
        .filter(|channel| {
            suffix == "_input" || !chip.has(&format!("power{}_input", channel.number))
        })
        .map(|channel| Sensor {
            label: name(&channel),
            source: Source::Microwatts(chip.path(&format!("power{}{suffix}", channel.number))),
            warn: None,
            critical: None,
        })
        .collect()
}

/// What the whole machine takes: the rails that together are its input.
///
/// An AGX module's `VDDQ_VDD2_1V8AO` is fed from `VIN_SYS_5V0` and would count
/// twice. A PC that measures itself does it with an ACPI power meter.
pub(crate) fn total(board: &Board, rails: &[Rail]) -> Result<Watts, Absent> {
    let inputs: &[&str] = if board.has_module("p3767") {
        &["VDD_IN"]
    } else if board.has_module("p3701") {
        &["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]
    } else {
        &["power_meter power1"]
    };
    inputs
        .iter()
        .map(|input| {
            let rail = rails.iter().find(|rail| rail.label == *input).ok_or(Absent::NoTotal)?;
            rail.watts.ok_or_else(|| rail.absent.clone().unwrap_or(Absent::NoTotal))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwmon::chips;
    use crate::tree::{self, Tree};

    fn rails(tree: &Tree) -> Vec<Rail> {
        sensors(&chips(&tree.root())).iter().map(Sensor::read).collect()
    }

    fn watts(tree: &Tree) -> Vec<(String, Option<f64>)> {
        rails(tree).into_iter().map(|rail| (rail.label, rail.watts.map(Watts::watts))).collect()
    }

    #[test]
    fn a_rail_is_voltage_times_current_by_its_label() {
        assert_eq!(
            watts(&tree::orin_nano()),
            [
                ("VDD_IN".to_owned(), Some(4.64)),
                ("VDD_CPU_GPU_CV".to_owned(), Some(0.56)),
                ("VDD_SOC".to_owned(), Some(1.48)),
            ]
        );
    }

    #[test]
    fn a_pc_s_meters_report_watts() {
        assert_eq!(
            watts(&tree::pc()),
            [("amdgpu PPT".to_owned(), Some(23.5)), ("power_meter power1".to_owned(), Some(88.0))]
        );
        let tree = tree::pc();
        assert_eq!(
            total(&Board::read(&tree.root()), &rails(&tree)),
            Ok(Watts::from_milliwatts(88_000))
        );
    }

    #[test]
    fn the_total_is_what_the_module_s_input_rails_say() {
        let board = |module: &str| Board {
            compatible: vec![format!("nvidia,{module}")],
            ..Board::default()
        };
        let rail = |label: &str, milliwatts| Rail {
            label: label.to_owned(),
            watts: Some(Watts::from_milliwatts(milliwatts)),
            absent: None,
            ..Rail::unknown(&Absent::NoTotal)
        };
        let nano = [rail("VDD_IN", 9_000), rail("VDD_SOC", 2_000)];
        let agx = [
            rail("VDD_GPU_SOC", 3_178),
            rail("VDD_CPU_CV", 794),
            rail("VIN_SYS_5V0", 4_543),
            rail("VDDQ_VDD2_1V8AO", 700),
        ];
        assert_eq!(total(&board("p3767-0003"), &nano), Ok(Watts::from_milliwatts(9_000)));
        assert_eq!(total(&board("p3701-0005"), &agx), Ok(Watts::from_milliwatts(8_515)));
        assert_eq!(total(&board("p3701-0005"), &agx[..2]), Err(Absent::NoTotal));
        assert_eq!(total(&Board::default(), &nano), Err(Absent::NoTotal));
    }

    #[test]
    fn a_rail_that_cannot_be_read_takes_the_total_with_it() {
        let tree = tree::orin_nano();
        tree.write("sys/class/hwmon/hwmon9/curr1_input", "-8\n");
        let rails = rails(&tree);
        assert_eq!((rails[0].watts, &rails[0].absent), (None, &Some(Absent::Garbled)));
        assert_eq!(total(&Board::read(&tree.root()), &rails), Err(Absent::Garbled));
    }
}

//! What slows the board down now: over-current events and cooling devices.
//!
//! On Orin each over-current event halves a clock for about a millisecond, and
//! no clock that software sees shows it. Some events a second are normal in
//! the highest power mode; what counts is the rate and the throughput lost.
//! The counters begin at boot and move in bursts two seconds apart.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::absent::split;
use crate::group::Sensors;
use crate::hwmon;
use crate::root::{list, read, read_number};
use crate::{Absent, Root};

/// Cooling devices that are read. An Orin has 13, a PC one for each processor.
const MAX_COOLING: usize = 32;

/// What slows the board down now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Throttle {
    /// In the order of their numbers; empty where nothing counts them.
    pub over_current: Vec<OverCurrent>,
    /// By name; empty where there are none.
    pub cooling: Vec<Cooling>,
}

/// One over-current input of the chip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OverCurrent {
    /// On Orin: `oc1` is an input voltage that is too low, `oc2` too high an
    /// average current, `oc3` too high a momentary one.
    pub name: String,
    /// Since boot.
    pub events: Option<u64>,
    /// Whether an event slows the clocks down.
    pub throttles: Option<bool>,
    /// Why `events` is `None`.
    pub absent: Option<Absent>,
}

/// Something that can make less heat or carry more away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cooling {
    /// The kernel's name, for example `cpu-throttle-alert`.
    pub name: String,
    /// 0 is at rest.
    pub state: Option<u32>,
    pub max_state: Option<u32>,
    /// Why `state` is `None`.
    pub absent: Option<Absent>,
}

impl Throttle {
    /// Alerts that say a zone is at its limit; `cpu` of `cpu-throttle-alert`.
    pub fn alerts(&self) -> impl Iterator<Item = &str> {
        self.active().filter_map(|name| name.strip_suffix("-throttle-alert"))
    }

    /// Clocks that the kernel holds down because of heat.
    pub fn clocks_held_down(&self) -> impl Iterator<Item = &str> {
        let clocks = |name: &&str| name.starts_with("cpufreq-") || name.starts_with("devfreq-");
        self.active().filter(clocks)
    }

    /// Events since boot of all inputs that could be read; `None` if none could.
    #[must_use]
    pub fn over_current_events(&self) -> Option<u64> {
        self.over_current.iter().filter_map(|input| input.events).reduce(u64::saturating_add)
    }

    fn active(&self) -> impl Iterator<Item = &str> {
        let at_work = |device: &&Cooling| device.state.is_some_and(|state| state > 0);
        self.cooling.iter().filter(at_work).map(|device| device.name.as_str())
    }
}

/// Where all of it is read.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    root: Root,
    over_current: Vec<Counter>,
    cooling: Vec<Device>,
}

#[derive(Debug, Clone)]
struct Counter {
    name: String,
    events: PathBuf,
    throttles: Option<bool>,
}

#[derive(Debug, Clone)]
struct Device {
    name: String,
    directory: PathBuf,
    max_state: Option<u32>,
}

impl Sources {
    pub(crate) fn new(root: &Root) -> Self {
        Self { root: root.clone(), over_current: Vec::new(), cooling: Vec::new() }
    }
}

impl Sensors for Sources {
    type Reading = Throttle;

    fn find(&mut self) {
        self.over_current = counters(&self.root);
        self.cooling = devices(&self.root);
    }

    fn read(&mut self, _: Instant) -> Throttle {
        Throttle {
            over_current: self.over_current.iter().map(Counter::read).collect(),
            cooling: self.cooling.iter().map(Device::read).collect(),
        }
    }

    fn silence(throttle: &mut Throttle, absent: &Absent) {
        for input in &mut throttle.over_current {
            (input.events, input.absent) = (None, Some(absent.clone()));
        }
        for device in &mut throttle.cooling {
            (device.state, device.absent) = (None, Some(absent.clone()));
        }
    }
}

impl Counter {
    fn read(&self) -> OverCurrent {
        let (events, absent) = split(read_number(&self.events));
        OverCurrent { name: self.name.clone(), events, throttles: self.throttles, absent }
    }
}

impl Device {
    fn read(&self) -> Cooling {
        let (state, absent) = split(read_number(&self.directory.join("cur_state")));
        Cooling { name: self.name.clone(), state, max_state: self.max_state, absent }
    }
}

fn counters(root: &Root) -> Vec<Counter> {
    let chips = hwmon::chips(root);
    let Some(chip) = chips.iter().find(|chip| chip.name == "soctherm_oc") else {
        return Vec::new();
    };
    let counter = |channel: hwmon::Channel| {
        let number = channel.number;
        let throttles = read_number::<u8>(&chip.path(&format!("oc{number}_throt_en")));
        Counter {
            name: format!("oc{number}"),
            events: chip.path(&format!("oc{number}_event_cnt")),
            throttles: throttles.ok().map(|enabled| enabled != 0),
        }
    };
    chip.channels("oc", "_event_cnt").into_iter().map(counter).collect()
}

fn devices(root: &Root) -> Vec<Device> {
    let class = root.path("sys/class/thermal");
    let mut devices: Vec<Device> = list(&class)
        .into_iter()
        .filter(|entry| entry.starts_with("cooling_device"))
        .filter_map(|entry| {
            let directory = class.join(entry);
            let name = read(&directory.join("type")).ok().filter(|name| !name.is_empty())?;
            let max_state = read_number(&directory.join("max_state")).ok();
            Some(Device { name, directory, max_state })
        })
        .collect();
    devices.sort_by(|a, b| (&a.name, &a.directory).cmp(&(&b.name, &b.directory)));
    devices.truncate(MAX_COOLING);
    devices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    fn throttle(tree: &tree::Tree) -> Throttle {
        let mut sources = Sources::new(&tree.root());
        sources.find();
        sources.read(Instant::now())
    }

    #[test]
    fn a_board_at_rest_holds_nothing_down() {
        let throttle = throttle(&tree::orin_nano());
        let inputs: Vec<_> = throttle.over_current.iter().map(|oc| oc.name.as_str()).collect();
        assert_eq!(inputs, ["oc1", "oc2", "oc3"]);
        assert_eq!(throttle.over_current_events(), Some(1843));
        assert_eq!(throttle.cooling.len(), 13);
        assert_eq!((throttle.alerts().count(), throttle.clocks_held_down().count()), (0, 0));
    }

    #[test]
    fn a_hot_board_says_which_zone_and_which_clock() {
        let tree = tree::orin_nano();
        let set = |name: &str| {
            let class = tree.path().join("sys/class/thermal");
            let device = list(&class)
                .into_iter()
                .find(|entry| read(&class.join(entry).join("type")).as_deref() == Ok(name));
            tree.write(format!("sys/class/thermal/{}/cur_state", device.unwrap()), "1\n");
        };
        for device in ["gpu-throttle-alert", "devfreq-17000000.gpu", "hot-surface-alert"] {
            set(device);
        }
        let throttle = throttle(&tree);
        assert_eq!(throttle.alerts().collect::<Vec<_>>(), ["gpu"]);
        assert_eq!(throttle.clocks_held_down().collect::<Vec<_>>(), ["devfreq-17000000.gpu"]);
    }

    #[test]
    fn a_machine_that_counts_nothing_does_not_claim_zero() {
        let throttle = throttle(&tree::pc());
        assert_eq!(throttle.over_current_events(), None);
        assert_eq!(throttle.cooling, []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let tree = tree::of(&[("sys/class/hwmon/hwmon0/name", "soctherm_oc\n")]);
            for file in ["hwmon/hwmon0/oc1_event_cnt", "hwmon/hwmon0/oc1_throt_en",
                "thermal/cooling_device0/type", "thermal/cooling_device0/cur_state"] {
                tree.write(format!("sys/class/{file}"), &bytes);
            }
            let throttle = throttle(&tree);
            prop_assert_eq!(throttle.over_current.len(), 1);
        }
    }
}

//! The whole machine: found once, sampled again and again.
//!
//! The directories that hold sensors are listed once a minute and the paths
//! kept; a sample only reads small files, so that two seconds between samples
//! cost far less than half a percent of one core. Reading blocks: a Jetson's
//! power monitors take half a millisecond each.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::absent::split;
use crate::{
    Absent, Board, Celsius, Cpu, Fan, Gpu, Memory, Rail, Root, Watts, Zone, cpu, fan, gpu, hwmon,
    memory, power, thermal,
};

/// How often sensors are looked for again. Drivers may be loaded after this
/// program has started, and a reloaded one gets another number.
const SEARCH_PERIOD: Duration = Duration::from_secs(60);

/// The machine's sensors.
#[derive(Debug)]
pub struct Machine {
    root: Root,
    board: Board,
    searched: Instant,
    zones: Vec<thermal::Sensor>,
    rails: Vec<power::Sensor>,
    fans: Vec<fan::Sensor>,
    memory: memory::Sensor,
    cpu: cpu::Sensor,
    gpus: gpu::Sensor,
}

/// What all sensors said at one time. Lists keep their order from sample to
/// sample.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// When it was taken, for [`Sample::age`]; not shown.
    #[serde(skip)]
    pub taken: Instant,
    /// Seconds since 1970 when it was taken.
    pub at: u64,
    pub board: Board,
    pub zones: Vec<Zone>,
    pub rails: Vec<Rail>,
    /// What the whole machine takes.
    pub power_watts: Option<Watts>,
    /// Why `power_watts` is `None`.
    pub power_absent: Option<Absent>,
    pub memory: Option<Memory>,
    /// Why `memory` is `None`.
    pub memory_absent: Option<Absent>,
    /// Discrete GPUs.
    pub gpus: Vec<Gpu>,
    /// Why `gpus` is empty although there may be some.
    pub gpus_absent: Option<Absent>,
    pub cpu: Cpu,
    pub fans: Vec<Fan>,
}

impl Machine {
    /// Finds the sensors below `root`. A machine without any is a machine too.
    #[must_use]
    pub fn open(root: Root) -> Self {
        let board = Board::read(&root);
        let mut machine = Self {
            searched: Instant::now(),
            zones: Vec::new(),
            rails: Vec::new(),
            fans: Vec::new(),
            memory: memory::Sensor::find(&root, board.is_tegra()),
            cpu: cpu::Sensor::find(&root),
            gpus: gpu::Sensor::find(&root, &board),
            root,
            board,
        };
        machine.find_chips();
        machine
    }

    /// What was found when the machine was opened.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Reads all sensors. Blocks for some milliseconds.
    pub fn sample(&mut self) -> Sample {
        self.search_again(Instant::now());
        let (gpus, gpus_absent) = split(self.gpus.read());
        let (gpus, gpu_zones): (Vec<_>, Vec<_>) = gpus.unwrap_or_default().into_iter().unzip();
        let rails: Vec<Rail> = self.rails.iter().map(power::Sensor::read).collect();
        let (power_watts, power_absent) = split(power::total(&self.board, &rails));
        let (memory, memory_absent) = split(self.memory.read());
        Sample {
            taken: Instant::now(),
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            board: self.board.clone(),
            zones: self.zones.iter().map(thermal::Sensor::read).chain(gpu_zones).collect(),
            rails,
            power_watts,
            power_absent,
            memory,
            memory_absent,
            gpus,
            gpus_absent,
            cpu: self.cpu.read(),
            fans: self.fans.iter().map(fan::Sensor::read).collect(),
        }
    }

    fn search_again(&mut self, now: Instant) {
        if now.saturating_duration_since(self.searched) < SEARCH_PERIOD {
            return;
        }
        self.searched = now;
        self.find_chips();
        self.memory = memory::Sensor::find(&self.root, self.board.is_tegra());
        if self.gpus.failed() {
            self.gpus = gpu::Sensor::find(&self.root, &self.board);
        }
    }

    fn find_chips(&mut self) {
        let chips = hwmon::chips(&self.root);
        self.zones = thermal::sensors(&self.root, &self.board, &chips);
        self.rails = power::sensors(&chips);
        self.fans = fan::sensors(&chips);
    }
}

impl Sample {
    /// How old the sample is at `now`.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.taken)
    }

    /// The highest temperature of any zone that could be read.
    #[must_use]
    pub fn hottest(&self) -> Option<Celsius> {
        self.zones.iter().filter_map(|zone| zone.celsius).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn a_machine_without_any_file_says_unknown_everywhere() {
        let tree = tree::of(&[]);
        let sample = Machine::open(tree.root()).sample();
        assert_eq!(sample.hottest(), None);
        assert_eq!((sample.power_watts, sample.power_absent), (None, Some(Absent::NoTotal)));
        assert_eq!((sample.memory, sample.memory_absent), (None, Some(Absent::NotReported)));
        assert_eq!((sample.gpus, sample.gpus_absent), (vec![], Some(Absent::NoDriver)));
        assert_eq!((sample.cpu.cores, sample.cpu.busy_share, sample.cpu.load), (None, None, None));
        assert!(sample.zones.is_empty() && sample.rails.is_empty() && sample.fans.is_empty());
    }

    #[test]
    fn an_orin_nano_is_read_whole() {
        let tree = tree::orin_nano();
        let mut machine = Machine::open(tree.root());
        let sample = machine.sample();
        assert!(sample.board.is_tegra());
        assert_eq!(sample.hottest(), Some(Celsius::from_millidegrees(50_218)));
        assert_eq!(sample.power_watts, Some(Watts::from_milliwatts(4_640)));
        assert!(sample.memory.is_some_and(|memory| memory.unified));
        assert_eq!(sample.gpus_absent, Some(Absent::Integrated));
        assert_eq!(sample.cpu.cores, Some(6));
        assert_eq!(sample.cpu.absent, Some(Absent::NotYet));
        assert_eq!(sample.fans.len(), 1);
    }

    #[test]
    fn a_sample_is_json_in_the_units_of_its_names() {
        let tree = tree::orin_nano();
        let json = serde_json::to_value(Machine::open(tree.root()).sample()).unwrap();
        assert_eq!(json["power_watts"], 4.64);
        assert_eq!(json["memory"]["total_bytes"], 7_789_952_u64 * 1024);
        assert_eq!(json["board"]["l4t"], "36.5.0");
        let zone = |name: &str| {
            json["zones"].as_array().unwrap().iter().find(|zone| zone["name"] == name).unwrap()
        };
        assert_eq!(zone("tj-thermal")["celsius"], 50.218);
        assert_eq!(zone("tj-thermal")["source"], "thermal");
        assert_eq!(zone("cv0-thermal")["celsius"], serde_json::Value::Null);
        assert_eq!(zone("cv0-thermal")["absent"], "this machine does not report it");
    }

    #[test]
    fn the_order_of_sensors_does_not_follow_the_kernel_s_numbers() {
        let names = |tree: &tree::Tree| {
            let zones = Machine::open(tree.root()).sample().zones;
            zones.into_iter().map(|zone| zone.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&tree::orin_nano()), names(&tree::orin_nano_renumbered()));
    }

    #[test]
    fn sensors_that_appear_later_are_found() {
        let tree = tree::of(&[]);
        let mut machine = Machine::open(tree.root());
        tree.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        tree.write("sys/class/thermal/thermal_zone0/temp", "40000\n");
        machine.search_again(Instant::now() + SEARCH_PERIOD);
        assert_eq!(machine.sample().hottest(), Some(Celsius::from_millidegrees(40_000)));
    }

    #[test]
    fn a_sample_grows_old() {
        let sample = Machine::open(tree::of(&[]).root()).sample();
        let later = sample.taken + Duration::from_secs(3);
        assert_eq!(sample.age(later), Duration::from_secs(3));
        assert_eq!(sample.age(sample.taken - Duration::from_secs(1)), Duration::ZERO);
    }
}

//! The board's power mode, which NVIDIA's `nvpmodel` has set, and those it
//! could set.
//!
//! `nvpmodel` may leave a mode unset without an error when it would take a
//! reboot. So the mode is what its status file says, and what it means for the
//! clocks is read from the clocks themselves.

use std::time::Instant;

use serde::Serialize;

use crate::absent::split;
use crate::group::Sensors;
use crate::{Absent, Hertz, Root};

const CONFIGURATION: &str = "etc/nvpmodel.conf";
const STATUS: &str = "var/lib/nvpmodel/status";

/// The mode that is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PowerMode {
    pub id: u32,
    /// `None` when no mode of the configuration has this number.
    pub name: Option<String>,
}

/// One mode of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Mode {
    pub id: u32,
    pub name: String,
    /// Processors that are on; `None` when the mode does not say.
    pub cores: Option<u32>,
    /// `None`: as fast as the hardware can.
    pub cpu_cap_hertz: Option<Hertz>,
    pub gpu_cap_hertz: Option<Hertz>,
    pub emc_cap_hertz: Option<Hertz>,
    /// Which of the GPU's parts are off. Changing to a mode with another mask
    /// takes a reboot.
    pub gpu_mask: Option<u64>,
}

/// All modes of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Modes {
    /// The file's own name, which tells the module it is for.
    pub file: Option<String>,
    pub list: Vec<Mode>,
    /// The mode that is set on the first boot.
    pub default: Option<u32>,
}

impl Modes {
    pub(crate) fn read(root: &Root) -> Self {
        let path = root.follow(CONFIGURATION);
        let Some(relative) = path.strip_prefix(root.as_path()).ok().and_then(|p| p.to_str()) else {
            return Self::default();
        };
        let mut modes = Self::default();
        root.each_line(relative, |line| {
            modes.line(line);
            false
        });
        let name = path.file_name().filter(|_| !modes.list.is_empty());
        modes.file = name.map(|name| name.to_string_lossy().into_owned());
        modes
    }

    /// The mode with this number.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&Mode> {
        self.list.iter().find(|mode| mode.id == id)
    }

    /// The mode with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Mode> {
        self.list.iter().find(|mode| mode.name == name)
    }

    /// Either a heading, `< POWER_MODEL ID=1 NAME=25W >` with or without the
    /// spaces inside the brackets, or what belongs to the last one:
    /// `GPU MAX_FREQ 918000000`.
    fn line(&mut self, line: &str) {
        let line = line.trim();
        if let Some(heading) = line.strip_prefix('<').and_then(|line| line.strip_suffix('>')) {
            self.heading(heading);
            return;
        }
        let mut words = line.split_whitespace();
        let (Some(part), Some(what), Some(value)) = (words.next(), words.next(), words.next())
        else {
            return;
        };
        if let Some(mode) = self.list.last_mut() {
            mode.setting(part, what, value);
        }
    }

    fn heading(&mut self, heading: &str) {
        let mut words = heading.split_whitespace();
        let kind = words.next();
        let fields: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
        let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, v)| *v);
        let number = |name: &str| field(name).and_then(|value| value.parse().ok());
        match kind {
            Some("POWER_MODEL") => {
                let (Some(id), Some(name)) = (number("ID"), field("NAME")) else { return };
                self.list.push(Mode { id, name: name.to_owned(), ..Mode::default() });
            }
            Some("PM_CONFIG") => self.default = number("DEFAULT"),
            _ => {}
        }
    }
}

impl Mode {
    fn setting(&mut self, part: &str, what: &str, value: &str) {
        let cap = || value.parse().ok().map(Hertz::new);
        match (part, what) {
            ("CPU_ONLINE", _) => {
                let on = u32::from(value == "1");
                self.cores = Some(self.cores.unwrap_or(0).saturating_add(on));
            }
            ("TPC_POWER_GATING", _) => self.gpu_mask = value.parse().ok(),
            // `-1` is no number here: no cap.
            ("GPU", "MAX_FREQ") => self.gpu_cap_hertz = cap(),
            ("EMC", "MAX_FREQ") => self.emc_cap_hertz = cap(),
            (cpu, "MAX_FREQ") if cpu.starts_with("CPU_") => {
                let cap = value.parse().ok().map(Hertz::from_kilohertz);
                self.cpu_cap_hertz = self.cpu_cap_hertz.max(cap);
            }
            _ => {}
        }
    }
}

/// `pmode:0002`, on older releases followed by ` fmode:fan_mode_quiet`.
fn current(status: &str) -> Option<u32> {
    status.split_whitespace().find_map(|word| word.strip_prefix("pmode:"))?.parse().ok()
}

/// The mode and why there is none.
#[derive(Debug, Clone)]
pub(crate) struct Reading(pub(crate) Option<PowerMode>, pub(crate) Option<Absent>);

impl Default for Reading {
    fn default() -> Self {
        Self(None, Some(Absent::NotYet))
    }
}

/// Where the mode is read. The modes are read again each minute.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    root: Root,
    modes: Modes,
}

impl Source {
    pub(crate) fn new(root: &Root) -> Self {
        Self { root: root.clone(), modes: Modes::default() }
    }
}

impl Sensors for Source {
    type Reading = Reading;

    fn find(&mut self) {
        self.modes = Modes::read(&self.root);
    }

    fn read(&mut self, _: Instant) -> Reading {
        let status = self.root.read(STATUS);
        let mode = status
            .and_then(|status| current(&status).ok_or(Absent::Garbled))
            .map(|id| PowerMode { id, name: self.modes.get(id).map(|mode| mode.name.clone()) });
        let (mode, absent) = split(mode);
        Reading(mode, absent)
    }

    fn silence(reading: &mut Reading, absent: &Absent) {
        *reading = Reading(None, Some(absent.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    fn mode(tree: &tree::Tree) -> Reading {
        let mut source = Source::new(&tree.root());
        source.find();
        source.read(Instant::now())
    }

    #[test]
    fn the_modes_of_a_super_board_and_the_one_that_is_set() {
        let tree = tree::orin_nano();
        let modes = Modes::read(&tree.root());
        assert_eq!(modes.file.as_deref(), Some("nvpmodel_p3767_0003_super.conf"));
        let names: Vec<_> = modes.list.iter().map(|mode| mode.name.as_str()).collect();
        assert_eq!((names, modes.default), (vec!["15W", "25W", "MAXN_SUPER"], Some(1)));
        let mhz = |mhz: u64| Some(Hertz::from_kilohertz(mhz * 1000));
        let mode_25w = modes.named("25W").unwrap();
        assert_eq!((mode_25w.gpu_cap_hertz, mode_25w.cpu_cap_hertz), (mhz(918), mhz(1344)));
        assert_eq!((mode_25w.cores, mode_25w.gpu_mask), (Some(6), Some(240)));
        let unbound = modes.named("MAXN_SUPER").unwrap();
        assert_eq!((unbound.gpu_cap_hertz, unbound.cpu_cap_hertz), (None, None));
        assert_eq!(mode(&tree).0, Some(PowerMode { id: 1, name: Some("25W".into()) }));
    }

    #[test]
    fn both_dialects_of_headings_and_of_the_status_are_read() {
        let mut modes = Modes::default();
        for line in [
            "<PARAM TYPE=CLOCK NAME=EMC >",
            "MAX_FREQ /sys/x",
            "<POWER_MODEL ID=7 NAME=A>",
            "GPU MAX_FREQ -1",
            "< PM_CONFIG DEFAULT=7 >",
        ] {
            modes.line(line);
        }
        assert_eq!(modes.list, [Mode { id: 7, name: "A".into(), ..Mode::default() }]);
        assert_eq!(modes.default, Some(7));
        assert_eq!(current("pmode:0002 fmode:fan_mode_quiet"), Some(2));
        assert_eq!(current("pmode:0002"), Some(2));
        assert_eq!(current("fmode:quiet"), None);
    }

    #[test]
    fn a_mode_without_a_name_still_has_its_number() {
        let tree = tree::of(&[(STATUS, "pmode:0003\n")]);
        assert_eq!(mode(&tree).0, Some(PowerMode { id: 3, name: None }));
        assert_eq!(mode(&tree::pc()).1, Some(Absent::NotReported));
    }

    proptest! {
        #[test]
        fn no_lines_make_it_panic(lines in prop::collection::vec("(<| |=|POWER_MODEL|ID|NAME|[0-9-]{1,22}|>|CPU_|MAX_FREQ|GPU){0,8}", 0..12)) {
            let mut modes = Modes::default();
            for line in &lines {
                modes.line(line);
                let _ = current(line);
            }
        }
    }
}

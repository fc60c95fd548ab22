//! The hardware watchdog and whether systemd pets it.
//!
//! systemd owns the device. Nobody else may open it: closing it can reset the
//! board.

use serde::Serialize;

use crate::Root;
use crate::root::{list, read};

const CLASS: &str = "sys/class/watchdog";
/// Where systemd is told; of files with one name the first counts, and of all
/// names the last one.
const PLACES: [&str; 3] =
    ["etc/systemd/system.conf.d", "run/systemd/system.conf.d", "usr/lib/systemd/system.conf.d"];
const MAIN: &str = "etc/systemd/system.conf";

/// The watchdog; what is not told is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Watchdog {
    /// The device's own name; `None` without one.
    pub device: Option<String>,
    /// Whether it counts down now.
    pub active: Option<bool>,
    pub timeout_s: Option<u32>,
    /// What systemd is told, in its words, for example `2min`.
    pub runtime: Option<String>,
}

impl Watchdog {
    pub(crate) fn read(root: &Root) -> Self {
        let class = root.path(CLASS);
        let device = list(&class).into_iter().filter(|name| name.starts_with("watchdog")).min();
        let file = |file: &str| read(&class.join(device.as_deref()?).join(file)).ok();
        Self {
            device: file("identity").filter(|name| !name.is_empty()),
            active: file("state").map(|state| state == "active"),
            timeout_s: file("timeout").and_then(|seconds| seconds.parse().ok()),
            runtime: runtime(root),
        }
    }

    /// Whether a board that hangs is reset by itself; `None` if nothing tells.
    #[must_use]
    pub fn is_set(&self) -> Option<bool> {
        let told = || {
            let runtime = self.runtime.as_deref()?;
            Some(!matches!(runtime, "off" | "infinity") && !runtime.starts_with('0'))
        };
        self.active.or_else(told)
    }
}

fn runtime(root: &Root) -> Option<String> {
    let mut files: Vec<(String, &str)> = Vec::new();
    for place in PLACES {
        for name in list(&root.path(place)).into_iter().filter(|name| name.ends_with(".conf")) {
            if files.iter().all(|(other, _)| *other != name) {
                files.push((name, place));
            }
        }
    }
    files.sort_by(|a, b| b.0.cmp(&a.0));
    let paths = files.into_iter().map(|(name, place)| format!("{place}/{name}"));
    paths.chain([MAIN.to_owned()]).find_map(|path| setting(&root.read(&path).ok()?))
}

fn setting(text: &str) -> Option<String> {
    let mut values =
        text.lines().filter_map(|line| line.trim().strip_prefix("RuntimeWatchdogSec="));
    values.next_back().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    #[test]
    fn a_board_s_watchdog_is_known_by_its_identity() {
        let watchdog = Watchdog::read(&tree::orin_nano().root());
        assert_eq!(watchdog.device.as_deref(), Some("NVIDIA Tegra186 WDT"));
        assert_eq!((watchdog.timeout_s, watchdog.is_set()), (Some(120), Some(true)));
        assert_eq!(Watchdog::read(&tree::pc().root()).is_set(), None);
    }

    #[test]
    fn the_file_that_sorts_last_decides_and_etc_hides_usr() {
        let tree = tree::of(&[
            ("etc/systemd/system.conf", "RuntimeWatchdogSec=1min\n"),
            ("etc/systemd/system.conf.d/a.conf", "[Manager]\nRuntimeWatchdogSec=2min\n"),
            ("etc/systemd/system.conf.d/zz.conf", "[Manager]\n#RuntimeWatchdogSec=3min\n"),
            ("usr/lib/systemd/system.conf.d/a.conf", "RuntimeWatchdogSec=4min\n"),
        ]);
        assert_eq!(Watchdog::read(&tree.root()).runtime.as_deref(), Some("2min"));
        tree.write("etc/systemd/system.conf.d/zz.conf", "RuntimeWatchdogSec=0\n");
        assert_eq!(Watchdog::read(&tree.root()).is_set(), Some(false));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(RuntimeWatchdogSec=|#|[0-9a-z é]|\n){0,12}") {
            let _ = setting(&text);
        }
    }
}

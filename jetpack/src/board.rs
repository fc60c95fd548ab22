//! Which board this is, and which NVIDIA release runs on it.
//!
//! A Jetson is known by the device tree's `compatible`; `model` is free text
//! for people and has named the wrong module before.

use std::fmt;
use std::time::Instant;

use serde::{Serialize, Serializer};

use crate::group::{Group, Sensors};
use crate::root::read;
use crate::{Absent, Root};

/// What was found once, when the machine was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Board {
    /// For people: the device tree's model, or a PC's vendor and product.
    pub model: Option<String>,
    /// The device tree's names for this machine, most specific first; empty on a PC.
    pub compatible: Vec<String>,
    /// NVIDIA's Jetson Linux release.
    pub l4t: Option<L4t>,
    /// The running kernel, for example `5.15.185-tegra`.
    pub kernel: Option<String>,
}

impl Board {
    pub(crate) fn read(root: &Root) -> Self {
        Self {
            model: root
                .read("proc/device-tree/model")
                .ok()
                .or_else(|| dmi(root))
                .filter(|model| !model.is_empty()),
            compatible: root
                .read("proc/device-tree/compatible")
                .map(|names| strings(&names))
                .unwrap_or_default(),
            l4t: root.read("etc/nv_tegra_release").ok().and_then(|text| L4t::parse(&text)),
            kernel: root.read("proc/sys/kernel/osrelease").ok().filter(|text| !text.is_empty()),
        }
    }

    /// Reads it at most until `deadline`; what does not answer is unknown.
    pub(crate) fn by(root: &Root, deadline: Instant) -> Self {
        let (mut group, now) = (Group::new("board", Source(root.clone())), Instant::now());
        group.ask(now);
        group.collect(now, deadline)
    }

    /// Whether this is an NVIDIA Tegra: CPU and GPU share one memory.
    #[must_use]
    pub fn is_tegra(&self) -> bool {
        self.compatible.iter().any(|name| name.starts_with("nvidia,tegra"))
    }

    /// Whether the device tree names a module of this family, for example `p3767`.
    pub(crate) fn has_module(&self, family: &str) -> bool {
        self.compatible
            .iter()
            .filter_map(|name| name.strip_prefix("nvidia,"))
            .flat_map(|names| names.split('+'))
            .any(|name| name.split('-').next() == Some(family))
    }
}

/// The board as something that may not answer.
#[derive(Debug, Clone)]
struct Source(Root);

impl Sensors for Source {
    type Reading = Board;

    fn find(&mut self) {}

    fn read(&mut self, _: Instant) -> Board {
        Board::read(&self.0)
    }

    fn silence(_: &mut Board, _: &Absent) {}
}

fn dmi(root: &Root) -> Option<String> {
    let field = |name: &str| read(&root.path("sys/class/dmi/id").join(name)).ok();
    let product = field("product_name")?;
    Some(match field("sys_vendor") {
        Some(vendor) if !product.starts_with(&vendor) => format!("{vendor} {product}"),
        _ => product,
    })
}

/// The device tree's lists of strings, each ended by a NUL.
fn strings(list: &str) -> Vec<String> {
    list.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A Jetson Linux release such as 36.4.7. In JSON it is a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct L4t {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl L4t {
    /// From the first line of `/etc/nv_tegra_release`:
    /// `# R36 (release), REVISION: 4.7, GCID: …`.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?;
        let (major, rest) = line.strip_prefix("# R")?.split_once(' ')?;
        let (_, revision) = rest.split_once("REVISION: ")?;
        let (minor, patch) = revision.split(',').next()?.trim().split_once('.')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            patch: patch.parse().ok()?,
        })
    }
}

impl fmt::Display for L4t {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Serialize for L4t {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    #[test]
    fn a_jetson_is_known_by_its_device_tree() {
        let board = Board::read(&tree::orin_nano().root());
        assert_eq!(
            board.model.as_deref(),
            Some("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super")
        );
        assert_eq!(
            board.compatible,
            ["nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"]
        );
        assert!(board.is_tegra() && board.has_module("p3767") && !board.has_module("p3701"));
        assert_eq!(board.l4t, Some(L4t { major: 36, minor: 5, patch: 0 }));
    }

    #[test]
    fn a_pc_is_known_by_its_firmware() {
        let tree = tree::of(&[
            ("sys/class/dmi/id/sys_vendor", "LENOVO\n"),
            ("sys/class/dmi/id/product_name", "20XW\n"),
        ]);
        let board = Board::read(&tree.root());
        assert_eq!(board.model.as_deref(), Some("LENOVO 20XW"));
        assert!(!board.is_tegra() && board.l4t.is_none() && board.compatible.is_empty());
    }

    #[test]
    fn releases_are_read_from_the_first_line_only() {
        let table = [
            ("# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic", Some("36.4.7")),
            ("# R38 (release), REVISION: 4.0, GCID: 43443517", Some("38.4.0")),
            ("# KERNEL_VARIANT: oot\n# R36 (release), REVISION: 4.7, x", None),
            ("# R36 (release)", None),
            ("", None),
        ];
        for (text, release) in table {
            assert_eq!(L4t::parse(text).map(|l4t| l4t.to_string()).as_deref(), release, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(?s).{0,80}") {
            let _ = L4t::parse(&text);
            let _ = L4t::parse(&format!("# R{text}REVISION: {text}"));
            let board = Board { compatible: strings(&text), ..Board::default() };
            let _ = (board.is_tegra(), board.has_module("p3767"));
        }
    }
}

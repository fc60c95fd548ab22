//! Main memory, from `/proc/meminfo`, and what compressed swap takes of it.

use std::path::PathBuf;

use serde::Serialize;

use crate::root::{list, read};
use crate::{Absent, Bytes, Root};

/// Main memory. On a Tegra board it is also the GPU's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub total_bytes: Bytes,
    /// What programs can still get without anything being swapped out.
    pub available_bytes: Bytes,
    /// `total_bytes` less `available_bytes`.
    pub used_bytes: Bytes,
    pub swap_total_bytes: Bytes,
    pub swap_free_bytes: Bytes,
    /// Main memory that compressed swap (zram) takes; `None` without zram.
    pub zram_bytes: Option<Bytes>,
    /// What the GPU's programs have of it, where the kernel counts that: it is
    /// in no process's own memory. `None` where it does not.
    pub nvmap_bytes: Option<Bytes>,
    /// Whether CPU and GPU share this memory.
    pub unified: bool,
}

/// Where memory is read, found now and then.
#[derive(Debug, Clone)]
pub(crate) struct Sensor {
    meminfo: PathBuf,
    zram: Vec<PathBuf>,
    unified: bool,
}

impl Sensor {
    pub(crate) fn find(root: &Root, unified: bool) -> Self {
        let block = root.path("sys/block");
        let mut zram: Vec<PathBuf> = list(&block)
            .into_iter()
            .filter(|device| device.starts_with("zram"))
            .map(|device| block.join(device).join("mm_stat"))
            .collect();
        zram.sort();
        Self { meminfo: root.path("proc/meminfo"), zram, unified }
    }

    pub(crate) fn read(&self) -> Result<Memory, Absent> {
        let info = parse(&read(&self.meminfo)?).ok_or(Absent::Garbled)?;
        let zram: Vec<Bytes> =
            self.zram.iter().filter_map(|path| zram_bytes(&read(path).ok()?)).collect();
        Ok(Memory {
            total_bytes: info.total,
            available_bytes: info.available,
            used_bytes: info.total.saturating_sub(info.available),
            swap_total_bytes: info.swap_total,
            swap_free_bytes: info.swap_free,
            zram_bytes: (!zram.is_empty()).then(|| zram.into_iter().sum()),
            nvmap_bytes: info.nvmap,
            unified: self.unified,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Meminfo {
    total: Bytes,
    available: Bytes,
    swap_total: Bytes,
    swap_free: Bytes,
    nvmap: Option<Bytes>,
}

/// Lines such as `MemTotal:        7789952 kB`.
fn parse(text: &str) -> Option<Meminfo> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(field, _)| *field == name)?;
        let kib = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        Some(Bytes::from_kib(kib))
    };
    Some(Meminfo {
        total: field("MemTotal")?,
        available: field("MemAvailable")?,
        swap_total: field("SwapTotal")?,
        swap_free: field("SwapFree")?,
        nvmap: field("NvMapMemUsed"),
    })
}

/// The third number of a zram device's `mm_stat`: bytes it takes of memory,
/// its own bookkeeping included.
fn zram_bytes(text: &str) -> Option<Bytes> {
    text.split_whitespace().nth(2)?.parse().ok().map(Bytes::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    #[test]
    fn used_is_what_is_not_available() {
        let tree = tree::orin_nano();
        let memory = Sensor::find(&tree.root(), true).read().unwrap();
        assert_eq!(memory.total_bytes, Bytes::from_kib(7_789_952));
        assert_eq!(memory.used_bytes, Bytes::from_kib(7_789_952 - 6_231_961));
        assert_eq!(memory.swap_total_bytes, Bytes::from_kib(3_894_960));
        assert_eq!(memory.zram_bytes, Some(Bytes::new(1_048_576)));
    }

    #[test]
    fn half_a_meminfo_is_no_meminfo() {
        let tree = tree::of(&[("proc/meminfo", "MemTotal: 1 kB\nMemFree: 1 kB\n")]);
        assert_eq!(Sensor::find(&tree.root(), false).read(), Err(Absent::Garbled));
    }

    #[test]
    fn a_machine_without_zram_does_not_claim_zero() {
        let meminfo = "MemTotal: 4 kB\nMemAvailable: 5 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        let tree = tree::of(&[("proc/meminfo", meminfo)]);
        let memory = Sensor::find(&tree.root(), false).read().unwrap();
        assert_eq!((memory.zram_bytes, memory.used_bytes), (None, Bytes::new(0)));
    }

    #[test]
    fn memory_of_the_gpu_is_shown_where_it_is_counted() {
        let memory = |tree: &tree::Tree| Sensor::find(&tree.root(), true).read().unwrap();
        let tree = tree::orin_nano();
        assert_eq!(memory(&tree).nvmap_bytes, None);
        let info = "MemTotal: 9 kB\nMemAvailable: 5 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
        tree.write("proc/meminfo", format!("{info}NvMapMemFree: 0 kB\nNvMapMemUsed: 3 kB\n"));
        assert_eq!(memory(&tree).nvmap_bytes, Some(Bytes::from_kib(3)));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(?s).{0,200}", size in any::<u64>()) {
            let _ = parse(&text);
            let _ = zram_bytes(&text);
            let _ = parse(&format!("MemTotal: {size} kB\nMemAvailable: {text} kB"));
        }
    }
}

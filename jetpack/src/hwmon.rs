//! Finding sensors in `/sys/class/hwmon`.
//!
//! Each chip is a directory with a `name` and files such as `temp1_input`,
//! `temp1_label` and `temp1_crit`: a kind, a channel number and an attribute.

use std::path::{Path, PathBuf};

use crate::Root;
use crate::root::{list, read};
use crate::watch::watched;

/// One chip's directory.
#[derive(Debug)]
pub(crate) struct Chip {
    /// The driver's name for it, for example `coretemp` or `ina3221`.
    pub(crate) name: String,
    directory: PathBuf,
    /// The device's name on its bus, for example `1-0040`: unlike the
    /// directory's number it is the same after each boot.
    address: Option<String>,
    files: Vec<String>,
}

/// One measured thing of a chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) number: u32,
    pub(crate) label: Option<String>,
}

/// All chips, by name and then by address, so that their order stays the
/// same as long as the same chips are there.
pub(crate) fn chips(root: &Root) -> Vec<Chip> {
    let class = root.path("sys/class/hwmon");
    let mut chips: Vec<Chip> = list(&class)
        .into_iter()
        .filter_map(|entry| {
            let directory = class.join(entry);
            let name = read(&directory.join("name")).ok().filter(|name| !name.is_empty())?;
            let files = list(&directory);
            Some(Chip { name, files, address: address(&directory), directory })
        })
        .collect();
    let place = |chip: &Chip| (chip.name.clone(), chip.address.clone(), chip.directory.clone());
    chips.sort_by_cached_key(place);
    chips
}

fn address(directory: &Path) -> Option<String> {
    let link = directory.join("device");
    let target = watched(&link, || link.read_link()).ok()?.ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

impl Chip {
    /// The channels that have a file `<kind><number><suffix>`, in the order of
    /// their numbers.
    pub(crate) fn channels(&self, kind: &str, suffix: &str) -> Vec<Channel> {
        let mut numbers: Vec<u32> =
            self.files.iter().filter_map(|file| channel_number(file, kind, suffix)).collect();
        numbers.sort_unstable();
        numbers
            .into_iter()
            .map(|number| Channel {
                number,
                label: read(&self.directory.join(format!("{kind}{number}_label")))
                    .ok()
                    .filter(|label| !label.is_empty()),
            })
            .collect()
    }

    /// Whether the chip has this file.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.files.iter().any(|name| name == file)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }
}

/// `temp12_input` is channel 12 of the kind `temp` with the suffix `_input`.
fn channel_number(file: &str, kind: &str, suffix: &str) -> Option<u32> {
    file.strip_prefix(kind)?.strip_suffix(suffix)?.parse().ok()
}

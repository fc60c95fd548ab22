//! The board's files below a directory, as Jetson Linux 36.5 shows them.
//!
//! Sensors, clocks and counters follow the board with each [`Tree::show`].
//! Everything else is written once and then left alone, so that a test or a
//! person may change it. The kernel's numbers (`hwmonN`, `thermal_zoneN`,
//! `cooling_deviceN`) are drawn anew for each seed.
//!
//! A plain file cannot answer `EAGAIN`: the zones that always do so on a real
//! board (`cv0` to `cv2`) have no `temp` here.

mod clocks;
mod files;
mod heat;
mod once;
mod power;
mod system;

use std::io;
use std::path::Path;

use crate::dice::Dice;
use crate::faults::Faults;
use crate::module::Module;
use crate::readings::Readings;

use files::Files;

/// Where our own files are, below the directory.
pub const OWN: &str = "run/virtual";

/// A board's directory.
#[derive(Debug)]
pub struct Tree {
    files: Files,
    module: Module,
    numbers: Numbers,
    system: system::System,
}

/// What was written to the tree from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// `max_freq` of the GPU.
    pub gpu_cap_hz: Option<u64>,
    /// The power mode in nvpmodel's status file.
    pub mode: Option<u32>,
}

/// The kernel's numbers at this boot.
#[derive(Debug)]
struct Numbers {
    zones: Vec<usize>,
    coolers: Vec<usize>,
    /// Of pwmfan, the first ina3221, pwm_tach, soctherm_oc, the second ina3221.
    chips: Vec<usize>,
}

impl Tree {
    /// Writes all of it; what is already there and not the board's stays.
    ///
    /// # Errors
    /// A file could not be written; the error names it.
    pub fn create(
        dir: &Path,
        module: &Module,
        mode: u32,
        first: &Readings,
        seed: u64,
    ) -> io::Result<Self> {
        let mut dice = Dice::new(seed);
        let numbers = Numbers {
            zones: dice.order(heat::zones(module).len()),
            coolers: dice.order(heat::coolers(module).len()),
            chips: dice.order(5),
        };
        let mut tree = Self {
            files: Files::below(dir)?,
            module: module.clone(),
            numbers,
            system: system::System::booted(),
        };
        tree.once(mode, first, &mut dice)?;
        tree.show(first, &Faults::default())?;
        Ok(tree)
    }

    /// Brings everything that changes up to date. Each file is replaced as a
    /// whole: a reader sees the old content or the new one.
    ///
    /// # Errors
    /// A file could not be written; the error names it.
    pub fn show(&mut self, readings: &Readings, faults: &Faults) -> io::Result<()> {
        self.show_heat(readings, faults)?;
        self.show_power(readings, faults)?;
        self.show_clocks(readings)?;
        self.show_system(readings, faults)
    }

    /// Writes a file of our own, which no real board has.
    pub(crate) fn say(&mut self, path: &str, text: &str) -> io::Result<()> {
        self.files.put(path, text)
    }

    /// Takes it away.
    pub(crate) fn unsay(&mut self, path: &str) -> io::Result<()> {
        self.files.remove(path)
    }

    /// What others wrote. What cannot be understood was not written.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let max_freq = self.files.read(&format!("{}/max_freq", clocks::DEVFREQ));
        let status = self.files.read("var/lib/nvpmodel/status");
        let mode = status.as_deref().and_then(|text| text.trim().strip_prefix("pmode:"));
        Asked {
            gpu_cap_hz: max_freq.and_then(|text| text.trim().parse().ok()),
            mode: mode.and_then(|text| text.split_whitespace().next()?.parse().ok()),
        }
    }
}

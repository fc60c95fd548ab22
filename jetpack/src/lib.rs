//! The machine: board, temperatures, power, memory, processors and fans.
//!
//! ```text
//! Root ──► Machine::open ──► Machine::sample ──► Sample   (every two seconds)
//!                              a thread for each driver
//! ```
//!
//! Everything is read below a [`Root`], so a captured directory tree is a
//! machine. No other package names a system file. What cannot be read is
//! `None` and says why ([`Absent`]); nothing is ever reported as zero because
//! it was missing. A driver that does not answer silences its own sensors and
//! nothing else. Sensors are found by name, never by their number, because
//! the kernel numbers them anew at each boot.

#![forbid(unsafe_code)]

pub use absent::Absent;
pub use board::{Board, L4t};
pub use boot::{Boot, Slot};
pub use calendar::Calendar;
pub use clocks::{Clock, Clocks};
pub use cpu::Cpu;
pub use desktop::Desktop;
pub use facts::Facts;
pub use fan::Fan;
pub use finding::{Finding, Severity};
pub use gpu::Gpu;
pub use gpu_clients::GpuClient;
pub use group::Silent;
pub use machine::{Machine, Sample};
pub use memory::Memory;
pub use module::{Basis, BestMode, Module};
pub use power::Rail;
pub use power_mode::{Mode, Modes, PowerMode};
pub use quantity::{Bytes, Celsius, Hertz, Watts};
pub use root::Root;
pub use storage::{DiskKind, Ext4, Storage, Swap};
pub use thermal::{Source, Zone};
pub use throttle::{Cooling, OverCurrent, Throttle};
pub use versions::Versions;
pub use watchdog::Watchdog;

mod root;

mod machine;

mod group;
mod watch;

mod board;
pub mod clocks;
pub mod cpu;
pub mod disk;
mod facts;
mod fan;
mod gpu;
mod memory;
mod power;
mod power_mode;
pub mod process;
mod system;
mod thermal;
mod throttle;

pub mod boot;
mod calendar;
pub mod carry;
pub mod consoles;
mod desktop;
mod finding;
mod gpu_clients;
pub mod grow;
mod module;
pub mod packages;
pub mod program;
pub mod rauc;
pub mod setting;
mod storage;
pub mod swap;
pub mod units;
mod versions;
mod watchdog;

mod absent;
mod hwmon;
mod quantity;
mod steady;

#[cfg(test)]
use recreated_boards as tree;

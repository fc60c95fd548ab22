//! The machine: board, temperatures, power, memory, processors and fans.
//!
//! ```text
//! Root ──► Machine::open ──► Machine::sample ──► Sample   (every two seconds)
//! ```
//!
//! Everything is read below a [`Root`], so a captured directory tree is a
//! machine. No other package names a system file. What cannot be read is
//! `None` and says why ([`Absent`]); nothing is ever reported as zero because
//! it was missing. Sensors are found by name, never by their number, because
//! the kernel numbers them anew at each boot.

#![forbid(unsafe_code)]

pub use absent::Absent;
pub use board::{Board, L4t};
pub use cpu::Cpu;
pub use fan::Fan;
pub use gpu::Gpu;
pub use machine::{Machine, Sample};
pub use memory::Memory;
pub use power::Rail;
pub use quantity::{Bytes, Celsius, Watts};
pub use root::Root;
pub use thermal::{Source, Zone};

mod root;

mod machine;

mod board;
pub mod cpu;
pub mod disk;
mod fan;
mod gpu;
mod memory;
mod power;
pub mod process;
mod thermal;

mod absent;
mod hwmon;
mod quantity;

#[cfg(test)]
mod tree;

//! The compute threads' manners on a machine they do not own alone.
//!
//! llama.cpp's threads meet at a barrier after every tensor operation, several
//! hundred times a token. By default they spin there for milliseconds, which
//! beside other busy processes burns the very core that the missing thread
//! waits for. Spinning for some tens of microseconds keeps barriers cheap while
//! all threads run; sleeping after that hands the core over when one does not.
//! Measured with two threads on two cores: spinning for a twentieth of that cost
//! a third of the speed. Beside a busy process one thread is better than any
//! team; [`crate::cores`] decides when.

#![expect(unsafe_code, reason = "libgomp's switch has no safe binding")]

use std::ffi::c_int;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// libgomp's variable: turns of its spin loop, a few nanoseconds each.
const SPIN: &str = "GOMP_SPINCOUNT";

/// Enough for the slowest thread of an undisturbed team.
const SPIN_TURNS: &str = "20000";

unsafe extern "C" {
    // SAFETY: part of the OpenMP 3.0 interface; takes any value, keeps no
    // pointer, and concerns only regions that the calling thread begins later.
    safe fn omp_set_max_active_levels(levels: c_int);
}

/// Whether the calling thread computes alone from now on or with its team.
pub fn compute_alone(alone: bool) {
    omp_set_max_active_levels(if alone { 0 } else { 1 });
}

/// Starts this program again with the setting, unless somebody set it already:
/// libgomp reads it before `main`.
///
/// # Errors
/// The program cannot be started again.
pub fn settle_environment() -> io::Result<()> {
    if std::env::var_os(SPIN).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    Err(Command::new(program).args(std::env::args_os().skip(1)).env(SPIN, SPIN_TURNS).exec())
}

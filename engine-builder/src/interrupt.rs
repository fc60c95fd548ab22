//! Ctrl-C and SIGTERM, noticed between two pieces of work.
//!
//! The signals are blocked in every thread and read by one, so that a build
//! unwinds like any other failure: children are killed by their owners, and
//! what was half written is removed. A second signal ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

/// The work was called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Interrupted {
    /// The interruption that ended a copying loop, which can only say so as an
    /// error of the operating system.
    #[must_use]
    pub fn inside(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// Says whether the work was called off. Clones see the same answer.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for SIGINT, SIGTERM and SIGHUP. To be called before any thread
    /// is started, because threads inherit which signals are blocked.
    ///
    /// # Errors
    /// The operating system refuses; the signals then end the process as usual.
    pub fn on_signals() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block()?;
        let reader = SignalFd::new(&signals)?;
        let interrupt = Self::default();
        let flag = interrupt.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            while let Ok(Some(_)) = reader.read_signal() {
                if flag.0.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        })?;
        Ok(interrupt)
    }

    #[cfg(test)]
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// The work was called off.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}

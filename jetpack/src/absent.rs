//! Why a reading is not there.

use std::io;

use serde::{Serialize, Serializer};

use crate::Celsius;

/// Why a reading is not there. In JSON it is its sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// The kernel says "try again": it can only be measured while powered.
    #[error("the measured part is powered down")]
    PoweredDown,
    #[error("this machine does not report it")]
    NotReported,
    #[error("no permission to read it")]
    NoPermission,
    /// The sensor is known, but reading it failed.
    #[error("the kernel could not read it ({0})")]
    Failed(io::ErrorKind),
    /// There was an answer, but it means nothing.
    #[error("the sensor's answer makes no sense")]
    Garbled,
    #[error("no sensor measures the whole machine")]
    NoTotal,
    #[error("this machine has no NVIDIA driver")]
    NoDriver,
    /// The board's GPU is measured through the kernel instead.
    #[error("this board's GPU has no management interface")]
    Integrated,
    /// The driver's own words.
    #[error("the GPU driver says: {0}")]
    Driver(String),
    /// A share needs two samples.
    #[error("not measured yet")]
    NotYet,
    /// Reading it began so long ago and has not returned.
    #[error("its driver has not answered for {seconds} s")]
    NoAnswer { seconds: u64 },
    /// A temperature that nothing can reach in the time since the last one. It
    /// is believed when the next reading says the same.
    #[error("it jumped from {from} to {to}")]
    Jumped { from: Celsius, to: Celsius },
}

impl Absent {
    pub(crate) fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::PoweredDown,
            io::ErrorKind::NotFound => Self::NotReported,
            io::ErrorKind::PermissionDenied => Self::NoPermission,
            kind => Self::Failed(kind),
        }
    }
}

impl Serialize for Absent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A reading as the two fields that a sample shows: the value, or why not.
pub(crate) fn split<T>(reading: Result<T, Absent>) -> (Option<T>, Option<Absent>) {
    match reading {
        Ok(value) => (Some(value), None),
        Err(absent) => (None, Some(absent)),
    }
}

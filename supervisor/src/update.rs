//! `stoker update`: a new version of us from one signed file, on trial until it is well,
//! and the version before it if it is not.
//!
//! ```text
//!  FILE ──signed, whole, for this machine──► staged ──► keeper: install, look, commit
//!                                                          └── or go back
//! ```
//!
//! An update is our Debian packages, or on a machine with two systems a whole one
//! ([`system`]). dpkg replaces files one by one, each whole, and keeps
//! settings that somebody has changed; what it cannot do is to come back by itself. That is
//! the keeper's task: a copy of the program that began the update, started at each boot by
//! a unit of its own, so that nothing which the new version brings takes part in leaving
//! it. It has the packages of the version before, made of what was installed, and copies
//! of the databases.
//!
//! [`phase`] decides what follows from what, [`trial`] whether a version is well; both are
//! pure. [`record`] is what survives a power cut.

mod begin;
pub mod bundle;
mod keep;
pub mod keys;
pub mod manifest;
pub mod phase;
mod place;
pub mod record;
mod show;
pub mod slots;
mod system;
pub mod trial;
pub mod version;

use std::io;
use std::path::PathBuf;

use jetpack::boot::control::ControlError;
use jetpack::carry::CarryError;
use jetpack::packages::PackageError;
use jetpack::program::ProgramError;
use jetpack::rauc::RaucError;

pub use begin::{Offer, Options, begin, follow};
pub use keep::keep;
pub use show::{News, news, status, update};

use crate::store::kept::KeepError;

/// Exit status when the version before is there again.
pub const WENT_BACK: u8 = 5;

/// Why an update could not be begun, or not be brought to its end.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error(transparent)]
    Keys(#[from] keys::KeyError),
    #[error(transparent)]
    Bundle(#[from] bundle::BundleError),
    #[error("open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("write below {}; it takes root", path.display())]
    Place { path: PathBuf, source: io::Error },
    #[error("read how far the last update is")]
    Record(#[source] io::Error),
    #[error("an update is under way; `stoker update status` says how far it is")]
    UnderWay,
    #[error(
        "there is no Debian package of stoker here, and updates are made of such: take away what \
         scripts/install has put here (engines and settings stay), and install the packages once"
    )]
    NotPackaged,
    #[error("the package of stoker has the version {0:?}, which is none of ours")]
    OddVersion(String),
    #[error("{needed} bytes have to be free in {} and {free} are", path.display())]
    Room { path: PathBuf, needed: u64, free: u64 },
    #[error("ask dpkg")]
    Dpkg(#[from] ProgramError),
    #[error("keep the version that is installed")]
    Pack(#[from] PackageError),
    #[error("have systemd look after the update")]
    Unit(#[source] io::Error),
    #[error("the version before could not be brought back: {0}; that is tried again at each boot")]
    Stuck(String),
    #[error(
        "this is a whole system, and goes to a machine with two of them (A/B) that was flashed \
         so: nvbootctrl and /etc/rauc/system.conf have to be there"
    )]
    OneSystem,
    #[error("this machine starts system {0} next; restart it, and begin again then")]
    StartsOther(char),
    #[error("system {0} runs, and is not written over")]
    OtherSlot(char),
    #[error(transparent)]
    Rauc(#[from] RaucError),
    #[error("copy this machine's own settings into the new system")]
    Carry(#[from] CarryError),
    #[error("ask nvbootctrl")]
    Control(#[from] ControlError),
    #[error("write the firmware's variables")]
    Firmware(#[source] io::Error),
    #[error("keep the databases")]
    Databases(#[from] KeepError),
    #[error("print what was done")]
    Print(#[source] io::Error),
}

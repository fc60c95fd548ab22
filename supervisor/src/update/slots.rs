//! `stoker slots`: what RAUC asks and tells the firmware through, in RAUC's own words, and
//! its service, which is told which system runs.
//!
//! See RAUC's documentation, "Custom Bootloader Backend".

use std::io::{self, Write};

use jetpack::Root;
use jetpack::boot::control::{Control, ControlError, Pair};
use jetpack::{boot, rauc};

/// What can be asked and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    GetPrimary,
    SetPrimary(char),
    GetState(char),
    SetState {
        slot: char,
        is_good: bool,
    },
    /// Become RAUC's service.
    Serve,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    #[error("this machine has one system, or no nvbootctrl")]
    OneSystem,
    #[error("ask nvbootctrl for the systems")]
    Control(#[from] ControlError),
    #[error("there is no system {0}")]
    NoSlot(char),
    #[error("system {0} runs, and is not given up")]
    Runs(char),
    #[error("write the firmware's variable")]
    Firmware(#[source] io::Error),
    #[error("start RAUC")]
    Start(#[source] io::Error),
    #[error("print the answer")]
    Print(#[source] io::Error),
}

/// Answers one request for the machine below `root`.
///
/// # Errors
/// See [`SlotError`].
pub fn answer(root: &Root, request: Request, out: &mut impl Write) -> Result<(), SlotError> {
    let control = || Control::find(root).ok_or(SlotError::OneSystem);
    let pair = || control()?.pair()?.ok_or(SlotError::OneSystem);
    match request {
        Request::GetPrimary => print(out, &pair()?.next.to_string()),
        Request::SetPrimary(slot) => Ok(control()?.start_next(slot)?),
        Request::GetState(slot) => {
            let pair = pair()?;
            let system = pair.system(slot).ok_or(SlotError::NoSlot(slot))?;
            print(out, if system.boots { "good" } else { "bad" })
        }
        Request::SetState { slot, is_good } => set_state(root, &pair()?, slot, is_good),
        Request::Serve => {
            let running = pair().ok().map(|pair| pair.running.name);
            Err(SlotError::Start(rauc::become_service(root, running)))
        }
    }
}

fn set_state(root: &Root, pair: &Pair, slot: char, is_good: bool) -> Result<(), SlotError> {
    if pair.system(slot).is_none() {
        return Err(SlotError::NoSlot(slot));
    }
    if !is_good && pair.running.name == slot {
        return Err(SlotError::Runs(slot));
    }
    boot::set_bootable(root, slot, is_good).map_err(SlotError::Firmware)
}

fn print(out: &mut impl Write, answer: &str) -> Result<(), SlotError> {
    writeln!(out, "{answer}").map_err(SlotError::Print)
}

//! An update of the whole system: written by RAUC to the one of two systems that does not
//! run, given what is this machine's own, and started next.
//!
//! Until the last of these the system that runs is as before, and starts again whatever
//! fails. Afterwards the firmware goes back by itself from one that nobody marks as good.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jetpack::Root;
use jetpack::boot::control::{self, Control, Pair};
use jetpack::boot::{forget_last_change, set_bootable};
use jetpack::carry::carry;
use jetpack::rauc::{Offered, Rauc};
use jetpack::units::put_into;

use super::UpdateError;
use super::place::unit;

/// How a file of RAUC's begins: it is a file system.
const BEGINNING: [u8; 4] = *b"hsqs";

/// Whether the file is a whole system, and not packages.
pub(super) fn is_one(file: &mut File) -> io::Result<bool> {
    let mut beginning = Vec::new();
    file.take(BEGINNING.len() as u64).read_to_end(&mut beginning)?;
    io::Seek::rewind(file)?;
    Ok(beginning == BEGINNING)
}

/// Two systems, and what exchanges them.
#[derive(Debug)]
pub(super) struct Two {
    root: Root,
    rauc: Rauc,
    control: Control,
}

impl Two {
    /// # Errors
    /// This machine has one system.
    pub(super) fn find(root: &Root) -> Result<Self, UpdateError> {
        match (Rauc::find(root), Control::find(root)) {
            (Some(rauc), Some(control)) => Ok(Self { root: root.clone(), rauc, control }),
            _ => Err(UpdateError::OneSystem),
        }
    }

    pub(super) fn pair(&self) -> Result<Pair, UpdateError> {
        self.control.pair()?.ok_or(UpdateError::OneSystem)
    }

    /// What the file holds, if somebody who is trusted has signed it for this machine.
    pub(super) fn look(&self, file: &Path) -> Result<Offered, UpdateError> {
        Ok(self.rauc.look(file)?)
    }

    /// Leaves a whole system in `slot`, which is started next.
    pub(super) fn install(
        &self,
        file: &Path,
        slot: char,
        percent: impl FnMut(u8),
    ) -> Result<(), UpdateError> {
        // RAUC takes the one that does not run.
        if self.pair()?.other.name != slot {
            return Err(UpdateError::OtherSlot(slot));
        }
        self.rauc.install(file, percent)?;
        carry(&self.root, slot, |other| put_into(other, &unit()))?;
        self.start_next(slot)
    }

    /// Has the firmware start this one from now on.
    pub(super) fn start_next(&self, slot: char) -> Result<(), UpdateError> {
        // One that was given up would be left again before it has started.
        set_bootable(&self.root, slot, true)
            .and_then(|()| forget_last_change(&self.root))
            .map_err(UpdateError::Firmware)?;
        Ok(self.control.start_next(slot)?)
    }

    pub(super) fn restart_machine(&self) -> Result<(), UpdateError> {
        Ok(control::restart_machine(&self.root)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_a_system_and_anything_else_is_not() {
        for (bytes, is) in [(&b"hsqs and more"[..], true), (b"hsq", false), (b"", false)] {
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, bytes).unwrap();
            io::Seek::rewind(&mut file).unwrap();
            for _ in 0..2 {
                assert_eq!(is_one(&mut file).unwrap(), is);
            }
        }
    }
}

//! The keeper: does what [`Phase`] says comes next, and has it on the disk before.

use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use jetpack::packages::Packages;
use jetpack::units::Units;
use jetpack::{Machine, Root};

use super::UpdateError;
use super::phase::{Event, Phase};
use super::place::{Place, SERVICE, UNIT};
use super::record::{Record, What};
use super::show::line;
use super::system::Two;
use super::trial::{Trial, Verdict};
use crate::config::StateDir;
use crate::health::look::{self, with_causes};
use crate::store::{kept, unix_s};
use crate::systemd;

/// Between two looks at the new version.
const PERIOD: Duration = Duration::from_secs(1);

/// How often, and how far apart, the old packages are tried in one start: another dpkg
/// may be at work.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_secs(5);

/// Brings the update below `root` to its end. Without one it only tidies up.
///
/// # Errors
/// It has not ended; what follows is decided by the next start.
pub fn keep(root: &Root, out: &mut impl Write) -> Result<(), UpdateError> {
    let place = Place::below(root);
    place.make()?;
    // Whoever stages an update has it until everything is there.
    let _held = place.lock()?;
    let (packages, units) = (Packages::of(root), Units::of(root));
    if let Some(record) = place.record()? {
        let mut keeper = Keeper { root, place: &place, packages, units: units.clone(), record };
        if keeper.run(out)? == End::Restarting {
            systemd::ready();
            return Ok(());
        }
    }
    systemd::ready();
    // In this order: a unit without its keeper is passed over, packages without a unit
    // would stay.
    place.clear()?;
    units.take_away(UNIT).map_err(UpdateError::Unit)
}

/// How a run of the keeper ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// So does the update.
    Ended,
    /// The machine starts again, and the keeper with it.
    Restarting,
}

struct Keeper<'a> {
    root: &'a Root,
    place: &'a Place,
    packages: Packages,
    units: Units,
    record: Record,
}

impl Keeper<'_> {
    fn run(&mut self, out: &mut impl Write) -> Result<End, UpdateError> {
        self.enter(self.record.progress.phase.clone().found(), out)?;
        while !self.record.progress.phase.has_ended() {
            // What is brought back at a boot is there before our service starts.
            if !matches!(self.record.progress.phase, Phase::GoingBack { .. }) {
                systemd::ready();
            }
            let event = match &self.record.progress.phase {
                Phase::Ready => event(self.keep_databases(), Event::Kept),
                Phase::Installing => event(self.install(out), Event::Installed),
                Phase::Trial { .. } => self.watch(),
                Phase::GoingBack { .. } => {
                    if self.leave_new_system()? {
                        return Ok(End::Restarting);
                    }
                    self.go_back(out)?;
                    Event::OldIsBack
                }
                Phase::Committed | Phase::WentBack { .. } => break,
            };
            let restarts = event == Event::Installed && self.is_system();
            self.enter(self.record.progress.phase.clone().after(event), out)?;
            if restarts {
                Two::find(self.root)?.restart_machine()?;
                return Ok(End::Restarting);
            }
        }
        Ok(End::Ended)
    }

    fn enter(&mut self, phase: Phase, out: &mut impl Write) -> Result<(), UpdateError> {
        if phase != self.record.progress.phase {
            self.record.progress.phase = phase;
            self.record.progress.since = unix_s();
            self.record.write(&self.place.directory).map_err(|error| self.place.failed(error))?;
        }
        // A journal that is full keeps nothing from going back.
        let _ = writeln!(out, "{}", line(&self.record));
        Ok(())
    }

    fn state_dir(&self) -> StateDir {
        StateDir::new(self.record.state_dir.clone())
    }

    fn keep_databases(&self) -> Result<(), UpdateError> {
        let to = self.place.databases();
        self.place.empty(&to)?;
        Ok(kept::keep(&self.state_dir(), &to)?)
    }

    fn is_system(&self) -> bool {
        matches!(self.record.what, What::System { .. })
    }

    fn install(&mut self, out: &mut impl Write) -> Result<(), UpdateError> {
        match self.record.what.clone() {
            What::Packages { new, .. } => self.install_packages(&new),
            What::System { file, new_slot, .. } => {
                let written = Two::find(self.root)?
                    .install(&file, new_slot, |percent| self.tell(percent, out));
                self.record.progress.percent = None;
                written
            }
        }
    }

    fn install_packages(&self, new: &[String]) -> Result<(), UpdateError> {
        let before = self.units.process(SERVICE)?;
        self.packages.install(&paths(self.place.incoming(), new))?;
        // The packages restart what runs. Nothing is judged that is still the old one.
        if before.is_some() && self.units.process(SERVICE)? == before {
            self.units.restart(SERVICE)?;
        }
        Ok(())
    }

    /// How far it is, for whoever looks; who cannot be told misses nothing else.
    fn tell(&mut self, percent: u8, out: &mut impl Write) {
        if self.record.progress.percent != Some(percent) {
            self.record.progress.percent = Some(percent);
            let _ = self.record.write(&self.place.directory);
            let _ = writeln!(out, "{}", line(&self.record));
        }
    }

    fn watch(&self) -> Event {
        match self.is_in_old_system() {
            Ok(false) => {}
            Ok(true) => {
                let why = "the new system did not start, or nobody marked it as good";
                return Event::Failed(why.to_owned());
            }
            Err(error) => return Event::Failed(with_causes(&error)),
        }
        let mut machine = Machine::open(self.root.clone());
        let mut trial = Trial::new(self.record.before, self.record.bounds);
        let began = Instant::now();
        loop {
            let health = look::now(&self.record.host, &self.record.state_dir, &machine.sample());
            match trial.look(&health, began.elapsed()) {
                Verdict::Wait => sleep(PERIOD),
                Verdict::Well => return Event::Well,
                Verdict::Ill(why) => return Event::Failed(why),
            }
        }
    }

    /// Whether the system from before runs; never where there is one.
    fn is_in_old_system(&self) -> Result<bool, UpdateError> {
        let What::System { old_slot, .. } = self.record.what else { return Ok(false) };
        Ok(Two::find(self.root)?.pair()?.running.name == old_slot)
    }

    /// Has the old system start, if there are two. Whether the machine starts again for it.
    fn leave_new_system(&self) -> Result<bool, UpdateError> {
        let What::System { old_slot, .. } = self.record.what else { return Ok(false) };
        let two = Two::find(self.root)?;
        let pair = two.pair()?;
        if pair.next != old_slot {
            two.start_next(old_slot)?;
        }
        if pair.running.name != old_slot {
            two.restart_machine()?;
            return Ok(true);
        }
        Ok(false)
    }

    fn go_back(&self, out: &mut impl Write) -> Result<(), UpdateError> {
        for left in (0..TRIES).rev() {
            let back = self.bring_back();
            // Whatever is there now serves.
            let started = self.units.start(SERVICE);
            match back.and_then(|()| Ok(started?)) {
                Ok(()) => return Ok(()),
                Err(error) if left == 0 => return Err(UpdateError::Stuck(with_causes(&error))),
                Err(error) => {
                    let _ = writeln!(out, "it does not go back yet: {}", with_causes(&error));
                    sleep(BETWEEN_TRIES);
                }
            }
        }
        Ok(())
    }

    fn bring_back(&self) -> Result<(), UpdateError> {
        self.units.stop(SERVICE)?;
        if let What::Packages { old, .. } = &self.record.what {
            self.packages.install(&paths(self.place.old(), old))?;
        }
        kept::bring_back(&self.state_dir(), &self.place.databases())?;
        Ok(())
    }
}

fn paths(directory: PathBuf, names: &[String]) -> Vec<PathBuf> {
    names.iter().map(|name| directory.join(name)).collect()
}

fn event(done: Result<(), UpdateError>, event: Event) -> Event {
    done.map_or_else(|error| Event::Failed(with_causes(&error)), |()| event)
}

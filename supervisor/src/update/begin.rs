//! The beginning of an update: the file is checked and copied, what is installed is made
//! into packages to go back to, and the keeper is told. Until then nothing is changed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetpack::disk::Disk;
use jetpack::packages::Packages;
use jetpack::units::Units;
use jetpack::{Machine, Root};

use super::UpdateError;
use super::bundle::{self, Signed};
use super::keys::{self, Keys};
use super::manifest::{Manifest, PACKAGES};
use super::phase::Phase;
use super::place::{Place, UNIT_NAME, unit};
use super::record::{Progress, Record};
use super::show::line;
use super::trial::{Before, Bounds};
use super::version::Version;
use crate::config::StateDir;
use crate::health::look;
use crate::store::{kept, unix_s};

/// Left on the disk beside what an update needs.
const ROOM_LEFT: u64 = 64 << 20;

/// Between two looks at how far the keeper is.
const PERIOD: Duration = Duration::from_millis(500);

/// What is wished for.
#[derive(Debug, Clone)]
pub struct Options {
    pub root: PathBuf,
    pub state_dir: PathBuf,
    /// The server, as `host:port`.
    pub host: String,
    pub file: PathBuf,
    /// Only look.
    pub dry_run: bool,
    pub bounds: Bounds,
}

/// Checks the file, and unless it is only looked at, hands it to the keeper. What it is,
/// and which version is installed.
///
/// # Errors
/// See [`UpdateError`]. Nothing was changed then.
pub fn begin(options: &Options, out: &mut impl Write) -> Result<(Signed, Version), UpdateError> {
    let root = Root::new(&options.root);
    let (place, packages) = (Place::below(&root), Packages::of(&root));
    let keys = Keys::read(&options.root.join(keys::DIRECTORY))?;
    let version = packages.version(PACKAGES[0])?.ok_or(UpdateError::NotPackaged)?;
    let from: Version = version.parse().map_err(|_| UpdateError::OddVersion(version))?;
    let architecture = packages.architecture()?;
    let mut machine = Machine::open(root.clone());
    let sample = machine.sample();
    let fits = |manifest: &Manifest| manifest.fits(from, &architecture, &sample.board.compatible);
    let opened = |source| UpdateError::Open { path: options.file.clone(), source };
    let file = File::open(&options.file).map_err(opened)?;
    if options.dry_run {
        return Ok((bundle::read(file, &keys, fits, None)?, from));
    }

    place.make()?;
    let held = place.try_lock()?.ok_or(UpdateError::UnderWay)?;
    if place.record()?.is_some_and(|record| !record.progress.phase.has_ended()) {
        return Err(UpdateError::UnderWay);
    }
    place.clear()?;
    let state_dir = StateDir::new(options.state_dir.clone());
    need_room(&place, &options.file, &state_dir)?;
    let say = |out: &mut dyn Write, said: &str| writeln!(out, "{said}").map_err(UpdateError::Print);
    say(out, "checking the update and copying it")?;
    place.empty(&place.incoming())?;
    let signed = bundle::read(file, &keys, fits, Some(&place.incoming()))?;
    say(out, &format!("keeping version {from}, to go back to"))?;
    let (new, old) = keep_old(&place, &packages, &signed.manifest)?;
    let before = Before::of(&look::now(&options.host, &options.state_dir, &sample));
    let units = Units::of(&root);
    // Before the record: a keeper that finds none, or an old one, only tidies up.
    units.put(&unit()).map_err(UpdateError::Unit)?;
    let record = Record {
        progress: Progress {
            from,
            to: signed.manifest.version,
            signer: signed.signer.clone(),
            began: unix_s(),
            since: unix_s(),
            phase: Phase::Ready,
        },
        before,
        bounds: options.bounds,
        host: options.host.clone(),
        state_dir: options.state_dir.clone(),
        new,
        old,
    };
    record.write(&place.directory).map_err(|source| place.failed(source))?;
    drop(held);
    units.start(UNIT_NAME).map_err(|error| UpdateError::Unit(io::Error::other(error)))?;
    Ok((signed, from))
}

/// Waits until the keeper has brought the update to its end, and says each step.
///
/// # Errors
/// Nothing can be printed, or the record not be read.
pub fn follow(root: &Path, out: &mut impl Write) -> Result<Record, UpdateError> {
    let place = Place::below(&Root::new(root));
    let mut said = String::new();
    loop {
        let record =
            place.record()?.ok_or_else(|| UpdateError::Record(io::ErrorKind::NotFound.into()))?;
        let now = line(&record);
        if now != said {
            writeln!(out, "{now}").map_err(UpdateError::Print)?;
            said = now;
        }
        if record.progress.phase.has_ended() {
            // It has tidied up when it lets go, and the next one can be begun.
            drop(place.lock()?);
            return Ok(record);
        }
        std::thread::sleep(PERIOD);
    }
}

/// Copies of the update, of what is installed, what dpkg unpacks, and the databases.
fn need_room(place: &Place, file: &Path, state_dir: &StateDir) -> Result<(), UpdateError> {
    let failed = |source| place.failed(source);
    let size = file.metadata().map_err(failed)?.len();
    let free = Disk::holding(&place.directory).map_err(failed)?.available_bytes.get();
    let needed = size.saturating_mul(6) + kept::bytes(state_dir) + ROOM_LEFT;
    match free >= needed {
        true => Ok(()),
        false => Err(UpdateError::Room { path: place.directory.clone(), needed, free }),
    }
}

/// Makes packages of what is installed, and copies this program. The names of the
/// packages to install and of those to go back to.
fn keep_old(
    place: &Place,
    packages: &Packages,
    manifest: &Manifest,
) -> Result<(Vec<String>, Vec<String>), UpdateError> {
    let (mut new, mut old) = (Vec::new(), Vec::new());
    place.empty(&place.old())?;
    for member in &manifest.members {
        // Nobody gets what they have not chosen.
        if packages.version(member.package)?.is_none() {
            continue;
        }
        let name = format!("{}.deb", member.package);
        let work = place.old().join("tree");
        place.empty(&work)?;
        packages.pack(member.package, &work, &place.old().join(&name))?;
        fs::remove_dir_all(&work).map_err(|source| place.failed(source))?;
        new.push(member.name.clone());
        old.push(name);
    }
    copy_of_this_program(&place.keeper()).map_err(|source| place.failed(source))?;
    Ok((new, old))
}

fn copy_of_this_program(to: &Path) -> io::Result<()> {
    fs::copy("/proc/self/exe", to)?;
    fs::set_permissions(to, Permissions::from_mode(0o700))?;
    File::open(to)?.sync_all()?;
    File::open(to.parent().unwrap_or(to))?.sync_all()
}

//! The beginning of an update: the file is checked and copied, what is installed is made
//! into packages to go back to, and the keeper is told. Until then nothing is changed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetpack::disk::Disk;
use jetpack::packages::Packages;
use jetpack::rauc::Offered;
use jetpack::units::Units;
use jetpack::{Machine, Root, Sample};

use super::UpdateError;
use super::bundle::{self, BundleError, Signed};
use super::keys::{self, Keys};
use super::manifest::{Manifest, PACKAGES};
use super::phase::Phase;
use super::place::{Place, UNIT_NAME, unit};
use super::record::{Progress, Record, What};
use super::show::line;
use super::system::{self, Two};
use super::trial::{Before, Bounds};
use super::version::Version;
use crate::config::StateDir;
use crate::health::look;
use crate::store::{kept, unix_s};

/// Left on the disk beside what an update needs.
const ROOM_LEFT: u64 = 64 << 20;

/// What the key is called that whole systems are signed with: RAUC's settings name the file
/// `system.pem` beside the other keys.
const SYSTEM_KEY: &str = "system";

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

/// What is offered to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub from: Version,
    pub to: Version,
    /// Which key has signed it.
    pub signer: String,
    pub bytes: u64,
    /// It was read to its end. Of a whole system RAUC does that while it writes it.
    pub is_whole: bool,
}

/// Checks the file, and unless it is only looked at, hands it to the keeper.
///
/// # Errors
/// See [`UpdateError`]. Nothing was changed then.
pub fn begin(options: &Options, out: &mut impl Write) -> Result<Offer, UpdateError> {
    let packages = Packages::of(&Root::new(&options.root));
    let version = packages.version(PACKAGES[0])?.ok_or(UpdateError::NotPackaged)?;
    let from: Version = version.parse().map_err(|_| UpdateError::OddVersion(version))?;
    let opened = |source| UpdateError::Open { path: options.file.clone(), source };
    let mut file = File::open(&options.file).map_err(opened)?;
    if system::is_one(&mut file).map_err(opened)? {
        return begin_system(options, from, out);
    }
    begin_packages(options, from, &packages, file, out)
}

fn begin_packages(
    options: &Options,
    from: Version,
    packages: &Packages,
    file: File,
    out: &mut impl Write,
) -> Result<Offer, UpdateError> {
    let keys = Keys::read(&options.root.join(keys::DIRECTORY))?;
    let architecture = packages.architecture()?;
    let sample = Machine::open(Root::new(&options.root)).sample();
    let fits = |manifest: &Manifest| manifest.fits(from, &architecture, &sample.board.compatible);
    let offer = |Signed { manifest, signer }: &Signed| Offer {
        from,
        to: manifest.version,
        signer: signer.clone(),
        bytes: manifest.bytes(),
        is_whole: true,
    };
    if options.dry_run {
        return Ok(offer(&bundle::read(file, &keys, fits, None)?));
    }
    let staging = Staging::open(options, file.metadata().map_or(0, |file| file.len()) * 6)?;
    let place = &staging.place;
    say(out, "checking the update and copying it")?;
    place.empty(&place.incoming())?;
    let signed = bundle::read(file, &keys, fits, Some(&place.incoming()))?;
    say(out, &format!("keeping version {from}, to go back to"))?;
    let (new, old) = keep_old(place, packages, &signed.manifest)?;
    let offer = offer(&signed);
    staging.hand_over(options, &offer, What::Packages { new, old }, &sample)?;
    Ok(offer)
}

fn begin_system(
    options: &Options,
    from: Version,
    out: &mut impl Write,
) -> Result<Offer, UpdateError> {
    let root = Root::new(&options.root);
    let opened = |source| UpdateError::Open { path: options.file.clone(), source };
    let file = options.file.canonicalize().map_err(opened)?;
    let two = Two::find(&root)?;
    let pair = two.pair()?;
    if pair.next != pair.running.name {
        return Err(UpdateError::StartsOther(pair.next));
    }
    let Offered { version, .. } = two.look(&file)?;
    let to: Version = version.parse().map_err(|_| UpdateError::OddVersion(version))?;
    if to < from {
        return Err(BundleError::DoesNotFit(format!(
            "it has version {to} and {from} is installed, whose databases it may not be able to read"
        ))
        .into());
    }
    let bytes = file.metadata().map_err(opened)?.len();
    let offer = Offer { from, to, signer: SYSTEM_KEY.to_owned(), bytes, is_whole: false };
    if options.dry_run {
        return Ok(offer);
    }
    let staging = Staging::open(options, 0)?;
    let (old_slot, new_slot) = (pair.running.name, pair.other.name);
    say(out, &format!("version {to} goes into system {new_slot}, and {old_slot} stays as it is"))?;
    let sample = Machine::open(root).sample();
    let what = What::System { file, old_slot, new_slot };
    staging.hand_over(options, &offer, what, &sample)?;
    Ok(offer)
}

/// The place of an update, held until the keeper has it.
struct Staging {
    place: Place,
    held: File,
}

impl Staging {
    /// Takes the place, if no other update is under way and it has room for these bytes
    /// beside the databases.
    fn open(options: &Options, bytes: u64) -> Result<Self, UpdateError> {
        let place = Place::below(&Root::new(&options.root));
        place.make()?;
        let held = place.try_lock()?.ok_or(UpdateError::UnderWay)?;
        if place.record()?.is_some_and(|record| !record.progress.phase.has_ended()) {
            return Err(UpdateError::UnderWay);
        }
        place.clear()?;
        need_room(&place, bytes, &StateDir::new(options.state_dir.clone()))?;
        Ok(Self { place, held })
    }

    /// Writes down what is to be done, and has the keeper started.
    fn hand_over(
        self,
        options: &Options,
        offer: &Offer,
        what: What,
        sample: &Sample,
    ) -> Result<(), UpdateError> {
        let Self { place, held } = self;
        copy_of_this_program(&place.keeper()).map_err(|source| place.failed(source))?;
        let before = Before::of(&look::now(&options.host, &options.state_dir, sample));
        let units = Units::of(&Root::new(&options.root));
        // Before the record: a keeper that finds none, or an old one, only tidies up.
        units.put(&unit()).map_err(UpdateError::Unit)?;
        let record = Record {
            progress: Progress {
                from: offer.from,
                to: offer.to,
                signer: offer.signer.clone(),
                began: unix_s(),
                since: unix_s(),
                phase: Phase::Ready,
                percent: None,
            },
            before,
            bounds: options.bounds,
            host: options.host.clone(),
            state_dir: options.state_dir.clone(),
            what,
        };
        record.write(&place.directory).map_err(|source| place.failed(source))?;
        drop(held);
        units.start(UNIT_NAME).map_err(|error| UpdateError::Unit(io::Error::other(error)))
    }
}

fn say(out: &mut impl Write, said: &str) -> Result<(), UpdateError> {
    writeln!(out, "{said}").map_err(UpdateError::Print)
}

/// Waits until the keeper has brought the update to its end, or restarts the machine for
/// that, and says each step.
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
        if record.is_left_to_a_restart() {
            return Ok(record);
        }
        if record.progress.phase.has_ended() {
            // It has tidied up when it lets go, and the next one can be begun.
            drop(place.lock()?);
            return Ok(record);
        }
        std::thread::sleep(PERIOD);
    }
}

/// For copies of packages and of what is installed, what dpkg unpacks, and the databases.
fn need_room(place: &Place, bytes: u64, state_dir: &StateDir) -> Result<(), UpdateError> {
    let failed = |source| place.failed(source);
    let free = Disk::holding(&place.directory).map_err(failed)?.available_bytes.get();
    let needed = bytes.saturating_add(kept::bytes(state_dir)) + ROOM_LEFT;
    match free >= needed {
        true => Ok(()),
        false => Err(UpdateError::Room { path: place.directory.clone(), needed, free }),
    }
}

/// Makes packages of what is installed. The names of the packages to install and of those
/// to go back to.
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
    Ok((new, old))
}

fn copy_of_this_program(to: &Path) -> io::Result<()> {
    fs::copy("/proc/self/exe", to)?;
    fs::set_permissions(to, Permissions::from_mode(0o700))?;
    File::open(to)?.sync_all()?;
    File::open(to.parent().unwrap_or(to))?.sync_all()
}

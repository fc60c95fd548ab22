//! Sees edits when they are made: the kernel tells of each directory that a pass went
//! through (inotify). Those that git or the owner leaves out are never watched.
//!
//! ```text
//!  kernel ══► watch thread ── what was seen, once it is quiet ──► index thread
//!                                    a pass of those paths alone ◄─┘
//! ```
//!
//! It makes an edit be found sooner and nothing else: what the kernel does not tell, as
//! of a file on another machine, is found by the next whole pass. So a limit that is
//! reached is said, and does no harm.

use std::collections::{BTreeMap, HashMap};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::{Order, STACK};

/// Directories that are watched at most, in all repositories: the kernel keeps about a
/// kilobyte for each, which nobody else can have.
const MOST: usize = 32_768;
/// An editor writes a file in several steps; so long after the last one it is looked at.
const QUIET: Duration = Duration::from_millis(30);
/// Who never stops writing is looked at after so long.
const LONGEST: Duration = Duration::from_millis(200);

/// What was seen: the watch, what stands in its directory, and what was done.
#[derive(Debug)]
pub(super) struct Seen {
    watch: Option<WatchDescriptor>,
    name: Option<String>,
    mask: AddWatchFlags,
}

/// A directory of a repository, below it.
type Place = (i64, String);

/// The directories that are watched.
#[derive(Debug)]
pub(super) struct Watching {
    inotify: Result<Arc<Inotify>, String>,
    places: BTreeMap<Place, WatchDescriptor>,
    /// One directory can be in two repositories.
    by_watch: HashMap<WatchDescriptor, Vec<Place>>,
    /// The thread ends when this is gone.
    _alive: Option<PipeWriter>,
}

impl Watching {
    /// Watches nothing yet. What is seen goes to `orders`.
    pub(super) fn start(orders: SyncSender<Order>) -> Self {
        let (inotify, alive) = match begin(orders) {
            Ok((inotify, alive)) => (Ok(inotify), Some(alive)),
            Err(reason) => (Err(reason), None),
        };
        Self { inotify, places: BTreeMap::new(), by_watch: HashMap::new(), _alive: alive }
    }

    /// Watches a directory of a repository; whether it was not watched before.
    ///
    /// # Errors
    /// Why not, as people are told.
    pub(super) fn watch(&mut self, root: &Path, place: Place) -> Result<bool, String> {
        let inotify = self.inotify.as_ref().map_err(Clone::clone)?;
        if self.places.len() >= MOST && !self.places.contains_key(&place) {
            return Err(format!("more than {MOST} directories would have to be watched"));
        }
        let mask = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW;
        let watch = match inotify.add_watch(&root.join(&place.1), mask) {
            Ok(watch) => watch,
            Err(Errno::ENOSPC) => {
                let limit =
                    "the kernel's limit of watches (fs.inotify.max_user_watches) is reached";
                return Err(limit.to_owned());
            }
            // It went away in the meantime, and what told that is on its way.
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
            Err(error) => return Err(format!("a directory cannot be watched: {error}")),
        };
        let before = self.places.insert(place.clone(), watch);
        if before == Some(watch) {
            return Ok(false);
        }
        if let Some(before) = before {
            self.drop_place(before, &place);
        }
        // The kernel knows a directory that was moved by the watch that it had.
        let places = self.by_watch.entry(watch).or_default();
        let moved: Vec<_> = places.extract_if(.., |other| other.0 == place.0).collect();
        places.push(place);
        for place in moved {
            self.places.remove(&place);
        }
        Ok(true)
    }

    /// What has changed by what was seen, repository by repository.
    pub(super) fn changes(&mut self, seen: Vec<Seen>) -> Vec<Place> {
        let mut changes = Vec::new();
        for Seen { watch, name, mask } in seen {
            if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                let mut all: Vec<_> = self.places.keys().map(|(id, _)| *id).collect();
                all.dedup();
                changes.extend(all.into_iter().map(|id| (id, String::new())));
                continue;
            }
            let Some(watch) = watch else { continue };
            if mask.contains(AddWatchFlags::IN_IGNORED) {
                for place in self.by_watch.remove(&watch).unwrap_or_default() {
                    self.places.remove(&place);
                }
                continue;
            }
            for (id, directory) in self.by_watch.get(&watch).cloned().unwrap_or_default() {
                let path = match (&name, directory.as_str()) {
                    (None, _) => directory,
                    (Some(name), "") => name.clone(),
                    (Some(name), _) => format!("{directory}/{name}"),
                };
                let left = AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_ISDIR;
                if mask.contains(left) {
                    self.forget_below(id, &path);
                }
                changes.push((id, path));
            }
        }
        changes
    }

    /// Watches nothing of a repository any more.
    pub(super) fn forget(&mut self, id: i64) {
        self.forget_below(id, "");
    }

    fn forget_below(&mut self, id: i64, path: &str) {
        let from = (id, path.to_owned())..(id + 1, String::new());
        let is_below = |place: &str| {
            let rest = place.strip_prefix(path);
            rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'))
        };
        let gone: Vec<_> = self
            .places
            .range(from)
            .take_while(|((_, place), _)| place.starts_with(path))
            .filter(|((_, place), _)| is_below(place))
            .map(|(place, watch)| (place.clone(), *watch))
            .collect();
        for (place, watch) in gone {
            self.places.remove(&place);
            self.drop_place(watch, &place);
        }
    }

    /// Takes a place from a watch, which ends with its last one.
    fn drop_place(&mut self, watch: WatchDescriptor, place: &Place) {
        let Some(places) = self.by_watch.get_mut(&watch) else { return };
        places.retain(|other| other != place);
        if places.is_empty() {
            self.by_watch.remove(&watch);
            if let Ok(inotify) = &self.inotify {
                // It ends by itself with its directory.
                let _ = inotify.rm_watch(watch);
            }
        }
    }
}

fn begin(orders: SyncSender<Order>) -> Result<(Arc<Inotify>, PipeWriter), String> {
    let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
    let inotify = Inotify::init(flags).map_err(|error| match error {
        Errno::EMFILE => {
            "the kernel's limit of watchers (fs.inotify.max_user_instances) is reached".to_owned()
        }
        error => format!("the kernel does not tell of edits: {error}"),
    })?;
    let inotify = Arc::new(inotify);
    let no_thread = |error: std::io::Error| format!("nobody can listen for edits: {error}");
    let (over, alive) = std::io::pipe().map_err(no_thread)?;
    let listening = Arc::clone(&inotify);
    std::thread::Builder::new()
        .name("watch".into())
        .stack_size(STACK)
        .spawn(move || listen(&listening, &over, &orders))
        .map_err(no_thread)?;
    Ok((inotify, alive))
}

/// Hands on what the kernel tells, some together, until nobody wants to know.
fn listen(inotify: &Inotify, over: &PipeReader, orders: &SyncSender<Order>) {
    // It answers nobody.
    let _ = rustix::process::nice(19);
    while is_told(inotify, over, PollTimeout::NONE) {
        let began = Instant::now();
        let mut seen = Vec::new();
        let quiet = PollTimeout::try_from(QUIET).unwrap_or(PollTimeout::ZERO);
        loop {
            match inotify.read_events() {
                Ok(events) => seen.extend(events.into_iter().map(Seen::from)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return tracing::warn!(cause = %error, "edits are not seen any more"),
            }
            if began.elapsed() >= LONGEST || !is_told(inotify, over, quiet) {
                break;
            }
        }
        if orders.send(Order::Seen(seen)).is_err() {
            return;
        }
    }
}

/// Waits until there is something to read; `false` after the time, or at the end.
fn is_told(inotify: &Inotify, over: &PipeReader, wait: PollTimeout) -> bool {
    loop {
        let mut ready = [
            PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(over.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, wait) {
            Err(Errno::EINTR) => {}
            Err(_) | Ok(0) => return false,
            Ok(_) => {
                let is_over = ready[1].revents().is_some_and(|events| !events.is_empty());
                return !is_over;
            }
        }
    }
}

impl From<InotifyEvent> for Seen {
    fn from(event: InotifyEvent) -> Self {
        // A name that is no UTF-8 is passed over by a pass as well.
        let name = event.name.map(|name| name.to_string_lossy().into_owned());
        let watch = (event.wd.as_raw() >= 0).then_some(event.wd);
        Self { watch, name, mask: event.mask }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    /// How long something that comes may take on a busy machine.
    const COMES: Duration = Duration::from_secs(60);

    fn start() -> (Watching, Receiver<Order>) {
        let (orders, ordered) = sync_channel(8);
        (Watching::start(orders), ordered)
    }

    /// What has changed, once the last of these has.
    fn changes_until(watching: &mut Watching, ordered: &Receiver<Order>, last: &str) -> Vec<Place> {
        let mut all = Vec::new();
        while !all.iter().any(|(_, path)| path == last) {
            match ordered.recv_timeout(COMES).unwrap() {
                Order::Seen(seen) => all.extend(watching.changes(seen)),
                other => panic!("{other:?}"),
            }
        }
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn an_edit_is_told_of_every_repository_that_has_the_file() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("src");
        fs::create_dir(&below).unwrap();
        let (mut watching, ordered) = start();
        for (root, place) in [(root.path(), (1, "")), (root.path(), (1, "src")), (&below, (2, ""))]
        {
            let place = (place.0, place.1.to_owned());
            assert_eq!(watching.watch(root, place.clone()), Ok(true));
            assert_eq!(watching.watch(root, place), Ok(false), "it is watched already");
        }
        fs::write(below.join("a.rs"), "fn a() {}\n").unwrap();
        let told = changes_until(&mut watching, &ordered, "src/a.rs");
        assert_eq!(told, [(1, "src/a.rs".to_owned()), (2, "a.rs".to_owned())]);
        watching.forget(1);
        fs::write(below.join("b.rs"), "fn b() {}\n").unwrap();
        let told = changes_until(&mut watching, &ordered, "b.rs");
        // What was told of the file before may still come.
        assert!(told.iter().all(|(id, _)| *id == 2), "{told:?}");
    }

    #[test]
    fn a_directory_that_was_moved_is_known_by_its_new_name_alone() {
        let root = tempfile::tempdir().unwrap();
        let place = |path: &str| (1, path.to_owned());
        for path in ["old/deep", "older"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let (mut watching, ordered) = start();
        for path in ["", "old", "old/deep", "older"] {
            assert_eq!(watching.watch(root.path(), place(path)), Ok(true));
        }
        fs::rename(root.path().join("old"), root.path().join("new")).unwrap();
        assert_eq!(changes_until(&mut watching, &ordered, "new"), [place("new"), place("old")]);
        let left: Vec<_> = watching.places.keys().cloned().collect();
        assert_eq!(left, [place(""), place("older")], "it is watched when a pass finds it");
        assert_eq!(watching.watch(root.path(), place("new")), Ok(true));
        fs::write(root.path().join("new/a.rs"), "fn a() {}\n").unwrap();
        assert!(changes_until(&mut watching, &ordered, "new/a.rs").contains(&place("new/a.rs")));
        fs::remove_dir_all(root.path()).unwrap();
        let _ = changes_until(&mut watching, &ordered, "older");
    }
}

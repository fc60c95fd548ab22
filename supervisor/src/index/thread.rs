//! The index's thread: takes orders, and goes over one repository after the other; over
//! some files of it where they are known to have changed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::bringing::Bringing;
use super::changed::Changed;
use super::pass::{Pass, Step};
use super::sources::tree::Trees;
use super::sources::{Fetcher, Origin};
use super::view::{Entry, State};
use super::watching::Watching;
use super::{Entries, MOST_REPOSITORIES, NewRepository, Order, OrderError, Settings, Wish, naming};
use crate::store::code::{Code, CodeError, Repository};
use crate::store::unix_s;

/// How long the indexer is listened to before orders are looked at.
const LISTEN: Duration = Duration::from_millis(100);
/// Least time between two looks at the progress from outside.
const SHOW: Duration = Duration::from_millis(250);
/// The same for counting, which takes longer the more there is.
const COUNT: Duration = Duration::from_secs(5);
/// Wait before a database that failed, or a pass that did, is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(30);
/// Least time after a look at what was told to have changed and had not, such as a log
/// that is left out, until the next such look.
const FUTILE: Duration = Duration::from_secs(1);

pub(super) struct Thread {
    pub(super) settings: Settings,
    pub(super) code: Code,
    orders: Receiver<Order>,
    showing: watch::Sender<Entries>,
    held: watch::Receiver<Option<String>>,
    watching: Watching,
    pub(super) trees: Trees,
    /// Once something is fetched.
    pub(super) fetcher: Option<Fetcher>,
    pub(super) entries: Vec<Due>,
    /// When the list of repositories is to be read again.
    settle_at: Option<Instant>,
    shown: Instant,
    counted: Instant,
}

pub(super) struct Due {
    pub(super) entry: Entry,
    /// When all of it is gone over.
    pub(super) at: Instant,
    /// What is gone over before that.
    changed: Changed,
    /// Not before then.
    rested: Instant,
    pub(super) bringing: Bringing,
}

/// How a pass ended.
enum Ended {
    Changed,
    AsItWas,
    /// Nobody wants to know any more.
    Away,
}

/// Whether to go on.
enum Go {
    On,
    Away,
}

impl Thread {
    pub(super) fn new(
        settings: Settings,
        orders: Receiver<Order>,
        showing: watch::Sender<Entries>,
        held: watch::Receiver<Option<String>>,
        trees: Trees,
        watching: Watching,
    ) -> Self {
        let code = Code::new(&settings.database);
        let now = Instant::now();
        let (entries, settle_at) = (Vec::new(), Some(now));
        let (fetcher, shown, counted) = (None, now, now);
        Self {
            settings,
            code,
            orders,
            showing,
            held,
            watching,
            trees,
            fetcher,
            entries,
            settle_at,
            shown,
            counted,
        }
    }

    /// Runs until it is told to end, or nobody can tell it any more.
    pub(super) fn run(mut self) {
        // Whoever answers somebody goes first. On Linux this is the thread's own.
        let _ = rustix::process::nice(19);
        loop {
            if self.code.was_replaced() {
                self.settle_at = Some(Instant::now());
            }
            if self.settle_at.is_some_and(|at| at <= Instant::now()) {
                self.settle();
            }
            self.take_fetched();
            let due = self.due();
            let wait = [due.map(|(_, at)| at), self.settle_at, self.look_for_fetched()];
            let wait = wait.into_iter().flatten().min();
            let order = match wait.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => self.orders.recv_timeout(wait),
            };
            let go = match order {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Disconnected) => Go::Away,
                Err(RecvTimeoutError::Timeout) => match due.filter(|(_, at)| *at <= Instant::now())
                {
                    Some((id, _)) => self.go_over(id),
                    None => Go::On,
                },
            };
            if matches!(go, Go::Away) {
                return;
            }
        }
    }

    /// The repository whose turn is next.
    fn due(&self) -> Option<(i64, Instant)> {
        let next = self.entries.iter().min_by_key(|due| due.next())?;
        Some((next.entry.repository.id, next.next()))
    }

    /// Reads the list of repositories.
    fn settle(&mut self) {
        let settled = self.code.settle(&self.settings.repositories);
        let kept = match settled {
            Ok(kept) => kept,
            Err(error) => return self.out_of_order(&error),
        };
        self.settle_at = None;
        self.entries = kept.into_iter().map(Due::new).collect();
        for due in &mut self.entries {
            // They are gone over soon in any case.
            due.entry.counts = self.code.counts(due.entry.repository.id).ok();
            due.entry.tree = self.trees.newest(&due.entry.repository.is);
        }
        self.trees.sweep(self.entries.iter().map(|due| &due.entry.repository.is));
        self.show();
    }

    fn out_of_order(&mut self, error: &CodeError) {
        self.settle_at = Some(Instant::now() + RETRY);
        for due in &mut self.entries {
            due.entry.state = State::Failed(error.to_string());
            due.at = Instant::now() + 2 * RETRY;
        }
        self.show();
    }

    fn take(&mut self, order: Order) -> Go {
        match order {
            Order::Add(wish, reply) => {
                let added = self.add(wish);
                self.show();
                // Who asked may have gone, here and below.
                let _ = reply.send(added);
            }
            Order::Upload(uploaded, reply) => {
                let done = self.upload(uploaded);
                self.show();
                let _ = reply.send(done);
            }
            Order::Remove { owner, name, reply } => {
                let removed = self.remove(&owner, name);
                self.show();
                let _ = reply.send(removed);
            }
            Order::MadeBy(maker, reply) => {
                let _ = reply.send(self.code.made_by(&maker).map_err(Into::into));
            }
            Order::Standing(reply) => {
                let _ = reply.send(self.code.standing().map_err(Into::into));
            }
            Order::DeleteOldVectors(reply) => {
                let _ = reply.send(self.code.delete_old_vectors().map_err(Into::into));
            }
            Order::Unembedded(most, reply) => {
                let _ = reply.send(self.code.unembedded(most).map_err(Into::into));
            }
            Order::Embedded { identity, made, reply } => {
                let _ = reply.send(self.code.embedded(identity, &made).map_err(Into::into));
            }
            Order::Seen(seen) => {
                for (id, path) in self.watching.changes(seen) {
                    if let Some(due) = self.of(id) {
                        due.changed.add(path);
                    }
                }
            }
            Order::Close => return Go::Away,
        }
        Go::On
    }

    fn add(&mut self, wish: Wish) -> Result<NewRepository, OrderError> {
        let new = self.checked(wish)?;
        self.has_room_for(&new)?;
        let added = self.code.add(&new)?;
        tracing::info!(name = new.name, shared = new.owner.is_none(), "repository added");
        self.entries.push(Due::new(added));
        Ok(new)
    }

    pub(super) fn has_room_for(&self, new: &NewRepository) -> Result<(), OrderError> {
        let visible = |due: &Due| match &new.owner {
            Some(owner) => due.entry.is_visible_to(owner),
            None => due.entry.repository.is.owner.is_none(),
        };
        if self.entries.iter().any(|due| visible(due) && due.entry.repository.is.name == new.name) {
            return Err(OrderError::NameTaken(new.name.clone()));
        }
        if self.entries.len() >= MOST_REPOSITORIES {
            return Err(OrderError::TooMany);
        }
        Ok(())
    }

    /// Looks at the disk, which may take its time; so that is done here.
    fn checked(&self, Wish { origin, name, owner }: Wish) -> Result<NewRepository, OrderError> {
        let path = match origin {
            Origin::Path(path) => path,
            Origin::Url(url) => {
                let name = naming::of(name.as_deref(), Path::new(url.own_name()));
                let name = name.map_err(OrderError::Name)?;
                return Ok(NewRepository { name, origin: Origin::Url(url), owner });
            }
            Origin::Upload => return Err(OrderError::Name("it is uploaded, not added".into())),
        };
        let wrong = |problem: String| OrderError::Path { path: path.clone(), problem };
        if !path.is_absolute() {
            return Err(wrong("is not absolute".to_owned()));
        }
        let real =
            path.canonicalize().map_err(|error| wrong(format!("cannot be used: {error}")))?;
        if !real.is_dir() {
            return Err(wrong("is no directory".to_owned()));
        }
        // Other people's answers stand there.
        let own = self.settings.database.parent().and_then(|own| own.canonicalize().ok());
        if own.is_some_and(|own| real.starts_with(own)) {
            return Err(wrong("lies in the state directory".to_owned()));
        }
        let name = naming::of(name.as_deref(), &real).map_err(OrderError::Name)?;
        Ok(NewRepository { name, origin: Origin::Path(real), owner })
    }

    fn remove(&mut self, owner: &str, name: String) -> Result<(), OrderError> {
        let named = Entry::named(self.entries.iter().map(|due| &due.entry), owner, &name);
        let (id, is) = match named.map(|entry| &entry.repository) {
            None => return Err(OrderError::Unknown(name)),
            Some(repository) if repository.configured => return Err(OrderError::Configured(name)),
            Some(repository) => (repository.id, repository.is.clone()),
        };
        self.code.remove(id)?;
        tracing::info!(name, "repository removed");
        self.entries.retain(|due| due.entry.repository.id != id);
        self.watching.forget(id);
        self.trees.remove(&is);
        Ok(())
    }

    /// One pass, and meanwhile orders.
    fn go_over(&mut self, id: i64) -> Go {
        let Some(due) = self.of(id) else { return Go::On };
        let repository = due.entry.repository.clone();
        // Nothing for all of it.
        let only = match std::mem::take(&mut due.changed) {
            Changed::Some(paths) if due.at > Instant::now() => paths,
            _ => BTreeSet::new(),
        };
        let Some(directory) = self.directory(id) else {
            self.show();
            return Go::On;
        };
        let began = Instant::now();
        (self.shown, self.counted) = (began, began);
        let code = &mut self.code;
        let started = Pass::start(&self.settings.indexer, &directory, &only, |each| {
            match only.is_empty() {
                true => code.known(id, each),
                false => code.known_at(id, &only, each),
            }
            .map_err(|error| error.to_string())
        });
        let ended = match started {
            Ok(pass) => self.follow(id, pass, only.is_empty()),
            Err(problem) => Err(problem),
        };
        let wait = match &ended {
            Ok(Ended::Away) => return Go::Away,
            Ok(Ended::Changed) => self.settings.period,
            // Looking at much takes its share of the time, and no more.
            Ok(Ended::AsItWas) => self.settings.period.max(began.elapsed() * 4),
            Err(_) => self.settings.period.max(RETRY),
        };
        let counts = self.code.counts(id).ok();
        if let Some(due) = self.of(id) {
            let now = Instant::now();
            if only.is_empty() || ended.is_err() {
                due.at = now + wait;
            }
            due.rested = match &ended {
                Ok(Ended::AsItWas) => now + FUTILE.max(began.elapsed() * 4),
                _ => now,
            };
            due.entry.counts = counts.or(due.entry.counts);
            let state = match ended {
                Ok(_) => State::Indexed,
                Err(problem) => State::Failed(problem),
            };
            if let State::Failed(problem) = &state
                && due.entry.state != state
            {
                tracing::warn!(name = repository.is.name, problem, "repository not indexed");
            }
            due.entry.state = state;
        }
        self.was_gone_over(id, &directory);
        self.show();
        Go::On
    }

    /// Writes down what the pass tells, until its end.
    fn follow(&mut self, id: i64, mut pass: Pass, whole: bool) -> Result<Ended, String> {
        let mut unwatched = None;
        let mut ended = Ended::AsItWas;
        loop {
            let held = self.held.borrow().is_some();
            let go = match self.orders.recv_timeout(if held { LISTEN } else { Duration::ZERO }) {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => Go::On,
                Err(RecvTimeoutError::Disconnected) => Go::Away,
            };
            if matches!(go, Go::Away) {
                return Ok(Ended::Away);
            }
            if self.of(id).is_none() {
                // It was removed, and the process goes with the pass.
                return Ok(ended);
            }
            if held {
                pass.was_held();
                continue;
            }
            let step = pass.step(LISTEN)?;
            self.watch(id, pass.directories(), &mut unwatched);
            match step {
                Step::Nothing | Step::Further => {}
                Step::Write(batch) => {
                    let began = Instant::now();
                    self.code.apply(id, &batch).map_err(|error| error.to_string())?;
                    ended = Ended::Changed;
                    pass.wrote_for(began.elapsed());
                }
                Step::Ended if !whole => {
                    if matches!(ended, Ended::Changed) {
                        self.code.refreshed().map_err(|error| error.to_string())?;
                    }
                    return Ok(ended);
                }
                Step::Ended => {
                    let known = self.of(id).and_then(|due| due.entry.repository.passed);
                    // Nothing is written where nothing has changed.
                    let passed = match (&ended, known) {
                        (Ended::AsItWas, Some(_)) => Ok(unix_s()),
                        _ => self.code.passed(id).map_err(|error| error.to_string()),
                    }?;
                    if let Some(due) = self.of(id) {
                        due.entry.repository.passed = Some(passed);
                        due.entry.unwatched = unwatched;
                    }
                    return Ok(ended);
                }
            }
            self.is_at(id, &pass);
        }
    }

    /// Watches what a pass goes through. A file that came before its directory was watched
    /// may not have been seen, so what is new is looked at once more.
    fn watch(&mut self, id: i64, directories: Vec<String>, unwatched: &mut Option<String>) {
        for path in directories {
            let Some(due) = self.entries.iter_mut().find(|due| due.entry.repository.id == id)
            else {
                return;
            };
            // Trees that were brought here are never edited.
            let Origin::Path(root) = &due.entry.repository.is.origin else { return };
            if unwatched.is_some() {
                return;
            }
            match self.watching.watch(root, (id, path.clone())) {
                Ok(true) => due.changed.add(path),
                Ok(false) => {}
                Err(reason) => {
                    if due.entry.unwatched.as_ref() != Some(&reason) {
                        let name = &due.entry.repository.is.name;
                        tracing::warn!(name, reason, "edits are found by polling alone");
                    }
                    due.entry.unwatched = Some(reason.clone());
                    *unwatched = Some(reason);
                }
            }
        }
    }

    /// Shows how far a pass is, from time to time. One that finds nothing new is
    /// over before anybody sees it.
    fn is_at(&mut self, id: i64, pass: &Pass) {
        if self.shown.elapsed() < SHOW {
            return;
        }
        if let Some(due) = self.of(id) {
            due.entry.state = State::Indexing(pass.progress());
        }
        if self.counted.elapsed() >= COUNT {
            self.counted = Instant::now();
            let counts = self.code.counts(id).ok();
            if let Some(due) = self.of(id) {
                due.entry.counts = counts.or(due.entry.counts);
            }
        }
        self.show();
    }

    pub(super) fn of(&mut self, id: i64) -> Option<&mut Due> {
        self.entries.iter_mut().find(|due| due.entry.repository.id == id)
    }

    pub(super) fn show(&mut self) {
        self.shown = Instant::now();
        let entries = self.entries.iter().map(|due| due.entry.clone()).collect();
        // If nobody looks, nobody need see.
        let _ = self.showing.send(Some(entries));
    }
}

impl Due {
    pub(super) fn new(repository: Repository) -> Self {
        let state = match repository.passed {
            Some(_) => State::Indexed,
            None => State::Waiting,
        };
        let (entry, now) = (Entry::new(repository, state), Instant::now());
        let (changed, bringing) = (Changed::Nothing, Bringing::default());
        Self { entry, at: now, changed, rested: now, bringing }
    }

    /// When it is gone over, or a part of it.
    fn next(&self) -> Instant {
        match self.changed.is_nothing() {
            true => self.at,
            false => self.at.min(self.rested),
        }
    }
}

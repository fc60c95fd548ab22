//! One file from a hub to the disk: in parts where the hub can send parts of a
//! version that it names, in one piece else.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use jetpack::disk::Disk;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::client::{Client, Reply, Version};
use super::journal::{self, Journal};
use super::{Hub, HubError};
use crate::error::chain;
use crate::fetch::expected::Expected;
use crate::fetch::part::Part;
use crate::fetch::repository::Arrived;
use crate::hash;
use crate::interrupt::Interrupted;
use crate::report::Report;

/// Times that the same bytes are asked for before it is given up.
const ATTEMPTS: u32 = 5;

/// The wait before the second attempt; each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// A part that takes longer comes at less than 10 KiB/s.
const PART_LIMIT: Duration = Duration::from_secs(3600);

/// How often progress is shown and an interruption is noticed.
const TICK: Duration = Duration::from_millis(100);

/// A file on a hub.
pub(crate) struct Remote<'a> {
    pub(crate) repository: &'a str,
    /// A commit, or the name of a branch while no commit is known.
    pub(crate) revision: &'a str,
    pub(crate) file: &'a str,
}

/// Fetches `remote` into `part`, from the first hub or mirror that has it. Also
/// returns the commit, if the hub said which one it was.
pub(crate) fn download(
    hub: &Hub,
    remote: &Remote<'_>,
    part: &Part,
    expected: &Expected,
    report: &Report,
) -> Result<(Arrived, Option<String>), HubError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(disk("start a runtime for", &part.part))?;
    let mut last = HubError::NoRoots;
    for (count, base) in hub.bases.iter().enumerate() {
        if count > 0 {
            report.note(&format!("{}; asking {base}", chain(&last)));
        }
        let address = base.file(remote.repository, remote.revision, remote.file);
        let job = Job { client: Client::new(hub), address, part, expected, report };
        match job.run(&runtime) {
            Ok(arrived) => return Ok(arrived),
            Err(error) if error.is_of_this_mirror() => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// One file from one hub.
struct Job<'a> {
    client: Client<'a>,
    address: Address,
    part: &'a Part,
    expected: &'a Expected,
    report: &'a Report,
}

impl Job<'_> {
    /// A fetch that went on where another ended, and came to nothing good, begins
    /// again: what was there may have been at fault.
    fn run(&self, runtime: &Runtime) -> Result<(Arrived, Option<String>), HubError> {
        for is_last in [false, true] {
            let (resumed, result) = self.attempt(runtime);
            match result {
                Err(error @ (HubError::Changed { .. } | HubError::Hash { .. })) => {
                    self.part.remove();
                    if is_last || !(resumed || matches!(error, HubError::Changed { .. })) {
                        return Err(error);
                    }
                    self.report.note(&format!("{}; beginning again", chain(&error)));
                }
                other => return other,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Whether anything was there already, and how it ended.
    fn attempt(&self, runtime: &Runtime) -> (bool, Result<(Arrived, Option<String>), HubError>) {
        let mut check = || self.report.interrupt().check();
        let first = self.persist(|| self.client.get(&self.address, Some((0, 1)), None));
        let reply = match runtime.block_on(watched(&mut check, first)) {
            Ok(reply) => reply,
            Err(error) => return (false, Err(error)),
        };
        let version = reply.version.clone();
        let journal = version.validator.as_deref().filter(|_| reply.is_part).map(|validator| {
            Journal::resume(&self.part.part, &version, reply.length)
                .unwrap_or_else(|| Journal::new(validator, reply.length))
        });
        let resumed = journal.as_ref().is_some_and(|journal| !journal.is_empty());
        (resumed, self.complete(runtime, reply, journal))
    }

    fn complete(
        &self,
        runtime: &Runtime,
        reply: Reply,
        journal: Option<Journal>,
    ) -> Result<(Arrived, Option<String>), HubError> {
        let (length, version) = (reply.length, reply.version.clone());
        self.expected.allows_from_hub(&self.address.host, length)?;
        self.has_room(length)?;
        let file = match journal {
            Some(journal) => {
                drop(reply);
                self.fetch_parts(runtime, length, &version, journal)?
            }
            None => self.fetch_whole(runtime, length)?,
        };
        let path = &self.part.part;
        let read = hash::file(path, &mut self.report.meter(length));
        let sha256 = read.map_err(disk("read", path))?;
        let host = &self.address.host;
        self.expected.is_from_hub(host, &sha256, version.sha256.as_ref())?;
        let outcome = "fetched and checked";
        Ok((Arrived { file, bytes: length, sha256, outcome }, version.commit))
    }

    /// What an earlier fetch has taken of the disk is taken over.
    fn has_room(&self, length: u64) -> Result<(), HubError> {
        let dir = self.part.path.parent().unwrap_or(Path::new("."));
        let free = Disk::holding(dir).map_err(disk("measure", dir))?.available_bytes.get();
        let taken = self.part.part.metadata().map_or(0, |metadata| metadata.blocks() * 512);
        let needed = length.saturating_sub(taken);
        if needed > free {
            return Err(HubError::Room { path: dir.into(), needed, free });
        }
        Ok(())
    }

    fn fetch_parts(
        &self,
        runtime: &Runtime,
        length: u64,
        version: &Version,
        journal: Journal,
    ) -> Result<File, HubError> {
        let path = &self.part.part;
        let file = if journal.is_empty() {
            File::create(path).map_err(disk("create", path))?
        } else {
            let kept = journal.bytes_done();
            self.report.note(&format!("going on after {} of {length} bytes", kept));
            File::options().read(true).write(true).open(path).map_err(disk("open", path))?
        };
        file.set_len(length).map_err(disk("write", path))?;
        let parts = Parts {
            job: self,
            file: &file,
            length,
            validator: version.validator.as_deref(),
            queue: RefCell::new(journal.missing().collect()),
            got: Cell::new(0),
            journal: RefCell::new(journal),
        };
        let left = length - parts.journal.borrow().bytes_done();
        let mut meter = self.report.meter(left);
        let mut show = || meter.reach(parts.got.get());
        runtime.block_on(watched(&mut show, parts.all()))?;
        Ok(file)
    }

    /// All of the file as one answer. One that breaks off begins again.
    fn fetch_whole(&self, runtime: &Runtime, length: u64) -> Result<File, HubError> {
        let path = &self.part.part;
        journal::remove(path);
        let file = File::create(path).map_err(disk("create", path))?;
        let got = Cell::new(0);
        let mut meter = self.report.meter(length);
        let mut show = || meter.reach(got.get());
        let work = self.persist(async || {
            got.set(0);
            let mut reply = self.client.get(&self.address, None, None).await?;
            if reply.length != length {
                return Err(HubError::Changed { host: reply.host });
            }
            while let Some(data) = reply.next().await? {
                file.write_all_at(&data, got.get()).map_err(disk("write", path))?;
                got.set(got.get() + data.len() as u64);
            }
            Ok(())
        });
        runtime.block_on(watched(&mut show, work))?;
        Ok(file)
    }

    /// Does it again, after a while, as long as that may help.
    async fn persist<T, F>(&self, mut work: impl FnMut() -> F) -> Result<T, HubError>
    where
        F: Future<Output = Result<T, HubError>>,
    {
        for attempt in 1..ATTEMPTS {
            match work().await {
                Err(error) if error.may_pass() => self.wait(attempt, &error).await,
                other => return other,
            }
        }
        work().await
    }

    async fn wait(&self, attempt: u32, error: &HubError) {
        let asked = match error {
            HubError::Status { wait, .. } => *wait,
            _ => None,
        };
        self.report.note(&format!("{}; trying again", chain(error)));
        sleep(asked.unwrap_or(FIRST_WAIT * 2u32.pow(attempt - 1))).await;
    }
}

/// Parts of one file, some of them on their way at the same time.
struct Parts<'a> {
    job: &'a Job<'a>,
    file: &'a File,
    length: u64,
    validator: Option<&'a str>,
    queue: RefCell<VecDeque<u64>>,
    journal: RefCell<Journal>,
    /// Bytes that came in this run.
    got: Cell<u64>,
}

impl Parts<'_> {
    async fn all(&self) -> Result<(), HubError> {
        tokio::try_join!(self.some(), self.some(), self.some(), self.some())?;
        Ok(())
    }

    /// One part after the other, as long as there are any.
    async fn some(&self) -> Result<(), HubError> {
        loop {
            let Some(index) = self.queue.borrow_mut().pop_front() else { return Ok(()) };
            let limit = timeout(PART_LIMIT, self.one(index)).await;
            limit.map_err(|_| self.silent())??;
            let path = &self.job.part.part;
            self.file.sync_data().map_err(disk("write", path))?;
            let written = self.journal.borrow_mut().done(path, index);
            written.map_err(disk("write the journal of", path))?;
        }
    }

    /// One part. After a break it goes on with the next byte; it is given up when
    /// several answers in a row bring nothing.
    async fn one(&self, index: u64) -> Result<(), HubError> {
        let (begin, end) = journal::range(index, self.length);
        let (at, mut idle) = (Cell::new(begin), 0);
        while at.get() < end {
            let before = at.get();
            let result = self.bytes(&at, end).await;
            idle = if at.get() > before { 1 } else { idle + 1 };
            match result {
                Err(error) if error.may_pass() && idle < ATTEMPTS => {
                    self.job.wait(idle, &error).await;
                }
                Ok(()) if at.get() == before => {
                    let host = self.job.address.host.clone();
                    return Err(HubError::Nonsense { host, what: "sends less than it said" });
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn bytes(&self, at: &Cell<u64>, end: u64) -> Result<(), HubError> {
        let Job { client, address, part, .. } = self.job;
        let mut reply = client.get(address, Some((at.get(), end)), self.validator).await?;
        let same = reply.is_part
            && reply.length == self.length
            && reply.version.validator.as_deref() == self.validator;
        if !same {
            return Err(HubError::Changed { host: reply.host });
        }
        while let Some(data) = reply.next().await? {
            self.file.write_all_at(&data, at.get()).map_err(disk("write", &part.part))?;
            at.set(at.get() + data.len() as u64);
            self.got.set(self.got.get() + data.len() as u64);
        }
        Ok(())
    }

    fn silent(&self) -> HubError {
        HubError::Silent { host: self.job.address.host.clone(), patience: PART_LIMIT }
    }
}

/// Does `work`, and looks at `check` now and then.
async fn watched<T>(
    check: &mut dyn FnMut() -> Result<(), Interrupted>,
    work: impl Future<Output = Result<T, HubError>>,
) -> Result<T, HubError> {
    let stopped = async {
        loop {
            sleep(TICK).await;
            if let Err(interrupted) = check() {
                return interrupted;
            }
        }
    };
    tokio::select! {
        result = work => result,
        interrupted = stopped => Err(interrupted.into()),
    }
}

fn disk(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HubError {
    let path = path.to_owned();
    move |source| match Interrupted::inside(&source) {
        Some(interrupted) => interrupted.into(),
        None => HubError::Disk { doing, path, source },
    }
}

//! The store's thread: collects commands into batches, and keeps going when
//! the disk does not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::answers::{self, AnswerChange, Keep, Wanted};
use super::database::{Damaged, Database, News};
use super::rows::{self, Row};
use super::{Bounds, Command, Counters, LEAST_PIECE, Paths, Report, schema, unix_s};

/// How long a row may wait for others to be written together with it.
const GATHER: Duration = Duration::from_millis(200);
/// Rows in one transaction at most.
const BATCH: usize = 256;
/// Rows written between two deletions of old ones.
const RETAIN_EVERY: usize = 1000;
/// Answers are looked through this many times in the time that they are kept.
const LOOKS: u32 = 10;
/// Bounds of the time between two looks.
const LOOK_PERIOD: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

pub(super) struct Thread<R> {
    history: Database,
    /// Rows written since old ones were deleted.
    written: usize,
    answers: Answers,
    bounds: Bounds,
    commands: Receiver<Command>,
    counters: Arc<Counters>,
    report: R,
}

struct Answers {
    database: Database,
    keep: Keep,
    /// When those that are too old are looked for; `None` while there are none.
    look_at: Option<Instant>,
    /// Bytes written since the last look.
    grown: u64,
}

/// What is written together.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    changes: Vec<AnswerChange>,
    /// Who waits for a change to be written.
    begun: Vec<oneshot::Sender<()>>,
    wanted: Option<Wanted>,
    /// There will be no more commands.
    last: bool,
}

impl<R: Fn(Report)> Thread<R> {
    pub(super) fn new(
        paths: Paths,
        bounds: Bounds,
        commands: Receiver<Command>,
        counters: Arc<Counters>,
        report: R,
    ) -> Self {
        let keep = Keep { time: bounds.answers_kept, bytes: bounds.answers_bytes };
        let database = Database::new(paths.answers, &schema::ANSWERS, Damaged::Deleted);
        Self {
            history: Database::new(paths.history, &schema::HISTORY, Damaged::SetAside),
            written: 0,
            answers: Answers { database, keep, look_at: Some(Instant::now()), grown: 0 },
            bounds,
            commands,
            counters,
            report,
        }
    }

    /// Runs until the store is dropped.
    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        loop {
            self.write(&batch.rows);
            self.keep(&batch.changes, std::mem::take(&mut batch.begun), batch.wanted.take());
            if batch.last {
                return;
            }
            batch = self.gather();
            self.counters.beats.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn gather(&self) -> Batch {
        let mut batch = Batch::default();
        let first = match self.next_wake() {
            None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => self.commands.recv_timeout(wait),
        };
        let until = Instant::now() + GATHER;
        let mut next = first;
        while batch.take(next) {
            next = self.commands.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
        batch
    }

    /// When there is something to do although nobody asks.
    fn next_wake(&self) -> Option<Duration> {
        let look = self.answers.look_at.map(|at| at.saturating_duration_since(Instant::now()));
        let answers = self.answers.is_on().then(|| self.answers.database.due().or(look)).flatten();
        [self.history.due(), answers].into_iter().flatten().min()
    }

    /// Writes rows, or only sees to the file if there are none.
    fn write(&mut self, rows: &[Row]) {
        let idle = rows.is_empty() && self.history.due().is_none_or(|wait| !wait.is_zero());
        if idle {
            return;
        }
        self.written += rows.len();
        let bounds = (self.written >= RETAIN_EVERY).then_some(self.bounds);
        let mut news = Vec::new();
        let written = self.history.work(&mut news, |connection| {
            if !rows.is_empty() {
                rows::write(connection, rows)?;
            }
            bounds.map_or(Ok(()), |b| rows::retain(connection, b.requests, b.incidents))
        });
        if written.is_none() {
            // They are given up, not kept without bound.
            self.counters.dropped.fetch_add(rows.len() as u64, Ordering::Relaxed);
        }
        if bounds.is_some() {
            self.written = 0;
        }
        self.tell(news);
    }

    /// Reports what happened to the history. Ends, because a file is replaced
    /// only once in a while.
    fn tell(&mut self, mut news: Vec<News>) {
        while !news.is_empty() {
            let mut more = Vec::new();
            for event in news {
                match event {
                    News::Failed(trouble) => (self.report)(Report::Failed(trouble)),
                    News::Replaced { aside, cause, rescued } => {
                        let path = aside.unwrap_or_default();
                        (self.report)(Report::SetAside { path, cause, rescued });
                    }
                    News::Opened => {
                        let bounds = self.bounds;
                        let incidents = self.history.work(&mut more, |connection| {
                            rows::retain(connection, bounds.requests, bounds.incidents)?;
                            rows::recent_incidents(connection)
                        });
                        if let Some(incidents) = incidents {
                            (self.report)(Report::Opened { incidents });
                        }
                    }
                }
            }
            news = more;
        }
    }

    /// Writes what answers said, finds one, and deletes the old ones when it is time.
    fn keep(
        &mut self,
        changes: &[AnswerChange],
        begun: Vec<oneshot::Sender<()>>,
        wanted: Option<Wanted>,
    ) {
        let waited: usize = changes.iter().map(|change| change.bytes() + LEAST_PIECE).sum();
        self.counters.waiting.fetch_sub(waited, Ordering::Relaxed);
        let mut news = Vec::new();
        if self.answers.is_on() {
            if !changes.is_empty() {
                match self.answers.write(changes, &mut news) {
                    Some(()) => {
                        for reply in begun {
                            // Who waited may have gone.
                            let _ = reply.send(());
                        }
                    }
                    None => {
                        let dropped = changes.len() as u64;
                        self.counters.pieces_dropped.fetch_add(dropped, Ordering::Relaxed);
                    }
                }
            }
            if let Some(wanted) = wanted {
                self.answers.find(wanted, &mut news);
            }
            self.answers.look(&mut news);
        } else if self.answers.look_at.take().is_some() {
            self.answers.database.discard();
        }
        for event in news {
            (self.report)(match event {
                News::Opened => Report::AnswersOpened,
                News::Replaced { cause, .. } => Report::AnswersLost { cause },
                News::Failed(trouble) => Report::AnswersFailed(trouble),
            });
        }
    }
}

impl Answers {
    fn is_on(&self) -> bool {
        !self.keep.time.is_zero()
    }

    fn write(&mut self, changes: &[AnswerChange], news: &mut Vec<News>) -> Option<()> {
        let now = unix_s();
        self.grown += changes.iter().map(|change| change.bytes() as u64).sum::<u64>();
        self.look_at.get_or_insert(Instant::now() + self.look_period());
        self.database.work(news, |connection| {
            let transaction = connection.transaction()?;
            for change in changes {
                answers::write(&transaction, change, now)?;
            }
            transaction.commit()?;
            let forgets = |change: &AnswerChange| matches!(change, AnswerChange::ForgetAllOf(_));
            if changes.iter().any(forgets) { answers::empty_log(connection) } else { Ok(()) }
        })
    }

    fn find(&mut self, wanted: Wanted, news: &mut Vec<News>) {
        let Wanted { id, owner, reply } = wanted;
        let (keep, now) = (self.keep, unix_s());
        let found = self.database.work(news, |c| answers::read(c, &id, &owner, keep, now));
        if let Some(found) = found {
            // Who asked may have gone.
            let _ = reply.send(found);
        }
    }

    /// Deletes what is too old or too much, if it is time.
    fn look(&mut self, news: &mut Vec<News>) {
        let due = self.look_at.is_some_and(|at| at <= Instant::now())
            || self.database.due().is_some_and(|wait| wait.is_zero())
            || self.grown > self.keep.bytes / u64::from(LOOKS);
        if !due {
            return;
        }
        let (keep, now) = (self.keep, unix_s());
        self.grown = 0;
        let left = self.database.work(news, |connection| {
            answers::retain(connection, keep, now)?;
            answers::any(connection)
        });
        // A file that is out of order is tried again in its own time.
        self.look_at = (left != Some(false)).then(|| Instant::now() + self.look_period());
    }

    fn look_period(&self) -> Duration {
        (self.keep.time / LOOKS).clamp(LOOK_PERIOD.0, LOOK_PERIOD.1)
    }
}

impl Batch {
    /// Takes one more command. Says whether the next may be waited for.
    fn take(&mut self, command: Result<Command, RecvTimeoutError>) -> bool {
        match command {
            Ok(Command::Request(row)) => self.rows.push(Row::Request(row)),
            Ok(Command::Incident(row)) => self.rows.push(Row::Incident(row)),
            Ok(Command::Answer(change)) => self.changes.push(change),
            // Somebody waits for it.
            Ok(Command::Begin(change, reply)) => {
                self.changes.push(change);
                self.begun.push(reply);
                return false;
            }
            Ok(Command::Wanted(wanted)) => {
                self.wanted = Some(wanted);
                return false;
            }
            Ok(Command::Ping) | Err(RecvTimeoutError::Timeout) => return false,
            Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => {
                self.last = true;
                return false;
            }
        }
        self.rows.len() + self.changes.len() < BATCH
    }
}

//! What the main loop knows about the past: totals, incidents, problems, the
//! latest samples. From it and the present state the snapshot is drawn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use engine_api::progress::State;
use engine_api::protocol::Heartbeat;

use super::history::History;
use super::rates::Meter;
use super::words;
use crate::snapshot::{HistoryPoint, Incident, MAX_INCIDENTS, Problem, Queue, Totals};
use crate::store::unix_s;
use crate::store::{Fault, IncidentRow, Outcome, Report, RequestRow, Store, Trouble};
use crate::telemetry::Reading;
use crate::update::News;

/// How long it is news that an update was given up. By then the supervisor that comes
/// back has its database.
const UPDATE_NEWS_S: u64 = 3600;

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) started: Instant,
    pub(super) totals: Totals,
    pub(super) problems: Vec<Problem>,
    pub(super) meter: Meter,
    pub(super) reading: Option<Reading>,
    pub(super) heartbeat: Option<(Box<Heartbeat>, Instant)>,
    pub(super) restarts: u64,
    /// Newest first.
    incidents: VecDeque<Incident>,
    next_incident: i64,
    /// Whether the database has told which incidents there were.
    knows_incidents: bool,
    history: Arc<History>,
    store: Store,
}

/// An incident as the main loop tells it.
#[derive(Debug)]
pub(super) struct Happened {
    pub(super) kind: &'static str,
    pub(super) problem: String,
    pub(super) cause: String,
    pub(super) evidence: serde_json::Value,
    pub(super) done: String,
    pub(super) advice: String,
}

impl Ledger {
    pub(super) fn new(store: Store, history: Arc<History>, now: Instant) -> Self {
        Self {
            started: now,
            totals: Totals::default(),
            problems: Vec::new(),
            meter: Meter::default(),
            reading: None,
            heartbeat: None,
            restarts: 0,
            incidents: VecDeque::new(),
            // Until a database tells what is taken: a number that is not.
            next_incident: i64::try_from(unix_s()).unwrap_or(1),
            knows_incidents: false,
            history,
            store,
        }
    }

    /// Counts a request that has ended and remembers it.
    pub(super) fn ended(&mut self, row: RequestRow) {
        let count = match row.outcome {
            Outcome::Answered => &mut self.totals.answered,
            Outcome::Failed => &mut self.totals.failed,
            Outcome::Cancelled => &mut self.totals.cancelled,
        };
        *count += 1;
        self.totals.prompt_tokens += u64::from(row.usage.prompt_tokens);
        let cached = self.totals.cached_tokens.zip(row.usage.cached_tokens);
        self.totals.cached_tokens = cached.map(|(sum, more)| sum + u64::from(more));
        self.totals.completion_tokens += u64::from(row.usage.completion_tokens);
        self.store.request(row);
    }

    /// Remembers an incident; its id is for those whom it concerns.
    pub(super) fn incident(&mut self, happened: Happened) -> i64 {
        let Happened { kind, problem, cause, evidence, done, advice } = happened;
        let id = self.next_incident;
        self.next_incident += 1;
        tracing::warn!(incident = id, kind, problem, cause, done, "incident");
        let incident = Incident { id, at: unix_s(), kind: kind.to_owned(), problem, done, advice };
        self.incidents.push_front(incident.clone());
        self.incidents.truncate(MAX_INCIDENTS);
        self.store.incident(IncidentRow { incident, cause, evidence });
        id
    }

    /// What the last build is doing, as of the last reading.
    pub(super) fn build(&self) -> Option<State> {
        Some(self.reading.as_ref()?.build.as_ref()?.state)
    }

    pub(super) fn incidents(&self) -> Vec<Incident> {
        self.incidents.iter().cloned().collect()
    }

    /// Takes note of what the store says.
    pub(super) fn store_says(&mut self, report: Report) {
        match report {
            Report::Opened { incidents } => self.opened(incidents),
            Report::SetAside { path, cause, rescued } => {
                let aside = path.display().to_string();
                self.incident(Happened {
                    kind: "database_corrupt",
                    problem: "the database was damaged".to_owned(),
                    cause,
                    evidence: serde_json::json!({ "set_aside": aside }),
                    done: format!("it was renamed to {aside}, and a new one was begun: {rescued}"),
                    advice:
                        "look at the disk's health; delete the renamed file when it is of no use"
                            .to_owned(),
                });
            }
            Report::AnswersLost { cause } => {
                self.incident(Happened {
                    kind: "kept_answers_lost",
                    problem: "the database of kept answers was damaged".to_owned(),
                    cause,
                    evidence: serde_json::Value::Null,
                    done: "it was deleted and a new one begun; answers that were cut off before \
                           that cannot be taken up again"
                        .to_owned(),
                    advice: "look at the disk's health".to_owned(),
                });
            }
            Report::AnswersOpened => self.forget_problem(&[NOT_KEPT]),
            Report::Failed(trouble) => {
                self.store_problem(problem_of(&trouble), &trouble, &STORE_PROBLEMS);
            }
            Report::AnswersFailed(trouble) => {
                self.store_problem(answers_problem(&trouble), &trouble, &[NOT_KEPT]);
            }
        }
    }

    /// Shows a problem in the place of those of these kinds.
    fn store_problem(&mut self, problem: Problem, trouble: &Trouble, kinds: &[&str]) {
        // It is tried again and again; one line is enough.
        if !self.problems.contains(&problem) {
            let path = trouble.path.display();
            tracing::warn!(cause = trouble.cause, %path, "database not writable");
            self.forget_problem(kinds);
            self.problems.push(problem);
        }
    }

    fn opened(&mut self, incidents: Vec<Incident>) {
        self.forget_problem(&STORE_PROBLEMS);
        self.knows_incidents = true;
        let taken = incidents.iter().map(|incident| incident.id).max().unwrap_or(0);
        if self.incidents.is_empty() {
            self.next_incident = taken + 1;
        } else {
            self.next_incident = self.next_incident.max(taken + 1);
        }
        let known: Vec<i64> = self.incidents.iter().map(|incident| incident.id).collect();
        self.incidents.extend(incidents.into_iter().filter(|old| !known.contains(&old.id)));
        self.incidents.truncate(MAX_INCIDENTS);
    }

    fn forget_problem(&mut self, kinds: &[&str]) {
        self.problems.retain(|problem| !kinds.contains(&problem.kind));
    }

    /// Takes note of a heartbeat; false if it says nothing new.
    pub(super) fn heartbeat(&mut self, heartbeat: Box<Heartbeat>, now: Instant) -> bool {
        self.meter.add(&heartbeat, now);
        let news = self.heartbeat.as_ref().is_none_or(|(last, _)| **last != *heartbeat);
        self.heartbeat = Some((heartbeat, now));
        news
    }

    /// Takes note of a reading, and adds a point to the history.
    pub(super) fn reading(&mut self, reading: Reading, queue: &Queue, now: Instant) {
        let rates = self.meter.rates(now);
        let machine = &reading.machine;
        self.history.push(HistoryPoint {
            at: machine.at,
            hottest_celsius: machine.hottest().map(jetpack::Celsius::degrees),
            power_watts: machine.power_watts.map(jetpack::Watts::watts),
            memory_used_bytes: machine.memory.as_ref().map(|memory| memory.used_bytes.get()),
            decode_tokens_per_s: rates.decode_tokens_per_s,
            prefill_tokens_per_s: rates.prefill_tokens_per_s,
            running: queue.running,
            waiting: queue.waiting,
            kv_tokens: self
                .heartbeat
                .as_ref()
                .and_then(|(beat, _)| Some(beat.kv.active_tokens + beat.kv.cached_tokens?)),
        });
        if let Some(happened) = reading.update.as_ref().and_then(|news| self.given_up(news)) {
            self.incident(happened);
        }
        self.reading = Some(reading);
    }

    /// An update that was given up a moment ago, unless that was told: by us or by the
    /// supervisor before.
    fn given_up(&self, news: &News) -> Option<Happened> {
        let happened = words::update_given_up(news)?;
        let is_told =
            |told: &Incident| told.kind == happened.kind && told.at >= news.progress.since;
        let is_new = unix_s().saturating_sub(news.progress.since) < UPDATE_NEWS_S;
        let is_told = self.incidents.iter().any(is_told);
        (is_new && self.knows_incidents && !is_told).then_some(happened)
    }

    /// The machine's last sample.
    pub(super) fn sample(&self) -> Option<&jetpack::Sample> {
        self.reading.as_ref().map(|reading| &reading.machine)
    }

    /// The worker is gone; what it said last comes back.
    pub(super) fn worker_gone(&mut self) -> Option<Box<Heartbeat>> {
        self.meter = Meter::default();
        self.heartbeat.take().map(|(heartbeat, _)| heartbeat)
    }
}

const FULL: &str = "state_dir_full";
const READ_ONLY: &str = "state_dir_read_only";
const UNAVAILABLE: &str = "database_unavailable";
const STORE_PROBLEMS: [&str; 3] = [FULL, READ_ONLY, UNAVAILABLE];

/// The one about answers that are not kept.
const NOT_KEPT: &str = "answers_not_kept";

fn answers_problem(trouble: &Trouble) -> Problem {
    let path = trouble.path.display();
    Problem {
        kind: NOT_KEPT,
        problem: format!(
            "an answer whose connection is lost cannot be taken up again, because {path} cannot \
             be written: {}",
            trouble.cause
        ),
        advice: "see to the disk that holds it; answers are not affected otherwise".to_owned(),
    }
}

fn problem_of(trouble: &Trouble) -> Problem {
    let path = trouble.path.display();
    let (kind, advice) = match trouble.fault {
        Fault::Full => (FULL, format!("free some space on the disk that holds {path}")),
        Fault::ReadOnly => (READ_ONLY, format!("make {path} writable")),
        Fault::Other => (UNAVAILABLE, format!("see why {path} cannot be used")),
    };
    let problem = format!(
        "requests and incidents are not remembered, because the database cannot be written: {}",
        trouble.cause
    );
    Problem {
        kind,
        problem,
        advice: format!("{advice}; answers are not affected, and writing is tried again by itself"),
    }
}

//! What the main loop does about heat, power and memory: it asks the governor
//! after each reading, and when readings stay out, and does what that decides.

use std::time::{Duration, Instant};

use engine_api::protocol::Limits;

use super::engine::{largest_part, limits};
use super::facts::{Before, Engine, facts};
use super::{Change, Supervisor, words};
use crate::config::{self, Settings};
use crate::governor::{Clock, Decision, Door, Governor, RETRY_AFTER};
use crate::gpu_clock::{self, GpuCap, Permission};
use crate::request::Refusal;
use crate::snapshot::{self, Problem};
use crate::store::unix_s;

/// Readings that may stay out before the governor is asked without one.
const MISSED: u32 = 2;

/// The governor and what was last decided.
#[derive(Debug)]
pub(super) struct Governing {
    governor: Governor,
    decision: Option<Decision>,
    decided: Option<Instant>,
    before: Before,
    gpu: Option<GpuCap>,
    /// What the worker was last told.
    pub(super) told: Option<Limits>,
    /// The worker is to die; it is given nothing more.
    pub(super) given_up: bool,
}

impl Governing {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        let config::Governor { profile, gpu_clock } = settings.governor;
        let root = jetpack::Root::new(&settings.root);
        let note = settings.state_dir.gpu_clock();
        let gpu = match gpu_clock {
            config::GpuClock::Leave => None,
            config::GpuClock::Auto | config::GpuClock::Cap => gpu_clock::start(&root, note),
        };
        Self {
            governor: Governor::new(profile, settings.telemetry.period, now),
            decision: None,
            decided: None,
            before: Before::default(),
            gpu,
            told: None,
            given_up: false,
        }
    }

    /// The smaller of what the engine may do and what the board bears.
    pub(super) fn within(&self, bounds: Limits, largest_part: u16) -> Limits {
        let Some(Decision { limits, .. }) = &self.decision else { return bounds };
        let most = bounds.max_batch_tokens.max(largest_part);
        Limits {
            max_sequences: bounds.max_sequences.min(limits.max_sequences).max(1),
            max_batch_tokens: most.min(limits.max_batch_tokens).max(1),
            pace_us: bounds.pace_us.max(limits.pace_us),
        }
    }

    /// Gives the GPU's clock back; waits for its driver, within bounds.
    pub(super) async fn end(&mut self) {
        if let Some(gpu) = self.gpu.take() {
            let _ = tokio::task::spawn_blocking(|| gpu.end()).await;
        }
    }

    /// Another engine is started, with these limits.
    pub(super) fn engine_started(&mut self, limits: Limits) {
        self.governor.engine_changed();
        self.told = Some(limits);
        self.given_up = false;
    }

    fn door(&self) -> Door {
        self.decision.as_ref().map_or(Door::Open, |decision| decision.door)
    }

    /// Why no request is taken, if memory is short.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let door = self.door();
        let reason = matches!(door, Door::Shut { .. }).then(|| door.to_string())?;
        Some(Refusal::Unavailable { reason, retry_after: RETRY_AFTER })
    }

    /// What is wrong with the clock, if somebody wants it capped.
    pub(super) fn problem(&self, settings: &Settings) -> Option<Problem> {
        let wanted = settings.governor.gpu_clock == config::GpuClock::Cap;
        let refused = self.gpu.as_ref().is_some_and(|gpu| gpu.permission() == Permission::Refused);
        (wanted && refused).then(words::gpu_clock_refused)
    }

    /// `None` before the first reading.
    pub(super) fn snapshot(&self, now: Instant) -> Option<snapshot::Governor> {
        let decision = self.decision.as_ref()?;
        let at = |at: Instant| unix_s().saturating_sub(now.saturating_duration_since(at).as_secs());
        let changes = self.governor.log().map(|change| snapshot::GovernorChange {
            at: at(change.at),
            from_notch: change.from,
            to_notch: change.to,
            limiting: change.because.kind(),
            reason: change.because.to_string(),
            limits: change.limits,
            gpu_cap_hertz: change.gpu_cap_hz,
        });
        Some(snapshot::Governor {
            profile: self.governor.profile().to_string(),
            limiting: decision.because.kind(),
            reason: decision.because.to_string(),
            since: at(decision.since),
            notch: decision.notch,
            notches: decision.notches,
            gpu_cap_hertz: decision.gpu_cap_hz,
            gpu_clock_may_be_capped: self.gpu.as_ref().and_then(|gpu| match gpu.permission() {
                Permission::Unknown => None,
                permission => Some(permission == Permission::Granted),
            }),
            admission: match decision.door {
                Door::Open => "open",
                Door::Waits { .. } => "waits",
                Door::Shut { .. } => "shut",
            },
            changes_total: self.governor.changes_total(),
            changes: changes.collect(),
        })
    }
}

impl Supervisor {
    /// Takes note of a reading, which the ledger has, and decides.
    pub(super) fn machine_read(&mut self, now: Instant) {
        if let Some(sample) = self.ledger.sample() {
            self.governing.before.observe(sample);
            let cap = sample.clocks.gpu.as_ref().and_then(|clock| clock.cap_hertz);
            if let (Some(gpu), Some(cap)) = (&mut self.governing.gpu, cap) {
                gpu.usual(cap);
            }
        }
        self.govern(now);
    }

    /// When the governor is asked although no reading came.
    pub(super) fn next_decision(&self) -> Option<Instant> {
        let wait = (self.settings.telemetry.period * MISSED).max(Duration::from_secs(5));
        self.governing.decided.map(|decided| decided + wait)
    }

    /// Asks the governor and does what it decides.
    pub(super) fn govern(&mut self, now: Instant) {
        let Some(sample) = self.ledger.sample() else { return };
        let located = self.located.as_ref();
        let gpu = self.governing.gpu.as_ref();
        let clock =
            gpu.and_then(|gpu| Some(Clock { available_hz: gpu.available()?, top_hz: gpu.top() }));
        let engine = Engine {
            bounds: limits(&self.settings, located, self.deaths.rung()),
            largest_part: largest_part(&self.settings, self.deaths.rung()),
            manifest: located.map(|located| &located.manifest),
            heartbeat: self.ledger.heartbeat.as_ref().map(|(beat, _)| &**beat),
            waiting: self.requests.waiting(),
        };
        let facts = facts(engine, sample, self.governing.before, clock);
        let governing = &mut self.governing;
        let decision = governing.governor.decide(&facts, now);
        if let Some(gpu) = &mut governing.gpu {
            gpu.cap(decision.gpu_cap_hz);
        }
        governing.decided = Some(now);
        let before = governing.decision.replace(decision);
        self.tell(before.as_ref());
        self.apply_limits();
    }

    /// Says once in the journal what changed.
    fn tell(&mut self, before: Option<&Decision>) {
        let Some(now) = &self.governing.decision else { return };
        let same = |before: &Decision| {
            (before.notch, before.door == Door::Open) == (now.notch, now.door == Door::Open)
        };
        if before.is_some_and(same) || before.is_none() && now.notch == 0 && now.door == Door::Open
        {
            return;
        }
        tracing::info!(
            notch = now.notch,
            of = now.notches,
            pace_us = now.limits.pace_us,
            max_sequences = now.limits.max_sequences,
            gpu_cap_hz = now.gpu_cap_hz,
            because = %now.because,
            "limits changed"
        );
        self.change(Change::Urgent);
    }

    /// What the engine may do now.
    pub(super) fn limits_now(&self) -> Limits {
        self.governing.within(self.bounds(), largest_part(&self.settings, self.deaths.rung()))
    }

    /// What it may do, whatever the board bears.
    fn bounds(&self) -> Limits {
        limits(&self.settings, self.located.as_ref(), self.deaths.rung())
    }

    /// Lets queue and worker know what holds now.
    pub(super) fn apply_limits(&mut self) {
        let limits = self.limits_now();
        let (Some(ready), Some(connection)) = (self.lifecycle.ready(), self.lifecycle.connection())
        else {
            return;
        };
        if self.governing.given_up {
            return;
        }
        // Where fewer may be decoded than there is room for, the worker chooses,
        // which knows whose turn is more urgent than what runs.
        let bounds = self.bounds();
        let places = usize::from(ready.max_sequences).min(bounds.max_sequences.into());
        let places = match self.governing.door() {
            Door::Open => places,
            Door::Waits { .. } => places.min(self.requests.running().max(1)),
            Door::Shut { .. } => 0,
        };
        let told = match self.governing.told == Some(limits) {
            true => Ok(()),
            false => connection.limits(limits),
        };
        self.governing.told = Some(limits);
        self.requests.set_limit(places);
        if told.is_err() {
            self.give_up_on_worker(words::NOT_READING);
        }
    }
}

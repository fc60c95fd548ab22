//! What people are told when something ends badly: clients by a [`Failure`],
//! operators by an incident. Pure.

use std::time::Duration;

use engine_api::protocol::{Heartbeat, RequestId};

use super::ledger::Happened;
use super::stale::Stale;
use crate::engines::restart::{self, Rung, Verdict};
use crate::engines::{Cause, Death};
use crate::request::{Failure, Fault};
use crate::snapshot::Problem;
use crate::update::News;
use crate::update::phase::Phase;
use crate::update::record::Progress;

/// Why a worker was killed that is deaf.
pub(super) const NOT_READING: &str = "it did not read what it was sent";
/// Why a worker was killed that does not come back from a step.
pub(super) const NOT_CANCELLING: &str = "it did not end a request that was cancelled";
/// Why a worker was killed at the end.
pub(super) const OUT_OF_TIME: &str = "the time for finishing answers is over";

/// An incident, if the update was given up.
pub(super) fn update_given_up(news: &News) -> Option<Happened> {
    let Progress { from, to, began, phase, .. } = &news.progress;
    let Phase::WentBack { why } = phase else { return None };
    Some(Happened {
        kind: "update_given_up",
        problem: format!("version {to} was not well and was given up"),
        cause: why.clone(),
        evidence: serde_json::json!({ "from": from, "to": to, "began": began }),
        done: format!("version {from} is there as before: {why}"),
        advice: "`journalctl -u stoker -u stoker-update` has what it said; update with another one"
            .to_owned(),
    })
}

/// For requests that are not answered because the supervisor ends.
pub(super) fn shutting_down() -> Failure {
    let message = "the server is shutting down; send the request again in a few seconds";
    Failure { fault: Fault::End, ..failure(message) }
}

/// For a request whose turn did not come.
pub(super) fn waited_too_long() -> Failure {
    failure("the request waited too long for its turn; send it again when fewer are waiting")
}

/// For requests that waited for an engine that was taken away.
pub(super) fn no_engine() -> Failure {
    failure("the engine was removed; see the status page")
}

/// For requests that waited when there was nothing left to try.
pub(super) fn safe_mode(incident: i64) -> Failure {
    let message = "the engine stopped and could not be started again; see the status page";
    Failure { incident: Some(incident), ..failure(message) }
}

/// For the request that kills the engine.
pub(super) fn poisoned(incident: i64) -> Failure {
    let message = format!(
        "the engine stopped each time it worked on this request, so it was taken out (incident \
         {incident}); change the request before you send it again"
    );
    Failure { incident: Some(incident), fault: Fault::Request, ..failure(&message) }
}

/// The incident of a request that was convicted.
pub(super) fn poison(id: RequestId, death: i64) -> Happened {
    Happened {
        kind: "request_quarantined",
        problem: "a request stopped the engine each time it ran".to_owned(),
        cause: format!("request {id} ran alone when the engine stopped in incident {death}"),
        evidence: serde_json::json!({ "request": id, "death": death }),
        done: "it was answered with an error; all others go on".to_owned(),
        advice: "report it, with the engine's last lines in the incident before".to_owned(),
    }
}

/// A worker's death and what follows from it.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    pub(super) death: &'a Death,
    pub(super) ready_for: Option<Duration>,
    pub(super) running: usize,
    pub(super) resumed: usize,
    /// The last that it said of its steps.
    pub(super) heartbeat: Option<Box<Heartbeat>>,
    pub(super) verdict: Verdict,
}

/// The incident of a worker's death.
pub(super) fn death(ended: &Ended<'_>) -> Happened {
    let Ended { death, running, resumed, verdict, .. } = *ended;
    let refused = death.cause.is_refusal();
    let stalled = matches!(death.cause, Cause::Stalled(_));
    let answers = match resumed {
        0 => String::new(),
        1 => "; the answer goes on where it was".to_owned(),
        many => format!("; {many} answers go on where they were"),
    };
    let (done, advice) = match verdict {
        Verdict::Again { after, rung, .. } => {
            (format!("{}{answers}", started_again(after, rung)), advice(after, rung))
        }
        Verdict::SafeMode { stuck: true, .. } => (
            "it is not started again while the old process holds its memory".to_owned(),
            "restart the machine",
        ),
        Verdict::SafeMode { tries, .. } => (
            format!(
                "after {tries} tries only the status is served; it is tried again every {} minutes",
                restart::RETRY.as_secs() / 60
            ),
            "build the engine again with engine-builder; it is then started by itself",
        ),
    };
    let what = match (refused, stalled) {
        (true, _) => "the engine could not be loaded",
        (_, true) => "the engine stood still and was killed",
        (false, false) => "the engine stopped",
    };
    Happened {
        kind: match (refused, stalled) {
            (true, _) => "engine_load_failed",
            (_, true) => "engine_stalled",
            (false, false) => "engine_died",
        },
        problem: match running {
            0 => what.to_owned(),
            1 => format!("{what} while it ran a request"),
            many => format!("{what} while it ran {many} requests"),
        },
        cause: death.to_string(),
        evidence: evidence(ended),
        done,
        advice: advice.to_owned(),
    }
}

fn evidence(ended: &Ended<'_>) -> serde_json::Value {
    let exit = ended.death.exit.as_ref();
    serde_json::json!({
        "exit": exit.and_then(|exit| exit.status).map(|status| status.to_string()),
        "ready_s": ended.ready_for.map(|time| time.as_secs()),
        "running": ended.running,
        "resumed": ended.resumed,
        "last_heartbeat": ended.heartbeat,
        "last_lines": exit.map(|exit| &exit.lines),
    })
}

fn started_again(after: Duration, rung: Rung) -> String {
    let when = match after {
        Duration::ZERO => "at once".to_owned(),
        after => format!("in {} s", after.as_secs()),
    };
    match rung {
        Rung::Full => format!("it is started again {when}"),
        Rung::Reduced => format!("it is started again {when}, with smaller limits"),
        Rung::Fallback => format!("another engine is started {when}"),
    }
}

fn advice(after: Duration, rung: Rung) -> &'static str {
    match rung {
        Rung::Full if after.is_zero() => "none, unless it happens again",
        Rung::Full => "look at its last lines; if it goes on, build the engine again",
        Rung::Reduced => "look at its last lines; if memory is short, choose a smaller model",
        Rung::Fallback => "build the engine again, then restart stoker",
    }
}

/// What the operator is told while the engine does not run as it should.
pub(super) fn lowered(rung: Rung) -> Option<Problem> {
    let (kind, problem, advice) = match rung {
        Rung::Full => return None,
        Rung::Reduced => (
            "engine_reduced",
            "the engine runs fewer answers at once, because it stopped several times in a row",
            "see the incidents; the limits are lifted after ten minutes without another",
        ),
        Rung::Fallback => (
            "engine_fallback",
            "another engine is served, because the chosen one does not work",
            "build the chosen engine again with engine-builder, then restart stoker",
        ),
    };
    Some(Problem { kind, problem: problem.to_owned(), advice: advice.to_owned() })
}

fn failure(message: &str) -> Failure {
    Failure { message: message.to_owned(), incident: None, fault: Fault::Engine }
}

/// What an operator can do about an engine that is stale.
const BUILD_AGAIN: &str = "build it again with engine-builder; where stoker-rebuild.timer is enabled, \
                           what can be built by itself is";

/// The incident of a chosen engine that does not belong to this machine.
pub(super) fn stale(stale: &Stale) -> Happened {
    Happened {
        kind: "engine_stale",
        problem: format!("the engine {} does not belong to this machine any more", stale.engine),
        cause: format!("it was built for {}", stale.why),
        evidence: serde_json::json!({ "stands_in": stale.stand_in }),
        done: match &stale.stand_in {
            Some(id) => format!("{id} is served in its place until it is built again"),
            None => "only the status is served, because there is no other engine".to_owned(),
        },
        advice: BUILD_AGAIN.to_owned(),
    }
}

/// What is shown for as long as it lasts.
pub(super) fn stale_problem(stale: &Stale) -> Problem {
    let served = match &stale.stand_in {
        Some(id) => format!("{id} is served in its place"),
        None => "there is no other engine".to_owned(),
    };
    let problem = format!("{}; {served}", stale_words(stale));
    Problem { kind: "engine_stale", problem, advice: BUILD_AGAIN.to_owned() }
}

/// Why nothing is served.
pub(super) fn stale_reason(stale: &Stale) -> String {
    format!("{}, and there is no other engine; build it again", stale_words(stale))
}

fn stale_words(stale: &Stale) -> String {
    format!("the engine {} was built for {}", stale.engine, stale.why)
}

/// For requests that waited when no engine belonged to the machine.
pub(super) fn nothing_belongs() -> Failure {
    failure("the engine was built for another release than this machine has; see the status page")
}

/// The clock is to be capped, and this process may not.
pub(super) fn gpu_clock_refused() -> Problem {
    Problem {
        kind: "gpu_clock_not_writable",
        problem: "the GPU's clock is to be capped when the board gets hot, but it cannot be set"
            .to_owned(),
        advice: "run Stoker as root, or let it write the clock's `max_freq`; until then, pauses \
                 between steps take its place"
            .to_owned(),
    }
}

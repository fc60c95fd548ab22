//! What people are told when something ends badly: clients by a [`Failure`],
//! operators by an incident. Pure.

use std::time::Duration;

use super::ledger::Happened;
use crate::engines::Death;
use crate::engines::restart::Verdict;
use crate::request::Failure;

/// Why a worker was killed that is deaf.
pub(super) const NOT_READING: &str = "it did not read what it was sent";
/// Why a worker was killed that does not come back from a step.
pub(super) const NOT_CANCELLING: &str = "it did not end a request that was cancelled";
/// Why a worker was killed at the end.
pub(super) const OUT_OF_TIME: &str = "the time for finishing answers is over";

/// For requests that are not answered because the supervisor ends.
pub(super) fn shutting_down() -> Failure {
    failure("the server is shutting down; send the request again in a few seconds")
}

/// For a request whose turn did not come.
pub(super) fn waited_too_long() -> Failure {
    failure("the request waited too long for its turn; send it again when fewer are waiting")
}

/// For requests that waited for an engine that was taken away.
pub(super) fn no_engine() -> Failure {
    failure("the engine was removed; see the status page")
}

/// For requests that the engine took with it.
pub(super) fn died(verdict: Verdict, incident: i64) -> Failure {
    let message = match verdict {
        Verdict::Again { .. } => {
            "the engine stopped before the answer was finished and is being started again; \
             send the request again"
        }
        Verdict::GiveUp { .. } => {
            "the engine stopped and cannot be started again; see the status page"
        }
    };
    Failure { incident: Some(incident), ..failure(message) }
}

/// The incident of a worker's death.
pub(super) fn death(
    death: &Death,
    ready_for: Option<Duration>,
    running: usize,
    verdict: Verdict,
) -> Happened {
    let refused = death.cause.is_refusal();
    let (done, advice) = match verdict {
        Verdict::Again { after, .. } if after.is_zero() => {
            ("it is started again at once".to_owned(), "none, unless it happens again")
        }
        Verdict::Again { after, .. } => (
            format!("it is started again in {} s", after.as_secs()),
            "look at its last lines; if it goes on, build the engine again",
        ),
        Verdict::GiveUp { .. } if death.is_stuck() => (
            "it is not started again while the old process holds its memory".to_owned(),
            "restart the machine",
        ),
        Verdict::GiveUp { tries } => (
            format!("after {tries} tries it is not started again"),
            "build the engine again with engine-builder; it is then started by itself",
        ),
    };
    Happened {
        kind: if refused { "engine_load_failed" } else { "engine_died" },
        problem: match (refused, running) {
            (true, _) => "the engine could not be loaded".to_owned(),
            (false, 0) => "the engine stopped".to_owned(),
            (false, 1) => "the engine stopped while it ran a request".to_owned(),
            (false, many) => format!("the engine stopped while it ran {many} requests"),
        },
        cause: death.to_string(),
        evidence: serde_json::json!({
            "ready_s": ready_for.map(|time| time.as_secs()),
            "running": running,
            "last_lines": death.exit.as_ref().map(|exit| &exit.lines),
        }),
        done,
        advice: advice.to_owned(),
    }
}

fn failure(message: &str) -> Failure {
    Failure { message: message.to_owned(), incident: None }
}

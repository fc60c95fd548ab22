//! Where the engine is in its life. Only the main loop has one.

use std::time::Instant;

use engine_api::protocol::Ready;

use super::handle::Access;
use crate::engines::connection::Connection;
use crate::engines::{LifeId, Worker};
use crate::snapshot::EngineState;

/// ```text
///           ┌───────── engine built ────────┐
///  Absent ──┘                               ▼
///                 ┌──────────────────── Alive ◄────── time ──────┐
///                 │ died too often        │ died                 │
///                 ▼                       └──────────────► Waiting
///               Failed                                (ended: Ended)
/// ```
#[derive(Debug)]
pub(super) enum Lifecycle {
    /// There is no engine to run.
    Absent { reason: String },
    /// A worker process runs.
    Alive(Alive),
    /// The worker died; another is started at `until`.
    Waiting { until: Instant, attempt: u32, reason: String },
    /// Safe mode: everything is served but answers, until somebody acts, or
    /// until it is tried again.
    Failed { reason: String, retry: Option<Instant> },
    /// Nothing runs and nothing will.
    Ended,
}

#[derive(Debug)]
pub(super) struct Alive {
    pub(super) life: LifeId,
    pub(super) worker: Worker,
    pub(super) pid: Option<u32>,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    Starting,
    Loading { fraction: f32 },
    Ready { since: Instant, ready: Box<Ready>, connection: Connection },
}

impl Lifecycle {
    /// The connection to a worker that takes requests.
    pub(super) fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Alive(Alive { stage: Stage::Ready { connection, .. }, .. }) => Some(connection),
            _ => None,
        }
    }

    pub(super) fn ready(&self) -> Option<&Ready> {
        match self {
            Self::Alive(Alive { stage: Stage::Ready { ready, .. }, .. }) => Some(ready),
            _ => None,
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Alive(alive) => alive.pid,
            _ => None,
        }
    }

    /// The worker with this id, if it is the one that lives.
    pub(super) fn alive(&mut self, life: LifeId) -> Option<&mut Alive> {
        match self {
            Self::Alive(alive) if alive.life == life => Some(alive),
            _ => None,
        }
    }

    /// Why no request can be taken, now or soon.
    pub(super) fn hopeless(&self) -> Option<&str> {
        match self {
            Self::Absent { reason } | Self::Failed { reason, .. } => Some(reason),
            _ => None,
        }
    }

    pub(super) fn state(&self, now: Instant) -> EngineState {
        match self {
            Self::Absent { reason } => EngineState::Absent { reason: reason.clone() },
            Self::Alive(alive) => match alive.stage {
                Stage::Starting => EngineState::Starting,
                Stage::Loading { fraction } => EngineState::Loading { fraction },
                Stage::Ready { .. } => EngineState::Ready,
            },
            Self::Waiting { until, attempt, reason } => {
                let wait = until.saturating_duration_since(now).as_millis();
                EngineState::Restarting {
                    attempt: *attempt,
                    in_ms: u64::try_from(wait).unwrap_or(u64::MAX),
                    reason: reason.clone(),
                }
            }
            Self::Failed { reason, .. } => EngineState::Failed { reason: reason.clone() },
            Self::Ended => EngineState::Draining,
        }
    }

    pub(super) fn access(&self) -> Access {
        let soon = |reason: &str| Access::Soon { reason: reason.to_owned() };
        match self {
            Self::Absent { reason } | Self::Failed { reason, .. } => {
                Access::Never { reason: reason.clone() }
            }
            Self::Alive(Alive { life, stage, .. }) => match stage {
                Stage::Starting | Stage::Loading { .. } => soon("the engine is loading"),
                Stage::Ready { ready, connection, .. } => Access::Ready {
                    life: *life,
                    connection: connection.clone(),
                    context: ready.context,
                },
            },
            Self::Waiting { .. } => soon("the engine is being started again"),
            Self::Ended => Access::Draining,
        }
    }
}

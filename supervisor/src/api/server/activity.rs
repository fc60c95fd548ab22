//! What a connection is doing, shared by the ends that know: the socket sees
//! bytes come and writes get stuck, the service sees requests begin and their
//! answers be sent, and the connection decides how long silence is allowed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::api::reply::Reply;

/// Who waits for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client may send a request, or not.
    Idle,
    /// A part of a request's head has come.
    Head,
    /// The request is with the service, or its answer on the way.
    Busy,
}

/// The phase, and a count that tells one stretch of it from the next.
#[derive(Debug, Default)]
pub(super) struct Activity(AtomicU32);

/// One stretch of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch(u32);

const PHASE: u32 = 0b011;
const IDLE: u32 = 0;
const HEAD: u32 = 1;
const BUSY: u32 = 2;
/// Bytes of an answer wait for the client to take some.
const STUCK: u32 = 0b100;
/// One stretch more.
const COUNT: u32 = 0b1000;

impl Stretch {
    pub(super) fn phase(self) -> Phase {
        match self.0 & (PHASE | STUCK) {
            IDLE => Phase::Idle,
            HEAD => Phase::Head,
            _ => Phase::Busy,
        }
    }
}

/// All ends live in one task, so nothing comes between a load and its store.
impl Activity {
    pub(super) fn now(&self) -> Stretch {
        Stretch(self.0.load(Ordering::Relaxed))
    }

    /// Bytes came in. A head begins with the first of them.
    pub(super) fn bytes_came(&self) {
        if self.now().phase() == Phase::Idle {
            self.enter(HEAD);
        }
    }

    /// A request is with the service until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.enter(BUSY);
        Busy(Arc::clone(self))
    }

    /// Whether a write waits for the client.
    pub(super) fn stuck(&self, stuck: bool) {
        let Stretch(now) = self.now();
        self.0.store(if stuck { now | STUCK } else { now & !STUCK }, Ordering::Relaxed);
    }

    fn enter(&self, phase: u32) {
        let Stretch(now) = self.now();
        self.0.store((now & !PHASE).wrapping_add(COUNT) | phase, Ordering::Relaxed);
    }
}

/// Keeps a connection busy.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

impl Busy {
    /// Until the body has been handed over, too.
    pub(super) fn until_sent(self, body: Reply) -> Sending {
        Sending { body, _busy: self }
    }
}

/// A body on the way.
pub(super) struct Sending {
    body: Reply,
    _busy: Busy,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_idle_to_idle() {
        let activity = Arc::new(Activity::default());
        let first = activity.now();
        assert_eq!(first.phase(), Phase::Idle);
        activity.bytes_came();
        let head = activity.now();
        assert_eq!(head.phase(), Phase::Head);
        activity.bytes_came();
        assert_eq!(activity.now(), head, "more of the same head");
        let busy = activity.begin();
        activity.bytes_came();
        assert_eq!(activity.now().phase(), Phase::Busy);
        activity.stuck(true);
        drop(busy);
        assert_eq!(activity.now().phase(), Phase::Busy, "the client has not taken it all");
        activity.stuck(false);
        assert_eq!(activity.now().phase(), Phase::Idle);
        assert_ne!(activity.now(), first, "another stretch of it");
    }
}

//! A timer that costs nothing until it is first needed.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Not set, or set to ring at some time.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    set: bool,
}

impl Alarm {
    pub(super) fn is_set(&self) -> bool {
        self.set
    }

    pub(super) fn set(&mut self, after: Duration) {
        self.set = true;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(Instant::now() + after),
            None => self.sleep = Some(Box::pin(sleep(after))),
        }
    }

    pub(super) fn clear(&mut self) {
        self.set = false;
    }

    /// Ready once it rings; never if it is not set.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) if self.set => sleep.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}

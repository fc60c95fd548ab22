//! The order in which things end after a signal.
//!
//! ```text
//!  alone:       signal ─► answers finish, newcomers get 503 ─► worker ends ─► HTTP ends
//!  with keeper: signal ─► newcomers wait in the socket ─► those who are connected
//!               are served ─► HTTP ends ─► worker is left
//! ```
//!
//! Where systemd keeps our descriptors another supervisor comes, and those who
//! connect meanwhile are its clients. Either way there is a bound, and a second
//! signal skips the waiting.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::supervisor::{Handle, Haste};
use crate::systemd;
use crate::systemd::keeper::Keeper;

/// What has ended so far.
#[derive(Debug, Clone)]
pub struct Ending {
    handle: Handle,
    keeper: Keeper,
    /// How long those who are connected may take.
    patience: Duration,
    /// No more connections are taken.
    closed: watch::Sender<bool>,
    /// Every connection has ended.
    served: watch::Sender<bool>,
}

impl Ending {
    #[must_use]
    pub fn new(handle: Handle, keeper: Keeper, patience: Duration) -> Self {
        let (closed, served) = (watch::Sender::new(false), watch::Sender::new(false));
        Self { handle, keeper, patience, closed, served }
    }

    /// Resolves when no more connections are to be taken.
    pub fn closed(&self) -> impl Future<Output = ()> + use<> {
        is_true(self.closed.subscribe())
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// The HTTP side, whose end is noted.
    pub fn until_served<F: Future<Output = ()>>(
        &self,
        http: F,
    ) -> impl Future<Output = ()> + use<F> {
        let served = self.served.clone();
        async move {
            http.await;
            served.send_replace(true);
        }
    }

    /// Follows the signals. The future resolves after the second.
    ///
    /// # Errors
    /// The system does not let us listen for them.
    pub fn heed_signals(&self) -> io::Result<impl Future<Output = ()> + use<>> {
        let mut signals = Signals::listen()?;
        let ending = self.clone();
        Ok(async move {
            signals.next().await;
            if ending.keeper.keeps() {
                ending.close();
            }
            systemd::stopping();
            tokio::select! {
                () = ending.finish_answers() => signals.next().await,
                () = signals.next() => {}
            }
            ending.handle.shut_down(Haste::Now).await;
        })
    }

    async fn finish_answers(&self) {
        if !self.keeper.keeps() {
            return self.handle.shut_down(Haste::Drain).await;
        }
        let served = timeout(self.patience, is_true(self.served.subscribe())).await;
        let haste = if served.is_ok() { Haste::Drain } else { Haste::Now };
        self.handle.shut_down(haste).await;
    }
}

async fn is_true(mut state: watch::Receiver<bool>) {
    // If nobody can say so any more, nobody waits for it.
    let _ = state.wait_for(|state| *state).await;
}

/// The signals that ask us to end.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

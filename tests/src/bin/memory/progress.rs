//! Says now and then how far something long is, and how long the rest may take.

use std::time::{Duration, Instant};

use tests::spoken::time_left;

/// Between two lines; what takes less says nothing.
const PERIOD: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    what: &'static str,
    all: usize,
    done: usize,
    began: Instant,
    said: Instant,
}

impl Progress {
    pub(crate) fn new(what: &'static str, all: usize) -> Self {
        let now = Instant::now();
        Self { what, all, done: 0, began: now, said: now }
    }

    /// So many more are done.
    pub(crate) fn more(&mut self, more: usize) {
        self.done += more;
        if self.said.elapsed() < PERIOD {
            return;
        }
        self.said = Instant::now();
        let (done, all) = (self.done.max(1), self.all);
        #[expect(clippy::cast_precision_loss, reason = "some million")]
        let share = all.saturating_sub(done) as f64 / done as f64;
        let left = time_left(self.began.elapsed().mul_f64(share));
        eprintln!("{}: {done} of {all}, {left} left", self.what);
    }
}

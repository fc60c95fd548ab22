//! Gives every text that has no vector to the embedder, one after the other, while
//! nobody else wants anything.
//!
//! ```text
//!  index thread ── texts ──► here ── one text ──► embedder
//!       ▲                     │ waits: answers, others' vectors, heat
//!       └───── vectors ───────┘ some at a time
//! ```
//!
//! What is made and not yet written is lost with the process; the next one makes it
//! again. An embedder that is not there or fails costs nothing but the meaning: words
//! find everything meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use vector_scan::Row;

use super::embedder::{Embedder, NotMade};
use super::progress::{Doing, Vectors};
use super::{Index, Order, OrderError, words};
use crate::store::code::{Embedded, Maker, Standing, Unembedded};

/// How often it is looked whether there is something to do.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is looked whether others are still busy.
const YIELD: Duration = Duration::from_millis(100);
/// After others were busy, they often soon are again.
const QUIET: Duration = Duration::from_secs(1);
/// Texts that are written at one time. Each time costs some pages, and a lost one
/// the work on so many texts.
const WRITTEN: usize = 16;
/// Wait before an embedder that failed is asked again.
const RETRY: Duration = Duration::from_secs(30);
/// Texts in a row after which it is not a text's fault.
const FAILURES: usize = 3;

/// Of what embedders read of a text: vectors of another are made anew.
pub(crate) const SAID: u32 = 1;

/// Runs as long as the index does.
pub(super) async fn run(
    index: Index,
    embedder: Arc<dyn Embedder>,
    showing: watch::Sender<Vectors>,
) {
    let mut work = Work { index, embedder, showing, futile: 0 };
    while !work.index.is_over() {
        match work.once().await {
            Ok(true) => {}
            Ok(false) => work.wait_for_texts().await,
            Err(reason) => {
                work.show(|vectors| vectors.doing = Doing::Resting(reason));
                sleep(RETRY).await;
            }
        }
    }
}

struct Work {
    index: Index,
    embedder: Arc<dyn Embedder>,
    showing: watch::Sender<Vectors>,
    /// Times in a row that the last texts failed and no other could be asked about.
    futile: usize,
}

impl Work {
    /// Makes some vectors; whether there was something to make.
    async fn once(&mut self) -> Result<bool, String> {
        let maker = match self.embedder.maker() {
            Ok(maker) => maker,
            Err(reason) => {
                let standing = self.order(Order::Standing).await?;
                self.embedder.searched_are(standing.serving.as_ref());
                self.show(|vectors| vectors.is_by_nobody(standing, reason));
                return Ok(false);
            }
        };
        let standing = self.settle(&maker).await?;
        let left = standing.coverage.left;
        self.embedder.searched_are(standing.serving.as_ref());
        self.show(|vectors| vectors.is_by(&maker, standing));
        // From here on nobody begins a search in those.
        while self.order(Order::DeleteOldVectors).await? {
            self.wait_for_others().await;
        }
        if left == 0 {
            self.show(|vectors| vectors.doing = Doing::Nothing);
            return Ok(false);
        }
        let texts = self.texts().await?;
        let mut made = Vec::new();
        let mut failed = Vec::new();
        for text in texts {
            self.wait_for_others().await;
            let began = Instant::now();
            let row = match self.embedder.of_text(text.said(), maker.clone()).await {
                Ok(values) => Some(Row::new(&values)),
                // Another one has begun, which the next turn sees.
                Err(NotMade::Replaced) => break,
                Err(NotMade::Text(_)) => Some(None),
                Err(NotMade::Failed(reason)) if failed.len() + 1 < FAILURES => {
                    tracing::debug!(reason, "a text got no vector");
                    None
                }
                Err(error) => {
                    self.write(&maker, &made).await?;
                    return Err(error.to_string());
                }
            };
            match row {
                // It was the texts before this one that could not be used.
                Some(row) => {
                    made.append(&mut failed);
                    made.push(text.with(row));
                }
                None => failed.push(text.with(None)),
            }
            self.show(|vectors| vectors.made_one_in(began.elapsed()));
        }
        if made.is_empty() && !failed.is_empty() {
            // There are no others to tell by whether it is their fault.
            self.futile += 1;
            if self.futile < FAILURES {
                return Err("the embedder failed at the last texts".to_owned());
            }
            made.append(&mut failed);
        }
        self.futile = 0;
        self.write(&maker, &made).await?;
        Ok(true)
    }

    async fn settle(&self, maker: &Maker) -> Result<Standing, String> {
        self.order(|reply| Order::MadeBy(maker.clone(), reply)).await
    }

    async fn texts(&self) -> Result<Vec<Unembedded>, String> {
        self.order(|reply| Order::Unembedded(WRITTEN, reply)).await
    }

    async fn write(&self, maker: &Maker, made: &[Embedded]) -> Result<(), String> {
        if made.is_empty() {
            return Ok(());
        }
        let identity = maker.identity;
        let standing =
            self.order(|reply| Order::Embedded { identity, made: made.to_vec(), reply }).await?;
        self.embedder.searched_are(standing.serving.as_ref());
        self.show(|vectors| vectors.is_by(maker, standing));
        Ok(())
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, OrderError>>) -> Order,
    ) -> Result<T, String> {
        self.index.order(order).await.map_err(|error| error.to_string())
    }

    /// Until an answer, other people's vectors and the board leave room.
    async fn wait_for_others(&self) {
        let mut waited = false;
        loop {
            let doing = match self.index.held() {
                Some(reason) => Doing::Held(reason),
                None if self.embedder.has_other_work() => Doing::Yielding,
                None => break,
            };
            waited = true;
            self.show(|vectors| vectors.doing = doing);
            sleep(YIELD).await;
        }
        if waited {
            sleep(QUIET).await;
        }
        self.show(|vectors| vectors.doing = Doing::Embedding);
    }

    /// Until a pass ended, or another embedder may be there.
    async fn wait_for_texts(&self) {
        let mut changes = self.index.changes();
        changes.mark_unchanged();
        // It ends when there is no index any more, and the loop sees that.
        let _ = tokio::time::timeout(LOOK, changes.changed()).await;
    }

    fn show(&self, change: impl FnOnce(&mut Vectors)) {
        self.showing.send_modify(change);
    }
}

impl Unembedded {
    /// What the embedder reads: a text says more with what it is in, and most with that in
    /// words: of `setSpeed` a vocabulary of prose makes syllables. Whoever changes this
    /// counts [`SAID`] up.
    fn said(&self) -> String {
        match words::parts(&self.place).join(" ").as_str() {
            "" => self.body.clone(),
            place => format!("{place}\n{}", self.body),
        }
    }

    fn with(self, row: Option<Row>) -> Embedded {
        Embedded { text: self.text, hash: self.hash, row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedder_reads_what_a_text_is_in_as_words() {
        let said = |place: &str| {
            let (place, body) = (place.to_owned(), "fn setSpeed() {}".to_owned());
            Unembedded { text: 1, hash: [0; 32], place, body }.said()
        };
        assert_eq!(said("FanControl > set_speed"), "fan control set speed\nfn setSpeed() {}");
        assert_eq!(said(""), "fn setSpeed() {}");
    }
}

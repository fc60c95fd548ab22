//! How long streams stood still because something took their engine away, and
//! what the time went into. Pure.

use std::time::{Duration, Instant};

use crate::plan::Fault;
use crate::timeline::{Mark, Recovery};

/// A streamed answer as its client saw it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    pub(crate) pieces: Vec<Instant>,
    pub(crate) prompt_tokens: u64,
    /// Its gaps say something of the server: it read at once, to the end.
    pub(crate) counts: bool,
}

/// A fault that was done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) fault: Fault,
    pub(crate) at: Instant,
}

/// One stream's standstill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pause {
    pub(crate) fault: Fault,
    /// Its longest gap while the engine was gone, less its usual one.
    pub(crate) time: Duration,
    /// From the engine's readiness to the next piece.
    pub(crate) prefill: Duration,
    /// Tokens, of all streams, that the new engine had to be sent.
    pub(crate) sent_tokens: u64,
}

impl Stream {
    fn is_under_way(&self, at: Instant) -> bool {
        self.sent <= at && at < self.ended
    }

    /// Between a piece and the next.
    fn gaps(&self) -> impl Iterator<Item = (Instant, Instant)> {
        self.pieces.windows(2).map(|pair| (pair[0], pair[1]))
    }

    fn usual_gap(&self) -> Duration {
        let mut gaps: Vec<_> = self.gaps().map(|(from, to)| to - from).collect();
        gaps.sort();
        gaps.get(gaps.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }

    /// Tokens that it needs computed at this moment, each piece taken for one.
    fn tokens(&self, at: Instant) -> u64 {
        let pieces = self.pieces.iter().filter(|piece| **piece < at).count();
        self.prompt_tokens + pieces as u64
    }
}

/// The recoveries from faults that took the worker.
pub(crate) fn recoveries(faults: &[Done], marks: &[Mark]) -> Vec<(Fault, Recovery)> {
    let recovery = |(number, done): (usize, &Done)| {
        let far = done.at + Duration::from_secs(3600);
        let until = faults.get(number + 1).map_or(far, |next| next.at);
        Some((done.fault, Recovery::between(done.at, until, marks)?))
    };
    let taken = faults.iter().enumerate().filter(|(_, done)| done.fault.takes_worker());
    taken.filter_map(recovery).collect()
}

/// The pause of each stream that had begun to come when the fault came, and
/// that came to an end.
pub(crate) fn pauses(streams: &[Stream], recoveries: &[(Fault, Recovery)]) -> Vec<Pause> {
    let of_recovery = |(fault, recovery): &(Fault, Recovery)| {
        let under_way = || streams.iter().filter(|stream| stream.is_under_way(recovery.from));
        let sent_tokens = under_way().map(|stream| stream.tokens(recovery.from)).sum();
        let counting = under_way().filter(|stream| stream.counts);
        let pauses = counting.filter_map(|stream| {
            let is_touched =
                |gap: &(Instant, Instant)| gap.0 < recovery.ready && gap.1 > recovery.from;
            let begun = stream.pieces.first().is_some_and(|first| *first <= recovery.from);
            let (from, to) = stream
                .gaps()
                .filter(|_| begun)
                .filter(is_touched)
                .max_by_key(|gap| gap.1 - gap.0)?;
            Some(Pause {
                fault: *fault,
                time: (to - from).saturating_sub(stream.usual_gap()),
                prefill: to.saturating_duration_since(recovery.ready),
                sent_tokens,
            })
        });
        pauses.collect::<Vec<_>>()
    };
    recoveries.iter().flat_map(of_recovery).collect()
}

/// Every gap of the streams that no recovery touches: what is usual while the
/// server is busy.
pub(crate) fn usual_gaps(streams: &[Stream], recoveries: &[(Fault, Recovery)]) -> Vec<f64> {
    let touched = |gap: &(Instant, Instant)| {
        recoveries.iter().any(|(_, recovery)| gap.0 < recovery.ready && gap.1 > recovery.from)
    };
    let gaps = streams.iter().filter(|stream| stream.counts).flat_map(Stream::gaps);
    gaps.filter(|gap| !touched(gap)).map(|(from, to)| (to - from).as_secs_f64()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(start: Instant, pieces_ms: &[u64], ended_ms: u64) -> Stream {
        let at = |ms: &u64| start + Duration::from_millis(*ms);
        Stream {
            sent: start,
            ended: at(&ended_ms),
            pieces: pieces_ms.iter().map(at).collect(),
            prompt_tokens: 100,
            counts: true,
        }
    }

    fn recovery(start: Instant, [from, noticed, started, ready]: [u64; 4]) -> (Fault, Recovery) {
        let at = |ms| start + Duration::from_millis(ms);
        let (from, noticed) = (at(from), at(noticed));
        let (started, ready) = (at(started), at(ready));
        (Fault::Kill, Recovery { from, noticed, started, ready, step: None })
    }

    #[test]
    fn a_pause_is_the_gap_over_the_fault_less_the_usual_one() {
        let start = Instant::now();
        let streams = [
            stream(start, &[100, 200, 300, 2300, 2400], 2500),
            // It had not begun to come, so there was nothing to stand still.
            stream(start, &[2350, 2450], 2500),
            // It was over already.
            stream(start, &[100, 200], 250),
        ];
        let recoveries = [recovery(start, [350, 400, 500, 2000])];
        let pauses = pauses(&streams, &recoveries);
        assert_eq!(pauses.len(), 1);
        assert_eq!(pauses[0].time.as_millis(), 1900);
        assert_eq!(pauses[0].prefill.as_millis(), 300);
        assert_eq!(pauses[0].sent_tokens, 103 + 100);
        let usual = usual_gaps(&streams, &recoveries);
        assert_eq!(usual.len(), 5, "{usual:?}");
    }

    #[test]
    fn a_piece_that_was_on_its_way_does_not_hide_the_pause() {
        let start = Instant::now();
        let streams = [stream(start, &[100, 200, 360, 2300, 2400], 2500)];
        let pauses = pauses(&streams, &[recovery(start, [350, 400, 500, 2000])]);
        assert_eq!(pauses[0].time.as_millis(), 1940 - 100);
    }

    #[test]
    fn a_stream_that_never_went_on_has_no_pause() {
        let start = Instant::now();
        let streams = [stream(start, &[100, 200], 400)];
        assert!(pauses(&streams, &[recovery(start, [350, 400, 500, 2000])]).is_empty());
    }
}

//! Whether over-current events cost speed.
//!
//! A board in its highest power mode counts several events each second and
//! loses one part in a hundred; that is how it works. Only where steps have
//! become markedly slower than the same steps were, while events are counted,
//! a lower clock gives more than the events take.

use std::time::{Duration, Instant};

use super::facts::Work;

/// Over how long events are averaged, in seconds: the counters show them in bursts,
/// which may come more seldom than readings.
const AVERAGE: f64 = 5.0;
/// Events each second below which they cost nothing.
const NOTICED: f64 = 1.0;
/// A step that is slower than it was by this share.
const LOST: f64 = 0.12;
/// For how long, before something is done.
const SUSTAINED: Duration = Duration::from_secs(20);
/// How long the lower notch is kept before full speed is tried again.
const KEPT: Duration = Duration::from_secs(300);
/// Batch sizes that are told apart: up to 1, 2, 4, 8, 16 and above.
const SIZES: usize = 6;

#[derive(Debug, Clone, Default)]
pub(super) struct OverCurrent {
    /// The usual time of a step, in seconds, for each size of the batch, at the
    /// present notch, when no events were counted.
    usual: [Option<f64>; SIZES],
    /// Events each second on average, and when that was last told.
    rate: f64,
    told: Option<Instant>,
    slow_since: Option<Instant>,
    /// Notch that is kept, and until when.
    kept: Option<(usize, Instant)>,
    /// Events each second and share of the speed that was lost, when last seen.
    pub(super) seen: (f64, f64),
}

impl OverCurrent {
    /// The notch at which the engine must be, if any.
    pub(super) fn observe(
        &mut self,
        per_s: Option<f64>,
        work: &Work,
        notch: usize,
        now: Instant,
    ) -> Option<usize> {
        let per_s = self.averaged(per_s.unwrap_or(0.0), now);
        let lost = self.lost(per_s, work);
        // A step with a prompt in it says neither.
        if per_s < NOTICED || lost.is_some_and(|lost| lost < LOST) {
            self.slow_since = None;
        } else if let Some(lost) = lost {
            self.seen = (per_s, lost);
            let since = *self.slow_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= SUSTAINED {
                self.slow_since = None;
                self.kept = Some((notch + 2, now + KEPT));
            }
        }
        self.kept = self.kept.filter(|(_, until)| *until > now);
        self.kept.map(|(notch, _)| notch)
    }

    /// At another notch, steps take another time.
    pub(super) fn moved(&mut self) {
        self.usual = [None; SIZES];
        self.slow_since = None;
    }

    fn averaged(&mut self, per_s: f64, now: Instant) -> f64 {
        let passed = self.told.replace(now).map(|told| now.saturating_duration_since(told));
        let seconds = passed.map_or(0.0, |passed| passed.as_secs_f64());
        self.rate += (per_s - self.rate) * (1.0 - (-seconds / AVERAGE).exp());
        self.rate
    }

    /// The share of its usual speed that the present step lacks. Steps without
    /// events, and without prompts in them, say what is usual.
    fn lost(&mut self, per_s: f64, work: &Work) -> Option<f64> {
        let step = work.step.filter(|_| work.decoding > 0 && work.prefilling == 0)?.as_secs_f64();
        let size = work.decoding.next_power_of_two().trailing_zeros() as usize;
        let usual = &mut self.usual[size.min(SIZES - 1)];
        if per_s < NOTICED {
            *usual = Some(usual.map_or(step, |usual| usual + (step - usual) * 0.1));
        }
        usual.map(|usual| 1.0 - usual / step.max(1e-6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(step_ms: u64) -> Work {
        let step = Some(Duration::from_millis(step_ms));
        Work { decoding: 4, step, ..Work::default() }
    }

    #[test]
    fn prompts_between_slow_steps_do_not_hide_them() {
        let (start, mut guard) = (Instant::now(), OverCurrent::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let prompt = Work { prefilling: 1, ..work(90) };
        for second in 0..30 {
            assert_eq!(guard.observe(Some(0.0), &work(50), 0, at(second)), None);
        }
        let seen: Vec<_> = (30..80)
            .map(|second| {
                let work = if second % 5 == 0 { prompt } else { work(70) };
                guard.observe(Some(20.0), &work, 0, at(second))
            })
            .collect();
        assert!(seen.contains(&Some(2)), "{guard:?}");
    }

    #[test]
    fn events_that_are_counted_in_bursts_are_events_all_the_time() {
        let (start, mut guard) = (Instant::now(), OverCurrent::default());
        let at = |tick: u64| start + Duration::from_millis(200 * tick);
        for tick in 0..150 {
            assert_eq!(guard.observe(Some(0.0), &work(50), 0, at(tick)), None);
        }
        let burst = |tick: u64| Some(if tick.is_multiple_of(10) { 100.0 } else { 0.0 });
        let seen: Vec<_> =
            (150..300).map(|tick| guard.observe(burst(tick), &work(70), 0, at(tick))).collect();
        assert!(seen.contains(&Some(2)), "{guard:?}");
    }

    #[test]
    fn events_alone_change_nothing_and_lost_speed_does() {
        let (start, mut guard) = (Instant::now(), OverCurrent::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..30 {
            assert_eq!(guard.observe(Some(0.0), &work(50), 0, at(second)), None);
        }
        for second in 30..90 {
            assert_eq!(guard.observe(Some(20.0), &work(50), 0, at(second)), None, "as fast");
            assert_eq!(guard.observe(Some(0.0), &work(50), 0, at(second)), None, "no events");
        }
        let slow: Vec<_> =
            (90..120).map(|second| guard.observe(Some(20.0), &work(70), 0, at(second))).collect();
        assert_eq!((slow[0], slow[19], slow[20]), (None, None, Some(2)));
        assert_eq!(guard.observe(Some(0.0), &work(50), 2, at(200)), Some(2), "kept for a while");
        assert_eq!(guard.observe(Some(0.0), &work(50), 2, at(500)), None);
    }
}

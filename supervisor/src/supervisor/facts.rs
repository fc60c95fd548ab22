//! From a reading and a heartbeat to what the governor is told.

use std::time::{Duration, Instant};

use engine_api::manifest::Manifest;
use engine_api::protocol::{Heartbeat, Limits};
use jetpack::{Bytes, Sample, Source};

use crate::governor::{Alone, Clock, Facts, Heat, Kv, Memory, Power, Work};

/// What must be remembered from one sample to the next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before {
    /// Over-current events since boot, and when that was read.
    events: Option<(u64, Instant)>,
    /// Events each second between the last two samples.
    rate: Option<f64>,
}

impl Before {
    pub(super) fn observe(&mut self, sample: &Sample) {
        let now = sample.throttle.over_current_events().map(|events| (events, sample.taken));
        self.rate = match (self.events, now) {
            (Some((before, then)), Some((events, taken))) if taken > then => {
                let seconds = taken.duration_since(then).as_secs_f64();
                Some(events.saturating_sub(before) as f64 / seconds)
            }
            _ => None,
        };
        self.events = now;
    }
}

/// What is known of the engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engine<'a> {
    pub(super) bounds: Limits,
    /// The most prompt tokens at once, where that is better than the usual part.
    pub(super) largest_part: u16,
    pub(super) manifest: Option<&'a Manifest>,
    pub(super) heartbeat: Option<&'a Heartbeat>,
    /// Requests that wait for their turn.
    pub(super) waiting: usize,
}

/// All that is known. `clock` is there only where it may be capped.
pub(super) fn facts(
    engine: Engine<'_>,
    sample: &Sample,
    before: Before,
    clock: Option<Clock>,
) -> Facts {
    Facts {
        governed: sample.board.is_tegra(),
        heat: heat(sample),
        power: sample.power_watts.map(|watts| Power { watts, at: sample.taken }),
        throttled: sample.throttle.alerts().chain(sample.throttle.clocks_held_down()).count() > 0,
        over_current: before.rate,
        clock,
        memory: sample.memory.as_ref().filter(|memory| memory.unified).map(|memory| Memory {
            total: memory.total_bytes,
            available: memory.available_bytes,
            at: sample.taken,
        }),
        largest_part: engine.largest_part,
        work: work(engine),
        ..Facts::unknown(engine.bounds)
    }
}

/// The kernel's zone that is nearest to slowing the board down.
fn heat(sample: &Sample) -> Option<Heat> {
    let kernel = sample.zones.iter().filter(|zone| zone.source == Source::Thermal);
    let known = kernel.filter_map(|zone| {
        let (celsius, limit) = (zone.celsius?, zone.limit_celsius?);
        Some(Heat { zone: zone.name.clone(), celsius, limit, at: sample.taken })
    });
    let left = |heat: &Heat| heat.limit.degrees() - heat.celsius.degrees();
    known.min_by(|a, b| left(a).total_cmp(&left(b)))
}

fn work(engine: Engine<'_>) -> Work {
    let alone = engine.manifest.and_then(|manifest| manifest.smoke.as_ref()).and_then(|smoke| {
        let each = |per_s: f64| Duration::try_from_secs_f64(1.0 / per_s).ok();
        let (decode_step, prompt_token) =
            (each(smoke.decode_tokens_per_s)?, each(smoke.prefill_tokens_per_s)?);
        Some(Alone { decode_step, prompt_token })
    });
    let waiting = u32::try_from(engine.waiting).unwrap_or(u32::MAX);
    let Some(beat) = engine.heartbeat else {
        return Work { alone, waiting, ..Work::default() };
    };
    // A runtime that does not tell what it keeps has taken the whole cache at its start.
    let kept = beat.kv.cached_tokens.filter(|_| beat.kv.capacity_tokens > 0 && beat.kv.bytes > 0);
    let kv = kept.map(|kept| Kv {
        held: beat.kv.active_tokens + kept,
        capacity: beat.kv.capacity_tokens,
        bytes: Bytes::new(beat.kv.bytes),
    });
    Work {
        waiting,
        decoding: beat.decoding,
        prefilling: beat.prefilling,
        decoded: beat.decode_tokens,
        prefilled: beat.prefill_tokens,
        step: (beat.step_us > 0).then(|| Duration::from_micros(beat.step_us)),
        alone,
        kv,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetpack::{Celsius, Machine, Root};

    const BOUNDS: Limits = Limits { max_sequences: 4, max_batch_tokens: 64, pace_us: 0 };

    fn of(sample: &Sample) -> Facts {
        let engine = Engine {
            bounds: BOUNDS,
            largest_part: 64,
            manifest: None,
            heartbeat: None,
            waiting: 0,
        };
        facts(engine, sample, Before::default(), None)
    }

    #[test]
    fn a_machine_of_which_nothing_is_known_is_not_governed() {
        let dir = tempfile::tempdir().unwrap();
        let sample = Machine::open(Root::new(dir.path())).sample();
        assert_eq!(of(&sample), Facts::unknown(BOUNDS));
    }

    #[test]
    fn the_zone_nearest_to_its_limit_counts_and_not_the_hottest() {
        let dir = tempfile::tempdir().unwrap();
        let mut sample = Machine::open(Root::new(dir.path())).sample();
        let zone = |name: &str, degrees, limit: Option<i32>, source| jetpack::Zone {
            name: name.to_owned(),
            source,
            celsius: Some(Celsius::from_millidegrees(degrees)),
            absent: None,
            limit_celsius: limit.map(Celsius::from_millidegrees),
            critical_celsius: None,
        };
        sample.zones = vec![
            zone("soc0-thermal", 70_000, Some(75_000), Source::Thermal),
            zone("tj-thermal", 80_000, Some(99_000), Source::Thermal),
            zone("tboard-thermal", 90_000, None, Source::Thermal),
            zone("nvme", 81_000, Some(82_000), Source::Hwmon),
        ];
        assert_eq!(of(&sample).heat.unwrap().zone, "soc0-thermal");
    }
}

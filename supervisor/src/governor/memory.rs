//! Whether the board has memory for more requests.
//!
//! On a Jetson the KV cache, the weights and every other program share one
//! memory, and whoever the kernel then kills is not ours to choose. So some of
//! it is kept back. An engine that allocates its cache when it loads takes no
//! more as the cache fills; one that does not, does. Which one this is shows.

use std::time::Duration;

use jetpack::Bytes;

use super::facts::{Kv, Memory};

const MIB: u64 = 1024 * 1024;
/// Kept back: one part in so many, and within these bounds.
const KEPT_SHARE: u64 = 32;
const KEPT: std::ops::RangeInclusive<u64> = 256 * MIB..=1024 * MIB;
/// Memory that must be free beyond that before a refusal or a wait ends.
const SLACK: u64 = 64 * MIB;
/// Cache that must have filled before its growth can be judged.
const JUDGED_BY: u64 = 64 * MIB;
/// A cache is compared with a reading of the memory that is so much younger: what
/// the engine tells of its cache comes sooner than what the kernel tells of memory,
/// and a cache that was taken for allocated would be let grow into nothing.
const SETTLED: Duration = Duration::from_secs(3);
/// When a refused client may try again.
pub const RETRY_AFTER: Duration = Duration::from_secs(15);

/// Who may begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Door {
    #[default]
    Open,
    /// Whoever runs, goes on; the next one begins when somebody has ended.
    Waits { available: Bytes, kept: Bytes },
    /// Nobody may begin, and nobody new may wait.
    Shut { available: Bytes, kept: Bytes },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    door: Door,
    /// The cache and the memory as they stood some seconds ago.
    earlier: Option<(Kv, Memory)>,
    /// The same at one moment, from which on growth is counted.
    mark: Option<(Kv, Memory)>,
    /// The cache was seen to fill without taking memory.
    allocated: bool,
}

impl Guard {
    /// A new engine: nothing is known about its cache.
    pub(super) fn forget(&mut self) {
        *self = Self { door: self.door, ..Self::default() };
    }

    pub(super) fn observe(&mut self, memory: Option<Memory>, kv: Option<Kv>) -> Door {
        let Some(memory) = memory else {
            self.door = Door::Open;
            return self.door;
        };
        if let Some(kv) = kv {
            self.hear(kv, memory);
        }
        let kept = (memory.total.get() / KEPT_SHARE).clamp(*KEPT.start(), *KEPT.end());
        let growth = if self.allocated { 0 } else { kv.map_or(0, Kv::next_growth) };
        let available = memory.available.get();
        let slack = |shut: bool| if shut { SLACK } else { 0 };
        let (was_shut, was_waiting) =
            (matches!(self.door, Door::Shut { .. }), self.door != Door::Open);
        let (available_bytes, kept_bytes) = (memory.available, Bytes::new(kept));
        self.door = if available < kept / 2 + growth + slack(was_shut) {
            Door::Shut { available: available_bytes, kept: kept_bytes }
        } else if available < kept + growth + slack(was_waiting) {
            Door::Waits { available: available_bytes, kept: kept_bytes }
        } else {
            Door::Open
        };
        self.door
    }

    fn hear(&mut self, kv: Kv, memory: Memory) {
        let too_soon =
            |(_, earlier): (Kv, Memory)| memory.at.saturating_duration_since(earlier.at) < SETTLED;
        if self.earlier.is_some_and(too_soon) {
            return;
        }
        if let Some(settled) = self.earlier.replace((kv, memory)) {
            self.compare(settled, memory.available);
        }
    }

    /// Sees whether a fuller cache has taken memory: what it held some seconds ago is
    /// held against what is available now. Where growth is counted from, both are of
    /// one moment; memory that was read later would have grown scarce already.
    fn compare(&mut self, settled: (Kv, Memory), available: Bytes) {
        let (kv, _) = settled;
        let Some((before, was)) = self.mark.filter(|(before, _)| before.held <= kv.held) else {
            self.mark = Some(settled);
            return;
        };
        let filled = kv.bytes_of(kv.held - before.held);
        if filled >= JUDGED_BY {
            let taken = was.available.saturating_sub(available);
            self.allocated = taken.get() < filled / 2;
            self.mark = Some(settled);
        }
    }
}

impl Kv {
    fn bytes_of(self, tokens: u64) -> u64 {
        let bytes = u128::from(self.bytes.get()) * u128::from(tokens);
        u64::try_from(bytes / u128::from(self.capacity.max(1))).unwrap_or(u64::MAX)
    }

    /// What one more request may come to need: an eighth of the cache, or all
    /// that is not filled.
    fn next_growth(self) -> u64 {
        let left = self.capacity.saturating_sub(self.held);
        self.bytes_of(left.min(self.capacity.div_ceil(8)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn memory(available_mib: u64) -> Option<Memory> {
        memory_at(available_mib, Instant::now())
    }

    fn memory_at(available_mib: u64, at: Instant) -> Option<Memory> {
        let available = Bytes::new(available_mib * MIB);
        Some(Memory { total: Bytes::new(7600 * MIB), available, at })
    }

    fn kv(held: u64) -> Option<Kv> {
        Some(Kv { held, capacity: 8192, bytes: Bytes::new(1024 * MIB) })
    }

    fn name(door: Door) -> &'static str {
        match door {
            Door::Open => "open",
            Door::Waits { .. } => "waits",
            Door::Shut { .. } => "shut",
        }
    }

    #[test]
    fn memory_that_runs_out_makes_wait_then_refuses_then_opens_again() {
        let mut guard = Guard::default();
        let door = |available| name(guard.observe(memory(available), None));
        let seen = [3000, 300, 250, 200, 120, 150, 200, 300, 330].map(door);
        let expected = ["open", "open", "waits", "waits", "shut", "shut", "waits", "waits", "open"];
        assert_eq!(seen, expected);
        assert_eq!(Guard::default().observe(None, kv(0)), Door::Open);
    }

    #[test]
    fn a_cache_that_may_still_grow_is_counted() {
        let mut guard = Guard::default();
        assert_eq!(name(guard.observe(memory(350), kv(0))), "waits", "128 MiB may come");
        assert_eq!(name(guard.observe(memory(500), kv(0))), "open");
    }

    /// The door after a cache held nothing, then 1024 tokens, and memory was read
    /// at these seconds.
    fn filled(readings: &[(u64, u64, u64)]) -> &'static str {
        let (start, mut guard) = (Instant::now(), Guard::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let seen = readings.iter().map(|(seconds, held, available_mib)| {
            name(guard.observe(memory_at(*available_mib, at(*seconds)), kv(*held)))
        });
        seen.last().expect("something was read")
    }

    #[test]
    fn a_cache_that_was_allocated_at_once_is_not() {
        let took_nothing = [(0, 0, 350), (4, 1024, 350), (8, 1024, 350), (12, 1024, 350)];
        assert_eq!(filled(&took_nothing), "open", "it filled and took nothing");
        let grew = [(0, 0, 478), (4, 1024, 350), (8, 1024, 350), (12, 1024, 350)];
        assert_eq!(filled(&grew), "waits");
    }

    #[test]
    fn a_cache_that_grows_while_it_is_watched_is_seen_to_take_memory() {
        // A prompt of 1024 tokens, computed in so many seconds, then nothing.
        for takes in 1..30 {
            let held = |second: u64| 1024 * second.min(takes) / takes;
            let readings: Vec<_> =
                (0..60).map(|second| (second, held(second), 478 - held(second) / 8)).collect();
            assert_eq!(filled(&readings), "waits", "computed in {takes} s");
        }
    }

    #[test]
    fn a_reading_that_is_older_than_the_cache_s_growth_proves_nothing() {
        let late = [(0, 0, 478), (4, 1024, 478), (5, 1024, 478), (6, 1024, 350), (9, 1024, 350)];
        assert_eq!(filled(&late), "waits");
    }
}

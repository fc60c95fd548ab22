//! What happened to the engine and when: marks in the order of time, read from
//! Stoker's log or made by whoever keeps the peer alive. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// One thing that happened to the engine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mark {
    pub(crate) at: Instant,
    pub(crate) what: What,
    /// How long a step of an engine that was killed for standing still was
    /// expected to take at most.
    pub(crate) step: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum What {
    /// It is known that the engine is gone.
    Died,
    /// The next one was started.
    Started,
    /// It can answer.
    Ready,
}

/// Two clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    instant: Instant,
    system: SystemTime,
}

impl Clocks {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), system: SystemTime::now() }
    }

    fn instant(self, time: SystemTime) -> Instant {
        match time.duration_since(self.system) {
            Ok(later) => self.instant + later,
            Err(earlier) => self.instant.checked_sub(earlier.duration()).unwrap_or(self.instant),
        }
    }
}

/// The incidents that are deaths of the engine.
const DEATHS: [&str; 3] =
    ["kind=\"engine_died\"", "kind=\"engine_stalled\"", "kind=\"engine_load_failed\""];

/// The marks in Stoker's log. Its messages are constants; each line begins
/// with the time.
pub(crate) fn marks_of_log(log: &str, clocks: Clocks) -> Vec<Mark> {
    let mark = |line: &str| {
        let what = if line.contains(" engine started ") {
            What::Started
        } else if line.contains(" engine ready ") {
            What::Ready
        } else if line.contains(" incident ") && DEATHS.iter().any(|kind| line.contains(kind)) {
            What::Died
        } else {
            return None;
        };
        let time = humantime::parse_rfc3339(line.split_whitespace().next()?).ok()?;
        Some(Mark { at: clocks.instant(time), what, step: expected_step(line) })
    };
    log.lines().filter_map(mark).collect()
}

/// From the incident of an engine that made no step for too long.
fn expected_step(line: &str) -> Option<Duration> {
    let (_, rest) = line.split_once("a step is expected to take ")?;
    let (ms, _) = rest.split_once(" ms")?;
    ms.parse().ok().map(Duration::from_millis)
}

/// How often each kind of incident stands in Stoker's log.
pub(crate) fn incidents_of_log(log: &str) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(" incident ")) {
        let kind = line.split_once("kind=\"").and_then(|(_, rest)| rest.split_once('"'));
        if let Some((kind, _)) = kind {
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    kinds
}

/// How the engine came back after something took it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// When it was taken away.
    pub(crate) from: Instant,
    pub(crate) noticed: Instant,
    pub(crate) started: Instant,
    pub(crate) ready: Instant,
    pub(crate) step: Option<Duration>,
}

impl Recovery {
    /// What happened between `from` and `until`: the first death, the last
    /// readiness, and the last start before it.
    pub(crate) fn between(from: Instant, until: Instant, marks: &[Mark]) -> Option<Self> {
        let within: Vec<_> =
            marks.iter().filter(|mark| mark.at >= from && mark.at < until).collect();
        let death = within.iter().find(|mark| mark.what == What::Died)?;
        let ready = within.iter().rfind(|mark| mark.what == What::Ready)?.at;
        let is_start = |mark: &&&Mark| mark.what == What::Started && mark.at <= ready;
        let started = within.iter().rfind(is_start)?.at;
        Some(Self { from, noticed: death.at.min(ready), started, ready, step: death.step })
    }

    pub(crate) fn detect(&self) -> Duration {
        self.noticed - self.from
    }

    /// From noticing to the start of the next: collecting the dead, and any
    /// wait. A successor may be started before the death is written down.
    pub(crate) fn restart(&self) -> Duration {
        self.started.saturating_duration_since(self.noticed)
    }

    pub(crate) fn load(&self) -> Duration {
        self.ready - self.started
    }
}

/// From each start to the readiness that followed it.
pub(crate) fn loads(marks: &[Mark]) -> Vec<Duration> {
    let pairs = marks.windows(2);
    let load = |pair: &[Mark]| match (pair[0].what, pair[1].what) {
        (What::Started, What::Ready) => Some(pair[1].at - pair[0].at),
        _ => None,
    };
    pairs.filter_map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:01.000000Z  INFO engine started pid=7
2026-01-01T00:00:03.500000Z  INFO engine ready load_ms=2400 context=4096
2026-01-01T00:00:10.000000Z  WARN incident incident=3 kind=\"engine_stalled\" problem=\"it stood still\" cause=\"it made no step for 2000 ms, and 1500 ms is its limit, as a step is expected to take 300 ms at most\"
2026-01-01T00:00:10.100000Z  INFO engine started pid=8
2026-01-01T00:00:11.000000Z  WARN incident incident=4 kind=\"database_corrupt\" problem=\"x\"
2026-01-01T00:00:11.200000Z  WARN incident incident=5 kind=\"engine_died\" problem=\"it stopped\"
2026-01-01T00:00:12.200000Z  INFO engine started pid=9
2026-01-01T00:00:13.200000Z  INFO engine ready load_ms=900 context=4096
";

    fn clocks() -> Clocks {
        let system = humantime::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        Clocks { instant: Instant::now(), system }
    }

    #[test]
    fn the_log_is_a_timeline() {
        let clocks = clocks();
        let marks = marks_of_log(LOG, clocks);
        let at = |mark: &Mark| (mark.at - clocks.instant).as_millis();
        assert_eq!(
            marks.iter().map(|mark| (mark.what, at(mark))).collect::<Vec<_>>(),
            [
                (What::Started, 1000),
                (What::Ready, 3500),
                (What::Died, 10_000),
                (What::Started, 10_100),
                (What::Died, 11_200),
                (What::Started, 12_200),
                (What::Ready, 13_200),
            ]
        );
        assert_eq!(loads(&marks), [2500, 1000].map(Duration::from_millis));
        let kinds = [("database_corrupt", 1), ("engine_died", 1), ("engine_stalled", 1)];
        let kinds = kinds.map(|(kind, count)| (kind.to_owned(), count));
        assert_eq!(incidents_of_log(LOG), BTreeMap::from(kinds));
        let steps: Vec<_> = marks.iter().filter_map(|mark| mark.step).collect();
        assert_eq!(steps, [Duration::from_millis(300)]);
    }

    #[test]
    fn a_recovery_reaches_over_a_second_death_and_not_over_its_end() {
        let clocks = clocks();
        let marks = marks_of_log(LOG, clocks);
        let at = |ms| clocks.instant + Duration::from_millis(ms);
        let recovery = Recovery::between(at(9900), at(20_000), &marks).unwrap();
        let parts = [recovery.detect(), recovery.restart(), recovery.load()];
        assert_eq!(parts.map(|part| part.as_millis()), [100, 2200, 1000]);
        assert_eq!(Recovery::between(at(9900), at(12_000), &marks), None);
        assert_eq!(Recovery::between(at(14_000), at(20_000), &marks), None);
    }
}

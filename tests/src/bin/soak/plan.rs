//! Which fault comes when, and how each client behaves: drawn from the seed,
//! so that a run can be had again. Pure.

use std::time::Duration;

use ::tests::dice::Dice;
use serde::Serialize;

/// Something that goes wrong with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// SIGKILL to the worker.
    Kill,
    /// The same, and once more to its successor while that one loads.
    KillTwice,
    /// SIGSTOP to the worker, and no SIGCONT ever.
    Stop,
    /// Busy processes for some seconds.
    Hog,
    /// The disk with the state directory is full for some seconds.
    DiskFull,
    /// SIGTERM to the supervisor, then another one.
    Restart,
    /// SIGKILL to the supervisor, then another one.
    Crash,
}

impl Fault {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of the worker",
            Self::KillTwice => "kill -9, again while loading",
            Self::Stop => "SIGSTOP of the worker",
            Self::Hog => "busy processes",
            Self::DiskFull => "disk full",
            Self::Restart => "supervisor restarted",
            Self::Crash => "kill -9 of the supervisor",
        }
    }

    /// Whether it ends the supervisor, and with it every connection.
    pub(crate) fn cuts_connections(self) -> bool {
        matches!(self, Self::Restart | Self::Crash)
    }

    /// Whether it takes the worker and nothing else.
    pub(crate) fn takes_worker(self) -> bool {
        matches!(self, Self::Kill | Self::KillTwice | Self::Stop)
    }
}

/// A fault with its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    /// It waits until this many requests have begun,
    pub(crate) after: usize,
    /// and then this long.
    pub(crate) delay: Duration,
}

/// What can be done to the server here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Means {
    /// Nothing but `Kill`: what a server without a supervisor can be compared in.
    pub(crate) kills_only: bool,
    /// The state directory has a small file system of its own.
    pub(crate) small_disk: bool,
    /// Answers have ids, by which clients find them again after a cut.
    pub(crate) answers_have_ids: bool,
}

impl Means {
    /// Faults with their weights, the most telling first.
    fn faults(self) -> Vec<(Fault, usize)> {
        let mut faults = vec![(Fault::Kill, 60)];
        if self.kills_only {
            return faults;
        }
        faults.extend([(Fault::Stop, 15), (Fault::Hog, 10)]);
        if self.answers_have_ids {
            faults.extend([(Fault::Crash, 10), (Fault::Restart, 5)]);
        }
        if self.small_disk {
            faults.push((Fault::DiskFull, 5));
        }
        faults.push((Fault::KillTwice, 8));
        faults
    }
}

/// Longest time from the request that lets a fault go to the fault: a request
/// is then anywhere between its prompt and its end.
const LONGEST_DELAY_MS: usize = 3000;

/// `count` faults, spread evenly over `requests` requests: each kind once, as
/// far as they go, then as they are drawn.
pub(crate) fn faults(seed: u64, requests: usize, count: usize, means: Means) -> Vec<Planned> {
    let faults = means.faults();
    let mut dice = Dice::new(seed, &[2]);
    let planned = |number| {
        let drawn = draw(&faults, &mut dice);
        let fault = faults.get(number).map_or(drawn, |(fault, _)| *fault);
        let delay = dice.below(LONGEST_DELAY_MS).try_into().expect("milliseconds fit 64 bits");
        // Neither before the first request nor after the last one.
        let after = (number * requests + requests / 2) / count.max(1) + 1;
        Planned { fault, after, delay: Duration::from_millis(delay) }
    };
    (0..count).map(planned).collect()
}

fn draw(faults: &[(Fault, usize)], dice: &mut Dice) -> Fault {
    let mut drawn = dice.below(faults.iter().map(|(_, weight)| weight).sum());
    for (fault, weight) in faults {
        if drawn < *weight {
            return *fault;
        }
        drawn -= weight;
    }
    unreachable!("the draw is below the sum of the weights")
}

/// How a client reads its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Eager,
    /// Waits this long after each piece.
    Slow(Duration),
    /// Goes away after so many pieces.
    Leaving(usize),
}

/// Which request of the pool the `number`th one is, and how it is read.
pub(crate) fn request(seed: u64, number: usize, pool: usize) -> (usize, Manner) {
    let place = u64::try_from(number).expect("a usize fits 64 bits");
    let mut dice = Dice::new(seed, &[3, place]);
    let ask = dice.below(pool);
    let manner = match dice.below(100) {
        0..6 => Manner::Leaving(dice.within(0, 30)),
        6..12 => Manner::Slow(Duration::from_millis(20 * dice.within(1, 10) as u64)),
        _ => Manner::Eager,
    };
    (ask, manner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn faults_are_spread_over_the_requests_and_are_the_same_again() {
        let plan = faults(7, 1000, 50, Means::default());
        assert_eq!(plan, faults(7, 1000, 50, Means::default()));
        assert_ne!(plan, faults(8, 1000, 50, Means::default()));
        let after: Vec<_> = plan.iter().map(|planned| planned.after).collect();
        assert!(after.windows(2).all(|pair| pair[1] - pair[0] == 20), "{after:?}");
        assert_eq!((after[0], after[49]), (11, 991));
    }

    #[test]
    fn a_short_plan_has_each_kind_once() {
        let plan = faults(7, 40, 4, Means::default());
        let kinds: BTreeSet<_> = plan.iter().map(|planned| planned.fault).collect();
        assert_eq!(kinds.len(), 4);
        assert_eq!(plan[0].fault, Fault::Kill);
    }

    #[test]
    fn only_what_is_possible_is_planned() {
        let kinds = |means| -> BTreeSet<Fault> {
            faults(7, 1000, 500, means).iter().map(|planned| planned.fault).collect()
        };
        let all = Means { small_disk: true, answers_have_ids: true, kills_only: false };
        assert_eq!(kinds(all).len(), 7);
        assert_eq!(kinds(Means::default()).len(), 4);
        assert_eq!(kinds(Means { kills_only: true, ..all }), BTreeSet::from([Fault::Kill]));
    }

    #[test]
    fn most_clients_are_eager_and_some_are_not() {
        let manners: Vec<_> = (0..1000).map(|number| request(7, number, 10).1).collect();
        let eager = manners.iter().filter(|manner| **manner == Manner::Eager).count();
        assert!((800..950).contains(&eager), "{eager}");
        assert!(manners.iter().any(|manner| matches!(manner, Manner::Leaving(_))));
    }
}

//! Which request kills the engine. Pure: no clock, no tokio.
//!
//! A death takes all requests down that were in flight, and one of them may
//! have caused it. Each is *suspected* of the deaths in which it did not get on
//! since the one before. After [`TRIAL_AFTER`] of them there is a *trial*: only
//! half of the suspects run, everybody else waits. Who gets on by
//! [`CLEARED_BY`] tokens, or ends, is cleared. If the worker dies, the others
//! are cleared, and half of that half runs, until one request that ran alone
//! takes the worker down: that one is convicted.
//!
//! ```text
//!  in flight:  a b c d   dies   a b c d   dies   a b   dies   a   dies
//!  suspected:  a b c d          a b c d          a b          a    └► a convicted
//!  waiting:                                      c d          b c d
//! ```
//!
//! Workers also die of what no request did. Their deaths do not convict
//! anybody: whoever gets on between two of them is not suspected.

use std::collections::BTreeMap;

use engine_api::protocol::RequestId;

/// Deaths without getting on after which a request stands trial.
pub const TRIAL_AFTER: u32 = 2;
/// Tokens beyond the place of its last death that clear a request.
pub const CLEARED_BY: usize = 16;

/// A request that ran when the worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    pub id: RequestId,
    /// Tokens that it had by then.
    pub generated: usize,
}

/// The requests that were in flight in deaths.
#[derive(Debug, Clone, Default)]
pub struct Suspects {
    suspected: BTreeMap<RequestId, Suspect>,
    /// Who may run now; empty if there is no trial.
    trial: Vec<RequestId>,
}

#[derive(Debug, Clone, Copy)]
struct Suspect {
    /// Tokens that it had at its last death.
    generated: usize,
    deaths: u32,
}

impl Suspects {
    /// Takes note of a death; returns the request that is convicted of it.
    pub fn died(&mut self, in_flight: &[InFlight]) -> Option<RequestId> {
        for &InFlight { id, generated } in in_flight {
            let deaths = match self.suspected.get(&id) {
                Some(last) if generated < last.generated + CLEARED_BY => last.deaths + 1,
                _ => 1,
            };
            self.suspected.insert(id, Suspect { generated, deaths });
        }
        if self.trial.is_empty() {
            self.try_half_of_the_suspects();
            return None;
        }
        match in_flight {
            // Nothing ran: that proves nothing.
            [] => None,
            [only] if self.is_convicted(only.id) => {
                *self = Self::default();
                Some(only.id)
            }
            several => {
                self.suspected.retain(|id, _| several.iter().any(|one| one.id == *id));
                self.try_half_of_the_suspects();
                None
            }
        }
    }

    /// A request has so many tokens now.
    pub fn got_on(&mut self, id: RequestId, generated: usize) {
        let cleared = self
            .suspected
            .get(&id)
            .is_some_and(|suspect| generated >= suspect.generated + CLEARED_BY);
        if cleared {
            self.clear(id);
        }
    }

    /// A request is no longer there, or is not suspected any more.
    pub fn clear(&mut self, id: RequestId) {
        self.suspected.remove(&id);
        let stood = self.stands_trial(id);
        self.trial.retain(|other| *other != id);
        if stood && self.trial.is_empty() {
            self.try_half_of_the_suspects();
        }
    }

    /// The requests that alone may run; `None` if all may.
    #[must_use]
    pub fn trial(&self) -> Option<&[RequestId]> {
        (!self.trial.is_empty()).then_some(&self.trial)
    }

    /// It stood trial alone and did not get on before the worker died.
    fn is_convicted(&self, id: RequestId) -> bool {
        let deaths = self.suspected.get(&id).map_or(0, |suspect| suspect.deaths);
        self.stands_trial(id) && deaths > TRIAL_AFTER
    }

    fn stands_trial(&self, id: RequestId) -> bool {
        self.trial.contains(&id)
    }

    fn try_half_of_the_suspects(&mut self) {
        let suspects: Vec<RequestId> = self
            .suspected
            .iter()
            .filter(|(_, suspect)| suspect.deaths >= TRIAL_AFTER)
            .map(|(id, _)| *id)
            .collect();
        self.trial = suspects[..suspects.len().div_ceil(2)].to_vec();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Runs requests until all have ended. The `poison` kills the worker each
    /// time it would get its 6th token; a strange hand kills it after `kills`
    /// numbers of turns. Returns who was convicted, and the deaths it took.
    fn run(requests: u64, poison: Option<u64>, mut kills: Vec<usize>) -> (Vec<u64>, usize) {
        let mut suspects = Suspects::default();
        let mut tokens: BTreeMap<u64, usize> = (0..requests).map(|id| (id, 0)).collect();
        let (mut convicted, mut deaths, mut turn) = (Vec::new(), 0, 0);
        while !tokens.is_empty() {
            turn += 1;
            assert!(turn < 10_000, "it never ends");
            let running: BTreeSet<u64> = match suspects.trial() {
                Some(trial) => trial.iter().map(|id| id.0).collect(),
                None => tokens.keys().copied().collect(),
            };
            assert!(!running.is_empty() && running.iter().all(|id| tokens.contains_key(id)));
            let strange = kills.last().is_some_and(|at| *at == turn);
            let poisoned = running.iter().any(|id| Some(*id) == poison && tokens[id] == 5);
            if strange || poisoned {
                deaths += 1;
                if strange {
                    kills.pop();
                }
                let in_flight: Vec<_> = running
                    .iter()
                    .map(|id| InFlight { id: RequestId(*id), generated: tokens[id] })
                    .collect();
                if let Some(id) = suspects.died(&in_flight) {
                    convicted.push(id.0);
                    tokens.remove(&id.0);
                }
                continue;
            }
            for id in running {
                let count = tokens.get_mut(&id).unwrap();
                *count += 1;
                suspects.got_on(RequestId(id), *count);
                if *count == 40 {
                    tokens.remove(&id);
                    suspects.clear(RequestId(id));
                }
            }
        }
        (convicted, deaths)
    }

    #[test]
    fn the_guilty_one_of_eight_is_found_in_a_few_deaths() {
        for poison in 0..8 {
            let (convicted, deaths) = run(8, Some(poison), Vec::new());
            assert_eq!(convicted, [poison]);
            assert!(deaths <= 6, "{deaths} deaths");
        }
    }

    #[test]
    fn alone_it_takes_three_deaths() {
        assert_eq!(run(1, Some(0), Vec::new()), (vec![0], 3));
    }

    #[test]
    fn nobody_is_guilty_of_deaths_between_which_they_get_on() {
        let kills = (1..30).rev().map(|n| n * 20).collect();
        assert_eq!(run(8, None, kills).0, [0; 0]);
    }

    #[test]
    fn a_death_with_nothing_running_proves_nothing() {
        let mut suspects = Suspects::default();
        let one = [InFlight { id: RequestId(1), generated: 0 }];
        assert_eq!((suspects.died(&one), suspects.died(&one)), (None, None));
        assert_eq!(suspects.trial(), Some(&[RequestId(1)][..]));
        assert_eq!(suspects.died(&[]), None);
        assert_eq!(suspects.died(&one), Some(RequestId(1)));
        assert_eq!(suspects.trial(), None);
    }

    proptest! {
        /// Whatever else happens to the worker, at most the guilty one and those
        /// whom three early kills in a row hit alone are convicted, and all end.
        #[test]
        fn the_guilty_one_is_found_among_strange_deaths(
            requests in 1u64..10, poison in 0u64..10,
            gaps in prop::collection::vec(CLEARED_BY + 8..60usize, 0..12),
        ) {
            let mut at = 0;
            let mut kills: Vec<usize> = gaps.iter().map(|gap| { at += gap; at }).collect();
            kills.reverse();
            let (convicted, _) = run(requests, (poison < requests).then_some(poison), kills);
            if poison < requests {
                prop_assert!(convicted.contains(&poison));
            } else {
                prop_assert_eq!(convicted, [0; 0]);
            }
        }
    }
}

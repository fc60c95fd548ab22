//! Whether a new version is well: no worse than the one before, for some time without a
//! break, within a bound. Pure.
//!
//! Time is what passes in one start of the keeper; a clock that is set while a board
//! without a battery boots changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::{Engine, Health};

/// How the appliance was before, which is what can be asked of a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The server answered, disk and sensors were well.
    pub serves: bool,
    /// So did its engine.
    pub answers: bool,
}

/// How long it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// In which it has to be well, from each start of the trial on.
    pub patience_s: u64,
    /// For which it has to stay so.
    pub steady_s: u64,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Wait,
    Well,
    Ill(String),
}

/// A trial, as far as it was looked at.
#[derive(Debug, Clone)]
pub struct Trial {
    before: Before,
    bounds: Bounds,
    well_since: Option<Duration>,
}

impl Before {
    #[must_use]
    pub fn of(health: &Health) -> Self {
        Self { serves: !health.blames_the_system(), answers: health.engine == Engine::Answers }
    }

    /// What is worse now; `None` if nothing is.
    fn missed(self, health: &Health) -> Option<String> {
        if self.serves
            && let Some(fault) = health.faults.iter().find(|fault| fault.is_of_the_system())
        {
            return Some(fault.words.clone());
        }
        match &health.engine {
            Engine::GivenUp(why) | Engine::Pending(why) if self.answers => {
                Some(format!("the engine answered before, and now: {why}"))
            }
            _ => None,
        }
    }
}

impl Trial {
    #[must_use]
    pub fn new(before: Before, bounds: Bounds) -> Self {
        Self { before, bounds, well_since: None }
    }

    /// Takes note of a look, `waited` after the beginning.
    pub fn look(&mut self, health: &Health, waited: Duration) -> Verdict {
        let Bounds { patience_s, steady_s } = self.bounds;
        match self.before.missed(health) {
            None => {
                let since = *self.well_since.get_or_insert(waited);
                match waited - since >= Duration::from_secs(steady_s) {
                    true => Verdict::Well,
                    false => Verdict::Wait,
                }
            }
            Some(missed) => {
                self.well_since = None;
                match waited >= Duration::from_secs(patience_s) {
                    true => Verdict::Ill(missed),
                    false => Verdict::Wait,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Fault, FaultKind};
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { patience_s: 300, steady_s: 30 };

    fn health(engine: Engine, faults: &[bool]) -> Health {
        let fault = |&of_the_system: &bool| {
            let kind = if of_the_system { FaultKind::OfTheSystem } else { FaultKind::MayPass };
            Fault { words: "it is broken".into(), kind }
        };
        Health { engine, faults: faults.iter().map(fault).collect() }
    }

    fn pending() -> Engine {
        Engine::Pending("it loads".into())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_has_to_stay_well_and_a_break_begins_anew() {
        let before = Before::of(&health(Engine::Answers, &[]));
        let mut trial = Trial::new(before, BOUNDS);
        let well = health(Engine::Answers, &[]);
        for (at, look, verdict) in [
            (0, &health(pending(), &[]), Verdict::Wait),
            (10, &well, Verdict::Wait),
            (20, &health(Engine::Answers, &[true]), Verdict::Wait),
            (30, &well, Verdict::Wait),
            // A clock that is wrong is no fault of the version.
            (59, &health(Engine::Answers, &[false]), Verdict::Wait),
            (60, &well, Verdict::Well),
        ] {
            assert_eq!(trial.look(look, seconds(at)), verdict, "{at}");
        }
    }

    #[test]
    fn no_more_is_asked_of_it_than_there_was() {
        for (before, ill, well) in [
            (health(Engine::Answers, &[]), health(pending(), &[]), health(Engine::Answers, &[])),
            (
                health(Engine::GivenUp("none is built".into()), &[]),
                health(pending(), &[true]),
                health(pending(), &[]),
            ),
        ] {
            let verdict =
                |health| Trial::new(Before::of(&before), BOUNDS).look(health, seconds(300));
            assert!(matches!(verdict(&ill), Verdict::Ill(_)));
            assert_eq!(verdict(&well), Verdict::Wait);
        }
        // Nothing served: any version will do, and one that mends it even more.
        let nothing = Before { serves: false, answers: false };
        let mut trial = Trial::new(nothing, BOUNDS);
        assert_eq!(trial.look(&health(pending(), &[true]), seconds(0)), Verdict::Wait);
        assert_eq!(trial.look(&health(pending(), &[true]), seconds(30)), Verdict::Well);
    }

    proptest! {
        #[test]
        fn it_ends_by_itself(looks in prop::collection::vec(any::<bool>(), 0..400)) {
            let before = Before { serves: true, answers: true };
            let mut trial = Trial::new(before, BOUNDS);
            // After the patience, a second break is the end at the latest.
            let ended = looks.iter().chain(std::iter::repeat(&false)).zip(0..).find(|(well, at)| {
                let look = if **well { health(Engine::Answers, &[]) } else { health(pending(), &[]) };
                trial.look(&look, seconds(*at)) != Verdict::Wait
            });
            prop_assert!(ended.is_some_and(|(_, at)| at <= BOUNDS.patience_s + BOUNDS.steady_s));
        }
    }
}

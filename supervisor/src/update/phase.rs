//! Where an update is, and where it goes from there. Pure.
//!
//! ```text
//!  Ready ──► Installing ──► Trial ──well for long enough──────────────────► Committed
//!                │            │
//!                │ fails,     │ not well in time, or started too often
//!                │ or cut     ▼
//!                └─────► GoingBack ──the old packages are there──► WentBack
//! ```
//!
//! Each phase is written down before anything is done in it. Whoever finds one after a
//! power cut, or after the keeper was killed, knows at most what may have been done:
//! [`Phase::found`] says what follows. Both ends stay as they are, and every way leads to
//! one of them in a bounded number of starts, unless the packages to go back to cannot be
//! installed: then that is tried at each start, and nothing else is.

use serde::{Deserialize, Serialize};

/// Starts of the keeper in one trial, its first among them: each is a boot, or a keeper
/// that was killed.
pub const MOST_STARTS: u32 = 3;

/// Where an update is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Phase {
    /// Everything is there and was checked; nothing is changed yet.
    Ready,
    /// Any of the new packages may be there, whole or in part.
    Installing,
    /// The new packages are there, and this was begun so often.
    Trial { starts: u32 },
    /// Any of the old packages may be there again.
    GoingBack { why: String },
    /// The new version stays.
    Committed,
    /// The old version is there, and why the new one is not.
    WentBack { why: String },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The databases are kept, and the packages may be touched now.
    Kept,
    Installed,
    /// The new version was well for long enough.
    Well,
    /// The old packages and databases are there.
    OldIsBack,
    /// What was being done did not work.
    Failed(String),
}

impl Phase {
    /// What follows from finding it at the start of a keeper.
    #[must_use]
    pub fn found(self) -> Self {
        match self {
            Self::Installing => {
                Self::GoingBack { why: "it was cut short while it was installed".to_owned() }
            }
            Self::Trial { starts } if starts >= MOST_STARTS => Self::GoingBack {
                why: format!("the machine started {starts} times before it was well"),
            },
            Self::Trial { starts } => Self::Trial { starts: starts + 1 },
            same => same,
        }
    }

    /// What follows from what happened. What cannot happen changes nothing.
    #[must_use]
    pub fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::Ready, Event::Kept) => Self::Installing,
            // Nothing was changed, so nothing has to go back.
            (Self::Ready, Event::Failed(why)) => Self::WentBack { why },
            (Self::Installing, Event::Installed) => Self::Trial { starts: 1 },
            (Self::Trial { .. }, Event::Well) => Self::Committed,
            (Self::Installing | Self::Trial { .. }, Event::Failed(why)) => Self::GoingBack { why },
            (Self::GoingBack { why }, Event::OldIsBack) => Self::WentBack { why },
            (same, _) => same,
        }
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Committed | Self::WentBack { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is on the disk, as far as it can differ.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Programs {
        Old,
        /// Neither, or some of each.
        Mixed,
        New,
    }

    /// One start of the keeper. `luck` says for each thing that is done whether it works,
    /// fails, or is where the power is cut, in which case what was done may be half done.
    fn start(mut phase: Phase, disk: &mut Programs, luck: &mut impl Iterator<Item = u8>) -> Phase {
        phase = phase.found();
        while !phase.has_ended() {
            let event = match luck.next().unwrap_or(0) % 4 {
                // Cut before it was done, or while.
                1 => return phase,
                2 => {
                    match phase {
                        Phase::Installing | Phase::GoingBack { .. } => *disk = Programs::Mixed,
                        _ => {}
                    }
                    return phase;
                }
                3 => {
                    match phase {
                        Phase::Installing | Phase::GoingBack { .. } => *disk = Programs::Mixed,
                        _ => {}
                    }
                    Event::Failed("it is broken".to_owned())
                }
                _ => match phase {
                    Phase::Ready => Event::Kept,
                    Phase::Installing => {
                        *disk = Programs::New;
                        Event::Installed
                    }
                    Phase::Trial { .. } => Event::Well,
                    Phase::GoingBack { .. } => {
                        *disk = Programs::Old;
                        Event::OldIsBack
                    }
                    Phase::Committed | Phase::WentBack { .. } => unreachable!("it has ended"),
                },
            };
            let was_going_back = matches!(phase, Phase::GoingBack { .. });
            let failed = matches!(event, Event::Failed(_));
            phase = phase.after(event);
            if was_going_back && failed {
                // Tried again at the next start.
                return phase;
            }
        }
        phase
    }

    proptest! {
        #[test]
        fn whatever_is_cut_or_fails_one_whole_version_is_left(luck in prop::collection::vec(0..4_u8, 0..40)) {
            let (mut phase, mut disk, mut luck) = (Phase::Ready, Programs::Old, luck.into_iter());
            let mut trials = 0;
            // Once luck is used up, everything works.
            for _ in 0..50 {
                trials += u32::from(matches!(phase, Phase::Trial { .. }));
                if matches!(phase, Phase::GoingBack { .. } | Phase::WentBack { .. }) {
                    let is_tried_again = matches!(phase.clone().found(), Phase::Trial { .. });
                    prop_assert!(!is_tried_again);
                }
                phase = start(phase, &mut disk, &mut luck);
            }
            prop_assert!(trials <= MOST_STARTS);
            match phase {
                Phase::Committed => prop_assert_eq!(disk, Programs::New),
                Phase::WentBack { .. } => prop_assert_eq!(disk, Programs::Old),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn an_end_is_an_end_and_nothing_leads_from_going_back_to_the_new_version() {
        let why = || "ill".to_owned();
        let events =
            [Event::Kept, Event::Installed, Event::Well, Event::OldIsBack, Event::Failed(why())];
        for event in events {
            for end in [Phase::Committed, Phase::WentBack { why: why() }] {
                assert_eq!(end.clone().after(event.clone()), end);
                assert_eq!(end.clone().found(), end);
            }
            let next = Phase::GoingBack { why: why() }.after(event);
            assert!(matches!(next, Phase::GoingBack { .. } | Phase::WentBack { .. }));
        }
        assert_eq!(Phase::Ready.found(), Phase::Ready);
        assert_eq!(Phase::Trial { starts: 1 }.found(), Phase::Trial { starts: 2 });
        assert!(matches!(Phase::Trial { starts: 3 }.found(), Phase::GoingBack { .. }));
    }
}

//! Which parts of a prompt stay when not all of them fit. Pure.
//!
//! The order in which parts go is fixed, so that equal parts give equal prompts:
//!
//! 1. found code, the least worth first,
//! 2. recalled passages, the least worth first,
//! 3. of old tool output all but a line that says so, the oldest first,
//! 4. summaries, the oldest first,
//! 5. the log, the oldest first.
//!
//! System, pinned parts and the last turn never go. If they alone do not fit, there
//! is no plan, and the client is told the numbers.

/// Where a part belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// System messages and tools.
    System,
    Pinned,
    Summary,
    /// Messages that are neither first nor last.
    Log,
    /// Passages of what was said before.
    Recalled,
    /// Found code.
    Code,
    /// The last message of the user, and what it led to.
    LastTurn,
}

/// Something that may stand in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub section: Section,
    pub tokens: u32,
    /// What it takes without its text, if it is tool output.
    pub masked: Option<u32>,
    /// Of two parts of one section, the one with less goes first.
    pub worth: u32,
}

/// Tokens that there are for all parts, and for some sections at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub total: u32,
    pub code: u32,
    pub recalled: u32,
}

/// What becomes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Kept,
    /// It stands there without its text.
    Masked,
    Dropped,
}

/// What becomes of each part, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub fates: Vec<Fate>,
    /// Tokens of all that stays.
    pub total: u32,
}

/// What must stay does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what cannot be left out takes {needed} tokens, and there is room for {room}")]
pub struct Overfull {
    pub needed: u32,
    pub room: u32,
}

/// Decides about each part.
///
/// # Errors
/// System, pinned parts and the last turn do not fit.
pub fn compose(parts: &[Part], room: Room) -> Result<Plan, Overfull> {
    let mut desk = Desk { parts, fates: vec![Fate::Kept; parts.len()], total: 0 };
    desk.total = desk.sum(|section| !is_extra(section));
    let needed = desk.sum(must_stay);
    if needed > room.total {
        return Err(Overfull { needed, room: room.total });
    }
    desk.shed(Section::Log, Fate::Masked, room.total);
    desk.shed(Section::Summary, Fate::Dropped, room.total);
    desk.shed(Section::Log, Fate::Dropped, room.total);
    desk.fill(Section::Recalled, room.recalled, room.total);
    desk.fill(Section::Code, room.code, room.total);
    Ok(Plan { fates: desk.fates, total: desk.total })
}

fn must_stay(section: Section) -> bool {
    matches!(section, Section::System | Section::Pinned | Section::LastTurn)
}

/// Whether it is there only where there is room for it.
fn is_extra(section: Section) -> bool {
    matches!(section, Section::Code | Section::Recalled)
}

struct Desk<'a> {
    parts: &'a [Part],
    fates: Vec<Fate>,
    /// Of what stays so far.
    total: u32,
}

impl Desk<'_> {
    fn sum(&self, counted: impl Fn(Section) -> bool) -> u32 {
        let counted = self.parts.iter().filter(|part| counted(part.section));
        counted.fold(0, |sum, part| sum.saturating_add(part.tokens))
    }

    /// The parts of a section, the least worth first.
    fn of(&self, section: Section) -> Vec<usize> {
        let mut of: Vec<_> =
            (0..self.parts.len()).filter(|&index| self.parts[index].section == section).collect();
        of.sort_by_key(|&index| self.parts[index].worth);
        of
    }

    /// Gives parts that fate, the least worth first, until the others fit.
    fn shed(&mut self, section: Section, fate: Fate, room: u32) {
        for index in self.of(section) {
            if self.sum_of_kept() <= u64::from(room) {
                break;
            }
            let Part { tokens, masked, .. } = self.parts[index];
            match (fate, masked) {
                (Fate::Masked, Some(masked)) if masked < tokens => {
                    self.fates[index] = Fate::Masked;
                }
                (Fate::Dropped, _) => self.fates[index] = Fate::Dropped,
                _ => {}
            }
        }
        self.total = u32::try_from(self.sum_of_kept()).unwrap_or(u32::MAX);
    }

    /// Sums what stays of all but extras, which have not been looked at.
    fn sum_of_kept(&self) -> u64 {
        let both = self.parts.iter().zip(&self.fates);
        let kept =
            both.filter(|(part, _)| !is_extra(part.section)).map(|(part, fate)| match fate {
                Fate::Kept => part.tokens,
                Fate::Masked => part.masked.unwrap_or(part.tokens),
                Fate::Dropped => 0,
            });
        kept.map(u64::from).sum()
    }

    /// Keeps of a section what fits, the most worth first.
    fn fill(&mut self, section: Section, cap: u32, room: u32) {
        let mut taken = 0_u32;
        for index in self.of(section).into_iter().rev() {
            let tokens = self.parts[index].tokens;
            let fits = |sum: u32, most: u32| sum.checked_add(tokens).is_some_and(|s| s <= most);
            if fits(taken, cap) && fits(self.total, room) {
                taken += tokens;
                self.total += tokens;
            } else {
                self.fates[index] = Fate::Dropped;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(section: Section, tokens: u32, worth: u32) -> Part {
        Part { section, tokens, masked: None, worth }
    }

    fn room(total: u32) -> Room {
        Room { total, code: total, recalled: total }
    }

    fn fates(parts: &[Part], total: u32) -> Vec<Fate> {
        compose(parts, room(total)).unwrap().fates
    }

    #[test]
    fn parts_go_in_a_fixed_order() {
        use Fate::{Dropped, Kept, Masked};
        let parts = [
            part(Section::System, 10, 0),
            part(Section::Summary, 10, 0),
            Part { masked: Some(2), ..part(Section::Log, 10, 1) },
            part(Section::Log, 10, 2),
            part(Section::Recalled, 10, 0),
            part(Section::Code, 10, 7),
            part(Section::Code, 10, 9),
            part(Section::LastTurn, 10, 0),
        ];
        let kept = [Kept; 8];
        assert_eq!(fates(&parts, 80), kept);
        let [a, b, c, d, e, _, g, h] = kept;
        assert_eq!(fates(&parts, 79), [a, b, c, d, e, Dropped, g, h]);
        assert_eq!(fates(&parts, 69), [a, b, c, d, e, Dropped, Dropped, h]);
        assert_eq!(fates(&parts, 59), [a, b, c, d, Dropped, Dropped, Dropped, h]);
        assert_eq!(fates(&parts, 49), [a, b, Masked, d, Dropped, Dropped, Dropped, h]);
        assert_eq!(fates(&parts, 41), [a, Dropped, Masked, d, Dropped, Dropped, Dropped, h]);
        let all = [a, Dropped, Dropped, d, Dropped, Dropped, Dropped, h];
        assert_eq!(fates(&parts, 31), all);
        assert_eq!(compose(&parts, room(19)), Err(Overfull { needed: 20, room: 19 }));
    }

    #[test]
    fn what_is_worth_less_fills_what_is_left() {
        let code = |tokens, worth| part(Section::Code, tokens, worth);
        let parts = [code(60, 3), code(50, 2), code(30, 1)];
        assert_eq!(fates(&parts, 100), [Fate::Kept, Fate::Dropped, Fate::Kept]);
        let capped = compose(&parts, Room { code: 59, ..room(100) }).unwrap();
        assert_eq!(capped.fates, [Fate::Dropped, Fate::Kept, Fate::Dropped]);
        assert_eq!(capped.total, 50);
    }

    fn any_part() -> impl Strategy<Value = Part> {
        let section = prop_oneof![
            Just(Section::System),
            Just(Section::Pinned),
            Just(Section::Summary),
            Just(Section::Log),
            Just(Section::Recalled),
            Just(Section::Code),
            Just(Section::LastTurn),
        ];
        let tokens = prop_oneof![0_u32..2000, Just(u32::MAX), Just(u32::MAX / 2)];
        (section, tokens, prop::option::of(0_u32..50), 0_u32..10).prop_map(
            |(section, tokens, masked, worth)| {
                let masked = masked.filter(|_| section == Section::Log);
                Part { section, tokens, masked, worth }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn no_plan_is_larger_than_its_room_or_leaves_out_what_must_stay(
            parts in prop::collection::vec(any_part(), 0..30),
            total in 0_u32..20_000, code in 0_u32..5000, recalled in 0_u32..5000,
        ) {
            let room = Room { total, code, recalled };
            let of = |fates: &[Fate], section: Option<Section>| -> u64 {
                let both = parts.iter().zip(fates);
                let both = both.filter(|(part, _)| section.is_none_or(|s| part.section == s));
                both.map(|(part, fate)| u64::from(match fate {
                    Fate::Kept => part.tokens,
                    Fate::Masked => part.masked.unwrap(),
                    Fate::Dropped => 0,
                })).sum()
            };
            match compose(&parts, room) {
                Ok(Plan { fates, total: counted }) => {
                    prop_assert_eq!(of(&fates, None), u64::from(counted));
                    prop_assert!(counted <= total);
                    prop_assert!(of(&fates, Some(Section::Code)) <= u64::from(code));
                    prop_assert!(of(&fates, Some(Section::Recalled)) <= u64::from(recalled));
                    for (part, fate) in parts.iter().zip(&fates) {
                        prop_assert!(!must_stay(part.section) || *fate == Fate::Kept);
                    }
                    // The log and summaries go only where nothing else makes room.
                    let lost = |section| parts.iter().zip(&fates)
                        .any(|(part, fate)| part.section == section && *fate == Fate::Dropped);
                    let unmasked = parts.iter().zip(&fates).any(|(part, fate)| {
                        *fate == Fate::Kept && part.masked.is_some_and(|masked| masked < part.tokens)
                    });
                    prop_assert!(!(lost(Section::Summary) && unmasked));
                    if lost(Section::Log) {
                        let summaries = of(&fates, Some(Section::Summary));
                        prop_assert_eq!(summaries, 0);
                    }
                }
                Err(Overfull { needed, room }) => {
                    prop_assert!(needed > room);
                    let least: u64 = parts.iter().filter(|part| must_stay(part.section))
                        .map(|part| u64::from(part.tokens)).sum();
                    prop_assert!(least > u64::from(total));
                }
            }
        }

        #[test]
        fn more_room_never_keeps_less_of_the_log(
            parts in prop::collection::vec(any_part(), 0..20), total in 0_u32..20_000,
        ) {
            let log = |total| compose(&parts, room(total)).ok().map(|plan| {
                let both = parts.iter().zip(&plan.fates);
                both.filter(|(part, fate)| part.section == Section::Log && **fate == Fate::Kept)
                    .count()
            });
            prop_assert!(log(total) <= log(total + 500));
        }
    }
}

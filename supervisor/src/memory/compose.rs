//! What of all that could be added to a prompt is added. Pure.
//!
//! The messages themselves are not its business: [`super::reset`] decides which of them
//! stay, and what stays is one part that never goes. For the rest the order is fixed, so
//! that equal parts give equal prompts. What there is no room for goes in this order:
//!
//! 1. found code, the least worth first,
//! 2. recalled passages, the least worth first,
//! 3. summaries, the least worth first, which is the oldest.
//!
//! If what must stay does not fit, there is no plan, and the client is told the numbers.

/// Where a part belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// System messages, the last turn and all else that is there in any case.
    There,
    /// What the model made of messages that are left out.
    Summary,
    /// Passages of what was said before.
    Recalled,
    /// Found code.
    Code,
}

/// Something that may stand in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub section: Section,
    pub tokens: u32,
    /// Of two parts of one section, the one with less goes first.
    pub worth: u32,
}

/// Tokens that there are for all parts, and for some sections at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub total: u32,
    pub summaries: u32,
    pub recalled: u32,
    pub code: u32,
}

/// What stays, by the parts' order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub kept: Vec<bool>,
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
/// What must stay does not fit.
pub fn compose(parts: &[Part], room: Room) -> Result<Plan, Overfull> {
    let there = parts.iter().filter(|part| part.section == Section::There);
    let needed = there.fold(0_u32, |sum, part| sum.saturating_add(part.tokens));
    if needed > room.total {
        return Err(Overfull { needed, room: room.total });
    }
    let kept = parts.iter().map(|part| part.section == Section::There).collect();
    let mut plan = Plan { kept, total: needed };
    for (section, most) in [
        (Section::Summary, room.summaries),
        (Section::Recalled, room.recalled),
        (Section::Code, room.code),
    ] {
        plan.fill(parts, section, most, room.total);
    }
    Ok(plan)
}

impl Plan {
    /// Keeps of a section what fits, the most worth first.
    fn fill(&mut self, parts: &[Part], section: Section, most: u32, room: u32) {
        let mut of: Vec<_> =
            (0..parts.len()).filter(|&index| parts[index].section == section).collect();
        of.sort_by_key(|&index| std::cmp::Reverse(parts[index].worth));
        let mut taken = 0_u32;
        for index in of {
            let tokens = parts[index].tokens;
            let fits = |sum: u32, most: u32| sum.checked_add(tokens).is_some_and(|s| s <= most);
            if fits(taken, most) && fits(self.total, room) {
                taken += tokens;
                self.total += tokens;
                self.kept[index] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(section: Section, tokens: u32, worth: u32) -> Part {
        Part { section, tokens, worth }
    }

    fn room(total: u32) -> Room {
        Room { total, summaries: total, recalled: total, code: total }
    }

    fn kept(parts: &[Part], total: u32) -> Vec<bool> {
        compose(parts, room(total)).unwrap().kept
    }

    #[test]
    fn parts_go_in_a_fixed_order() {
        let parts = [
            part(Section::There, 20, 0),
            part(Section::Summary, 10, 1),
            part(Section::Summary, 10, 2),
            part(Section::Recalled, 10, 0),
            part(Section::Code, 10, 7),
            part(Section::Code, 10, 9),
        ];
        let all = [true; 6];
        assert_eq!(kept(&parts, 70), all);
        let [a, b, c, d, e, f] = all;
        assert_eq!(kept(&parts, 69), [a, b, c, d, false, f]);
        assert_eq!(kept(&parts, 59), [a, b, c, d, false, false]);
        assert_eq!(kept(&parts, 49), [a, b, c, false, false, false]);
        assert_eq!(kept(&parts, 39), [a, false, c, false, false, false]);
        assert!(!(b && kept(&parts, 20)[2]) && (e, f) == (true, true));
        assert_eq!(compose(&parts, room(19)), Err(Overfull { needed: 20, room: 19 }));
    }

    #[test]
    fn what_is_worth_less_fills_what_is_left() {
        let code = |tokens, worth| part(Section::Code, tokens, worth);
        let parts = [code(60, 3), code(50, 2), code(30, 1)];
        assert_eq!(kept(&parts, 100), [true, false, true]);
        let capped = compose(&parts, Room { code: 59, ..room(100) }).unwrap();
        assert_eq!(capped, Plan { kept: vec![false, true, false], total: 50 });
    }

    fn any_part() -> impl Strategy<Value = Part> {
        let section = prop_oneof![
            Just(Section::There),
            Just(Section::Summary),
            Just(Section::Recalled),
            Just(Section::Code),
        ];
        let tokens = prop_oneof![0_u32..2000, Just(u32::MAX), Just(u32::MAX / 2)];
        (section, tokens, 0_u32..10)
            .prop_map(|(section, tokens, worth)| part(section, tokens, worth))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn no_plan_is_larger_than_its_room_or_leaves_out_what_must_stay(
            parts in prop::collection::vec(any_part(), 0..30),
            total in 0_u32..20_000, summaries in 0_u32..5000,
            recalled in 0_u32..5000, code in 0_u32..5000,
        ) {
            let room = Room { total, summaries, recalled, code };
            let of = |kept: &[bool], section: Option<Section>| -> u64 {
                let both = parts.iter().zip(kept);
                let both = both.filter(|(part, kept)| {
                    **kept && section.is_none_or(|section| part.section == section)
                });
                both.map(|(part, _)| u64::from(part.tokens)).sum()
            };
            match compose(&parts, room) {
                Ok(Plan { kept, total: counted }) => {
                    prop_assert_eq!(of(&kept, None), u64::from(counted));
                    prop_assert!(counted <= total);
                    prop_assert!(of(&kept, Some(Section::Summary)) <= u64::from(summaries));
                    prop_assert!(of(&kept, Some(Section::Recalled)) <= u64::from(recalled));
                    prop_assert!(of(&kept, Some(Section::Code)) <= u64::from(code));
                    for (part, kept) in parts.iter().zip(&kept) {
                        prop_assert!(part.section != Section::There || *kept);
                    }
                }
                Err(Overfull { needed, room }) => {
                    prop_assert!(needed > room);
                    let least: u64 = parts.iter().filter(|part| part.section == Section::There)
                        .map(|part| u64::from(part.tokens)).sum();
                    prop_assert!(least > u64::from(total));
                }
            }
        }
    }
}

//! How a conversation that fills its window is made short again. Pure.
//!
//! ```text
//!  system │ q1 a1 tool … │ q2 a2 … │ q3      more than 70 % of the window
//!  system │ q1 a1 [left out] …     │ q3      old tool output goes first
//!  system │ ledger·q2 a2 …         │ q3      then the oldest messages, far down
//! ```
//!
//! Both are decided seldom and then hold: the beginning of the prompt stays the same
//! until the next time. A cut lies where a message of the user begins, or before a call
//! of tools whose results come with it; then the user's message that led to it stays.

use engine_api::protocol::{Message, Role};

/// A prompt of more than so many hundredths of the window is made shorter.
pub const HIGH: u32 = 70;
/// Masking old tool output is enough if it leads down to this.
pub const MASKED_ENOUGH: u32 = 35;
/// The messages that stay of a reset, in hundredths of the window; with what stands in the
/// place of the others and what is recalled it comes to 20 to 35.
pub const KEPT: u32 = 16;
/// The ledger's share of the window in hundredths, and that of summaries.
pub const LEDGER: u32 = 8;
pub const SUMMARIES: u32 = 6;
/// Characters of tool output that is left where it is.
const SHORT: usize = 200;
/// Characters of its first line that stay.
const FIRST_LINE: usize = 100;

/// Whether a prompt of so many tokens has to be made shorter, if `most` leaves room for its
/// answer.
#[must_use]
pub fn is_due(tokens: u32, window: u32, most: u32) -> bool {
    tokens > share(window, HIGH).min(most)
}

/// Whether one whose tool output was masked is short enough for long.
#[must_use]
pub fn is_enough(tokens: u32, window: u32, most: u32) -> bool {
    tokens <= share(window, MASKED_ENOUGH).min(most)
}

/// Hundredths of a window, in tokens.
#[must_use]
pub fn share(window: u32, hundredths: u32) -> u32 {
    u32::try_from(u64::from(window) * u64::from(hundredths) / 100).unwrap_or(u32::MAX)
}

/// What stands in the place of tool output; `None` if it is short.
#[must_use]
pub fn mask(content: &str) -> Option<String> {
    let characters = content.chars().count();
    if characters <= SHORT {
        return None;
    }
    let first = content.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let first: String = first.chars().take(FIRST_LINE).collect();
    Some(format!("[Old output of {characters} characters is left out. It began: {first}]"))
}

/// Up to where old tool output may be masked: not what the last message or the calls
/// behind it are about.
#[must_use]
pub fn maskable(messages: &[Message]) -> usize {
    last_exchange(messages)
}

/// Where the conversation is cut, so that what stays takes at most `room` tokens; if
/// nothing does, as late as it can be. `tokens` are those of each message. `None` if there
/// is nothing before the last exchange, or nothing that was not cut already.
#[must_use]
pub fn cut(messages: &[Message], tokens: &[u32], cut_before: usize, room: u32) -> Option<usize> {
    let last = last_exchange(messages);
    let first = messages.iter().position(|message| message.role != Role::System)?;
    let mut places = (first + 1..=last).filter(|&at| at > cut_before && may_begin(messages, at));
    let fits = |at: usize| {
        let stays = tokens[at..].iter().fold(0_u32, |sum, tokens| sum.saturating_add(*tokens));
        let led = led_by(messages, at).map_or(0, |user| tokens[user]);
        stays.saturating_add(led) <= room
    };
    let mut latest = None;
    places
        .find(|&at| {
            latest = Some(at);
            fits(at)
        })
        .or(latest)
}

/// What a conversation that was cut there sends: each message's place in the whole, and
/// the first message of the user among them, before which the ledger stands.
#[must_use]
pub fn kept(messages: &[Message], cut: usize) -> (Vec<usize>, Option<usize>) {
    let system = (0..cut.min(messages.len())).filter(|&at| messages[at].role == Role::System);
    let mut kept: Vec<usize> = system.collect();
    kept.extend(led_by(messages, cut));
    kept.sort_unstable();
    kept.extend(cut..messages.len());
    let user = kept.iter().copied().find(|&at| messages[at].role == Role::User);
    (kept, user)
}

/// The message of the user that led to what stands there, if that is none itself.
fn led_by(messages: &[Message], at: usize) -> Option<usize> {
    if messages.get(at).is_none_or(|message| message.role == Role::User) {
        return None;
    }
    messages[..at].iter().rposition(|message| message.role == Role::User)
}

/// Whether a prompt may go on there: results stay with their calls.
pub(super) fn may_begin(messages: &[Message], at: usize) -> bool {
    match messages[at].role {
        Role::User => true,
        Role::Assistant => messages[at].tool_calls_json.is_some(),
        Role::System | Role::Tool => false,
    }
}

/// Where the last message begins that must stay, with the call that its results are of.
fn last_exchange(messages: &[Message]) -> usize {
    let last = messages.len().saturating_sub(1);
    (0..=last)
        .rev()
        .find(|&at| messages.get(at).is_none_or(|_| may_begin(messages, at)))
        .unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::chain::tests::message;

    fn call() -> Message {
        let calls = Some("[]".to_owned());
        Message { tool_calls_json: calls, ..message(Role::Assistant, "") }
    }

    #[test]
    fn old_output_leaves_its_first_line() {
        assert_eq!(mask("short"), None);
        let long = format!("\n  3 failed\n{}", "x".repeat(300));
        assert_eq!(
            mask(&long).unwrap(),
            "[Old output of 312 characters is left out. It began: 3 failed]"
        );
        assert_eq!(mask(&mask(&"y".repeat(10_000)).unwrap()), None, "it is not masked twice");
    }

    #[test]
    fn a_cut_lies_before_the_user_or_a_call() {
        let all = [
            message(Role::System, "s"),
            message(Role::User, "q1"),
            message(Role::Assistant, "a1"),
            message(Role::User, "q2"),
            call(),
            message(Role::Tool, "r1"),
            call(),
            message(Role::Tool, "r2"),
        ];
        let tokens = [10; 8];
        assert_eq!(cut(&all, &tokens, 0, 50), Some(3));
        assert_eq!(cut(&all, &tokens, 0, 49), Some(6), "q2 stays, whose calls these are");
        assert_eq!(cut(&all, &tokens, 0, 5), Some(6), "the last exchange stays in any case");
        assert_eq!(cut(&all, &tokens, 6, 5), None);
        assert_eq!(kept(&all, 3), (vec![0, 3, 4, 5, 6, 7], Some(3)));
        assert_eq!(kept(&all, 6), (vec![0, 3, 6, 7], Some(3)));
        assert_eq!(maskable(&all), 6);
    }

    #[test]
    fn of_one_message_nothing_is_cut() {
        let one = [message(Role::System, "s"), message(Role::User, "q")];
        assert_eq!(cut(&one, &[10, 1000], 0, 5), None);
    }

    proptest! {
        #[test]
        fn a_cut_keeps_system_messages_and_the_last_exchange_and_orphans_no_result(
            roles in prop::collection::vec(0_u8..5, 1..40), room in 0_u32..200,
        ) {
            let mut all: Vec<Message> = Vec::new();
            for role in roles {
                let before = all.last();
                let after_call = before.is_some_and(|message| {
                    message.role == Role::Tool || message.tool_calls_json.is_some()
                });
                all.push(match role {
                    0 => message(Role::System, "s"),
                    1 => message(Role::Assistant, "a"),
                    2 => call(),
                    3 if after_call => message(Role::Tool, "r"),
                    _ => message(Role::User, "q"),
                });
            }
            let tokens = vec![10; all.len()];
            let Some(at) = cut(&all, &tokens, 0, room) else { return Ok(()) };
            let (kept, user) = kept(&all, at);
            prop_assert!(kept.is_sorted() && kept.windows(2).all(|pair| pair[0] != pair[1]));
            for (place, message) in all.iter().enumerate() {
                prop_assert!(message.role != Role::System || kept.contains(&place));
            }
            prop_assert!(kept.contains(&(all.len() - 1)));
            let last_user = all.iter().rposition(|message| message.role == Role::User);
            prop_assert!(last_user.is_none_or(|user| kept.contains(&user)));
            prop_assert_eq!(user.is_some(), last_user.is_some());
            for &place in kept.iter().filter(|&&place| all[place].role == Role::Tool) {
                prop_assert!(kept.contains(&(place - 1)), "its call");
            }
        }
    }
}

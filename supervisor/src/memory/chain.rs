//! By what a conversation is known again: the hash of all its messages up to each
//! one. Pure.
//!
//! Editors send the whole conversation each time. A message that was edited changes
//! the hashes from there on, so what was decided for messages before it holds, and
//! nothing of what came after it.

use engine_api::protocol::{Message, Role};
use sha2::{Digest, Sha256};

/// The hash of some first messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub [u8; 16]);

/// The hash of the messages up to each one, and itself. In a conversation that has a
/// name all hashes are others than in every other one.
#[must_use]
pub fn chain(name: Option<&str>, messages: &[Message]) -> Vec<Link> {
    let mut before = match name {
        Some(name) => cut(Sha256::new().chain_update(name)),
        None => Link([0; 16]),
    };
    let mut links = Vec::with_capacity(messages.len());
    for message in messages {
        let mut digest = Sha256::new();
        digest.update(before.0);
        say(message, &mut digest);
        before = cut(digest);
        links.push(before);
    }
    links
}

/// The hash of a message alone.
#[must_use]
pub fn alone(message: &Message) -> Link {
    chain(None, std::slice::from_ref(message))[0]
}

fn say(message: &Message, digest: &mut Sha256) {
    let Message { role, content, tool_calls_json, tool_call_id, name } = message;
    digest.update([match role {
        Role::System => 0,
        Role::User => 1,
        Role::Assistant => 2,
        Role::Tool => 3,
    }]);
    let texts = [Some(content), tool_calls_json.as_ref(), tool_call_id.as_ref(), name.as_ref()];
    for text in texts {
        // With its length before it, no text can pass for two.
        digest.update(text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
        digest.update(text.map_or("", String::as_str));
    }
}

fn cut(digest: Sha256) -> Link {
    let whole = digest.finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&whole[..16]);
    Link(first)
}

/// Where the last message of the user stands.
#[must_use]
pub fn last_user(messages: &[Message]) -> Option<usize> {
    messages.iter().rposition(|message| message.role == Role::User)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn message(role: Role, content: &str) -> Message {
        Message {
            role,
            content: content.to_owned(),
            tool_calls_json: None,
            tool_call_id: None,
            name: None,
        }
    }

    #[test]
    fn an_edit_changes_what_follows_it_and_nothing_before() {
        let said = |texts: &[&str]| {
            chain(None, &texts.iter().map(|text| message(Role::User, text)).collect::<Vec<_>>())
        };
        let first = said(&["a", "b", "c"]);
        assert_eq!(said(&["a", "b", "c", "d"])[..3], first);
        let edited = said(&["a", "x", "c"]);
        assert_eq!(edited[0], first[0]);
        assert!(edited[1] != first[1] && edited[2] != first[2]);
    }

    #[test]
    fn who_says_it_and_how_it_is_cut_counts() {
        let one = |message: Message| alone(&message);
        let plain = one(message(Role::User, "ab"));
        assert_ne!(plain, one(message(Role::Assistant, "ab")));
        let named = Message { name: Some("b".into()), ..message(Role::User, "a") };
        let called = Message { tool_call_id: Some("b".into()), ..message(Role::User, "a") };
        assert_ne!(one(named), one(called));
        let two = [message(Role::User, "a"), message(Role::User, "b")];
        assert_ne!(chain(None, &two)[1], plain);
        assert_ne!(chain(Some("x"), &two), chain(None, &two));
    }
}

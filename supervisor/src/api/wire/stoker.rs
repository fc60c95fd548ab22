//! What a chat wishes to have added, and what it is told of it.
//!
//! A wish is the body's `stoker` object, or the end of the model's name for editors
//! that can set nothing else: `NAME+code`, `NAME+memory`, `NAME+code+memory`. What
//! stands in the object wins.

use serde::{Deserialize, Serialize};

use super::object::Object;
use crate::api::error::Problem;
use crate::keys::Chats;
use crate::memory::quote::Place;

/// Repositories that one request may name.
const MOST_REPOSITORIES: usize = 64;

/// What is to be added to a chat. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// From which repositories; none named for all that the client may see.
    pub(crate) code: Option<Vec<String>>,
    /// The conversation may be made shorter, and what was said be recalled.
    pub(crate) memory: bool,
    /// What its client calls the conversation.
    pub(crate) conversation: Option<String>,
    /// The code is what the key's chats have, and nobody named it in this request.
    pub(crate) code_of_key: bool,
}

/// The body's `stoker` object.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Extension {
    repositories: Option<Vec<String>>,
    memory: Option<Remembering>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Remembering {
    Auto,
    Off,
}

/// Ends of a model's name that wish for something.
pub(crate) const ALIASES: [&str; 3] = ["+code", "+memory", "+code+memory"];

/// The model's name without such an end, and what that wishes for.
pub(crate) fn alias(name: &str) -> (&str, Wish) {
    let bare = name.strip_suffix(":latest").unwrap_or(name);
    // The longest first, because it ends like others.
    for alias in ALIASES.iter().rev() {
        // The model's name may be left out, and then the sign as well.
        let unnamed = || (bare == &alias[1..]).then_some("");
        if let Some(model) = bare.strip_suffix(alias).or_else(unnamed) {
            let code = alias.contains("code").then(Vec::new);
            let memory = alias.contains("memory");
            return (model, Wish { code, memory, ..Wish::default() });
        }
    }
    (name, Wish::default())
}

impl Wish {
    pub(crate) fn is_off(&self) -> bool {
        self.code.is_none() && !self.memory
    }

    /// The same, and what the key's chats have where the request says nothing.
    pub(crate) fn or_of_key(mut self, chats: &Chats) -> Self {
        self.memory |= chats.memory;
        if self.code.is_none() && !chats.code.is_empty() {
            let all = chats.code.iter().any(|name| name == "*");
            self.code = Some(if all { Vec::new() } else { chats.code.clone() });
            self.code_of_key = true;
        }
        self
    }

    /// The same, where the body says otherwise.
    ///
    /// # Errors
    /// It names too many repositories.
    pub(crate) fn with(mut self, extension: Option<Object<Extension>>) -> Result<Self, Problem> {
        let Some(Object(Extension { repositories, memory })) = extension else { return Ok(self) };
        self.memory = memory.map_or(self.memory, |memory| memory == Remembering::Auto);
        if let Some(repositories) = repositories {
            if repositories.len() > MOST_REPOSITORIES {
                let why = format!("names more than {MOST_REPOSITORIES} repositories");
                return Err(Problem::field("stoker.repositories", why));
            }
            let all = repositories.iter().any(|name| name == "*");
            self.code_of_key = false;
            self.code = match repositories {
                _ if all => Some(Vec::new()),
                none if none.is_empty() => None,
                named => Some(named),
            };
        }
        Ok(self)
    }
}

/// What was done with a chat, for its client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Receipt {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<CodeReceipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<MemoryReceipt>,
    /// Tokens of the parts of the prompt; together they are all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sections: Option<Sections>,
    /// What did not work, and was done without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CodeReceipt {
    /// Before the last message of the user.
    pub(crate) added: Vec<Counted>,
    /// Where earlier turns of this conversation had it.
    pub(crate) kept: Vec<Counted>,
    /// Found, and not in the prompt.
    pub(crate) left_out: Vec<LeftOut>,
}

/// What was left out of a conversation, and what stands in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct MemoryReceipt {
    /// As `GET /api/memory` names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) conversation: Option<i64>,
    /// That the client sent.
    pub(crate) messages: usize,
    /// Messages of tools that are there without their text.
    pub(crate) masked: usize,
    /// Messages that are not there.
    pub(crate) replaced: usize,
    /// They went with this request, or between it and the one before.
    pub(crate) reset: bool,
    /// What stands in their place.
    #[serde(flatten)]
    pub(crate) instead: Option<InsteadReceipt>,
    /// Passages from earlier in the conversation.
    pub(crate) recalled: Vec<RecalledReceipt>,
}

/// What stands in the place of messages that are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InsteadReceipt {
    /// Lines of their ledger.
    pub(crate) ledger_lines: usize,
    pub(crate) ledger_lines_left_out: usize,
    /// Blocks of them that the model made a text of, and the tokens of these texts.
    pub(crate) summaries: usize,
    pub(crate) summary_tokens: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecalledReceipt {
    /// Who said it.
    pub(crate) role: String,
    pub(crate) tokens: u32,
}

/// Code in a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    #[serde(flatten)]
    pub(crate) place: Place,
    pub(crate) tokens: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LeftOut {
    #[serde(flatten)]
    pub(crate) place: Place,
    pub(crate) why: Why,
}

/// Why something that was found is not in the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// The client sent the same text, or an earlier turn has it.
    InConversation,
    /// Better code has the same lines.
    Overlaps,
    NoRoom,
    /// It has text that means the model's control tokens.
    ControlTokens,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sections {
    /// System messages.
    pub(crate) system: u32,
    /// What stands in the place of messages that are left out.
    pub(crate) ledger: u32,
    /// Everything between, with tools and what the template adds.
    pub(crate) log: u32,
    /// Code and passages, of this turn and earlier ones.
    pub(crate) added: u32,
    /// The last message of the user.
    pub(crate) last_turn: u32,
}

impl Receipt {
    /// As it stands in an answer.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always have a JSON form")
    }

    /// Its numbers in a header.
    pub(crate) fn line(&self) -> String {
        let mut line = String::new();
        let mut say = |name: &str, number: usize| {
            let comma = if line.is_empty() { "" } else { "; " };
            line.push_str(&format!("{comma}{name}={number}"));
        };
        if let Some(CodeReceipt { added, kept, left_out }) = &self.code {
            say("code", added.len());
            say("code_kept", kept.len());
            say("code_left_out", left_out.len());
        }
        if let Some(memory) = &self.memory {
            say("masked", memory.masked);
            say("replaced", memory.replaced);
            say("recalled", memory.recalled.len());
        }
        say("problems", self.problems.len());
        line
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::api::wire::json::parse;

    #[derive(Debug, Deserialize)]
    struct Body {
        stoker: Option<Object<Extension>>,
    }

    fn wish(name: &str, stoker: &str) -> Result<Wish, String> {
        let body: Body = parse(format!(r#"{{"stoker":{stoker}}}"#).as_bytes())
            .map_err(|problem| problem.message)?;
        alias(name).1.with(body.stoker).map_err(|problem| problem.message)
    }

    fn code(names: &[&str]) -> Wish {
        let code = Some(names.iter().map(|&name| name.to_owned()).collect());
        Wish { code, ..Wish::default() }
    }

    #[test]
    fn a_name_may_end_in_a_wish() {
        for (name, model) in [
            ("coder+code", "coder"),
            ("coder:7b+code", "coder:7b"),
            ("coder+code:latest", "coder"),
            ("+code", ""),
            ("code", ""),
        ] {
            assert_eq!(alias(name), (model, code(&[])), "{name}");
        }
        let both = Wish { memory: true, ..code(&[]) };
        assert_eq!(alias("coder+code+memory"), ("coder", both.clone()));
        assert_eq!(alias("code+memory"), ("", both));
        let memory = Wish { memory: true, ..Wish::default() };
        assert_eq!(alias("coder+memory"), ("coder", memory));
        for name in ["coder", "coder:latest", "code-7b", ""] {
            assert_eq!(alias(name), (name, Wish::default()), "{name}");
        }
    }

    #[test]
    fn what_the_body_says_wins() {
        assert_eq!(wish("m", "null"), Ok(Wish::default()));
        assert_eq!(wish("m", "{}"), Ok(Wish::default()));
        assert_eq!(wish("m+code", "{}"), Ok(code(&[])));
        assert_eq!(wish("m+code", r#"{"repositories":["x"]}"#), Ok(code(&["x"])));
        assert_eq!(wish("m", r#"{"repositories":["x","*"]}"#), Ok(code(&[])));
        assert_eq!(wish("m+code", r#"{"repositories":[]}"#), Ok(Wish::default()));
        assert_eq!(wish("m+memory", r#"{"memory":"off"}"#), Ok(Wish::default()));
        assert!(wish("m", r#"{"memory":"auto"}"#).unwrap().memory);
        assert!(wish("m", r#"{"memory":"maybe"}"#).is_err());
        let refusal = wish("m", r#"{"repository":"x"}"#).unwrap_err();
        assert!(refusal.contains("unknown field `repository`"), "{refusal}");
        let refusal = wish("m", r#"{"repositories":"x"}"#).unwrap_err();
        assert!(refusal.starts_with("`stoker.repositories` is wrong"), "{refusal}");
    }

    #[test]
    fn what_a_keys_chats_have_is_asked_for_by_nobody_and_off_wins() {
        let chats = Chats { code: vec!["x".into()], memory: true };
        let wish = |name: &str, stoker: &str| {
            let body: Body = parse(format!(r#"{{"stoker":{stoker}}}"#).as_bytes()).unwrap();
            alias(name).1.or_of_key(&chats).with(body.stoker).unwrap()
        };
        let of_key = Wish { memory: true, code_of_key: true, ..code(&["x"]) };
        assert_eq!(wish("m", "null"), of_key);
        assert_eq!(wish("m", r#"{"memory":"off"}"#), Wish { memory: false, ..of_key.clone() });
        assert!(wish("m", r#"{"memory":"off","repositories":[]}"#).is_off());
        assert_eq!(wish("m", r#"{"repositories":["y"]}"#), Wish { memory: true, ..code(&["y"]) });
        assert_eq!(wish("m+code", "null"), Wish { memory: true, ..code(&[]) });
        assert_eq!(Wish::default().or_of_key(&Chats::default()), Wish::default());
    }

    #[test]
    fn a_receipt_names_what_is_in_the_prompt() {
        let place = |path: &str| Place {
            repository: "shop".into(),
            path: path.into(),
            first_line: 1,
            last_line: 9,
        };
        let receipt = Receipt {
            code: Some(CodeReceipt {
                added: vec![Counted { place: place("a.rs"), tokens: 40 }],
                kept: Vec::new(),
                left_out: vec![LeftOut { place: place("b.rs"), why: Why::NoRoom }],
            }),
            memory: None,
            sections: Some(Sections { system: 5, ledger: 0, log: 0, added: 60, last_turn: 8 }),
            problems: Vec::new(),
        };
        expect![[r#"{"code":{"added":[{"repository":"shop","path":"a.rs","first_line":1,"last_line":9,"tokens":40}],"kept":[],"left_out":[{"repository":"shop","path":"b.rs","first_line":1,"last_line":9,"why":"no_room"}]},"sections":{"system":5,"ledger":0,"log":0,"added":60,"last_turn":8}}"#]].assert_eq(&receipt.json());
        assert_eq!(receipt.line(), "code=1; code_kept=0; code_left_out=1; problems=0");
    }
}

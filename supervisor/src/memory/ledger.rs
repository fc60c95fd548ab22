//! What must not be lost of a conversation, word for word: files, values, commands
//! and how they ended, what was decided and what must hold. Pure.
//!
//! Rules find it, no model, so nothing stands here that nobody said. Of a value that
//! was given again only the newest stands by itself; the older one stands beside it,
//! as what it was.

use std::collections::HashMap;

use engine_api::protocol::{Message, Role};
use serde_json::Value;

/// Characters of one line at most; what is longer is passed over, not cut.
const LONGEST_LINE: usize = 300;
/// Entries of one kind; of more the newest.
const MOST_OF_A_KIND: usize = 64;
/// Characters of a command's first line of output.
const LONGEST_RESULT: usize = 120;
/// Old values of one subject that are known; of more the newest.
const MOST_OLD: usize = 16;
/// Characters of a value that is unlikely to be said of something else.
const TELLING: usize = 4;

/// What kind of thing it is, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What must or must never be.
    Constraint,
    Decision,
    /// A name and what it was set to.
    Value,
    /// Something that is still to be done.
    Open,
    Command,
    File,
}

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// What it is about; the same subject again supersedes it.
    pub subject: String,
    /// What was said of it.
    pub said: String,
    /// Values that it had before and has no longer, the newest last.
    pub was: Vec<String>,
    /// In which message.
    pub at: usize,
}

/// All that the rules find, the most important kind first, within a kind the newest.
#[must_use]
pub fn ledger(messages: &[Message]) -> Vec<Entry> {
    let mut found = Found::default();
    for (at, message) in messages.iter().enumerate() {
        match message.role {
            Role::System => {}
            Role::User | Role::Assistant => found.read(at, message),
            Role::Tool => found.result(message),
        }
    }
    let mut entries = found.entries;
    entries.sort_by(|one, other| one.kind.cmp(&other.kind).then(other.at.cmp(&one.at)));
    let mut of_kind = (Kind::Constraint, 0);
    entries.retain(|entry| {
        of_kind =
            if of_kind.0 == entry.kind { (entry.kind, of_kind.1 + 1) } else { (entry.kind, 1) };
        of_kind.1 <= MOST_OF_A_KIND
    });
    entries
}

impl Entry {
    /// As a line of the prompt.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { kind, subject, said, was, .. } = self;
        let was = was.last().map(|was| format!(" (was {was})")).unwrap_or_default();
        match kind {
            Kind::Constraint | Kind::Decision | Kind::Open => format!("- {said}"),
            Kind::Value => format!("- {subject}: {said}{was}"),
            Kind::Command if said.is_empty() => format!("- ran `{subject}`"),
            Kind::Command => format!("- ran `{subject}`: {said}"),
            Kind::File => format!("- file {subject}"),
        }
    }
}

/// Values that a text gives and that hold no longer, where it does not give the new one:
/// what it would have to be told beside it.
#[must_use]
pub fn superseded<'a>(entries: &'a [Entry], text: &str) -> Vec<&'a Entry> {
    let folded = text.to_lowercase();
    let is_old = |entry: &&Entry| {
        let names_it = |value: &String| {
            mentions(text, value)
                && (value.len() >= TELLING
                    || entry.subject.split(' ').any(|word| mentions(&folded, word)))
        };
        entry.was.iter().any(names_it) && !mentions(text, &entry.said)
    };
    entries.iter().filter(is_old).collect()
}

/// Whether it stands in the text, and not as a part of another word or number.
fn mentions(text: &str, value: &str) -> bool {
    let part = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    let alone = |(at, _): (usize, &str)| {
        !part(text[..at].chars().next_back()) && !part(text[at + value.len()..].chars().next())
    };
    !value.is_empty() && text.match_indices(value).any(alone)
}

#[derive(Default)]
struct Found {
    entries: Vec<Entry>,
    /// Where the entry of a subject stands.
    places: HashMap<(Kind, String), usize>,
    /// Commands whose results have not come: id of the call, place in `entries`.
    waiting: Vec<(Option<String>, usize)>,
}

impl Found {
    fn read(&mut self, at: usize, message: &Message) {
        let mut fenced = false;
        for line in message.content.lines() {
            let line = line.trim();
            if line.starts_with("```") {
                fenced = !fenced;
                continue;
            }
            self.files(at, line);
            if line.chars().count() > LONGEST_LINE {
                continue;
            }
            if let Some(command) = line.strip_prefix("$ ") {
                self.put(Kind::Command, command, "", at);
            } else if !fenced {
                self.sentences(at, line);
            }
        }
        if let Some(calls) = &message.tool_calls_json {
            self.calls(at, calls);
        }
    }

    fn sentences(&mut self, at: usize, line: &str) {
        if line.starts_with("TODO") || line.starts_with("- [ ]") {
            self.put(Kind::Open, line, line, at);
            return;
        }
        for sentence in sentences(line) {
            let words: Vec<String> = sentence
                .split(|char: char| !char.is_alphanumeric() && char != '\'')
                .filter(|word| !word.is_empty())
                .map(str::to_lowercase)
                .collect();
            let has = |sought: &[&str]| {
                sought.iter().any(|sought| {
                    let sought: Vec<_> = sought.split(' ').collect();
                    words.windows(sought.len()).any(|window| window == sought)
                })
            };
            if has(&CONSTRAINTS) {
                self.put(Kind::Constraint, sentence, sentence, at);
            } else if has(&DECISIONS) {
                self.put(Kind::Decision, sentence, sentence, at);
            }
            if let Some((subject, value)) = assignment(sentence) {
                self.put(Kind::Value, &subject, value, at);
            }
        }
    }

    fn files(&mut self, at: usize, line: &str) {
        for word in
            line.split(|char: char| char.is_whitespace() || "\"'`()[]{}<>,;=".contains(char))
        {
            let word = word.trim_matches(|char: char| ".:!?*".contains(char));
            let word = word.split_once(':').map_or(word, |(path, _)| path);
            if is_path(word) {
                self.put(Kind::File, word, "", at);
            }
        }
    }

    /// What tools are called for: commands, and files in their arguments.
    fn calls(&mut self, at: usize, calls: &str) {
        let Ok(Value::Array(calls)) = serde_json::from_str(calls) else { return };
        for call in &calls {
            let arguments = match &call["function"]["arguments"] {
                Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
                other => other.clone(),
            };
            let Value::Object(arguments) = arguments else { continue };
            for (name, value) in &arguments {
                let Value::String(text) = value else { continue };
                let is_short = text.chars().count() <= LONGEST_LINE && !text.contains('\n');
                if is_short && matches!(name.as_str(), "command" | "cmd" | "script") {
                    self.put(Kind::Command, text, "", at);
                    let id = call["id"].as_str().map(str::to_owned);
                    let last = self.place(Kind::Command, text);
                    self.waiting.extend(last.map(|place| (id, place)));
                } else if is_short {
                    self.files(at, text);
                }
            }
        }
    }

    /// What a command ended with: its status if it says one, and its first line.
    fn result(&mut self, message: &Message) {
        let id = &message.tool_call_id;
        let place = self.waiting.iter().position(|(waiting, _)| waiting == id || id.is_none());
        let Some(place) = place else { return };
        let (_, entry) = self.waiting.remove(place);
        let status = message.content.lines().find(|line| {
            let line = line.to_lowercase();
            ["exit code", "exit status", "error", "failed", "panicked"]
                .iter()
                .any(|word| line.contains(word))
        });
        let first = message.content.lines().find(|line| !line.trim().is_empty());
        let said = status.or(first).unwrap_or("nothing").trim();
        self.entries[entry].said = said.chars().take(LONGEST_RESULT).collect();
    }

    fn place(&self, kind: Kind, subject: &str) -> Option<usize> {
        self.places.get(&(kind, subject.to_owned())).copied()
    }

    /// Notes it; what was said before of the same subject becomes what it was.
    fn put(&mut self, kind: Kind, subject: &str, said: &str, at: usize) {
        match self.place(kind, subject) {
            Some(place) => {
                let entry = &mut self.entries[place];
                if entry.said != said && kind == Kind::Value {
                    let was = std::mem::take(&mut entry.said);
                    entry.was.retain(|older| older != said && *older != was);
                    entry.was.push(was);
                    if entry.was.len() > MOST_OLD {
                        entry.was.remove(0);
                    }
                }
                entry.said = said.to_owned();
                entry.at = at;
            }
            None => {
                self.places.insert((kind, subject.to_owned()), self.entries.len());
                let (subject, said) = (subject.to_owned(), said.to_owned());
                self.entries.push(Entry { kind, subject, said, was: Vec::new(), at });
            }
        }
    }
}

/// Words by which a sentence says what must hold.
const CONSTRAINTS: [&str; 14] = [
    "must",
    "must not",
    "mustn't",
    "never",
    "always",
    "do not",
    "don't",
    "required",
    "prefer",
    "make sure",
    "not allowed",
    "at most",
    "at least",
    "remember",
];
/// Words by which it says what was decided.
const DECISIONS: [&str; 12] = [
    "decided",
    "we decided",
    "let's use",
    "we will use",
    "we'll use",
    "we use",
    "instead of",
    "agreed",
    "we chose",
    "going with",
    "switch to",
    "settled on",
];

/// A line in sentences: at `. `, `! `, `? ` and `; `.
pub(super) fn sentences(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest
            .as_bytes()
            .windows(2)
            .position(|pair| b".!?;".contains(&pair[0]) && pair[1] == b' ')
            .map_or(rest.len(), |at| at + 1);
        let (sentence, after) = rest.split_at(end);
        rest = after.trim_start();
        Some(sentence.trim())
    })
    .filter(|sentence| !sentence.is_empty())
}

/// `the port is 8443`, `port = 8443`, `port: 8443`, `set the port to 8443`: the
/// subject in lower case without articles, and the value as it was said.
fn assignment(sentence: &str) -> Option<(String, &str)> {
    let (subject, value) = [" is now ", " = ", ": ", " is ", " to ", "="]
        .iter()
        .find_map(|sign| sentence.split_once(sign))?;
    let value = value.trim().trim_end_matches(['.', '!', '?', ';', ',']);
    // Up to what ends it: values are short.
    let value = value.split([',', ';']).next().unwrap_or_default().trim();
    let is_value = value.chars().any(|char| char.is_ascii_digit()) || value.starts_with(['"', '`']);
    if !is_value || value.split_whitespace().count() > 4 {
        return None;
    }
    let subject: Vec<String> = subject
        .split_whitespace()
        .map(|word| word.trim_matches(['"', '`', '*', '-', ',']).to_lowercase())
        .filter(|word| !word.is_empty() && !SUBJECT_FILLERS.contains(&word.as_str()))
        .collect();
    let is_subject = (1..=5).contains(&subject.len())
        && subject.iter().any(|word| word.contains(char::is_alphabetic));
    is_subject.then(|| (subject.join(" "), value))
}

/// Words of a subject that say nothing of it.
const SUBJECT_FILLERS: [&str; 14] = [
    "the", "a", "an", "set", "change", "changed", "please", "our", "now", "that", "and", "so",
    "value", "note",
];

/// Ends of names that are files without a slash in them, too.
const EXTENSIONS: [&str; 40] = [
    "rs", "py", "js", "ts", "tsx", "jsx", "go", "c", "h", "cc", "cpp", "hpp", "java", "cs", "sh",
    "rb", "json", "toml", "yaml", "yml", "md", "html", "css", "sql", "txt", "cfg", "conf", "ini",
    "lock", "xml", "kt", "swift", "php", "lua", "zig", "proto", "mk", "cmake", "service", "env",
];

fn is_path(word: &str) -> bool {
    if word.len() < 3 || word.len() > 200 || word.contains("://") || word.contains("//") {
        return false;
    }
    let plain = |char: char| char.is_alphanumeric() || "/._-+@~".contains(char);
    if !word.chars().all(plain) || !word.contains(char::is_alphabetic) {
        return false;
    }
    let name = word.rsplit('/').next().unwrap_or_default();
    let has_extension = name
        .rsplit_once('.')
        .is_some_and(|(stem, end)| !stem.is_empty() && EXTENSIONS.contains(&end));
    has_extension || (word.matches('/').count() >= 2 && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::chain::tests::message;

    fn lines(messages: &[Message]) -> Vec<String> {
        ledger(messages).iter().map(Entry::line).collect()
    }

    #[test]
    fn what_matters_is_found_word_for_word() {
        let mut call = message(Role::Assistant, "");
        call.tool_calls_json = Some(
            r#"[{"id":"7","function":{"name":"bash","arguments":"{\"command\":\"cargo test fan\"}"}}]"#
                .into(),
        );
        let mut result = message(Role::Tool, "running 3 tests\nerror: test failed, exit code 101");
        result.tool_call_id = Some("7".into());
        let said = [
            message(
                Role::User,
                "Look at src/fan.rs. The port is 8443. We must never block in set_speed!",
            ),
            message(Role::Assistant, "Fine; we decided to keep the lock. timeout: 30 s"),
            call,
            result,
            message(Role::User, "TODO: tell Anna\nthe weather is nice today and nothing else"),
        ];
        assert_eq!(
            lines(&said),
            [
                "- We must never block in set_speed!",
                "- we decided to keep the lock.",
                "- timeout: 30 s",
                "- port: 8443",
                "- TODO: tell Anna",
                "- ran `cargo test fan`: error: test failed, exit code 101",
                "- file src/fan.rs",
            ]
        );
    }

    #[test]
    fn an_old_value_stands_beside_the_new_one_and_never_alone() {
        let said = |texts: &[&str]| {
            let all: Vec<_> = texts.iter().map(|text| message(Role::User, text)).collect();
            lines(&all)
        };
        assert_eq!(said(&["The port is 8443.", "port = 9000"]), ["- port: 9000 (was 8443)"]);
        assert_eq!(said(&["The port is 8443.", "set the port to 8443"]), ["- port: 8443"]);
        assert_eq!(
            said(&["The port is 1.", "The port is 2.", "The port is 3."]),
            ["- port: 3 (was 2)"]
        );
    }

    #[test]
    fn an_old_value_is_told_from_one_that_holds() {
        let said: Vec<_> = ["The port is 84431.", "port = 9000", "The size is 8", "size = 9"]
            .map(|text| message(Role::User, text))
            .into();
        let entries = ledger(&said);
        let lines = |text: &str| -> Vec<String> {
            superseded(&entries, text).iter().map(|entry| entry.line()).collect()
        };
        assert_eq!(lines("It listens on 84431."), ["- port: 9000 (was 84431)"]);
        assert_eq!(lines("The Size was 8 then."), ["- size: 9 (was 8)"]);
        for fine in ["84431, now 9000", "port 844312", "x84431", "8 people", "size 9"] {
            assert_eq!(lines(fine), [""; 0], "{fine}");
        }
        let back = ["speed: 1", "speed: 2", "speed: 3", "speed: 1"];
        let back: Vec<_> = back.map(|text| message(Role::User, text)).into();
        assert_eq!(ledger(&back)[0].was, ["2", "3"]);
    }

    #[test]
    fn paths_are_told_from_words() {
        for path in ["src/a.rs", "Cargo.toml", "/etc/stoker/conf.d/x", "~/a/b", "a.b/c.py"] {
            assert!(is_path(path), "{path}");
        }
        for word in ["and/or", "e.g", "1/2", "http://a/b.rs", "v1.2", ".rs", "rs", "1.2.3"] {
            assert!(!is_path(word), "{word}");
        }
    }

    proptest! {
        #[test]
        fn nothing_stands_there_that_nobody_said(texts in prop::collection::vec("[a-c=: .0-9/\n$]{0,60}", 0..6)) {
            let said: Vec<_> = texts.iter().map(|text| message(Role::User, text)).collect();
            let all = texts.join("\n");
            for entry in ledger(&said) {
                prop_assert!(all.contains(&entry.said), "{entry:?}");
                prop_assert!(entry.was.iter().all(|was| all.contains(was)));
                for word in entry.subject.split(' ') {
                    prop_assert!(all.to_lowercase().contains(&word.to_lowercase()));
                }
            }
        }

        #[test]
        fn any_text_has_a_ledger(text in ".{0,300}", calls in ".{0,80}") {
            let mut said = message(Role::Assistant, &text);
            said.tool_calls_json = Some(calls);
            let _ = ledger(&[said, message(Role::Tool, &text)]);
        }
    }
}

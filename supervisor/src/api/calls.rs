//! Calls of tools in an answer's text, found while it comes.
//!
//! ```text
//!             opening                    `{`            name known
//!   Text ────────────────► Between ───────────► Object ───────────► (shown)
//!    ▲  ◄──── closing ────    │  ◄─── `}` ─────────┤
//!    └──── it was no call ────┴────────────────────┘ Lost, if it was shown
//! ```
//!
//! What is returned depends on the text pushed so far and on nothing else, however
//! it was cut. A marker is never shown in part; what only looked like a call is
//! shown as the text that it is. From the moment that a call's name is known, its
//! arguments are passed on as they come.

mod object;

use engine_api::form::{CallSyntax, Calls};
use sha2::{Digest, Sha256};

use object::{Object, Step};

/// What some text brought.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) content: String,
    /// In the order of their indices, each once.
    pub(crate) calls: Vec<CallNews>,
}

/// What is new of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallNews {
    pub(crate) index: usize,
    /// With the first news of it.
    pub(crate) name: Option<String>,
    /// The next part of its arguments' JSON.
    pub(crate) arguments: String,
    /// Whether that was all.
    pub(crate) complete: bool,
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct CallParser {
    syntax: CallSyntax,
    parallel: bool,
    names: Vec<String>,
    place: Place,
    /// Text that may still become a marker, or white space before one.
    held: String,
    /// What was read since the opening, while it may still turn out to be text.
    raw: String,
    /// Whether anything was shown.
    said: bool,
    /// Calls that were begun.
    begun: usize,
    /// The same when the last opening was read.
    before: usize,
}

#[derive(Debug)]
enum Place {
    Text,
    /// After the opening, before the next object or the closing.
    Between,
    Object(Object),
    /// In something that began as a call and ended as nothing.
    Lost,
}

impl CallParser {
    pub(crate) fn new(calls: &Calls) -> Self {
        Self {
            syntax: calls.syntax,
            parallel: calls.parallel,
            names: calls.names.clone(),
            place: if calls.begun { Place::Between } else { Place::Text },
            held: String::new(),
            raw: String::new(),
            said: false,
            begun: 0,
            before: 0,
        }
    }

    /// Takes the next text.
    pub(crate) fn push(&mut self, text: &str) -> News {
        let mut news = News::default();
        for character in text.chars() {
            self.read(character, &mut news);
        }
        news
    }

    /// The rest, when no more text comes.
    pub(crate) fn finish(&mut self) -> News {
        let (held, raw) = (std::mem::take(&mut self.held), std::mem::take(&mut self.raw));
        let called = self.has_called();
        let content = match self.place {
            // White space after calls is nobody's.
            Place::Text if called && held.trim().is_empty() => String::new(),
            Place::Text => held,
            _ if called => String::new(),
            _ => raw,
        };
        News { content, calls: Vec::new() }
    }

    /// Whether a tool was called.
    pub(crate) fn has_called(&self) -> bool {
        self.begun > 0
    }

    fn read(&mut self, character: char, news: &mut News) {
        match &mut self.place {
            Place::Text => {
                self.held.push(character);
                self.look_for_opening(news);
            }
            Place::Between => {
                self.raw.push(character);
                self.between(character, news);
            }
            Place::Object(object) => {
                self.raw.push(character);
                let step = object.read(character);
                self.heed(step, news);
            }
            Place::Lost => {
                self.raw.push(character);
                self.look_for_closing();
            }
        }
    }

    /// Shows what cannot be the beginning of calls any more.
    fn look_for_opening(&mut self, news: &mut News) {
        let opening = self.syntax.opening();
        loop {
            let blanks = self.held.len() - self.held.trim_start().len();
            let tail = &self.held[blanks..];
            if tail == opening {
                self.raw = std::mem::take(&mut self.held);
                self.before = self.begun;
                self.place = Place::Between;
                return;
            }
            // An answer of Llama's that begins with an object may be a call.
            if self.syntax == CallSyntax::Llama3 && tail == "{" && !self.said {
                self.raw = std::mem::take(&mut self.held);
                self.place = Place::Object(Object::begun());
                return;
            }
            if opening.starts_with(tail) {
                return;
            }
            let first = tail.chars().next().map_or(0, char::len_utf8);
            news.content.extend(self.held.drain(..blanks + first));
            self.said = true;
        }
    }

    fn between(&mut self, character: char, news: &mut News) {
        let separator = match self.syntax {
            CallSyntax::Hermes => false,
            CallSyntax::Llama3 => character == ';',
            CallSyntax::Mistral => matches!(character, '[' | ','),
        };
        if self.held.is_empty() {
            if character == '{' {
                self.place = Place::Object(Object::begun());
                return;
            }
            if character.is_whitespace() || separator {
                return;
            }
        }
        self.held.push(character);
        let closing = closing(self.syntax);
        if self.held == closing && self.begun > self.before {
            self.leave();
        } else if self.held == closing || !closing.starts_with(&self.held) {
            self.held.clear();
            self.was_none(news);
        }
    }

    fn heed(&mut self, step: Step, news: &mut News) {
        let Place::Object(object) = &mut self.place else { return };
        let known = match (&object.name, self.syntax) {
            (None, _) => None,
            (Some(name), CallSyntax::Llama3) => Some(self.names.contains(name)),
            (Some(name), _) => Some(!name.is_empty()),
        };
        match (step, known) {
            (Step::Broken, _) | (_, Some(false)) | (Step::End, None) => {
                return self.was_none(news);
            }
            (Step::More, None) => return,
            (Step::More | Step::End, Some(true)) => {}
        }
        let name = (!object.shown).then(|| object.name.clone()).flatten();
        self.begun += usize::from(name.is_some());
        object.shown = true;
        let mut arguments = std::mem::take(&mut object.arguments);
        let complete = step == Step::End;
        if complete && !object.has_arguments {
            arguments.push_str("{}");
        }
        let index = self.begun - 1;
        if complete {
            self.place = Place::Between;
        }
        self.raw.clear();
        // More calls than are wanted are not told of.
        if self.parallel || index == 0 {
            news.tell(CallNews { index, name, arguments, complete });
        }
    }

    /// What began like calls is something else.
    fn was_none(&mut self, news: &mut News) {
        let shown = matches!(&self.place, Place::Object(object) if object.shown);
        if shown {
            self.place = Place::Lost;
            return;
        }
        self.place = Place::Text;
        self.said = true;
        news.content.push_str(&std::mem::take(&mut self.raw));
    }

    fn look_for_closing(&mut self) {
        let closing = closing(self.syntax);
        if !closing.is_empty() && self.raw.ends_with(closing) {
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.held.clear();
        self.raw.clear();
        self.place = Place::Text;
    }
}

impl News {
    pub(crate) fn is_empty(&self) -> bool {
        self.content.is_empty() && self.calls.is_empty()
    }

    fn tell(&mut self, news: CallNews) {
        match self.calls.last_mut() {
            Some(last) if last.index == news.index => {
                last.arguments.push_str(&news.arguments);
                last.complete |= news.complete;
            }
            _ => self.calls.push(news),
        }
    }
}

/// What a whole text says; all of it is content where there are no calls.
pub(crate) fn whole(calls: Option<&Calls>, text: &str) -> News {
    let Some(calls) = calls else {
        return News { content: text.to_owned(), calls: Vec::new() };
    };
    let mut parser = CallParser::new(calls);
    let mut news = parser.push(text);
    let rest = parser.finish();
    news.content.push_str(&rest.content);
    news
}

/// What stands after calls.
fn closing(syntax: CallSyntax) -> &'static str {
    match syntax {
        CallSyntax::Hermes => "</tool_call>",
        CallSyntax::Mistral => "]",
        CallSyntax::Llama3 => "",
    }
}

/// A call's id, from what the answer is known by: the same whenever and wherever
/// the answer is said again. Mistral's templates refuse ids that are not nine
/// letters and digits; nobody else minds.
pub(crate) fn call_id(answer: &str, choice: usize, index: usize) -> String {
    const SYMBOLS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest(format!("{answer}/{choice}/{index}"));
    let symbol = |byte: &u8| char::from(SYMBOLS[usize::from(*byte) % SYMBOLS.len()]);
    digest.iter().take(9).map(symbol).collect()
}

#[cfg(test)]
mod tests;

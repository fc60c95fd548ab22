//! One call as a JSON object that comes character by character: its name, and
//! its arguments as they are written.
//!
//! It is no validator. It follows strings and brackets far enough to know where
//! each member ends; what does not even have the form of an object is broken.

/// An object whose `{` was read.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// Once it has been read.
    pub(super) name: Option<String>,
    /// JSON of the arguments that was read and not taken.
    pub(super) arguments: String,
    pub(super) has_arguments: bool,
    /// Whether anybody was told of it.
    pub(super) shown: bool,
    at: At,
    member: Member,
    /// The string or number that is being read.
    text: String,
}

/// What a character brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// The object's `}`.
    End,
    /// It is no object.
    Broken,
}

#[derive(Debug, Default, Clone, Copy)]
enum At {
    /// A key; or the end, if there was no member yet.
    #[default]
    First,
    Key,
    InKey {
        escaped: bool,
    },
    Colon,
    Value,
    InString {
        escaped: bool,
    },
    /// A list or an object, so deep.
    Nested {
        depth: usize,
        string: bool,
        escaped: bool,
    },
    /// A number or a word.
    Plain,
    Comma,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Member {
    Name,
    Arguments,
    #[default]
    Other,
}

impl Object {
    /// An object whose `{` was read just now.
    pub(super) fn begun() -> Self {
        Self::default()
    }

    pub(super) fn read(&mut self, character: char) -> Step {
        let next = match self.at {
            At::First | At::Key | At::Colon | At::Value | At::Comma
                if character.is_ascii_whitespace() =>
            {
                self.at
            }
            At::First | At::Comma if character == '}' => return Step::End,
            At::First | At::Key if character == '"' => self.begin(At::InKey { escaped: false }),
            At::InKey { escaped } => return self.in_key(escaped, character),
            At::Colon if character == ':' => At::Value,
            At::Value => return self.value(character),
            At::InString { escaped } => return self.in_string(escaped, character),
            At::Nested { depth, string, escaped } => {
                self.pass(character);
                nested(depth, string, escaped, character)
            }
            At::Plain if !matches!(character, ',' | '}') && !character.is_whitespace() => {
                self.text.push(character);
                At::Plain
            }
            At::Plain => {
                if !self.end_plain() {
                    return Step::Broken;
                }
                self.at = At::Comma;
                return self.read(character);
            }
            At::Comma if character == ',' => At::Key,
            At::First | At::Key | At::Colon | At::Comma => return Step::Broken,
        };
        self.at = next;
        Step::More
    }

    fn begin(&mut self, at: At) -> At {
        self.text = "\"".to_owned();
        at
    }

    fn in_key(&mut self, escaped: bool, character: char) -> Step {
        self.text.push(character);
        if escaped || character != '"' {
            self.at = At::InKey { escaped: !escaped && character == '\\' };
            return Step::More;
        }
        let Ok(key) = serde_json::from_str::<String>(&self.text) else { return Step::Broken };
        self.member = match key.as_str() {
            "name" if self.name.is_none() => Member::Name,
            "arguments" | "parameters" if !self.has_arguments => Member::Arguments,
            _ => Member::Other,
        };
        self.at = At::Colon;
        Step::More
    }

    fn value(&mut self, character: char) -> Step {
        self.at = match (character, self.member) {
            ('"', _) => self.begin(At::InString { escaped: false }),
            (_, Member::Name) => return Step::Broken,
            ('{' | '[', member) => {
                self.has_arguments |= member == Member::Arguments;
                self.pass(character);
                At::Nested { depth: 1, string: false, escaped: false }
            }
            ('}' | ']' | ',' | ':', _) => return Step::Broken,
            (character, _) => {
                self.text = character.to_string();
                At::Plain
            }
        };
        Step::More
    }

    fn in_string(&mut self, escaped: bool, character: char) -> Step {
        self.text.push(character);
        if escaped || character != '"' {
            self.at = At::InString { escaped: !escaped && character == '\\' };
            return Step::More;
        }
        let Ok(text) = serde_json::from_str::<String>(&self.text) else { return Step::Broken };
        match self.member {
            Member::Name => self.name = Some(text),
            // Some models write the arguments' JSON into a string.
            Member::Arguments => self.take_arguments(&text),
            Member::Other => {}
        }
        self.at = At::Comma;
        Step::More
    }

    /// False if it is no value.
    fn end_plain(&mut self) -> bool {
        let text = std::mem::take(&mut self.text);
        if self.member == Member::Arguments {
            self.take_arguments(if text == "null" { "{}" } else { &text });
        }
        serde_json::from_str::<serde_json::Value>(&text).is_ok()
    }

    fn take_arguments(&mut self, text: &str) {
        self.has_arguments = true;
        self.arguments.push_str(text);
    }

    /// A character of a list or an object.
    fn pass(&mut self, character: char) {
        if self.member == Member::Arguments {
            self.arguments.push(character);
        }
    }
}

fn nested(depth: usize, string: bool, escaped: bool, character: char) -> At {
    let at = |depth, string, escaped| At::Nested { depth, string, escaped };
    match character {
        _ if escaped => at(depth, string, false),
        '\\' if string => at(depth, string, true),
        '"' => at(depth, !string, false),
        '{' | '[' if !string => at(depth + 1, false, false),
        '}' | ']' if !string && depth == 1 => At::Comma,
        '}' | ']' if !string => at(depth - 1, false, false),
        _ => at(depth, string, false),
    }
}

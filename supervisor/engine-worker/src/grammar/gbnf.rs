//! llama.cpp's grammars, rewritten as Lark.
//!
//! There, everything is made of characters; here, terminals are told from rules,
//! and the longest terminal wins. So each rule that does not refer to itself
//! becomes one regular expression, in which nothing is ambiguous, and only what
//! is truly recursive stays a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Groups within groups. Rewriting calls itself for each.
const MOST_NESTED: usize = 30;
/// Times that one thing may be repeated.
const MOST_REPEATED: u32 = 10_000;

/// What is wrong with a grammar, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct GbnfError {
    line: usize,
    what: String,
}

/// The same grammar in llguidance's Lark.
///
/// # Errors
/// It does not parse, has no `root`, or refers to a rule that is not there.
pub(super) fn to_lark(text: &str) -> Result<String, GbnfError> {
    let mut parser = Parser { text, at: 0 };
    let mut rules = BTreeMap::new();
    parser.skip(true);
    while parser.at < text.len() {
        let name = parser.name()?;
        parser.skip(false);
        if !parser.take("::=") {
            return Err(parser.error("expected `::=`"));
        }
        parser.skip(true);
        let body = parser.alternatives(0)?;
        rules.insert(name, body);
        parser.skip(true);
    }
    if !rules.contains_key("root") {
        return Err(parser.error("there is no rule `root`"));
    }
    let missing = rules.values().flat_map(Node::names).find(|name| !rules.contains_key(*name));
    if let Some(name) = missing {
        return Err(parser.error(&format!("there is no rule `{name}`")));
    }
    Ok(write(&rules))
}

/// One part of a rule.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// A regular expression.
    Pattern(String),
    Rule(String),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    /// So often at least, and at most.
    Repeat(Box<Node>, u32, Option<u32>),
}

impl Node {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Pattern(_) => Vec::new(),
            Self::Rule(name) => vec![name],
            Self::Sequence(parts) | Self::Either(parts) => {
                parts.iter().flat_map(Self::names).collect()
            }
            Self::Repeat(part, ..) => part.names(),
        }
    }
}

fn write(rules: &BTreeMap<String, Node>) -> String {
    let numbers: BTreeMap<&str, usize> = rules.keys().map(String::as_str).zip(0..).collect();
    let recursive = recursive(rules);
    let mut lark = format!("start: r{}\n", numbers["root"]);
    for (name, body) in rules {
        let number = numbers[name.as_str()];
        let reference = |name: &str| match recursive.contains(name) || name == "root" {
            true => format!("r{}", numbers[name]),
            false => format!("T{}", numbers[name]),
        };
        let head = reference(name);
        // A rule that is one terminal cannot stand beside its own reference.
        let body = expression(body, &reference);
        let _ = writeln!(lark, "{head}: {body} // {number}");
    }
    lark
}

/// Rules that reach themselves, and those that reach them.
fn recursive(rules: &BTreeMap<String, Node>) -> BTreeSet<&str> {
    let mut finite: BTreeSet<&str> = BTreeSet::new();
    loop {
        let more: Vec<&str> = rules
            .iter()
            .filter(|(name, body)| {
                !finite.contains(name.as_str())
                    && body.names().iter().all(|inner| finite.contains(inner))
            })
            .map(|(name, _)| name.as_str())
            .collect();
        if more.is_empty() {
            break;
        }
        finite.extend(more);
    }
    rules.keys().map(String::as_str).filter(|name| !finite.contains(name)).collect()
}

fn expression(node: &Node, reference: &impl Fn(&str) -> String) -> String {
    match node {
        Node::Pattern(pattern) if pattern.is_empty() => "\"\"".to_owned(),
        Node::Pattern(pattern) => format!("/{pattern}/"),
        Node::Rule(name) => reference(name),
        Node::Sequence(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| expression(part, reference)).collect();
            parts.join(" ")
        }
        Node::Either(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| expression(part, reference)).collect();
            format!("({})", parts.join(" | "))
        }
        Node::Repeat(part, least, most) => {
            let part = expression(part, reference);
            let times = match (least, most) {
                (0, None) => "*".to_owned(),
                (1, None) => "+".to_owned(),
                (0, Some(1)) => "?".to_owned(),
                (least, None) => format!("{{{least},}}"),
                (least, Some(most)) => format!("{{{least},{most}}}"),
            };
            format!("({part}){times}")
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, what: &str) -> GbnfError {
        let line = self.text[..self.at].lines().count().max(1);
        GbnfError { line, what: what.to_owned() }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn take(&mut self, what: &str) -> bool {
        let there = self.text[self.at..].starts_with(what);
        self.at += if there { what.len() } else { 0 };
        there
    }

    /// Passes over blanks and comments, and line ends where a rule goes on.
    fn skip(&mut self, lines: bool) {
        while let Some(character) = self.peek() {
            match character {
                '#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if lines => self.at += 1,
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Result<String, GbnfError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        let name = &rest[..end.unwrap_or(rest.len())];
        if name.is_empty() {
            return Err(self.error("expected a name"));
        }
        self.at += name.len();
        Ok(name.to_owned())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Node, GbnfError> {
        if depth > MOST_NESTED {
            return Err(self.error("groups are nested too deep"));
        }
        let mut all = vec![self.sequence(depth)?];
        while self.take("|") {
            self.skip(true);
            all.push(self.sequence(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Node::Either(all) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, GbnfError> {
        let lines = depth > 0;
        let mut parts: Vec<Node> = Vec::new();
        loop {
            let part = match self.peek() {
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.at += 1;
                    Node::Pattern(r"(?s:.)".to_owned())
                }
                Some('(') => {
                    self.at += 1;
                    self.skip(true);
                    let inner = self.alternatives(depth + 1)?;
                    if !self.take(")") {
                        return Err(self.error("expected `)`"));
                    }
                    inner
                }
                Some(c) if c.is_ascii_alphanumeric() => Node::Rule(self.name()?),
                None | Some('|' | ')' | '\n' | '\r') => break,
                Some(other) => return Err(self.error(&format!("`{other}` is not expected here"))),
            };
            let part = self.repeated(part)?;
            parts.push(part);
            self.skip(lines);
        }
        Ok(match parts.len() {
            0 => Node::Pattern(String::new()),
            1 => parts.remove(0),
            _ => Node::Sequence(parts),
        })
    }

    fn repeated(&mut self, part: Node) -> Result<Node, GbnfError> {
        let (least, most) = if self.take("*") {
            (0, None)
        } else if self.take("+") {
            (1, None)
        } else if self.take("?") {
            (0, Some(1))
        } else if self.take("{") {
            let least = self.number()?.unwrap_or(0);
            let most = if self.take(",") { self.number()? } else { Some(least) };
            if !self.take("}") {
                return Err(self.error("expected `}`"));
            }
            if most.is_some_and(|most| most < least || most == 0) {
                return Err(self.error("a repetition ends before it begins"));
            }
            (least, most)
        } else {
            return Ok(part);
        };
        Ok(Node::Repeat(Box::new(part), least, most))
    }

    fn number(&mut self) -> Result<Option<u32>, GbnfError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += end;
        if end == 0 {
            return Ok(None);
        }
        let number = rest[..end].parse().ok().filter(|number| *number <= MOST_REPEATED);
        let why = format!("nothing can be repeated more than {MOST_REPEATED} times");
        number.map(Some).ok_or_else(|| self.error(&why))
    }

    fn literal(&mut self) -> Result<Node, GbnfError> {
        self.at += 1;
        let mut pattern = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(Node::Pattern(pattern)),
                Some('\\') => push_escaped(self.escaped()?, &mut pattern),
                Some(character) => push_escaped(character, &mut pattern),
                None => return Err(self.error("a string has no end")),
            }
        }
    }

    fn class(&mut self) -> Result<Node, GbnfError> {
        self.at += 1;
        let mut pattern = String::from("[");
        if self.take("^") {
            pattern.push('^');
        }
        let empty = pattern.len();
        loop {
            match self.next() {
                Some(']') if pattern.len() > empty => {
                    pattern.push(']');
                    return Ok(Node::Pattern(pattern));
                }
                Some(']') | None => return Err(self.error("a set of characters has no end")),
                Some('\\') => push_escaped(self.escaped()?, &mut pattern),
                // Between two characters it is a range, as there.
                Some('-') if pattern.len() > empty && self.peek() != Some(']') => pattern.push('-'),
                Some(character) => push_escaped(character, &mut pattern),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, GbnfError> {
        let digits = match self.next() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(character) if !character.is_alphanumeric() => return Ok(character),
            _ => return Err(self.error("an escape is not known")),
        };
        let code = self.text.get(self.at..self.at + digits);
        let code =
            code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        self.at += digits;
        code.ok_or_else(|| GbnfError { line: 1, what: "an escape is no character".to_owned() })
    }
}

/// A character as it stands in a regular expression, also in a set.
fn push_escaped(character: char, pattern: &mut String) {
    if character.is_alphanumeric() {
        pattern.push(character);
    } else {
        let _ = write!(pattern, "\\x{{{:x}}}", u32::from(character));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_recursive_becomes_a_terminal() {
        let lark = to_lark(
            "root ::= \"a\" list # comment\nlist ::= item (\n \",\" list)?\nitem ::= [0-9]{1,3}",
        );
        let lark = lark.unwrap();
        assert!(lark.contains("r1: T0 (/\\x{2c}/ r1)?"), "{lark}");
        assert!(lark.contains("T0: (/[0-9]/){1,3}"), "{lark}");
        assert!(lark.contains("r2: /a/ r1"), "{lark}");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, message) in [
            ("", "line 1: there is no rule `root`"),
            ("root ::= x", "line 1: there is no rule `x`"),
            ("root = \"a\"", "line 1: expected `::=`"),
            ("root ::= \"a\"\nx ::= \"b", "line 2: a string has no end"),
            ("root ::= (\"a\"", "line 1: expected `)`"),
            ("root ::= \"a\"{5,2}", "line 1: a repetition ends before it begins"),
            ("root ::= \"a\"{99999}", "line 1: nothing can be repeated more than 10000 times"),
        ] {
            assert_eq!(to_lark(text).unwrap_err().to_string(), message, "{text}");
        }
        let deep = format!("root ::= {}\"a\"{}", "(".repeat(1000), ")".repeat(1000));
        assert_eq!(to_lark(&deep).unwrap_err().to_string(), "line 1: groups are nested too deep");
    }

    proptest! {
        #[test]
        fn any_text_is_rewritten_or_refused(text in "(root|[a-z\"\\[\\]()|*+?{}0-9\\\\:=#é \n-]){0,40}") {
            let _either = to_lark(&text);
        }
    }
}

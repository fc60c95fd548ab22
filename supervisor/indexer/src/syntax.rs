//! From a file's text to what is defined in it: a list of definitions by lines, and
//! the names that stand there.
//!
//! Broken files have definitions too: where the grammar found an error it is
//! looked into like into anything else. Depth is bounded, time as well.

use std::ops::{ControlFlow, Range};
use std::time::Duration;

use nix::time::ClockId;
use tree_sitter::{Node, ParseOptions, ParseState, Parser};

use crate::language::{Language, Role};
use crate::names::{self, Name};

/// Definitions within definitions that are looked into.
const DEEPEST: usize = 24;
/// Processor time for one file at most; a large one takes some tens of
/// milliseconds. Waiting for a processor does not count.
const PARSING: Duration = Duration::from_secs(3);
/// Characters of a name that are kept.
const LONGEST_NAME: usize = 80;

/// Something that is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub role: Role,
    pub name: String,
    /// From 0, with the comments right before it.
    pub lines: Range<usize>,
    pub members: Vec<Definition>,
    /// Lines before which it may be cut if it is too long.
    pub seams: Vec<usize>,
}

/// What a text is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// What is defined, in its order.
    pub definitions: Vec<Definition>,
    /// Lines before which the rest may be cut.
    pub seams: Vec<usize>,
    pub names: Vec<Name<'a>>,
}

/// Why a file was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotParsed {
    #[error("its syntax was not understood within {} s", PARSING.as_secs())]
    TooSlow,
}

/// What a text is made of.
///
/// # Errors
/// The parser does not come to an end.
pub fn parts(language: Language, text: &str) -> Result<Parts<'_>, NotParsed> {
    let mut parser = Parser::new();
    parser.set_language(&language.syntax()).expect("every grammar fits this parser");
    let until = processor_time() + PARSING;
    let mut late = |_: &ParseState| match processor_time() < until {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    };
    let options = ParseOptions::new().progress_callback(&mut late);
    let bytes = text.as_bytes();
    let mut read = |at: usize, _| bytes.get(at..).unwrap_or_default();
    let tree = parser.parse_with_options(&mut read, None, Some(options));
    let tree = tree.ok_or(NotParsed::TooSlow)?;
    let mut definitions = Vec::new();
    let source = Source { language, text };
    source.look_into(tree.root_node(), 0, &mut definitions);
    let seams = seams(tree.root_node());
    let names = names::of(language, text, tree.root_node(), || processor_time() >= until);
    Ok(Parts { definitions, seams, names })
}

/// Of this thread.
fn processor_time() -> Duration {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    now.map_or(Duration::ZERO, Duration::from)
}

struct Source<'a> {
    language: Language,
    text: &'a str,
}

impl Source<'_> {
    /// Adds what is defined in `node`, not what is in those definitions.
    fn look_into(&self, node: Node<'_>, depth: usize, found: &mut Vec<Definition>) {
        if depth == DEEPEST {
            return;
        }
        let mut before = Before::default();
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            let lines = lines(child);
            if is_remark(child.kind()) {
                before.remark(&lines);
                continue;
            }
            let all = before.start_of(&lines)..lines.end;
            before.pass(&lines);
            match self.language.role(child.kind()) {
                None => {}
                Some(Role::Wrapper) => self.look_through(child, all, depth + 1, found),
                Some(role) => self.define(child, role, all, depth + 1, found),
            }
        }
    }

    fn define(
        &self,
        node: Node<'_>,
        role: Role,
        lines: Range<usize>,
        depth: usize,
        found: &mut Vec<Definition>,
    ) {
        let Some(name) = self.name(node) else { return self.look_into(node, depth, found) };
        let mut members = Vec::new();
        if role != Role::Function {
            self.look_into(node, depth, &mut members);
        }
        let seams = body(node).map(seams).unwrap_or_default();
        found.push(Definition { role, name, lines, members, seams });
    }

    /// A wrapper around one definition is a part of it.
    fn look_through(
        &self,
        wrapper: Node<'_>,
        lines: Range<usize>,
        depth: usize,
        found: &mut Vec<Definition>,
    ) {
        if let Some((name, value)) = bound_function(wrapper) {
            let seams = body(value).map(seams).unwrap_or_default();
            let (role, name, members) = (Role::Function, self.short(name), Vec::new());
            found.push(Definition { role, name, lines, members, seams });
            return;
        }
        let known = found.len();
        self.look_into(wrapper, depth, found);
        let single = matches!(
            wrapper.kind(),
            "decorated_definition"
                | "export_statement"
                | "template_declaration"
                | "type_definition"
        );
        if let (true, [only]) = (single, &mut found[known..]) {
            only.lines = lines;
        }
    }

    /// What a definition is called; `None` if it has no name and so is none.
    fn name(&self, node: Node<'_>) -> Option<String> {
        let field = |name| node.child_by_field_name(name);
        let name = match (self.language, node.kind()) {
            (Language::Rust, "impl_item") => {
                let of = self.short(field("type")?);
                return Some(match field("trait") {
                    Some(of_trait) => format!("{} for {of}", self.short(of_trait)),
                    None => of,
                });
            }
            (Language::Go, "method_declaration") => {
                let receiver = self.receiver(field("receiver")?);
                return Some(format!("{receiver}.{}", self.short(field("name")?)));
            }
            (Language::Go, "type_declaration") => {
                node.named_child(0)?.child_by_field_name("name")?
            }
            (Language::C | Language::Cpp, "function_definition") => declared(field("declarator")?)?,
            // A struct that is only mentioned defines nothing.
            (
                Language::C | Language::Cpp,
                "struct_specifier" | "union_specifier" | "enum_specifier" | "class_specifier",
            ) => {
                field("body")?;
                match (field("name"), node.parent()) {
                    (Some(name), _) => name,
                    (None, Some(parent)) => parent.child_by_field_name("declarator")?,
                    (None, None) => return None,
                }
            }
            (Language::CSharp, "operator_declaration") => field("operator")?,
            (Language::Json, "pair") | (Language::Yaml, "block_mapping_pair") => field("key")?,
            (Language::Toml, _) => node.named_child(0)?,
            (Language::Markdown, _) => {
                let heading =
                    node.named_child(0).filter(|first| first.kind().ends_with("heading"))?;
                heading.child_by_field_name("heading_content").unwrap_or(heading)
            }
            _ => field("name")?,
        };
        Some(self.short(name)).filter(|name| !name.is_empty())
    }

    /// The type that a method of Go's belongs to.
    fn receiver(&self, parameters: Node<'_>) -> String {
        let all = self.short(parameters);
        let inner = all.trim_matches(['(', ')']);
        let of = inner.rsplit_once(' ').map_or(inner, |(_, of)| of);
        of.trim_start_matches('*').to_owned()
    }

    /// A node's text in one short line.
    fn short(&self, node: Node<'_>) -> String {
        let text = self.text.get(node.byte_range()).unwrap_or_default();
        let words = text.trim_matches(['"', '\'', '#', ' ']).split_whitespace();
        let mut short = String::new();
        for word in words.take(LONGEST_NAME) {
            if !short.is_empty() {
                short.push(' ');
            }
            short.extend(word.chars().take(LONGEST_NAME));
        }
        short.chars().take(LONGEST_NAME).collect()
    }
}

/// What stands before a node: remarks right before a definition are of it.
#[derive(Default)]
struct Before {
    remarks: Option<Range<usize>>,
    /// Where the last node ended that was no remark.
    end: usize,
}

impl Before {
    fn remark(&mut self, lines: &Range<usize>) {
        // Behind the end of a statement it is of that.
        if lines.start < self.end {
            self.remarks = None;
            return;
        }
        let start = self.start_of(lines);
        self.remarks = Some(start..lines.end);
    }

    /// Where what stands on these lines begins, with the remarks on it.
    fn start_of(&self, lines: &Range<usize>) -> usize {
        let touching = self.remarks.as_ref().filter(|remarks| remarks.end >= lines.start);
        touching.map_or(lines.start, |remarks| remarks.start)
    }

    fn pass(&mut self, lines: &Range<usize>) {
        self.remarks = None;
        self.end = lines.end;
    }
}

fn is_remark(kind: &str) -> bool {
    kind.contains("comment") || kind == "attribute_item"
}

/// The name and the function of `const name = () => …`.
fn bound_function(wrapper: Node<'_>) -> Option<(Node<'_>, Node<'_>)> {
    let declaration = match wrapper.kind() {
        "export_statement" => wrapper.child_by_field_name("declaration")?,
        _ => wrapper,
    };
    let is_declaration =
        ["lexical_declaration", "variable_declaration"].contains(&declaration.kind());
    let declarator = declaration.named_child(0).filter(|_| is_declaration)?;
    let value = declarator.child_by_field_name("value")?;
    let is_function = ["arrow_function", "function_expression"].contains(&value.kind());
    Some((declarator.child_by_field_name("name").filter(|_| is_function)?, value))
}

/// The name within a declarator of C's, which stands around it like onion skins.
fn declared(mut declarator: Node<'_>) -> Option<Node<'_>> {
    for _ in 0..DEEPEST {
        match declarator.child_by_field_name("declarator") {
            Some(inner) => declarator = inner,
            None if declarator.kind() == "reference_declarator" => {
                declarator = declarator.named_child(0)?
            }
            None => return Some(declarator),
        }
    }
    None
}

/// The part of a definition with its statements.
fn body(node: Node<'_>) -> Option<Node<'_>> {
    node.child_by_field_name("body").or_else(|| {
        let last = node.named_child_count().checked_sub(1)?;
        node.named_child(last.try_into().ok()?)
    })
}

/// The lines on which the parts of a node begin.
fn seams(node: Node<'_>) -> Vec<usize> {
    let mut cursor = node.walk();
    let mut seams: Vec<_> =
        node.named_children(&mut cursor).map(|child| child.start_position().row).collect();
    seams.dedup();
    seams
}

fn lines(node: Node<'_>) -> Range<usize> {
    let (start, end) = (node.start_position(), node.end_position());
    // A node that ends at the beginning of a line does not have that line.
    let last = if end.column == 0 && end.row > start.row { end.row } else { end.row + 1 };
    start.row..last
}

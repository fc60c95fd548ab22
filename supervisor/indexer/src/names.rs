//! Which names a file defines and which it refers to: the graph of a repository is
//! drawn by them. Pure.
//!
//! A tree is gone over once, node by node, without recursion. What a kind of node
//! means is looked up by its number. Who a name belongs to is not asked here: that
//! is known only of all files together.

use std::collections::HashSet;
use std::ops::ControlFlow;

use tree_sitter::{Node, TreeCursor};

use crate::language::Language;
use crate::language::Language::*;

/// Names that are taken from one file; a file with more was hardly written by hand.
const MOST: usize = 50_000;
/// Bytes of a name. One letter says nothing, and nobody writes the longest by hand.
const LENGTHS: std::ops::RangeInclusive<usize> = 2..=80;
/// What a class is derived from, of which so many count.
const MOST_BASES: usize = 32;
/// Nodes around a name, such as the onion skins of a declarator in C.
const DEEPEST: usize = 24;

/// A name where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    pub name: &'a str,
    /// From 0.
    pub line: usize,
    pub is: Is,
}

/// What is done with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    Defined,
    /// Called, or named as a type.
    Used,
}

/// What a kind of node says of names. A field is where the name is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Define(&'static str),
    /// Without a body it only mentions what it seems to define.
    DefineIfWhole(&'static str),
    /// Binds a name to a value, which defines it if that is a function.
    Bind,
    /// Defines a name, and uses those that its other field holds.
    DefineOn(&'static str, &'static str),
    Use(&'static str),
    /// Uses what each of its children names.
    UseEach,
    /// Is itself the name of a type.
    Mention,
}

/// The names below `root`, in the order of the file; no more than some bound, and
/// those before the time is over.
pub fn of<'a>(
    language: Language,
    text: &'a str,
    root: Node<'_>,
    mut is_late: impl FnMut() -> bool,
) -> Vec<Name<'a>> {
    let syntax = language.syntax();
    let kinds = u16::try_from(syntax.node_kind_count()).unwrap_or(u16::MAX);
    let rules: Vec<_> = (0..kinds)
        .map(|kind| {
            let named = syntax.node_kind_is_named(kind);
            syntax.node_kind_for_id(kind).filter(|_| named).and_then(|kind| rule(language, kind))
        })
        .collect();
    if rules.iter().all(Option::is_none) {
        return Vec::new();
    }
    let mut found = Found { text, names: Vec::new(), defined: HashSet::new() };
    let mut cursor = root.walk();
    let mut seen = 0_u32;
    loop {
        let node = cursor.node();
        if let Some(Some(rule)) = rules.get(usize::from(node.kind_id())) {
            found.apply(*rule, node);
        }
        seen = seen.wrapping_add(1);
        let stop = found.names.len() >= MOST || (seen.is_multiple_of(4096) && is_late());
        if stop || next(&mut cursor).is_break() {
            return found.names;
        }
    }
}

/// The next node before all that follows it in the text.
fn next(cursor: &mut TreeCursor<'_>) -> ControlFlow<()> {
    if cursor.goto_first_child() {
        return ControlFlow::Continue(());
    }
    while !cursor.goto_next_sibling() {
        if !cursor.goto_parent() {
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}

struct Found<'a> {
    text: &'a str,
    names: Vec<Name<'a>>,
    /// Nodes that were taken as the name of a definition, and are no use of it.
    defined: HashSet<usize>,
}

impl Found<'_> {
    fn apply(&mut self, rule: Rule, node: Node<'_>) {
        let field = |name| node.child_by_field_name(name);
        match rule {
            Rule::Define(name) => self.define(field(name)),
            Rule::DefineIfWhole(name) => {
                if field("body").is_some() {
                    self.define(field(name));
                }
            }
            Rule::Bind => {
                let function = ["arrow_function", "function_expression", "generator_function"];
                if field("value").is_some_and(|value| function.contains(&value.kind())) {
                    self.define(field("name"));
                }
            }
            Rule::Use(name) => self.add(field(name).and_then(innermost), Is::Used),
            Rule::DefineOn(name, bases) => {
                self.define(field(name));
                if let Some(bases) = field(bases) {
                    self.use_each(bases);
                }
            }
            Rule::UseEach => self.use_each(node),
            Rule::Mention if self.defined.remove(&node.id()) => {}
            Rule::Mention => self.add(Some(node), Is::Used),
        }
    }

    fn use_each(&mut self, node: Node<'_>) {
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor).take(MOST_BASES) {
            self.add(innermost(child), Is::Used);
        }
    }

    fn define(&mut self, name: Option<Node<'_>>) {
        let Some(name) = name.and_then(innermost) else { return };
        self.defined.insert(name.id());
        self.add(Some(name), Is::Defined);
    }

    fn add(&mut self, node: Option<Node<'_>>, is: Is) {
        let Some(node) = node else { return };
        let Some(name) = self.text.get(node.byte_range()) else { return };
        if LENGTHS.contains(&name.len()) && name != "Self" {
            self.names.push(Name { name, line: node.start_position().row, is });
        }
    }
}

/// The name that an expression, a path or a declarator comes down to.
fn innermost(mut node: Node<'_>) -> Option<Node<'_>> {
    for _ in 0..DEEPEST {
        let next = match node.kind() {
            "identifier"
            | "field_identifier"
            | "type_identifier"
            | "property_identifier"
            | "private_property_identifier"
            | "constant"
            | "word" => return Some(node),
            "reference_declarator"
            | "parenthesized_declarator"
            | "command_name"
            | "generic_name"
            | "dependent_name"
            | "type" => node.named_child(0),
            _ => INNER.iter().find_map(|field| node.child_by_field_name(field)),
        };
        node = next?;
    }
    None
}

/// Fields that lead to the last part of a path, or into a declarator.
const INNER: [&str; 8] =
    ["field", "property", "attribute", "name", "method", "function", "declarator", "type"];

/// What a kind of node says of names in this language.
fn rule(language: Language, kind: &str) -> Option<Rule> {
    use Rule::{Bind, Define, DefineIfWhole, DefineOn, Mention, Use, UseEach};
    Some(match (language, kind) {
        (Rust | TypeScript | Tsx | Go | C | Cpp | Java, "type_identifier") => Mention,
        (Rust, "function_item" | "function_signature_item" | "macro_definition") => Define("name"),
        (Rust, "struct_item" | "enum_item" | "union_item" | "trait_item" | "type_item") => {
            Define("name")
        }
        (Rust, "call_expression") => Use("function"),
        (Rust, "macro_invocation") => Use("macro"),
        (Python, "function_definition") => Define("name"),
        (Python, "class_definition") => DefineOn("name", "superclasses"),
        (Python, "call") => Use("function"),
        (Python, "decorator" | "type") => UseEach,
        (JavaScript | TypeScript | Tsx, "function_declaration" | "method_definition") => {
            Define("name")
        }
        (JavaScript | TypeScript | Tsx, "generator_function_declaration" | "class_declaration") => {
            Define("name")
        }
        (JavaScript | TypeScript | Tsx, "variable_declarator") => Bind,
        (JavaScript | TypeScript | Tsx, "call_expression") => Use("function"),
        (JavaScript | TypeScript | Tsx, "new_expression") => Use("constructor"),
        (JavaScript | Tsx, "jsx_opening_element" | "jsx_self_closing_element") => Use("name"),
        (JavaScript, "class_heritage") => UseEach,
        (TypeScript | Tsx, "extends_clause") => Use("value"),
        (TypeScript | Tsx, "abstract_class_declaration" | "interface_declaration") => {
            Define("name")
        }
        (TypeScript | Tsx, "enum_declaration" | "type_alias_declaration") => Define("name"),
        (TypeScript | Tsx, "function_signature" | "method_signature") => Define("name"),
        (TypeScript | Tsx, "abstract_method_signature") => Define("name"),
        (Go, "function_declaration" | "method_declaration" | "method_elem") => Define("name"),
        (Go, "type_spec" | "type_alias") => Define("name"),
        (Go, "call_expression") => Use("function"),
        (C | Cpp, "function_definition" | "type_definition") => Define("declarator"),
        (C | Cpp, "preproc_function_def") => Define("name"),
        (C | Cpp, "struct_specifier" | "union_specifier" | "enum_specifier") => {
            DefineIfWhole("name")
        }
        (C | Cpp, "call_expression") => Use("function"),
        (Cpp, "class_specifier") => DefineIfWhole("name"),
        (Cpp, "alias_declaration") => Define("name"),
        // A constructor is called by its class's name, which is defined once.
        (Java, "method_declaration" | "class_declaration" | "interface_declaration") => {
            Define("name")
        }
        (Java, "enum_declaration" | "record_declaration" | "annotation_type_declaration") => {
            Define("name")
        }
        (Java, "method_invocation" | "annotation" | "marker_annotation") => Use("name"),
        (CSharp, "method_declaration" | "class_declaration" | "struct_declaration") => {
            Define("name")
        }
        (CSharp, "interface_declaration" | "record_declaration" | "enum_declaration") => {
            Define("name")
        }
        (CSharp, "delegate_declaration") => Define("name"),
        (CSharp, "invocation_expression") => Use("function"),
        (CSharp, "object_creation_expression") => Use("type"),
        (CSharp, "base_list") => UseEach,
        (Bash, "function_definition") => Define("name"),
        (Bash, "command") => Use("name"),
        (Ruby, "method" | "singleton_method" | "class" | "module") => Define("name"),
        (Ruby, "call") => Use("method"),
        (Ruby, "constant") => Mention,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "names/tests.rs"]
mod tests;

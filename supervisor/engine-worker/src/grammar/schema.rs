//! JSON schemas as clients write them, made ready to be enforced.
//!
//! Two things are added. White space between values is bounded, or a small
//! model would fill its window with it. And an object that lists its properties
//! gets no others, unless the schema speaks of them: what fits the narrower
//! schema fits the wider one, and nobody means the wider one.

use engine_api::form::{Grammar, MAX_GRAMMAR_BYTES};
use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value, json};

/// As llama.cpp allows it: a blank, or some line ends with an indentation.
const WHITE_SPACE: &str = r"[ ]|\n{1,2}[ \t]{0,20}";

/// Keywords that combine schemas, so that one cannot be narrowed for itself.
const COMBINING: [&str; 8] =
    ["allOf", "anyOf", "oneOf", "not", "if", "$ref", "unevaluatedProperties", "dependentSchemas"];

/// Work that compiling a schema may take: that of one object with so many
/// properties. It grows with the square of their number, and is the sum over all
/// objects: 500 take some hundredths of a second.
const MOST_PROPERTIES: usize = 500;

/// Any JSON object.
pub(super) fn any_object() -> GrammarWithLexer {
    with_options(json!({"type": "object"}), true)
}

/// Grammars of a schema, the narrowest first.
pub(super) fn variants(text: &str, strict: bool) -> Result<Vec<GrammarWithLexer>, String> {
    debug_assert!(text.len() <= MAX_GRAMMAR_BYTES, "the caller looks at the length");
    let schema: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    check([&schema])?;
    let closed = closed(schema.clone());
    Ok(vec![with_options(closed, strict), with_options(schema, strict)])
}

/// Looks whether schemas can be compiled into one grammar in a moment.
///
/// # Errors
/// They cannot.
pub(crate) fn check<'a>(schemas: impl IntoIterator<Item = &'a Value>) -> Result<(), String> {
    let work: usize = schemas.into_iter().map(work).sum();
    if work <= MOST_PROPERTIES * MOST_PROPERTIES {
        return Ok(());
    }
    Err(format!(
        "all objects together are as complex as one with {} properties, {MOST_PROPERTIES} can be",
        work.isqrt()
    ))
}

/// The squares of how many properties each object lists, summed.
fn work(schema: &Value) -> usize {
    match schema {
        Value::Array(parts) => parts.iter().map(work).sum(),
        Value::Object(fields) => {
            let listed = fields.get("properties").and_then(Value::as_object).map_or(0, Map::len);
            listed * listed + fields.values().map(work).sum::<usize>()
        }
        _ => 0,
    }
}

/// The schema of a grammar that is one, ready to stand in another grammar.
pub(crate) fn of(grammar: &Grammar) -> Option<Value> {
    match grammar {
        Grammar::JsonObject => Some(optioned(json!({"type": "object"}), false)),
        Grammar::JsonSchema { schema, strict } => {
            Some(optioned(closed(serde_json::from_str(schema).ok()?), *strict))
        }
        Grammar::Lark(_) | Grammar::Gbnf(_) => None,
    }
}

/// The same schema without properties that it does not list.
pub(crate) fn closed(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => Value::Object(closed_object(fields)),
        other => other,
    }
}

fn closed_object(fields: Map<String, Value>) -> Map<String, Value> {
    let combined = COMBINING.iter().any(|keyword| fields.contains_key(*keyword));
    let lists = fields.get("properties").is_some_and(Value::is_object)
        && !fields.contains_key("additionalProperties")
        && !fields.contains_key("patternProperties");
    let narrow = |(name, value): (String, Value)| {
        let value = closed_keyword(&name, value);
        (name, value)
    };
    let mut fields: Map<String, Value> = fields.into_iter().map(narrow).collect();
    if lists && !combined {
        fields.insert("additionalProperties".into(), Value::Bool(false));
    }
    fields
}

/// Goes down where each schema stands for itself.
fn closed_keyword(name: &str, value: Value) -> Value {
    match (name, value) {
        ("properties" | "$defs" | "definitions", Value::Object(schemas)) => Value::Object(
            schemas.into_iter().map(|(name, schema)| (name, closed(schema))).collect(),
        ),
        ("anyOf" | "oneOf" | "prefixItems", Value::Array(schemas)) => {
            Value::Array(schemas.into_iter().map(closed).collect())
        }
        ("items" | "additionalProperties", schema) => closed(schema),
        (_, value) => value,
    }
}

fn with_options(schema: Value, strict: bool) -> GrammarWithLexer {
    GrammarWithLexer::from_json_schema(optioned(schema, strict))
}

/// The schema with how it is to be compiled.
pub(crate) fn optioned(schema: Value, strict: bool) -> Value {
    let options = json!({
        "whitespace_pattern": WHITE_SPACE,
        "coerce_one_of": true,
        "lenient": !strict,
    });
    let mut fields = match schema {
        Value::Object(fields) => fields,
        // `true` allows everything, `false` nothing.
        other => Map::from_iter([("allOf".to_owned(), json!([other]))]),
    };
    fields.insert("x-guidance".into(), options);
    Value::Object(fields)
}

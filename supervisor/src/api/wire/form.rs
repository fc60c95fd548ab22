//! The form that a client wants the answer's text to have: `response_format`,
//! llama-server's `grammar` and `json_schema`, Ollama's `format`.

use engine_api::form::{Grammar, MAX_GRAMMAR_BYTES};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::object::Object;
use crate::api::error::Problem;

/// Bytes of a grammar that somebody wrote at most: the work to compile it grows
/// with the square of its length. Schemas and tools, which programs write, may
/// be longer.
const MAX_WRITTEN_BYTES: usize = 8 * 1024;

/// A grammar, and the field that asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) grammar: Grammar,
    pub(crate) field: &'static str,
}

impl Wanted {
    /// # Errors
    /// It is too long.
    fn checked(self) -> Result<Self, Problem> {
        let bytes = self.grammar.bytes();
        let most = match self.grammar {
            Grammar::JsonObject | Grammar::JsonSchema { .. } => MAX_GRAMMAR_BYTES,
            Grammar::Lark(_) | Grammar::Gbnf(_) => MAX_WRITTEN_BYTES,
        };
        if bytes > most {
            let why = format!("has {bytes} bytes, and may have {most} at most");
            return Err(Problem::field(self.field, why));
        }
        Ok(self)
    }
}

/// `response_format`.
#[derive(Debug, Deserialize)]
pub(super) struct ResponseFormat {
    r#type: String,
    json_schema: Option<Object<NamedSchema>>,
    /// llama-server takes it here.
    schema: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct NamedSchema {
    schema: Option<Box<RawValue>>,
    strict: Option<bool>,
}

impl ResponseFormat {
    const FIELD: &'static str = "response_format";

    fn wanted(&self) -> Result<Option<Wanted>, Problem> {
        let named = self.json_schema.as_ref().map(|Object(named)| named);
        let schema = named.and_then(|named| named.schema.as_deref()).or(self.schema.as_deref());
        let grammar = match (self.r#type.as_str(), schema) {
            ("text", _) => return Ok(None),
            ("json_object", None) => Grammar::JsonObject,
            ("json_object" | "json_schema", Some(schema)) => {
                let strict = named.and_then(|named| named.strict).unwrap_or(false);
                Grammar::JsonSchema { schema: schema.get().to_owned(), strict }
            }
            ("json_schema", None) => {
                let why = "is missing";
                return Err(Problem::field("response_format.json_schema.schema", why));
            }
            _ => {
                let why = "must be `text`, `json_object` or `json_schema`";
                return Err(Problem::field("response_format.type", why));
            }
        };
        Wanted { grammar, field: Self::FIELD }.checked().map(Some)
    }
}

/// What the OpenAI routes take.
///
/// # Errors
/// More than one form, one that is not known, or a grammar that is too long.
pub(super) fn of_openai(
    response_format: Option<&ResponseFormat>,
    grammar: Option<&str>,
    json_schema: Option<&RawValue>,
) -> Result<Option<Wanted>, Problem> {
    let format = response_format.map_or(Ok(None), ResponseFormat::wanted)?;
    let grammar = grammar.filter(|grammar| !grammar.trim().is_empty()).map(|text| {
        let lark = text.trim_start().starts_with("%llguidance");
        let text = text.to_owned();
        let grammar = if lark { Grammar::Lark(text) } else { Grammar::Gbnf(text) };
        Wanted { grammar, field: "grammar" }.checked()
    });
    let schema = json_schema.and_then(|raw| of_schema(raw, "json_schema"));
    let mut all = format.into_iter().map(Ok).chain(grammar).chain(schema.map(Wanted::checked));
    let first = all.next().transpose()?;
    match all.next().transpose()? {
        None => Ok(first),
        Some(Wanted { field, .. }) => {
            Err(Problem::field(field, "comes with another form; send one of them"))
        }
    }
}

/// Ollama's `format`: `"json"` or a schema.
///
/// # Errors
/// It is neither, or too long.
pub(super) fn of_ollama(format: Option<&RawValue>) -> Result<Option<Wanted>, Problem> {
    let Some(raw) = format else { return Ok(None) };
    match raw.get() {
        r#""json""# => Ok(Some(Wanted { grammar: Grammar::JsonObject, field: "format" })),
        text if text.starts_with('{') || is_nothing(text) => {
            of_schema(raw, "format").map(Wanted::checked).transpose()
        }
        _ => Err(Problem::field("format", "must be `json` or a JSON schema")),
    }
}

fn of_schema(raw: &RawValue, field: &'static str) -> Option<Wanted> {
    let schema = raw.get().to_owned();
    let wanted = Wanted { grammar: Grammar::JsonSchema { schema, strict: false }, field };
    (!is_nothing(raw.get())).then_some(wanted)
}

/// What clients send that mean none.
fn is_nothing(json: &str) -> bool {
    matches!(json, "null" | "false" | r#""""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn format(json: &str) -> Result<Option<Grammar>, String> {
        let format: ResponseFormat = serde_json::from_str(json).unwrap();
        let wanted = of_openai(Some(&format), None, None);
        wanted.map(|wanted| wanted.map(|w| w.grammar)).map_err(|problem| problem.message)
    }

    fn schema(schema: &str, strict: bool) -> Option<Grammar> {
        Some(Grammar::JsonSchema { schema: schema.to_owned(), strict })
    }

    #[test]
    fn response_formats() {
        assert_eq!(format(r#"{"type":"text"}"#), Ok(None));
        assert_eq!(format(r#"{"type":"json_object"}"#), Ok(Some(Grammar::JsonObject)));
        let strict = r#"{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"z":1,"a":2}}}"#;
        assert_eq!(format(strict), Ok(schema(r#"{"z":1,"a":2}"#, true)));
        let loose = r#"{"type":"json_object","schema":{}}"#;
        assert_eq!(format(loose), Ok(schema("{}", false)));
        for refused in [r#"{"type":"json_schema"}"#, r#"{"type":"xml"}"#] {
            assert!(format(refused).unwrap_err().starts_with("`response_format."), "{refused}");
        }
    }

    #[test]
    fn llama_servers_fields_and_only_one_of_all() {
        let grammar = |text| of_openai(None, Some(text), None).unwrap().map(|w| w.grammar);
        assert_eq!(grammar(" "), None);
        assert_eq!(grammar("root ::= \"a\""), Some(Grammar::Gbnf("root ::= \"a\"".into())));
        let lark = "%llguidance {}\nstart: \"a\"";
        assert_eq!(grammar(lark), Some(Grammar::Lark(lark.into())));
        let nothing = of_openai(None, None, Some(&raw(r#""""#)));
        assert_eq!(nothing, Ok(None));
        let both = of_openai(None, Some("root ::= \"a\""), Some(&raw("{}")));
        assert_eq!(both.unwrap_err().param.as_deref(), Some("json_schema"));
        let long = of_openai(None, Some(&"x".repeat(MAX_WRITTEN_BYTES + 1)), None);
        assert_eq!(long.unwrap_err().param.as_deref(), Some("grammar"));
    }

    #[test]
    fn ollamas_format() {
        let format = |json: &str| of_ollama(Some(&raw(json))).map(|w| w.map(|w| w.grammar));
        assert_eq!(format(r#""json""#), Ok(Some(Grammar::JsonObject)));
        assert_eq!(format(r#"{"type":"object"}"#), Ok(schema(r#"{"type":"object"}"#, false)));
        assert_eq!((format("null"), format(r#""""#)), (Ok(None), Ok(None)));
        assert!(format(r#""xml""#).is_err() && format("7").is_err());
    }
}

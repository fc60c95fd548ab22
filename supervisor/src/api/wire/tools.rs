//! `tools` and `tool_choice` of a chat, of either dialect.

use std::fmt;

use engine_api::form::{MAX_GRAMMAR_BYTES, ToolChoice, Tools};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::object::Object;
use crate::api::error::Problem;

/// The tools that an answer may call, with the definitions' own text for the
/// template; `None` if none may be called.
///
/// # Errors
/// They are no list of tools, or the choice names one that is not among them.
pub(super) fn tools(
    tools: Option<&RawValue>,
    ToolChoiceField(choice): ToolChoiceField,
    parallel: bool,
) -> Result<Option<Tools>, Problem> {
    #[derive(Deserialize)]
    struct Tool {
        function: Object<Function>,
    }
    #[derive(Deserialize)]
    struct Function {
        name: String,
    }

    let list = match tools {
        None => Vec::new(),
        Some(raw) => {
            let list: Option<Vec<Object<Tool>>> =
                serde_json::from_str(raw.get()).map_err(|_| {
                    Problem::field(
                        "tools",
                        "must be a list of objects with `function.name` in each",
                    )
                })?;
            list.unwrap_or_default()
        }
    };
    let has = |name: &str| list.iter().any(|Object(tool)| tool.function.0.name == name);
    let (raw, choice) = match (tools, choice) {
        (_, None) => return Ok(None),
        (Some(raw), Some(choice)) if !list.is_empty() => (raw, choice),
        (_, Some(ToolChoice::Auto)) => return Ok(None),
        (_, Some(_)) => {
            return Err(Problem::field("tool_choice", "asks for a call, but there are no `tools`"));
        }
    };
    if let ToolChoice::Named(name) = &choice
        && !has(name)
    {
        return Err(Problem::field("tool_choice", "names a function that is not in `tools`"));
    }
    if choice != ToolChoice::Auto && raw.get().len() > MAX_GRAMMAR_BYTES {
        let why =
            format!("have more than the {MAX_GRAMMAR_BYTES} bytes of which a call can be forced");
        return Err(Problem::field("tools", why));
    }
    Ok(Some(Tools { definitions: raw.get().to_owned(), choice, parallel }))
}

/// `tool_choice`; `None` for `none`.
#[derive(Debug, Clone)]
pub(super) struct ToolChoiceField(pub(super) Option<ToolChoice>);

impl Default for ToolChoiceField {
    fn default() -> Self {
        Self(Some(ToolChoice::Auto))
    }
}

impl<'de> Deserialize<'de> for ToolChoiceField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = ToolChoiceField;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, `none`, `required` or a function by its name")
            }

            fn visit_unit<E: Error>(self) -> Result<ToolChoiceField, E> {
                Ok(ToolChoiceField::default())
            }

            fn visit_str<E: Error>(self, choice: &str) -> Result<ToolChoiceField, E> {
                match choice {
                    "auto" => Ok(ToolChoiceField(Some(ToolChoice::Auto))),
                    "none" => Ok(ToolChoiceField(None)),
                    // `any` is Mistral's word for it.
                    "required" | "any" => Ok(ToolChoiceField(Some(ToolChoice::Required))),
                    _ => Err(E::invalid_value(Unexpected::Str(choice), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolChoiceField, A::Error> {
                #[derive(Deserialize)]
                struct Choice {
                    function: Object<Named>,
                }
                #[derive(Deserialize)]
                struct Named {
                    name: String,
                }
                let choice = Choice::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ToolChoiceField(Some(ToolChoice::Named(choice.function.0.name))))
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

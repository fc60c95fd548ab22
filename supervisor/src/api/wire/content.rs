//! Chat messages as clients write them, of either dialect.

use std::fmt;

use engine_api::protocol::{Message, Role};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::bounded::Bounded;
use super::object::{AnObject, Object};
use crate::api::error::Problem;

/// Messages of one request. Long sessions have some thousands.
const MAX_MESSAGES: usize = 16_384;

/// All messages of a request.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Messages(Bounded<Object<ChatMessage>, MAX_MESSAGES>);

impl Messages {
    /// The messages as the engine takes them.
    ///
    /// # Errors
    /// One says nothing where it must, or carries something other than text.
    pub(crate) fn checked(self) -> Result<Vec<Message>, Problem> {
        let Self(Bounded(messages)) = self;
        let messages = messages.into_iter().enumerate();
        messages.map(|(index, Object(message))| message.into_message(index)).collect()
    }
}

/// One message. Both dialects' fields are here; each client sends its own.
#[derive(Debug, Deserialize)]
struct ChatMessage {
    role: Speaker,
    #[serde(default)]
    content: Content,
    name: Option<String>,
    tool_calls: Option<Box<RawValue>>,
    tool_call_id: Option<String>,
    /// Ollama's name for the tool that a tool message speaks for.
    tool_name: Option<String>,
    /// Ollama's pictures beside the text.
    images: Option<Vec<serde::de::IgnoredAny>>,
}

/// `role`, with the synonyms that clients use.
#[derive(Debug, Clone, Copy)]
struct Speaker(Role);

/// `content`: a string, a list of parts, or nothing.
#[derive(Debug, Default)]
struct Content(Option<String>);

impl ChatMessage {
    /// `index` is the message's place in `messages`.
    fn into_message(self, index: usize) -> Result<Message, Problem> {
        let Speaker(role) = self.role;
        let field = |name: &str| format!("messages[{index}].{name}");
        if self.images.is_some_and(|images| !images.is_empty()) {
            return Err(Problem::field(
                field("images"),
                "cannot be used: this model reads text only",
            ));
        }
        let tool_calls_json = self.tool_calls.map(|raw| tool_calls(&raw, &field)).transpose()?;
        let tool_calls_json = tool_calls_json.flatten();
        let content = match (self.content.0, role) {
            (Some(content), _) => content,
            // A call to a tool needs no words, and some clients send back an
            // answer of theirs that was empty.
            (None, Role::Assistant) => String::new(),
            (None, _) => return Err(Problem::field(field("content"), "is missing")),
        };
        Ok(Message {
            role,
            content,
            tool_calls_json,
            tool_call_id: self.tool_call_id,
            name: self.name.or(self.tool_name),
        })
    }
}

/// The calls' own text, so that the template sees them as the client wrote
/// them. `None` for `null` and `[]`.
fn tool_calls(raw: &RawValue, field: &impl Fn(&str) -> String) -> Result<Option<String>, Problem> {
    let calls: Option<Vec<AnObject>> = serde_json::from_str(raw.get())
        .map_err(|_| Problem::field(field("tool_calls"), "must be a list of objects"))?;
    Ok(calls.is_some_and(|calls| !calls.is_empty()).then(|| raw.get().to_owned()))
}

impl<'de> Deserialize<'de> for Speaker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match name.as_str() {
            "system" | "developer" => Ok(Self(Role::System)),
            "user" => Ok(Self(Role::User)),
            "assistant" => Ok(Self(Role::Assistant)),
            "tool" | "function" => Ok(Self(Role::Tool)),
            other => Err(D::Error::unknown_variant(
                other,
                &["system", "developer", "user", "assistant", "tool"],
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of text parts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content(Some(text.to_owned())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Content, E> {
                Ok(Content(Some(text)))
            }

            fn visit_unit<E: Error>(self) -> Result<Content, E> {
                Ok(Content(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut joined = String::new();
                while let Some(Part(text)) = parts.next_element()? {
                    if !joined.is_empty() {
                        joined.push('\n');
                    }
                    joined.push_str(&text);
                }
                Ok(Content(Some(joined)))
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

/// The text of one part.
struct Part(String);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            r#type: String,
            text: Option<String>,
        }

        let Object(Fields { r#type, text }) = Object::deserialize(deserializer)?;
        match (r#type.as_str(), text) {
            ("text" | "input_text" | "output_text", Some(text)) => Ok(Self(text)),
            ("text" | "input_text" | "output_text", None) => Err(D::Error::missing_field("text")),
            (other, _) => {
                let other: String = other.chars().take(40).collect();
                Err(D::Error::custom(format_args!("this model reads text only, not `{other}`")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::json::parse;

    #[derive(Debug, Deserialize)]
    struct Body {
        messages: Messages,
    }

    fn read(message: &str) -> Result<Message, String> {
        let body = format!(r#"{{"messages":[{message}]}}"#);
        let body: Body = parse(body.as_bytes()).map_err(|problem| problem.message)?;
        body.messages.checked().map(|mut all| all.remove(0)).map_err(|problem| problem.message)
    }

    #[test]
    fn content_is_a_string_or_text_parts() {
        let content = |message: &str| read(message).map(|message| message.content);
        assert_eq!(content(r#"{"role":"user","content":"hi"}"#).as_deref(), Ok("hi"));
        assert_eq!(
            content(
                r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#
            )
            .as_deref(),
            Ok("a\nb")
        );
        assert_eq!(
            content(
                r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]}"#
            )
            .unwrap_err(),
            "`messages[0].content[1]` is wrong: this model reads text only, not `image_url`"
        );
        assert_eq!(
            content(r#"{"role":"user","content":7}"#).unwrap_err(),
            "`messages[0].content` is wrong: invalid type: integer `7`, expected a string or a list of text parts"
        );
        assert_eq!(
            content(r#"{"role":"user","content":null}"#).unwrap_err(),
            "`messages[0].content` is missing"
        );
        assert_eq!(
            content(r#"{"role":"user","content":"what is it?","images":["aGk="]}"#).unwrap_err(),
            "`messages[0].images` cannot be used: this model reads text only"
        );
    }

    #[test]
    fn roles_and_their_synonyms() {
        let role = |name: &str| {
            read(&format!(r#"{{"role":"{name}","content":"x"}}"#)).map(|message| message.role)
        };
        assert_eq!(role("developer"), Ok(Role::System));
        assert_eq!(role("tool"), Ok(Role::Tool));
        assert_eq!(
            role("robot").unwrap_err(),
            "`messages[0].role` is wrong: unknown variant `robot`, expected one of `system`, `developer`, `user`, `assistant`, `tool`"
        );
    }

    #[test]
    fn tool_calls_keep_their_text() {
        let calls = r#"[{"id":"1","function":{"name":"f","arguments":"{\"z\": 1, \"a\": 2}"}}]"#;
        let message =
            read(&format!(r#"{{"role":"assistant","content":null,"tool_calls":{calls}}}"#))
                .unwrap();
        assert_eq!(message.tool_calls_json.as_deref(), Some(calls));
        assert_eq!(message.content, "");
        let message = read(r#"{"role":"assistant","content":"x","tool_calls":null}"#).unwrap();
        assert_eq!(message.tool_calls_json, None);
        assert_eq!(
            read(r#"{"role":"assistant","tool_calls":"f()"}"#).unwrap_err(),
            "`messages[0].tool_calls` must be a list of objects"
        );
    }
}

//! A model's chat template. It comes with the model file and is not trusted: it
//! runs in a sandbox that reads nothing and has a bound on its work.

use engine_api::form::CallSyntax;
use engine_api::protocol::{Message, PromptProblem, Role};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::json;
use crate::backend::TemplateTokens;
use crate::tools;

/// Instructions that one rendering may take; far more than any template needs
/// for the longest conversation.
const MOST_TEMPLATE_WORK: u64 = 20_000_000;

const TEMPLATE: &str = "chat";

/// A template that parses.
pub(super) struct Template {
    environment: Environment<'static>,
    tokens: TemplateTokens,
    calls: Option<CallSyntax>,
}

impl Template {
    /// `None` if it does not parse, which is as good as none.
    pub(super) fn new(source: String, tokens: TemplateTokens) -> Option<Self> {
        let calls = tools::syntax_of(&source);
        Some(Self { environment: environment(source)?, tokens, calls })
    }

    /// How its model writes calls; `None` if it does not know tools.
    pub(super) fn calls(&self) -> Option<CallSyntax> {
        self.calls
    }

    /// The conversation as the model was trained to read it. `tools` are
    /// OpenAI's definitions, as a JSON array.
    pub(super) fn render(
        &self,
        messages: &[Message],
        tools: Option<&str>,
    ) -> Result<String, PromptProblem> {
        let refused = |error: Error| PromptProblem::Template(reason(&error));
        let template = self.environment.get_template(TEMPLATE).map_err(refused)?;
        let messages: Vec<Value> = messages.iter().map(message_value).collect();
        let tools = tools.and_then(json_value);
        let rendered = template.render(context! {
            messages, tools,
            bos_token => &*self.tokens.bos,
            eos_token => &*self.tokens.eos,
            add_generation_prompt => true,
        });
        rendered.map_err(refused)
    }
}

/// A sandbox in which model templates find what Hugging Face's renderer gives
/// them: Python's string methods, `raise_exception` and trimmed blocks.
fn environment(source: String) -> Option<Environment<'static>> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    let syntax = syntax.trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("whitespace settings change no delimiter"));
    environment.set_fuel(Some(MOST_TEMPLATE_WORK));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", json::as_python_does);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    match environment.add_template_owned(TEMPLATE, source) {
        Ok(()) => Some(environment),
        Err(error) => {
            tracing::warn!(%error, "chat template does not parse");
            None
        }
    }
}

fn message_value(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut fields = vec![("role", Value::from(role)), ("content", Value::from(&*message.content))];
    if let Some(calls) = message.tool_calls_json.as_deref().and_then(calls_value) {
        fields.push(("tool_calls", calls));
    }
    if let Some(id) = message.tool_call_id.as_deref() {
        fields.push(("tool_call_id", Value::from(id)));
    }
    if let Some(name) = message.name.as_deref() {
        fields.push(("name", Value::from(name)));
    }
    Value::from_pairs(fields)
}

/// Calls with their arguments as objects.
fn calls_value(json: &str) -> Option<Value> {
    let mut calls: serde_json::Value = serde_json::from_str(json).ok()?;
    for call in calls.as_array_mut().into_iter().flatten() {
        if let Some(given) = call.pointer_mut("/function/arguments") {
            *given = tools::arguments(given);
        }
    }
    Some(Value::from(Serde(calls)))
}

fn json_value(json: &str) -> Option<Value> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(Value::from(Serde(value)))
}

/// What a template says of itself, without its source.
fn reason(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: Role, content: &str) -> Message {
        Message {
            role,
            content: content.into(),
            tool_calls_json: None,
            tool_call_id: None,
            name: None,
        }
    }

    fn render(source: &str, messages: &[Message]) -> Result<String, String> {
        let environment = environment(source.into()).ok_or("does not parse")?;
        let values: Vec<Value> = messages.iter().map(message_value).collect();
        let template = environment.get_template(TEMPLATE).unwrap();
        template.render(context! { messages => values }).map_err(|error| reason(&error))
    }

    #[test]
    fn a_template_may_call_pythons_string_methods() {
        let source = "{% for m in messages %}\n{{ m.content.strip().upper() }}\n{% endfor %}";
        let text = render(source, &[message(Role::User, " hi ")]).unwrap();
        assert_eq!(text, "HI\n");
    }

    #[test]
    fn a_template_finds_json_as_python_writes_it_and_arguments_as_objects() {
        let source = "{% for m in messages %}{% for c in m.tool_calls %}\
                      {{ c.function.arguments | tojson }}{% endfor %}{% endfor %}";
        let arguments =
            r#"[{"function":{"name":"f","arguments":"{\"b\":[1,2],\"a\":\"<\u00e9\"}"}}]"#;
        let calls = Some(arguments.to_owned());
        let message = Message { tool_calls_json: calls, ..message(Role::Assistant, "") };
        assert_eq!(render(source, &[message]).unwrap(), r#"{"b": [1, 2], "a": "<é"}"#);
    }

    #[test]
    fn a_template_may_refuse_in_its_own_words() {
        let source = "{{ raise_exception('roles must alternate') }}";
        assert_eq!(render(source, &[]), Err("roles must alternate".into()));
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let source =
            "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
        assert!(render(source, &[]).is_err());
    }
}

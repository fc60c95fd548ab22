//! Tools: how the model is told of them, and how it is made to call one.
//!
//! A model that was trained to call tools has a chat template that says how. Its
//! way is recognised by the markers in the template's source. Every other
//! template, and one whose way is not known here, is given a system message in
//! the way of Hermes, which many models have seen, and hears of calls and results
//! as ordinary text.

use engine_api::form::{CallSyntax, Grammar, ToolChoice};
use engine_api::protocol::{Message, Role};
use serde_json::{Value, json};

use crate::grammar::schema;

/// Tools of one request. Editors' longest lists have about half.
const MOST_TOOLS: usize = 256;

/// How this template's model writes calls; `None` if the template does not know
/// tools, or another way to call them.
#[must_use]
pub fn syntax_of(template: &str) -> Option<CallSyntax> {
    let has = |marker| template.contains(marker);
    if !has("tools") {
        return None;
    }
    if has("[TOOL_CALLS]") {
        // Later templates write `[TOOL_CALLS]name[ARGS]{…}`.
        (!has("[ARGS]")).then_some(CallSyntax::Mistral)
    } else if has("<tool_call>") {
        // Some put something other than JSON into it.
        (!has("<function=") && !has("<arg_key>")).then_some(CallSyntax::Hermes)
    } else {
        has("<|python_tag|>").then_some(CallSyntax::Llama3)
    }
}

/// One tool as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    pub name: String,
    parameters: Value,
}

/// Reads OpenAI's tool definitions.
///
/// # Errors
/// What is wrong with them.
pub fn read(definitions: &str) -> Result<Vec<Tool>, String> {
    let list: Vec<Value> =
        serde_json::from_str(definitions).map_err(|error| format!("they are no list: {error}"))?;
    let tool = |definition: &Value| {
        let function = &definition["function"];
        let name = function["name"].as_str().ok_or("one has no name")?.to_owned();
        let parameters = match &function["parameters"] {
            Value::Null => json!({"type": "object", "properties": {}}),
            given => given.clone(),
        };
        Ok(Tool { name, parameters })
    };
    list.iter().map(tool).collect()
}

/// Looks whether calls of these tools can be compiled in a moment.
///
/// # Errors
/// They cannot.
pub fn check(tools: &[Tool]) -> Result<(), String> {
    if tools.len() > MOST_TOOLS {
        return Err(format!("there are {}, {MOST_TOOLS} can be forced", tools.len()));
    }
    schema::check(tools.iter().map(|tool| &tool.parameters))
}

/// What the prompt ends with when the answer must be a call.
#[must_use]
pub fn beginning(syntax: CallSyntax) -> &'static str {
    match syntax {
        CallSyntax::Hermes => "<tool_call>\n",
        CallSyntax::Mistral => "[TOOL_CALLS]",
        CallSyntax::Llama3 => "",
    }
}

/// Which of the tools may be called.
#[must_use]
pub fn chosen(all: &[Tool], choice: &ToolChoice) -> Vec<Tool> {
    match choice {
        ToolChoice::Auto | ToolChoice::Required => all.to_vec(),
        ToolChoice::Named(name) => all.iter().filter(|tool| tool.name == *name).cloned().collect(),
    }
}

/// The grammar of an answer that calls tools and says nothing else, after
/// [`beginning`]. `closed`: with no arguments that the tools do not list.
#[must_use]
pub fn forced(tools: &[Tool], syntax: CallSyntax, several: bool, closed: bool) -> Grammar {
    let start = all_calls(syntax, several);
    Grammar::Lark(format!("start: {start}\n{}", calls(tools, syntax, closed)))
}

/// The grammar of an answer that either has the form `answer`, a JSON schema, or
/// calls tools. `None` where calls begin with something that is no text.
#[must_use]
pub fn either(answer: &Value, tools: &[Tool], syntax: CallSyntax, closed: bool) -> Option<Grammar> {
    let opening = match syntax {
        CallSyntax::Hermes => literal(beginning(syntax)),
        CallSyntax::Llama3 => String::new(),
        CallSyntax::Mistral => return None,
    };
    let start = format!("start: answer | {opening} {}", all_calls(syntax, true));
    let calls = calls(tools, syntax, closed);
    Some(Grammar::Lark(format!("{start}\nanswer: %json {answer}\n{calls}")))
}

/// One call or several, with what stands around them.
fn all_calls(syntax: CallSyntax, several: bool) -> String {
    let (first, between, last) = match syntax {
        CallSyntax::Hermes => ("", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"),
        CallSyntax::Mistral => ("[", ", ", "]"),
        CallSyntax::Llama3 => return "call".to_owned(),
    };
    let more = if several { format!("({} call)*", literal(between)) } else { String::new() };
    format!("{} call {more} {}", literal(first), literal(last))
}

/// Each tool's arguments are a schema of their own, so that references in it
/// mean what they meant.
fn calls(tools: &[Tool], syntax: CallSyntax, closed: bool) -> String {
    let key = match syntax {
        CallSyntax::Hermes | CallSyntax::Mistral => "arguments",
        CallSyntax::Llama3 => "parameters",
    };
    let alternatives: Vec<String> = (0..tools.len()).map(|at| format!("call{at}")).collect();
    let mut rules = format!("call: {}\n", alternatives.join(" | "));
    for (at, Tool { name, parameters }) in tools.iter().enumerate() {
        let name = Value::from(name.as_str());
        let head = format!("{{\"name\": {name}, \"{key}\": ");
        let parameters = parameters.clone();
        let parameters = if closed { schema::closed(parameters) } else { parameters };
        let parameters = schema::optioned(parameters, false);
        rules += &format!("call{at}: {} arguments{at} \"}}\"\n", literal(&head));
        rules += &format!("arguments{at}: %json {parameters}\n");
    }
    rules
}

/// Text as a grammar writes it.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// The conversation for a template that knows no tools: they are described in
/// the system message, calls and results are text.
#[must_use]
pub fn told(messages: Vec<Message>, definitions: Option<&str>) -> Vec<Message> {
    let mut told: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    let description = definitions.and_then(describe);
    let mut messages = messages.into_iter().peekable();
    if let Some(description) = description {
        let own = messages.next_if(|message| message.role == Role::System);
        let content = match own {
            Some(own) if !own.content.is_empty() => format!("{}\n\n{description}", own.content),
            _ => description,
        };
        told.push(plain(Role::System, content));
    }
    let mut answers_call = false;
    for message in messages {
        let is_result = message.role == Role::Tool;
        let message = as_text(message);
        match told.last_mut() {
            // Templates want user and assistant to take turns.
            Some(last) if is_result && answers_call => {
                last.content += "\n";
                last.content += &message.content;
            }
            _ => told.push(message),
        }
        answers_call = is_result;
    }
    told
}

fn describe(definitions: &str) -> Option<String> {
    let list: Vec<Value> = serde_json::from_str(definitions).ok()?;
    let list: Vec<String> = list.iter().map(Value::to_string).collect();
    Some(format!(
        "You can call tools. They are listed between <tools> and </tools>, each as a JSON object \
         with its name, what it does, and the JSON schema of its arguments:\n<tools>\n{}\n</tools>\n\
         To call a tool, write a JSON object with its name and arguments between <tool_call> and \
         </tool_call>:\n<tool_call>\n{{\"name\": \"the tool's name\", \"arguments\": {{}}}}\n\
         </tool_call>\nIts result comes between <tool_response> and </tool_response>. Without \
         need of a tool, just answer.",
        list.join("\n")
    ))
}

/// A message with its calls, or the result that it is, as text.
fn as_text(message: Message) -> Message {
    if message.role == Role::Tool {
        let content = format!("<tool_response>\n{}\n</tool_response>", message.content);
        return plain(Role::User, content);
    }
    let calls = message.tool_calls_json.as_deref().map(calls_of).unwrap_or_default();
    if calls.is_empty() {
        return message;
    }
    let said = Some(message.content.as_str()).filter(|said| !said.is_empty());
    let calls = calls.iter().map(|call| format!("<tool_call>\n{call}\n</tool_call>"));
    let parts: Vec<String> = said.map(str::to_owned).into_iter().chain(calls).collect();
    plain(message.role, parts.join("\n"))
}

/// Each call as `{"name": …, "arguments": {…}}`.
fn calls_of(tool_calls: &str) -> Vec<String> {
    let list: Vec<Value> = serde_json::from_str(tool_calls).unwrap_or_default();
    let call = |call: &Value| {
        let function = &call["function"];
        let arguments = arguments(&function["arguments"]);
        format!("{{\"name\": {}, \"arguments\": {arguments}}}", function["name"])
    };
    list.iter().map(call).collect()
}

/// Arguments as an object: OpenAI's clients send them as a string of JSON,
/// templates expect what Hugging Face's renderer gives them.
#[must_use]
pub fn arguments(given: &Value) -> Value {
    let read = given.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    read.filter(Value::is_object).unwrap_or_else(|| given.clone())
}

fn plain(role: Role, content: String) -> Message {
    Message { role, content, tool_calls_json: None, tool_call_id: None, name: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLS: &str = r##"[{"type":"function","function":{"name":"read_file","parameters":
        {"type":"object","properties":{"path":{"$ref":"#/$defs/p"}},"required":["path"],
        "$defs":{"p":{"type":"string"}}}}},{"type":"function","function":{"name":"now"}}]"##;

    #[test]
    fn the_way_to_call_is_known_by_the_templates_markers() {
        for (template, syntax) in [
            ("{% if tools %}<tool_call>{% endif %}", Some(CallSyntax::Hermes)),
            ("{% if tools %}[TOOL_CALLS]{% endif %}", Some(CallSyntax::Mistral)),
            ("{% if tools %}<|python_tag|>{% endif %}", Some(CallSyntax::Llama3)),
            ("{% if tools %}<tool_call><function=f>{% endif %}", None),
            ("{% if tools %}[TOOL_CALLS]f[ARGS]{% endif %}", None),
            ("{% if tools %}something else{% endif %}", None),
            ("{% for message in messages %}{% endfor %}", None),
        ] {
            assert_eq!(syntax_of(template), syntax, "{template}");
        }
    }

    #[test]
    fn a_template_without_tools_hears_of_them_as_text() {
        let call = r#"[{"id":"1","function":{"name":"now","arguments":"{\"a\": 1}"}}]"#;
        let result = |content: &str| plain(Role::Tool, content.into());
        let messages = vec![
            plain(Role::System, "Be brief.".into()),
            plain(Role::User, "hi".into()),
            Message {
                tool_calls_json: Some(call.into()),
                ..plain(Role::Assistant, "Let me see.".into())
            },
            result("noon"),
            result("12:00"),
            plain(Role::User, "thanks".into()),
        ];
        let told = told(messages, Some(TOOLS));
        let roles: Vec<Role> = told.iter().map(|message| message.role).collect();
        use Role::{Assistant, System, User};
        assert_eq!(roles, [System, User, Assistant, User, User]);
        assert!(told[0].content.starts_with("Be brief.\n\nYou can call tools."));
        assert!(told[0].content.contains(r#""name":"read_file""#));
        let expected =
            "Let me see.\n<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\":1}}\n</tool_call>";
        assert_eq!(told[2].content, expected);
        assert!(told[3].content.contains("noon") && told[3].content.contains("12:00"));
    }

    #[test]
    fn a_chosen_tool_is_the_only_one() {
        let tools = read(TOOLS).unwrap();
        let names =
            |choice| chosen(&tools, &choice).into_iter().map(|t| t.name).collect::<Vec<_>>();
        assert_eq!(names(ToolChoice::Required), ["read_file", "now"]);
        assert_eq!(names(ToolChoice::Named("now".into())), ["now"]);
        assert!(names(ToolChoice::Named("other".into())).is_empty());
    }
}

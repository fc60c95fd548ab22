//! What the OpenAI routes read from a body, as a table, and for any body at all.

use engine_api::form::{ToolChoice, Tools};
use engine_api::manifest::BackendKind;
use engine_api::protocol::TokenId;
use proptest::prelude::*;

use super::*;

fn facts() -> Facts {
    Facts { model: Some("m".to_owned()), context: Some(4096), chat: true, ..Facts::default() }
}

fn refused(read: fn(&[u8], &Facts) -> Result<Ask, Problem>, body: &str) -> String {
    read(body.as_bytes(), &facts()).unwrap_err().message
}

fn chat_prompt(body: &str) -> Prompt {
    chat(body.as_bytes(), &facts()).unwrap().job.prompts.remove(0)
}

fn prompts(body: &str) -> Vec<Prompt> {
    completion(body.as_bytes(), &facts()).unwrap().job.prompts
}

fn text(text: &str) -> Prompt {
    Prompt::Text { text: text.to_owned(), special: true }
}

#[test]
fn chat_refusals_name_the_field() {
    for (body, message) in [
        ("{}", "the body is wrong: missing field `messages`"),
        (r#"{"messages":[]}"#, "`messages` is empty; send at least one message"),
        (
            r#"{"messages":"hi"}"#,
            "`messages` is wrong: invalid type: string \"hi\", expected a list",
        ),
        (
            r#"{"messages":[{"role":"user","content":"x"}],"temperature":"hot"}"#,
            "`temperature` is wrong: invalid type: string \"hot\", expected f64",
        ),
        (
            r#"{"messages":[{"role":"user","content":"x"}],"temperature":-1}"#,
            "`temperature` must be between 0 and 100",
        ),
        (
            r#"{"messages":[{"role":"user","content":"x"}],"logprobs":true,"top_logprobs":21}"#,
            "`top_logprobs` must be between 0 and 20",
        ),
        (
            r#"{"messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":1}}"#,
            "`stream_options.include_usage` is wrong: invalid type: integer `1`, expected a boolean",
        ),
        (
            r#"{"model":"gpt-4","messages":[{"role":"user","content":"x"}]}"#,
            "model 'gpt-4' not found; this server has `m`",
        ),
    ] {
        assert_eq!(refused(chat, body), message, "{body}");
    }
}

#[test]
fn tools_go_to_the_template_as_they_were_written() {
    let tools = r#"[{"type":"function","function":{"name":"f","parameters":{"z":1,"a":2}}}]"#;
    let body = |rest: &str| {
        format!(r#"{{"messages":[{{"role":"user","content":"x"}}],"tools":{tools}{rest}}}"#)
    };
    let given = |rest: &str| match chat_prompt(&body(rest)) {
        Prompt::Chat { tools, .. } => tools,
        other => panic!("{other:?}"),
    };
    let chosen = |choice| Some(Tools { definitions: tools.into(), choice, parallel: true });
    assert_eq!(given(""), chosen(ToolChoice::Auto));
    assert_eq!(given(r#","tool_choice":"auto""#), chosen(ToolChoice::Auto));
    assert_eq!(given(r#","tool_choice":"none""#), None);
    assert_eq!(given(r#","tool_choice":"required""#), chosen(ToolChoice::Required));
    let named = r#","tool_choice":{"type":"function","function":{"name":"f"}}"#;
    assert_eq!(given(named), chosen(ToolChoice::Named("f".into())));
    let single = given(r#","parallel_tool_calls":false"#).unwrap();
    assert!(!single.parallel);
    for (choice, message) in [
        (
            r#""sometimes""#,
            "`tool_choice` is wrong: invalid value: string \"sometimes\", expected `auto`, `none`, `required` or a function by its name",
        ),
        (r#"{"function":{"name":"g"}}"#, "`tool_choice` names a function that is not in `tools`"),
    ] {
        let body = body(&format!(r#","tool_choice":{choice}"#));
        assert_eq!(refused(chat, &body), message);
    }
    let none = r#"{"messages":[{"role":"user","content":"x"}],"tool_choice":"required"}"#;
    assert_eq!(refused(chat, none), "`tool_choice` asks for a call, but there are no `tools`");
}

#[test]
fn prompts_in_every_form() {
    let tokens = |ids: &[u32]| Prompt::Tokens(ids.iter().copied().map(TokenId).collect());
    assert_eq!(prompts(r#"{"prompt":"a"}"#), [text("a")]);
    assert_eq!(prompts(r#"{"prompt":["a","b"]}"#), [text("a"), text("b")]);
    assert_eq!(prompts(r#"{"prompt":[1,2]}"#), [tokens(&[1, 2])]);
    assert_eq!(prompts(r#"{"prompt":[[1],[2,3]]}"#), [tokens(&[1]), tokens(&[2, 3])]);
    let infill = Prompt::Infill { prefix: "a".to_owned(), suffix: "b".to_owned() };
    assert_eq!(prompts(r#"{"prompt":"a","suffix":"b"}"#), [infill]);
    assert_eq!(prompts(r#"{"prompt":"a","suffix":""}"#), [text("a")]);
}

#[test]
fn completion_refusals_name_the_field() {
    for (body, field) in [
        (r#"{"prompt":[]}"#, "prompt"),
        (r#"{"prompt":null}"#, "prompt"),
        (r#"{"prompt":["a",1]}"#, "prompt"),
        (r#"{"prompt":[1.5]}"#, "prompt[0]"),
        (r#"{"prompt":[-1]}"#, "prompt[0]"),
        (r#"{"prompt":[1],"suffix":"b"}"#, "suffix"),
        (r#"{"prompt":[1],"echo":true}"#, "echo"),
        (r#"{"prompt":"a","echo":true,"logprobs":1}"#, "echo"),
        (r#"{"prompt":"a","best_of":3}"#, "best_of"),
        (r#"{"prompt":["a","b","c"],"n":3}"#, "prompt"),
        (r#"{"prompt":["","","","","","","","","",""]}"#, "prompt"),
        (r#"{"prompt":"a","logprobs":true}"#, "logprobs"),
    ] {
        let problem = completion(body.as_bytes(), &facts()).unwrap_err();
        assert_eq!(problem.param.as_deref(), Some(field), "{body}: {}", problem.message);
    }
}

/// JSON of any shape under the names that the routes read.
fn any_body() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
        Just("text".into()),
        Just("user".into()),
    ];
    let name = prop::sample::select(vec![
        "model",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "prompt",
        "suffix",
        "stop",
        "n",
        "max_tokens",
        "temperature",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "tools",
        "function",
        "name",
        "tool_choice",
        "stream",
        "stream_options",
        "response_format",
        "seed",
        "echo",
        "5",
    ]);
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_a_job_or_a_clear_refusal(body in any_body()) {
        let body = body.to_string();
        for read in [chat, completion] {
            if let Err(problem) = read(body.as_bytes(), &facts()) {
                prop_assert!(problem.status.is_client_error());
                prop_assert!(!problem.message.is_empty());
            }
        }
    }

    #[test]
    fn any_bytes_are_a_job_or_a_clear_refusal(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for read in [chat, completion] {
            prop_assert!(read(&body, &facts()).is_err());
        }
    }
}

#[test]
fn what_an_engines_runtime_cannot_do_is_refused_by_its_field() {
    let lacking = Facts { lacks: BackendKind::TensorrtLlm.lacks(), ..facts() };
    let tool = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;
    let named = format!(r#"{tool},"tool_choice":{{"type":"function","function":{{"name":"f"}}}}"#);
    for (field, wish) in [
        ("min_p", r#""min_p":0.1"#),
        ("top_k", r#""top_k":2000"#),
        ("logit_bias", r#""logit_bias":{"97":5}"#),
        ("logprobs", r#""logprobs":true"#),
        ("repeat_last_n", r#""repeat_penalty":1.5,"repeat_last_n":64"#),
        ("cache_prompt", r#""cache_prompt":false"#),
        ("response_format", r#""response_format":{"type":"json_object"}"#),
        ("json_schema", r#""json_schema":{"type":"object"}"#),
        ("grammar", r#""grammar":"root ::= \"yes\"""#),
        ("tool_choice", &format!(r#"{tool},"tool_choice":"required""#)),
        ("tool_choice", &named),
    ] {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{wish}}}"#);
        let refusal = chat(body.as_bytes(), &lacking).unwrap_err();
        assert_eq!(refusal.param.as_deref(), Some(field), "{wish}: {}", refusal.message);
        assert!(refusal.message.contains("this server's engine"), "{}", refusal.message);
        assert!(chat(body.as_bytes(), &facts()).is_ok(), "{wish} can be done by others");
    }
    let scored = br#"{"prompt":"x","logprobs":1}"#;
    let refusal = completion(scored, &lacking).unwrap_err();
    assert_eq!(refusal.param.as_deref(), Some("logprobs"));
}

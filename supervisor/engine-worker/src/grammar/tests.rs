//! What masks allow, with a vocabulary of bytes and a few longer tokens.

use super::*;
use crate::backend::echo::EchoVocabulary;
use crate::tools;
use engine_api::form::{CallSyntax, ToolChoice};

fn grammars() -> Grammars {
    Grammars::new(Arc::new(EchoVocabulary::new()))
}

fn tokens(text: &str) -> Vec<TokenId> {
    text.bytes().map(|byte| TokenId(byte.into())).collect()
}

fn is_allowed(allowed: &Allowed, token: TokenId) -> bool {
    let word = allowed.words()[token.0 as usize / 32];
    word >> (token.0 % 32) & 1 == 1
}

/// Whether a text fits, from its first byte to the answer's end; each byte must
/// be allowed by the mask.
fn fits(grammars: &Grammars, grammar: &Grammar, text: &str) -> bool {
    let mut constraint = grammars.start(grammar, &[]).unwrap();
    for token in tokens(text) {
        if constraint.is_finished() || !is_allowed(&constraint.allowed().unwrap(), token) {
            return false;
        }
        constraint.take(token).unwrap();
    }
    let end = EchoVocabulary::new().ends()[0];
    constraint.is_finished() || is_allowed(&constraint.allowed().unwrap(), end)
}

fn schema(schema: &str, strict: bool) -> Grammar {
    Grammar::JsonSchema { schema: schema.into(), strict }
}

const PERSON: &str = r##"{"type":"object","properties":{"name":{"type":"string","maxLength":5},
    "age":{"type":"integer","minimum":0},"next":{"$ref":"#"}},"required":["name","age"]}"##;

#[test]
fn a_schema_is_enforced_byte_by_byte() {
    let (grammars, person) = (grammars(), schema(PERSON, true));
    for text in [
        r#"{"name":"Ada","age":36}"#,
        "{\n  \"name\": \"Ada\",\n  \"age\": 36\n}",
        r#"{"name":"Ada","age":36,"next":{"name":"Bob","age":0}}"#,
    ] {
        assert!(fits(&grammars, &person, text), "{text}");
    }
    for text in [
        r#"{"name":"Ada"}"#,
        r#"{"name":"Ada","age":-1}"#,
        r#"{"name":"Augusta","age":36}"#,
        r#"{"name":"Ada","age":36,"other":1}"#,
        r#"{"name":"Ada","age":36}}"#,
        "{          \"name\":\"Ada\",\"age\":36}",
        "hello",
    ] {
        assert!(!fits(&grammars, &person, text), "{text}");
    }
}

#[test]
fn any_object_is_an_object() {
    let grammars = grammars();
    assert!(fits(&grammars, &Grammar::JsonObject, r#"{"a":[1,{"b":null}],"c":"é"}"#));
    assert!(!fits(&grammars, &Grammar::JsonObject, "[1]"));
}

#[test]
fn a_constraint_taken_up_in_the_middle_is_the_same_constraint() {
    let (grammars, person) = (grammars(), schema(PERSON, true));
    let answer = tokens(r#"{"name":"Ada","age":36}"#);
    let mut straight = grammars.start(&person, &[]).unwrap();
    for at in 0..answer.len() {
        let mut resumed = grammars.start(&person, &answer[..at]).unwrap();
        assert_eq!(resumed.allowed(), straight.allowed(), "after {at} tokens");
        straight.take(answer[at]).unwrap();
    }
    assert!(straight.is_finished());
    assert!(grammars.start(&person, &answer).unwrap().is_finished());
    assert!(grammars.start(&person, &tokens("{\"x")).is_err());
}

#[test]
fn what_cannot_be_enforced_is_named() {
    let grammars = grammars();
    let problem = |grammar| grammars.check(&grammar).unwrap_err().to_string();
    for (grammar, expected) in [
        (schema("{\"type\":", false), "it is not JSON"),
        (schema(r#"{"type":"strange"}"#, false), "strange"),
        (schema(r#"{"not":{"type":"string"}}"#, true), "not"),
        (schema(r##"{"$ref":"#/$defs/none"}"##, false), "none"),
        (schema(r#"{"$ref":"https://example.com/x"}"#, false), "ref"),
        (schema("false", true), "nsatisfiable"),
        (Grammar::Lark("start: missing".into()), "missing"),
        (Grammar::Gbnf("root ::= \"a".into()), "line 1: a string has no end"),
    ] {
        let problem = problem(grammar);
        assert!(problem.contains(expected) && problem.len() < 400, "{problem}");
    }
    assert_eq!(grammars.check(&schema(r#"{"not":{"type":"string"}}"#, false)), Ok(()));
}

/// Schemas and grammars that ask for much work. None may end the process or
/// take a watchdog's patience.
fn monsters() -> Vec<Grammar> {
    let nested = format!("{}{{}}{}", "{\"items\":".repeat(120), "}".repeat(120));
    let circle = r##"{"allOf":[{"$ref":"#"}]}"##;
    let list = |count: usize, part: &dyn Fn(usize) -> String| {
        (0..count).map(part).collect::<Vec<_>>().join(",")
    };
    let optional = list(5000, &|n| format!("\"property{n}\":{{\"type\":\"string\"}}"));
    let words = list(9000, &|n| format!("\"a word and its number {n}\""));
    let patterns =
        list(500, &|n| format!("{{\"type\":\"string\",\"pattern\":\"(a|b){{{n},9{n}}}c*$\"}}"));
    vec![
        schema(&"[".repeat(100_000), false),
        schema(&nested, false),
        schema(circle, false),
        schema(&format!("{{\"type\":\"object\",\"properties\":{{{optional}}}}}"), false),
        schema(&format!("{{\"enum\":[{words}]}}"), false),
        schema(&format!("{{\"anyOf\":[{patterns}]}}"), false),
        schema(
            r#"{"type":"array","minItems":100000,"items":{"type":"array","minItems":100000}}"#,
            false,
        ),
        schema(r#"{"type":"string","minLength":1000000,"maxLength":2000000}"#, false),
        Grammar::Lark("start: /((((a{1,100}){1,100}){1,100}){1,100}b?){1,1000}c/".into()),
        Grammar::Lark("start: a*\na: b* | \"x\"\nb: a a | \"x\" b?".into()),
        Grammar::Lark("(".repeat(50_000)),
        Grammar::Lark(format!("start: /{}/", "(".repeat(50_000))),
        Grammar::Lark(format!("start: {}", "(\"a\" | \"b\")? ".repeat(600))),
        Grammar::Gbnf("(".repeat(50_000)),
        Grammar::Gbnf(format!("root ::= {}", "(\"a\" | \"b\")? ".repeat(600))),
    ]
}

#[test]
fn what_asks_for_too_much_work_is_refused_or_runs_and_harms_nobody() {
    let grammars = grammars();
    for grammar in monsters() {
        let Ok(mut constraint) = grammars.start(&grammar, &[]) else { continue };
        for _ in 0..50 {
            let Ok(allowed) = constraint.allowed() else { break };
            let first = (0..256).map(TokenId).find(|id| is_allowed(&allowed, *id));
            let Some(first) = first else { break };
            if constraint.take(first).is_err() || constraint.is_finished() {
                break;
            }
        }
    }
    let problem = |grammar| grammars.check(&grammar).unwrap_err().to_string();
    let long = format!("{{\"const\":\"{}\"}}", "x".repeat(MAX_GRAMMAR_BYTES));
    assert!(problem(schema(&long, false)).contains("bytes"));
    let wide: Vec<String> = (0..501).map(|n| format!("\"p{n}\":{{}}")).collect();
    let wide = format!("{{\"items\":[{{\"properties\":{{{}}}}}]}}", wide.join(","));
    assert!(problem(schema(&wide, false)).contains("501 properties"));
    let object: Vec<String> = (0..100).map(|n| format!("\"p{n}\":{{}}")).collect();
    let many = vec![format!("{{\"properties\":{{{}}}}}", object.join(",")); 26].join(",");
    assert!(problem(schema(&format!("{{\"anyOf\":[{many}]}}"), false)).contains("together"));
}

#[test]
fn llama_cpps_grammars() {
    let grammars = grammars();
    let list =
        Grammar::Gbnf("root ::= item+\nitem ::= \"- \" [^\\n]{1,9} \"\\n\" # one line\n".into());
    assert!(fits(&grammars, &list, "- milk\n- bread\n"));
    assert!(!fits(&grammars, &list, "milk\n") && !fits(&grammars, &list, "- far too long\n"));
    let sum = Grammar::Gbnf(
        "root ::= expr \"=\" num\nexpr ::= term ([-+*/] term)*\n\
         term ::= num | \"(\" ws expr \")\" ws\nnum ::= [0-9]+ ws\nws ::= [ \\t]*"
            .into(),
    );
    assert!(fits(&grammars, &sum, "(1+22)*3 =69"));
    assert!(!fits(&grammars, &sum, "(1+22*3=69"));
}

const TOOLS: &str = r##"[{"function":{"name":"read","parameters":{"type":"object","properties":
    {"path":{"$ref":"#/$defs/p"}},"required":["path"],"$defs":{"p":{"type":"string"}}}}},
    {"function":{"name":"now"}}]"##;

#[test]
fn forced_calls_have_the_models_form() {
    let grammars = grammars();
    let all = tools::read(TOOLS).unwrap();
    let read = tools::chosen(&all, &ToolChoice::Named("read".into()));
    let forced = |syntax, several| tools::forced(&all, syntax, several, true);
    let hermes = forced(CallSyntax::Hermes, true);
    let one = "{\"name\": \"read\", \"arguments\": {\"path\":\"a\"}}\n</tool_call>";
    let two =
        format!("{one}\n<tool_call>\n{{\"name\": \"now\", \"arguments\": {{}}}}\n</tool_call>");
    assert!(fits(&grammars, &hermes, one) && fits(&grammars, &hermes, &two));
    assert!(!fits(&grammars, &forced(CallSyntax::Hermes, false), &two));
    assert!(!fits(&grammars, &hermes, "{\"name\": \"read\", \"arguments\": {}}\n</tool_call>"));
    let only = tools::forced(&read, CallSyntax::Hermes, false, true);
    assert!(!fits(&grammars, &only, "{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"));
    let mistral = "[{\"name\": \"now\", \"arguments\": {}}]";
    for several in [true, false] {
        assert!(fits(&grammars, &forced(CallSyntax::Mistral, several), mistral));
        let llama = "{\"name\": \"read\", \"parameters\": {\"path\": \"a\"}}";
        assert!(fits(&grammars, &forced(CallSyntax::Llama3, several), llama));
    }
}

#[test]
fn an_answer_has_its_form_or_calls() {
    let grammars = grammars();
    let all = tools::read(TOOLS).unwrap();
    let answer = schema::of(&schema(PERSON, true)).unwrap();
    let either = tools::either(&answer, &all, CallSyntax::Hermes, true).unwrap();
    assert!(fits(&grammars, &either, r#"{"name":"Ada","age":36}"#));
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    assert!(fits(&grammars, &either, call) && !fits(&grammars, &either, "hello"));
}

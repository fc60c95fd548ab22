//! The same text gives the same calls however it is cut, and no marker is shown.

use proptest::prelude::*;

use super::*;

fn parser(syntax: CallSyntax, begun: bool) -> CallParser {
    let names = vec!["f".to_owned(), "g".to_owned()];
    CallParser::new(&Calls { syntax, begun, parallel: true, names })
}

/// Content and calls of a text that comes in these pieces.
fn read(mut parser: CallParser, pieces: &[&str]) -> (String, Vec<(String, String, bool)>) {
    let mut content = String::new();
    let mut calls: Vec<(String, String, bool)> = Vec::new();
    let mut news: Vec<News> = pieces.iter().map(|piece| parser.push(piece)).collect();
    news.push(parser.finish());
    for News { content: more, calls: told } in news {
        content += &more;
        for CallNews { index, name, arguments, complete } in told {
            if let Some(name) = name {
                assert_eq!(index, calls.len(), "calls are counted up");
                calls.push((name, String::new(), false));
            }
            let call = calls.get_mut(index).expect("a call begins with its name");
            assert!(!call.2, "nothing comes after the end");
            call.1 += &arguments;
            call.2 = complete;
        }
    }
    (content, calls)
}

fn whole(syntax: CallSyntax, text: &str) -> (String, Vec<(String, String, bool)>) {
    read(parser(syntax, false), &[text])
}

fn call(name: &str, arguments: &str) -> (String, String, bool) {
    (name.to_owned(), arguments.to_owned(), true)
}

/// A text, and its content and calls.
type Row = (CallSyntax, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const TABLE: [Row; 20] = {
    use CallSyntax::{Hermes, Llama3, Mistral};
    [
        (Hermes, "just text", "just text", &[]),
        (
            Hermes,
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}<\\\"é\"}}\n</tool_call>",
            "",
            &[("f", "{\"a\": \"}<\\\"é\"}")],
        ),
        (
            Hermes,
            "Let me see.\n\n<tool_call>{\"arguments\":{\"a\":[1,{}]},\"name\":\"f\"}</tool_call>\n\
             <tool_call>{\"name\":\"g\"}</tool_call>\n",
            "Let me see.",
            &[("f", "{\"a\":[1,{}]}"), ("g", "{}")],
        ),
        (
            Hermes,
            "<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}</tool_call>",
            "",
            &[("f", "{\"a\": 1}")],
        ),
        (
            Hermes,
            "<tool_call>{\"name\":\"f\",\"arguments\":null,\"x\":-1.5}</tool_call>",
            "",
            &[("f", "{}")],
        ),
        (Hermes, "a <tool_cal b <<tool_call", "a <tool_cal b <<tool_call", &[]),
        (Hermes, "x<tool_call>hello</tool_call>", "x<tool_call>hello</tool_call>", &[]),
        (Hermes, "<tool_call>{\"nom\": 1}", "<tool_call>{\"nom\": 1}", &[]),
        (Hermes, "<tool_call>{\"name\": 7}", "<tool_call>{\"name\": 7}", &[]),
        (Hermes, "<tool_call>{\"name\": \"\"}", "<tool_call>{\"name\": \"\"}", &[]),
        (Hermes, "  two  blanks  ", "  two  blanks  ", &[]),
        (Hermes, "<tool_call>{\"name\":\"f\"}</tool_call> and so", " and so", &[("f", "{}")]),
        (Llama3, "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "", &[("f", "{\"a\": 1}")]),
        (
            Llama3,
            "<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}; \
             {\"name\": \"g\", \"parameters\": {}}",
            "",
            &[("f", "{}"), ("g", "{}")],
        ),
        (Llama3, "{\"name\": \"Ada\", \"age\": 7}", "{\"name\": \"Ada\", \"age\": 7}", &[]),
        (Llama3, "See {\"name\": \"f\"}", "See {\"name\": \"f\"}", &[]),
        (Llama3, "{} {\"name\": \"f\"}", "{} {\"name\": \"f\"}", &[]),
        (
            Mistral,
            "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": \"]\"}}, {\"name\": \"g\", \
             \"arguments\": {}}]",
            "",
            &[("f", "{\"a\": \"]\"}"), ("g", "{}")],
        ),
        (Mistral, "[TOOL_CALLS] none", "[TOOL_CALLS] none", &[]),
        (Mistral, "a [TOOL] b", "a [TOOL] b", &[]),
    ]
};

#[test]
fn each_way_to_write_calls() {
    for (syntax, text, content, calls) in TABLE {
        let calls: Vec<_> = calls.iter().map(|(name, arguments)| call(name, arguments)).collect();
        assert_eq!(whole(syntax, text), (content.to_owned(), calls), "{text}");
    }
}

#[test]
fn any_cut_in_two_or_into_characters_changes_nothing() {
    for (syntax, text, ..) in TABLE {
        let expected = whole(syntax, text);
        for (at, _) in text.char_indices() {
            let pieces = [&text[..at], &text[at..]];
            assert_eq!(read(parser(syntax, false), &pieces), expected, "{text} at {at}");
        }
        let characters: Vec<&str> = text.split("").collect();
        assert_eq!(read(parser(syntax, false), &characters), expected, "{text}");
    }
}

#[test]
fn arguments_come_as_they_are_written() {
    let mut parser = parser(CallSyntax::Hermes, true);
    assert_eq!(
        parser.push("{\"name\": \"f\", \"argu"),
        News {
            content: String::new(),
            calls: vec![CallNews {
                index: 0,
                name: Some("f".into()),
                arguments: String::new(),
                complete: false
            }],
        }
    );
    let news = parser.push("ments\": {\"a\": [1,");
    assert_eq!(
        (news.calls[0].name.as_deref(), news.calls[0].arguments.as_str()),
        (None, "{\"a\": [1,")
    );
    let news = parser.push(" 2]}}\n</tool");
    assert_eq!((news.calls[0].arguments.as_str(), news.calls[0].complete), (" 2]}", true));
    assert!(parser.finish().is_empty());
}

#[test]
fn a_call_that_was_cut_off_is_not_complete() {
    let (content, calls) =
        whole(CallSyntax::Hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a");
    assert_eq!((content.as_str(), &calls[..]), ("", &[("f".into(), "{\"a".into(), false)][..]));
    let (content, calls) = whole(CallSyntax::Hermes, "<tool_call>{\"name\":\"f");
    assert_eq!((content.as_str(), calls.len()), ("<tool_call>{\"name\":\"f", 0));
}

#[test]
fn without_parallel_calls_only_the_first_counts() {
    let names = Vec::new();
    let calls = Calls { syntax: CallSyntax::Hermes, begun: false, parallel: false, names };
    let one = "<tool_call>{\"name\":\"f\"}</tool_call>";
    let (content, calls) = read(CallParser::new(&calls), &[one, one]);
    assert_eq!((content.as_str(), &calls[..]), ("", &[call("f", "{}")][..]));
}

#[test]
fn ids_are_nine_letters_and_digits_and_stay_the_same() {
    let id = call_id("chatcmpl-1", 0, 0);
    assert_eq!((id.len(), &id), (9, &call_id("chatcmpl-1", 0, 0)));
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_ne!(id, call_id("chatcmpl-1", 0, 1));
    assert_ne!(id, call_id("chatcmpl-1", 1, 0));
}

/// Text made of what matters here.
fn text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "<|python_tag|>",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"name\": \"f\"",
        "\"arguments\": {\"a\": 1}",
        "\"",
        "\\",
        " ",
        "\n",
        "é",
        "word",
        "{\"name\": \"g\", \"arguments\": {\"b\": \"}\"}}",
        "<",
        ";",
    ]);
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_text_in_any_pieces_gives_the_same(
        text in text(),
        cuts in prop::collection::vec(1usize..6, 1..40),
        syntax in prop::sample::select(vec![
            CallSyntax::Hermes, CallSyntax::Llama3, CallSyntax::Mistral,
        ]),
        begun in any::<bool>(),
    ) {
        let characters: Vec<String> = text.chars().map(String::from).collect();
        let mut rest = &characters[..];
        let mut pieces = Vec::new();
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece.concat());
            rest = tail;
        }
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let (content, calls) = read(parser(syntax, begun), &pieces);
        prop_assert_eq!((content.clone(), calls.clone()), read(parser(syntax, begun), &[&text]));
        // Without a call nothing is lost.
        if calls.is_empty() {
            prop_assert_eq!(content, text);
        }
    }
}

//! What clients send for vectors, and what of it is refused.

use engine_api::manifest::BackendKind;
use engine_api::protocol::TokenId;
use proptest::prelude::*;

use super::*;
use crate::snapshot::EmbedderState;

fn embedder() -> Embedder {
    Embedder {
        model: "mini".into(),
        aliases: Vec::new(),
        backend: BackendKind::Rten,
        architecture: "bert".into(),
        parameters: 1,
        quantisation: "int8".into(),
        bytes: 1,
        dimension: 384,
        context: 512,
        state: EmbedderState::Idle,
        device: None,
        pid: None,
        restarts: 0,
    }
}

fn read(body: &str) -> Result<Ask, Problem> {
    openai(body.as_bytes(), &embedder())
}

fn text(text: &str) -> Input {
    Input::Text(text.into())
}

fn tokens(ids: &[u32]) -> Input {
    Input::Tokens(ids.iter().copied().map(TokenId).collect())
}

#[test]
fn every_form_of_input_is_read() {
    for (body, expected) in [
        (r#"{"input":"a"}"#, vec![text("a")]),
        (r#"{"input":["a","b"]}"#, vec![text("a"), text("b")]),
        (r#"{"input":[1,2]}"#, vec![tokens(&[1, 2])]),
        (r#"{"input":[[1],[2,3]]}"#, vec![tokens(&[1]), tokens(&[2, 3])]),
        (r#"{"input":["a",[7]]}"#, vec![text("a"), tokens(&[7])]),
    ] {
        assert_eq!(read(body).unwrap().inputs, expected, "{body}");
    }
}

#[test]
fn what_clients_say_besides_is_heeded() {
    let ask = read(
        r#"{"model":"m","input":"a","encoding_format":"base64","dimensions":384,
            "input_type":"passage","user":"u"}"#,
    )
    .unwrap();
    assert!(ask.base64 && !ask.cut);
    assert_eq!((ask.model.as_deref(), ask.purpose), (Some("m"), Purpose::Document));
    assert!(!read(r#"{"input":"a","encoding_format":"float"}"#).unwrap().base64);
}

#[test]
fn a_wrong_field_is_named() {
    let long = format!(r#"{{"input":["a","{}"]}}"#, "b".repeat(LONGEST_TEXT + 1));
    for (body, param) in [
        (r#"{"input":""}"#, "input"),
        (r#"{"input":[]}"#, "input"),
        (r#"{"input":["a",""]}"#, "input[1]"),
        (r#"{"input":[[1],[]]}"#, "input[1]"),
        (r#"{"input":"a","dimensions":256}"#, "dimensions"),
        (r#"{"input":"a","encoding_format":"int8"}"#, "encoding_format"),
        (&long, "input[1]"),
    ] {
        let problem = read(body).unwrap_err();
        assert_eq!(problem.param.as_deref(), Some(param), "{}", problem.message);
    }
    for body in ["{}", r#"{"input":1}"#, r#"{"input":["a",1]}"#, r#"{"input":[4294967296]}"#] {
        assert!(read(body).is_err(), "{body}");
    }
    let many = format!(r#"{{"input":[{}]}}"#, vec!["\"a\""; MOST + 1].join(","));
    assert!(read(&many).is_err());
}

#[test]
fn ollamas_clients_have_their_texts_cut_unless_they_forbid_it() {
    let read = |body: &str| ollama(body.as_bytes(), &embedder()).unwrap();
    assert!(read(r#"{"model":"m","input":"a"}"#).cut);
    assert!(!read(r#"{"model":"m","input":["a"],"truncate":false}"#).cut);
    // From clients that only want the model loaded.
    for body in [r#"{"model":"m"}"#, r#"{"model":"m","input":""}"#, r#"{"input":[]}"#] {
        assert!(read(body).inputs.is_empty(), "{body}");
    }
    let old = old_ollama(br#"{"model":"m","prompt":"a"}"#).unwrap();
    assert_eq!((old.inputs, old.cut), (vec![text("a")], true));
}

proptest! {
    #[test]
    fn any_bytes_are_texts_or_a_clear_refusal(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(openai(&body, &embedder()).is_err());
    }

    #[test]
    fn any_texts_are_read_as_they_are(texts in prop::collection::vec(".{1,30}", 1..20)) {
        let body = serde_json::json!({ "input": texts }).to_string();
        let expected: Vec<_> = texts.iter().map(|it| text(it)).collect();
        prop_assert_eq!(read(&body).unwrap().inputs, expected);
    }
}

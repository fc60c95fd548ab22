//! Bytes of a body to a typed document, or the field that is wrong.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::object::Object;
use crate::api::error::Problem;

/// Reads a whole body.
///
/// # Errors
/// The body is not UTF-8, not JSON, or a field has the wrong type; the
/// problem says where.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::bad_request("the body is empty; send a JSON object"));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        Problem::bad_request(format!("the body is not valid UTF-8 (at byte {at})"))
    })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let Object(document) = serde_path_to_error::deserialize(&mut json).map_err(explain)?;
    json.end().map_err(|error| syntax(&error))?;
    Ok(document)
}

fn explain(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = short(error.path().to_string());
    let cause = error.into_inner();
    if cause.classify() != Category::Data {
        return syntax(&cause);
    }
    let why = without_position(&cause);
    match path.as_str() {
        "." => Problem::bad_request(format!("the body is wrong: {why}")),
        _ => Problem::field(path, format_args!("is wrong: {why}")),
    }
}

fn syntax(error: &serde_json::Error) -> Problem {
    Problem::bad_request(format!("the body is not valid JSON: {error}"))
}

/// The path says where; line and column of a machine-made body help nobody.
fn without_position(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.rfind(" at line ") {
        text.truncate(end);
    }
    short(text)
}

/// A wrong value may be a whole prompt, which nobody wants to read again.
fn short(text: String) -> String {
    const MAX_CHARS: usize = 300;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the refusals are looked at")]
    struct Body {
        list: Vec<Object<Item>>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the refusals are looked at")]
    struct Item {
        count: u32,
    }

    #[test]
    fn the_refusal_says_where() {
        let message = |body: &[u8]| parse::<Body>(body).unwrap_err().message;
        assert_eq!(message(b" \n"), "the body is empty; send a JSON object");
        assert_eq!(message(b"{\"a\":\"\xff\"}"), "the body is not valid UTF-8 (at byte 6)");
        assert_eq!(
            message(br#"{"list":[{"count":1},{"count":"x"}]}"#),
            "`list[1].count` is wrong: invalid type: string \"x\", expected u32"
        );
        assert_eq!(
            message(b"[[]]"),
            "the body is wrong: invalid type: sequence, expected an object"
        );
        assert_eq!(
            message(br#"{"list":[[1]]}"#),
            "`list[0]` is wrong: invalid type: sequence, expected an object"
        );
        assert_eq!(message(b"{}"), "the body is wrong: missing field `list`");
        assert_eq!(
            message(b"{\"list\":["),
            "the body is not valid JSON: EOF while parsing a list at line 1 column 9"
        );
        assert_eq!(
            message(b"{\"list\":[]} x"),
            "the body is not valid JSON: trailing characters at line 1 column 13"
        );
    }

    #[test]
    fn a_long_value_is_not_said_back() {
        let body = format!(r#"{{"list":[{{"count":"{}"}}]}}"#, "é".repeat(100_000));
        let message = parse::<Body>(body.as_bytes()).unwrap_err().message;
        assert!(message.len() < 1000, "{message}");
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let body = "[".repeat(100_000);
        assert!(parse::<serde_json::Value>(body.as_bytes()).is_err());
    }
}

//! What the routes for vectors answer with.

use std::time::Duration;

use engine_api::embedding::Vector;
use serde::Serialize;

use super::base64;

/// `POST /v1/embeddings`.
#[derive(Debug, Serialize)]
pub(crate) struct Embeddings<'a> {
    object: &'static str,
    data: Vec<Embedding<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Embedding<'a> {
    object: &'static str,
    index: usize,
    embedding: Values<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Values<'a> {
    Floats(&'a [f32]),
    Base64(String),
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

impl<'a> Embeddings<'a> {
    pub(crate) fn new(model: &'a str, vectors: &'a [Vector], as_base64: bool) -> Self {
        let values = |vector: &'a Vector| match as_base64 {
            true => Values::Base64(base64::of_floats(&vector.values)),
            false => Values::Floats(&vector.values),
        };
        let one =
            |(index, vector)| Embedding { object: "embedding", index, embedding: values(vector) };
        let prompt_tokens = tokens(vectors);
        Self {
            object: "list",
            data: vectors.iter().enumerate().map(one).collect(),
            model,
            usage: Usage { prompt_tokens, total_tokens: prompt_tokens },
        }
    }
}

/// `POST /api/embed`. Durations are in nanoseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Embedded<'a> {
    model: &'a str,
    embeddings: Vec<&'a [f32]>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u64,
    /// Ours: the inputs whose end was left out, by index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<usize>,
}

impl<'a> Embedded<'a> {
    pub(crate) fn new(model: &'a str, vectors: &'a [Vector], took: Duration) -> Self {
        let cut = vectors.iter().enumerate().filter(|(_, vector)| vector.cut);
        Self {
            model,
            embeddings: vectors.iter().map(|vector| &vector.values[..]).collect(),
            total_duration: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            load_duration: 0,
            prompt_eval_count: tokens(vectors),
            truncated: cut.map(|(index, _)| index).collect(),
        }
    }
}

/// `POST /api/embeddings`.
#[derive(Debug, Serialize)]
pub(crate) struct OldEmbedded<'a> {
    embedding: &'a [f32],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl<'a> OldEmbedded<'a> {
    /// Of the only input, or of none.
    pub(crate) fn new(vectors: &'a [Vector]) -> Self {
        let only = vectors.first();
        Self {
            embedding: only.map_or(&[][..], |vector| &vector.values[..]),
            truncated: only.is_some_and(|vector| vector.cut),
        }
    }
}

fn tokens(vectors: &[Vector]) -> u64 {
    vectors.iter().map(|vector| u64::from(vector.tokens)).sum()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(document: &impl Serialize, expected: &Expect) {
        expected.assert_eq(&serde_json::to_string(document).unwrap());
    }

    fn vectors() -> [Vector; 2] {
        [
            Vector { values: vec![1.0, -0.5], tokens: 3, cut: false },
            Vector { values: vec![0.1, 0.25], tokens: 4, cut: true },
        ]
    }

    #[test]
    fn numbers_or_base64_as_it_was_asked_for() {
        check(
            &Embeddings::new("m", &vectors(), false),
            &expect![[
                r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1.0,-0.5]},{"object":"embedding","index":1,"embedding":[0.1,0.25]}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#
            ]],
        );
        check(
            &Embeddings::new("m", &vectors()[..1], true),
            &expect![[
                r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAAL8="}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#
            ]],
        );
    }

    #[test]
    fn ollamas_reply_says_what_was_cut() {
        check(
            &Embedded::new("m", &vectors(), Duration::from_micros(5)),
            &expect![[
                r#"{"model":"m","embeddings":[[1.0,-0.5],[0.1,0.25]],"total_duration":5000,"load_duration":0,"prompt_eval_count":7,"truncated":[1]}"#
            ]],
        );
        check(&OldEmbedded::new(&vectors()), &expect![[r#"{"embedding":[1.0,-0.5]}"#]]);
        check(&OldEmbedded::new(&[]), &expect![[r#"{"embedding":[]}"#]]);
    }
}

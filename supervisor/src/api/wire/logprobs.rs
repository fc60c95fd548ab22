//! Log-probabilities in the three shapes that clients know.

use std::borrow::Cow;

use engine_api::protocol::{Logprob, Token, TokenLogprobs};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

/// `choices[].logprobs` of a chat answer.
#[derive(Debug, Serialize)]
pub(crate) struct Chat<'a> {
    content: Entries<'a>,
    refusal: Option<()>,
}

/// A list of tokens with their rivals; Ollama's `logprobs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entries<'a>(pub(crate) &'a [Token]);

/// `choices[].logprobs` of a plain completion: lists side by side.
#[derive(Debug, Serialize)]
pub(crate) struct Completion<'a> {
    tokens: Vec<Cow<'a, str>>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<Top<'a>>,
    /// Where each token begins in the answer, in characters.
    text_offset: Vec<usize>,
}

impl<'a> Chat<'a> {
    pub(crate) fn new(tokens: &'a [Token]) -> Self {
        Self { content: Entries(tokens), refusal: None }
    }
}

impl<'a> Completion<'a> {
    /// `offset` is where the first token begins; it is moved to where the last ends.
    pub(crate) fn new(tokens: &'a [Token], offset: &mut usize) -> Self {
        let scored = || tokens.iter().filter_map(|token| token.logprobs.as_deref());
        let text_offset = scored().map(|token| {
            let start = *offset;
            *offset += text(&token.chosen).chars().count();
            start
        });
        Self {
            text_offset: text_offset.collect(),
            tokens: scored().map(|token| text(&token.chosen)).collect(),
            token_logprobs: scored().map(|token| finite(token.chosen.logprob)).collect(),
            top_logprobs: scored().map(|token| Top(&token.top)).collect(),
        }
    }
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let scored = self.0.iter().filter_map(|token| token.logprobs.as_deref());
        let mut list = serializer.serialize_seq(None)?;
        for TokenLogprobs { chosen, top } in scored {
            let rivals = Some(top.iter().map(|rival| Entry::new(rival, None)).collect());
            list.serialize_element(&Entry::new(chosen, rivals))?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    token: Cow<'a, str>,
    logprob: f32,
    bytes: &'a [u8],
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<Entry<'a>>>,
}

impl<'a> Entry<'a> {
    fn new(logprob: &'a Logprob, top_logprobs: Option<Vec<Self>>) -> Self {
        Self {
            token: text(logprob),
            logprob: finite(logprob.logprob),
            bytes: &logprob.bytes,
            top_logprobs,
        }
    }
}

/// A map from a rival's text to its log-probability.
#[derive(Debug)]
struct Top<'a>(&'a [Logprob]);

impl Serialize for Top<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for rival in self.0 {
            map.serialize_entry(&text(rival), &finite(rival.logprob))?;
        }
        map.end()
    }
}

/// A token's bytes need not be UTF-8 by themselves; `bytes` has them whole.
fn text(logprob: &Logprob) -> Cow<'_, str> {
    String::from_utf8_lossy(&logprob.bytes)
}

/// JSON has no infinity. OpenAI writes -9999 for "never".
fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}

#[cfg(test)]
mod tests {
    use engine_api::protocol::TokenId;
    use expect_test::expect;

    use super::*;

    fn tokens() -> Vec<Token> {
        let logprob =
            |bytes: &[u8], logprob| Logprob { id: TokenId(1), logprob, bytes: bytes.into() };
        let token = |chosen: Logprob| {
            let top = vec![chosen.clone(), logprob(b"x", f32::NEG_INFINITY)];
            Token { id: TokenId(1), logprobs: Some(Box::new(TokenLogprobs { chosen, top })) }
        };
        vec![token(logprob(b"h\xc3\xa9", -0.5)), token(logprob(b"\xc3", -1.0))]
    }

    #[test]
    fn chat_shape() {
        let json = serde_json::to_string(&Chat::new(&tokens())).unwrap();
        expect![[r#"{"content":[{"token":"hé","logprob":-0.5,"bytes":[104,195,169],"top_logprobs":[{"token":"hé","logprob":-0.5,"bytes":[104,195,169]},{"token":"x","logprob":-9999.0,"bytes":[120]}]},{"token":"�","logprob":-1.0,"bytes":[195],"top_logprobs":[{"token":"�","logprob":-1.0,"bytes":[195]},{"token":"x","logprob":-9999.0,"bytes":[120]}]}],"refusal":null}"#]].assert_eq(&json);
    }

    #[test]
    fn completion_shape() {
        let mut offset = 3;
        let json = serde_json::to_string(&Completion::new(&tokens(), &mut offset)).unwrap();
        expect![[r#"{"tokens":["hé","�"],"token_logprobs":[-0.5,-1.0],"top_logprobs":[{"hé":-0.5,"x":-9999.0},{"�":-1.0,"x":-9999.0}],"text_offset":[3,5]}"#]].assert_eq(&json);
        assert_eq!(offset, 6);
    }
}

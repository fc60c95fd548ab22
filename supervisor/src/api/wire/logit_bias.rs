//! `logit_bias`: OpenAI's map of token id to number, or llama-server's list of
//! `[id, number]`, where `false` for the number forbids the token.

use std::fmt;

use engine_api::protocol::TokenId;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::bounded::items;
use crate::api::error::Problem;
use crate::api::facts::Facts;

/// Entries of one request; OpenAI's bound.
const MAX_BIASES: usize = 300;

/// What is added to the logits of some tokens.
#[derive(Debug, Default)]
pub(crate) struct Biases(Vec<(TokenId, f32)>);

impl Biases {
    /// # Errors
    /// A token is not in the vocabulary.
    pub(crate) fn checked(&self, facts: &Facts) -> Result<Vec<(TokenId, f32)>, Problem> {
        let Self(biases) = self;
        let vocabulary = facts.vocabulary.unwrap_or(u32::MAX);
        match biases.iter().find(|(TokenId(id), _)| *id >= vocabulary) {
            None => Ok(biases.clone()),
            Some((TokenId(id), _)) => {
                let why = format!("names token {id}, but the vocabulary ends before {vocabulary}");
                Err(Problem::field("logit_bias", why))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Biases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = Biases;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of token ids to numbers")
            }

            fn visit_unit<E: Error>(self) -> Result<Biases, E> {
                Ok(Biases::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Biases, A::Error> {
                let mut biases = Vec::new();
                while let Some((id, Bias(bias))) = map.next_entry::<String, _>()? {
                    if biases.len() == MAX_BIASES {
                        return Err(A::Error::custom(format_args!("more than {MAX_BIASES} items")));
                    }
                    let id = id.parse().map_err(|_| A::Error::custom("a key is not a token id"))?;
                    biases.push((TokenId(id), bias));
                }
                Ok(Biases(biases))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Biases, A::Error> {
                let pairs: Vec<(TokenId, Bias)> = items(list, MAX_BIASES)?;
                Ok(Biases(pairs.into_iter().map(|(id, Bias(bias))| (id, bias)).collect()))
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

/// One bias, `false` being minus infinity.
struct Bias(f32);

impl<'de> Deserialize<'de> for Bias {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl Visitor<'_> for Seen {
            type Value = Bias;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or false")
            }

            fn visit_bool<E: Error>(self, allowed: bool) -> Result<Bias, E> {
                match allowed {
                    false => Ok(Bias(f32::NEG_INFINITY)),
                    true => Err(E::custom("a number, or false, is expected")),
                }
            }

            fn visit_i64<E: Error>(self, bias: i64) -> Result<Bias, E> {
                self.visit_f64(bias as f64)
            }

            fn visit_u64<E: Error>(self, bias: u64) -> Result<Bias, E> {
                self.visit_f64(bias as f64)
            }

            #[expect(clippy::cast_possible_truncation, reason = "a huge bias is refused below")]
            fn visit_f64<E: Error>(self, bias: f64) -> Result<Bias, E> {
                let bias = bias as f32;
                if bias.is_finite() {
                    Ok(Bias(bias))
                } else {
                    Err(E::custom("a bias is too large"))
                }
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<(TokenId, f32)>, String> {
        let facts = Facts { vocabulary: Some(100), ..Facts::default() };
        let biases: Biases = serde_json::from_str(json).map_err(|error| error.to_string())?;
        biases.checked(&facts).map_err(|problem| problem.message)
    }

    #[test]
    fn both_forms() {
        let forbidden = f32::NEG_INFINITY;
        assert_eq!(read("null").unwrap(), []);
        assert_eq!(read(r#"{"5":-100}"#).unwrap(), [(TokenId(5), -100.0)]);
        let pairs = [(TokenId(5), 1.5), (TokenId(6), forbidden)];
        assert_eq!(read("[[5,1.5],[6,false]]").unwrap(), pairs);
    }

    #[test]
    fn refusals_say_why() {
        let many = format!("[{}[5,1]]", "[5,1],".repeat(MAX_BIASES));
        for (json, why) in [
            (r#"{"x":1}"#, "a key is not a token id"),
            (r#"{"5":"x"}"#, "a number, or false"),
            (r#"{"5":true}"#, "a number, or false"),
            (r#"{"5":1e60}"#, "too large"),
            (r#"{"100":1}"#, "the vocabulary ends before 100"),
            ("7", "a map of token ids to numbers"),
            (many.as_str(), "more than 300 items"),
        ] {
            let message = read(json).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }
}

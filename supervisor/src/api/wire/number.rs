//! Numbers as clients really write them, and the ranges that they must be in.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use crate::api::error::Problem;

/// An integer; `16.0` is one too, because some clients only have floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Integer(pub(crate) i64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl Visitor<'_> for Seen {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Integer, E> {
                Ok(Integer(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Integer, E> {
                Ok(Integer(i64::try_from(value).unwrap_or(i64::MAX)))
            }

            #[expect(clippy::cast_possible_truncation, reason = "whole, and within 2^53")]
            fn visit_f64<E: Error>(self, value: f64) -> Result<Integer, E> {
                const EXACT: f64 = 9_007_199_254_740_992.0;
                if value.fract() == 0.0 && value.abs() <= EXACT {
                    return Ok(Integer(value as i64));
                }
                Err(E::invalid_value(Unexpected::Float(value), &self))
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

/// A real number within `low..=high`, or `default` where the field is absent.
///
/// # Errors
/// Out of range; the problem names `field`.
pub(crate) fn within(
    field: &str,
    value: Option<f64>,
    low: f32,
    high: f32,
    default: f32,
) -> Result<f32, Problem> {
    let Some(value) = value else { return Ok(default) };
    if value >= f64::from(low) && value <= f64::from(high) {
        #[expect(clippy::cast_possible_truncation, reason = "in range, so only rounded")]
        return Ok(value as f32);
    }
    Err(Problem::field(field, format_args!("must be between {low} and {high}")))
}

/// How many tokens a client asked for at most. `None`: as many as the window
/// leaves, which clients write as nothing or as a negative number.
///
/// # Errors
/// Zero where `zero_is_all` is false: an answer of no tokens is no answer.
pub(crate) fn token_limit(
    field: &str,
    value: Option<Integer>,
    zero_is_all: bool,
) -> Result<Option<u32>, Problem> {
    match value {
        None => Ok(None),
        Some(Integer(0)) if !zero_is_all => Err(Problem::field(field, "must be at least 1")),
        Some(Integer(value)) if value <= 0 => Ok(None),
        Some(Integer(value)) => Ok(Some(u32::try_from(value).unwrap_or(u32::MAX))),
    }
}

/// A seed as it was asked for. Absent and `-1` mean: a different one each time.
pub(crate) fn seed(value: Option<Integer>) -> u64 {
    match value {
        None | Some(Integer(-1)) => random(),
        Some(Integer(seed)) => seed.cast_unsigned(),
    }
}

/// A number that nobody can guess, from the keys that the standard library
/// draws from the operating system for its hash maps.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_floats_are_integers_and_others_are_not() {
        let parse = serde_json::from_str::<Integer>;
        assert_eq!(parse("16").unwrap(), Integer(16));
        assert_eq!(parse("16.0").unwrap(), Integer(16));
        assert_eq!(parse("-1").unwrap(), Integer(-1));
        assert_eq!(parse("18446744073709551615").unwrap(), Integer(i64::MAX));
        assert!(parse("16.5").is_err());
        assert!(parse("1e300").is_err());
        assert!(parse("\"16\"").is_err());
    }

    #[test]
    fn token_limits() {
        let limit = |value| token_limit("max_tokens", value, false);
        assert_eq!(limit(None), Ok(None));
        assert_eq!(limit(Some(Integer(-1))), Ok(None));
        assert_eq!(limit(Some(Integer(7))), Ok(Some(7)));
        assert_eq!(limit(Some(Integer(i64::MAX))), Ok(Some(u32::MAX)));
        assert!(limit(Some(Integer(0))).is_err());
        assert_eq!(token_limit("num_predict", Some(Integer(0)), true), Ok(None));
    }

    #[test]
    fn ranges_include_their_ends() {
        let unit = |value| within("top_p", value, 0.0, 1.0, 0.95);
        assert_eq!(unit(None), Ok(0.95));
        assert_eq!(unit(Some(1.0)), Ok(1.0));
        assert!(unit(Some(1.01)).is_err());
        assert!(unit(Some(-0.1)).is_err());
    }
}

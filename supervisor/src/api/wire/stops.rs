//! `stop`: strings before which an answer ends.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::bounded::items;
use crate::api::error::Problem;

/// Stop strings in one request, and bytes in one of them. Each is looked for
/// after every token.
const MAX_STOPS: usize = 64;
const MAX_STOP_BYTES: usize = 1024;

/// One string, a list of them, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Stops(Vec<String>);

impl Stops {
    /// Those that mean something.
    ///
    /// # Errors
    /// One is too long; the problem names `field`.
    pub(crate) fn checked(&self, field: &str) -> Result<Vec<String>, Problem> {
        let Self(stops) = self;
        if stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
            let why = format!("may have {MAX_STOP_BYTES} bytes at most in each string");
            return Err(Problem::field(field, why));
        }
        Ok(stops.iter().filter(|stop| !stop.is_empty()).cloned().collect())
    }
}

impl<'de> Deserialize<'de> for Stops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = Stops;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, stop: &str) -> Result<Stops, E> {
                Ok(Stops(vec![stop.to_owned()]))
            }

            fn visit_unit<E: Error>(self) -> Result<Stops, E> {
                Ok(Stops::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Stops, A::Error> {
                items(list, MAX_STOPS).map(Stops)
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &serde_json::Value) -> Option<Vec<String>> {
        let stops: Stops = serde_json::from_value(json.clone()).ok()?;
        stops.checked("stop").ok()
    }

    #[test]
    fn in_every_form_and_within_bounds() {
        let list = |stops: &[&str]| Some(stops.iter().map(ToString::to_string).collect());
        assert_eq!(read(&"a".into()), list(&["a"]));
        assert_eq!(read(&vec!["a", "", "b"].into()), list(&["a", "b"]));
        assert_eq!(read(&serde_json::Value::Null), list(&[]));
        assert_eq!(read(&vec!["x"; MAX_STOPS + 1].into()), None);
        assert_eq!(read(&"x".repeat(MAX_STOP_BYTES + 1).into()), None);
        assert_eq!(read(&7.into()), None);
    }
}

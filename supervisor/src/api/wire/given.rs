//! Fields whose presence is all that matters.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Whether a field asks for anything: `null`, `false` and `""` do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Given(pub(crate) bool);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_unit<E: Error>(self) -> Result<Given, E> {
                Ok(Given(false))
            }

            fn visit_bool<E: Error>(self, given: bool) -> Result<Given, E> {
                Ok(Given(given))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Given, E> {
                Ok(Given(!text.is_empty()))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Given, E> {
                Ok(Given(true))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Given, E> {
                Ok(Given(true))
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Given, E> {
                Ok(Given(true))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Given, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Given(true))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Given(true))
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_something() {
        for (json, given) in [
            ("null", false),
            ("\"\"", false),
            ("false", false),
            ("\"json\"", true),
            ("{\"type\":\"object\"}", true),
            ("[[],{}]", true),
            ("0", true),
            ("1.5", true),
        ] {
            assert_eq!(serde_json::from_str::<Given>(json).unwrap(), Given(given), "{json}");
        }
    }
}

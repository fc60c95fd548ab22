//! Lists with a bound that holds while they are read: a short text can ask for
//! a great many empty items.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// A list of at most `MAX` items.
#[derive(Debug)]
pub(crate) struct Bounded<T, const MAX: usize>(pub(crate) Vec<T>);

impl<T, const MAX: usize> Default for Bounded<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Seen<T, MAX> {
            type Value = Bounded<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                items(list, MAX).map(Bounded)
            }
        }

        deserializer.deserialize_seq(Seen(PhantomData))
    }
}

/// Reads a list of at most `max` items.
pub(crate) fn items<'de, T, A>(mut list: A, max: usize) -> Result<Vec<T>, A::Error>
where
    T: Deserialize<'de>,
    A: SeqAccess<'de>,
{
    let mut items = Vec::new();
    while let Some(item) = list.next_element()? {
        if items.len() == max {
            return Err(A::Error::custom(format_args!("more than {max} items")));
        }
        items.push(item);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_item_too_many_is_refused() {
        let read = serde_json::from_str::<Bounded<u32, 2>>;
        assert_eq!(read("[1,2]").unwrap().0, [1, 2]);
        assert!(read("[1,2,3]").unwrap_err().to_string().starts_with("more than 2 items"));
    }
}

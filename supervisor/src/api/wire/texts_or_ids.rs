//! A field that holds one text, several, one list of token ids, or several of these.

use std::fmt;
use std::marker::PhantomData;

use engine_api::protocol::TokenId;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::bounded::items;

/// One of what such a field holds.
#[derive(Debug)]
pub(crate) enum TextOrIds {
    Text(String),
    Ids(Vec<TokenId>),
}

/// How many a field may hold.
pub(crate) trait Many {
    const MOST: usize;

    /// What is wrong with more.
    fn too_many() -> String;
}

/// The field, bounded as `M` says.
pub(crate) struct TextsOrIds<M> {
    pub(crate) each: Vec<TextOrIds>,
    /// Whether they stood in a list, so that a wrong one has an index.
    pub(crate) listed: bool,
    many: PhantomData<M>,
}

impl<M> TextsOrIds<M> {
    fn new(each: Vec<TextOrIds>, listed: bool) -> Self {
        Self { each, listed, many: PhantomData }
    }
}

impl<M> Default for TextsOrIds<M> {
    fn default() -> Self {
        Self::new(Vec::new(), false)
    }
}

impl<M> fmt::Debug for TextsOrIds<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TextsOrIds").field(&self.each).finish()
    }
}

impl<'de, M: Many> Deserialize<'de> for TextsOrIds<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Seen(PhantomData))
    }
}

struct Seen<M>(PhantomData<M>);

impl<'de, M: Many> Visitor<'de> for Seen<M> {
    type Value = TextsOrIds<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a list of strings, or a list of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(TextsOrIds::new(vec![TextOrIds::Text(text.to_owned())], false))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut each = Vec::new();
        let mut ids = Vec::new();
        while let Some(item) = list.next_element()? {
            match item {
                Item::Id(id) => ids.push(id),
                Item::Whole(_) if each.len() == M::MOST => {
                    return Err(A::Error::custom(M::too_many()));
                }
                Item::Whole(one) => each.push(one),
            }
        }
        match (each.is_empty(), ids.is_empty()) {
            (_, true) => Ok(TextsOrIds::new(each, true)),
            (true, false) => Ok(TextsOrIds::new(vec![TextOrIds::Ids(ids)], false)),
            (false, false) => Err(A::Error::custom("a list mixes texts and token ids")),
        }
    }
}

/// One item of a list: one of several, or a part of one.
enum Item {
    Id(TokenId),
    Whole(TextOrIds),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl<'de> Visitor<'de> for Seen {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a token id")
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Item, E> {
                let id = u32::try_from(id).map_err(|_| E::custom("a token id is too large"))?;
                Ok(Item::Id(TokenId(id)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Whole(TextOrIds::Text(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Item, A::Error> {
                Ok(Item::Whole(TextOrIds::Ids(items(list, usize::MAX)?)))
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

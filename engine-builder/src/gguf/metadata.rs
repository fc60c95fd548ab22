//! The key-value pairs of a GGUF header.
//!
//! Numbers, short lists of numbers and texts are kept; the vocabulary and
//! other long arrays are walked over.

use std::collections::BTreeMap;
use std::io::{BufRead, Seek};

use super::GgufError;
use super::reader::Reader;

/// Memory that the kept pairs may take. Chat templates, the longest of them,
/// have tens of KiB.
pub(super) const MOST_KEPT_BYTES: u64 = 16 * 1024 * 1024;

/// Pairs in one header; real models have about 40.
const MOST_PAIRS: u64 = 65_536;

/// Numbers in a list that is kept: one for each layer.
const LONGEST_LIST: u64 = 4096;

/// A pair has at least a key's length, a type and a byte.
const LEAST_PAIR_BYTES: u64 = 13;

/// Where weights begin unless the header says otherwise, in bytes.
const DEFAULT_ALIGNMENT: u64 = 32;

/// No real file aligns its weights to more than a large page.
const MOST_ALIGNMENT: u64 = 2 * 1024 * 1024;

/// Tokens that begin the missing middle, in the spellings that models use.
const FIM_TOKENS: [&[u8]; 5] =
    [b"<|fim_middle|>", b"<fim_middle>", b"<fim-middle>", b"<PRE>", "<｜fim▁begin｜>".as_bytes()];

/// Keys that name the same token by its id.
const FIM_KEYS: [&str; 2] = ["tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"];

#[derive(Debug)]
enum Value {
    Numbers(Vec<u64>),
    Text(String),
}

/// The pairs worth keeping.
#[derive(Debug)]
pub(super) struct Metadata {
    values: BTreeMap<String, Value>,
    /// Whether the vocabulary can fill in the middle.
    pub(super) fim: bool,
}

impl Metadata {
    pub(super) fn read<R: BufRead + Seek>(
        reader: &mut Reader<R>,
        count: u64,
    ) -> Result<Self, GgufError> {
        reader.bound("metadata pairs", count, LEAST_PAIR_BYTES, MOST_PAIRS)?;
        let mut metadata = Self { values: BTreeMap::new(), fim: false };
        let mut room = MOST_KEPT_BYTES;
        for _ in 0..count {
            let key = text(reader, &mut room)?;
            let kind = reader.u32()?;
            if let Some(value) = metadata.value(reader, kind, &mut room)? {
                metadata.values.insert(key, value);
            }
        }
        metadata.fim |= FIM_KEYS.iter().any(|key| metadata.values.contains_key(*key));
        Ok(metadata)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(text) => Some(text),
            Value::Numbers(_) => None,
        }
    }

    pub(super) fn numbers(&self, key: &str) -> Option<&[u64]> {
        match self.values.get(key)? {
            Value::Numbers(numbers) => Some(numbers),
            Value::Text(_) => None,
        }
    }

    /// A number; the largest, where the key has one for each layer.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.numbers(key)?.iter().max().copied()
    }

    pub(super) fn alignment(&self) -> Result<u64, GgufError> {
        let alignment = self.number("general.alignment").unwrap_or(DEFAULT_ALIGNMENT);
        if alignment.is_power_of_two() && alignment <= MOST_ALIGNMENT {
            Ok(alignment)
        } else {
            Err(GgufError::Malformed { position: 0, problem: "has an impossible alignment" })
        }
    }

    fn value<R: BufRead + Seek>(
        &mut self,
        reader: &mut Reader<R>,
        kind: u32,
        room: &mut u64,
    ) -> Result<Option<Value>, GgufError> {
        match kind {
            TEXT => text(reader, room).map(|text| Some(Value::Text(text))),
            ARRAY => self.array(reader, room),
            kind => Ok(number(reader, kind)?.map(|number| Value::Numbers(vec![number]))),
        }
    }

    fn array<R: BufRead + Seek>(
        &mut self,
        reader: &mut Reader<R>,
        room: &mut u64,
    ) -> Result<Option<Value>, GgufError> {
        let kind = reader.u32()?;
        let count = reader.u64()?;
        if kind == TEXT {
            reader.bound("strings", count, 8, u64::MAX)?;
            for _ in 0..count {
                self.walk_over(reader)?;
            }
            return Ok(None);
        }
        let Some(width) = width(kind) else {
            return Err(reader.malformed("has an array of an unknown kind"));
        };
        reader.bound("array elements", count, width, u64::MAX)?;
        if count > LONGEST_LIST || matches!(kind, F32 | F64) {
            reader.skip(count * width)?;
            return Ok(None);
        }
        *room = room.checked_sub(count * 8).ok_or_else(|| too_much(reader))?;
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.extend(number(reader, kind)?);
        }
        Ok(Some(Value::Numbers(numbers)))
    }

    /// One string of an array, most likely a vocabulary's.
    fn walk_over<R: BufRead + Seek>(&mut self, reader: &mut Reader<R>) -> Result<(), GgufError> {
        let length = reader.u64()?;
        if FIM_TOKENS.iter().any(|token| token.len() as u64 == length) {
            let token = reader.bytes(length)?;
            self.fim |= FIM_TOKENS.contains(&token.as_slice());
            return Ok(());
        }
        reader.skip(length)
    }
}

const F32: u32 = 6;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;
const F64: u32 = 12;

/// Bytes of one value of a kind; `None` if it is no number.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4 | 5 | F32 => Some(4),
        10 | 11 | F64 => Some(8),
        _ => None,
    }
}

/// A whole number that is not negative; `None` for all others.
fn number<R: BufRead + Seek>(reader: &mut Reader<R>, kind: u32) -> Result<Option<u64>, GgufError> {
    Ok(match kind {
        0 | 7 => Some(u64::from(u8::from_le_bytes(reader.array()?))),
        1 => u64::try_from(i8::from_le_bytes(reader.array()?)).ok(),
        2 => Some(u64::from(u16::from_le_bytes(reader.array()?))),
        3 => u64::try_from(i16::from_le_bytes(reader.array()?)).ok(),
        4 => Some(u64::from(reader.u32()?)),
        5 => u64::try_from(i32::from_le_bytes(reader.array()?)).ok(),
        10 => Some(reader.u64()?),
        11 => u64::try_from(i64::from_le_bytes(reader.array()?)).ok(),
        F32 | F64 => {
            reader.skip(if kind == F32 { 4 } else { 8 })?;
            None
        }
        _ => return Err(reader.malformed("has a value of an unknown kind")),
    })
}

/// A string. What is not UTF-8 in it is replaced: it is only shown and compared.
fn text<R: BufRead + Seek>(reader: &mut Reader<R>, room: &mut u64) -> Result<String, GgufError> {
    let length = reader.u64()?;
    if length > reader.remaining() {
        return Err(GgufError::TruncatedHeader { length: reader.length() });
    }
    *room = room.checked_sub(length).ok_or_else(|| too_much(reader))?;
    Ok(String::from_utf8_lossy(&reader.bytes(length)?).into_owned())
}

fn too_much<R: BufRead + Seek>(reader: &Reader<R>) -> GgufError {
    reader.malformed("has more text than any model needs")
}

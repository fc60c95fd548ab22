//! The JSON of a header, within bounds.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::SafetensorsError;

/// Dimensions of one tensor; real ones have up to four.
const MOST_DIMENSIONS: usize = 8;

/// The key that holds notes and no tensor.
const NOTES: &str = "__metadata__";

/// The kinds of numbers that the format knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(non_camel_case_types, reason = "these are the format's own names")]
pub enum Dtype {
    BOOL,
    F4,
    F6_E2M3,
    F6_E3M2,
    U8,
    I8,
    F8_E5M2,
    F8_E4M3,
    F8_E8M0,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}

impl Dtype {
    fn bits(self) -> u64 {
        match self {
            Self::F4 => 4,
            Self::F6_E2M3 | Self::F6_E3M2 => 6,
            Self::BOOL | Self::U8 | Self::I8 => 8,
            Self::F8_E5M2 | Self::F8_E4M3 | Self::F8_E8M0 => 8,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 16,
            Self::I32 | Self::U32 | Self::F32 => 32,
            Self::C64 | Self::F64 | Self::I64 | Self::U64 => 64,
        }
    }
}

/// One tensor, and where it stands behind the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    pub(super) begin: u64,
    pub(super) end: u64,
}

impl Tensor {
    /// What its shape takes; `None` if that is no number, or no whole one.
    pub(super) fn bytes_needed(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1u64, |all, size| all.checked_mul(*size))?;
        let bits = elements.checked_mul(self.dtype.bits())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

/// The tensors that `json` names, in any order.
pub(super) fn tensors(json: &[u8]) -> Result<Vec<Tensor>, SafetensorsError> {
    if json.first() != Some(&b'{') {
        return Err(SafetensorsError::Header("it does not begin with {".into()));
    }
    let header: Header = serde_json::from_slice(json)
        .map_err(|error| SafetensorsError::Header(error.to_string()))?;
    Ok(header.0)
}

struct Header(Vec<Tensor>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut tensors = Vec::new();
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("{name:?} stands there twice")));
            }
            if name == NOTES {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let Written { dtype, shape, data_offsets: (begin, end) } = map.next_value()?;
            tensors.push(Tensor { name, dtype, shape: shape.0, begin, end });
        }
        Ok(Header(tensors))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (u64, u64),
}

struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST_DIMENSIONS} dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        let mut shape = Vec::new();
        while let Some(size) = list.next_element()? {
            if shape.len() == MOST_DIMENSIONS {
                return Err(A::Error::invalid_length(MOST_DIMENSIONS + 1, &self));
            }
            shape.push(size);
        }
        Ok(Shape(shape))
    }
}

//! Sound headers, each kind of unsound one, and many random ones.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

/// A file with this header and so many bytes behind it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(std::iter::repeat_n(7, data));
    bytes
}

fn read_bytes(bytes: &[u8]) -> Result<Vec<Tensor>, SafetensorsError> {
    parse(Cursor::new(bytes), bytes.len() as u64)
}

#[track_caller]
fn refused(header: &str, data: usize, why: &str) {
    let error = read_bytes(&file(header, data)).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

const SOUND: &str = r#"{"__metadata__":{"format":"pt"},
    "b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},
    "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
    "none":{"dtype":"I64","shape":[0,5],"data_offsets":[16,16]}}   "#;

#[test]
fn a_sound_header_is_read_in_the_order_of_its_bytes() {
    let tensors = read_bytes(&file(SOUND, 16)).unwrap();
    let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "none"]);
    assert_eq!((tensors[1].dtype, tensors[1].shape.as_slice()), (Dtype::F16, &[2, 3][..]));
    assert!(read_bytes(&file("{}", 0)).unwrap().is_empty());
}

#[test]
fn lengths_that_cannot_be_true_are_refused_before_anything_is_read() {
    assert!(matches!(read_bytes(b"1234567"), Err(SafetensorsError::TooShort { length: 7 })));
    let mut huge = file("{}", 0);
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(
        read_bytes(&huge),
        Err(SafetensorsError::HeaderLength { claimed: u64::MAX, most: 2 })
    ));
    // The file is said to be long enough; the header may still not be that long.
    let claimed = (MOST_HEADER_BYTES + 1).to_le_bytes();
    let error = parse(Cursor::new(claimed), u64::MAX).unwrap_err();
    assert!(matches!(error, SafetensorsError::HeaderLength { most: MOST_HEADER_BYTES, .. }));
}

#[test]
fn tensors_that_lie_are_refused() {
    let one = |fields: &str| format!(r#"{{"t":{{{fields}}}}}"#);
    let shape = |shape: &str, offsets: &str| {
        one(&format!(r#""dtype":"F32","shape":{shape},"data_offsets":{offsets}"#))
    };
    refused(&shape("[1]", "[0,8]"), 8, "has 8 bytes, its shape needs 4");
    refused(&shape("[2]", "[0,8]"), 4, "is at 0 to 8 of 4 bytes");
    refused(&shape("[2]", "[8,0]"), 8, "is at 8 to 0 of 8 bytes");
    refused(&shape("[1]", "[4,8]"), 8, "begins at 4, the one before it ends at 0");
    refused(&shape("[1]", "[0,4]"), 8, "end after 4 bytes, the file has 8");
    refused(&shape("[4294967296,4294967296]", "[0,0]"), 0, "no number of bytes");
    refused(&shape("[18446744073709551615]", "[0,4]"), 4, "no number of bytes");
    refused(&shape("[18446744073709551616]", "[0,4]"), 4, "invalid type");
    refused(&shape("[-1]", "[0,4]"), 4, "invalid value");
    refused(&shape("[1.0]", "[0,4]"), 4, "invalid type");
    refused(&shape("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "at most 8 dimensions");
    refused(&shape("[1]", "[0,4,8]"), 4, "trailing characters");
    refused(&one(r#""dtype":"F33","shape":[],"data_offsets":[0,4]"#), 4, "unknown variant `F33`");
    refused(&one(r#""dtype":"F4","shape":[3],"data_offsets":[0,1]"#), 1, "no number of bytes");
    refused(&one(r#""dtype":"F32","shape":[]"#), 4, "missing field `data_offsets`");
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    let header = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
        "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    refused(header, 6, r#"tensor "b" begins at 2, the one before it ends at 4"#);
    let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
        "a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    refused(twice, 2, r#""a" stands there twice"#);
}

#[test]
fn what_is_no_object_is_refused() {
    refused("[]", 0, "does not begin with {");
    refused(" {}", 0, "does not begin with {");
    refused("{}}", 0, "trailing characters");
    refused(r#"{"__metadata__":"#, 0, "EOF");
    let deep = format!(r#"{{"__metadata__":{}"#, "[".repeat(100_000));
    refused(&deep, 0, "EOF while parsing a list");
}

#[test]
fn an_index_names_files_beside_it_and_nothing_else() {
    let parse = |names: &[&str]| {
        let members = names.iter().enumerate().map(|(at, name)| format!(r#""t{at}":"{name}""#));
        let map: Vec<String> = members.collect();
        index::parse(
            format!(r#"{{"metadata":{{}},"weight_map":{{{}}}}}"#, map.join(",")).as_bytes(),
        )
    };
    let names = ["b.safetensors", "a.safetensors", "b.safetensors"];
    assert_eq!(parse(&names).unwrap(), ["a.safetensors", "b.safetensors"]);
    for name in
        ["../a.safetensors", "/etc/a.safetensors", "a/b.safetensors", "a.bin", ".safetensors", ""]
    {
        assert!(matches!(parse(&[name]), Err(IndexError::Name(_))), "{name}");
    }
    assert!(matches!(parse(&[]), Err(IndexError::Count(0))));
    assert!(matches!(index::parse(b"{}"), Err(IndexError::NotAnIndex(_))));
}

/// Files whose tensors agree with each other.
fn sound_files() -> impl Strategy<Value = Vec<u8>> {
    let tensor = (0..4usize, prop::collection::vec(0..5u64, 0..4));
    prop::collection::vec(tensor, 0..8).prop_map(|tensors| {
        let (mut end, mut members) = (0, Vec::new());
        for (at, (dtype, shape)) in tensors.iter().enumerate() {
            let (name, size) = [("U8", 1), ("F16", 2), ("F32", 4), ("I64", 8)][*dtype];
            let begin = end;
            end += size * shape.iter().product::<u64>();
            members.push(format!(
                r#""t{at}":{{"dtype":"{name}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#
            ));
        }
        members.reverse();
        file(&format!("{{{}}}", members.join(",")), usize::try_from(end).unwrap())
    })
}

/// What every header that is accepted promises to its reader.
fn holds(tensors: &[Tensor], bytes: &[u8]) -> bool {
    let length = bytes.len() as u64 - 8 - u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let ends = std::iter::once(0).chain(tensors.iter().map(|tensor| tensor.end));
    tensors.iter().zip(ends).all(|(tensor, before)| tensor.begin == before)
        && tensors.last().map_or(0, |last| last.end) == length
        && tensors.iter().all(|it| it.bytes_needed() == Some(it.end - it.begin))
}

proptest! {
    #[test]
    fn sound_files_are_read(bytes in sound_files()) {
        let tensors = read_bytes(&bytes).unwrap();
        prop_assert!(holds(&tensors, &bytes));
    }

    #[test]
    fn no_bytes_at_all_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(tensors) = read_bytes(&bytes) {
            prop_assert!(holds(&tensors, &bytes));
        }
    }

    /// Sound files with random damage: overwritten, cut, repeated and grown.
    #[test]
    fn a_damaged_file_is_refused_or_still_consistent(
        bytes in sound_files(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..5u8, any::<u8>()), 1..12),
    ) {
        let mut bytes = bytes;
        for (at, kind, byte) in damage {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match kind {
                _ if bytes.is_empty() => bytes.push(byte),
                0 => bytes[at] = byte,
                1 => bytes[at] = b"0123456789,[]{}\""[usize::from(byte) % 16],
                2 => bytes.insert(at, byte),
                3 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        if let Ok(tensors) = read_bytes(&bytes) {
            prop_assert!(holds(&tensors, &bytes));
        }
    }
}

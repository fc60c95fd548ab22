//! Headers good, bad and hostile.

use std::io::Cursor;

use proptest::prelude::*;

use super::sample::{Sample, string};
use super::*;

fn parse_bytes(bytes: &[u8]) -> Result<Facts, GgufError> {
    parse(Cursor::new(bytes), bytes.len() as u64)
}

fn refusal(bytes: &[u8]) -> String {
    parse_bytes(bytes).unwrap_err().to_string()
}

/// The value that is an array of `count` elements of this kind.
fn array(kind: u32, count: usize, elements: &[u8]) -> Vec<u8> {
    let header = [9u32.to_le_bytes(), kind.to_le_bytes()].concat();
    [&header[..], &(count as u64).to_le_bytes(), elements].concat()
}

fn with_vocabulary(tokens: &[&str]) -> Vec<u8> {
    let elements: Vec<u8> = tokens.iter().flat_map(|token| string(token)).collect();
    let value = array(8, tokens.len(), &elements);
    Sample::of("llama").pair("tokenizer.ggml.tokens", &value).bytes()
}

#[test]
fn a_header_is_read() {
    let file = Sample::of("llama").text("tokenizer.chat_template", "{{ messages }}");
    let facts = parse_bytes(&file.bytes()).unwrap();
    assert_eq!(
        facts,
        Facts {
            name: Some("Sample Model".into()),
            architecture: "llama".into(),
            licence: None,
            parameters: 640,
            quantisation: "Q4_1".into(),
            trained_context: Some(2048),
            // 2 layers × 2 heads × (16 + 16) values × 2 bytes.
            kv_bytes_per_token: Some(256),
            chat_template: true,
            fim: false,
            tokenizer: None,
            embedding: None,
        }
    );
}

#[test]
fn a_model_that_pools_makes_vectors_and_an_encoder_keeps_nothing() {
    let encoder = Sample::of("bert").number("bert.pooling_type", 2);
    let encoder = encoder.pair("bert.attention.causal", &[7, 0, 0, 0, 0]);
    let facts = parse_bytes(&encoder.bytes()).unwrap();
    let embedding = facts.embedding.unwrap();
    assert_eq!((embedding.dimension, embedding.pooling), (64, Pooling::First));
    assert_eq!(facts.kv_bytes_per_token, Some(0));
    let ranks = Sample::of("bert").number("bert.pooling_type", 4);
    assert_eq!(parse_bytes(&ranks.bytes()).unwrap().embedding, None);
}

#[test]
fn heads_may_differ_from_layer_to_layer() {
    let heads = array(4, 2, &[2u32.to_le_bytes(), 1u32.to_le_bytes()].concat());
    let file = Sample::of("llama").pair("llama.attention.head_count_kv", &heads);
    assert_eq!(parse_bytes(&file.bytes()).unwrap().kv_bytes_per_token, Some(192));
}

#[test]
fn the_vocabulary_says_whether_a_middle_can_be_filled() {
    let fim = |tokens: &[&str]| parse_bytes(&with_vocabulary(tokens)).unwrap().fim;
    assert!(!fim(&["a", "<fim_prefix>", "fourteen bytes"]));
    assert!(fim(&["a", "<|fim_middle|>", "b"]));
    let by_id = Sample::of("llama").number("tokenizer.ggml.fim_mid_token_id", 5);
    assert!(parse_bytes(&by_id.bytes()).unwrap().fim);
}

#[test]
fn other_files_are_named_as_such() {
    assert_eq!(
        refusal(b"PK\x03\x04 and more"),
        "this is not a GGUF file: it begins with [50, 4b, 03, 04], not with \"GGUF\""
    );
    assert!(refusal(b"").starts_with("this is not a GGUF file"));
    assert!(refusal(b"<!DOCTYPE html>").starts_with("this is not a GGUF file"));
    assert_eq!(refusal(b"GGUF\x01\0\0\0"), "GGUF version 1 is not known, only 2 to 3");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = Sample::of("llama").bytes();
    for length in 0..whole.len() {
        let error = parse_bytes(&whole[..length]).unwrap_err();
        let expected = match error {
            GgufError::NotGguf { .. } => length < 4,
            GgufError::TruncatedHeader { .. } | GgufError::TooMany { .. } => true,
            GgufError::TruncatedWeights { needed, .. } => needed == whole.len() as u64,
            _ => false,
        };
        assert!(expected, "cut at {length}: {error}");
    }
}

#[test]
fn counts_that_cannot_be_true_are_refused_before_they_cost_anything() {
    let mut file = Sample::of("llama").bytes();
    file[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(&file).contains("claims 18446744073709551615 tensors"));
    file[16..24].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert!(refusal(&file).contains("claims 1099511627776 metadata pairs"));

    let endless = [8u32.to_le_bytes().to_vec(), u64::MAX.to_le_bytes().to_vec()].concat();
    let file = Sample::of("llama").pair("endless", &endless).bytes();
    assert!(refusal(&file).contains("truncated"));

    let file = Sample::of("llama").pair("endless", &array(8, usize::MAX / 2, &[])).bytes();
    assert!(refusal(&file).contains("strings"));
}

#[test]
fn tensors_outside_the_file_are_refused() {
    let huge = Sample::of("llama").tensor("big", &[1]).bytes();
    let at = huge.windows(3).position(|bytes| bytes == b"big").unwrap() + 3 + 4;
    let with = |extent: u64| {
        let mut file = huge.clone();
        file[at..at + 8].copy_from_slice(&extent.to_le_bytes());
        refusal(&file)
    };
    assert!(with(1 << 30).starts_with("the file is truncated: its weights need"));
    assert!(with(u64::MAX).ends_with("has a tensor of an impossible size"));
}

#[test]
fn what_cannot_be_built_says_why() {
    let part = Sample::of("llama").number("split.count", 3).bytes();
    assert!(refusal(&part).contains("one part of a model in 3 files"));
    let odd = Sample::of("llama").number("general.alignment", 3).bytes();
    assert!(refusal(&odd).contains("impossible alignment"));
    let nested = Sample::of("llama").pair("x", &array(9, 1, &[])).bytes();
    assert!(refusal(&nested).contains("an array of an unknown kind"));
    let mut nameless = Sample::of("llama").bytes();
    let at = nameless.windows(20).position(|key| key == b"general.architecture").unwrap();
    nameless[at] = b'G';
    assert_eq!(refusal(&nameless), "the header has no general.architecture");
}

proptest! {
    #[test]
    fn garbage_is_refused_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(parse_bytes(&bytes).is_err());
        let _ = parse_bytes(&[b"GGUF\x03\0\0\0".to_vec(), bytes].concat());
    }

    #[test]
    fn a_flipped_header_never_panics_and_never_claims_what_is_not_there(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut file = with_vocabulary(&["a", "b"]);
        for (index, value) in flips {
            let at = index.index(file.len());
            file[at] = value;
        }
        if let Ok(facts) = parse_bytes(&file) {
            prop_assert!(facts.name.is_none_or(|name| name.len() <= 3 * file.len()));
        }
    }
}

//! Files that can run code when they are loaded: Python's pickles, and archives
//! and checkpoints made of them. They are told by name and by content, and never
//! taken.

use std::path::Path;

/// What such files are called. `.bin` is PyTorch's habit.
const ENDINGS: [&str; 8] = ["bin", "pt", "pth", "ckpt", "pkl", "pickle", "joblib", "dill"];

/// Protocols that a pickle names in its second byte.
const PROTOCOLS: std::ops::RangeInclusive<u8> = 2..=5;

/// What a person can do instead.
pub const INSTEAD: &str =
    "a pickle can run code when it is loaded and is never taken: bring safetensors or GGUF";

/// Whether a file of this name is one by habit.
#[must_use]
pub fn is_named(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// Whether a file that begins like this is one, or an archive as PyTorch writes.
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    match bytes {
        [0x80, protocol, ..] => PROTOCOLS.contains(protocol),
        [b'P', b'K', 3, 4, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_are_told_by_their_names() {
        for name in ["pytorch_model.bin", "a/model.PT", "x.ckpt", "x.pkl", "x.pth"] {
            assert!(is_named(Path::new(name)), "{name}");
        }
        for name in ["model.safetensors", "m.gguf", "tokenizer.json", "bin", "tokenizer.model"] {
            assert!(!is_named(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn pickles_are_told_by_their_first_bytes() {
        assert!(begins(b"\x80\x02}q\x00."));
        assert!(begins(b"\x80\x05\x95"));
        assert!(begins(b"PK\x03\x04archive/data.pkl"));
        for bytes in [&b"GGUF"[..], b"\x80", b"\x80\x09", b"", b"{\"a\":1}", b"\x0a\x0e<unk>"] {
            assert!(!begins(bytes), "{bytes:?}");
        }
    }
}

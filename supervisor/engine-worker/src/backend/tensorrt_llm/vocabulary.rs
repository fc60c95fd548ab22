//! A vocabulary from a Hugging Face `tokenizer.json`, for a runtime that knows
//! token ids only.
//!
//! The crate `tokenizers` splits text into tokens. The way back is a table, made
//! once: the crate's own decoder works on whole answers and not on single tokens.
//! Two spellings of bytes are known, and a file with another one is refused.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use engine_api::manifest::SpecialTokens;
use engine_api::protocol::TokenId;
use tokenizers::Tokenizer;

use crate::backend::{InfillTokens, TemplateTokens, Vocabulary};

/// What a tokeniser's file and a manifest say.
pub(super) struct FileVocabulary {
    /// Whether special tokens are to be found in text is a setting of the whole.
    /// One thread prepares prompts, so nobody waits for it.
    tokenizer: Mutex<Tokenizer>,
    /// The bytes of each token; none for control tokens.
    bytes: Vec<Box<[u8]>>,
    ends: Vec<TokenId>,
    beginning: Option<TokenId>,
    infill: Option<InfillTokens>,
    template: Option<String>,
    template_tokens: TemplateTokens,
}

/// How a file spells the bytes of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// GPT-2's: each byte is one letter of an alphabet of 256.
    Alphabet,
    /// `SentencePiece`'s: text, `▁` for a space, `<0x0A>` for a byte that is none.
    Pieces,
}

impl FileVocabulary {
    /// Reads the files; `special` names tokens of theirs.
    ///
    /// # Errors
    /// A file that is none, or that lacks a token that the manifest names.
    pub(super) fn read(
        path: &Path,
        template: Option<&Path>,
        special: &SpecialTokens,
    ) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
        let mut tokenizer: Tokenizer =
            text.parse().map_err(|error| anyhow::anyhow!("parse {shown}: {error}"))?;
        // A prompt is never cut or filled up, whatever the file says.
        tokenizer
            .with_truncation(None)
            .map_err(|error| anyhow::anyhow!("set up {shown}: {error}"))?;
        tokenizer.with_padding(None);
        let spelling = spelling(&text).with_context(|| format!("understand {shown}"))?;
        let id = |name: &String| {
            let id = tokenizer.token_to_id(name).map(TokenId);
            id.with_context(|| format!("find the token {name:?} in {shown}"))
        };
        let ends = special.ends.iter().map(id).collect::<Result<Vec<_>, _>>()?;
        let beginning = special.beginning.as_ref().map(id).transpose()?;
        let infill = match &special.infill {
            None => None,
            Some([prefix, suffix, middle]) => {
                Some(InfillTokens { prefix: id(prefix)?, suffix: id(suffix)?, middle: id(middle)? })
            }
        };
        let template = template.map(|path| {
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
        });
        let template_tokens = TemplateTokens {
            bos: special.beginning.clone().unwrap_or_default(),
            eos: special.ends.first().cloned().unwrap_or_default(),
        };
        let bytes = table(&tokenizer, spelling);
        Ok(Self {
            tokenizer: Mutex::new(tokenizer),
            bytes,
            ends,
            beginning,
            infill,
            template: template.transpose()?,
            template_tokens,
        })
    }
}

/// How the file `text` spells bytes, from the decoder that it names.
fn spelling(text: &str) -> anyhow::Result<Spelling> {
    let file: serde_json::Value = serde_json::from_str(text)?;
    let decoder = &file["decoder"];
    let parts = decoder["decoders"].as_array();
    let mut kinds =
        parts.into_iter().flatten().chain([decoder]).filter_map(|part| part["type"].as_str());
    let kind = kinds.find_map(|kind| match kind {
        "ByteLevel" => Some(Spelling::Alphabet),
        "ByteFallback" | "Metaspace" => Some(Spelling::Pieces),
        _ => None,
    });
    match kind {
        Some(kind) => Ok(kind),
        None => bail!("its decoder is neither GPT-2's nor SentencePiece's"),
    }
}

/// The bytes of every token, by id.
fn table(tokenizer: &Tokenizer, spelling: Spelling) -> Vec<Box<[u8]>> {
    let alphabet = alphabet();
    let added = tokenizer.get_added_tokens_decoder();
    let size = u32::try_from(tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX);
    let last = added.keys().max().map_or(0, |&id| id.saturating_add(1));
    (0..size.max(last))
        .map(|id| match (added.get(&id), tokenizer.id_to_token(id)) {
            (Some(token), _) if token.special => Box::default(),
            (Some(token), _) => token.content.as_bytes().into(),
            (None, Some(token)) => match spelling {
                Spelling::Alphabet => from_alphabet(&token, &alphabet).into(),
                Spelling::Pieces => from_piece(&token).into(),
            },
            (None, None) => Box::default(),
        })
        .collect()
}

/// GPT-2's letters: printable Latin-1 stands for itself, all else for the
/// letters from U+0100 on, in order.
fn alphabet() -> HashMap<char, u8> {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=u8::MAX).filter(|&byte| !is_printable(byte)).zip(0x100u32..);
    let others = others.filter_map(|(byte, letter)| Some((char::from_u32(letter)?, byte)));
    let printable = (0..=u8::MAX).filter(|&byte| is_printable(byte));
    printable.map(|byte| (char::from(byte), byte)).chain(others).collect()
}

fn from_alphabet(token: &str, alphabet: &HashMap<char, u8>) -> Vec<u8> {
    token.chars().filter_map(|letter| alphabet.get(&letter).copied()).collect()
}

fn from_piece(token: &str) -> Vec<u8> {
    let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match byte.map(|byte| u8::from_str_radix(byte, 16)) {
        Some(Ok(byte)) => vec![byte],
        _ => token.replace('\u{2581}', " ").into_bytes(),
    }
}

impl Vocabulary for FileVocabulary {
    fn size(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn tokenize(&self, text: &str, special: bool) -> Vec<TokenId> {
        let mut tokenizer = self.tokenizer.lock().unwrap_or_else(PoisonError::into_inner);
        tokenizer.set_encode_special_tokens(!special);
        match tokenizer.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().iter().copied().map(TokenId).collect(),
            Err(error) => {
                tracing::error!(%error, "the tokeniser failed");
                Vec::new()
            }
        }
    }

    fn append_bytes(&self, token: TokenId, out: &mut Vec<u8>) {
        out.extend(self.bytes.get(token.0 as usize).into_iter().flatten());
    }

    fn ends(&self) -> &[TokenId] {
        &self.ends
    }

    fn beginning(&self) -> Option<TokenId> {
        self.beginning
    }

    fn longest_token(&self) -> usize {
        self.bytes.iter().map(|bytes| bytes.len()).max().unwrap_or(1).max(1)
    }

    fn chat_template(&self) -> Option<String> {
        self.template.clone()
    }

    fn template_tokens(&self) -> TemplateTokens {
        self.template_tokens.clone()
    }

    fn infill(&self) -> Option<InfillTokens> {
        self.infill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2s_letters_are_256_and_spell_every_byte() {
        let alphabet = alphabet();
        let mut bytes: Vec<u8> = alphabet.values().copied().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(from_alphabet("Ġhé", &alphabet), b" h\xE9");
        assert_eq!(from_alphabet("ĊâĤ¬", &alphabet), "\n€".as_bytes());
    }

    #[test]
    fn sentencepieces_are_text_or_a_byte() {
        assert_eq!(from_piece("▁the"), b" the");
        assert_eq!(from_piece("<0x0A>"), b"\n");
        assert_eq!(from_piece("<0xZZ>"), b"<0xZZ>");
    }

    #[test]
    fn the_decoder_says_how_bytes_are_spelled() {
        let of = |decoder: &str| spelling(&format!("{{\"decoder\":{decoder}}}")).ok();
        assert_eq!(of(r#"{"type":"ByteLevel"}"#), Some(Spelling::Alphabet));
        let llama =
            r#"{"type":"Sequence","decoders":[{"type":"Replace"},{"type":"ByteFallback"}]}"#;
        assert_eq!(of(llama), Some(Spelling::Pieces));
        assert_eq!(of(r#"{"type":"WordPiece"}"#), None);
        assert_eq!(of("null"), None);
    }
}

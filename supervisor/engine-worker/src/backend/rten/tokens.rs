//! The tokens of an embedder, from a Hugging Face `tokenizer.json`.

use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use engine_api::protocol::TokenId;
use tokenizers::Tokenizer;

use crate::backend::embedder::Frame;
use crate::backend::{InfillTokens, TemplateTokens, Vocabulary};

/// What a tokeniser's file says.
pub(super) struct Tokens {
    tokenizer: Tokenizer,
    frame: Frame,
}

impl Tokens {
    /// # Errors
    /// A file that is none, or in which the ends of a text cannot be told.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
        let failed = |error: tokenizers::Error| anyhow!("set up {shown}: {error}");
        let mut tokenizer: Tokenizer = text.parse().map_err(failed)?;
        // Such files cut and fill up texts for training; here both is said aloud.
        tokenizer.with_truncation(None).map_err(failed)?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        let whole = tokenizer.encode_fast("a", true).map_err(failed)?;
        let inner = tokenizer.encode_fast("a", false).map_err(failed)?;
        let ids = |ids: &[u32]| ids.iter().copied().map(TokenId).collect::<Vec<_>>();
        let frame = Frame::of(&ids(whole.get_ids()), &ids(inner.get_ids()))
            .with_context(|| format!("find what {shown} puts around a text"))?;
        let tokens = Self { tokenizer, frame };
        ensure!(tokens.size() > 0, "{shown} has no tokens");
        Ok(tokens)
    }

    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }
}

impl Vocabulary for Tokens {
    fn size(&self) -> u32 {
        u32::try_from(self.tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX)
    }

    fn tokenize(&self, text: &str, _special: bool) -> Vec<TokenId> {
        match self.tokenizer.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().iter().copied().map(TokenId).collect(),
            Err(error) => {
                tracing::error!(%error, "the tokeniser failed");
                Vec::new()
            }
        }
    }

    /// No answer is ever made of them.
    fn append_bytes(&self, _token: TokenId, _out: &mut Vec<u8>) {}

    fn ends(&self) -> &[TokenId] {
        &[]
    }

    fn beginning(&self) -> Option<TokenId> {
        None
    }

    fn longest_token(&self) -> usize {
        1
    }

    fn chat_template(&self) -> Option<String> {
        None
    }

    fn template_tokens(&self) -> TemplateTokens {
        TemplateTokens::default()
    }

    fn infill(&self) -> Option<InfillTokens> {
        None
    }
}

//! A GGUF's vocabulary, template and special tokens.

use engine_api::protocol::TokenId;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;

use super::native;
use crate::backend::{InfillTokens, TemplateTokens, Vocabulary};

/// The vocabulary of a loaded model.
pub(super) struct ModelVocabulary {
    model: &'static LlamaModel,
    vocabulary: LlamaVocab<'static>,
    ends: Vec<TokenId>,
}

impl ModelVocabulary {
    pub(super) fn new(model: &'static LlamaModel) -> Self {
        let vocabulary = model.vocab();
        let ends = vocabulary
            .tokens()
            .filter(|&token| vocabulary.is_eog(token))
            .filter_map(known)
            .collect();
        Self { model, vocabulary, ends }
    }

    /// Tokens of `text` with those that the model wants before and after every text.
    pub(super) fn framed(&self, text: &str) -> Vec<TokenId> {
        self.vocabulary
            .tokenize(text.as_bytes(), true, false)
            .into_iter()
            .filter_map(known)
            .collect()
    }

    /// How a special token is written.
    fn text(&self, token: LlamaToken) -> String {
        known(token)
            .and_then(|_| self.vocabulary.text(token))
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

impl Vocabulary for ModelVocabulary {
    fn size(&self) -> u32 {
        u32::try_from(self.vocabulary.n_tokens()).unwrap_or(0)
    }

    fn tokenize(&self, text: &str, special: bool) -> Vec<TokenId> {
        self.vocabulary
            .tokenize(text.as_bytes(), false, special)
            .into_iter()
            .filter_map(known)
            .collect()
    }

    fn append_bytes(&self, token: TokenId, out: &mut Vec<u8>) {
        self.vocabulary.token_to_piece_into(native(token), out, false, None);
    }

    fn ends(&self) -> &[TokenId] {
        &self.ends
    }

    fn beginning(&self) -> Option<TokenId> {
        self.vocabulary.should_add_bos().then(|| known(self.vocabulary.bos())).flatten()
    }

    fn longest_token(&self) -> usize {
        let mut bytes = Vec::new();
        self.vocabulary
            .tokens()
            .map(|token| {
                bytes.clear();
                self.vocabulary.token_to_piece_into(token, &mut bytes, true, None);
                bytes.len()
            })
            .max()
            .unwrap_or(1)
            .max(1)
    }

    fn chat_template(&self) -> Option<String> {
        self.model.chat_template(None).ok()?.to_string().ok()
    }

    fn template_tokens(&self) -> TemplateTokens {
        TemplateTokens {
            bos: self.text(self.vocabulary.bos()),
            eos: self.text(self.vocabulary.eos()),
        }
    }

    fn infill(&self) -> Option<InfillTokens> {
        Some(InfillTokens {
            prefix: known(self.vocabulary.fim_pre())?,
            suffix: known(self.vocabulary.fim_suf())?,
            middle: known(self.vocabulary.fim_mid())?,
        })
    }
}

/// llama.cpp says -1 for a token that the model does not have.
fn known(token: LlamaToken) -> Option<TokenId> {
    u32::try_from(token.0).ok().map(TokenId)
}

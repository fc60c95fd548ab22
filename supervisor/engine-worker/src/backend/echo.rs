//! A backend that computes nothing: it repeats the prompt at a set pace, and
//! fails on request. For tests of everything around an engine.
//!
//! A token is a byte. A chat's answer is its last message once more, then the
//! end token; a plain prompt is continued with the alphabet, without end. Words
//! in a chat's last message ask for faults when the answer's N-th token is due:
//!
//! | word | fault |
//! |---|---|
//! | `!exit@N` | the process ends with status 42 |
//! | `!stall@N` | the step never returns; heartbeats go on |
//! | `!garbage@N` | bytes that are no frame go to the supervisor |
//! | `!fail@N` | the step fails |
//! | `!logits@N` | every logit is NaN |
//!
//! A slow load is `load_ms` in the manifest. With `board`, steps take as long as
//! they would on a virtual Jetson, which is told of them.

mod board;

use std::sync::Arc;
use std::time::Duration;

use engine_api::manifest::{Echo, Manifest};
use engine_api::protocol::{DeviceMemory, ModelFacts, TokenId};

use board::{Board, Tokens};

use super::{
    Backend, Chunk, Description, InfillTokens, Loaded, NextToken, Slot, StepError, TemplateTokens,
    Vocabulary,
};

/// Ends an answer.
const END: TokenId = TokenId(256);
/// Begins each message of a chat.
const BEGIN: TokenId = TokenId(257);
/// Ends a chat's messages; the answer follows.
const ANSWER: TokenId = TokenId(261);
const PREFIX: TokenId = TokenId(258);
const SUFFIX: TokenId = TokenId(259);
const MIDDLE: TokenId = TokenId(260);
const VOCABULARY: u32 = 262;

/// How each special token is written in text.
const SPECIALS: [(&str, TokenId); 6] = [
    ("<|end|>", END),
    ("<|begin|>", BEGIN),
    ("<|answer|>", ANSWER),
    ("<|prefix|>", PREFIX),
    ("<|suffix|>", SUFFIX),
    ("<|middle|>", MIDDLE),
];

const TEMPLATE: &str = "{% for m in messages %}<|begin|>{{ m.content }}{% endfor %}<|answer|>";

/// Makes the backend and takes the time that the manifest asks for.
pub fn load(manifest: &Manifest, mut progress: impl FnMut(f32)) -> Loaded {
    let pace = manifest.backend.echo.clone().unwrap_or_default();
    for part in 0..10u8 {
        progress(f32::from(part) / 10.0);
        std::thread::sleep(Duration::from_millis(pace.load_ms) / 10);
    }
    let slots = manifest.serving.max_sequences + manifest.serving.cached_sequences;
    // Only on a board somebody counts what the cache takes.
    let kv_bytes = pace.board.as_ref().map_or(0, |_| manifest.serving.kv_bytes);
    let backend = EchoBackend {
        kv_bytes,
        board: pace.board.clone().map(Board::wait_for),
        pace,
        context: manifest.serving.context,
        slots: vec![Vec::new(); usize::from(slots)],
        rows: Vec::new(),
    };
    (Box::new(backend), Arc::new(EchoVocabulary::new()))
}

struct EchoBackend {
    pace: Echo,
    board: Option<Board>,
    kv_bytes: u64,
    context: u32,
    slots: Vec<Vec<TokenId>>,
    /// Logits of the last step, a row for each sequence.
    rows: Vec<Vec<f32>>,
}

impl EchoBackend {
    /// Takes the time of a decode step over these slots.
    fn take_decode_time(&mut self, batch: &[NextToken]) {
        let tokens = Tokens {
            computed: batch.len() as u64,
            context: batch.iter().map(|entry| self.slots[entry.slot].len() as u64).sum(),
            held: self.held(),
        };
        match &mut self.board {
            Some(board) => board.decode(tokens),
            None => std::thread::sleep(Duration::from_micros(self.pace.step_us)),
        }
    }

    /// Takes the time of computing these prompt tokens.
    fn take_prefill_time(&mut self, chunks: &[Chunk<'_>]) {
        let tokens = Tokens {
            computed: chunks.iter().map(|chunk| chunk.tokens.len() as u64).sum(),
            context: chunks.iter().map(|chunk| u64::from(chunk.from)).sum(),
            held: self.held(),
        };
        let time = self.pace.prefill_token_us.saturating_mul(tokens.computed);
        match &mut self.board {
            Some(board) => board.prefill(tokens),
            None => std::thread::sleep(Duration::from_micros(time)),
        }
    }

    fn held(&self) -> u64 {
        self.slots.iter().map(|slot| slot.len() as u64).sum()
    }

    /// Logits that leave one choice: what comes after the tokens in `slot`.
    fn compute(&self, slot: Slot) -> Result<Vec<f32>, StepError> {
        let tokens = &self.slots[slot];
        let (next, fault) = continuation(tokens);
        match fault {
            Some(Fault::Exit) => std::process::exit(42),
            Some(Fault::Stall) => loop {
                std::thread::park();
            },
            Some(Fault::Garbage) => write_garbage(),
            Some(Fault::Fail) => {
                let cause = "asked for by the prompt".into();
                return Err(StepError { doing: "echo a token", cause });
            }
            Some(Fault::Logits) => return Ok(vec![f32::NAN; VOCABULARY as usize]),
            None => {}
        }
        let mut logits = vec![0.0; VOCABULARY as usize];
        logits[next.0 as usize] = 100.0;
        Ok(logits)
    }
}

/// Something that is to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Exit,
    Stall,
    Garbage,
    Fail,
    Logits,
}

/// The token after `tokens`, and what is to go wrong at it.
fn continuation(tokens: &[TokenId]) -> (TokenId, Option<Fault>) {
    let Some(end) = tokens.iter().rposition(|&token| token == ANSWER) else {
        let letter = b'a' + u8::try_from(tokens.len() % 26).expect("a remainder of 26 fits");
        return (TokenId(u32::from(letter)), None);
    };
    let begin = tokens[..end].iter().rposition(|&token| token == BEGIN).map_or(0, |at| at + 1);
    let message = &tokens[begin..end];
    let answered = tokens.len() - end - 1;
    let next = message.get(answered).copied().unwrap_or(END);
    (next, fault_at(&bytes(message), answered))
}

/// The fault that `prompt` asks for when the answer has `answered` tokens.
fn fault_at(prompt: &[u8], answered: usize) -> Option<Fault> {
    let prompt = String::from_utf8_lossy(prompt);
    prompt.split_whitespace().find_map(|word| {
        let (name, at) = word.strip_prefix('!')?.split_once('@')?;
        let at: usize = at.parse().ok()?;
        let fault = match name {
            "exit" => Fault::Exit,
            "stall" => Fault::Stall,
            "garbage" => Fault::Garbage,
            "fail" => Fault::Fail,
            "logits" => Fault::Logits,
            _ => return None,
        };
        (at == answered + 1).then_some(fault)
    })
}

/// Breaks the protocol on the socket that stdin is.
fn write_garbage() {
    let _unheard = nix::unistd::write(std::io::stdin(), &[0xFF; 64]);
}

fn bytes(tokens: &[TokenId]) -> Vec<u8> {
    tokens.iter().filter_map(|token| u8::try_from(token.0).ok()).collect()
}

impl Backend for EchoBackend {
    fn description(&self) -> Description {
        Description {
            backend: "echo",
            device: "nothing: this engine repeats its prompt".into(),
            model: ModelFacts {
                name: "echo".into(),
                architecture: "echo".into(),
                quantisation: "none".into(),
                trained_context: self.context,
                ..ModelFacts::default()
            },
            slots: self.slots.len(),
            context: self.context,
            kv_bytes: self.kv_bytes,
            threads: 1,
            largest_step: 512,
            reproducible: true,
        }
    }

    fn decode(&mut self, batch: &[NextToken]) -> Result<(), StepError> {
        self.take_decode_time(batch);
        for entry in batch {
            self.slots[entry.slot].push(entry.token);
        }
        self.rows = batch.iter().map(|entry| self.compute(entry.slot)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn logits(&self, row: usize) -> &[f32] {
        &self.rows[row]
    }

    fn prefill(&mut self, chunks: &[Chunk<'_>]) -> Result<(), StepError> {
        self.take_prefill_time(chunks);
        for chunk in chunks {
            let place = &mut self.slots[chunk.slot];
            place.truncate(chunk.from as usize);
            place.extend_from_slice(chunk.tokens);
        }
        let wanted = chunks.iter().filter(|chunk| chunk.logits);
        self.rows = wanted.map(|chunk| self.compute(chunk.slot)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn truncate(&mut self, slot: Slot, length: u32) {
        self.slots[slot].truncate(length as usize);
    }

    fn copy(&mut self, from: Slot, to: Slot) -> Result<(), StepError> {
        self.slots[to] = self.slots[from].clone();
        Ok(())
    }

    fn swap(&mut self, a: Slot, b: Slot) -> Result<(), StepError> {
        self.slots.swap(a, b);
        Ok(())
    }

    fn share_cores(&mut self, _alone: bool) {}

    fn device_memory(&self) -> Option<DeviceMemory> {
        None
    }
}

/// Bytes and a few special tokens.
#[derive(Debug, Default)]
pub struct EchoVocabulary;

impl EchoVocabulary {
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Vocabulary for EchoVocabulary {
    fn size(&self) -> u32 {
        VOCABULARY
    }

    fn tokenize(&self, text: &str, special: bool) -> Vec<TokenId> {
        let mut tokens = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(byte) = rest.bytes().next() {
            let found = SPECIALS.iter().find(|(name, _)| special && rest.starts_with(name));
            if let Some((name, token)) = found {
                tokens.push(*token);
                rest = &rest[name.len()..];
                continue;
            }
            tokens.push(TokenId(u32::from(byte)));
            let character = rest.chars().next().map_or(1, char::len_utf8);
            tokens.extend(rest.bytes().take(character).skip(1).map(|b| TokenId(u32::from(b))));
            rest = &rest[character..];
        }
        tokens
    }

    fn append_bytes(&self, token: TokenId, out: &mut Vec<u8>) {
        out.extend(u8::try_from(token.0).ok());
    }

    fn ends(&self) -> &[TokenId] {
        &[END]
    }

    fn beginning(&self) -> Option<TokenId> {
        None
    }

    fn longest_token(&self) -> usize {
        1
    }

    fn chat_template(&self) -> Option<String> {
        Some(TEMPLATE.to_owned())
    }

    fn template_tokens(&self) -> TemplateTokens {
        TemplateTokens::default()
    }

    fn infill(&self) -> Option<InfillTokens> {
        Some(InfillTokens { prefix: PREFIX, suffix: SUFFIX, middle: MIDDLE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(prompt: &str) -> String {
        let vocabulary = EchoVocabulary::new();
        let mut tokens = vocabulary.tokenize(prompt, true);
        let mut text = Vec::new();
        loop {
            match continuation(&tokens) {
                (END, _) => return String::from_utf8(text).unwrap(),
                (token, _) => {
                    vocabulary.append_bytes(token, &mut text);
                    tokens.push(token);
                }
            }
        }
    }

    #[test]
    fn a_chat_is_answered_with_its_last_message() {
        assert_eq!(answer("<|begin|>one<|begin|>two \u{20AC}<|answer|>"), "two \u{20AC}");
    }

    #[test]
    fn a_fault_comes_at_the_token_it_names() {
        let at = |answered| fault_at(b"please !stall@3 now", answered);
        assert_eq!((at(1), at(2), at(3)), (None, Some(Fault::Stall), None));
    }
}

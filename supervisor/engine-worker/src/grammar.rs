//! Answers that must fit a grammar: which tokens may come next.
//!
//! ```text
//!  Grammar ──compile──► master ──copy──► Constraint ──► allowed tokens
//!             (bounded, kept)     (one for each request, moved on by its tokens)
//! ```
//!
//! A constraint depends on the grammar and the answer's tokens alone, so an
//! answer that is taken up again in the middle is constrained as it would have
//! been. Grammars come from clients: compiling one is bounded in size and work,
//! and happens on threads that compute nothing else; each step's work is bounded
//! as well. A request whose grammar exceeds a bound fails alone.

mod gbnf;
pub(crate) mod schema;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use engine_api::form::{Grammar, MAX_GRAMMAR_BYTES};
use engine_api::protocol::TokenId;
use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{Matcher, ParserFactory};

use crate::backend::Vocabulary;

/// Compiled grammars that are kept: a client mostly sends the same one again.
const KEPT: usize = 8;

/// Bounds of one grammar. A mask's worst case follows from the two `step_`
/// bounds, about ten milliseconds, a grammar's memory from the number of
/// states, about two kilobytes each.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 100_000,
        step_max_items: 50_000,
        max_lexer_states: 20_000,
        max_grammar_size: 100_000,
        // Their texts would hold the grammar and the answer.
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// The grammars of one model's answers.
pub struct Grammars {
    vocabulary: Arc<dyn Vocabulary>,
    /// Made when the first grammar comes: it takes some megabytes.
    factory: OnceLock<Result<ParserFactory, String>>,
    /// Compiled, latest used last, as they are before the first token.
    kept: Mutex<VecDeque<(Grammar, Matcher)>>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

/// Why an answer cannot have a form, or cannot keep to it any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GrammarError(String);

impl Grammars {
    #[must_use]
    pub fn new(vocabulary: Arc<dyn Vocabulary>) -> Self {
        Self { vocabulary, factory: OnceLock::new(), kept: Mutex::default() }
    }

    /// Looks whether answers can have this form.
    ///
    /// # Errors
    /// Not at all, or not within the bounds; in words for who wrote the grammar.
    pub fn check(&self, grammar: &Grammar) -> Result<(), GrammarError> {
        self.start(grammar, &[]).map(drop)
    }

    /// A constraint for an answer that has these tokens already.
    ///
    /// # Errors
    /// See [`Grammars::check`]; or the tokens do not fit the grammar.
    pub fn start(
        &self,
        grammar: &Grammar,
        generated: &[TokenId],
    ) -> Result<Constraint, GrammarError> {
        // What others compiled must not decide what this request can do.
        let matcher = match self.find(grammar) {
            Some(matcher) => matcher,
            None => {
                let matcher = guarded(|| self.compile(grammar))?;
                self.keep(grammar, &matcher);
                matcher
            }
        };
        let mut constraint = Constraint { matcher };
        for token in generated {
            constraint.take(*token)?;
        }
        Ok(constraint)
    }

    fn find(&self, grammar: &Grammar) -> Option<Matcher> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == grammar)?;
        let found = kept.remove(at)?;
        let matcher = found.1.deep_clone();
        kept.push_back(found);
        Some(matcher)
    }

    fn keep(&self, grammar: &Grammar, matcher: &Matcher) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((grammar.clone(), matcher.deep_clone()));
    }

    /// The grammar as it is before the first token, with its first mask
    /// computed: what is too complex mostly shows there.
    fn compile(&self, grammar: &Grammar) -> Result<Matcher, GrammarError> {
        if grammar.bytes() > MAX_GRAMMAR_BYTES {
            let why = format!("it has {} bytes, {MAX_GRAMMAR_BYTES} can be", grammar.bytes());
            return Err(GrammarError(why));
        }
        let factory = self.factory.get_or_init(|| factory(&*self.vocabulary));
        let factory = factory.as_ref().map_err(|why| GrammarError(why.clone()))?;
        let mut problem = None;
        for variant in variants(grammar)? {
            let made = factory.create_parser(TopLevelGrammar::from_grammar(variant));
            let mut matcher = Matcher::new(made);
            match matcher.compute_mask_or_eos() {
                Ok(_) => return Ok(matcher),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.map_or_else(|| GrammarError("it is empty".into()), in_short))
    }
}

/// What to compile, the best first; the next is for where that one fails.
fn variants(grammar: &Grammar) -> Result<Vec<GrammarWithLexer>, GrammarError> {
    Ok(match grammar {
        Grammar::JsonObject => vec![schema::any_object()],
        Grammar::JsonSchema { schema, strict } => {
            schema::variants(schema, *strict).map_err(GrammarError)?
        }
        Grammar::Lark(text) => vec![GrammarWithLexer::from_lark(text.clone())],
        Grammar::Gbnf(text) => {
            let lark = gbnf::to_lark(text).map_err(|error| GrammarError(error.to_string()))?;
            vec![GrammarWithLexer::from_lark(lark)]
        }
    })
}

fn factory(vocabulary: &dyn Vocabulary) -> Result<ParserFactory, String> {
    let ends: Vec<u32> = vocabulary.ends().iter().map(|token| token.0).collect();
    let Some(end) = ends.first() else {
        return Err("this model has no token that ends an answer".into());
    };
    let words: Vec<Vec<u8>> =
        (0..vocabulary.size()).map(|id| word(vocabulary, TokenId(id))).collect();
    let trie = TokTrie::from(&TokRxInfo::new(vocabulary.size(), *end), &words);
    let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie.with_eos_tokens(&ends)));
    let slices = SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
        .map_err(|error| error.to_string())?;
    factory.quiet();
    *factory.limits_mut() = limits();
    Ok(factory)
}

/// A token's bytes; none for those that no grammar may ask for. The byte FF is
/// in no text, and marks special tokens in the trie.
fn word(vocabulary: &dyn Vocabulary, token: TokenId) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !vocabulary.ends().contains(&token) {
        vocabulary.append_bytes(token, &mut bytes);
    }
    if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
        bytes.clear();
    }
    bytes
}

/// One answer's place in its grammar.
pub struct Constraint {
    matcher: Matcher,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

impl Constraint {
    /// The tokens that may come next, those that end an answer among them.
    ///
    /// # Errors
    /// To find that out takes more work than is granted.
    pub fn allowed(&mut self) -> Result<Allowed, GrammarError> {
        self.matcher.compute_mask_or_eos().map(Allowed).map_err(in_short)
    }

    /// Moves on by one token, which was allowed and ends nothing.
    ///
    /// # Errors
    /// It was not allowed.
    pub fn take(&mut self, token: TokenId) -> Result<(), GrammarError> {
        self.matcher.consume_token(token.0).map_err(in_short)
    }

    /// Whether nothing can follow any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.matcher.is_stopped()
    }
}

/// A set of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowed(SimpleVob);

impl Allowed {
    /// A bit for each token, 32 in a word, the first one the lowest.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        self.0.as_slice()
    }
}

/// The library's own guards cover matching, not compiling.
fn guarded<T>(compile: impl FnOnce() -> Result<T, GrammarError>) -> Result<T, GrammarError> {
    catch_unwind(AssertUnwindSafe(compile))
        .unwrap_or_else(|_| Err(GrammarError("it cannot be compiled".into())))
}

/// One line of what may be many, in words where the library has only a name.
fn in_short(error: impl std::fmt::Display) -> GrammarError {
    const MAX_CHARS: usize = 300;
    let text = error.to_string();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    GrammarError(match line {
        "" | "NoExtension" | "NoExtensionBias" => "nothing fits it".into(),
        "LexerTooComplex" | "ParserTooComplex" => "it is too complex".into(),
        line if line.starts_with("panic:") => "it is too large".into(),
        line => line.chars().take(MAX_CHARS).collect(),
    })
}

#[cfg(test)]
mod tests;

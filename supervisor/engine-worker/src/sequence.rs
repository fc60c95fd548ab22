//! One request on its way through the batch: its tokens, its text, its times.

use std::time::{Duration, Instant};

use engine_api::protocol::{
    Asker, FinishReason, FromWorker, Generate, Logprob, Priority, RequestId, Sampling, Timings,
    Token, TokenId, TokenLogprobs, Usage,
};

use crate::backend::Vocabulary;
use crate::grammar::Constraint;
use crate::sampling;
use crate::text::{Progress, TextStream};

/// One request.
#[derive(Debug)]
pub struct Sequence {
    request: Generate,
    /// Prompt, then what an earlier life generated: what prefill must compute.
    context: Vec<TokenId>,
    prompt_tokens: usize,
    /// Tokens generated, those of an earlier life included.
    generated: usize,
    text: TextStream,
    /// A control token that counts as text, and that text.
    spoken: Option<(TokenId, &'static str)>,
    constraint: Constrained,
    /// The stop string that an earlier life met without living to tell.
    stopped: Option<String>,
    /// Chosen but not computed yet; `None` during prefill.
    next: Option<TokenId>,
    /// Step in which it was last decoded.
    turn: u64,
    /// Tokens of the prompt that need not be computed again, where that is known.
    cached: Option<usize>,
    /// What was computed for it is of no use to anybody any more when it ends.
    forgotten: bool,
    arrived: Instant,
    started: Option<Instant>,
    decoding_since: Option<Instant>,
}

/// Whether its tokens must fit a grammar.
#[derive(Debug)]
enum Constrained {
    Free,
    /// They must, and another thread compiles it.
    Awaited,
    By(Box<Constraint>),
}

/// What became of a sequence by its newest token.
#[derive(Debug, PartialEq, Eq)]
pub enum Advance {
    Goes,
    Ends(FinishReason),
    /// There was nothing to choose from; why.
    Broken(String),
}

impl Sequence {
    /// Takes up a request, at its beginning or where an earlier life left it, in a window of
    /// `window` tokens.
    ///
    /// # Errors
    /// Nothing is left to be computed, or nothing can be; what is to be said of it.
    pub fn admit(
        request: Generate,
        vocabulary: &dyn Vocabulary,
        window: u32,
        now: Instant,
    ) -> Result<Self, FromWorker> {
        let length = request.prompt.len();
        if length == 0 || length >= window as usize {
            let reason = format!("{length} tokens do not fit a window of {window}");
            return Err(FromWorker::Failed { id: request.id, reason });
        }
        let sequence = Self::new(request, vocabulary, now);
        match sequence.ended_earlier(window) {
            Some(reason) => Err(sequence.done(reason)),
            None => Ok(sequence),
        }
    }

    fn new(mut request: Generate, vocabulary: &dyn Vocabulary, now: Instant) -> Self {
        let mut text = TextStream::new(std::mem::take(&mut request.stops));
        let spoken = request.calls.and_then(|calls| control(calls.opening(), vocabulary));
        let mut stopped = None;
        for &token in &request.generated {
            let bytes = bytes_of(token, spoken, vocabulary);
            if let Progress::Stopped { stop, .. } = text.push(&bytes) {
                stopped = Some(stop);
            }
        }
        let constraint = match request.grammar.take() {
            None => Constrained::Free,
            Some(_) => Constrained::Awaited,
        };
        let mut context = std::mem::take(&mut request.prompt);
        let prompt_tokens = context.len();
        context.extend_from_slice(&request.generated);
        Self {
            context,
            prompt_tokens,
            generated: request.generated.len(),
            text,
            spoken,
            constraint,
            stopped,
            next: None,
            turn: 0,
            // Until it starts, nothing was computed.
            cached: Some(0),
            forgotten: false,
            arrived: now,
            started: None,
            decoding_since: None,
            request,
        }
    }

    #[must_use]
    pub fn id(&self) -> RequestId {
        self.request.id
    }

    #[must_use]
    pub fn asker(&self) -> Asker {
        self.request.asker
    }

    /// Has nothing of it kept.
    pub fn forget(&mut self) {
        self.forgotten = true;
    }

    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    #[must_use]
    pub fn priority(&self) -> Priority {
        self.request.priority
    }

    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    #[must_use]
    pub fn reuses_prefix(&self) -> bool {
        self.request.reuse_prefix
    }

    #[must_use]
    pub fn sampling(&self) -> &Sampling {
        &self.request.sampling
    }

    /// Tokens generated so far, those of an earlier life included.
    #[must_use]
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// Tokens that it may still get, beyond the window's bound.
    #[must_use]
    pub fn left(&self) -> usize {
        (self.request.max_tokens as usize).saturating_sub(self.generated)
    }

    /// Whether nothing more is needed to compute it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !matches!(self.constraint, Constrained::Awaited)
    }

    /// Takes the constraint that was awaited, moved on by what an earlier life
    /// generated. Returns the end, if that was the whole answer.
    pub fn constrain(&mut self, constraint: Constraint) -> Option<FinishReason> {
        let finished = constraint.is_finished() && self.generated > 0;
        self.constraint = Constrained::By(Box::new(constraint));
        finished.then_some(FinishReason::Stop { matched: None })
    }

    /// What prefill must compute.
    #[must_use]
    pub fn context(&self) -> &[TokenId] {
        &self.context
    }

    /// Whether what an earlier life generated is the whole answer, in a window
    /// of `context` tokens.
    fn ended_earlier(&self, context: u32) -> Option<FinishReason> {
        if let Some(stop) = &self.stopped {
            return Some(FinishReason::Stop { matched: Some(stop.clone()) });
        }
        let spent = self.generated > 0 && self.generated >= self.request.max_tokens as usize;
        (spent || self.context.len() >= context as usize).then_some(FinishReason::Length)
    }

    /// The token to decode next; `None` during prefill.
    #[must_use]
    pub fn next(&self) -> Option<TokenId> {
        self.next
    }

    /// Sorts sequences by who is to be decoded first.
    #[must_use]
    pub fn turn(&self) -> (std::cmp::Reverse<Priority>, u64) {
        (std::cmp::Reverse(self.request.priority), self.turn)
    }

    pub fn take_turn(&mut self, step: u64) {
        self.turn = step;
    }

    /// Notes that it is being computed, but for the first `reused` of its tokens,
    /// where that is known.
    pub fn start(&mut self, reused: Option<usize>, now: Instant) -> FromWorker {
        self.cached = reused.map(|reused| reused.min(self.prompt_tokens));
        self.started = Some(now);
        FromWorker::Started {
            id: self.id(),
            prompt_tokens: count(self.prompt_tokens),
            cached_tokens: self.cached.map(count),
        }
    }

    /// Notes that its whole prompt is computed.
    pub fn prefilled(&mut self, now: Instant) {
        self.decoding_since = Some(now);
    }

    /// Chooses the token after `history` and says what is to be said of it.
    pub fn advance(
        &mut self,
        logits: &[f32],
        history: &[TokenId],
        vocabulary: &dyn Vocabulary,
        context: u32,
        out: &mut Vec<FromWorker>,
    ) -> Advance {
        let chosen = match self.choose(logits, history, vocabulary) {
            Ok(chosen) => chosen,
            Err(why) => return Advance::Broken(why),
        };
        let logprobs = self
            .request
            .sampling
            .logprobs
            .map(|top| move || Box::new(token_logprobs(logits, chosen, top, vocabulary)));
        self.accept(chosen, logprobs, history.len(), vocabulary, context, out)
    }

    /// Takes the token that comes after `before` others, prompt included, and
    /// says what is to be said of it.
    pub fn accept(
        &mut self,
        chosen: TokenId,
        logprobs: Option<impl FnOnce() -> Box<TokenLogprobs>>,
        before: usize,
        vocabulary: &dyn Vocabulary,
        context: u32,
        out: &mut Vec<FromWorker>,
    ) -> Advance {
        if vocabulary.ends().contains(&chosen) && !self.request.sampling.ignore_eos {
            return Advance::Ends(FinishReason::Stop { matched: None });
        }
        let bytes = bytes_of(chosen, self.spoken, vocabulary);
        self.generated += 1;
        let finished = match &mut self.constraint {
            Constrained::By(constraint) => {
                if let Err(error) = constraint.take(chosen) {
                    return Advance::Broken(format!("the answer left its form: {error}"));
                }
                constraint.is_finished()
            }
            Constrained::Free | Constrained::Awaited => false,
        };
        let (text, stop) = match self.text.push(&bytes) {
            Progress::Text(text) => (text, None),
            Progress::Stopped { text, stop } => (text, Some(stop)),
        };
        let tokens = vec![Token { id: chosen, logprobs: logprobs.map(|count| count()) }];
        out.push(FromWorker::Tokens { id: self.id(), tokens, text });

        if let Some(stop) = stop {
            return Advance::Ends(FinishReason::Stop { matched: Some(stop) });
        }
        if finished {
            return Advance::Ends(FinishReason::Stop { matched: None });
        }
        let full = before + 1 >= context as usize;
        if full || self.generated >= self.request.max_tokens as usize {
            return Advance::Ends(FinishReason::Length);
        }
        self.next = Some(chosen);
        Advance::Goes
    }

    /// The token after `history`, as sampling and grammar want it.
    fn choose(
        &mut self,
        logits: &[f32],
        history: &[TokenId],
        vocabulary: &dyn Vocabulary,
    ) -> Result<TokenId, String> {
        let (sampling, ends) = (&self.request.sampling, vocabulary.ends());
        let Constrained::By(constraint) = &mut self.constraint else {
            let chosen = sampling::choose(logits, history, ends, sampling, None);
            return chosen.ok_or_else(|| "the engine computed no usable logits".to_owned());
        };
        let allowed = constraint.allowed();
        let allowed =
            allowed.map_err(|error| format!("the answer cannot keep its form: {error}"))?;
        let chosen = sampling::choose(logits, history, ends, sampling, Some(allowed.words()));
        chosen.ok_or_else(|| "nothing that the answer's form allows can be chosen".to_owned())
    }

    /// The last message of a request that ended well.
    #[must_use]
    pub fn done(mut self, reason: FinishReason) -> FromWorker {
        let rest = match reason {
            FinishReason::Cancelled => String::new(),
            FinishReason::Stop { .. } | FinishReason::Length => self.text.finish(),
        };
        let usage = Usage {
            prompt_tokens: count(self.prompt_tokens),
            cached_tokens: self.cached.map(count),
            completion_tokens: count(self.generated),
        };
        FromWorker::Done {
            id: self.id(),
            reason,
            rest,
            usage,
            timings: self.timings(Instant::now()),
        }
    }

    fn timings(&self, now: Instant) -> Timings {
        let started = self.started.unwrap_or(now);
        let decoding = self.decoding_since.unwrap_or(now);
        Timings {
            queued_us: micros(started.duration_since(self.arrived)),
            prefill_us: micros(decoding.duration_since(started)),
            decode_us: micros(now.duration_since(decoding)),
        }
    }
}

/// The control token that is written like this, if there is one.
fn control(text: &'static str, vocabulary: &dyn Vocabulary) -> Option<(TokenId, &'static str)> {
    let [token] = vocabulary.tokenize(text, true)[..] else { return None };
    bytes_of(token, None, vocabulary).is_empty().then_some((token, text))
}

fn bytes_of(
    token: TokenId,
    spoken: Option<(TokenId, &'static str)>,
    vocabulary: &dyn Vocabulary,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    match spoken {
        Some((control, text)) if control == token => bytes.extend(text.as_bytes()),
        _ => vocabulary.append_bytes(token, &mut bytes),
    }
    bytes
}

fn token_logprobs(
    logits: &[f32],
    chosen: TokenId,
    top: u8,
    vocabulary: &dyn Vocabulary,
) -> TokenLogprobs {
    let (of_chosen, top) = sampling::logprobs(logits, chosen, usize::from(top));
    let named = |id, logprob| {
        let mut bytes = Vec::new();
        vocabulary.append_bytes(id, &mut bytes);
        Logprob { id, logprob, bytes }
    };
    TokenLogprobs {
        chosen: named(chosen, of_chosen),
        top: top.into_iter().map(|(id, logprob)| named(id, logprob)).collect(),
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

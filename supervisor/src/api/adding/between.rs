//! What is done for a conversation between two of its turns, while nobody has a request.
//!
//! ```text
//!  turn ─► would the next one fill the window? ─ yes ─► make it shorter now, and let
//!            │ no                                       the engine compute the new beginning
//!            └► a block without a summary? ─► the engine makes one, for the next reset
//! ```
//!
//! A client that comes ends it at once, and it is tried again later. Nothing of it changes
//! a prompt that was sent: what is decided here holds from the user's next message on.

use std::collections::VecDeque;
use std::time::Duration;

use engine_api::protocol::{FinishReason, Message, Priority, Prompt, Role, Sampling, TokenId};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::conversation::Conversation;
use super::{Adding, Sources, asked};
use crate::api::identity;
use crate::api::job::{self, Job};
use crate::api::wire::stoker::{Receipt, Wish};
use crate::memory::chain::last_user;
use crate::memory::summary::{self, INSTRUCTION, SOURCES};
use crate::request::{Client, Event, Request};
use crate::snapshot::EngineState;
use crate::supervisor::Handle;

/// Turns that may wait to be taken in; a further one is passed over.
const TURNS: usize = 16;
/// Conversations that are remembered until nobody has a request, and bytes of them; of
/// more the newest.
const MOST_WAITING: usize = 8;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How long nobody has had a request before it begins.
const QUIET: Duration = Duration::from_millis(400);
const LOOK: Duration = Duration::from_millis(100);
/// Looks for a quiet moment; then the conversation is let go until its next turn.
const MOST_LOOKS: u32 = 6000;
/// How often the work on one turn is begun.
const TRIES: u32 = 5;
/// How often one summary is begun, also by servers that were killed at it.
const ATTEMPTS: u32 = 8;
/// A request of ours that takes longer is given up.
const BOUND: Duration = Duration::from_secs(600);
/// As the log and the history would call it.
const ENDPOINT: &str = "between turns";

/// A turn that was prepared.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) client: Client,
    /// With all messages that its client sent.
    pub(super) job: Job,
    pub(super) wish: Wish,
    pub(super) conversation: i64,
    pub(super) tries: u32,
}

/// Tells of turns. Clones tell the same one.
#[derive(Debug, Clone)]
pub(crate) struct Between(mpsc::Sender<Turn>);

impl Between {
    pub(super) fn tell(&self, turn: Turn) {
        // There will be another turn.
        let _ = self.0.try_send(turn);
    }
}

/// Where turns are told, and what works on them until nobody can tell any.
pub(crate) fn begin(handle: Handle, sources: Sources) -> (Between, impl Future<Output = ()>) {
    let (sender, turns) = mpsc::channel(TURNS);
    (Between(sender), Work { handle, sources, turns, waiting: VecDeque::new() }.run())
}

struct Work {
    handle: Handle,
    sources: Sources,
    turns: mpsc::Receiver<Turn>,
    /// The newest last.
    waiting: VecDeque<Turn>,
}

/// How the engine got on.
enum Done {
    Made(String),
    /// A client came; it may be tried again.
    Not,
    /// The engine failed or ended, perhaps of it.
    Failed,
}

impl Work {
    async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                let Some(turn) = self.turns.recv().await else { return };
                self.put(turn);
            }
            self.wait_for_quiet().await;
            // Who was here last is most likely to come back.
            let Some(mut turn) = self.waiting.pop_back() else { continue };
            let (handle, sources) = (self.handle.clone(), self.sources.clone());
            let done = tokio::select! {
                done = work(&handle, &sources, &turn) => done,
                newer = self.turns.recv() => {
                    let Some(newer) = newer else { return };
                    self.put(turn);
                    self.put(newer);
                    continue;
                }
            };
            turn.tries += 1;
            if !done && turn.tries < TRIES {
                self.put(turn);
            }
        }
    }

    fn put(&mut self, turn: Turn) {
        self.waiting.retain(|waiting| waiting.conversation != turn.conversation);
        self.waiting.push_back(turn);
        let bytes = |waiting: &VecDeque<Turn>| waiting.iter().map(Turn::bytes).sum::<usize>();
        while self.waiting.len() > MOST_WAITING || bytes(&self.waiting) > MOST_BYTES {
            self.waiting.pop_front();
        }
    }

    /// Takes in turns until nobody has had a request for a while.
    async fn wait_for_quiet(&mut self) {
        let mut quiet = Duration::ZERO;
        for _ in 0..MOST_LOOKS {
            if quiet >= QUIET {
                return;
            }
            match timeout(LOOK, self.turns.recv()).await {
                Ok(Some(turn)) => {
                    quiet = Duration::ZERO;
                    self.put(turn);
                }
                // Nobody can tell any more: this ends with the server.
                Ok(None) => sleep(LOOK).await,
                Err(_) if is_quiet(&self.handle) => quiet += LOOK,
                Err(_) => quiet = Duration::ZERO,
            }
        }
        self.waiting.clear();
    }
}

impl Turn {
    fn messages(&self) -> &[Message] {
        match &self.job.prompts[..] {
            [Prompt::Chat { messages, .. }] => messages,
            _ => &[],
        }
    }

    fn bytes(&self) -> usize {
        self.messages().iter().map(|message| message.content.len()).sum()
    }
}

/// Advice only: whether the engine takes something is decided where it is handed over.
fn is_quiet(handle: &Handle) -> bool {
    let snapshot = handle.snapshot();
    let is_ready = matches!(snapshot.engine.state, EngineState::Ready);
    is_ready && snapshot.queue.running + snapshot.queue.waiting == 0 && !snapshot.index.held
}

/// Does what there is to do for a turn. False if it was interrupted.
async fn work(handle: &Handle, sources: &Sources, turn: &Turn) -> bool {
    let (owner, job) = (identity::owner(&turn.client), &turn.job);
    let receipt = Receipt::default();
    Adding { sources, handle, owner, job, receipt }.between(turn).await.unwrap_or(true)
}

impl Adding<'_> {
    /// `None` if there is nothing that can be done for it.
    async fn between(&mut self, turn: &Turn) -> Option<bool> {
        let messages = turn.messages();
        let mut conversation = self.again(messages, turn.conversation, &turn.wish).await?;
        let asked = asked(&turn.wish);
        let mut view = conversation.view();
        let mut earlier = self.earlier(&view, &asked).await;
        let grown = self.grown(messages).await;
        let shortened = self.shorten(&mut conversation, &view, &earlier, Some(grown)).await.ok()?;
        if shortened {
            view = conversation.view();
            earlier = self.earlier(&view, &asked).await;
        } else {
            let mut made = 0;
            for block in summary::blocks(messages) {
                match self.sum_up(turn, &conversation, messages, block.end).await {
                    Some(true) => made += 1,
                    Some(false) => return Some(false),
                    None => {}
                }
            }
            if made == 0 {
                return Some(true);
            }
        }
        // A summary may have taken the place where the prompt's beginning was kept.
        let prompt = job::plan(self.handle, self.with(view.with(&earlier))).await.ok()?;
        let tokens = prompt.prompts.into_iter().next()?.tokens;
        let warmed = self.compute(turn, tokens, 1, true).await;
        Some(!matches!(warmed, Done::Not))
    }

    /// Tokens that the last turn brought, which the next one may bring as well.
    async fn grown(&self, messages: &[Message]) -> u32 {
        let last = last_user(messages).unwrap_or_default();
        let before = last_user(&messages[..last]).map_or(0, |before| before + 1);
        let texts = messages[before..].iter().flat_map(|message| {
            [message.content.as_str(), message.tool_calls_json.as_deref().unwrap_or_default()]
        });
        self.count_text(&texts.collect::<String>()).await
    }

    /// Has the engine sum up the block that ends before a message, if nobody did. False if
    /// it was interrupted; `None` if there is nothing to do.
    async fn sum_up(
        &self,
        turn: &Turn,
        conversation: &Conversation<'_>,
        messages: &[Message],
        end: usize,
    ) -> Option<bool> {
        let memory = self.sources.memory.as_ref()?;
        let block = summary::blocks(messages).into_iter().find(|block| block.end == end)?;
        let (id, link) = (turn.conversation, conversation.link(end - 1));
        let known = memory.summaries(id, vec![link]).await.ok()?.pop()?;
        if known.text.is_some() || known.attempts >= ATTEMPTS {
            return None;
        }
        let (source, tokens) = self.source(&messages[block]).await?;
        if !memory.begin_summary(id, link).await.ok()? {
            return None;
        }
        let answer = match self.compute(turn, tokens, summary::MOST_TOKENS, false).await {
            Done::Made(answer) => answer,
            Done::Not => return Some(false),
            // This block is not tried again.
            Done::Failed => String::new(),
        };
        let mut text = summary::checked(&answer, &source).unwrap_or_default();
        if self.count_quoted(&text).await.is_err() {
            text.clear();
        }
        memory.keep_summary(id, link, text).await.ok()?;
        Some(true)
    }

    /// As much of a block as the window has room for, and the prompt with it.
    async fn source(&self, block: &[Message]) -> Option<(String, Vec<TokenId>)> {
        for most in SOURCES {
            let source = summary::source(block, most);
            let message = |role, content: &str| Message {
                role,
                content: content.to_owned(),
                tool_calls_json: None,
                tool_call_id: None,
                name: None,
            };
            let messages = vec![message(Role::System, INSTRUCTION), message(Role::User, &source)];
            let prompt = Prompt::Chat { messages, tools: None };
            let Ok(prepared) = self.handle.prepare(prompt, None).await else { continue };
            let tokens = u32::try_from(prepared.tokens.len()).unwrap_or(u32::MAX);
            if tokens.saturating_add(summary::MOST_TOKENS) <= prepared.context {
                return Some((source, prepared.tokens));
            }
        }
        None
    }

    /// Has the engine compute a prompt while nobody has a request.
    async fn compute(&self, turn: &Turn, prompt: Vec<TokenId>, most: u32, reuse: bool) -> Done {
        let request = Request {
            client: turn.client.clone(),
            endpoint: ENDPOINT,
            prompt,
            generated: Vec::new(),
            max_tokens: most,
            // The likeliest tokens, so that the same block gives the same text.
            sampling: Sampling { temperature: 0.0, ..turn.job.sampling.clone() },
            stops: Vec::new(),
            grammar: None,
            calls: None,
            priority: Priority::Bulk,
            reuse_prefix: reuse,
        };
        let Some(mut answer) = self.handle.submit_idle(request).await else { return Done::Not };
        let mut said = String::new();
        let reading = async {
            loop {
                match answer.next().await {
                    Some(Event::Text { text, .. }) => said.push_str(&text),
                    Some(
                        Event::Done { reason: FinishReason::Cancelled, .. } | Event::Failed(_),
                    )
                    | None => return Done::Not,
                    Some(Event::Done { .. }) => return Done::Made(String::new()),
                    Some(Event::Queued { .. } | Event::Started { .. }) => {}
                }
            }
        };
        match timeout(BOUND, reading).await {
            Ok(Done::Made(_)) => Done::Made(said),
            Ok(other) => other,
            Err(_) => Done::Failed,
        }
    }
}

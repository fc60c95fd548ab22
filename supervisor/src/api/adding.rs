//! Puts into a chat what it wishes for: found code, and what its conversation said
//! before it was made shorter.
//!
//! ```text
//!  messages ─► conversation: what is left of it ─► code and passages of earlier
//!   turns, where they were ─► new ones for the last message of the user ─►
//!   counted by the model's own tokens ─► composed ─► kept, then given to the engine
//! ```
//!
//! What does not work is done without: the answer comes all the same, and its receipt
//! says what is missing. A chat without a wish goes by here untouched.

pub(crate) mod between;
mod code;
mod conversation;

use std::time::Duration;

use engine_api::protocol::{Message, Prompt, PromptProblem, Role};

use crate::api::error::Problem;
use crate::api::identity;
use crate::api::job::{self, Job, Plan};
use crate::api::receipts::Receipts;
use crate::api::wire::stoker::{
    CodeReceipt, Counted, LeftOut, RecalledReceipt, Receipt, Sections, Why, Wish,
};
use crate::index::Index;
use crate::memory::chain::{Link, last_user};
use crate::memory::compose::{Part, Plan as Composed, Room, Section, compose};
use crate::memory::quote::{self, Place};
use crate::memory::recall;
use crate::memory::reset::share;
use crate::request::{Client, Refusal};
use crate::store::memory::Memory;
use crate::supervisor::Handle;
use between::{Between, Turn};

/// How long a search may take before the answer goes on without.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Hundredths of the window that the code of one turn may have, and its bound in tokens.
const CODE_SHARE: u32 = 25;
const MOST_CODE: u32 = 2048;
/// Hundredths of the window for what is recalled in one turn, and its bound in tokens.
const RECALLED_SHARE: u32 = 5;
const MOST_RECALLED: u32 = 4096;
/// Hundredths of the window that are left for an answer whose length nobody named.
const ANSWER_SHARE: u32 = 25;

/// What can be added from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) index: Index,
    /// `None` if nothing is remembered.
    pub(crate) memory: Option<Memory>,
    /// Who is told of turns; `None` if nothing is done between them.
    pub(crate) between: Option<Between>,
    /// What was added lately.
    pub(crate) receipts: Receipts,
}

/// Turns a job into tokens, with what it wishes for in its chat.
///
/// # Errors
/// The prompt cannot be used, or a repository that is named is not there.
pub(crate) async fn plan(
    sources: &Sources,
    handle: &Handle,
    client: &Client,
    job: Job,
    wish: &Wish,
) -> Result<Plan, Problem> {
    handle.client_comes();
    let messages = match &job.prompts[..] {
        [Prompt::Chat { messages, .. }] if !wish.is_off() => messages.clone(),
        _ => return job::plan(handle, job).await,
    };
    let owner = identity::owner(client);
    let mut adding = Adding { sources, handle, owner, job: &job, receipt: Receipt::default() };
    let mut wish = wish.clone();
    if wish.code_of_key {
        adding.leave_out_unknown(&mut wish.code).await;
    } else if let Some(names) = &wish.code {
        adding.check(names).await?;
    }
    adding.plan(&messages, client, &wish).await
}

struct Adding<'a> {
    sources: &'a Sources,
    handle: &'a Handle,
    owner: String,
    job: &'a Job,
    receipt: Receipt,
}

/// A conversation as it is sent, before anything is added for its last message.
#[derive(Debug, Clone, Default)]
struct View {
    messages: Vec<Message>,
    /// Of each message in the whole conversation.
    links: Vec<Link>,
    /// What stands in the place of what is left out, and before which message.
    instead: Option<(usize, String)>,
}

/// What stands before a message.
#[derive(Debug, Clone)]
struct Before {
    /// The message's place in the view.
    at: usize,
    block: String,
    items: Items,
}

/// What is in a block.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct Items {
    code: Vec<Counted>,
    recalled: Vec<RecalledReceipt>,
}

/// Something that may be added, and its text as it would stand there.
struct Candidate {
    is: Is,
    text: String,
    tokens: u32,
}

enum Is {
    Code(Place),
    Recalled(recall::Passage),
}

impl Adding<'_> {
    async fn plan(
        mut self,
        messages: &[Message],
        client: &Client,
        wish: &Wish,
    ) -> Result<Plan, Problem> {
        let names = wish.code.as_deref();
        let asked = asked(wish);
        let mut conversation = self.open(messages, wish).await;
        let mut view = conversation.view();
        let mut earlier = self.earlier(&view, &asked).await;
        if conversation.is_kept() && self.shorten(&mut conversation, &view, &earlier, None).await? {
            view = conversation.view();
            earlier = self.earlier(&view, &asked).await;
        }
        self.receipt.memory = conversation.receipt();
        let mut code = CodeReceipt::default();

        // What must be there in any case, with what earlier turns had.
        let spare = if conversation.is_kept() { 0 } else { CODE_SHARE / 2 };
        let (base, context) = self.base(&view, &mut earlier, spare, &mut code).await?;
        code.kept = earlier.iter().flat_map(|before| before.items.code.clone()).collect();

        let mut new = None;
        if let Some(at) = last_user(&view.messages)
            && at + 1 == view.messages.len()
            && earlier.iter().all(|before| before.at != at)
        {
            let mut candidates = self.recalled(&conversation, &view, &earlier, at).await;
            if let Some(names) = names {
                let found = self.found(&view.messages[at], names).await;
                candidates.extend(self.count(found, &view, &earlier, &mut code).await);
            }
            let chosen = self.chosen(candidates, base, context, &mut code).await;
            new = (!chosen.is_empty()).then_some((at, chosen));
        }

        // The numbers above are of parts; what counts is the whole.
        let limit = context.saturating_sub(self.reserve(context));
        let planned = loop {
            let mut blocks = earlier.clone();
            blocks.extend(new.as_ref().map(|(at, chosen)| before(*at, chosen)));
            let planned = job::plan(self.handle, self.with(view.with(&blocks))).await;
            let fits = planned.as_ref().is_ok_and(|plan| plan.longest_prompt() <= limit);
            match &mut new {
                Some((_, chosen)) if !fits && !chosen.is_empty() => {
                    if let Some(Candidate { is: Is::Code(place), .. }) = chosen.pop() {
                        code.left_out.push(LeftOut { place, why: Why::NoRoom });
                    }
                    if chosen.is_empty() {
                        new = None;
                    }
                }
                _ => break planned?,
            }
        };
        let added = new.as_ref().map(|(at, chosen)| before(*at, chosen));
        if let Some(added) = &added {
            self.keep(added, view.links[added.at], &asked, conversation.id()).await;
            code.added = added.items.code.clone();
        }
        if let Some(memory) = &mut self.receipt.memory {
            let all = earlier.iter().chain(&added);
            memory.recalled = all.flat_map(|before| before.items.recalled.clone()).collect();
        }
        self.receipt.code = names.map(|_| code);
        let blocks: Vec<_> = earlier.iter().chain(&added).collect();
        let total = planned.longest_prompt();
        self.receipt.sections = Some(self.sections(&view, &blocks, total).await);
        self.sources.receipts.note(&self.receipt);
        if let (Some(between), Some(conversation)) = (&self.sources.between, conversation.id()) {
            between.tell(Turn {
                client: client.clone(),
                job: self.with(messages.to_vec()),
                wish: wish.clone(),
                conversation,
                tries: 0,
            });
        }
        Ok(planned.with_receipt(self.receipt.json(), self.receipt.line()))
    }

    /// Tokens of all that must be there, and the window. `spare` hundredths of it are left
    /// for what is new. Where nothing else makes room,
    /// what earlier turns had goes out of the prompt for good, half of it at a time, so
    /// that its beginning does not change with each turn.
    async fn base(
        &mut self,
        view: &View,
        earlier: &mut Vec<Before>,
        spare: u32,
        code: &mut CodeReceipt,
    ) -> Result<(u32, u32), Problem> {
        loop {
            match self.count_chat(view.with(earlier)).await? {
                Ok((tokens, window)) => {
                    let wanted = self.reserve(window) + share(window, spare).min(MOST_CODE / 2);
                    if tokens.saturating_add(wanted) <= window || earlier.is_empty() {
                        return Ok((tokens, window));
                    }
                }
                Err(problem) if earlier.is_empty() => return Err(problem),
                Err(_) => {}
            }
            let half = earlier.len().div_ceil(2);
            let gone: Vec<Before> = earlier.drain(..half).collect();
            let places = gone.iter().flat_map(|before| &before.items.code);
            code.left_out
                .extend(places.map(|item| LeftOut { place: item.place.clone(), why: Why::NoRoom }));
            self.take_back(gone.iter().map(|before| view.links[before.at]).collect()).await;
        }
    }

    /// Those for which there is room: passages, then code, the best of each first.
    async fn chosen(
        &self,
        candidates: Vec<Candidate>,
        base: u32,
        context: u32,
        code: &mut CodeReceipt,
    ) -> Vec<Candidate> {
        if candidates.is_empty() {
            return candidates;
        }
        let (mut frames, mut has) = (0_u32, [false; 2]);
        for candidate in &candidates {
            let (is_code, frame) = match candidate.is {
                Is::Code(_) => (true, quote::block(&[])),
                Is::Recalled(_) => (false, quote::recalled(&[])),
            };
            if !std::mem::replace(&mut has[usize::from(is_code)], true) {
                frames = frames.saturating_add(self.count_text(&frame).await);
            }
        }
        let added = (0..).zip(&candidates).map(|(rank, candidate)| Part {
            section: match candidate.is {
                Is::Code(_) => Section::Code,
                Is::Recalled(_) => Section::Recalled,
            },
            tokens: candidate.tokens,
            worth: u32::MAX - rank,
        });
        let there = Part { section: Section::There, tokens: base, worth: 0 };
        let parts: Vec<_> = std::iter::once(there).chain(added).collect();
        let limit = context.saturating_sub(self.reserve(context)).saturating_sub(frames);
        let room = Room {
            total: limit,
            summaries: 0,
            recalled: share(context, RECALLED_SHARE).min(MOST_RECALLED),
            code: most_code(context).saturating_sub(frames),
        };
        let kept = match compose(&parts, room) {
            Ok(Composed { kept, .. }) => kept,
            Err(_) => vec![false; parts.len()],
        };
        let mut chosen = Vec::new();
        let mut passed_over: Vec<recall::Passage> = Vec::new();
        for (candidate, kept) in candidates.into_iter().zip(&kept[1..]) {
            match (kept, candidate.is) {
                // What holds no longer is not said without what holds.
                (true, Is::Recalled(passage))
                    if passed_over.iter().any(|newer| recall::is_newer(newer, &passage)) => {}
                (true, is) => chosen.push(Candidate { is, ..candidate }),
                (false, Is::Code(place)) => {
                    code.left_out.push(LeftOut { place, why: Why::NoRoom });
                }
                (false, Is::Recalled(passage)) => passed_over.push(passage),
            }
        }
        chosen
    }

    /// The job with another chat.
    fn with(&self, messages: Vec<Message>) -> Job {
        let tools = match &self.job.prompts[..] {
            [Prompt::Chat { tools, .. }] => tools.clone(),
            _ => None,
        };
        Job { prompts: vec![Prompt::Chat { messages, tools }], ..self.job.clone() }
    }

    /// Tokens that are left for the answer. Who asks for a whole window or more means
    /// what there is.
    fn reserve(&self, context: u32) -> u32 {
        let named = self.job.max_tokens.filter(|&asked| asked < context);
        named.unwrap_or_else(|| share(context, ANSWER_SHARE))
    }

    /// Tokens of a chat with these messages, and the window. The inner error is that it
    /// is too long.
    async fn count_chat(
        &self,
        messages: Vec<Message>,
    ) -> Result<Result<(u32, u32), Problem>, Problem> {
        let prompt = self.with(messages).prompts.remove(0);
        match self.handle.prepare(prompt, None).await {
            Ok(prepared) => Ok(Ok((count_of(prepared.tokens.len()), prepared.context))),
            Err(refusal @ Refusal::Prompt(PromptProblem::TooLong { .. })) => {
                Ok(Err(refusal.into()))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Tokens of a text; of one that does not fit the window more than that.
    async fn count_text(&self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let prompt = Prompt::Text { text: text.to_owned(), special: true };
        match self.handle.prepare(prompt, None).await {
            Ok(prepared) => count_of(prepared.tokens.len()),
            Err(Refusal::Prompt(PromptProblem::TooLong { tokens, .. })) => tokens,
            Err(_) => u32::MAX,
        }
    }

    /// What a quoted text takes. Text that means something to the model other than its
    /// letters could end the message that it stands in.
    async fn count_quoted(&self, text: &str) -> Result<u32, Why> {
        let read = |special| {
            let prompt = Prompt::Text { text: text.to_owned(), special };
            self.handle.prepare(prompt, None)
        };
        let plain = read(false).await.map_err(|_| Why::NoRoom)?;
        let special = read(true).await.map_err(|_| Why::NoRoom)?;
        if plain.tokens != special.tokens {
            return Err(Why::ControlTokens);
        }
        Ok(count_of(plain.tokens.len()))
    }

    async fn sections(&self, view: &View, blocks: &[&Before], total: u32) -> Sections {
        let system: String = view
            .messages
            .iter()
            .filter(|message| message.role == Role::System)
            .map(|message| message.content.as_str())
            .collect();
        let last = last_user(&view.messages).map_or("", |at| &view.messages[at].content);
        let instead = view.instead.as_ref().map_or("", |(_, block)| block);
        let added: String = blocks.iter().map(|before| before.block.as_str()).collect();
        let mut left = total;
        let mut take = |tokens: u32| {
            let tokens = tokens.min(left);
            left -= tokens;
            tokens
        };
        let system = take(self.count_text(&system).await);
        let last_turn = take(self.count_text(last).await);
        let ledger = take(self.count_text(instead).await);
        let added = take(self.count_text(&added).await);
        Sections { system, ledger, log: left, added, last_turn }
    }
}

impl View {
    /// The messages with what is put before some of them.
    fn with(&self, blocks: &[Before]) -> Vec<Message> {
        let mut with = self.messages.clone();
        let all = blocks.iter().map(|before| (before.at, &before.block));
        for (at, block) in all.chain(self.instead.iter().map(|(at, block)| (*at, block))) {
            let content = &mut with[at].content;
            *content = format!("{block}{content}");
        }
        with
    }
}

/// What is put before a message from these.
fn before(at: usize, chosen: &[Candidate]) -> Before {
    let mut items = Items::default();
    let (mut code, mut recalled) = (Vec::new(), Vec::new());
    for Candidate { is, text, tokens } in chosen {
        let tokens = *tokens;
        match is {
            Is::Code(place) => {
                items.code.push(Counted { place: place.clone(), tokens });
                code.push(text.clone());
            }
            Is::Recalled(passage) => {
                items.recalled.push(RecalledReceipt { role: passage.role.clone(), tokens });
                recalled.push(text.clone());
            }
        }
    }
    let mut block = String::new();
    if !recalled.is_empty() {
        block.push_str(&quote::recalled(&recalled));
    }
    if !code.is_empty() {
        block.push_str(&quote::block(&code));
    }
    Before { at, block, items }
}

/// Tokens of code for one turn at most.
fn most_code(context: u32) -> u32 {
    share(context, CODE_SHARE).min(MOST_CODE)
}

fn count_of(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// A wish as it is kept beside what came of it.
fn asked(wish: &Wish) -> String {
    let mut names = wish.code.clone();
    names.iter_mut().for_each(|names| names.sort());
    serde_json::to_string(&(names, wish.memory)).expect("strings have a JSON form")
}

/// One passage as something that may be added, with what was said since of values in it;
/// its tokens are still to be counted.
fn passage(passage: &recall::Passage, since: &[String]) -> Candidate {
    let text = recall::item(passage, since);
    Candidate { is: Is::Recalled(passage.clone()), text, tokens: 0 }
}

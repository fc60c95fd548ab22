//! Puts found code into a chat that wishes for it.
//!
//! ```text
//!  messages ─► what earlier turns had ─► stays where it was
//!         └──► last message of the user ─► search ─► counted by the model's own
//!              tokens ─► composed ─► before that message, and kept there
//! ```
//!
//! What does not work is done without: the answer comes all the same, and its receipt
//! says what is missing. A chat without a wish goes by here untouched.

use std::sync::Arc;
use std::time::Duration;

use engine_api::protocol::{Message, Prompt, PromptProblem, Role};
use tokio::time::timeout;

use crate::api::error::Problem;
use crate::api::job::{self, Job, Plan};
use crate::api::wire::stoker::{CodeReceipt, Counted, LeftOut, Receipt, Sections, Why, Wish};
use crate::api::{code, identity};
use crate::index::{Entry, Hit, Index, Question};
use crate::memory::chain::{Link, chain, last_user};
use crate::memory::compose::{self, Fate, Part, Room, Section, compose};
use crate::memory::quote::{self, Place};
use crate::request::{Client, Refusal};
use crate::store::memory::{Addition, Memory};
use crate::supervisor::Handle;

/// Chunks that are looked at for one message.
const HITS: usize = 12;
/// How long a search may take before the answer goes on without.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Bytes of a message that are looked for.
const LONGEST_QUESTION: usize = 4000;
/// A chunk with less than this share of the best one's score is left where it is.
const WORTH: f64 = 0.4;
/// Share of the window that the code of one turn may have, and its bounds in tokens.
const SHARE: u32 = 4;
const MOST_CODE: u32 = 2048;
/// Share of the window that is left for an answer whose length nobody named.
const ANSWER_SHARE: u32 = 4;

/// What can be added from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) index: Index,
    /// `None` if nothing is remembered.
    pub(crate) memory: Option<Memory>,
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
    let (Some(names), [Prompt::Chat { messages, .. }]) = (&wish.code, &job.prompts[..]) else {
        return job::plan(handle, job).await;
    };
    let messages = messages.clone();
    let owner = identity::owner(client);
    let mut adding = Adding { sources, handle, owner, receipt: Receipt::default() };
    adding.check(names).await?;
    adding.plan(job, messages, names).await
}

struct Adding<'a> {
    sources: &'a Sources,
    handle: &'a Handle,
    owner: String,
    receipt: Receipt,
}

/// What stands before a message.
#[derive(Debug, Clone)]
struct Before {
    /// The message's place.
    at: usize,
    block: String,
    items: Vec<Counted>,
}

/// Something that was found, and its text as it would stand there.
struct Candidate {
    place: Place,
    text: String,
    tokens: u32,
}

impl Adding<'_> {
    /// Looks whether every repository that is named is one of the asker's.
    async fn check(&mut self, names: &[String]) -> Result<(), Problem> {
        if names.is_empty() {
            return Ok(());
        }
        match self.entries().await {
            Some(entries) => {
                let known = |name: &String| entries.iter().any(|it| it.repository.is.name == *name);
                match names.iter().find(|name| !known(name)) {
                    Some(unknown) => Err(code::no_repository(unknown)),
                    None => Ok(()),
                }
            }
            None => Ok(()),
        }
    }

    /// Repositories that the asker may see; `None` if that is not known yet.
    async fn entries(&self) -> Option<Vec<Entry>> {
        let all: Arc<[Entry]> = timeout(PATIENCE, self.sources.index.entries()).await.ok()?;
        Some(all.iter().filter(|entry| entry.is_visible_to(&self.owner)).cloned().collect())
    }

    async fn plan(
        mut self,
        job: Job,
        messages: Vec<Message>,
        names: &[String],
    ) -> Result<Plan, Problem> {
        let links = chain(&messages);
        let asked = asked(names);
        let mut earlier = self.earlier(&messages, &links, &asked).await;
        let mut code = CodeReceipt::default();

        // What must be there in any case, with what earlier turns had.
        let context;
        let base = loop {
            let with = with_blocks(&messages, &earlier);
            match self.count_chat(&job, with).await? {
                Ok((tokens, window)) => {
                    let reserve = reserve(&job, window);
                    let tight = tokens.saturating_add(reserve).saturating_add(cap(window) / 2);
                    if tight <= window || earlier.is_empty() {
                        context = window;
                        break tokens;
                    }
                }
                Err(problem) if earlier.is_empty() => return Err(problem),
                Err(_) => {}
            }
            self.take_back_half(&mut earlier, &links, &mut code).await;
        };
        code.kept = earlier.iter().flat_map(|before| before.items.clone()).collect();

        let mut new = None;
        if let Some(at) = last_user(&messages)
            && at + 1 == messages.len()
            && earlier.iter().all(|before| before.at != at)
        {
            let found = self.found(&messages[at], names).await;
            let candidates = self.count(found, &messages, &earlier, &mut code).await;
            let room = context.saturating_sub(reserve(&job, context)).saturating_sub(base);
            let chosen = self.chosen(candidates, base, room, context, &mut code).await;
            new = (!chosen.is_empty()).then_some((at, chosen));
        }

        // The numbers above are of parts; what counts is the whole.
        let limit = context.saturating_sub(reserve(&job, context));
        let planned = loop {
            let mut blocks = earlier.clone();
            blocks.extend(new.as_ref().map(|(at, chosen)| before(*at, chosen)));
            let composed = with_prompt(&job, with_blocks(&messages, &blocks));
            let planned = job::plan(self.handle, composed).await;
            let fits = planned.as_ref().is_ok_and(|plan| plan.longest_prompt() <= limit);
            match &mut new {
                Some((_, chosen)) if !fits && !chosen.is_empty() => {
                    let Candidate { place, .. } = chosen.remove(chosen.len() - 1);
                    code.left_out.push(LeftOut { place, why: Why::NoRoom });
                    if chosen.is_empty() {
                        new = None;
                    }
                }
                _ => break planned?,
            }
        };
        let added = new.as_ref().map(|(at, chosen)| before(*at, chosen));
        if let Some(added) = &added {
            self.keep(added, links[added.at], &asked).await;
            code.added = added.items.clone();
        }
        let total = planned.longest_prompt();
        let blocks = earlier.iter().chain(&added);
        self.receipt.sections = Some(self.sections(&messages, blocks, total).await);
        self.receipt.code = Some(code);
        Ok(planned.with_receipt(self.receipt.json(), self.receipt.line()))
    }

    /// What was put before these messages in earlier turns, as far as it may be seen.
    async fn earlier(&mut self, messages: &[Message], links: &[Link], asked: &str) -> Vec<Before> {
        let Some(memory) = &self.sources.memory else { return Vec::new() };
        let users: Vec<_> = (0..messages.len())
            .filter(|&index| messages[index].role == Role::User)
            .map(|index| links[index])
            .collect();
        let found = match memory.additions(&self.owner, &users).await {
            Ok(found) => found,
            Err(error) => {
                self.receipt.problems.push(error.to_string());
                return Vec::new();
            }
        };
        if found.is_empty() {
            return Vec::new();
        }
        let visible = self.entries().await;
        let last = links.last();
        let mut all = Vec::new();
        let mut gone = Vec::new();
        for (link, Addition { asked: was_asked, block, items }) in found {
            let items: Vec<Counted> = serde_json::from_str(&items).unwrap_or_default();
            let may_be_seen = |item: &Counted| {
                visible.as_ref().is_none_or(|visible| {
                    visible.iter().any(|it| it.repository.is.name == item.place.repository)
                })
            };
            let is_of_this_wish = last != Some(&link) || was_asked == asked;
            if !items.is_empty() && items.iter().all(may_be_seen) && is_of_this_wish {
                if let Some(at) = links.iter().position(|known| *known == link) {
                    all.push(Before { at, block, items });
                }
            } else {
                gone.push(link);
            }
        }
        if !gone.is_empty() {
            self.take_back(gone).await;
        }
        all.sort_by_key(|before| before.at);
        all
    }

    /// Takes the older half of what earlier turns had out of the prompt for good, so
    /// that its beginning does not change with each turn.
    async fn take_back_half(
        &mut self,
        earlier: &mut Vec<Before>,
        links: &[Link],
        code: &mut CodeReceipt,
    ) {
        let half = earlier.len().div_ceil(2);
        let gone: Vec<Before> = earlier.drain(..half).collect();
        for Before { items, .. } in &gone {
            let left_out =
                items.iter().map(|item| LeftOut { place: item.place.clone(), why: Why::NoRoom });
            code.left_out.extend(left_out);
        }
        self.take_back(gone.iter().map(|before| links[before.at]).collect()).await;
    }

    async fn take_back(&mut self, links: Vec<Link>) {
        let Some(memory) = &self.sources.memory else { return };
        if let Err(error) = memory.take_back(&self.owner, links).await {
            self.receipt.problems.push(error.to_string());
        }
    }

    async fn keep(&mut self, before: &Before, link: Link, asked: &str) {
        let Some(memory) = &self.sources.memory else { return };
        let items = serde_json::to_string(&before.items).expect("places have a JSON form");
        let (asked, block) = (asked.to_owned(), before.block.clone());
        if let Err(error) = memory.add(&self.owner, link, Addition { asked, block, items }).await {
            self.receipt.problems.push(format!("the next turn will not have this code: {error}"));
        }
    }

    async fn found(&mut self, message: &Message, names: &[String]) -> Vec<Hit> {
        let text = quote::question(&message.content, LONGEST_QUESTION);
        let question = Question {
            text,
            asker: self.owner.clone(),
            repositories: names.to_vec(),
            limit: HITS,
            ..Question::default()
        };
        let problem = match timeout(PATIENCE, self.sources.index.search(question)).await {
            Ok(Some(Ok(hits))) => {
                let best = hits.iter().map(|hit| hit.score).fold(0.0, f64::max);
                return hits.into_iter().filter(|hit| hit.score >= best * WORTH).collect();
            }
            Ok(Some(Err(error))) => format!("no code was found: {error}"),
            Ok(None) => "no code was found: too many searches wait".to_owned(),
            Err(_) => {
                format!("no code was found within {} s", PATIENCE.as_secs_f64())
            }
        };
        self.receipt.problems.push(problem);
        Vec::new()
    }

    /// Those that may be added, best first, and what they take.
    async fn count(
        &self,
        hits: Vec<Hit>,
        messages: &[Message],
        earlier: &[Before],
        code: &mut CodeReceipt,
    ) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = Vec::new();
        for hit in hits {
            let place = Place::of(&hit);
            let said = hit.text.trim();
            let is_there = messages.iter().any(|message| message.content.contains(said))
                || earlier.iter().any(|before| before.block.contains(said));
            let why = if is_there {
                Some(Why::InConversation)
            } else if candidates.iter().any(|better| better.place.overlaps(&place)) {
                Some(Why::Overlaps)
            } else {
                None
            };
            let text = quote::item(&hit);
            let counted = match why {
                Some(why) => Err(why),
                None => self.count_quoted(&text).await,
            };
            match counted {
                Ok(tokens) => candidates.push(Candidate { place, text, tokens }),
                Err(why) => code.left_out.push(LeftOut { place, why }),
            }
        }
        candidates
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
        Ok(u32::try_from(plain.tokens.len()).unwrap_or(u32::MAX))
    }

    /// Those for which there is room, best first.
    async fn chosen(
        &self,
        candidates: Vec<Candidate>,
        base: u32,
        room: u32,
        context: u32,
        code: &mut CodeReceipt,
    ) -> Vec<Candidate> {
        if candidates.is_empty() {
            return candidates;
        }
        let frame = self.count_quoted(&quote::frame()).await.unwrap_or(u32::MAX);
        let best_first = (0..).zip(&candidates);
        let code_parts = best_first.map(|(rank, candidate)| Part {
            section: Section::Code,
            tokens: candidate.tokens,
            masked: None,
            worth: u32::MAX - rank,
        });
        let there = Part { section: Section::LastTurn, tokens: base, masked: None, worth: 0 };
        let parts: Vec<_> = std::iter::once(there).chain(code_parts).collect();
        let total = base.saturating_add(room.saturating_sub(frame));
        let room = Room { total, code: cap(context).saturating_sub(frame), recalled: 0 };
        let fates = match compose(&parts, room) {
            Ok(compose::Plan { fates, .. }) => fates,
            Err(_) => vec![Fate::Dropped; parts.len()],
        };
        let mut chosen = Vec::new();
        for (candidate, fate) in candidates.into_iter().zip(&fates[1..]) {
            match fate {
                Fate::Kept => chosen.push(candidate),
                Fate::Masked | Fate::Dropped => {
                    code.left_out.push(LeftOut { place: candidate.place, why: Why::NoRoom });
                }
            }
        }
        chosen
    }

    /// Tokens of the job's chat with these messages, and the window. The inner error is
    /// that it is too long.
    async fn count_chat(
        &self,
        job: &Job,
        messages: Vec<Message>,
    ) -> Result<Result<(u32, u32), Problem>, Problem> {
        let prompt = with_prompt(job, messages).prompts.remove(0);
        match self.handle.prepare(prompt, None).await {
            Ok(prepared) => {
                let tokens = u32::try_from(prepared.tokens.len()).unwrap_or(u32::MAX);
                Ok(Ok((tokens, prepared.context)))
            }
            Err(refusal @ Refusal::Prompt(PromptProblem::TooLong { .. })) => {
                Ok(Err(refusal.into()))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn count_text(&self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let prompt = Prompt::Text { text: text.to_owned(), special: true };
        let prepared = self.handle.prepare(prompt, None).await;
        prepared.map_or(0, |prepared| u32::try_from(prepared.tokens.len()).unwrap_or(u32::MAX))
    }

    async fn sections(
        &self,
        messages: &[Message],
        blocks: impl Iterator<Item = &Before>,
        total: u32,
    ) -> Sections {
        let system: String = messages
            .iter()
            .filter(|message| message.role == Role::System)
            .map(|message| message.content.as_str())
            .collect();
        let last = last_user(messages).map_or("", |at| &messages[at].content);
        let blocks: String = blocks.map(|before| before.block.as_str()).collect();
        let system = self.count_text(&system).await.min(total);
        let last_turn = self.count_text(last).await.min(total - system);
        let code = self.count_text(&blocks).await.min(total - system - last_turn);
        Sections { system, log: total - system - last_turn - code, code, last_turn }
    }
}

/// What is put before a message from these.
fn before(at: usize, chosen: &[Candidate]) -> Before {
    let texts: Vec<_> = chosen.iter().map(|candidate| candidate.text.clone()).collect();
    let counted = |candidate: &Candidate| Counted {
        place: candidate.place.clone(),
        tokens: candidate.tokens,
    };
    Before { at, block: quote::block(&texts), items: chosen.iter().map(counted).collect() }
}

/// The messages with blocks before some of them.
fn with_blocks(messages: &[Message], blocks: &[Before]) -> Vec<Message> {
    let mut with = messages.to_vec();
    for Before { at, block, .. } in blocks {
        let content = &mut with[*at].content;
        *content = format!("{block}{content}");
    }
    with
}

/// The job with another chat.
fn with_prompt(job: &Job, messages: Vec<Message>) -> Job {
    let tools = match &job.prompts[..] {
        [Prompt::Chat { tools, .. }] => tools.clone(),
        _ => None,
    };
    Job { prompts: vec![Prompt::Chat { messages, tools }], ..job.clone() }
}

/// Tokens that are left for the answer. Who asks for a whole window or more means what
/// there is.
fn reserve(job: &Job, context: u32) -> u32 {
    job.max_tokens.filter(|&asked| asked < context).unwrap_or(context / ANSWER_SHARE)
}

/// Tokens of code for one turn at most.
fn cap(context: u32) -> u32 {
    (context / SHARE).min(MOST_CODE)
}

/// A wish as it is kept.
fn asked(names: &[String]) -> String {
    let mut names = names.to_vec();
    names.sort();
    serde_json::to_string(&names).expect("strings have a JSON form")
}

//! What is left of a conversation that would fill its window, and what stands in the
//! place of the rest. What is decided is on the disk before it is sent, so that a server
//! that was killed goes on with the same prompt.

use engine_api::protocol::{Message, Role};

use super::{Adding, Before, Candidate, View, code, passage};
use crate::api::error::Problem;
use crate::api::wire::stoker::{MemoryReceipt, Wish};
use crate::index::words;
use crate::memory::chain::{Link, alone, chain};
use crate::memory::ledger::ledger;
use crate::memory::quote;
use crate::memory::recall::is_about;
use crate::memory::reset::{self, share};
use crate::store::memory::{Known, Said};

/// Passages that are looked at for one message.
const PASSAGES: usize = 12;

/// A conversation whole, and how it was made shorter.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    all: &'a [Message],
    links: Vec<Link>,
    /// `None` if nothing of it is kept.
    known: Option<Known>,
    is_named: bool,
    receipt: Option<MemoryReceipt>,
}

impl<'a> Conversation<'a> {
    pub(super) fn is_kept(&self) -> bool {
        self.known.is_some()
    }

    pub(super) fn id(&self) -> Option<i64> {
        self.known.as_ref().map(|known| known.id)
    }

    /// Where the first message stands that is sent, other than system messages.
    fn cut(&self) -> Option<(usize, &str)> {
        let (at, block) = self.known.as_ref()?.cut.as_ref()?;
        Some((at + 1, block))
    }

    /// Messages that had been made shorter, out of all those.
    pub(super) fn receipt(&self) -> Option<MemoryReceipt> {
        let mut receipt = self.receipt.clone()?;
        receipt.conversation = self.id();
        receipt.messages = self.all.len();
        if let Some((at, _)) = self.cut() {
            let (kept, _) = reset::kept(self.all, at);
            receipt.replaced = self.all.len() - kept.len();
        }
        receipt.masked = self.masked().count();
        Some(receipt)
    }

    /// Tool output that is sent without its text.
    fn masked(&self) -> impl Iterator<Item = usize> {
        let to = self.known.as_ref().and_then(|known| known.masked).map_or(0, |at| at + 1);
        let from = self.cut().map_or(0, |(at, _)| at);
        (from..to).filter(|&at| {
            self.all[at].role == Role::Tool && reset::mask(&self.all[at].content).is_some()
        })
    }

    pub(super) fn view(&self) -> View {
        let (kept, user) = match self.cut() {
            Some((at, _)) => reset::kept(self.all, at),
            None => ((0..self.all.len()).collect(), None),
        };
        let masked: Vec<_> = self.masked().collect();
        let message = |at: &usize| {
            let message = self.all[*at].clone();
            match masked.contains(at).then(|| reset::mask(&message.content)).flatten() {
                Some(content) => Message { content, ..message },
                None => message,
            }
        };
        let place = user.and_then(|user| kept.iter().position(|at| *at == user));
        View {
            messages: kept.iter().map(message).collect(),
            links: kept.iter().map(|at| self.links[*at]).collect(),
            instead: place.zip(self.cut().map(|(_, block)| block.to_owned())),
        }
    }
}

impl Adding<'_> {
    /// Finds what is known of the conversation, if it is to be remembered.
    pub(super) async fn open<'a>(&mut self, all: &'a [Message], wish: &Wish) -> Conversation<'a> {
        let links = chain(wish.conversation.as_deref(), all);
        let is_named = wish.conversation.is_some();
        let mut conversation = Conversation { all, links, known: None, is_named, receipt: None };
        if !wish.memory {
            return conversation;
        }
        conversation.receipt = Some(MemoryReceipt::default());
        let Some(memory) = &self.sources.memory else {
            self.receipt.problems.push("nothing is remembered: memory.kept_days is 0".to_owned());
            return conversation;
        };
        let said = all.iter().zip(&conversation.links).map(|(message, link)| said(message, *link));
        match memory.open(&self.owner, wish.conversation.clone(), said.collect()).await {
            Ok(known) => conversation.known = Some(known),
            Err(error) => self.receipt.problems.push(error.to_string()),
        }
        conversation
    }

    /// Makes a conversation shorter that takes too much of its window. Says whether.
    pub(super) async fn shorten(
        &mut self,
        conversation: &mut Conversation<'_>,
        view: &View,
        earlier: &[Before],
    ) -> Result<bool, Problem> {
        let (tokens, window) = self.size(view.with(earlier)).await?;
        let most = window.saturating_sub(self.reserve(window));
        if tokens <= share(window, reset::HIGH).min(most) {
            return Ok(false);
        }
        let mut changed = false;
        let all = conversation.all;
        let before = conversation.masked().count();
        let upto = reset::maskable(all);
        if let (Some(known), Some(last)) = (&mut conversation.known, upto.checked_sub(1)) {
            known.masked = Some(known.masked.map_or(last, |masked| masked.max(last)));
        }
        if conversation.masked().count() > before {
            changed = true;
            self.decide(conversation, upto - 1, true, "").await;
        }
        let (tokens, _) = self.size(conversation.view().with(earlier)).await?;
        if tokens <= share(window, reset::MASKED_ENOUGH).min(most) {
            return Ok(changed);
        }
        let room = share(window, reset::KEPT).min(most);
        let each = self.each(conversation, view, earlier, room).await;
        let cut_before = conversation.cut().map_or(0, |(at, _)| at);
        let Some(at) = reset::cut(all, &each, cut_before, room) else { return Ok(changed) };
        let block = self.ledger(conversation, at, share(window, reset::LEDGER)).await;
        self.decide(conversation, at - 1, false, &block).await;
        if let Some(known) = &mut conversation.known {
            known.cut = Some((at - 1, block));
        }
        Ok(true)
    }

    /// Tokens of a chat, at least, and the window.
    async fn size(&self, messages: Vec<Message>) -> Result<(u32, u32), Problem> {
        match self.count_chat(messages).await? {
            Ok(size) => Ok(size),
            Err(problem) => match problem.window {
                Some(window) => Ok((window.prompt.max(window.context), window.context)),
                None => Err(problem),
            },
        }
    }

    /// Tokens of each message of the whole, masked as it is sent, with what stands before it. Only the last ones are
    /// counted, as far as there is room, and those of the user; the others are too many.
    async fn each(
        &self,
        conversation: &Conversation<'_>,
        view: &View,
        earlier: &[Before],
        room: u32,
    ) -> Vec<u32> {
        let all = conversation.all;
        let mut each = vec![u32::MAX; all.len()];
        let masked: Vec<_> = conversation.masked().collect();
        let mut sum = 0_u32;
        for at in (0..all.len()).rev() {
            if sum > room && all[at].role != Role::User {
                continue;
            }
            let Message { content, tool_calls_json, .. } = &all[at];
            let short = masked.contains(&at).then(|| reset::mask(content)).flatten();
            let text = short.as_ref().unwrap_or(content);
            let calls = tool_calls_json.as_deref().unwrap_or_default();
            let link = conversation.links[at];
            let before = earlier.iter().find(|before| view.links[before.at] == link);
            let block = before.map_or("", |before| &before.block);
            each[at] = self.count_text(&format!("{block}{text}{calls}")).await;
            sum = sum.saturating_add(each[at]);
        }
        each
    }

    /// What stands in the place of the first messages: as many lines of their ledger as
    /// there is room for, the most important first.
    async fn ledger(
        &mut self,
        conversation: &mut Conversation<'_>,
        at: usize,
        room: u32,
    ) -> String {
        let lines: Vec<_> =
            ledger(&conversation.all[..at]).iter().map(|entry| entry.line()).collect();
        let replaced = conversation.all.len() - reset::kept(conversation.all, at).0.len();
        let written = |count: usize| quote::instead(replaced, &lines[..count], lines.len() - count);
        let (mut fits, mut too_many) = (0, lines.len() + 1);
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            if self.count_text(&written(middle)).await <= room {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        if let Some(receipt) = &mut conversation.receipt {
            receipt.reset = true;
            receipt.ledger_lines = Some(fits);
            receipt.ledger_lines_left_out = Some(lines.len() - fits);
        }
        written(fits)
    }

    async fn decide(
        &mut self,
        conversation: &Conversation<'_>,
        at: usize,
        masked: bool,
        block: &str,
    ) {
        let (Some(memory), Some(id)) = (&self.sources.memory, conversation.id()) else { return };
        if let Err(error) = memory.shorten(id, conversation.links[at], masked, block).await {
            self.receipt.problems.push(format!("the next turn may begin otherwise: {error}"));
        }
    }

    /// What was said of the message before, in what is left out of the prompt.
    pub(super) async fn recalled(
        &mut self,
        conversation: &Conversation<'_>,
        view: &View,
        earlier: &[Before],
        at: usize,
    ) -> Vec<Candidate> {
        let (Some(memory), Some(id)) = (&self.sources.memory, conversation.id()) else {
            return Vec::new();
        };
        let is_whole = conversation.cut().is_none() && conversation.masked().count() == 0;
        if is_whole && !conversation.is_named {
            return Vec::new();
        }
        let text = quote::question(&view.messages[at].content, code::LONGEST_QUESTION);
        let terms = words::terms(&text);
        if terms.is_empty() {
            return Vec::new();
        }
        // In one that has a name, also of what its client does not send any more.
        let among = (!conversation.is_named).then(|| conversation.links.clone());
        let there = view.messages.iter().map(alone);
        let asked = terms.len();
        let found = match memory.recall(id, terms, among, there.collect()).await {
            Ok(found) => found,
            Err(error) => {
                self.receipt.problems.push(format!("nothing was recalled: {error}"));
                return Vec::new();
            }
        };
        let mut candidates = Vec::new();
        let is_new = |text: &str| !earlier.iter().any(|before| before.block.contains(text));
        let found = found.iter().filter(|it| is_about(it, asked) && is_new(it.text.trim()));
        for found in found.take(PASSAGES) {
            let candidate = passage(found, 0);
            // The same text stood there before, but not behind a heading of ours.
            if let Ok(tokens) = self.count_quoted(&candidate.text).await {
                candidates.push(Candidate { tokens, ..candidate });
            }
        }
        candidates
    }
}

/// A message as it is kept.
fn said(message: &Message, link: Link) -> Said {
    Said {
        link,
        alone: alone(message),
        role: match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        },
        content: message.content.clone(),
        calls: message.tool_calls_json.clone(),
    }
}

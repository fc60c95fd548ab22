//! What is left of a conversation that would fill its window, and what stands in the
//! place of the rest. What is decided is on the disk before it is sent, so that a server
//! that was killed goes on with the same prompt.

use engine_api::protocol::{Message, Role};

use super::{Adding, Before, Candidate, View, code, passage};
use crate::api::error::Problem;
use crate::api::wire::stoker::{InsteadReceipt, MemoryReceipt, Wish};
use crate::index::words;
use crate::memory::chain::{Link, alone, chain};
use crate::memory::compose::{Part, Room, Section, compose};
use crate::memory::ledger::{Entry, Kind, ledger, superseded};
use crate::memory::recall::{Passage, about, is_newer, newest_first};
use crate::memory::reset::{self, share};
use crate::memory::{quote, summary};
use crate::store::memory::{Cut, Decision, Known, Said};

/// Passages that are looked at for one message.
const PASSAGES: usize = 12;
/// Values of one passage that were given again since; one with more is left out.
const MOST_SUPERSEDED: usize = 4;

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
        let Cut { at, block, .. } = self.known.as_ref()?.cut.as_ref()?;
        Some((at + 1, block))
    }

    pub(super) fn link(&self, at: usize) -> Link {
        self.links[at]
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
        if let Some(cut) = self.known.as_ref().and_then(|known| known.cut.as_ref()) {
            receipt.reset |= cut.is_new;
            receipt.instead = serde_json::from_str(&cut.receipt).ok();
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

    /// What is known of a conversation with these messages; nothing more of it is kept.
    pub(super) async fn again<'a>(
        &self,
        all: &'a [Message],
        conversation: i64,
        wish: &Wish,
    ) -> Option<Conversation<'a>> {
        let links = chain(wish.conversation.as_deref(), all);
        let memory = self.sources.memory.as_ref()?;
        let said = all.iter().zip(&links).map(|(message, link)| said(message, *link)).collect();
        let known = Some(memory.again(conversation, said).await.ok()??);
        let is_named = wish.conversation.is_some();
        Some(Conversation { all, links, known, is_named, receipt: None })
    }

    /// Makes a conversation shorter that takes too much of its window, or will with the
    /// next message, where that is expected to bring so many tokens (`ahead`); what is
    /// decided then holds from that message on. Says whether.
    pub(super) async fn shorten(
        &mut self,
        conversation: &mut Conversation<'_>,
        view: &View,
        earlier: &[Before],
        ahead: Option<u32>,
    ) -> Result<bool, Problem> {
        let (tokens, window) = self.size(view.with(earlier)).await?;
        let most = window.saturating_sub(self.reserve(window));
        if !reset::is_due(tokens.saturating_add(ahead.unwrap_or_default()), window, most) {
            return Ok(false);
        }
        let behind = ahead.and(conversation.links.last().copied());
        let mut decisions = Vec::new();
        let all = conversation.all;
        let before = conversation.masked().count();
        let upto = reset::maskable(all);
        if let (Some(known), Some(last)) = (&mut conversation.known, upto.checked_sub(1)) {
            known.masked = Some(known.masked.map_or(last, |masked| masked.max(last)));
        }
        if conversation.masked().count() > before {
            let link = conversation.links[upto - 1];
            let (block, receipt) = (String::new(), String::new());
            decisions.push(Decision { link, masked: true, block, receipt, behind });
            let (tokens, _) = self.size(conversation.view().with(earlier)).await?;
            if reset::is_enough(tokens, window, most) {
                return Ok(self.decide(conversation, decisions).await);
            }
        }
        let room = share(window, reset::KEPT).min(most);
        let each = self.each(conversation, view, earlier, room).await;
        let cut_before = conversation.cut().map_or(0, |(at, _)| at);
        let Some(at) = reset::cut(all, &each, cut_before, room) else {
            return Ok(self.decide(conversation, decisions).await);
        };
        let (block, receipt) = self.instead(conversation, at, window).await;
        let receipt = serde_json::to_string(&receipt).expect("numbers have a JSON form");
        let link = conversation.links[at - 1];
        let cut = Cut { at: at - 1, block: block.clone(), receipt: receipt.clone(), is_new: false };
        decisions.push(Decision { link, masked: false, block, receipt, behind });
        if let Some(receipt) = &mut conversation.receipt {
            receipt.reset = true;
        }
        if let Some(known) = &mut conversation.known {
            known.cut = Some(cut);
        }
        Ok(self.decide(conversation, decisions).await)
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
    /// there is room for, the most important first, and the newest summaries of them.
    async fn instead(
        &self,
        conversation: &Conversation<'_>,
        at: usize,
        window: u32,
    ) -> (String, InsteadReceipt) {
        // What holds is what was said last, in all of it.
        let now = ledger(conversation.all);
        let entries = ledger(&conversation.all[..at]);
        let lines: Vec<_> = entries.iter().map(|entry| with_news(entry, &now)).collect();
        let replaced = conversation.all.len() - reset::kept(conversation.all, at).0.len();
        let (summaries, summary_tokens) = self.summaries(conversation, at, window, &now).await;
        let written = |count: usize, summaries: &[String]| {
            quote::instead(replaced, &lines[..count], lines.len() - count, summaries)
        };
        let room = share(window, reset::LEDGER);
        let (mut fits, mut too_many) = (0, lines.len() + 1);
        while too_many - fits > 1 {
            let middle = fits.midpoint(too_many);
            if self.count_text(&written(middle, &[])).await <= room {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        let receipt = InsteadReceipt {
            ledger_lines: fits,
            ledger_lines_left_out: lines.len() - fits,
            summaries: summaries.len(),
            summary_tokens,
        };
        (written(fits, &summaries), receipt)
    }

    /// What the model made of whole blocks among the first messages, oldest first, and its
    /// tokens: the newest, as far as there is room.
    async fn summaries(
        &self,
        conversation: &Conversation<'_>,
        at: usize,
        window: u32,
        now: &[Entry],
    ) -> (Vec<String>, u32) {
        let (Some(memory), Some(id)) = (&self.sources.memory, conversation.id()) else {
            return (Vec::new(), 0);
        };
        let blocks = summary::blocks(conversation.all).into_iter();
        let ends = blocks.map(|block| block.end).filter(|&end| end <= at);
        let links = ends.map(|end| conversation.links[end - 1]).collect();
        // Without them the ledger stands alone.
        let known = memory.summaries(id, links).await.unwrap_or_default();
        let is_true = |sentence: &str| superseded(now, sentence).is_empty();
        let texts = known.iter().filter_map(|summed| summed.text.as_deref());
        let mut texts: Vec<_> = texts.map(|text| summary::only(text, is_true)).collect();
        texts.retain(|text| !text.is_empty());
        let mut parts = Vec::new();
        for (worth, text) in (0..).zip(&texts) {
            let tokens = self.count_text(&format!("- {text}\n")).await;
            parts.push(Part { section: Section::Summary, tokens, worth });
        }
        let most = share(window, reset::SUMMARIES);
        let room = Room { total: most, summaries: most, recalled: 0, code: 0 };
        let Ok(plan) = compose(&parts, room) else { return (Vec::new(), 0) };
        let kept = texts.into_iter().zip(&plan.kept).filter(|(_, kept)| **kept);
        let texts: Vec<String> = kept.map(|(text, _)| text).collect();
        let tokens = self.count_text(&quote::summed_up(&texts)).await;
        (texts, tokens)
    }

    /// Has all of a reset on the disk, or nothing of it. Says whether there is anything.
    async fn decide(&mut self, conversation: &Conversation<'_>, decisions: Vec<Decision>) -> bool {
        let is_shorter = !decisions.is_empty();
        if let (Some(memory), Some(id), true) =
            (&self.sources.memory, conversation.id(), is_shorter)
            && let Err(error) = memory.shorten(id, decisions).await
        {
            self.receipt.problems.push(format!("the next turn may begin otherwise: {error}"));
        }
        is_shorter
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
        let there = view.messages.iter().map(alone).collect();
        let question = alone(&view.messages[at]);
        let asked = terms.len();
        let found = match memory.recall(id, terms, among, there, question).await {
            Ok(found) => found,
            Err(error) => {
                self.receipt.problems.push(format!("nothing was recalled: {error}"));
                return Vec::new();
            }
        };
        let mut candidates = Vec::new();
        let now = ledger(conversation.all);
        let is_new = |text: &str| !earlier.iter().any(|before| before.block.contains(text));
        let mut found = about(found, asked);
        found.retain(|it| is_new(it.text.trim()));
        let mut passed_over: Vec<Passage> = Vec::new();
        for found in newest_first(found).into_iter().take(PASSAGES) {
            let since = superseded(&now, &found.text);
            let since: Vec<_> = since.iter().map(|entry| entry.line()).collect();
            let candidate = passage(&found, &since);
            let counted = match since.len() {
                // What holds no longer is not said without what holds.
                _ if passed_over.iter().any(|newer| is_newer(newer, &found)) => None,
                ..=MOST_SUPERSEDED => self.count_quoted(&candidate.text).await.ok(),
                _ => None,
            };
            match counted {
                // The same text stood there before, but not behind a heading of ours.
                Some(tokens) => candidates.push(Candidate { tokens, ..candidate }),
                None => passed_over.push(found),
            }
        }
        candidates
    }
}

/// A line of the ledger, with what was said since of values in it.
fn with_news(entry: &Entry, now: &[Entry]) -> String {
    let mut line = entry.line();
    if entry.kind == Kind::Value {
        // Its subject may have another value since, behind what is left out.
        let same = |other: &&Entry| other.kind == entry.kind && other.subject == entry.subject;
        return now.iter().find(same).map_or(line, Entry::line);
    }
    for news in superseded(now, &line) {
        line.push_str(&format!(" [since then {}]", news.line().trim_start_matches("- ")));
    }
    line
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

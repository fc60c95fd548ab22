//! Code for the last message of the user, and what earlier turns had of it.

use std::sync::Arc;

use engine_api::protocol::{Message, Role};
use tokio::time::timeout;

use super::{Adding, Before, Candidate, Is, Items, PATIENCE, View};
use crate::api::code;
use crate::api::error::Problem;
use crate::api::wire::stoker::{CodeReceipt, Counted, LeftOut, Why};
use crate::index::{Entry, Hit, Question};
use crate::memory::chain::Link;
use crate::memory::quote::{self, Place};
use crate::store::memory::Addition;

/// Chunks that are looked at for one message.
const HITS: usize = 12;
/// Bytes of a message that are looked for.
pub(super) const LONGEST_QUESTION: usize = 4000;
/// A chunk with less than this share of the best one's score is left where it is.
const WORTH: f64 = 0.4;

impl Adding<'_> {
    /// Looks whether every repository that is named is one of the asker's.
    pub(super) async fn check(&mut self, names: &[String]) -> Result<(), Problem> {
        if names.is_empty() {
            return Ok(());
        }
        // If that is not known yet, the search finds nothing of others all the same.
        let Some(entries) = self.entries().await else { return Ok(()) };
        let known = |name: &String| entries.iter().any(|entry| entry.repository.is.name == *name);
        match names.iter().find(|name| !known(name)) {
            Some(unknown) => Err(code::no_repository(unknown)),
            None => Ok(()),
        }
    }

    /// Leaves out those that are not the asker's: nobody named them in this request.
    pub(super) async fn leave_out_unknown(&mut self, code: &mut Option<Vec<String>>) {
        // If that is not known yet, the search finds nothing of others all the same.
        let Some(entries) = self.entries().await else { return };
        let Some(named) = code.take_if(|names| !names.is_empty()) else { return };
        let known = |name: &String| entries.iter().any(|entry| entry.repository.is.name == *name);
        let (kept, unknown): (Vec<_>, Vec<_>) = named.into_iter().partition(known);
        for name in unknown {
            let problem = format!("the key's chats have code of `{name}`, which is not there");
            self.receipt.problems.push(problem);
        }
        *code = (!kept.is_empty()).then_some(kept);
    }

    /// Repositories that the asker may see; `None` if that is not known yet.
    async fn entries(&self) -> Option<Vec<Entry>> {
        let all: Arc<[Entry]> = timeout(PATIENCE, self.sources.index.entries()).await.ok()?;
        Some(all.iter().filter(|entry| entry.is_visible_to(&self.owner)).cloned().collect())
    }

    /// What was put before these messages in earlier turns, as far as it may be seen.
    pub(super) async fn earlier(&mut self, view: &View, asked: &str) -> Vec<Before> {
        let Some(memory) = &self.sources.memory else { return Vec::new() };
        let users: Vec<_> = (0..view.messages.len())
            .filter(|&at| view.messages[at].role == Role::User)
            .map(|at| view.links[at])
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
        let may_be_seen = |item: &Counted| {
            visible.as_ref().is_none_or(|visible| {
                visible.iter().any(|entry| entry.repository.is.name == item.place.repository)
            })
        };
        let (mut all, mut gone) = (Vec::new(), Vec::new());
        for (link, Addition { asked: was_asked, block, items }) in found {
            let items: Items = serde_json::from_str(&items).unwrap_or_default();
            // For the last message somebody may wish for something else now.
            let is_of_this_wish = view.links.last() != Some(&link) || was_asked == asked;
            let at = view.links.iter().position(|known| *known == link);
            match at {
                Some(at) if is_of_this_wish && items.code.iter().all(may_be_seen) => {
                    all.push(Before { at, block, items });
                }
                _ => gone.push(link),
            }
        }
        if !gone.is_empty() {
            self.take_back(gone).await;
        }
        all.sort_by_key(|before| before.at);
        all
    }

    pub(super) async fn take_back(&mut self, links: Vec<Link>) {
        let Some(memory) = &self.sources.memory else { return };
        if let Err(error) = memory.take_back(&self.owner, links).await {
            self.receipt.problems.push(error.to_string());
        }
    }

    pub(super) async fn keep(
        &mut self,
        before: &Before,
        link: Link,
        asked: &str,
        conversation: Option<i64>,
    ) {
        let Some(memory) = &self.sources.memory else { return };
        let items = serde_json::to_string(&before.items).expect("places have a JSON form");
        let (asked, block) = (asked.to_owned(), before.block.clone());
        let addition = Addition { asked, block, items };
        if let Err(error) = memory.add(&self.owner, link, addition, conversation).await {
            let problem = format!("the next turn will not have what this one has: {error}");
            self.receipt.problems.push(problem);
        }
    }

    pub(super) async fn found(&mut self, message: &Message, names: &[String]) -> Vec<Hit> {
        let text = quote::question(&message.content, LONGEST_QUESTION);
        let question = Question {
            text,
            asker: self.owner.clone(),
            repositories: names.to_vec(),
            limit: HITS,
            ..Question::default()
        };
        let why = match timeout(PATIENCE, self.sources.index.search(question)).await {
            Ok(Some(Ok(hits))) => {
                let best = hits.iter().map(|hit| hit.score).fold(0.0, f64::max);
                return hits.into_iter().filter(|hit| hit.score >= best * WORTH).collect();
            }
            Ok(Some(Err(error))) => error.to_string(),
            Ok(None) => "too many searches wait".to_owned(),
            Err(_) => format!("the search took more than {} s", PATIENCE.as_secs_f64()),
        };
        self.receipt.problems.push(format!("no code was found: {why}"));
        Vec::new()
    }

    /// Those that may be added, best first, and what they take.
    pub(super) async fn count(
        &self,
        hits: Vec<Hit>,
        view: &View,
        earlier: &[Before],
        code: &mut CodeReceipt,
    ) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut places: Vec<Place> = Vec::new();
        for hit in hits {
            let place = Place::of(&hit);
            let said = hit.text.trim();
            let is_there = view.messages.iter().any(|message| message.content.contains(said))
                || earlier.iter().any(|before| before.block.contains(said));
            let text = quote::item(&hit);
            let counted = if is_there {
                Err(Why::InConversation)
            } else if places.iter().any(|better| better.overlaps(&place)) {
                Err(Why::Overlaps)
            } else {
                self.count_quoted(&text).await
            };
            match counted {
                Ok(tokens) => {
                    places.push(place.clone());
                    candidates.push(Candidate { is: Is::Code(place), text, tokens });
                }
                Err(why) => code.left_out.push(LeftOut { place, why }),
            }
        }
        candidates
    }
}

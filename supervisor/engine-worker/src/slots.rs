//! Which sequence stands in which slot, what can be reused, and what moves.
//! Pure: it says which copies and exchanges to make, the batch makes them.
//!
//! A slot that no request owns keeps its tokens as a reusable prefix until the
//! place is needed; the longest unused goes first. A request takes over the
//! slot that holds its beginning if little would be lost by it, else it gets a
//! copy, so that a common system prompt serves everybody.
//!
//! Running sequences are kept side by side from slot 0 on, because llama.cpp
//! computes only neighbouring slots in one pass over the weights.

use engine_api::protocol::{Asker, RequestId, TokenId};

use crate::backend::Slot;

/// A shorter common prefix than this is computed again: copying costs more.
const SHORTEST_PREFIX: usize = 16;

/// What stands in one slot.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Tokens whose keys and values are in the cache.
    pub tokens: Vec<TokenId>,
    pub owner: Option<RequestId>,
    /// Whom they were computed for. All of them stand in a prompt or an answer of this
    /// client's, whoever began with the same ones.
    asker: Option<Asker>,
    /// Count of placements when it was last used; orders eviction.
    used: u64,
}

/// All slots of a backend.
#[derive(Debug)]
pub struct Slots {
    places: Vec<Place>,
    /// Grows with every placement.
    clock: u64,
}

/// Something to do to the KV cache, in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Copy { from: Slot, to: Slot },
    Swap { a: Slot, b: Slot },
    Truncate { slot: Slot, length: u32 },
}

/// Where a new request goes and how much of its prompt is there already.
#[derive(Debug, PartialEq, Eq)]
pub struct Placement {
    pub slot: Slot,
    pub reused: usize,
    pub moves: Vec<Move>,
}

impl Slots {
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { places: vec![Place::default(); count], clock: 0 }
    }

    #[must_use]
    pub fn get(&self, slot: Slot) -> &Place {
        &self.places[slot]
    }

    /// Notes that `tokens` were computed into `slot`.
    pub fn extend(&mut self, slot: Slot, tokens: &[TokenId]) {
        self.places[slot].tokens.extend_from_slice(tokens);
    }

    /// Leaves the slot's tokens as a reusable prefix.
    pub fn release(&mut self, slot: Slot) {
        self.places[slot].owner = None;
    }

    /// Forgets all prefixes that are kept for a client.
    #[must_use]
    pub fn forget(&mut self, asker: Asker) -> Vec<Move> {
        let mut moves = Vec::new();
        for (slot, place) in self.places.iter_mut().enumerate() {
            if place.owner.is_none() && place.asker == Some(asker) {
                place.tokens.clear();
                moves.push(Move::Truncate { slot, length: 0 });
            }
        }
        moves
    }

    /// Notes that a slot's content is lost; its owner keeps the place.
    pub fn forget_tokens(&mut self, slot: Slot) {
        self.places[slot].tokens.clear();
    }

    /// The slot that a request owns.
    #[must_use]
    pub fn slot_of(&self, owner: RequestId) -> Option<Slot> {
        self.places.iter().position(|place| place.owner == Some(owner))
    }

    /// Slots that no request owns.
    #[must_use]
    pub fn free(&self) -> usize {
        self.places.iter().filter(|place| place.owner.is_none()).count()
    }

    /// Tokens held for running requests, and as reusable prefixes.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        self.places.iter().fold((0, 0), |(running, kept), place| {
            let tokens = place.tokens.len() as u64;
            if place.owner.is_some() { (running + tokens, kept) } else { (running, kept + tokens) }
        })
    }

    /// Tokens at the beginning of `prompt` that some slot holds. The last token
    /// never counts: its logits are needed.
    #[must_use]
    pub fn reusable(&self, prompt: &[TokenId]) -> usize {
        self.best_match(prompt).map_or(0, |(_, length)| length)
    }

    /// Gives `owner` a slot, or `None` if every slot is owned.
    pub fn place(
        &mut self,
        owner: RequestId,
        asker: Asker,
        prompt: &[TokenId],
        reuse: bool,
    ) -> Option<Placement> {
        let target = self.places.iter().position(|place| place.owner.is_none())?;
        self.clock += 1;
        let found = reuse.then(|| self.best_match(prompt)).flatten();
        let mut moves = Vec::new();
        let reused = match found {
            Some((source, length)) if self.may_take_over(source, length) => {
                if source != target {
                    moves.push(Move::Swap { a: source, b: target });
                    self.places.swap(source, target);
                }
                length
            }
            Some((source, length)) => {
                self.places[source].used = self.clock;
                // The source itself may stand in the way.
                let source = self.make_room(target, source, &mut moves);
                if source != target {
                    moves.push(Move::Copy { from: source, to: target });
                    self.places[target].tokens = self.places[source].tokens.clone();
                }
                length
            }
            None => {
                self.make_room(target, target, &mut moves);
                0
            }
        };
        let place = &mut self.places[target];
        if place.tokens.len() > reused {
            let length = u32::try_from(reused).expect("a window is shorter than 2^32 tokens");
            moves.push(Move::Truncate { slot: target, length });
            place.tokens.truncate(reused);
        }
        place.owner = Some(owner);
        place.asker = Some(asker);
        place.used = self.clock;
        Some(Placement { slot: target, reused, moves })
    }

    /// Exchanges that bring the slots of decoding requests side by side at the
    /// beginning.
    pub fn pack(&mut self, is_decoding: impl Fn(RequestId) -> bool) -> Vec<Move> {
        let decodes = |place: &Place| place.owner.is_some_and(&is_decoding);
        let mut moves = Vec::new();
        loop {
            let hole = self.places.iter().position(|place| !decodes(place));
            let last = self.places.iter().rposition(decodes);
            match (hole, last) {
                (Some(hole), Some(last)) if hole < last => {
                    self.places.swap(hole, last);
                    moves.push(Move::Swap { a: hole, b: last });
                }
                _ => return moves,
            }
        }
    }

    /// The slot with the longest useful common prefix, and its length. Of equal
    /// ones a free slot, then the one with the fewest tokens beyond.
    fn best_match(&self, prompt: &[TokenId]) -> Option<(Slot, usize)> {
        let most = prompt.len().saturating_sub(1);
        self.places
            .iter()
            .enumerate()
            .map(|(slot, place)| (slot, common_prefix(&place.tokens, prompt).min(most)))
            .filter(|&(_, length)| length >= SHORTEST_PREFIX)
            .max_by_key(|&(slot, length)| {
                let place = &self.places[slot];
                (length, place.owner.is_none(), std::cmp::Reverse(place.tokens.len()))
            })
    }

    /// Whether a free slot may be continued in place: most of it is reused, or
    /// there is no empty slot to copy to.
    fn may_take_over(&self, slot: Slot, length: usize) -> bool {
        let place = &self.places[slot];
        place.owner.is_none() && place.tokens.len() - length <= length / 8 + SHORTEST_PREFIX
    }

    /// Empties `target` for a new sequence. What it holds moves into an empty
    /// slot or over the longest unused prefix, unless it is that itself.
    /// Returns where the content of `source` stands afterwards.
    fn make_room(&mut self, target: Slot, source: Slot, moves: &mut Vec<Move>) -> Slot {
        if self.places[target].tokens.is_empty() {
            return source;
        }
        let victim = self
            .places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.owner.is_none())
            .min_by_key(|(_, place)| (!place.tokens.is_empty(), place.used))
            .map_or(target, |(slot, _)| slot);
        if victim == target {
            return source;
        }
        moves.push(Move::Swap { a: target, b: victim });
        self.places.swap(target, victim);
        match source {
            _ if source == target => victim,
            _ if source == victim => target,
            elsewhere => elsewhere,
        }
    }
}

/// How many tokens two sequences begin with in common.
#[must_use]
pub fn common_prefix(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(ids: impl IntoIterator<Item = u32>) -> Vec<TokenId> {
        ids.into_iter().map(TokenId).collect()
    }

    const ALICE: Asker = Asker(1);

    /// Does what a backend would do, so that the bookkeeping can be checked.
    struct Cache(Vec<Vec<TokenId>>);

    impl Cache {
        fn apply(&mut self, moves: &[Move]) {
            for &step in moves {
                match step {
                    Move::Copy { from, to } => self.0[to] = self.0[from].clone(),
                    Move::Swap { a, b } => self.0.swap(a, b),
                    Move::Truncate { slot, length } => self.0[slot].truncate(length as usize),
                }
            }
        }
    }

    fn run(slots: &mut Slots, cache: &mut Cache, id: u64, prompt: &[TokenId]) -> Placement {
        let placement = slots.place(RequestId(id), ALICE, prompt, true).unwrap();
        cache.apply(&placement.moves);
        let rest = &prompt[placement.reused..];
        slots.extend(placement.slot, rest);
        cache.0[placement.slot].extend_from_slice(rest);
        placement
    }

    #[test]
    fn a_conversation_continues_where_it_stands() {
        let (mut slots, mut cache) = (Slots::new(3), Cache(vec![Vec::new(); 3]));
        let first = tokens(0..100);
        let slot = run(&mut slots, &mut cache, 1, &first).slot;
        slots.release(slot);
        let second = tokens(0..150);
        let placement = run(&mut slots, &mut cache, 2, &second);
        assert_eq!((placement.reused, placement.moves.as_slice()), (100, [].as_slice()));
    }

    #[test]
    fn a_common_beginning_is_copied_and_stays() {
        let (mut slots, mut cache) = (Slots::new(3), Cache(vec![Vec::new(); 3]));
        let a = tokens((0..50).chain(1000..1100));
        let b = tokens((0..50).chain(2000..2100));
        let slot = run(&mut slots, &mut cache, 1, &a).slot;
        slots.release(slot);
        assert_eq!(run(&mut slots, &mut cache, 2, &b).reused, 50);
        assert_eq!(slots.reusable(&a), a.len() - 1);
    }

    #[test]
    fn the_longest_unused_prefix_makes_room() {
        let (mut slots, mut cache) = (Slots::new(2), Cache(vec![Vec::new(); 2]));
        let prompts: Vec<_> = (0..3).map(|n| tokens(n * 1000..n * 1000 + 50)).collect();
        for (id, prompt) in (0..).zip(&prompts) {
            let slot = run(&mut slots, &mut cache, id, prompt).slot;
            slots.release(slot);
        }
        assert_eq!(slots.reusable(&prompts[0]), 0);
        assert_eq!(slots.reusable(&prompts[1]), 49);
        assert_eq!(slots.reusable(&prompts[2]), 49);
    }

    #[test]
    fn no_slot_is_given_twice() {
        let mut slots = Slots::new(1);
        assert!(slots.place(RequestId(1), ALICE, &tokens(0..9), true).is_some());
        assert_eq!(slots.place(RequestId(2), ALICE, &tokens(0..9), true), None);
    }

    proptest! {
        /// Requests come and go in any order; at every moment the cache holds
        /// what the bookkeeping says, and owned slots stand side by side.
        #[test]
        fn bookkeeping_and_cache_agree(
            steps in prop::collection::vec((0u32..4, 1u32..60, any::<bool>()), 1..60),
            forget in any::<u8>(),
        ) {
            let (mut slots, mut cache) = (Slots::new(4), Cache(vec![Vec::new(); 4]));
            for (id, (family, length, finish)) in (0u64..).zip(steps) {
                let prompt = tokens((0..length).map(|i| if i < 30 { i } else { family * 1000 + i }));
                let asker = Asker(family.into());
                if id % 16 == u64::from(forget % 16) {
                    cache.apply(&slots.forget(asker));
                    // What else begins with it is somebody else's.
                    let theirs = |slot: &Slot| slots.get(*slot).tokens.get(30) == prompt.get(30);
                    prop_assert!(
                        length <= 30 || (0..4).filter(theirs).all(|slot| slots.get(slot).owner.is_some())
                    );
                }
                if let Some(placement) = slots.place(RequestId(id), asker, &prompt, true) {
                    cache.apply(&placement.moves);
                    prop_assert!(placement.reused < prompt.len());
                    let rest = &prompt[placement.reused..];
                    slots.extend(placement.slot, rest);
                    cache.0[placement.slot].extend_from_slice(rest);
                    prop_assert_eq!(&cache.0[placement.slot], &prompt);
                }
                if finish && let Some(owned) = (0..4).rfind(|&slot| slots.get(slot).owner.is_some()) {
                    slots.release((owned + length as usize) % (owned + 1));
                    cache.apply(&slots.pack(|_| true));
                }
                for slot in 0..4 {
                    prop_assert_eq!(&slots.get(slot).tokens, &cache.0[slot]);
                }
            }
            cache.apply(&slots.pack(|_| true));
            let owned: Vec<bool> = (0..4).map(|slot| slots.get(slot).owner.is_some()).collect();
            prop_assert!(owned.is_sorted_by(|a, b| a >= b));
        }
    }
}

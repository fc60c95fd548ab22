//! Context and users that fit into a board's memory.
//!
//! CPU and GPU of a Jetson share one memory, so a plan leaves the system its
//! part and adds up the rest: weights, the runtime's own working memory, and a
//! window of KV cache for each sequence.

use jetpack::Bytes;
use serde::Serialize;

/// Fixed part of what the system keeps: a headless Jetson uses 1.3 to 1.5 GB
/// when idle, and the supervisor and its database need some.
const SYSTEM: Bytes = Bytes::from_kib(1536 * 1024);
/// And this part of all memory, for page cache and fragmentation.
const SYSTEM_SHARE: u64 = 20;

/// Below this a window holds little more than one file of code; fewer users
/// are better than that.
const GOOD_CONTEXT: u32 = 4096;
/// Below this it holds no conversation, unless the user asks for it.
const LEAST_CONTEXT: u32 = 2048;

/// What a backend needs to serve a model, before sizes are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) weights: u64,
    /// The runtime itself: contexts, kernels, activations.
    pub(super) working: u64,
    pub(super) kv_per_token: u64,
    /// Windows are whole multiples of this.
    pub(super) unit: u32,
    /// What is wanted if it fits and nobody asks otherwise.
    pub(super) context: u32,
    pub(super) users: u16,
    /// Windows kept beside those of the users, for prefixes; fewer will do.
    pub(super) spare: u16,
}

/// The sizes that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Tokens in one request's window.
    pub context: u32,
    /// Requests decoded at once.
    pub users: u16,
    /// Windows kept for prefixes.
    pub spare: u16,
    pub kv_bytes: Bytes,
}

/// Nothing fits: what one user with the smallest window needs, or how many
/// users would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) needed: Bytes,
    pub(super) context: u32,
    /// Users for whom that window fits; 0 if not even for one.
    pub(super) users: u16,
}

/// What of a board's memory an engine may take.
#[must_use]
pub fn budget(memory: Bytes) -> Bytes {
    memory.saturating_sub(SYSTEM + Bytes::new(memory.get() / SYSTEM_SHARE))
}

impl Demand {
    /// The largest sizes within `budget` that grant what was asked for.
    pub(super) fn fit(
        &self,
        budget: Bytes,
        context: Option<u32>,
        users: Option<u16>,
    ) -> Result<Sizes, TooLarge> {
        let candidates = self.candidates(context, users);
        for (context, users) in candidates.iter().copied() {
            let windows = self.windows(budget, context);
            if windows >= u64::from(users) {
                let spare = u64::from(self.spare).min(windows - u64::from(users));
                let spare = u16::try_from(spare).expect("not more than was asked for");
                let kv_bytes = self.kv(context, u64::from(users) + u64::from(spare));
                return Ok(Sizes { context, users, spare, kv_bytes: Bytes::new(kv_bytes) });
            }
        }
        let (context, users) = candidates.last().copied().unwrap_or((self.context, 1));
        Err(TooLarge {
            needed: Bytes::new(self.fixed().saturating_add(self.kv(context, users.into()))),
            context,
            users: u16::try_from(self.windows(budget, context)).unwrap_or(u16::MAX),
        })
    }

    /// Context and users in the order of preference: the whole window for all,
    /// then shorter windows, then fewer users, then windows that are too short.
    fn candidates(&self, context: Option<u32>, users: Option<u16>) -> Vec<(u32, u16)> {
        let contexts = context.map_or_else(|| halvings(self.context), |context| vec![context]);
        let users: Vec<u16> =
            users.map_or_else(|| (1..=self.users).rev().collect(), |users| vec![users]);
        let (good, short): (Vec<u32>, Vec<u32>) =
            contexts.iter().partition(|context| **context >= GOOD_CONTEXT);
        let (good, short) = if good.is_empty() { (short, good) } else { (good, short) };
        let all = users.iter().take(1).flat_map(|users| good.iter().map(|at| (*at, *users)));
        let fewer = users.iter().skip(1).flat_map(|users| good.last().map(|at| (*at, *users)));
        let shorter = short.iter().flat_map(|at| users.iter().map(|users| (*at, *users)));
        all.chain(fewer).chain(shorter).collect()
    }

    /// Windows of this length that fit beside the weights.
    fn windows(&self, budget: Bytes, context: u32) -> u64 {
        let room = budget.get().saturating_sub(self.fixed());
        room.checked_div(self.kv(context, 1)).unwrap_or(0)
    }

    /// What is needed before the first window.
    pub(super) fn fixed(&self) -> u64 {
        self.weights.saturating_add(self.working)
    }

    fn kv(&self, context: u32, windows: u64) -> u64 {
        let tokens = u64::from(context).next_multiple_of(self.unit.into()).saturating_mul(windows);
        tokens.saturating_mul(self.kv_per_token)
    }
}

/// `most` and its halves, down to the least that holds a conversation.
fn halvings(most: u32) -> Vec<u32> {
    let halves = std::iter::successors(Some(most), |context| Some(context / 2));
    let mut contexts: Vec<u32> = halves.take_while(|context| *context >= LEAST_CONTEXT).collect();
    if contexts.is_empty() {
        contexts.push(most);
    }
    contexts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEMAND: Demand = Demand {
        weights: 1000,
        working: 100,
        kv_per_token: 1,
        unit: 256,
        context: 16384,
        users: 4,
        spare: 2,
    };

    fn fit(room: u64) -> Option<(u32, u16, u16)> {
        let sizes = DEMAND.fit(Bytes::new(1100 + room), None, None).ok()?;
        Some((sizes.context, sizes.users, sizes.spare))
    }

    #[test]
    fn windows_shrink_before_users_go_and_users_go_before_windows_are_too_short() {
        assert_eq!(fit(6 * 16384), Some((16384, 4, 2)));
        assert_eq!(fit(5 * 16384), Some((16384, 4, 1)));
        assert_eq!(fit(4 * 16384 - 1), Some((8192, 4, 2)));
        assert_eq!(fit(4 * 4096), Some((4096, 4, 0)));
        assert_eq!(fit(4 * 4096 - 1), Some((4096, 3, 0)));
        assert_eq!(fit(4096), Some((4096, 1, 0)));
        assert_eq!(fit(4095), Some((2048, 1, 0)));
        assert_eq!(fit(2047), None);
    }

    #[test]
    fn what_was_asked_for_is_granted_or_refused() {
        let fit = |context, users| DEMAND.fit(Bytes::new(1100 + 20_000), context, users);
        assert_eq!(fit(Some(1000), Some(3)).unwrap().kv_bytes, Bytes::new(5 * 1024));
        assert_eq!(fit(None, Some(9)).unwrap().context, 2048);
        let refused = fit(Some(16384), Some(2)).unwrap_err();
        let needed = Bytes::new(1100 + 2 * 16384);
        assert_eq!(refused, TooLarge { needed, context: 16384, users: 1 });
    }

    #[test]
    fn the_system_keeps_its_part() {
        assert_eq!(budget(Bytes::from_kib(7_789_952)).to_string(), "5.6 GiB");
        assert_eq!(budget(Bytes::new(1)), Bytes::new(0));
    }

    proptest! {
        #[test]
        fn no_size_exceeds_the_budget(
            budget in any::<u64>(), weights in any::<u64>(), working in any::<u64>(),
            kv_per_token in any::<u64>(), context in 1u32.., users in 1u16..300, spare in 0u16..9,
            wish_context in proptest::option::of(1u32..), wish_users in proptest::option::of(1u16..),
        ) {
            let demand =
                Demand { weights, working, kv_per_token, unit: 64, context, users, spare };
            if let Ok(sizes) = demand.fit(Bytes::new(budget), wish_context, wish_users) {
                let needed = u128::from(weights) + u128::from(working)
                    + u128::from(sizes.kv_bytes.get());
                prop_assert!(needed <= u128::from(budget));
                prop_assert!(wish_context.is_none_or(|context| sizes.context == context));
                prop_assert!(wish_users.is_none_or(|users| sizes.users == users));
                prop_assert!(sizes.users > 0);
            }
        }
    }
}

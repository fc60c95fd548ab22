//! From logits to the next token. Pure: the same logits, history, settings and
//! position always give the same token, whatever was drawn before.
//!
//! Order of the filters, as in llama.cpp: grammar, bias, penalties, top-k, top-p,
//! min-p, temperature, draw. Only the draw is random, and its only inputs are the
//! seed and the position, so an answer that is taken up again in the middle
//! goes on with the draws it would have had.

use std::borrow::Cow;

use engine_api::protocol::{Sampling, TokenId};

/// Candidates kept when `top_k` is off. Beyond this many, a token's share is
/// far below what a draw with 53 bits can meet.
const MOST_CANDIDATES: usize = 1024;

/// One vocabulary entry that is still in the running.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    id: u32,
    logit: f32,
}

/// Chooses the token after `history`, which is everything before it, prompt
/// included. `logits` has one entry for each vocabulary entry; `ends` lists the
/// tokens that end an answer. `allowed` has a bit for each token that a grammar
/// allows, 32 in a word; without a grammar there is none. `None` if no logit is a
/// number to go by.
#[must_use]
pub fn choose(
    logits: &[f32],
    history: &[TokenId],
    ends: &[TokenId],
    sampling: &Sampling,
    allowed: Option<&[u32]>,
) -> Option<TokenId> {
    let logits = adjust(logits, history, ends, sampling);
    if sampling.temperature <= 0.0 {
        return match allowed {
            None => most_likely(&logits),
            Some(allowed) => top_k(only(&logits, allowed), 1).first().map(|c| TokenId(c.id)),
        };
    }
    let mut candidates = match allowed {
        None => top_k((0..).zip(logits.iter().copied()), sampling.top_k),
        Some(allowed) => top_k(only(&logits, allowed), sampling.top_k),
    };
    let weights = weigh(&mut candidates, sampling);
    draw(&candidates, &weights, uniform(sampling.seed, history.len()))
}

/// The entries of `logits` whose bit is set in `allowed`.
fn only(logits: &[f32], allowed: &[u32]) -> impl Iterator<Item = (u32, f32)> {
    let words = (0u32..).step_by(32).zip(allowed);
    let ids = words.flat_map(|(first, word)| {
        let mut left = *word;
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (bit < u32::BITS).then(|| first + bit)
        })
    });
    ids.map_while(|id| Some((id, *logits.get(id as usize)?)))
}

/// Bias and penalties; copies only where there are any.
fn adjust<'a>(
    logits: &'a [f32],
    history: &[TokenId],
    ends: &[TokenId],
    sampling: &Sampling,
) -> Cow<'a, [f32]> {
    let biased = sampling.ignore_eos || !sampling.logit_bias.is_empty();
    let penalised = sampling.repeat_penalty != 1.0
        || sampling.presence_penalty != 0.0
        || sampling.frequency_penalty != 0.0;
    let mut logits = Cow::Borrowed(logits);
    if biased {
        apply_bias(logits.to_mut(), ends, sampling);
    }
    if penalised {
        apply_penalties(logits.to_mut(), history, sampling);
    }
    logits
}

fn apply_bias(logits: &mut [f32], ends: &[TokenId], sampling: &Sampling) {
    for (token, bias) in &sampling.logit_bias {
        if let Some(logit) = logits.get_mut(token.0 as usize) {
            *logit += bias;
        }
    }
    if sampling.ignore_eos {
        for end in ends {
            if let Some(logit) = logits.get_mut(end.0 as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

fn apply_penalties(logits: &mut [f32], history: &[TokenId], sampling: &Sampling) {
    let repeat = if sampling.repeat_penalty > 0.0 { sampling.repeat_penalty } else { 1.0 };
    let window = history.len().saturating_sub(sampling.repeat_last_n as usize);
    let mut recent = history[window..].to_vec();
    recent.sort_unstable();
    for run in recent.chunk_by(|a, b| a == b) {
        let Some(logit) = logits.get_mut(run[0].0 as usize) else { continue };
        if *logit <= 0.0 {
            *logit *= repeat;
        } else {
            *logit /= repeat;
        }
        #[expect(clippy::cast_precision_loss, reason = "a window holds far fewer than 2^24 tokens")]
        let count = run.len() as f32;
        *logit -= count * sampling.frequency_penalty + sampling.presence_penalty;
    }
}

/// The greatest logit; of equal ones the first. NaN never wins.
fn most_likely(logits: &[f32]) -> Option<TokenId> {
    let greatest = greatest(logits);
    if greatest == f32::NEG_INFINITY {
        return None;
    }
    logits.iter().position(|&logit| logit == greatest).map(token)
}

/// Greatest value, in a form the compiler turns into SIMD.
fn greatest(logits: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The `k` most likely candidates, most likely first, ties by id; all (up to
/// [`MOST_CANDIDATES`]) if `k` is 0.
fn top_k(entries: impl Iterator<Item = (u32, f32)>, k: u32) -> Vec<Candidate> {
    let k = match k as usize {
        0 => MOST_CANDIDATES,
        k => k.min(MOST_CANDIDATES),
    };
    let mut pool: Vec<Candidate> = Vec::with_capacity(4 * k);
    let mut bar = f32::NEG_INFINITY;
    for (id, logit) in entries {
        if logit > bar {
            pool.push(Candidate { id, logit });
            if pool.len() == 4 * k {
                bar = keep_greatest(&mut pool, k);
            }
        }
    }
    if pool.len() > k {
        keep_greatest(&mut pool, k);
    }
    pool.sort_unstable_by(by_likelihood);
    pool
}

/// Keeps the `k` most likely of more than `k` candidates and returns the least
/// likely logit among them. A later equal logit loses the tie by its greater id.
fn keep_greatest(pool: &mut Vec<Candidate>, k: usize) -> f32 {
    let (_, kth, _) = pool.select_nth_unstable_by(k - 1, by_likelihood);
    let bar = kth.logit;
    pool.truncate(k);
    bar
}

fn by_likelihood(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Applies top-p, min-p and temperature; returns a weight for each candidate
/// that remains. At least one remains.
fn weigh(candidates: &mut Vec<Candidate>, sampling: &Sampling) -> Vec<f64> {
    let Some(first) = candidates.first() else { return Vec::new() };
    let best = f64::from(first.logit);
    let share = |candidate: &Candidate| (f64::from(candidate.logit) - best).exp();

    if sampling.top_p < 1.0 {
        let total: f64 = candidates.iter().map(share).sum();
        let enough = f64::from(sampling.top_p) * total;
        let mut sum = 0.0;
        let keep = candidates.iter().position(|candidate| {
            sum += share(candidate);
            sum >= enough
        });
        candidates.truncate(keep.map_or(candidates.len(), |last| last + 1).max(1));
    }
    if sampling.min_p > 0.0 {
        let least = f64::from(sampling.min_p);
        let keep = candidates.partition_point(|candidate| share(candidate) >= least);
        candidates.truncate(keep.max(1));
    }
    let temperature = f64::from(sampling.temperature);
    candidates
        .iter()
        .map(|candidate| ((f64::from(candidate.logit) - best) / temperature).exp())
        .collect()
}

/// The candidate whose share of the weights holds `point`, from 0 to 1.
fn draw(candidates: &[Candidate], weights: &[f64], point: f64) -> Option<TokenId> {
    let total: f64 = weights.iter().sum();
    let mut left = point * total;
    let hit = candidates.iter().zip(weights).find(|(_, weight)| {
        left -= *weight;
        left < 0.0
    });
    let hit = hit.map(|(candidate, _)| candidate).or(candidates.last())?;
    Some(TokenId(hit.id))
}

/// A number in [0, 1) from seed and position alone: two rounds of SplitMix64
/// (Steele, Lea, Flood 2014).
fn uniform(seed: u64, position: usize) -> f64 {
    let mixed = mix(mix(seed).wrapping_add(position as u64));
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact in an f64")]
    let numerator = (mixed >> 11) as f64;
    numerator / (1u64 << 53) as f64
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Natural log-probability of `chosen` and of the `top` most likely entries,
/// over the whole vocabulary.
#[must_use]
pub fn logprobs(logits: &[f32], chosen: TokenId, top: usize) -> (f32, Vec<(TokenId, f32)>) {
    let best = f64::from(greatest(logits));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - best).exp()).sum();
    let normaliser = best + sum.ln();
    #[expect(clippy::cast_possible_truncation, reason = "f32 is the precision reported")]
    let of = |logit: f32| (f64::from(logit) - normaliser) as f32;
    let chosen = of(logits.get(chosen.0 as usize).copied().unwrap_or(f32::NEG_INFINITY));
    let top = match u32::try_from(top) {
        Ok(top @ 1..) => top_k((0..).zip(logits.iter().copied()), top),
        _ => Vec::new(),
    };
    (chosen, top.into_iter().map(|c| (TokenId(c.id), of(c.logit))).collect())
}

fn token(index: usize) -> TokenId {
    TokenId(u32::try_from(index).expect("a vocabulary has fewer than 2^32 entries"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampling() -> Sampling {
        Sampling { top_k: 0, top_p: 1.0, min_p: 0.0, temperature: 1.0, ..Sampling::default() }
    }

    fn pick(logits: &[f32], sampling: &Sampling, position: usize) -> u32 {
        choose(logits, &vec![TokenId(0); position], &[], sampling, None).unwrap().0
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_greatest() {
        let greedy = Sampling { temperature: 0.0, ..sampling() };
        assert_eq!(pick(&[0.0, 3.0, 3.0, f32::NAN], &greedy, 9), 1);
    }

    #[test]
    fn a_draw_depends_on_seed_and_position_alone() {
        let logits: Vec<f32> = (0..500u16).map(|i| f32::from(i % 7)).collect();
        let a = Sampling { seed: 1, ..sampling() };
        let b = Sampling { seed: 2, ..sampling() };
        let run = |s: &Sampling| (0..64).map(|p| pick(&logits, s, p)).collect::<Vec<_>>();
        let backwards: Vec<_> = (0..64).rev().map(|p| pick(&logits, &a, p)).collect();
        assert_eq!(run(&a), backwards.into_iter().rev().collect::<Vec<_>>());
        assert_ne!(run(&a), run(&b));
    }

    #[test]
    fn draws_follow_the_weights() {
        let logits = [0.0f32, 0.0, (2.0f32).ln()];
        let hits = (0..4_000).filter(|&p| pick(&logits, &sampling(), p) == 2).count();
        assert!((1_900..2_100).contains(&hits), "{hits} of 4000, expected half");
    }

    #[test]
    fn bias_forbids_and_forces() {
        let forbid = Sampling {
            logit_bias: vec![(TokenId(1), f32::NEG_INFINITY), (TokenId(9), 1.0)],
            temperature: 0.0,
            ..sampling()
        };
        assert_eq!(pick(&[0.0, 5.0, 1.0], &forbid, 0), 2);
    }

    #[test]
    fn ignore_eos_never_ends() {
        let ignore = Sampling { ignore_eos: true, temperature: 0.0, ..sampling() };
        assert_eq!(choose(&[0.0, 9.0], &[], &[TokenId(1)], &ignore, None), Some(TokenId(0)));
    }

    #[test]
    fn penalties_look_back_only_as_far_as_asked() {
        let penal =
            Sampling { repeat_penalty: 2.0, repeat_last_n: 1, temperature: 0.0, ..sampling() };
        let history = [TokenId(0), TokenId(1)];
        let chosen = choose(&[4.0, 5.0, 3.0], &history, &[], &penal, None);
        assert_eq!(chosen, Some(TokenId(0)));
    }

    #[test]
    fn min_p_and_top_p_drop_the_tail() {
        let logits = [0.0f32, -1.0, -5.0, -9.0];
        let narrow = Sampling { min_p: 0.2, ..sampling() };
        assert!((0..1_000).all(|p| pick(&logits, &narrow, p) <= 1));
        let nucleus = Sampling { top_p: 0.5, ..sampling() };
        assert!((0..1_000).all(|p| pick(&logits, &nucleus, p) == 0));
    }

    #[test]
    fn without_any_number_there_is_no_token() {
        let greedy = Sampling { temperature: 0.0, ..sampling() };
        for logits in [[f32::NAN; 3], [f32::NEG_INFINITY; 3]] {
            assert_eq!(choose(&logits, &[], &[], &greedy, None), None);
            assert_eq!(choose(&logits, &[], &[], &sampling(), None), None);
        }
    }

    #[test]
    fn logprobs_sum_to_one() {
        let logits = [1.0f32, 2.0, 3.0];
        let (chosen, top) = logprobs(&logits, TokenId(0), 3);
        let total: f32 = top.iter().map(|(_, l)| l.exp()).sum();
        assert!((total - 1.0).abs() < 1e-5);
        assert_eq!(top[0].0, TokenId(2));
        assert!((chosen - top[2].1).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn top_k_equals_a_full_sort(
            logits in prop::collection::vec(-50f32..50.0, 1..3_000),
            k in 1u32..60,
        ) {
            let mut sorted: Vec<Candidate> =
                (0..).zip(&logits).map(|(id, &logit)| Candidate { id, logit }).collect();
            sorted.sort_by(by_likelihood);
            sorted.truncate(k as usize);
            prop_assert_eq!(top_k((0..).zip(logits.iter().copied()), k), sorted);
        }

        #[test]
        fn a_mask_is_as_if_all_else_were_impossible(
            logits in prop::collection::vec(-9f32..9.0, 1..200),
            words in prop::collection::vec(any::<u32>(), 7), seed in any::<u64>(),
            temperature in prop::sample::select(vec![0.0f32, 0.7, 2.0]), top_k in 0u32..50,
        ) {
            let sampling = Sampling { temperature, top_k, seed, ..Sampling::default() };
            let is_allowed = |id: usize| words[id / 32] >> (id % 32) & 1 == 1;
            let masked: Vec<f32> = (0..).zip(&logits)
                .map(|(id, logit)| if is_allowed(id) { *logit } else { f32::NEG_INFINITY })
                .collect();
            prop_assert_eq!(
                choose(&logits, &[], &[], &sampling, Some(&words)),
                choose(&masked, &[], &[], &sampling, None)
            );
        }

        #[test]
        fn any_logits_and_settings_choose_a_token_of_the_vocabulary(
            logits in prop::collection::vec(any::<f32>(), 1..200),
            temperature in any::<f32>(), top_p in any::<f32>(), min_p in any::<f32>(),
            repeat_penalty in any::<f32>(), top_k in any::<u32>(), seed in any::<u64>(),
        ) {
            let size = u32::try_from(logits.len()).unwrap();
            let sampling = Sampling {
                temperature, top_p, min_p, repeat_penalty, top_k, seed, ..Sampling::default()
            };
            let chosen = choose(&logits, &[TokenId(0)], &[], &sampling, None);
            prop_assert!(chosen.is_none_or(|chosen| chosen.0 < size));
        }
    }
}

//! Two scores become one. Pure.
//!
//! Neither says anything by itself, so each is taken as a share of the best of its
//! kind among all that were found, and then they are mixed.

/// Share of the meaning. It was chosen on the packages of `scripts/bench memory
/// retrieval --part tune`; there, .4 and .5 are nearly as good.
const MEANING: f64 = 0.45;

/// What is known of a chunk that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scores {
    /// BM25, if it has any of the words.
    pub(super) words: Option<f64>,
    pub(super) meaning: Meaning,
}

/// How near a chunk is in meaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    /// The cosine.
    Near(f64),
    /// Its text has no vector yet, so that its words alone must tell.
    Unknown,
}

impl Meaning {
    pub(super) fn cosine(self) -> Option<f64> {
        match self {
            Self::Near(cosine) => Some(cosine),
            Self::Unknown => None,
        }
    }
}

/// One score for each, from 0 to 1.
pub(super) fn fuse(found: &[Scores]) -> Vec<f64> {
    let most = |scores: &mut dyn Iterator<Item = f64>| scores.fold(0.0, f64::max);
    let words = most(&mut found.iter().filter_map(|scores| scores.words));
    let meaning = most(&mut found.iter().filter_map(|scores| scores.meaning.cosine()));
    let share = |score: f64, most: f64| if most > 0.0 { score.max(0.0) / most } else { 0.0 };
    let one = |scores: &Scores| {
        let words = share(scores.words.unwrap_or_default(), words);
        let meaning = scores.meaning.cosine().map_or(words, |cosine| share(cosine, meaning));
        MEANING * meaning + (1.0 - MEANING) * words
    };
    found.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scores(words: Option<f64>, meaning: Meaning) -> Scores {
        Scores { words, meaning }
    }

    #[test]
    fn both_count_as_shares_of_the_best() {
        let found = [
            scores(Some(10.0), Meaning::Near(0.8)),
            scores(Some(5.0), Meaning::Near(0.4)),
            scores(None, Meaning::Near(0.4)),
            scores(Some(5.0), Meaning::Near(-0.1)),
            scores(Some(5.0), Meaning::Unknown),
        ];
        let fused = fuse(&found);
        let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(near(fused[0], 1.0) && near(fused[1], 0.5), "{fused:?}");
        assert!(near(fused[2], MEANING / 2.0), "{fused:?}");
        assert!(near(fused[3], (1.0 - MEANING) / 2.0), "{fused:?}");
        assert!(near(fused[4], 0.5), "what has no vector is judged by its words: {fused:?}");
    }

    #[test]
    fn what_is_alone_is_the_best_of_its_kind() {
        assert!(fuse(&[]).is_empty());
        assert_eq!(fuse(&[scores(Some(3.0), Meaning::Unknown)]), [1.0]);
        assert_eq!(fuse(&[scores(None, Meaning::Near(0.1))]), [MEANING]);
        assert_eq!(fuse(&[scores(None, Meaning::Near(-0.1))]), [0.0]);
    }

    proptest! {
        #[test]
        fn better_in_both_is_never_worse(
            all in prop::collection::vec((0.0f64..50.0, -1.0f64..1.0), 2..30)
        ) {
            let found: Vec<_> =
                all.iter().map(|(words, near)| scores(Some(*words), Meaning::Near(*near))).collect();
            let fused = fuse(&found);
            for (one, at) in all.iter().zip(&fused) {
                prop_assert!((-1e-9..=1.0 + 1e-9).contains(at));
                for (other, there) in all.iter().zip(&fused) {
                    prop_assert!(!(one.0 >= other.0 && one.1 >= other.1) || at >= &(there - 1e-9));
                }
            }
        }
    }
}

//! Two scores become one. Pure.
//!
//! Each kind of score is stretched to 0 … 1 between the worst and the best that was
//! found, because neither says anything by itself; then they are mixed. What only one
//! of the two has found gets 0 of the other.

/// Share of the meaning. It was chosen on Python and Rust packages whose comments were
/// taken away and asked for: see `scripts/bench memory`.
const MEANING: f64 = 0.6;

/// What is known of a chunk that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scores {
    /// BM25, if any word was found.
    pub(super) words: Option<f64>,
    pub(super) meaning: Meaning,
}

/// How near a chunk is in meaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    /// The cosine.
    Near(f64),
    /// Further than all of those that were looked at.
    Far,
    /// Its text has no vector yet, so that its words alone must tell.
    Unknown,
}

/// One score for each, from 0 to 1.
pub(super) fn fuse(found: &[Scores]) -> Vec<f64> {
    let words = Range::of(found.iter().filter_map(|scores| scores.words));
    let near = |scores: &Scores| match scores.meaning {
        Meaning::Near(cosine) => Some(cosine),
        Meaning::Far | Meaning::Unknown => None,
    };
    let meaning = Range::of(found.iter().filter_map(near));
    let one = |scores: &Scores| {
        let words = scores.words.map_or(0.0, |score| words.stretch(score));
        let meaning = match scores.meaning {
            Meaning::Near(cosine) => meaning.stretch(cosine),
            Meaning::Far => 0.0,
            Meaning::Unknown => words,
        };
        MEANING * meaning + (1.0 - MEANING) * words
    };
    found.iter().map(one).collect()
}

struct Range {
    least: f64,
    most: f64,
}

impl Range {
    fn of(scores: impl Iterator<Item = f64>) -> Self {
        let none = Self { least: f64::INFINITY, most: f64::NEG_INFINITY };
        scores.fold(none, |range, score| Self {
            least: range.least.min(score),
            most: range.most.max(score),
        })
    }

    fn stretch(&self, score: f64) -> f64 {
        let width = self.most - self.least;
        if width > 0.0 { (score - self.least) / width } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scores(words: Option<f64>, meaning: Meaning) -> Scores {
        Scores { words, meaning }
    }

    #[test]
    fn both_count_and_meaning_counts_more() {
        let found = [
            scores(Some(9.0), Meaning::Near(0.7)),
            scores(Some(1.0), Meaning::Near(0.3)),
            scores(None, Meaning::Near(0.5)),
            scores(Some(5.0), Meaning::Far),
            scores(Some(5.0), Meaning::Unknown),
        ];
        let fused = fuse(&found);
        let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
        assert!(near(fused[0], 1.0) && near(fused[1], 0.0), "{fused:?}");
        assert!(near(fused[2], 0.3) && near(fused[3], 0.2), "{fused:?}");
        assert!(near(fused[4], 0.5), "what has no vector is judged by its words: {fused:?}");
    }

    #[test]
    fn what_is_alone_is_the_best_of_its_kind() {
        assert!(fuse(&[]).is_empty());
        assert_eq!(fuse(&[scores(Some(3.0), Meaning::Unknown)]), [1.0]);
        assert_eq!(fuse(&[scores(None, Meaning::Near(-0.1))]), [MEANING]);
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

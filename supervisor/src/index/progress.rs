//! How far the vectors are, and how long they will take. Pure.

use std::time::Duration;

use crate::snapshot;
use crate::store::code::{Coverage, Maker, Standing};

/// Texts after which a rate says something.
const SETTLED: u32 = 8;
/// Share of the newest text in the rate.
const NEWEST: f64 = 0.05;

/// The vectors of indexed texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vectors {
    /// What makes them; `None` if nothing does.
    pub maker: Option<Maker>,
    pub coverage: Coverage,
    /// The one whose vectors are searched: the one before it, until its own are whole.
    pub serving: Option<Maker>,
    pub doing: Doing,
    /// Texts that were timed, as far as it matters.
    timed: u32,
    /// Seconds of one text.
    pace: f64,
}

/// What is done about those that are left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Doing {
    /// Nothing is to be done.
    #[default]
    Nothing,
    Embedding,
    /// Others go first.
    Yielding,
    /// Heat, memory or over-current, in the governor's words.
    Held(String),
    /// The embedder does not work now, for this reason.
    Resting(String),
}

impl Vectors {
    /// They are this one's, so far.
    pub(super) fn is_by(&mut self, maker: &Maker, standing: Standing) {
        if self.maker.as_ref() != Some(maker) {
            *self = Self { maker: Some(maker.clone()), ..Self::default() };
        }
        (self.coverage, self.serving) = (standing.coverage, standing.serving);
        match self.coverage.left {
            0 => self.doing = Doing::Nothing,
            _ if self.doing == Doing::Nothing => self.doing = Doing::Embedding,
            _ => {}
        }
    }

    /// Nothing makes any now, for this reason.
    pub(super) fn is_by_nobody(&mut self, standing: Standing, reason: String) {
        let Standing { coverage, serving } = standing;
        let doing = Doing::Resting(reason);
        *self = Self { coverage, serving, doing, ..Self::default() };
    }

    /// Whether a question's vector is of use.
    #[must_use]
    pub fn can_be_searched(&self) -> bool {
        // Those of the one before it are whole.
        self.serving.is_some() && (self.serving != self.maker || self.coverage.made > 0)
    }

    pub(super) fn made_one_in(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        self.timed = self.timed.saturating_add(1);
        // A mean at first, then one that forgets.
        let share = NEWEST.max(1.0 / f64::from(self.timed));
        self.pace += (time - self.pace) * share;
    }

    /// Without the time in which others go first.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        if self.timed < SETTLED || self.coverage.left == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate of texts far below 2^52")]
        let left = self.coverage.left as f64;
        Duration::try_from_secs_f64(left * self.pace).ok()
    }

    /// As it stands in a document; `None` if nothing makes vectors.
    #[must_use]
    pub fn shown(&self) -> Option<snapshot::IndexVectors> {
        let maker = self.maker.as_ref().or(self.serving.as_ref())?;
        Some(snapshot::IndexVectors {
            model: maker.model.clone(),
            searched: self.serving.as_ref().map(|serving| serving.model.clone()),
            former: self.serving.is_some() && self.serving != self.maker,
            made: self.coverage.made,
            left: self.coverage.left,
            left_s: self.left().map(|left| left.as_secs()),
            state: match self.doing {
                Doing::Nothing => "made",
                Doing::Embedding => "embedding",
                Doing::Yielding => "yielding",
                Doing::Held(_) => "held",
                Doing::Resting(_) => "resting",
            },
            reason: match &self.doing {
                Doing::Held(reason) | Doing::Resting(reason) => Some(reason.clone()),
                Doing::Nothing | Doing::Embedding | Doing::Yielding => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maker(model: &str) -> Maker {
        Maker { identity: [7; 32], model: model.to_owned(), dimension: 384 }
    }

    fn standing(made: u64, left: u64) -> Standing {
        Standing { coverage: Coverage { made, left }, serving: Some(maker("a")) }
    }

    #[test]
    fn the_time_left_follows_the_pace_once_there_is_one() {
        let mut vectors = Vectors::default();
        assert_eq!(vectors.shown(), None);
        vectors.is_by(&maker("a"), standing(2, 100));
        assert_eq!(vectors.doing, Doing::Embedding);
        for _ in 0..SETTLED {
            assert_eq!(vectors.left(), None);
            vectors.made_one_in(Duration::from_millis(200));
        }
        assert_eq!(vectors.left().unwrap().as_secs_f64().round(), 20.0);
        for _ in 0..200 {
            vectors.made_one_in(Duration::from_millis(400));
        }
        assert_eq!(
            vectors.left().unwrap().as_secs_f64().round(),
            40.0,
            "the old pace is forgotten"
        );
        vectors.is_by(&maker("a"), standing(102, 0));
        assert_eq!((vectors.left(), vectors.doing.clone()), (None, Doing::Nothing));
    }

    #[test]
    fn another_embedder_begins_anew() {
        let mut vectors = Vectors::default();
        vectors.is_by(&maker("a"), standing(2, 100));
        (0..SETTLED).for_each(|_| vectors.made_one_in(Duration::from_secs(1)));
        vectors.doing = Doing::Resting("it hurts".to_owned());
        vectors.is_by(&maker("a"), standing(2, 100));
        assert_eq!(vectors.shown().unwrap().reason.as_deref(), Some("it hurts"));
        vectors.is_by(&maker("b"), standing(0, 102));
        assert_eq!((vectors.left(), vectors.shown().unwrap().state), (None, "embedding"));
    }

    #[test]
    fn those_of_the_one_before_are_searched_until_there_are_all() {
        let mut vectors = Vectors::default();
        assert!(!vectors.can_be_searched());
        vectors.is_by(&maker("b"), standing(0, 3));
        assert!(vectors.can_be_searched() && vectors.shown().unwrap().former);
        vectors.is_by(&maker("a"), standing(0, 3));
        assert!(!vectors.can_be_searched() && !vectors.shown().unwrap().former);
        vectors.is_by(&maker("a"), standing(1, 2));
        assert!(vectors.can_be_searched());
        vectors.is_by_nobody(standing(3, 0), "none is chosen".to_owned());
        let shown = vectors.shown().unwrap();
        assert!(vectors.can_be_searched() && shown.former);
        assert_eq!(shown.reason.as_deref(), Some("none is chosen"));
        vectors.is_by_nobody(Standing::default(), "there is none".to_owned());
        assert_eq!(vectors.shown(), None);
    }
}

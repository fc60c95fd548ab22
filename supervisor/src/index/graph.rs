//! What belongs to the best hits of a search, although none of the question's words
//! brought it: definitions that they call, and a few that call them. Pure.
//!
//! ```text
//!  hit ── calls ──► definition      the more definitions a name has, the less each
//!  caller ── calls ──► hit          may be meant; the same for a hit's many callers
//! ```
//!
//! What is added comes after all that was found, so that nothing that was found better
//! loses its place, and takes a few of the last places at most.

use std::collections::BTreeMap;

/// Chunks that are added at most.
pub const MOST_ADDED: usize = 5;
/// Of how many places the last is one for what is added.
const PLACES: usize = 5;
/// Definitions of one name beyond which it says nothing.
pub const MOST_DEFINITIONS: usize = 3;
/// Callers of one definition that are looked at.
pub const MOST_CALLERS: usize = 8;
/// Reasons that are said of one chunk.
const MOST_REASONS: usize = 3;
/// Share of a hit's score that a definition has which it calls; of a caller of it; and of
/// several links together at most.
const CALLED: f64 = 0.5;
const CALLER: f64 = 0.25;
const TOGETHER: f64 = 0.9;

/// How what is added stands to a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    CalledBy,
    Calls,
}

impl Way {
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::CalledBy => "called by",
            Self::Calls => "calls",
        }
    }
}

/// A way from a hit to a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The hit's place in the list.
    pub hit: usize,
    /// The chunk that it leads to, and its text: one that is there twice is added once.
    pub chunk: i64,
    pub text: i64,
    pub way: Way,
    /// What is called.
    pub name: String,
    /// Definitions that the name has.
    pub definitions: usize,
    /// Callers that it has: the others that this one is one of; 1 for a definition.
    pub callers: usize,
}

/// A chunk that is added.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    pub chunk: i64,
    /// Below that of every hit that brought it, and of every hit that stays.
    pub score: f64,
    /// The hit, the way and the name of each reason.
    pub reasons: Vec<(usize, Way, String)>,
}

/// What is added to hits with these scores, best first, of which `limit` are shown. Where
/// the hits leave too few places free, the last of them give up theirs.
#[must_use]
pub fn added(scores: &[f64], texts: &[i64], limit: usize, links: &[Link]) -> Vec<Added> {
    let free = limit.saturating_sub(scores.len());
    let places = (limit / PLACES).max(free.min(limit / 2)).min(MOST_ADDED);
    let mut by_text: BTreeMap<i64, Vec<(f64, &Link)>> = BTreeMap::new();
    for link in links.iter().filter(|link| !texts.contains(&link.text)) {
        let weight = scores.get(link.hit).map_or(0.0, |score| score * share(link));
        if weight > 0.0 {
            by_text.entry(link.text).or_default().push((weight, link));
        }
    }
    let mut all: Vec<_> = by_text.into_values().map(|links| one(scores, links)).collect();
    all.sort_by(|one, other| other.score.total_cmp(&one.score));
    all.truncate(places);
    let stay = scores.len().min(limit - all.len());
    let last = stay.checked_sub(1).map_or(f64::INFINITY, |last| scores[last]);
    all.iter_mut().for_each(|added| added.score = added.score.min(last));
    all
}

/// All links to one text together.
fn one(scores: &[f64], mut links: Vec<(f64, &Link)>) -> Added {
    links.sort_by(|one, other| other.0.total_cmp(&one.0));
    let together: f64 = links.iter().map(|(weight, _)| weight).sum();
    links.truncate(MOST_REASONS);
    let least = links.iter().map(|(_, link)| scores[link.hit]).fold(f64::INFINITY, f64::min);
    Added {
        chunk: links[0].1.chunk,
        score: together.min(least * TOGETHER),
        reasons: links.iter().map(|(_, link)| (link.hit, link.way, link.name.clone())).collect(),
    }
}

/// Share of a hit's score that a link hands on.
fn share(link: &Link) -> f64 {
    let one_of = |count: usize| 1.0 / f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX));
    if link.definitions > MOST_DEFINITIONS || link.callers > MOST_CALLERS {
        return 0.0;
    }
    // A definition that a hit calls, or a caller of it.
    let way = match link.way {
        Way::CalledBy => CALLED,
        Way::Calls => CALLER,
    };
    way * one_of(link.definitions) * one_of(link.callers)
}

/// Languages whose files call each other have one name here.
#[must_use]
pub fn family(language: &str) -> &str {
    match language {
        "cpp" => "c",
        "typescript" | "tsx" => "javascript",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(hit: usize, text: i64, way: Way, definitions: usize, callers: usize) -> Link {
        Link { hit, chunk: text * 10, text, way, name: format!("f{text}"), definitions, callers }
    }

    fn chunks(added: &[Added]) -> Vec<i64> {
        added.iter().map(|added| added.chunk).collect()
    }

    #[test]
    fn what_a_hit_calls_comes_before_its_callers_and_common_names_not_at_all() {
        let links = [
            link(0, 7, Way::Calls, 1, 1),
            link(0, 8, Way::CalledBy, 1, 1),
            link(0, 9, Way::CalledBy, MOST_DEFINITIONS + 1, 1),
            link(1, 6, Way::CalledBy, 3, 1),
        ];
        let added = added(&[1.0, 0.9], &[1, 2], 10, &links);
        assert_eq!(chunks(&added), [80, 70, 60]);
        assert_eq!(added[0].reasons, [(0, Way::CalledBy, "f8".to_owned())]);
        assert!((added[0].score - 0.5).abs() < 1e-9, "{added:?}");
    }

    #[test]
    fn what_several_hits_call_comes_first() {
        let links = [
            link(0, 7, Way::CalledBy, 1, 1),
            link(1, 8, Way::CalledBy, 1, 1),
            link(2, 8, Way::CalledBy, 1, 1),
        ];
        let added = added(&[1.0, 0.9, 0.8], &[1, 2, 3], 10, &links);
        assert_eq!(chunks(&added), [80, 70]);
        assert_eq!(added[0].reasons.len(), 2);
    }

    #[test]
    fn what_was_found_keeps_its_place_and_small_answers_are_left_alone() {
        let scores = [1.0, 0.9, 0.8, 0.7, 0.6];
        let texts = [1, 2, 3, 4, 5];
        let called = |text| link(0, text, Way::CalledBy, 1, 1);
        assert_eq!(chunks(&added(&scores, &texts, 5, &[called(2), called(9)])), [90]);
        assert!(added(&scores[..4], &texts, 4, &[called(9)]).is_empty(), "there is no place");
    }

    fn links() -> impl Strategy<Value = Vec<Link>> {
        let way = prop_oneof![Just(Way::CalledBy), Just(Way::Calls)];
        let one = (0usize..12, 0i64..20, way, 0usize..6, 0usize..12).prop_map(
            |(hit, text, way, definitions, callers)| link(hit, text, way, definitions, callers),
        );
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        #[test]
        fn what_is_added_is_few_new_and_below_what_brought_it(
            mut scores in prop::collection::vec(0.0f64..30.0, 0..12),
            links in links(),
            limit in 1usize..30,
        ) {
            scores.sort_by(|one, other| other.total_cmp(one));
            scores.truncate(limit);
            let texts: Vec<i64> = (0..).take(scores.len()).collect();
            let added = added(&scores, &texts, limit, &links);
            prop_assert!(added.len() <= MOST_ADDED && added.len() <= limit / 2);
            let stay = scores.len().min(limit - added.len());
            prop_assert!(stay + limit / PLACES >= scores.len(), "few give up their places");
            let mut before = scores[..stay].last().copied().unwrap_or(f64::INFINITY);
            for (number, one) in added.iter().enumerate() {
                prop_assert!(one.score > 0.0 && one.score <= before, "best first");
                before = one.score;
                prop_assert!(!texts.contains(&(one.chunk / 10)), "nothing comes twice");
                prop_assert!(!added[..number].iter().any(|other| other.chunk == one.chunk));
                prop_assert!((1..=MOST_REASONS).contains(&one.reasons.len()));
                for (hit, ..) in &one.reasons {
                    prop_assert!(one.score < scores[*hit]);
                }
            }
        }
    }
}

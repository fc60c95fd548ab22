//! Chunks by their words, in SQLite's index of them.
//!
//! SQLite's own BM25 looks up the length of every chunk that has any of the words,
//! which takes most of a search. Here the index only says which chunks have a word,
//! in path or place or anywhere; by that the most promising are chosen, and BM25 is
//! counted of those alone.

use rusqlite::{Connection, OptionalExtension, params};

use super::filter::{Filter, Passing};
use crate::index::stem::stem;

/// Chunks that have one word at most. A word that is in more tells least and costs
/// most, and is passed over unless there is no rarer one.
const MOST_WITH_ONE: usize = 20_000;
/// The same of all words of a question together.
const MOST_WITH_ANY: usize = 60_000;
/// Chunks whose words are counted.
const COUNTED: usize = 200;
/// A word in path or place is worth so many in the text.
const HEADER: f64 = 3.0;
/// The same for choosing which chunks are counted, beside one for having it at all.
const IN_HEADER: f64 = 0.4;
/// BM25's own: how much a further use of a word counts, and how much length does.
const SATURATION: f64 = 1.2;
const LENGTH: f64 = 0.75;
/// Of a word that is in more than half of the chunks.
const LEAST_WEIGHT: f64 = 1e-6;

/// A chunk that was found, and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Weighed {
    pub(super) chunk: i64,
    /// BM25, larger is better.
    pub(super) score: f64,
    /// Words of the question as they stand in path or place, and in the text.
    pub(super) in_header: Vec<String>,
    pub(super) in_text: Vec<String>,
}

/// One of a question's words.
#[derive(Debug, Clone, PartialEq)]
struct Term {
    stem: String,
    weight: f64,
    /// Chunks that have it, by their ids, and whether in path or place.
    chunks: Vec<(i64, bool)>,
}

/// The `most` best chunks, best first.
pub(super) fn best(
    connection: &Connection,
    filter: &Filter,
    passing: Option<&Passing>,
    words: &[String],
    most: usize,
) -> rusqlite::Result<Vec<Weighed>> {
    let terms = terms(connection, words)?;
    let may =
        |chunk| filter.is_visible(chunk) && passing.is_none_or(|passing| passing.has_chunk(chunk));
    let mut counted = Vec::new();
    let mut lengths = 0.0;
    for chunk in promising(&terms, may, COUNTED.max(most)) {
        if let Some(count) = count(connection, &terms, chunk)? {
            lengths += count.length;
            counted.push(count);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "some hundred")]
    let mean = lengths / counted.len().max(1) as f64;
    let mut weighed: Vec<_> =
        counted.into_iter().map(|count| count.weighed(&terms, mean)).collect();
    weighed.sort_by(|one, other| other.score.total_cmp(&one.score));
    weighed.truncate(most);
    Ok(weighed)
}

/// Which of the words stand in a chunk that was found by something else.
pub(super) fn why(
    connection: &Connection,
    words: &[String],
    chunk: i64,
) -> rusqlite::Result<Weighed> {
    let terms: Vec<_> = stems(words)
        .into_iter()
        .map(|(stem, _)| Term { stem, weight: 0.0, chunks: Vec::new() })
        .collect();
    let count = count(connection, &terms, chunk)?;
    let none = || Weighed { chunk, ..Weighed::default() };
    Ok(count.map_or_else(none, |count| count.weighed(&terms, 1.0)))
}

/// Each stem once, with a word that has it.
fn stems(words: &[String]) -> Vec<(String, &str)> {
    let mut stems: Vec<(String, &str)> = Vec::new();
    for word in words {
        let stem = stem(word);
        if !stems.iter().any(|(known, _)| *known == stem) {
            stems.push((stem, word));
        }
    }
    stems
}

/// The words that are worth looking for, the rarest first.
fn terms(connection: &Connection, words: &[String]) -> rusqlite::Result<Vec<Term>> {
    let mut select =
        connection.prepare_cached("SELECT rowid FROM words WHERE words MATCH ?1 LIMIT ?2")?;
    let mut with = |query: String| -> rusqlite::Result<Vec<i64>> {
        let most = i64::try_from(MOST_WITH_ONE).unwrap_or(i64::MAX);
        select.query_map(params![query, most], |row| row.get(0))?.collect()
    };
    let mut found = Vec::new();
    for (stem, word) in stems(words) {
        found.push((with(format!("\"{word}\""))?, stem, word));
    }
    found.sort_by_key(|(chunks, ..)| chunks.len());
    let all: f64 = connection
        .prepare_cached("SELECT count(*) FROM chunks")?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(|all| u32::try_from(all).map_or(f64::MAX, f64::from))?;
    let mut terms: Vec<Term> = Vec::new();
    let mut together = 0;
    for (chunks, stem, word) in found {
        if chunks.is_empty() {
            continue;
        }
        together += chunks.len();
        let is_common = chunks.len() == MOST_WITH_ONE || together > MOST_WITH_ANY;
        if is_common && !terms.is_empty() {
            break;
        }
        let in_header = with(format!("header : \"{word}\""))?;
        #[expect(clippy::cast_precision_loss, reason = "it is bounded")]
        let has = chunks.len() as f64;
        let weight = ((all - has + 0.5) / (has + 0.5)).ln().max(LEAST_WEIGHT);
        terms.push(Term { stem, weight, chunks: marked(chunks, &in_header) });
    }
    Ok(terms)
}

/// Both lists are in order, and the second is part of the first.
fn marked(chunks: Vec<i64>, in_header: &[i64]) -> Vec<(i64, bool)> {
    let mut next = in_header.iter().peekable();
    let mark = |chunk| {
        while next.next_if(|header| **header < chunk).is_some() {}
        (chunk, next.peek().is_some_and(|header| **header == chunk))
    };
    chunks.into_iter().map(mark).collect()
}

/// The chunks with the rarest words, each with what it has of them.
fn promising(terms: &[Term], may: impl Fn(i64) -> bool, most: usize) -> Vec<i64> {
    let mut heads: Vec<_> =
        terms.iter().map(|term| (term.chunks.as_slice(), term.weight)).collect();
    let mut found = Vec::new();
    while let Some(chunk) = heads.iter().filter_map(|(rest, _)| Some(rest.first()?.0)).min() {
        let mut promise = 0.0;
        for (rest, weight) in &mut heads {
            if let [(at, in_header), after @ ..] = *rest
                && *at == chunk
            {
                promise += *weight * if *in_header { 1.0 + IN_HEADER } else { 1.0 };
                *rest = after;
            }
        }
        if may(chunk) {
            found.push((promise, chunk));
        }
    }
    // Of equal ones the older.
    found.sort_unstable_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    found.truncate(most);
    found.into_iter().map(|(_, chunk)| chunk).collect()
}

/// What a chunk has of the terms.
struct Count {
    /// How often it has each, a use in its header counting [`HEADER`].
    uses: Vec<f64>,
    /// Words in all.
    length: f64,
    weighed: Weighed,
}

impl Count {
    fn weighed(self, terms: &[Term], mean_length: f64) -> Weighed {
        let length = 1.0 - LENGTH + LENGTH * self.length / mean_length.max(1.0);
        let score = |(term, uses): (&Term, f64)| {
            term.weight * uses * (SATURATION + 1.0) / (uses + SATURATION * length)
        };
        let score = terms.iter().zip(self.uses).map(score).sum();
        Weighed { score, ..self.weighed }
    }
}

fn count(connection: &Connection, terms: &[Term], chunk: i64) -> rusqlite::Result<Option<Count>> {
    let mut select =
        connection.prepare_cached("SELECT header, body FROM words WHERE rowid = ?1")?;
    let texts = select.query_row([chunk], |row| {
        let mut count = Count {
            // Whoever was found by a word has it, however it is written.
            uses: terms.iter().map(|term| f64::from(has(term, chunk))).collect(),
            length: 0.0,
            weighed: Weighed { chunk, ..Weighed::default() },
        };
        let mut uses = vec![0.0; terms.len()];
        for (column, worth) in [(0, HEADER), (1, 1.0)] {
            let text = row.get_ref(column)?.as_str()?;
            let mut said: Vec<String> = Vec::new();
            for word in text.split(|char: char| !char.is_alphanumeric()) {
                if word.is_empty() {
                    continue;
                }
                count.length += 1.0;
                if let Some(at) = which(terms, word) {
                    uses[at] += worth;
                    let word = word.to_lowercase();
                    if !said.contains(&word) {
                        said.push(word);
                    }
                }
            }
            match column {
                0 => count.weighed.in_header = said,
                _ => count.weighed.in_text = said,
            }
        }
        for (at_least, uses) in count.uses.iter_mut().zip(uses) {
            *at_least = at_least.max(uses);
        }
        Ok(count)
    });
    texts.optional()
}

fn has(term: &Term, chunk: i64) -> bool {
    term.chunks.binary_search_by_key(&chunk, |(chunk, _)| *chunk).is_ok()
}

/// The term that a word is a form of.
fn which(terms: &[Term], word: &str) -> Option<usize> {
    // A stem begins like its word; most words are no form of any.
    let first = word.chars().next()?.to_lowercase().next()?;
    if !terms.iter().any(|term| term.stem.starts_with(first)) {
        return None;
    }
    let stem = stem(&word.to_lowercase());
    terms.iter().position(|term| term.stem == stem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn term(weight: f64, chunks: &[(i64, bool)]) -> Term {
        Term { stem: String::new(), weight, chunks: chunks.to_vec() }
    }

    #[test]
    fn more_and_rarer_words_promise_more() {
        let terms = [
            term(5.0, &[(2, false), (7, false), (9, true)]),
            term(1.0, &[(1, true), (2, false), (9, false)]),
        ];
        assert_eq!(promising(&terms, |_| true, 9), [9, 2, 7, 1]);
        assert_eq!(promising(&terms, |_| true, 2), [9, 2]);
        assert_eq!(promising(&terms, |chunk| chunk != 9, 2), [2, 7]);
        assert!(promising(&[], |_| true, 2).is_empty());
    }

    #[test]
    fn forms_of_a_word_are_one_term() {
        let words = ["parse", "parsing", "fan"].map(str::to_owned);
        let stems = stems(&words);
        assert_eq!(stems, [("pars".to_owned(), "parse"), ("fan".to_owned(), "fan")]);
        let terms: Vec<_> = stems
            .into_iter()
            .map(|(stem, _)| Term { stem, weight: 1.0, chunks: Vec::new() })
            .collect();
        let which = |word| which(&terms, word);
        assert_eq!(["Parsed", "FANS", "fancy", "p"].map(which), [Some(0), Some(1), None, None]);
    }

    proptest! {
        #[test]
        fn marks_are_where_both_lists_meet(
            chunks in prop::collection::btree_map(0i64..99, any::<bool>(), 0..40)
        ) {
            let header: Vec<_> =
                chunks.iter().filter(|(_, marked)| **marked).map(|(chunk, _)| *chunk).collect();
            let expected: Vec<_> = chunks.iter().map(|(chunk, marked)| (*chunk, *marked)).collect();
            prop_assert_eq!(marked(chunks.keys().copied().collect(), &header), expected);
        }
    }
}

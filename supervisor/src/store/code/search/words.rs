//! Chunks by their words, in SQLite's index of them.
//!
//! SQLite's own BM25 looks up the length of every chunk that has any of the words,
//! which takes most of a search. Here the index only says which chunks have a word,
//! in path or place or anywhere; by that the most promising are chosen, and BM25 is
//! counted of those alone.
//!
//! Three things beside BM25 were worth it on `scripts/bench memory retrieval --part tune`:
//! the first words of a question say more than the last, short forms of a word may mean
//! it, and a chunk whose whole name is asked for is more than one that only has the words.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::filter::{Filter, Passing};
use super::remembered::Remembered;
use crate::index::short_forms;
use crate::index::stem::{CHANGED, stem};
use crate::index::words::parts;

/// Chunks that have one word at most, as far as they are counted.
pub(super) const MOST_WITH_ONE: usize = 20_000;
/// Chunks with any of the words that are looked at. The most frequent words tell least
/// and cost most: those that are too many choose no chunk, and only count in those
/// that rarer ones have chosen.
const MOST_WITH_ANY: usize = 10_000;
/// The rarest words always choose, so many of them: with one alone, nothing would tell the
/// chunks of a frequent word from each other.
const ALWAYS: usize = 2;
/// Chunks whose words are counted.
const COUNTED: usize = 60;
/// A word in path or place is worth so many in the text.
const HEADER: f64 = 4.0;
/// The same for choosing which chunks are counted, beside one for having it at all.
const IN_HEADER: f64 = 0.4;
/// BM25's own: how much a further use of a word counts, and how much length does. Both
/// are more than is usual for prose, and were chosen on `scripts/bench memory
/// retrieval --part tune`: a function that does one thing says it often and is short.
const SATURATION: f64 = 2.0;
const LENGTH: f64 = 0.9;
/// Words of a chunk's text, on average. The same for all questions, so that scores are.
const TYPICAL: f64 = 100.0;
/// After so many words of a question the next one counts half.
const FADING: f64 = 30.0;
/// A short form counts as this share of the word.
const SHORT_FORM: f64 = 0.5;
/// What a chunk has more of if all of its name is asked for.
const NAMED: f64 = 0.2;
/// Of a word that is in more than half of the chunks.
const LEAST_WEIGHT: f64 = 1e-6;

/// Chunks that have a word, by their ids, and whether in path or place.
pub(super) type Chunks = Arc<[(i64, bool)]>;

/// A chunk that was found, and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Weighed {
    pub(super) chunk: i64,
    /// Words of the question as they stand in path or place, and in the text.
    pub(super) in_header: Vec<String>,
    pub(super) in_text: Vec<String>,
}

/// A question's words and their short forms, as far as any chunk has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Asked {
    terms: Vec<Term>,
    beginnings: Beginnings,
    /// Words that were stemmed, and the term that each is a form of. Chunks share most.
    known: RefCell<HashMap<Box<str>, Option<usize>>>,
}

/// One of them, with all that have its stem.
#[derive(Debug, Clone, PartialEq)]
struct Term {
    stem: String,
    /// How rare it is, and its share of that.
    weight: f64,
    /// None of a word that is in too many.
    chunks: Chunks,
}

impl Asked {
    /// The rarest first.
    pub(super) fn new(
        connection: &Connection,
        remembered: &mut Remembered,
        words: &[String],
    ) -> rusqlite::Result<Self> {
        let mut found = Vec::new();
        for wanted in wanted(words) {
            found.push((remembered.chunks_with(connection, wanted.word)?, wanted));
        }
        found.retain(|(chunks, _)| *chunks > 0);
        found.sort_by_key(|(chunks, _)| *chunks);
        let all = real(remembered.chunks(connection)?);
        let (mut terms, mut together) = (Vec::new(), 0);
        for (has, Wanted { stem, word, share }) in found {
            together += has;
            let chooses = together <= MOST_WITH_ANY || terms.len() < ALWAYS;
            let chunks =
                if chooses { remembered.list(connection, word)? } else { Chunks::default() };
            let rare = ((all - real(has) + 0.5) / (real(has) + 0.5)).ln().max(LEAST_WEIGHT);
            terms.push(Term { stem, weight: rare * share, chunks });
        }
        Ok(Self::of(terms))
    }

    fn of(terms: Vec<Term>) -> Self {
        let beginnings = Beginnings::of(terms.iter().map(|term| &*term.stem));
        Self { terms, beginnings, known: RefCell::default() }
    }

    /// The `most` best chunks with their BM25, best first.
    pub(super) fn best(
        &self,
        connection: &Connection,
        filter: &Filter,
        passing: Option<&Passing>,
        most: usize,
    ) -> rusqlite::Result<Vec<(i64, f64)>> {
        let may = |chunk| {
            filter.is_visible(chunk) && passing.is_none_or(|passing| passing.has_chunk(chunk))
        };
        let mut scored = Vec::new();
        for chunk in promising(&self.terms, may, COUNTED.max(most)) {
            scored.extend(self.score(connection, chunk)?.map(|score| (chunk, score)));
        }
        scored.sort_by(|one, other| other.1.total_cmp(&one.1));
        scored.truncate(most);
        Ok(scored)
    }

    /// BM25 of a chunk, and more for its name; `None` if it has none of the words.
    pub(super) fn score(
        &self,
        connection: &Connection,
        chunk: i64,
    ) -> rusqlite::Result<Option<f64>> {
        if self.terms.is_empty() {
            return Ok(None);
        }
        // Whoever was found by a word has it, however it is written.
        let has = |term: &Term| term.chunks.binary_search_by_key(&chunk, |(id, _)| *id).is_ok();
        let at_least: Vec<_> = self.terms.iter().map(|term| f64::from(has(term))).collect();
        let (mut uses, mut length) = (vec![0.0; self.terms.len()], 0.0);
        let mut may_be_named = false;
        read(connection, chunk, |in_header, word| {
            length += if in_header { 0.0 } else { 1.0 };
            if let Some(at) = self.which(word) {
                uses[at] += if in_header { HEADER } else { 1.0 };
                may_be_named |= in_header;
            }
        })?;
        let named = if may_be_named { self.named(&name(connection, chunk)?) } else { 0.0 };
        let length = SATURATION * (1.0 - LENGTH + LENGTH * length / TYPICAL);
        let score = self.terms.iter().zip(uses).zip(at_least).map(|((term, uses), at_least)| {
            let uses = uses.max(at_least);
            term.weight * uses * (SATURATION + 1.0) / (uses + length)
        });
        Ok(Some(score.sum::<f64>() * (1.0 + NAMED * named)).filter(|score| *score > 0.0))
    }

    /// Share of a name's parts that are asked for.
    fn named(&self, name: &str) -> f64 {
        let parts: BTreeSet<_> = parts(name).iter().map(|part| stem(part)).collect();
        let asked =
            parts.iter().filter(|part| self.terms.iter().any(|term| term.stem == **part)).count();
        real(asked) / real(parts.len().max(1))
    }

    /// Which of the words stand in a chunk.
    pub(super) fn why(&self, connection: &Connection, chunk: i64) -> rusqlite::Result<Weighed> {
        let mut weighed = Weighed { chunk, ..Weighed::default() };
        read(connection, chunk, |in_header, word| {
            if self.which(word).is_some() {
                let word = word.to_lowercase();
                let said = if in_header { &mut weighed.in_header } else { &mut weighed.in_text };
                if !said.contains(&word) {
                    said.push(word);
                }
            }
        })?;
        Ok(weighed)
    }

    /// The term that a word is a form of.
    fn which(&self, word: &str) -> Option<usize> {
        // Most words are seen to be no form of any before they are stemmed.
        if !self.beginnings.may_have(word) && word.is_ascii() {
            return None;
        }
        if let Some(known) = self.known.borrow().get(word) {
            return *known;
        }
        let stem = stem(&word.to_lowercase());
        let term = self.terms.iter().position(|term| term.stem == stem);
        self.known.borrow_mut().insert(word.into(), term);
        term
    }
}

/// With which two letters the words begin that may be forms of a stem. Most words of a chunk
/// are seen by one look at it to be of none.
#[derive(Debug, Clone, Default, PartialEq)]
struct Beginnings([u32; 32]);

impl Beginnings {
    fn of<'a>(stems: impl Iterator<Item = &'a str>) -> Self {
        let mut beginnings = Self::default();
        for stem in stems {
            match *kept(stem) {
                [] => beginnings = Self([u32::MAX; 32]),
                [first] => beginnings.0[letter(first)] = u32::MAX,
                [first, second, ..] => beginnings.0[letter(first)] |= 1 << letter(second),
            }
        }
        beginnings
    }

    fn may_have(&self, word: &str) -> bool {
        let letters = word.as_bytes();
        let at = |at: usize| letters.get(at).map_or(0, |byte| letter(*byte));
        self.0[at(0)] >> at(1) & 1 == 1
    }
}

/// The same number for a letter of either case, and for some other byte, too.
fn letter(byte: u8) -> usize {
    usize::from(byte & 31)
}

/// The bytes at its beginning that a stem has in common with each word that has it.
fn kept(stem: &str) -> &[u8] {
    &stem.as_bytes()[..stem.len().saturating_sub(CHANGED).max(1).min(stem.len())]
}

/// What is looked for: a stem, a word that has it, and its share of what it would count
/// if it were the whole question.
#[derive(Debug, Clone, PartialEq)]
struct Wanted<'a> {
    stem: String,
    word: &'a str,
    share: f64,
}

/// Each stem once: those of the words in their order, then those of their short forms.
fn wanted(words: &[String]) -> Vec<Wanted<'_>> {
    let mut all: Vec<Wanted<'_>> = Vec::new();
    let is_new = |all: &[Wanted<'_>], stem: &str| {
        !stem.is_empty() && all.iter().all(|known| known.stem != stem)
    };
    for word in words {
        let (stem, share) = (stem(word), FADING / (FADING + real(all.len())));
        if is_new(&all, &stem) {
            all.push(Wanted { stem, word, share });
        }
    }
    for at in 0..all.len() {
        for &word in short_forms::of(&all[at].stem) {
            let (stem, share) = (stem(word), all[at].share * SHORT_FORM);
            if is_new(&all, &stem) {
                all.push(Wanted { stem, word, share });
            }
        }
    }
    all
}

/// The chunks with a word, in order, and whether it stands in path or place.
pub(super) fn with(connection: &Connection, word: &str) -> rusqlite::Result<Vec<(i64, bool)>> {
    let mut select =
        connection.prepare_cached("SELECT rowid FROM words WHERE words MATCH ?1 LIMIT ?2")?;
    let mut find = |query: String| -> rusqlite::Result<Vec<i64>> {
        select.query_map(params![query, MOST_WITH_ONE], |row| row.get(0))?.collect()
    };
    let chunks = find(format!("\"{word}\""))?;
    Ok(marked(chunks, &find(format!("header : \"{word}\""))?))
}

/// Gives each word of a chunk to `each`, and whether it stands in path or place.
fn read(
    connection: &Connection,
    chunk: i64,
    mut each: impl FnMut(bool, &str),
) -> rusqlite::Result<()> {
    let mut select =
        connection.prepare_cached("SELECT header, body FROM words WHERE rowid = ?1")?;
    let read = select.query_row([chunk], |row| {
        for (column, in_header) in [(0, true), (1, false)] {
            let words = row.get_ref(column)?.as_str()?;
            let mut begin = 0;
            // Between words nothing else is written; ends are no word's bytes.
            let ends = words.bytes().enumerate().filter(|(_, byte)| matches!(byte, b' ' | b'_'));
            for end in ends.map(|(end, _)| end).chain([words.len()]) {
                if end > begin {
                    each(in_header, &words[begin..end]);
                }
                begin = end + 1;
            }
        }
        Ok(())
    });
    read.optional().map(Option::unwrap_or_default)
}

/// What a chunk defines: the last of what it is in.
fn name(connection: &Connection, chunk: i64) -> rusqlite::Result<String> {
    let mut select = connection.prepare_cached(
        "SELECT place FROM chunks JOIN texts ON texts.id = chunks.text WHERE chunks.id = ?1",
    )?;
    select.query_row([chunk], |row| {
        let place = row.get_ref(0)?.as_str()?;
        Ok(place.rsplit(" > ").next().unwrap_or_default().to_owned())
    })
}

#[expect(clippy::cast_precision_loss, reason = "chunks of a file that fits this disk")]
fn real(count: usize) -> f64 {
    count as f64
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
    let mut heads: Vec<_> = terms.iter().map(|term| (&*term.chunks, term.weight)).collect();
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
    let better =
        |one: &(f64, i64), other: &(f64, i64)| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1));
    if found.len() > most {
        found.select_nth_unstable_by(most, better);
        found.truncate(most);
    }
    found.sort_unstable_by(better);
    found.into_iter().map(|(_, chunk)| chunk).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn term(weight: f64, chunks: &[(i64, bool)]) -> Term {
        Term { stem: String::new(), weight, chunks: chunks.into() }
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
        let terms: Vec<_> = wanted(&words)
            .into_iter()
            .map(|wanted| Term { stem: wanted.stem, weight: 1.0, chunks: Chunks::default() })
            .collect();
        let asked = Asked::of(terms);
        let which = |word| asked.which(word);
        assert_eq!(["Parsed", "FANS", "fancy", "p"].map(which), [Some(0), Some(1), None, None]);
    }

    #[test]
    fn later_words_and_short_forms_count_less() {
        let words = ["argument", "fan", "arguments", "len", "length"].map(str::to_owned);
        let wanted = wanted(&words);
        let stems: Vec<_> = wanted.iter().map(|wanted| wanted.stem.as_str()).collect();
        assert_eq!(stems, ["argument", "fan", "len", "length", "arg"], "each once");
        let shares: Vec<_> = wanted.iter().map(|wanted| wanted.share).collect();
        assert!(shares.is_sorted_by(|one, next| one > next), "{shares:?}");
        assert!((shares[0] - 1.0).abs() < 1e-9 && (shares[4] - SHORT_FORM).abs() < 1e-9);
    }

    #[test]
    fn a_name_is_asked_for_in_parts() {
        let stems = ["set", "speed", "fan"];
        let term = |stem: &str| Term { stem: stem.into(), weight: 1.0, chunks: Chunks::default() };
        let asked = Asked::of(stems.map(term).into());
        let named = |name| asked.named(name);
        for (name, share) in [
            ("set_speed", 1.0),
            ("setSpeeds", 1.0),
            ("speed_of_fan_now", 0.5),
            ("run", 0.0),
            ("", 0.0),
        ] {
            assert!((named(name) - share).abs() < 1e-9, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_form_of_a_stem_begins_as_one(word in "[a-zA-Z0-9é]{1,12}", others in "[a-z]{0,9}") {
            let lower = word.to_lowercase();
            let stems = [stem(&lower), others];
            let beginnings = Beginnings::of(stems.iter().map(String::as_str));
            prop_assert!(!word.is_ascii() || beginnings.may_have(&word));
        }

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

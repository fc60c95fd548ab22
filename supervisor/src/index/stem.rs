//! Porter's stemmer, as SQLite's index of words has it, so that what was found can be
//! counted and named without asking that again. Pure.
//!
//! M. F. Porter, "An algorithm for suffix stripping", 1980. A test compares it with
//! SQLite's own.

/// Bytes of a word that is left as it is, as SQLite does.
const SHORTEST: usize = 3;
const LONGEST: usize = 64;
/// Bytes at the end of a stem that may not be those of the word; at least one is.
pub const CHANGED: usize = 2;

/// The stem of a word in lower case.
#[must_use]
pub fn stem(word: &str) -> String {
    if !(SHORTEST..=LONGEST).contains(&word.len()) {
        return word.to_owned();
    }
    let mut word = Word(word.as_bytes().to_vec());
    word.plurals();
    word.past_and_progressive();
    if word.ends(b"y") && has_vowel(word.before(1)) {
        word.replace(1, b"i");
    }
    word.first_of(&SECOND, 0);
    word.first_of(&THIRD, 0);
    word.fourth();
    word.fifth();
    String::from_utf8(word.0).unwrap_or_default()
}

/// Suffixes and what takes their place, where the rest is long enough.
type Rules<'a> = [(&'a [u8], &'a [u8])];

const SECOND: [(&[u8], &[u8]); 21] = [
    (b"ational", b"ate"),
    (b"tional", b"tion"),
    (b"enci", b"ence"),
    (b"anci", b"ance"),
    (b"izer", b"ize"),
    (b"logi", b"log"),
    (b"bli", b"ble"),
    (b"alli", b"al"),
    (b"entli", b"ent"),
    (b"eli", b"e"),
    (b"ousli", b"ous"),
    (b"ization", b"ize"),
    (b"ation", b"ate"),
    (b"ator", b"ate"),
    (b"alism", b"al"),
    (b"iveness", b"ive"),
    (b"fulness", b"ful"),
    (b"ousness", b"ous"),
    (b"aliti", b"al"),
    (b"iviti", b"ive"),
    (b"biliti", b"ble"),
];

const THIRD: [(&[u8], &[u8]); 7] = [
    (b"ical", b"ic"),
    (b"ness", b""),
    (b"icate", b"ic"),
    (b"iciti", b"ic"),
    (b"ful", b""),
    (b"ative", b""),
    (b"alize", b"al"),
];

const FOURTH: [&[u8]; 18] = [
    b"al", b"ance", b"ence", b"er", b"ic", b"able", b"ible", b"ant", b"ement", b"ment", b"ent",
    b"ou", b"ism", b"ate", b"iti", b"ous", b"ive", b"ize",
];

struct Word(Vec<u8>);

impl Word {
    fn ends(&self, suffix: &[u8]) -> bool {
        self.0.len() > suffix.len() && self.0.ends_with(suffix)
    }

    /// Without so many of the last.
    fn before(&self, count: usize) -> &[u8] {
        &self.0[..self.0.len() - count]
    }

    fn replace(&mut self, count: usize, by: &[u8]) {
        self.0.truncate(self.0.len() - count);
        self.0.extend_from_slice(by);
    }

    fn plurals(&mut self) {
        match () {
            () if self.ends(b"sses") || self.ends(b"ies") => self.replace(2, b""),
            () if self.ends(b"ss") => {}
            () if self.ends(b"s") => self.replace(1, b""),
            () => {}
        }
    }

    fn past_and_progressive(&mut self) {
        if self.ends(b"eed") {
            if measure(self.before(3)) > 0 {
                self.replace(1, b"");
            }
            return;
        }
        let suffix = [&b"ed"[..], b"ing"].into_iter().find(|suffix| self.ends(suffix));
        let Some(suffix) = suffix.filter(|suffix| has_vowel(self.before(suffix.len()))) else {
            return;
        };
        self.replace(suffix.len(), b"");
        if [&b"at"[..], b"bl", b"iz"].iter().any(|end| self.ends(end)) {
            self.0.push(b'e');
        } else if ends_double(&self.0) && !matches!(self.0.last(), Some(b'l' | b's' | b'z')) {
            self.replace(1, b"");
        } else if measure(&self.0) == 1 && ends_short(&self.0) {
            self.0.push(b'e');
        }
    }

    /// Applies the rule whose suffix it has, if what is before that is measured more.
    fn first_of(&mut self, rules: &Rules<'_>, more_than: usize) {
        let found = rules.iter().find(|(suffix, _)| self.ends(suffix));
        if let Some((suffix, by)) = found
            && measure(self.before(suffix.len())) > more_than
        {
            self.replace(suffix.len(), by);
        }
    }

    fn fourth(&mut self) {
        if self.ends(b"ion") {
            let before = self.before(3);
            if measure(before) > 1 && matches!(before.last(), Some(b's' | b't')) {
                self.replace(3, b"");
            }
            return;
        }
        let longest =
            FOURTH.iter().filter(|suffix| self.ends(suffix)).max_by_key(|suffix| suffix.len());
        if let Some(suffix) = longest
            && measure(self.before(suffix.len())) > 1
        {
            self.replace(suffix.len(), b"");
        }
    }

    fn fifth(&mut self) {
        if self.ends(b"e") {
            let before = self.before(1);
            if measure(before) > 1 || measure(before) == 1 && !ends_short(before) {
                self.replace(1, b"");
            }
        }
        if self.ends(b"ll") && measure(self.before(1)) > 1 {
            self.replace(1, b"");
        }
    }
}

/// `y` is a consonant at the beginning and after a vowel.
fn is_vowel(word: &[u8], at: usize) -> bool {
    match word[at] {
        b'a' | b'e' | b'i' | b'o' | b'u' => true,
        b'y' => at > 0 && !is_vowel(word, at - 1),
        _ => false,
    }
}

fn has_vowel(word: &[u8]) -> bool {
    (0..word.len()).any(|at| is_vowel(word, at))
}

/// How often a consonant follows a vowel.
fn measure(word: &[u8]) -> usize {
    let vowels: Vec<_> = (0..word.len()).map(|at| is_vowel(word, at)).collect();
    vowels.windows(2).filter(|pair| pair[0] && !pair[1]).count()
}

/// Here, and only here, SQLite takes `y` for a consonant wherever it is.
fn ends_double(word: &[u8]) -> bool {
    let [.., one, other] = word else { return false };
    one == other && !matches!(other, b'a' | b'e' | b'i' | b'o' | b'u')
}

/// Consonant, vowel, consonant that is none of `w`, `x`, `y`.
fn ends_short(word: &[u8]) -> bool {
    let length = word.len();
    length >= 3
        && !is_vowel(word, length - 3)
        && is_vowel(word, length - 2)
        && !is_vowel(word, length - 1)
        && !matches!(word[length - 1], b'w' | b'x' | b'y')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    /// What SQLite's index has of these words, each in a row of its own.
    fn by_sqlite(words: &[String]) -> Vec<String> {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE VIRTUAL TABLE t USING fts5 (w, tokenize = 'porter unicode61');
                 CREATE VIRTUAL TABLE v USING fts5vocab (t, 'instance');",
            )
            .unwrap();
        let mut insert = connection.prepare("INSERT INTO t (rowid, w) VALUES (?1, ?2)").unwrap();
        for (id, word) in words.iter().enumerate() {
            insert.execute(rusqlite::params![id, word]).unwrap();
        }
        let mut select = connection.prepare("SELECT term FROM v ORDER BY doc, offset").unwrap();
        let rows = select.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn words_of_code_are_stemmed_as_sqlite_does() {
        let words = "caresses ponies ties cats feed agreed plastered motoring sing conflated \
            troubling sized hopping tanned falling hissing fizzed failing filing happy sky \
            relational conditional valenci hesitanci digitizer conformabli radicalli differentli \
            vileli analogousli vietnamization predication operator feudalism decisiveness \
            hopefulness callousness formaliti sensitiviti sensibiliti triplicate formative \
            formalize electriciti electrical hopeful goodness revival allowance inference airliner \
            gyroscopic adjustable defensible irritant replacement adjustment dependent adoption \
            homologou communism activate angulariti homologous effective bowdlerize probate rate \
            cease controll roll connection connected connecting parser parsing parsed serialize \
            serialization deserializer buffers mutexes indices retries keys bytes pass does is us \
            iterating iterator queue queueing queued ontology monkeys yes eyes ing ed ied seed ayying"
            .split_whitespace();
        let words: Vec<_> = words.map(str::to_owned).collect();
        let ours: Vec<_> = words.iter().map(|word| stem(word)).collect();
        assert_eq!(ours, by_sqlite(&words));
    }

    proptest! {
        #[test]
        fn a_stem_begins_as_its_word_does(
            word in "[a-z]{1,5}([aeiouy]?[bcdlnrstz]{0,2}(s|ed|ing|ational|izer|alism|iviti|bility|ivity|ies|icate|ency|logy|y|e)?){1,3}"
        ) {
            let stem = stem(&word);
            let same = stem.len().saturating_sub(CHANGED).max(1);
            prop_assert_eq!(&stem[..same], &word[..same]);
        }

        #[test]
        fn any_word_is_stemmed_as_sqlite_does(
            words in prop::collection::vec(
                "[a-z]{0,5}[aeiouy][bcdlnrstz]{0,2}(s|es|ies|ed|eed|ing|ational|izer|ization|alism|iveness|fulness|biliti|icate|ful|ness|ance|able|ment|ement|ent|ion|tion|ous|ive|ize|e|ll|y|logi)?",
                1..60,
            )
        ) {
            let ours: Vec<_> = words.iter().map(|word| stem(word)).collect();
            prop_assert_eq!(ours, by_sqlite(&words));
        }
    }
}

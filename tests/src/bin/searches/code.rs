//! Code that nobody wrote, with few words that are everywhere and many that are rare, as
//! in code.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use engine_api::index::{Chunk, ChunkKind, Defined, FromIndexer, IndexedFile, Stamp};
use tests::dice::Dice;

/// Chunks of one file.
pub(crate) const FILE: usize = 10;
/// Words that there are.
const WORDS: usize = 20_000;
/// Lines of a chunk, and words of a line.
const LINES: usize = 14;
const LINE: usize = 6;
/// Functions that one calls.
const CALLED: usize = 5;
/// Words of a question.
const ASKED: (usize, usize) = (6, 20);
const SYLLABLES: [&str; 27] = [
    "ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "qui", "ro", "su",
    "ta", "ve", "wi", "xo", "yu", "za", "bre", "cli", "dro", "fla", "gre", "pli",
];

/// The more frequent come first.
pub(crate) struct Words {
    words: Vec<String>,
    /// Sum of the frequencies up to each word.
    sums: Vec<usize>,
}

impl Words {
    pub(crate) fn new() -> Self {
        let mut sum = 0;
        // The next word is as frequent as its place is small.
        let sums = (1..=WORDS).map(|place| {
            sum += 10_000_000 / place;
            sum
        });
        Self { sums: sums.collect(), words: (0..WORDS).map(spelled).collect() }
    }

    fn word(&self, dice: &mut Dice) -> &str {
        let all = self.sums.last().copied().unwrap_or(1);
        let drawn = dice.below(all);
        &self.words[self.sums.partition_point(|sum| *sum <= drawn)]
    }

    /// What somebody might ask, in words as frequent as those of code.
    pub(crate) fn question(&self, dice: &mut Dice) -> String {
        let count = dice.within(ASKED.0, ASKED.1);
        let words: Vec<_> = (0..count).map(|_| self.word(dice)).collect();
        words.join(" ")
    }

    pub(crate) fn file(&self, number: usize, dice: &mut Dice) -> FromIndexer {
        let path = format!("src/{}/{}_{number}.rs", self.word(dice), self.word(dice));
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        FromIndexer::Indexed(IndexedFile {
            chunks: (0..FILE).map(|at| self.chunk(&path, number * FILE + at, dice)).collect(),
            stamp: Stamp { changed_ns: 0, size: 0, inode: 0 },
            language: "rust".to_owned(),
            note: None,
            hash,
            path,
        })
    }

    /// A function that calls some of those before it.
    fn chunk(&self, path: &str, number: usize, dice: &mut Dice) -> Chunk {
        let name = self.name(number);
        let uses = (0..CALLED).map(|_| self.name(dice.below(number + 1)));
        let uses: BTreeSet<_> = uses.filter(|used| *used != name).collect();
        let mut text = format!("fn {name}() {{\n");
        for _ in 0..LINES {
            let words: Vec<_> = (0..LINE).map(|_| self.word(dice)).collect();
            let _ = writeln!(text, "    let {} = {};", words[0], words[1..].join("_"));
        }
        text.push('}');
        let lines = u32::try_from(LINES + 2).unwrap_or(u32::MAX);
        let first_line = u32::try_from(number % FILE).unwrap_or_default() * lines + 1;
        Chunk {
            header: format!("{path} > {name}"),
            names: vec![name.clone()],
            kind: ChunkKind::Function,
            first_line,
            last_line: first_line + lines - 1,
            text,
            defines: vec![Defined { name, line: 0 }],
            uses: uses.into_iter().collect(),
        }
    }

    fn name(&self, number: usize) -> String {
        format!("{}_{}", self.words[number % WORDS], self.words[number / WORDS % WORDS])
    }
}

/// A word of its own for each number.
fn spelled(number: usize) -> String {
    let mut word = String::new();
    let mut left = number + SYLLABLES.len();
    while left > 0 {
        word.push_str(SYLLABLES[left % SYLLABLES.len()]);
        left /= SYLLABLES.len();
    }
    word
}

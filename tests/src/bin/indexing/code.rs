//! Code that nobody wrote: files of three functions that call each other.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;
use tests::dice::Dice;

/// Files of one directory.
const DIRECTORY: usize = 50;
/// Words that names and texts are made of.
const WORDS: [&str; 16] = [
    "fan", "duty", "zone", "rail", "clock", "trip", "sample", "engine", "batch", "prefix", "token",
    "slot", "queue", "frame", "block", "chunk",
];

pub(crate) struct Code {
    root: TempDir,
    files: usize,
}

impl Code {
    pub(crate) fn new(files: usize, seed: u64) -> io::Result<Self> {
        let code = Self { root: tempfile::tempdir()?, files };
        let mut dice = Dice::new(seed, &[]);
        for file in 0..files {
            let mut text = String::new();
            for number in 0..3 {
                let _ = writeln!(text, "/// Looks after {}.", word(&mut dice));
                let _ = writeln!(text, "pub fn task_{file}_{number}(value: u32) -> u32 {{");
                for line in 0..8 {
                    let (one, other) = (word(&mut dice), word(&mut dice));
                    let _ = writeln!(
                        text,
                        "    let {one}_{line} = {other}(value, {});",
                        dice.below(99)
                    );
                }
                let called = dice.below(files);
                let _ = writeln!(text, "    task_{called}_{}(value)\n}}\n", dice.below(3));
            }
            code.write(&place(file), &text)?;
        }
        Ok(code)
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let path = self.root.path().join(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, text)
    }

    /// Puts one more function into a file.
    pub(crate) fn edit(&self, number: usize, word: &str) -> io::Result<()> {
        let path = place(number % self.files);
        let text = fs::read_to_string(self.root.path().join(&path))?;
        self.write(&path, &format!("{text}\nfn {word}() {{\n    run()\n}}\n"))
    }
}

fn place(file: usize) -> String {
    format!("src/part_{}/file_{file}.rs", file / DIRECTORY)
}

fn word(dice: &mut Dice) -> &'static str {
    WORDS[dice.below(WORDS.len())]
}

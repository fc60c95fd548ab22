//! What the echo backend and a virtual board tell each other, through two files
//! below the board's directory.
//!
//! ```text
//! echo ── run/virtual/load: what it has computed so far ──► virtual-jetson
//! echo ◄── run/virtual/pace: how long things take now ───── virtual-jetson
//! ```
//!
//! Both are TOML. A file that is not there at this moment is being replaced, and
//! who wants to read it goes on with what it said before. The two need not start
//! in any order, and either may be restarted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where the files are, below the board's directory.
const DIR: &str = "run/virtual";

/// How long steps take at the board's present clocks, in this machine's time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Why the board is off. Nothing is computed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<String>,
    /// Each step's launch.
    pub launch_us: u64,
    /// Reading the weights once.
    pub stream_us: u64,
    /// A decode step's part for each of its sequences.
    pub sequence_us: u64,
    /// Each token in the KV cache of a step's sequences.
    pub kv_token_ns: u64,
    /// Each prompt token.
    pub prefill_token_us: u64,
}

impl Pace {
    /// Time of a decode step.
    #[must_use]
    pub fn decode_us(&self, sequences: u64, context_tokens: u64) -> u64 {
        self.launch_us
            + self.stream_us
            + self.sequence_us * sequences
            + self.kv_token_ns * context_tokens / 1000
    }

    /// Time of a prefill step: weights are read while prompts are computed.
    #[must_use]
    pub fn prefill_us(&self, tokens: u64, context_tokens: u64) -> u64 {
        let computed = (self.prefill_token_us * tokens).max(self.stream_us);
        self.launch_us + computed + self.kv_token_ns * context_tokens / 1000
    }
}

/// What an engine has computed since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The engine's process; another one counts from 0.
    pub pid: u32,
    pub decode_steps: u64,
    /// Tokens of all sequences together.
    pub decoded_tokens: u64,
    pub prefill_steps: u64,
    pub prefill_tokens: u64,
    /// Time spent in steps, in the one that runs as well.
    pub busy_us: u64,
    /// Tokens in the KV cache now.
    pub kv_tokens: u64,
    /// Of them, those of the last step's sequences.
    pub context_tokens: u64,
    /// What the last step computes: a token for each of so many sequences, or
    /// so many tokens of prompts.
    pub step_sequences: u64,
    pub step_prefill_tokens: u64,
}

impl Pace {
    /// What the board in `board` says.
    ///
    /// # Errors
    /// The file is not there at this moment, or no pace.
    pub fn read(board: &Path) -> io::Result<Self> {
        read(&file(board, "pace"))
    }

    /// As text for the file, whose place is [`Pace::FILE`].
    #[must_use]
    pub fn to_text(&self) -> String {
        toml::to_string(self).expect("a pace is a table of plain values")
    }

    /// Relative to the board's directory.
    pub const FILE: &str = "run/virtual/pace";
}

impl Load {
    /// What the engine on the board in `board` says.
    ///
    /// # Errors
    /// The file is not there at this moment, or no load.
    pub fn read(board: &Path) -> io::Result<Self> {
        read(&file(board, "load"))
    }

    /// Says it to the board in `board`.
    ///
    /// # Errors
    /// The directory is not there or takes no files.
    pub fn write(&self, board: &Path) -> io::Result<()> {
        let (place, fresh) = (file(board, "load"), file(board, "load.fresh"));
        let text = toml::to_string(self).expect("a load is a table of plain values");
        fs::write(&fresh, text)?;
        // Moving over an old file makes some file systems write to the disk at once.
        let _not_there = fs::remove_file(&place);
        fs::rename(&fresh, &place)
    }
}

fn file(board: &Path, name: &str) -> PathBuf {
    board.join(DIR).join(name)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    toml::from_str(&fs::read_to_string(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_read_as_it_was_written() {
        let pace = Pace { launch_us: 2300, stream_us: 30_000, ..Pace::default() };
        assert_eq!(toml::from_str::<Pace>(&pace.to_text()).unwrap(), pace);
        let off = Pace { off: Some("thermtrip".into()), ..pace };
        assert_eq!(toml::from_str::<Pace>(&off.to_text()).unwrap(), off);
    }

    #[test]
    fn a_short_prompt_takes_as_long_as_reading_the_weights() {
        let pace = Pace {
            launch_us: 1000,
            stream_us: 30_000,
            sequence_us: 2000,
            kv_token_ns: 1500,
            prefill_token_us: 500,
            off: None,
        };
        assert_eq!(pace.decode_us(4, 2000), 1000 + 30_000 + 8000 + 3000);
        assert_eq!((pace.prefill_us(10, 0), pace.prefill_us(100, 0)), (31_000, 51_000));
    }
}

//! The virtual board that sets the echo backend's pace.
//!
//! Each step asks how long it takes, takes that long and adds itself to what the
//! board is told. The board is asked again a few times a second. One that does
//! not answer has not changed; one that is off takes this process with it, as
//! it would a real one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine_api::virtual_board::{Load, Pace};

/// How long an answer of the board holds.
const FRESH: Duration = Duration::from_millis(100);

/// Exit status of a process whose board went off.
const BOARD_IS_OFF: i32 = 41;

/// A virtual board and what was computed on it.
pub(super) struct Board {
    dir: PathBuf,
    pace: Pace,
    asked: Instant,
    load: Load,
}

/// Tokens of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens {
    /// Computed by it.
    pub(super) computed: u64,
    /// In the KV cache of its sequences.
    pub(super) context: u64,
    /// In the whole KV cache.
    pub(super) held: u64,
}

impl Board {
    /// The board in `dir`, as soon as it says its pace. The supervisor bounds
    /// how long a load may take.
    pub(super) fn wait_for(dir: PathBuf) -> Self {
        let pace = loop {
            match Pace::read(&dir) {
                Ok(pace) => break pace,
                Err(_) => std::thread::sleep(FRESH),
            }
        };
        end_if_off(&pace, &dir);
        let board = Self {
            dir,
            pace,
            asked: Instant::now(),
            load: Load { pid: std::process::id(), ..Load::default() },
        };
        board.tell();
        board
    }

    pub(super) fn decode(&mut self, tokens: Tokens) {
        (self.load.step_sequences, self.load.step_prefill_tokens) = (tokens.computed, 0);
        self.take(tokens, |pace| pace.decode_us(tokens.computed, tokens.context));
        self.load.decode_steps += 1;
        self.load.decoded_tokens += tokens.computed;
        self.tell();
    }

    pub(super) fn prefill(&mut self, tokens: Tokens) {
        (self.load.step_sequences, self.load.step_prefill_tokens) = (0, tokens.computed);
        self.take(tokens, |pace| pace.prefill_us(tokens.computed, tokens.context));
        self.load.prefill_steps += 1;
        self.load.prefill_tokens += tokens.computed;
        self.tell();
    }

    /// Takes a step's time, in slices: the board is to feel a long step while it
    /// runs.
    fn take(&mut self, tokens: Tokens, time_us: impl FnOnce(&Pace) -> u64) {
        self.ask();
        self.load.kv_tokens = tokens.held + tokens.computed;
        self.load.context_tokens = tokens.context;
        let mut left = Duration::from_micros(time_us(&self.pace));
        while left > FRESH {
            self.sleep(FRESH);
            self.tell();
            left -= FRESH;
        }
        self.sleep(left);
    }

    fn sleep(&mut self, time: Duration) {
        let begin = Instant::now();
        std::thread::sleep(time);
        // On a machine that is late, that is what the step took.
        let took = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.load.busy_us = self.load.busy_us.saturating_add(took);
    }

    fn ask(&mut self) {
        if self.asked.elapsed() < FRESH {
            return;
        }
        self.asked = Instant::now();
        if let Ok(pace) = Pace::read(&self.dir) {
            end_if_off(&pace, &self.dir);
            self.pace = pace;
        }
    }

    fn tell(&self) {
        // A board that cannot be told keeps its old load; the answer goes on.
        let _untold = self.load.write(&self.dir);
    }
}

fn end_if_off(pace: &Pace, dir: &Path) {
    if let Some(why) = &pace.off {
        tracing::error!(board = %dir.display(), why, "the virtual board is off");
        std::process::exit(BOARD_IS_OFF);
    }
}

//! The engine on the board: what it computed becomes load, and how fast the
//! board is becomes its pace.
//!
//! Tokens flow in this machine's time. When the board's time runs faster, a
//! second of work heats it for as many seconds as it counts meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine_api::virtual_board::{Load as Told, Pace};

use crate::board::Board;
use crate::llm::Llm;
use crate::power::Load;
use crate::readings::Off;
use crate::rounding::whole;
use crate::speed::{Speed, Work};
use crate::tree::Tree;

/// The engine as its counters show it.
#[derive(Debug)]
pub struct Coupling {
    dir: PathBuf,
    llm: Llm,
    last: Option<Told>,
}

/// What the engine did in a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Activity {
    pub load: Load,
    pub decoded_tokens_per_s: f64,
    pub prefill_tokens_per_s: f64,
    /// Mean number of sequences in a decode step.
    pub sequences: f64,
    /// Tokens in the KV cache; `None` without an engine.
    pub kv_tokens: Option<u64>,
}

impl Coupling {
    /// An engine of `llm` on the board in `dir`.
    #[must_use]
    pub fn new(dir: &Path, llm: &Llm) -> Self {
        Self { dir: dir.to_owned(), llm: *llm, last: None }
    }

    #[must_use]
    pub fn llm(&self) -> &Llm {
        &self.llm
    }

    /// What the engine did in the last `time`, on a board of this speed.
    pub fn activity(&mut self, time: Duration, speed: &Speed) -> Activity {
        let told = Told::read(&self.dir).ok().or(self.last);
        let Some(told) = told.filter(|told| lives(told.pid)) else {
            self.last = None;
            return Activity::default();
        };
        let before = self.last.replace(told).filter(|last| last.pid == told.pid);
        // Of an engine that was here before us it is unknown when it did what.
        between(&before.unwrap_or(told), &told, time, &self.llm, speed)
    }

    /// The pace at the board's present clocks.
    #[must_use]
    pub fn pace(&self, board: &Board) -> Pace {
        let (speed, llm) = (board.speed(), &self.llm);
        let us = |seconds: f64| whole(seconds * 1e6);
        Pace {
            off: board.readings().off.map(|off| word(off).to_owned()),
            launch_us: us(speed.launch_s),
            stream_us: us(speed.stream_s(llm)),
            sequence_us: us(2.0 * llm.parameters / speed.decode_flop_per_s),
            kv_token_ns: whole(llm.kv_bytes_per_token / speed.memory_bytes_per_s * 1e9),
            prefill_token_us: us(2.0 * llm.parameters / speed.prefill_flop_per_s),
        }
    }

    /// Says the pace to the engine.
    ///
    /// # Errors
    /// The directory takes no files.
    pub fn tell(&self, board: &Board, tree: &mut Tree) -> io::Result<()> {
        tree.say(Pace::FILE, &self.pace(board).to_text())
    }

    /// Says no pace any more: engines that start wait for the next board.
    ///
    /// # Errors
    /// The file cannot be taken away.
    pub fn leave(&self, tree: &mut Tree) -> io::Result<()> {
        tree.unsay(Pace::FILE)
    }
}

/// Why a board is off, in a word.
#[must_use]
pub fn word(off: Off) -> &'static str {
    match off {
        Off::Critical => "critical temperature",
        Off::Thermtrip => "thermtrip",
        Off::BrownOut => "brown-out",
    }
}

fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    // Of another user's process only that it lives can be learnt.
    let asked = |pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
    pid.is_some_and(|pid| matches!(asked(pid), Ok(()) | Err(nix::errno::Errno::EPERM)))
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2^52")]
fn between(last: &Told, now: &Told, time: Duration, llm: &Llm, speed: &Speed) -> Activity {
    let grown = |of: fn(&Told) -> u64| of(now).saturating_sub(of(last));
    let seconds = time.as_secs_f64().max(1e-3);
    let (steps, decoded) = (grown(|t| t.decode_steps), grown(|t| t.decoded_tokens));
    let (chunks, prompts) = (grown(|t| t.prefill_steps), grown(|t| t.prefill_tokens));
    let mean = |sum: u64, count: u64| small(sum.div_ceil(count.max(1)));
    // While a step is longer than that, it is known from itself alone.
    let parts = if steps + chunks == 0 {
        [(1, small(now.step_sequences), small(now.step_prefill_tokens)), (0, 0, 0)]
    } else {
        [(steps, mean(decoded, steps), 0), (chunks, 0, mean(prompts, chunks))]
    };
    let parts = parts.map(|(count, sequences, prefill_tokens)| {
        let context_tokens = if sequences > 0 { now.context_tokens } else { 0 };
        let step = speed.step(llm, Work { sequences, context_tokens, prefill_tokens });
        (count as f64 * step.time.as_secs_f64(), step.load)
    });
    // The share of the time by the engine's own clock, divided as the model would.
    let modelled: f64 = parts.iter().map(|(time, _)| time).sum();
    let busy = (grown(|t| t.busy_us) as f64 / 1e6 / seconds).min(1.0);
    let load = parts
        .iter()
        .fold(Load::IDLE, |sum, (time, load)| sum + load.during(busy * time / modelled.max(1e-9)));
    Activity {
        load,
        decoded_tokens_per_s: decoded as f64 / seconds,
        prefill_tokens_per_s: prompts as f64 / seconds,
        sequences: decoded as f64 / steps.max(1) as f64,
        kv_tokens: Some(now.kv_tokens),
    }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Conditions, Module};

    fn nano() -> Board {
        let module = Module::named("orin-nano-8gb-super").unwrap();
        Board::new(module, Conditions::default(), 1)
    }

    #[test]
    fn the_pace_is_the_model_s_own_step() {
        let board = nano();
        let pace = Coupling::new(Path::new("/nowhere"), &Llm::B3).pace(&board);
        for (sequences, context_tokens) in [(1, 100), (8, 9000)] {
            let work = Work { sequences, context_tokens, prefill_tokens: 0 };
            let step = board.speed().step(&Llm::B3, work).time.as_secs_f64() * 1e6;
            let told = u32::try_from(pace.decode_us(sequences.into(), context_tokens)).unwrap();
            assert!((f64::from(told) / step - 1.0).abs() < 0.01, "{told} {step}");
        }
        let work = Work { sequences: 0, context_tokens: 0, prefill_tokens: 512 };
        let step = board.speed().step(&Llm::B3, work).time.as_secs_f64() * 1e6;
        let told = u32::try_from(pace.prefill_us(512, 0)).unwrap();
        assert!((f64::from(told) / step - 1.0).abs() < 0.02, "{told} {step}");
    }

    #[test]
    fn half_of_the_time_is_half_of_the_load() {
        let board = nano();
        let speed = board.speed();
        let last = Told { pid: 1, ..Told::default() };
        let now = Told {
            decode_steps: 5,
            decoded_tokens: 20,
            busy_us: 500_000,
            context_tokens: 100,
            ..last
        };
        let activity = between(&last, &now, Duration::from_secs(1), &Llm::B3, &speed);
        let work = Work { sequences: 4, context_tokens: 100, prefill_tokens: 0 };
        let whole = speed.step(&Llm::B3, work).load;
        assert!((activity.load.gpu_busy - whole.gpu_busy / 2.0).abs() < 1e-9);
        assert_eq!((activity.decoded_tokens_per_s, activity.sequences), (20.0, 4.0));
        let longer = Told { busy_us: now.busy_us + 500_000, step_sequences: 4, ..now };
        let amid = between(&now, &longer, Duration::from_secs(1), &Llm::B3, &speed);
        assert!((amid.load.gpu_busy - whole.gpu_busy / 2.0).abs() < 1e-9);
        let idle = between(&now, &now, Duration::from_secs(1), &Llm::B3, &speed);
        assert_eq!(idle.load, Load::IDLE);
    }

    #[test]
    fn without_an_engine_nothing_is_loaded() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut coupling = Coupling::new(dir.path(), &Llm::B3);
        let activity = coupling.activity(Duration::from_secs(1), &nano().speed());
        assert_eq!((activity.load, activity.kv_tokens), (Load::IDLE, None));
    }
}

//! A Jetson that is not there, alive on a directory.
//!
//! Writes the board's files, lets time pass, and takes what an echo engine on it
//! computes as its load. Control is by files below the directory:
//!
//! - `run/virtual/faults`: what is wrong, in the lines of [`virtual_jetson::faults`].
//!   It is looked at four times a second and wins over the arguments. A file
//!   that is looked at while it is empty means for a moment that all is well.
//! - `run/virtual/power`: `on` switches a board that went off on again.
//! - `max_freq` of the GPU and nvpmodel's status file, as on a real board.
//!
//! A board that is off leaves its last sensor values standing, because nobody
//! could read them any more; its engine ends.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use virtual_jetson::tree::OWN;
use virtual_jetson::{Activity, Board, Conditions, Coupling, Faults, Llm, Module, Profile, Tree};

#[path = "main/status.rs"]
mod status;

/// Between two looks at what changed, in this machine's time.
const TICK_MS: u16 = 250;

/// A Jetson that is not there, alive on a directory.
///
/// While it runs, DIR/run/virtual/faults says what is wrong with it, a line each:
/// ambient 45 | fan stuck|quiet|cool|full | vent blocked | supply weak | load W |
/// memory MB | sensor NAME dead|frozen|cold|jumping|hanging, where NAME is a zone
/// (tj-thermal), a rail (VDD_IN) or fan. Writing "on" to DIR/run/virtual/power
/// switches a board that went off on again.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Which module; --boards lists them
    #[arg(long, default_value = "orin-nano-8gb-super")]
    board: String,
    /// The directory that becomes the board
    #[arg(long, required_unless_present = "boards")]
    root: Option<PathBuf>,
    /// The air's temperature, °C
    #[arg(long, default_value_t = 25.0, allow_negative_numbers = true)]
    ambient: f64,
    /// The heat sink's temperature at the start, as after long work, °C
    #[arg(long, value_name = "CELSIUS")]
    warm: Option<f64>,
    /// How much faster the board's time runs: its heat, not the engine's tokens
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// The fan
    #[arg(long, value_enum, default_value_t = Fan::Ok)]
    fan: Fan,
    /// The supply
    #[arg(long, value_enum, default_value_t = Supply::Ok)]
    supply: Supply,
    /// The power mode's number, instead of the module's own
    #[arg(long)]
    mode: Option<u32>,
    /// A fault from the start, as a line of the faults file; may be repeated
    #[arg(long, value_name = "LINE")]
    fault: Vec<String>,
    /// For the kernel's numbers, for chance, and with --variant for the board
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw thermal constants that are off by up to a fifth
    #[arg(long)]
    variant: bool,
    /// The language model whose weights and speed the engine has
    #[arg(long, default_value = "3b")]
    llm: String,
    /// Make this an engine directory for the echo backend, paced by the board
    #[arg(long, value_name = "DIR")]
    engine: Option<PathBuf>,
    /// How status lines look
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Between two status lines, seconds
    #[arg(long, default_value_t = 5.0)]
    every: f64,
    /// List the modules and the language models
    #[arg(long)]
    boards: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fan {
    /// As it comes: the quiet profile
    Ok,
    Quiet,
    Cool,
    Full,
    Stuck,
    BlockedVent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Supply {
    Ok,
    Weak,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.boards {
        return status::list();
    }
    // Before anything is written, so that a signal never ends it half way.
    let ending = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    ending.thread_block().context("block the signals that end it")?;
    let signals = SignalFd::new(&ending).context("wait for signals")?;
    let mut rig = Rig::new(&args)?;
    let mut last = Instant::now();
    let mut said: Option<Instant> = None;
    while !asked_to_end(&signals)? {
        let now = Instant::now();
        let activity = rig.pass(now - last)?;
        last = now;
        if said.is_none_or(|said| (now - said).as_secs_f64() >= args.every) {
            said = Some(now);
            status::say(args.format, &rig.board, &activity)?;
        }
    }
    rig.coupling.leave(&mut rig.tree)?;
    Ok(())
}

/// Waits for a tick, or less where a signal comes.
fn asked_to_end(signals: &SignalFd) -> Result<bool> {
    let mut waiting = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(TICK_MS)) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error).context("wait for a signal"),
    }
}

/// Everything that runs.
struct Rig {
    speed: f64,
    usual: Conditions,
    board: Board,
    tree: Tree,
    coupling: Coupling,
    control: Control,
}

impl Rig {
    fn new(args: &Args) -> Result<Self> {
        let root = args.root.as_deref().context("--root names the board's directory")?;
        let Some(module) = Module::named(&args.board) else {
            bail!("there is no board {:?}; --boards lists them", args.board);
        };
        let Some(llm) = Llm::named(&args.llm) else {
            bail!("there is no language model {:?}; --boards lists them", args.llm);
        };
        if !(args.speed > 0.0 && args.speed <= 1000.0) {
            bail!("--speed is above 0 and at most 1000");
        }
        let module = if args.variant { module.variant(args.seed) } else { module.clone() };
        let usual = usual(args);
        let mut board = Board::new(&module, usual, args.seed);
        if let Some(mode) = args.mode
            && !board.set_mode(mode)
        {
            bail!("{} has no power mode {mode}", module.name);
        }
        if let Some(celsius) = args.warm {
            if !(-40.0..=100.0).contains(&celsius) {
                bail!("--warm is between -40 and 100");
            }
            board.warm(celsius);
        }
        let mode = board.mode().id;
        let tree = Tree::create(root, &module, mode, &board.readings(), args.seed)?;
        let root = root.canonicalize().context("find the board's directory")?;
        let control = Control::create(&root, &args.fault.join("\n"))?;
        if let Some(engine) = &args.engine {
            virtual_jetson::engine::write(engine, &root, &module, llm)
                .with_context(|| format!("write the engine {}", engine.display()))?;
        }
        let coupling = Coupling::new(&root, llm);
        Ok(Self { speed: args.speed, usual, board, tree, coupling, control })
    }

    /// Lets `time` pass here, and more of it on the board.
    fn pass(&mut self, time: Duration) -> Result<Activity> {
        let faults = self.control.faults();
        self.board.conditions = faults.applied_to(self.usual);
        self.board.others_hold(faults.memory_bytes());
        self.obey()?;
        let activity = self.coupling.activity(time, &self.board.speed());
        match activity.kv_tokens {
            Some(tokens) => self.board.hold(self.coupling.llm(), tokens),
            None => self.board.release(),
        }
        let load = activity.load + faults.load();
        let readings = self.board.advance(time.mul_f64(self.speed), load);
        if readings.off.is_none() {
            self.tree.show(&readings, &faults)?;
        }
        self.coupling.tell(&self.board, &mut self.tree)?;
        Ok(activity)
    }

    /// Does what others wrote to the board's files.
    fn obey(&mut self) -> Result<()> {
        if self.board.readings().off.is_some() && self.control.take_power_on() {
            self.board.power_on();
        }
        let asked = self.tree.asked();
        if let Some(mode) = asked.mode
            && mode != self.board.mode().id
            && self.board.set_mode(mode)
        {
            self.tree.set_mode(&self.board.mode().clone())?;
        }
        // A cap that cannot be read leaves the one before.
        if let Some(hz) = self.tree.asked().gpu_cap_hz {
            self.board.cap_gpu(Some(hz));
        }
        Ok(())
    }
}

fn usual(args: &Args) -> Conditions {
    Conditions {
        ambient_celsius: args.ambient,
        fan: match args.fan {
            Fan::Cool => Profile::Cool,
            Fan::Full => Profile::Full,
            Fan::Ok | Fan::Quiet | Fan::Stuck | Fan::BlockedVent => Profile::Quiet,
        },
        fan_stuck: args.fan == Fan::Stuck,
        vent_blocked: args.fan == Fan::BlockedVent,
        supply_weak: args.supply == Supply::Weak,
    }
}

/// The files through which it is told what to do.
struct Control {
    faults: PathBuf,
    power: PathBuf,
    /// What the file said, and what was made of it.
    text: String,
    present: Faults,
}

impl Control {
    /// With these faults from the start.
    fn create(root: &Path, text: &str) -> Result<Self> {
        let faults = root.join(OWN).join("faults");
        let present = Faults::parse(text).context("--fault")?;
        fs::write(&faults, format!("{text}\n"))
            .with_context(|| format!("write {}", faults.display()))?;
        let power = root.join(OWN).join("power");
        Ok(Self { faults, power, text: format!("{text}\n"), present })
    }

    /// The faults of now. A file that is gone or not understood changes nothing;
    /// the latter is said.
    fn faults(&mut self) -> Faults {
        if let Ok(text) = fs::read_to_string(&self.faults)
            && text != self.text
        {
            match Faults::parse(&text) {
                Ok(faults) => self.present = faults,
                Err(error) => status::complain(&self.faults, &error),
            }
            self.text = text;
        }
        self.present.clone()
    }

    fn take_power_on(&self) -> bool {
        let said = fs::read_to_string(&self.power).is_ok_and(|text| text.trim() == "on");
        said && fs::remove_file(&self.power).is_ok()
    }
}

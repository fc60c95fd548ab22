//! Does what [`next`] decides, and says what was found.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jetpack::boot::control::{Control, Systems, restart_machine};
use jetpack::{Machine, Root, Sample};

use super::record::Record;
use super::{Ending, Engine, Firmware, Health, Mark, Step, look, next};

/// Between two looks at what is not well yet.
const PERIOD: Duration = Duration::from_secs(1);

/// Where we remember, below the machine's root. Root's own, not the service's.
const RECORD: &str = "var/lib/stoker-health";

/// Is there from when the machine is sent back until it starts again: NVIDIA's unit,
/// which would mark the boot as good, must not run then.
const GOING_BACK: &str = "run/stoker-health/going-back";

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Options {
    pub root: PathBuf,
    pub state_dir: PathBuf,
    /// The server, as `host:port`.
    pub host: String,
    pub patience: Duration,
}

/// How often the machine below `root` went off without being shut down; `None` where
/// nobody counts.
#[must_use]
pub fn unsafe_shutdowns(root: &Root) -> Option<u32> {
    let directory = root.as_path().join(RECORD);
    directory
        .join(super::record::FILE)
        .exists()
        .then(|| Record::open(&directory).unsafe_shutdowns())
}

/// Takes note that the machine is being shut down, so that this boot does not count as
/// one that was cut short.
///
/// # Errors
/// It cannot be written down.
pub fn shut_down(root: &Root) -> io::Result<()> {
    Record::open(&root.as_path().join(RECORD)).ended()
}

/// Where a server that listens there is reached from its own machine.
#[must_use]
pub fn nearest(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Why the end could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("print what was found")]
    Print(#[from] io::Error),
}

/// Looks until it is clear how this boot went, and has the firmware know.
///
/// # Errors
/// Nobody reads what is printed.
pub fn health(options: &Options, out: &mut impl Write) -> Result<Ending, HealthError> {
    let mut boot = Boot::open(options, out)?;
    let began = Instant::now();
    let (mut health, mut has_looked) = (Health::unknown(), false);
    loop {
        let waited = began.elapsed();
        // However little patience there is, it is looked once.
        let patience = if has_looked { options.patience } else { Duration::MAX };
        match next(boot.mark, boot.firmware, &health, waited, patience) {
            Step::Wait => {
                if has_looked {
                    std::thread::sleep(PERIOD);
                }
                has_looked = true;
                let sample = boot.machine.sample();
                health = look::now(&options.host, &options.state_dir, &sample);
            }
            Step::Mark => boot.mark_good(waited, out)?,
            Step::GoBack => {
                if boot.go_back(out)? {
                    say(&health, out)?;
                    return Ok(Ending::WentBack);
                }
            }
            Step::End(ending) => {
                say(&health, out)?;
                return Ok(ending);
            }
        }
    }
}

/// This boot, and what the firmware knows of it.
struct Boot {
    root: Root,
    machine: Machine,
    control: Option<Control>,
    /// Slot and releases: another one in the same slot is another system.
    system: String,
    record: Record,
    firmware: Firmware,
    mark: Mark,
}

impl Boot {
    fn open(options: &Options, out: &mut impl Write) -> io::Result<Self> {
        let root = Root::new(&options.root);
        let mut machine = Machine::open(root.clone());
        let sample = machine.sample();
        let control = Control::find(&root);
        let directory = options.root.join(RECORD);
        let mut record = Record::open(&directory);
        // systemd has made it where boots are counted.
        if let Some(id) = jetpack::boot::id(&root).filter(|_| directory.exists())
            && let Err(error) = record.runs(&id)
        {
            writeln!(out, "that this boot has begun cannot be remembered: {error}")?;
        }
        let mut boot = Self {
            root,
            machine,
            control,
            system: String::new(),
            record,
            firmware: Firmware::CountsNothing,
            mark: Mark::Open,
        };
        boot.firmware = boot.ask(&sample, out)?;
        Ok(boot)
    }

    fn ask(&mut self, sample: &Sample, out: &mut impl Write) -> io::Result<Firmware> {
        let Some(control) = &self.control else {
            if sample.facts.boot.slots.is_empty() {
                return Ok(Firmware::CountsNothing);
            }
            writeln!(out, "nvbootctrl is not installed, and nothing else marks this boot as good")?;
            return Ok(Firmware::CannotBeTold);
        };
        let pair = match control.systems() {
            Ok(Systems::Two(pair)) => pair,
            Ok(Systems::One) => return Ok(Firmware::OneSystem),
            Err(error) => {
                writeln!(out, "taken for a board with one system: {error}")?;
                return Ok(Firmware::OneSystem);
            }
        };
        let release = sample.board.l4t.map_or_else(|| "?".to_owned(), |l4t| l4t.to_string());
        self.system = format!("{} {release} {}", pair.running.name, env!("CARGO_PKG_VERSION"));
        Ok(Firmware::TwoSystems {
            other_boots: pair.other.boots,
            is_new: !self.record.was_good(&self.system),
            restarts: Some(self.record.restarts(&self.system)),
        })
    }

    fn mark_good(&mut self, at: Duration, out: &mut impl Write) -> io::Result<()> {
        let Some(control) = &self.control else { return Ok(()) };
        let times = if let Mark::Refused { times, .. } = self.mark { times + 1 } else { 1 };
        match control.verify() {
            Ok(()) => {
                self.mark = Mark::Good;
                writeln!(out, "this boot is marked as good")?;
                if let Firmware::TwoSystems { .. } = self.firmware
                    && let Err(error) = self.record.good(&self.system)
                {
                    writeln!(out, "that this system was good cannot be remembered: {error}")?;
                }
            }
            Err(error) => {
                self.mark = Mark::Refused { times, at };
                writeln!(out, "this boot could not be marked as good: {error}")?;
            }
        }
        Ok(())
    }

    /// Whether the machine starts again. If not, that is not asked for once more.
    fn go_back(&mut self, out: &mut impl Write) -> io::Result<bool> {
        let flag = self.root.as_path().join(GOING_BACK);
        let told = self
            .record
            .restarted(&self.system)
            .and_then(|()| fs::create_dir_all(flag.parent().unwrap_or(&flag)))
            .and_then(|()| fs::write(&flag, []))
            .map_err(|error| format!("it cannot be written down: {error}"))
            .and_then(|()| restart_machine(&self.root).map_err(|error| error.to_string()));
        match told {
            Ok(()) => {
                writeln!(
                    out,
                    "this system is new and ill: the machine starts again, and goes back to the other one after {} such boots",
                    super::MOST_RESTARTS
                )?;
                Ok(true)
            }
            Err(why) => {
                writeln!(out, "this system is new and ill, and the machine stays: {why}")?;
                // NVIDIA's unit may mark it then.
                let _ = fs::remove_file(&flag);
                if let Firmware::TwoSystems { restarts, .. } = &mut self.firmware {
                    *restarts = None;
                }
                Ok(false)
            }
        }
    }
}

fn say(health: &Health, out: &mut impl Write) -> io::Result<()> {
    match &health.engine {
        Engine::Answers => writeln!(out, "the engine answers")?,
        Engine::GivenUp(why) => writeln!(out, "no engine answers: {why}")?,
        Engine::Pending(why) => writeln!(out, "the engine has not answered yet: {why}")?,
    }
    health.faults.iter().try_for_each(|fault| writeln!(out, "{}", fault.words))
}

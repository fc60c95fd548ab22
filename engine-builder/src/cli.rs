//! The command line, and what each command prints.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use engine_api::chore::{TARGETS, Target};

mod fetch;
mod foreign;
mod life;
mod list;
mod plan;
mod rebuild;
mod sources;

use crate::build::{self, Choice, Order};
use crate::catalogue::{self, Catalogue, Form};
use crate::convert::converter::{self, Converter};
use crate::engines::{EngineId, Engines};
use crate::error::Error;
use crate::hash::Sha256Hex;
use crate::interrupt::Interrupt;
use crate::plan::Wishes;
use crate::planning::{self, Backend};
use crate::report::{Format, Report};

const EXIT_CODES: &str = "\
Exit codes:
    0  done, or already built
    1  a file or directory could not be read or written
    2  the command line is wrong, or the worker is not there
    3  no such model or engine, or nothing to roll back to
    4  not enough disk space or memory
    5  the model could not be fetched
    6  the model file or the engine is damaged, or is not what it should be
    7  the engine did not prove itself in a worker
    8  another engine-builder is at work
    9  the board, its release or this version cannot do it
   10  the engine is in use, or it cannot be seen whether it is
   11  doctor: something deserves a look
   12  doctor: something is serious
   13  a file has to be brought; the message says which and where to put it
   14  the hub refuses: its token is missing or wrong, or terms were not accepted
   15  a tool of the build failed
   16  not now: the server is at work
   17  the new engine failed where it serves, and the one before it is back
   18  the engine predicts the fixed text worse than its bound allows
  130  interrupted";

/// llama.cpp keeps 256 sequences apart; some of them are finished ones, kept
/// as prefixes.
const MOST_USERS: i64 = 250;

/// Turns a chosen model into a verified engine directory.
#[derive(Debug, Parser)]
#[command(name = "engine-builder", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build an engine, unless it is already there
    #[command(after_help = EXIT_CODES)]
    Build(Build),
    /// Get a model's files, or say which they are
    #[command(after_help = EXIT_CODES)]
    Fetch(fetch::Fetch),
    /// Say how a model would be built and served on a board, and why
    #[command(after_help = EXIT_CODES)]
    Plan(plan::Plan),
    /// Show the models of the catalogue and the engines that are built
    List {
        #[command(flatten)]
        models: Models,
        #[command(flatten)]
        common: Common,
    },
    /// Read every file of an engine, or of all, and compare it with the manifest
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// The engine's name; without it, all engines
        id: Option<String>,
        /// Also load it in a worker and compare its answer with the build's
        #[arg(long)]
        smoke: bool,
        /// The engine-worker for --smoke; by default the one beside this program
        #[arg(long, value_name = "PATH", requires = "smoke")]
        worker: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Make an engine the default and remember the one before
    #[command(after_help = EXIT_CODES)]
    Use {
        /// The engine's name
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Make the default before this one the default again
    #[command(after_help = EXIT_CODES)]
    Rollback {
        #[command(flatten)]
        common: Common,
    },
    /// Build stale engines again: llama.cpp's from their own weights, TensorRT-LLM's from the
    /// checkpoint in the cache
    #[command(after_help = EXIT_CODES)]
    Rebuild(rebuild::Rebuild),
    /// Remove an engine that is not in use
    #[command(after_help = EXIT_CODES)]
    Remove {
        /// The engine's name
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove engines that are neither in use nor the one to go back to
    #[command(after_help = EXIT_CODES)]
    Gc {
        /// Say what would be removed and remove nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Say what is wrong with the engines, why it matters and what to do
    #[command(after_help = EXIT_CODES)]
    Doctor {
        /// Where fetched models are kept [default: ${XDG_CACHE_HOME:-~/.cache}/stoker]
        #[arg(long, value_name = "DIR")]
        cache_dir: Option<PathBuf>,
        /// Below it are the files of the machine; a captured tree is one too
        #[arg(long, default_value = "/", value_name = "DIR")]
        root: PathBuf,
        #[command(flatten)]
        models: Models,
        #[command(flatten)]
        common: Common,
    },
}

impl Command {
    fn common(&self) -> &Common {
        match self {
            Self::Build(Build { common, .. })
            | Self::Fetch(fetch::Fetch { common, .. })
            | Self::Plan(plan::Plan { common, .. })
            | Self::List { common, .. }
            | Self::Verify { common, .. }
            | Self::Use { common, .. }
            | Self::Rollback { common }
            | Self::Rebuild(rebuild::Rebuild { common, .. })
            | Self::Remove { common, .. }
            | Self::Gc { common, .. }
            | Self::Doctor { common, .. } => common,
        }
    }
}

#[derive(Debug, Args)]
struct Common {
    /// Where engines are kept
    #[arg(long, env = "STOKER_STATE_DIR", default_value = "/var/lib/stoker", value_name = "DIR")]
    state_dir: PathBuf,
    /// Text for people or one JSON object a line
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
struct Models {
    /// Where files that add or replace models of the catalogue are
    #[arg(long, env = "STOKER_MODELS_DIR", default_value = catalogue::MODELS_DIR, value_name = "DIR")]
    models_dir: PathBuf,
}

#[derive(Debug, Args)]
struct Build {
    /// A model of the catalogue, by name or alias
    #[arg(required_unless_present = "gguf", conflicts_with = "gguf")]
    model: Option<String>,
    /// Build from a model file of your own
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    gguf: Option<PathBuf>,
    /// The engine's name; by default the model's
    #[arg(long, value_name = "ID")]
    name: Option<String>,
    /// Tokens in one request's window, prompt and answer together
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// Requests answered at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_USERS))]
    users: Option<u16>,
    /// Quantise the model file to this type first: Q8_0, Q6_K, Q5_K_M, Q5_0, Q4_K_M, Q4_K_S, Q4_0
    /// or Q3_K_M
    #[arg(long, value_name = "TYPE", value_parser = target)]
    quantise: Option<Target>,
    /// Which of the model's forms is taken: package, gguf or checkpoint, from which llama.cpp's
    /// converter makes a GGUF [default: the first of them that there is]
    #[arg(long, value_enum, conflicts_with = "gguf")]
    form: Option<Form>,
    #[command(flatten)]
    sources: sources::Sources,
    /// What the engine is for [default: llama-cpp]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Where fetched models are kept [default: ${XDG_CACHE_HOME:-~/.cache}/stoker]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// The engine-worker for the smoke run; by default the one beside this program
    #[arg(long, value_name = "PATH")]
    worker: Option<PathBuf>,
    /// Only run the tools of a TensorRT backend; nothing is proved or published
    #[arg(long, requires = "backend", conflicts_with = "worker")]
    unproved: bool,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Below it are the files of the machine that a TensorRT backend builds for
    #[arg(long, default_value = "/", value_name = "DIR", requires = "backend")]
    root: PathBuf,
    /// Where the tools of the TensorRT backends and llama.cpp's converter are installed
    #[arg(long, env = "STOKER_RUNTIMES_DIR", default_value = planning::RUNTIMES, value_name = "DIR")]
    runtimes_dir: PathBuf,
    /// The release of llama.cpp's converter, by the hash of its modules
    #[arg(
        long, env = "STOKER_CONVERTER_SHA256", default_value = converter::SHA256,
        value_name = "SHA256", value_parser = sha256
    )]
    converter_sha256: Sha256Hex,
    #[command(flatten)]
    models: Models,
    #[command(flatten)]
    common: Common,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Without it, Ctrl-C just ends the process; the next build tidies up.
    let interrupt = Interrupt::on_signals().unwrap_or_default();
    let report = Report::new(cli.command.common().format, interrupt);
    match run(cli.command, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report.failure(&error);
            ExitCode::from(error.class().exit_code())
        }
    }
}

fn run(command: Command, report: &Report) -> Result<(), Error> {
    let engines = Engines::of(&command.common().state_dir);
    match command {
        Command::Build(build) => match build.backend.filter(|other| *other != Backend::LlamaCpp) {
            Some(backend) => foreign::run(build, backend, report),
            None if build.unproved => {
                Err(Error::Usage("--unproved is for builds by the tools of TensorRT".into()))
            }
            None => build::run(&build.order()?, report),
        },
        Command::Fetch(fetch) => fetch::run(&fetch, report),
        Command::Plan(plan) => plan::run(&plan, report),
        Command::List { models, .. } => {
            let catalogue = Catalogue::with_dir(&models.models_dir)?;
            list::list(&catalogue, &engines, report)
        }
        Command::Verify { id, smoke, worker, .. } => {
            let worker = life::worker(smoke, worker.as_deref())?;
            life::verify(id.as_deref(), worker.as_deref(), &engines, report)
        }
        Command::Use { id, .. } => life::switch_to(&id, &engines, report),
        Command::Rollback { .. } => life::roll_back(&engines, report),
        Command::Rebuild(order) => rebuild::run(order, report),
        Command::Remove { id, .. } => life::remove(&id, &engines, report),
        Command::Gc { dry_run, .. } => life::gc(&engines, dry_run, report),
        Command::Doctor { cache_dir: named, root, models, .. } => {
            let catalogue = Catalogue::with_dir(&models.models_dir)?;
            life::doctor(&engines, &cache_dir(named)?, root, &catalogue, report)
        }
    }
}

impl Build {
    fn order(self) -> Result<Order, Error> {
        let name = self.name.map(EngineId::try_from).transpose();
        let model = match (self.gguf, self.model) {
            (Some(file), _) => Choice::File(file),
            (None, name) => Choice::Catalogue(name.expect("clap asks for one of the two")),
        };
        Ok(Order {
            model,
            sources: self.sources.open()?,
            wishes: Wishes {
                name: name.map_err(|error| Error::Usage(error.to_string()))?,
                context: self.context,
                users: self.users,
                quantise: self.quantise,
                form: self.form,
            },
            state_dir: self.common.state_dir,
            cache_dir: cache_dir(self.cache_dir)?,
            models_dir: self.models.models_dir,
            worker: self.worker,
            converter: Converter::below(&self.runtimes_dir, self.converter_sha256),
            dry_run: self.dry_run,
        })
    }
}

/// A type that can be quantised to.
fn target(name: &str) -> Result<Target, String> {
    Target::named(name).ok_or_else(|| {
        let names = TARGETS.map(|target| target.name).join(", ");
        format!(
            "it is none of {names}; types below three bits and IQ types want an importance matrix, \
             which nothing here computes"
        )
    })
}

fn sha256(text: &str) -> Result<Sha256Hex, String> {
    Sha256Hex::try_from(text.to_owned()).map_err(|_| "it is no sha256".into())
}

/// The named directory, or the usual one.
fn cache_dir(named: Option<PathBuf>) -> Result<PathBuf, Error> {
    named.map_or_else(|| default_cache(|name| std::env::var_os(name)), Ok)
}

/// `${XDG_CACHE_HOME:-~/.cache}/stoker`; a relative `XDG_CACHE_HOME` does not
/// count, says its specification.
fn default_cache(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Error> {
    let dir = |name| variable(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let base = dir("XDG_CACHE_HOME").or_else(|| Some(dir("HOME")?.join(".cache")));
    Ok(base
        .ok_or_else(|| Error::Usage("HOME is not set; name a --cache-dir".into()))?
        .join("stoker"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::error::Class;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_documented() {
        for class in Class::ALL {
            let line = format!("\n{:>5}  ", class.exit_code());
            assert!(EXIT_CODES.contains(&line), "{class:?}");
        }
    }

    #[test]
    fn the_cache_is_where_other_programs_keep_theirs() {
        let cache = |xdg: Option<&str>, home: Option<&str>| {
            let variable = |name: &str| if name == "HOME" { home } else { xdg };
            default_cache(|name| variable(name).map(Into::into)).ok()
        };
        assert_eq!(cache(Some("/x"), Some("/h")), Some("/x/stoker".into()));
        assert_eq!(cache(None, Some("/h")), Some("/h/.cache/stoker".into()));
        assert_eq!(cache(Some("relative"), Some("/h")), Some("/h/.cache/stoker".into()));
        assert_eq!(cache(None, None), None);
    }
}

//! The command line, and what each command prints.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

mod list;
mod plan;

use crate::build::{self, Choice, Order};
use crate::catalogue::{self, Catalogue};
use crate::engines::{EngineId, Engines};
use crate::error::Error;
use crate::existing;
use crate::interrupt::Interrupt;
use crate::plan::Wishes;
use crate::planning::Backend;
use crate::report::{Format, Report, Step};

const EXIT_CODES: &str = "\
Exit codes:
    0  done, or already built
    1  a file or directory could not be read or written
    2  the command line is wrong, or the worker is not there
    3  no such model or engine
    4  not enough disk space or memory
    5  the model could not be fetched
    6  the model file or the engine is damaged, or is not what it should be
    7  the engine did not prove itself in a worker
    8  another engine-builder is at work
    9  the board, its release or this version cannot do it
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
    /// Read every file of an engine and compare it with the manifest
    Verify {
        /// The engine's name
        id: String,
        #[command(flatten)]
        common: Common,
    },
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
    #[arg(long, value_name = "FILE")]
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
    /// What the engine is for [default: llama-cpp]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Where fetched models are kept [default: ${XDG_CACHE_HOME:-~/.cache}/stoker]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// The engine-worker for the smoke run; by default the one beside this program
    #[arg(long, value_name = "PATH")]
    worker: Option<PathBuf>,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
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
    let (Command::Build(Build { common, .. })
    | Command::Plan(plan::Plan { common, .. })
    | Command::List { common, .. }
    | Command::Verify { common, .. }) = &cli.command;
    let report = Report::new(common.format, interrupt);
    match run(cli.command, &report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report.failure(&error);
            ExitCode::from(error.class().exit_code())
        }
    }
}

fn run(command: Command, report: &Report) -> Result<(), Error> {
    match command {
        Command::Build(build) => build::run(&build.order()?, report),
        Command::Plan(plan) => plan::run(&plan, report),
        Command::List { models, common } => {
            let catalogue = Catalogue::with_dir(&models.models_dir)?;
            list::list(&catalogue, &Engines::of(&common.state_dir), report)
        }
        Command::Verify { id, common } => verify(&id, &Engines::of(&common.state_dir), report),
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
            backend: self.backend.unwrap_or(Backend::LlamaCpp),
            wishes: Wishes {
                name: name.map_err(|error| Error::Usage(error.to_string()))?,
                context: self.context,
                users: self.users,
            },
            state_dir: self.common.state_dir,
            cache_dir: cache_dir(self.cache_dir)?,
            models_dir: self.models.models_dir,
            worker: self.worker,
            dry_run: self.dry_run,
        })
    }
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

fn verify(name: &str, engines: &Engines, report: &Report) -> Result<(), Error> {
    let known = engines.list()?;
    let Some(id) = known.iter().find(|id| id.as_str() == name) else {
        let known = catalogue::nearest(name, known.iter().map(EngineId::as_str));
        return Err(Error::UnknownEngine { name: name.into(), dir: engines.path().into(), known });
    };
    report.begin(Step::Verify, "reading every file");
    let manifest = existing::verify(engines, id, report)?;
    let count = manifest.files.len();
    let facts = json!({"engine": id.as_str(), "dir": engines.engine(id), "files": count});
    report.result(&format!("{id} is sound: {count} of {count} files as the manifest says"), facts);
    Ok(())
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
        for class in [Class::Io, Class::Usage, Class::UnknownModel, Class::NoRoom, Class::Fetch]
            .into_iter()
            .chain([
                Class::BadModel,
                Class::Smoke,
                Class::Busy,
                Class::Unsupported,
                Class::Interrupted,
            ])
        {
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

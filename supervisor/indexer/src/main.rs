//! The command `indexer`: tells what is different in a repository, in frames to
//! the supervisor or as lines of JSON to people.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use engine_api::frame::{self, Decoder};
use engine_api::index::{FromIndexer, KnownFile, ToIndexer};
use indexer::parsing::{self, Parsing};
use indexer::run;

/// Cuts the files of a repository into chunks that can be searched.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Goes over a repository once and says what is different from what is known
    Pass {
        /// The repository's directory
        root: PathBuf,
        /// How it is said: lines of JSON, with nothing known; or frames to and
        /// from a supervisor
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
    },
    /// Cuts files that come on stdin; `pass` starts it
    #[command(hide = true)]
    Parse,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Frames,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Action::Parse => parsing::serve(),
        Action::Pass { root, format } => {
            stand_back();
            let (known, only) = match format {
                Format::Json => Default::default(),
                Format::Frames => asked()?,
            };
            let mut stdout = std::io::stdout().lock();
            let mut tell = |said: FromIndexer| -> anyhow::Result<()> {
                let mut bytes = Vec::new();
                match format {
                    Format::Json => {
                        serde_json::to_writer(&mut bytes, &said)?;
                        bytes.push(b'\n');
                    }
                    Format::Frames => frame::encode(&said, &mut bytes)?,
                }
                stdout.write_all(&bytes).context("tell what was found")
            };
            run::pass(&root, known, &only, &mut Parsing::new(parser), &mut tell)?;
            stdout.flush().context("tell what was found")
        }
    }
}

/// Whoever answers somebody goes first, and this is the first to end when memory
/// runs out. Neither is worth failing for.
fn stand_back() {
    let _ = rustix::process::nice(19);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// This program, as the process that parses.
fn parser() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("parse");
    command
}

/// What the supervisor knows of the repository, and which places it asks about.
fn asked() -> anyhow::Result<(Vec<KnownFile>, Vec<String>)> {
    let (mut known, mut only) = (Vec::new(), Vec::new());
    let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 64 * 1024]);
    let mut stdin = std::io::stdin().lock();
    loop {
        while let Some(said) = decoder.next()? {
            match said {
                ToIndexer::Known(file) => known.push(file),
                ToIndexer::Only(path) => only.push(path),
                ToIndexer::Begin => return Ok((known, only)),
            }
        }
        let read = stdin.read(&mut buffer).context("hear what is known")?;
        anyhow::ensure!(read > 0, "the supervisor ended before it said what is known");
        decoder.push(&buffer[..read]);
    }
}

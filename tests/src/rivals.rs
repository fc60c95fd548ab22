//! The two servers that are compared, ours and llama-server, started alike:
//! the same model, window, places and threads, and otherwise each with its own
//! defaults, whatever the shell has set.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

/// What both are given.
#[derive(Debug, Clone)]
pub struct Serving {
    /// The engine's id.
    pub model: String,
    pub weights: PathBuf,
    /// Tokens in one request's window.
    pub context: u32,
    /// Requests decoded at once.
    pub sequences: u16,
    pub threads: usize,
}

impl Serving {
    /// What the engine in this directory offers, with so many threads or one
    /// for each processor.
    ///
    /// # Errors
    /// It is no engine with weights, or the processors cannot be counted.
    pub fn of_engine(engine: &Path, threads: Option<usize>) -> anyhow::Result<Self> {
        let manifest = engine_api::manifest::Manifest::read(engine)?;
        let weights = manifest
            .weights(engine)
            .with_context(|| format!("engine {:?} has no weights to give the peer", manifest.id))?;
        let threads = match threads {
            Some(threads) => threads,
            None => std::thread::available_parallelism().context("count the processors")?.get(),
        };
        Ok(Self {
            model: manifest.id,
            weights,
            context: manifest.serving.context,
            sequences: manifest.serving.max_sequences,
            threads,
        })
    }

    /// `stoker serve` with the engine that stands below `state_dir`.
    #[must_use]
    pub fn ours(&self, program: &Path, state_dir: &Path, port: u16) -> Command {
        let mut command = with_its_own_settings(program);
        command.arg("serve").arg("--state-dir").arg(state_dir);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.env("STOKER_ENGINE__THREADS", self.threads.to_string());
        command.env("STOKER_ENGINE__MODEL", &self.model);
        command
    }

    /// `llama-server` with the engine's weights.
    #[must_use]
    pub fn peer(&self, program: &Path, port: u16) -> Command {
        let mut command = with_its_own_settings(program);
        command.arg("-m").arg(&self.weights);
        // Its window is for all sequences together, ours for each.
        let window = self.context * u32::from(self.sequences);
        command.args(["-np", &self.sequences.to_string(), "-c", &window.to_string()]);
        command.args(["-t", &self.threads.to_string()]);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command
    }
}

fn with_its_own_settings(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["STOKER_", "LLAMA_", "GGML_", "OMP_", "GOMP_"].iter().any(|it| text.starts_with(it)) {
            command.env_remove(&name);
        }
    }
    command
}

/// The first line with a letter that `--version` prints on either stream, after
/// the program's name.
///
/// # Errors
/// The program cannot be run.
pub fn version(program: &Path) -> anyhow::Result<String> {
    let output = std::process::Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("ask {} for its version", program.display()))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let line = text.lines().find(|line| line.contains(char::is_alphabetic)).unwrap_or_default();
    Ok(format!("{name}: {}", line.trim()))
}

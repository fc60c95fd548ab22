//! Another store of vectors, in a process of its own that answers when it is told to.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context;
use serde::Deserialize;

use super::data::Data;
use super::{Arguments, WANTED};

pub(crate) struct Rival {
    pub(crate) name: &'static str,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    found: Vec<Vec<usize>>,
}

#[derive(Deserialize)]
struct Answered {
    /// Of each question.
    ms: Vec<f64>,
    found: Vec<Vec<usize>>,
}

impl Rival {
    pub(crate) fn start(
        name: &'static str,
        arguments: &Arguments,
        data: &Data,
        vectors: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(&arguments.python);
        command.arg(&arguments.rivals).arg(name).arg(vectors);
        let sizes = [data.vectors.len(), data.questions.len(), data.dimension, WANTED];
        command.args(sizes.map(|size| size.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start Python")?;
        let stdin = child.stdin.take().context("it was started with a pipe")?;
        let stdout = child.stdout.take().context("it was started with a pipe")?;
        Ok(Self { name, child, stdin, stdout: BufReader::new(stdout), found: Vec::new() })
    }

    /// Milliseconds of each question.
    pub(crate) fn answer(&mut self) -> anyhow::Result<Vec<f64>> {
        self.stdin.write_all(b"round\n").context("ask a rival")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("read its answer")?;
        let Answered { ms, found } = serde_json::from_str(&line)
            .with_context(|| format!("{} ended or talks nonsense, see above", self.name))?;
        self.found = found;
        Ok(ms)
    }

    /// What the last round found, of each question.
    pub(crate) fn found(&self) -> &[Vec<usize>] {
        &self.found
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

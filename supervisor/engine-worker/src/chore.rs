//! The work that `engine-builder` gives to a worker of its own, without a
//! supervisor: what `engine_api::chore` describes.
//!
//! Progress and the result go to standard output, complaints to standard error.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use engine_api::chore::{PERPLEXITY, QUANTISE, TARGETS, Target};

use crate::{diagnostics, openmp, perplexity, quantise};

/// One piece of work.
#[derive(Debug, PartialEq, Eq)]
enum Chore {
    Quantise { from: PathBuf, to: PathBuf, target: Target },
    Perplexity { model: PathBuf, text: PathBuf },
}

/// Does what the arguments after the program's name ask for.
///
/// # Errors
/// They ask for nothing that is known, or the work failed.
pub fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    let result = match read(arguments)? {
        Chore::Quantise { from, to, target } => {
            let done = quantise::run(&from, &to, target)
                .with_context(|| format!("quantise {} to {target}", from.display()))?;
            serde_json::to_string(&done)?
        }
        Chore::Perplexity { model, text } => {
            openmp::settle_environment().context("set up the compute threads")?;
            diagnostics::install();
            let text = std::fs::read_to_string(&text)
                .with_context(|| format!("read {}", text.display()))?;
            serde_json::to_string(&perplexity::measure(&model, &text)?)?
        }
    };
    say(&result);
    Ok(())
}

fn read(arguments: &[OsString]) -> anyhow::Result<Chore> {
    match arguments {
        [chore, from, to, flag, name] if chore == QUANTISE && flag == "--to" => {
            let target = name.to_str().and_then(Target::named).with_context(|| {
                let names = TARGETS.map(|target| target.name).join(", ");
                format!("{} is none of {names}", name.display())
            })?;
            Ok(Chore::Quantise { from: from.into(), to: to.into(), target })
        }
        [chore, model, flag, text] if chore == PERPLEXITY && flag == "--text" => {
            Ok(Chore::Perplexity { model: model.into(), text: text.into() })
        }
        _ => anyhow::bail!(
            "engine-worker takes its work over its socket; by hand it can only \
             `{QUANTISE} FROM TO --to TYPE` and `{PERPLEXITY} MODEL --text FILE`"
        ),
    }
}

/// A line on standard output. Whoever listens reads a log, so a reader that has
/// gone is no reason to stop.
pub(crate) fn say(line: &str) {
    let _unheard = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn chores_are_understood() {
        let (from, to) = ("a.gguf".into(), "b.gguf".into());
        let target = Target::named("Q4_K_M").unwrap();
        assert_eq!(
            read(&words("quantise a.gguf b.gguf --to q4_k_m")).unwrap(),
            Chore::Quantise { from, to, target }
        );
        assert_eq!(
            read(&words("perplexity a.gguf --text t.txt")).unwrap(),
            Chore::Perplexity { model: "a.gguf".into(), text: "t.txt".into() }
        );
    }

    #[test]
    fn anything_else_is_refused_with_what_there_is() {
        for line in ["--help", "quantise a b", "perplexity a --text", "quantise a b --from Q8_0"] {
            let said = read(&words(line)).unwrap_err().to_string();
            assert!(said.contains("quantise FROM TO --to TYPE"), "{line}: {said}");
        }
        let said = read(&words("quantise a b --to IQ1_S")).unwrap_err().to_string();
        assert!(said.starts_with("IQ1_S is none of Q8_0, "), "{said}");
    }
}

//! The program `engine-worker`: serves the engine that its supervisor names, over
//! the connections that come in on the control socket on stdin.
//!
//! It ends at end of file on its control socket. With arguments it does a chore for
//! the builder in place of that. It stands in the library so that a worker which is
//! built for a test can be another program with a name of its own.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use engine_api::protocol::{FromWorker, PromptProblem, ToWorker};
use jetpack::Root;
use jetpack::process::go_first_when_memory_runs_out;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use crate::backend::BUILT_IN;
use crate::link::{self, Heard, Line};
use crate::session::{self, Engine, Inbox, ToCompile, ToPrepare};
use crate::{chore, diagnostics, openmp};

/// What may wait for the end of a step. The supervisor sends two messages for a
/// request at most, and has a bounded number of requests in flight.
const COMMANDS: usize = 4096;

/// Prompts that may wait to be prepared.
const PROMPTS: usize = 1024;

/// Grammars that may wait to be compiled: each belongs to a request.
const GRAMMARS: usize = COMMANDS;

/// How long cleaning up may take at the end.
const LAST_PATIENCE: Duration = Duration::from_secs(3);

/// Exit status after frames that are none, or more than was agreed.
const EXIT_PROTOCOL: i32 = 2;

/// Runs until no supervisor can come any more, or the engine cannot be loaded.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if !arguments.is_empty() {
        return match chore::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Without stderr there is nobody left to tell.
                let _unheard = writeln!(std::io::stderr(), "{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    diagnostics::install();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    if let Err(error) = go_first_when_memory_runs_out(&Root::default()) {
        tracing::warn!(%error, "the kernel does not know that this process is to go first");
    }
    openmp::settle_environment().context("set up the compute threads")?;
    let line = Line::default();
    let inbox = spawn_listener(line.clone())?;
    session::run(inbox, &line)
}

/// Sorts what the supervisor says: prompts to prepare go their own way, so
/// that they never wait for a step.
fn spawn_listener(line: Line) -> anyhow::Result<Inbox> {
    let control = std::io::stdin().as_fd().try_clone_to_owned().context("take stdin")?;
    let (commands, command_inbox) = sync_channel(COMMANDS);
    let (prompts, prompt_inbox) = sync_channel(PROMPTS);
    let (grammars, grammar_inbox) = sync_channel(GRAMMARS);
    let told = commands.clone();
    let engine = Arc::<OnceLock<Engine>>::default();
    let loaded = Arc::clone(&engine);
    std::thread::spawn(move || {
        let ended = link::listen(&control, &line, |heard| match heard {
            Heard::Said(outbox, ToWorker::Prepare { id, prompt, grammar }) => {
                let work = ToPrepare { outbox: outbox.clone(), id, prompt, grammar };
                if prompts.try_send(work).is_err() {
                    let problem = PromptProblem::Template("too many prompts at once".into());
                    outbox.send(&[FromWorker::Unprepared { id, problem }]);
                }
            }
            Heard::Said(outbox, ToWorker::Backends) => {
                outbox.send(&[FromWorker::Backends { built_in: BUILT_IN.to_vec() }]);
            }
            heard => {
                let heard = match (heard, loaded.get()) {
                    (Heard::Said(outbox, ToWorker::Load(load)), Some(engine)) => {
                        let next = engine.answer(&outbox, &load);
                        Heard::Said(outbox, next)
                    }
                    (heard, _) => heard,
                };
                let grammar = to_compile(&heard);
                let full = commands.try_send(heard).is_err()
                    || grammar.is_some_and(|work| grammars.try_send(work).is_err());
                if full {
                    tracing::error!("the supervisor sent more than was agreed");
                    leave(EXIT_PROTOCOL);
                }
            }
        });
        // No supervisor will come any more, so nobody waits for what is computed.
        leave(match ended {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!("{error:#}");
                EXIT_PROTOCOL
            }
        })
    });
    Ok(Inbox {
        commands: command_inbox,
        told,
        prompts: prompt_inbox,
        grammars: grammar_inbox,
        engine,
    })
}

/// What must be compiled before a request can run. Its place is in the batch
/// meanwhile, so that it can be cancelled.
fn to_compile(heard: &Heard) -> Option<ToCompile> {
    let Heard::Said(outbox, ToWorker::Generate(request)) = heard else { return None };
    let grammar = request.grammar.clone()?;
    let (id, generated) = (request.id, request.generated.clone());
    Some(ToCompile { outbox: outbox.clone(), id, grammar, generated })
}

/// Ends the process. A device that hangs can hang the runtime's own cleaning up,
/// and nobody may be left to end us.
fn leave(status: i32) -> ! {
    std::thread::spawn(|| {
        std::thread::sleep(LAST_PATIENCE);
        // The only error is that the process has ended.
        let _ = kill(getpid(), Signal::SIGKILL);
    });
    std::process::exit(status)
}

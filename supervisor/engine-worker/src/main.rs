//! `engine-worker`: serves the engine that its supervisor names, over the
//! socket on stdin.
//!
//! It is started by `stoker` or `engine-builder`, never by hand, and ends at
//! end of file on its socket.

#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;

use anyhow::Context;
use engine_api::protocol::{FromWorker, PROTOCOL_VERSION, PromptProblem, ToWorker};

use engine_worker::link::{self, EXIT_PROTOCOL, Outbox};
use engine_worker::session::{self, Inbox};
use engine_worker::{diagnostics, openmp};

/// Messages from the supervisor that may wait for the end of a step. It sends
/// two for a request at most, and has a bounded number of requests in flight.
const COMMANDS: usize = 4096;

/// Prompts that may wait to be prepared.
const PROMPTS: usize = 1024;

fn main() -> ExitCode {
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
    openmp::settle_environment().context("set up the compute threads")?;
    let stream = socket_on_stdin()?;
    let outbox = Outbox::new(stream.try_clone().context("share the socket on stdin")?);
    let pid = std::process::id();
    outbox.send(&[FromWorker::Hello { protocol: PROTOCOL_VERSION, pid }]);

    let inbox = spawn_reader(stream, outbox.clone());
    session::run(inbox, &outbox)
}

/// Stdin, which must be one end of a socketpair.
fn socket_on_stdin() -> anyhow::Result<UnixStream> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().context("take stdin")?;
    let stream = UnixStream::from(stdin);
    stream.peer_addr().context("stdin is not a socket; engine-worker is started by stoker")?;
    Ok(stream)
}

/// Sorts what the supervisor says: prompts to prepare go their own way, so
/// that they never wait for a step.
fn spawn_reader(stream: UnixStream, outbox: Outbox) -> Inbox {
    let (commands, command_inbox) = sync_channel(COMMANDS);
    let (prompts, prompt_inbox) = sync_channel(PROMPTS);
    std::thread::spawn(move || {
        link::read_until_gone(stream, |message| match message {
            ToWorker::Prepare { id, prompt } => {
                if prompts.try_send((id, prompt)).is_err() {
                    let problem = PromptProblem::Template("too many prompts at once".into());
                    outbox.send(&[FromWorker::Unprepared { id, problem }]);
                }
            }
            command => {
                if commands.try_send(command).is_err() {
                    tracing::error!("the supervisor sent more than was agreed");
                    std::process::exit(EXIT_PROTOCOL);
                }
            }
        })
    });
    Inbox { commands: command_inbox, prompts: prompt_inbox }
}

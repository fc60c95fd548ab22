//! `stoker serve`: configuration → journal → what an earlier one left → listener →
//! supervisor and HTTP → signals → drain.

use std::net::TcpListener;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use supervisor::config::{self, Flags, Settings};
use supervisor::ending::Ending;
use supervisor::listener::ListenError;
use supervisor::systemd::keeper::{self, Inherited, Keeper};
use supervisor::{api, journal, listener, systemd};
use tokio::time::timeout;

use crate::arguments::{Place, Serve};

/// How long the last bytes of answers may take to leave after the engine ended.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// Serves until a signal asks for the end.
pub(crate) fn serve(arguments: Serve) -> anyhow::Result<()> {
    let Serve { place: Place { config, state_dir, root }, listen } = arguments;
    let flags = Flags { config, state_dir, root, listen };
    let settings = config::load(&flags, std::env::vars())?;
    journal::start()?;
    raise_file_limit();
    make_state_dir(settings.state_dir.path())?;
    let keeper = Keeper::of_this_process();
    let mut inherited = keeper::inherit(keeper).map_err(ListenError::Inherited)?;
    let listener = listener::open(settings.server.listen, &mut inherited, keeper)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(run(settings, listener, inherited, keeper))
}

async fn run(
    settings: Settings,
    listener: TcpListener,
    inherited: Inherited,
    keeper: Keeper,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("ask for our own address")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("watch the listener")?;
    let (supervisor, handle, threads) =
        supervisor::supervisor::start(settings.clone(), inherited.workers, keeper)
            .context("start the threads")?;
    tokio::spawn(systemd::follow(handle.clone(), threads.telemetry.clone(), threads.store.clone()));
    let ending = Ending::new(handle.clone(), keeper, settings.server.http.drain_timeout);
    let answers = (!settings.store.answers_kept.is_zero()).then(|| threads.store.clone());
    let (memory, memory_thread) = threads.memory.unzip();
    let http = api::serve(
        listener,
        handle,
        threads.index,
        memory,
        answers,
        bounds(&settings),
        ending.closed(),
    );
    let mut http = tokio::spawn(ending.until_served(http));
    let interrupted = tokio::spawn(ending.heed_signals().context("listen for signals")?);
    systemd::ready();
    tracing::info!(%address, state_dir = %settings.state_dir.path().display(), "serving");

    let mut supervisor = pin!(supervisor.run());
    tokio::select! {
        () = &mut supervisor => {
            ending.close();
            match timeout(LAST_BYTES, &mut http).await {
                Ok(ended) => ended.context("end the HTTP side")?,
                Err(_) => tracing::warn!("clients that read too slowly were cut off"),
            }
        }
        ended = &mut http => {
            if !ending.is_closed() {
                bail!("the HTTP side ended by itself: {ended:?}");
            }
            supervisor.await;
        }
    }
    threads.index_thread.close();
    if let Some(thread) = memory_thread {
        thread.close();
    }
    threads.store_thread.close();
    if interrupted.is_finished() {
        bail!("ended at once by a second signal");
    }
    tracing::info!("ended");
    Ok(())
}

/// The bounds of the HTTP side, and where its keys are. It ends after the engine, and then within
/// [`LAST_BYTES`].
fn bounds(settings: &Settings) -> api::Settings {
    let configured = &settings.server.http;
    let drain_timeout = configured.drain_timeout + LAST_BYTES;
    let keys = Some(settings.state_dir.path().to_owned());
    let between_turns = settings.memory.between_turns;
    api::Settings { drain_timeout, keys, between_turns, ..configured.clone() }
}

/// Each connection and each worker takes descriptors, and the usual soft limit
/// of 1024 is for programs that use `select`.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}

fn make_state_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| {
        format!(
            "the state directory {} cannot be made; choose another with --state-dir or state_dir, \
             or create it for this user",
            path.display()
        )
    })
}

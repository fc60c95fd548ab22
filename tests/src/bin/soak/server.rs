//! The server under test, ours or the peer: started, found, taken down, ended.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use hyper::StatusCode;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::process;
use tests::rivals::Serving;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::http::get;
use crate::keeper::Keeper;
use crate::timeline::{Clocks, Mark, incidents_of_log, marks_of_log};

/// How long a start may take, on a slow disk and a busy machine.
const START_LIMIT: Duration = Duration::from_secs(180);
/// How long the end may take after SIGTERM: the drain and what follows it.
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// Pause between two looks at a server.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// What a worker's process is called.
const WORKER: &str = "engine-worker";

/// What a server is started with.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) program: PathBuf,
    pub(crate) serving: Serving,
    /// Ours: where its state is.
    pub(crate) state_dir: PathBuf,
    /// Ours: `STOKER_…` variables beside the usual ones.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) log: PathBuf,
}

/// A server that runs, or that is about to run again.
#[derive(Debug)]
pub(crate) enum Server {
    Ours(Box<Ours>),
    Peer(Keeper),
}

/// `stoker serve`.
#[derive(Debug)]
pub(crate) struct Ours {
    setup: Setup,
    child: Child,
    port: u16,
    clocks: Clocks,
}

impl Setup {
    /// Makes an engine the default one of the state directory.
    pub(crate) fn link_engine(&self, engine: &Path) -> anyhow::Result<()> {
        let engines = self.state_dir.join("engines");
        std::fs::create_dir_all(&engines)
            .with_context(|| format!("create {}", engines.display()))?;
        let engine = engine.canonicalize().with_context(|| format!("find {}", engine.display()))?;
        let link = engines.join("default");
        if !link.exists() {
            symlink(engine, &link).with_context(|| format!("link {}", link.display()))?;
        }
        Ok(())
    }

    /// Starts a command with its output in the log.
    pub(crate) fn spawn(&self, mut command: Command) -> anyhow::Result<Child> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("open {}", self.log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        command.spawn().with_context(|| format!("start {}", self.program.display()))
    }
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

impl Ours {
    pub(crate) async fn start(setup: Setup) -> anyhow::Result<Self> {
        let (port, clocks) = (free_port()?, Clocks::now());
        let child = Self::spawn(&setup, port)?;
        let mut server = Self { setup, child, port, clocks };
        server.wait_until_ready().await?;
        Ok(server)
    }

    fn spawn(setup: &Setup, port: u16) -> anyhow::Result<Child> {
        let mut command = setup.serving.ours(&setup.program, &setup.state_dir, port);
        // The engine is the default one, wherever it lies.
        command.env_remove("STOKER_ENGINE__MODEL");
        command.envs(setup.variables.iter().map(|(name, value)| (name, value)));
        setup.spawn(command)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !is_good(self.address(), "/ready").await {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended ({status}); see {}", self.setup.log.display());
            }
            let waited = started.elapsed();
            ensure!(waited < START_LIMIT, "not ready within {} s", START_LIMIT.as_secs());
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends the supervisor with a signal and starts another one in its place.
    pub(crate) async fn restart(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.end(signal).await?;
        self.child = Self::spawn(&self.setup, self.port)?;
        self.wait_until_ready().await
    }

    async fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id().context("the server has ended already")?;
        process::signal(pid, signal);
        timeout(STOP_LIMIT, self.child.wait())
            .await
            .with_context(|| format!("wait {} s for the server to end", STOP_LIMIT.as_secs()))??;
        Ok(())
    }

    /// `/api/status` now.
    pub(crate) async fn status(&self) -> anyhow::Result<Value> {
        let (_, body) = get(self.address(), "/api/status").await?;
        serde_json::from_slice(&body).context("parse the status")
    }

    /// The worker's process, if there is one and it is what it should be.
    pub(crate) async fn worker(&self) -> Option<u32> {
        let status = self.status().await.ok()?;
        let pid = u32::try_from(status["engine"]["pid"].as_u64()?).ok()?;
        (process::name(pid).as_deref() == Some(WORKER)).then_some(pid)
    }

    fn log(&self) -> String {
        let log = std::fs::read(&self.setup.log).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(ours) => ours.address(),
            Self::Peer(keeper) => keeper.address(),
        }
    }

    /// The process that holds the model.
    pub(crate) async fn worker(&self) -> Option<u32> {
        match self {
            Self::Ours(ours) => ours.worker().await,
            Self::Peer(keeper) => keeper.pid(),
        }
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let path = match self {
            Self::Ours(_) => "/ready",
            Self::Peer(_) => "/health",
        };
        is_good(self.address(), path).await
    }

    /// What has happened to the engine since the start.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        match self {
            Self::Ours(ours) => marks_of_log(&ours.log(), ours.clocks),
            Self::Peer(keeper) => keeper.marks(),
        }
    }

    /// The incidents that it has told of since the start, by their kinds.
    pub(crate) fn incidents(&self) -> BTreeMap<String, usize> {
        match self {
            Self::Ours(ours) => incidents_of_log(&ours.log()),
            Self::Peer(_) => BTreeMap::new(),
        }
    }

    /// Ends it in the proper way and waits until it is gone.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Ours(mut ours) => ours.end(Signal::SIGTERM).await,
            Self::Peer(keeper) => keeper.stop().await,
        }
    }
}

async fn is_good(address: SocketAddr, path: &str) -> bool {
    get(address, path).await.is_ok_and(|(status, _)| status == StatusCode::OK)
}

//! A server to measure: started cold, timed to its first token, stopped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::rivals::Serving;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::client::{Answer, Ask, Client, NotReady};
use crate::plan::Side;
use crate::{load, proc};

/// How long a start may take, on a slow disk and a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Pause between two questions whether the server answers yet; the same for
/// both sides, and the resolution of the start's time.
const START_POLL: Duration = Duration::from_millis(5);
/// How long a server may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const STOP_POLL: Duration = Duration::from_millis(20);
/// How much of a log is shown when a start fails.
const LOG_TAIL_LINES: usize = 20;

/// The programs that are compared.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) stoker: PathBuf,
    pub(crate) peer: PathBuf,
    /// The peer stands in for ours too.
    pub(crate) twins: bool,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Port {
    Any,
    Fixed(u16),
}

/// What both sides are given alike.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) programs: Programs,
    pub(crate) state_dir: PathBuf,
    pub(crate) serving: Serving,
    pub(crate) port: Port,
    /// Where the servers' logs are written.
    pub(crate) logs: PathBuf,
}

/// A setting of Stoker's for one scenario, as an environment variable.
pub(crate) type Override = (&'static str, &'static str);

impl Setup {
    fn command(&self, side: Side, port: u16, overrides: &[Override]) -> Command {
        let Programs { stoker, peer, twins } = &self.programs;
        if *twins || side == Side::Peer {
            return self.serving.peer(peer, port);
        }
        let mut command = self.serving.ours(stoker, &self.state_dir, port);
        command.envs(overrides.iter().copied());
        command
    }
}

/// A server that answers.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
    log: PathBuf,
    /// From the start of the process to its first token.
    pub(crate) start: Duration,
}

impl Server {
    /// Starts a server and waits for its first token.
    pub(crate) async fn start(
        setup: &Setup,
        side: Side,
        overrides: &[Override],
    ) -> anyhow::Result<Self> {
        let port = match setup.port {
            Port::Fixed(port) => port,
            Port::Any => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port(),
        };
        let log = setup.logs.join(format!("{side:?}.log"));
        let output = std::fs::File::create(&log).context("create the server's log")?;
        let mut command = setup.command(side, port, overrides);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("start {:?}", command.as_std()))?;
        let pid = child.id().context("the server has ended already")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self { child, pid, address, log, start: Duration::ZERO };
        server.start = server.first_token(started).await?;
        Ok(server)
    }

    async fn first_token(&mut self, started: Instant) -> anyhow::Result<Duration> {
        let ask = load::one_token();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended ({status}); its last lines:\n{}", tail(&self.log));
            }
            let refusal = match answer(self.address, &ask).await {
                Ok(answer) => return Ok(*answer.pieces.first().unwrap_or(&answer.ended) - started),
                Err(error) if is_too_early(&error) => error,
                Err(error) => return Err(error),
            };
            ensure!(
                started.elapsed() < START_LIMIT,
                "no token within {} s: {refusal:#}; the server's last lines:\n{}",
                START_LIMIT.as_secs(),
                tail(&self.log)
            );
            sleep(START_POLL).await;
        }
    }

    /// Ends the server as systemd would, and waits until all of it has gone.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let family = proc::family(self.pid);
        let pid = i32::try_from(self.pid).context("a process id is too large")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("send SIGTERM to the server")?;
        let wait = async {
            self.child.wait().await?;
            while family.iter().any(|pid| proc::is_running(*pid)) {
                sleep(STOP_POLL).await;
            }
            anyhow::Ok(())
        };
        timeout(STOP_LIMIT, wait)
            .await
            .with_context(|| format!("wait {} s for the server to end", STOP_LIMIT.as_secs()))?
    }
}

async fn answer(address: SocketAddr, ask: &Ask) -> anyhow::Result<Answer> {
    Client::connect(address).await?.ask(ask).await
}

/// Nobody listens yet, or he who does cannot answer yet.
fn is_too_early(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<io::Error>().map(io::Error::kind);
    error.is::<NotReady>() || refused == Some(io::ErrorKind::ConnectionRefused)
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

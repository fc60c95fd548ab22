//! Does what the plan says to the server, at its moment, and waits until the
//! server has come round before the next. Signals go only to the server and to
//! the process that it names as its worker.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::process;
use tests::spinner::Spinner;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::pauses::Done;
use crate::plan::{Fault, Planned};
use crate::server::{LOOK, Server};

/// How long the server may take to be ready again. Its longest wait between
/// two restarts is a minute.
const RECOVERY_LIMIT: Duration = Duration::from_secs(180);
/// How long a hang may go unnoticed before it is ended from here, so that the
/// run goes on. It counts as a failure.
const HANG_LIMIT: Duration = Duration::from_secs(90);
const HOG_TIME: Duration = Duration::from_secs(4);
const FULL_TIME: Duration = Duration::from_secs(3);
/// Pause between two looks for a successor, which is to be met while it loads.
const QUICK_LOOK: Duration = Duration::from_millis(10);
/// What fills the disk.
const FILLER: &str = "filler";

/// What was done, and what the server failed to notice.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    pub(crate) done: Vec<Done>,
    /// Workers that were killed or stopped.
    pub(crate) deaths: usize,
    /// Workers that hung until they were killed from here.
    pub(crate) unnoticed: usize,
    /// Times that the server was not ready again within the limit.
    pub(crate) stayed_down: usize,
}

/// The run's progress as far as faults care: requests begun, and whether it is
/// over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) requests: usize,
    pub(crate) over: bool,
}

/// Works through the plan until it or the run is over.
pub(crate) async fn inject(
    server: &mut Server,
    plan: &[Planned],
    small_disk: Option<&Path>,
    mut begun: watch::Receiver<Begun>,
    tell: impl Fn(usize),
) -> anyhow::Result<Injected> {
    let mut injected = Injected::default();
    for planned in plan {
        let due = |begun: &Begun| begun.over || begun.requests >= planned.after;
        let now = *begun.wait_for(due).await.context("the clients are gone")?;
        if now.over {
            break;
        }
        sleep(planned.delay).await;
        do_one(server, planned.fault, small_disk, &mut injected)
            .await
            .with_context(|| format!("inject {}", planned.fault.title()))?;
        tell(injected.done.len());
    }
    Ok(injected)
}

async fn do_one(
    server: &mut Server,
    fault: Fault,
    small_disk: Option<&Path>,
    injected: &mut Injected,
) -> anyhow::Result<()> {
    match fault {
        Fault::Kill | Fault::KillTwice | Fault::Stop => {
            let Some(worker) = ready_worker(server).await else {
                injected.stayed_down += 1;
                return Ok(());
            };
            injected.done.push(Done { fault, at: Instant::now() });
            let signal = if fault == Fault::Stop { Signal::SIGSTOP } else { Signal::SIGKILL };
            send(worker, signal)?;
            injected.deaths += 1;
            if fault == Fault::Stop && !is_replaced(server, worker).await {
                injected.unnoticed += 1;
                send(worker, Signal::SIGKILL)?;
            }
            let next = another_worker(server, worker).await;
            if let Some(next) = next.filter(|_| fault == Fault::KillTwice) {
                send(next, Signal::SIGKILL)?;
                injected.deaths += 1;
                another_worker(server, next).await;
            }
            if ready_worker(server).await.is_none() {
                injected.stayed_down += 1;
            }
        }
        Fault::Hog => {
            injected.done.push(Done { fault, at: Instant::now() });
            let hogs = [Spinner::start(false)?, Spinner::start(true)?];
            sleep(HOG_TIME).await;
            drop(hogs);
        }
        Fault::DiskFull => {
            let disk = small_disk.context("there is no small disk")?.to_path_buf();
            injected.done.push(Done { fault, at: Instant::now() });
            let filler = tokio::task::spawn_blocking(move || fill(&disk)).await??;
            sleep(FULL_TIME).await;
            std::fs::remove_file(&filler).context("empty the disk")?;
        }
        Fault::Restart | Fault::Crash => {
            injected.done.push(Done { fault, at: Instant::now() });
            let signal = if fault == Fault::Crash { Signal::SIGKILL } else { Signal::SIGTERM };
            if let Server::Ours(ours) = server {
                ours.restart(signal).await?;
            }
        }
    }
    Ok(())
}

/// Sends a signal to a process that may have ended meanwhile.
pub(crate) fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let id = Pid::from_raw(i32::try_from(pid).context("a process id is too large")?);
    match kill(id, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("send {signal} to {pid}")),
    }
}

/// The worker of a server that is ready, once it is.
pub(crate) async fn ready_worker(server: &Server) -> Option<u32> {
    let started = Instant::now();
    while started.elapsed() < RECOVERY_LIMIT {
        if server.is_ready().await
            && let Some(pid) = server.worker().await
        {
            return Some(pid);
        }
        sleep(LOOK).await;
    }
    None
}

/// Whether the hanging worker was ended by its supervisor.
async fn is_replaced(server: &Server, worker: u32) -> bool {
    let started = Instant::now();
    while started.elapsed() < HANG_LIMIT {
        let now = server.worker().await;
        if !process::is_alive(worker) || now.is_some_and(|now| now != worker) {
            return true;
        }
        sleep(LOOK).await;
    }
    false
}

/// The next worker, as soon as there is one.
async fn another_worker(server: &Server, worker: u32) -> Option<u32> {
    let started = Instant::now();
    while started.elapsed() < RECOVERY_LIMIT {
        if let Some(now) = server.worker().await.filter(|now| *now != worker) {
            return Some(now);
        }
        sleep(QUICK_LOOK).await;
    }
    None
}

/// Writes until there is no room.
fn fill(disk: &Path) -> anyhow::Result<PathBuf> {
    let path = disk.join(FILLER);
    let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let block = vec![0; 64 * 1024];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&[0]).is_ok() {}
    Ok(path)
}

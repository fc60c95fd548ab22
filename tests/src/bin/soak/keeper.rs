//! llama-server in a plain restart loop: when it ends it is started again at
//! once, which is what people put round it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::StatusCode;
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::http::get;
use crate::server::{Setup, free_port};
use crate::timeline::{Mark, What};

/// Pause between two looks whether it answers; how exactly its load is timed.
const LOOK: Duration = Duration::from_millis(10);

/// The loop and what it has seen.
#[derive(Debug)]
pub(crate) struct Keeper {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    stop: oneshot::Sender<()>,
    keeping: JoinHandle<anyhow::Result<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    pid: Option<u32>,
    marks: Vec<Mark>,
}

impl Keeper {
    pub(crate) fn start(setup: Setup) -> anyhow::Result<Self> {
        let (port, seen) = (free_port()?, Arc::new(Mutex::new(Seen::default())));
        let (stop, stopped) = oneshot::channel();
        let keeping = tokio::spawn(keep(setup, port, seen.clone(), stopped));
        Ok(Self { port, seen, stop, keeping })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        lock(&self.seen).pid
    }

    pub(crate) fn marks(&self) -> Vec<Mark> {
        lock(&self.seen).marks.clone()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        // It fails only if the loop has failed, which is told next.
        let _ = self.stop.send(());
        self.keeping.await.context("run the restart loop")?
    }
}

async fn keep(
    setup: Setup,
    port: u16,
    seen: Arc<Mutex<Seen>>,
    mut stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    loop {
        let mut child = setup.spawn(setup.serving.peer(&setup.program, port))?;
        lock(&seen).pid = child.id();
        mark(&seen, What::Started);
        tokio::select! {
            status = live(&mut child, port, &seen) => { status?; }
            _ = &mut stopped => {
                child.kill().await.context("end llama-server")?;
                return Ok(());
            }
        }
        lock(&seen).pid = None;
        mark(&seen, What::Died);
    }
}

/// Waits for one life's readiness and then for its end.
async fn live(child: &mut Child, port: u16, seen: &Mutex<Seen>) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ready = async {
        while !get(address, "/health").await.is_ok_and(|(status, _)| status == StatusCode::OK) {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = ready => mark(seen, What::Ready),
        status = child.wait() => { status.context("wait for llama-server")?; return Ok(()); }
    }
    child.wait().await.context("wait for llama-server")?;
    Ok(())
}

fn mark(seen: &Mutex<Seen>, what: What) {
    lock(seen).marks.push(Mark { at: Instant::now(), what, step: None });
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

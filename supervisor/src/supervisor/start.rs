//! Puts the main loop and the threads beside it together.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{mpsc, watch};

use super::embedders::{Embedders, Role};
use super::engine::limits;
use super::governing::Governing;
use super::handle::Handle;
use super::history::History;
use super::idle::Idle;
use super::ledger::Ledger;
use super::lifecycle::Lifecycle;
use super::requests::Requests;
use super::view::View;
use super::{Change, Input, Supervisor, now};
use crate::config::Settings;
use crate::engines::restart::{Deaths, Rung};
use crate::index::{self, Index, IndexThread};
use crate::snapshot;
use crate::store::memory::{self, Memory, MemoryThread};
use crate::store::{self, Bounds, Paths, Store, StoreThread};
use crate::systemd::keeper::{Keeper, LeftWorker};
use crate::telemetry::{self, Telemetry};

/// Inputs that may wait for the loop; whoever sends more waits.
const INPUTS: usize = 1024;
/// Reports of the store that may wait; it seldom has any.
const REPORTS: usize = 16;

/// The threads beside the loop.
#[derive(Debug)]
pub struct Threads {
    pub telemetry: Telemetry,
    pub store: Store,
    pub store_thread: StoreThread,
    pub index: Index,
    pub index_thread: IndexThread,
    /// `None` if nothing is to be remembered.
    pub memory: Option<(Memory, MemoryThread)>,
}

/// Starts the threads and the engine, or takes over the one that was `left`, and
/// makes the loop, which runs in [`Supervisor::run`]. Belongs inside a tokio
/// runtime.
///
/// # Errors
/// There are no more threads.
pub fn start(
    settings: Settings,
    left: Vec<LeftWorker>,
    keeper: Keeper,
) -> std::io::Result<(Supervisor, Handle, Threads)> {
    let (input_sender, inputs) = mpsc::channel(INPUTS);
    let (event_sender, events) = mpsc::channel(INPUTS);
    let (report_sender, reports) = mpsc::channel(REPORTS);

    let paths =
        Paths { history: settings.state_dir.database(), answers: settings.state_dir.answers() };
    let bounds = Bounds {
        requests: settings.store.requests,
        incidents: settings.store.incidents,
        answers_kept: settings.store.answers_kept,
        answers_bytes: settings.store.answers_bytes,
    };
    let (store, store_thread) = store::start(paths, bounds, move |report| {
        // If the loop has ended, nobody needs to know.
        let _ = report_sender.blocking_send(report);
    })?;
    let (index, index_thread) = index::start(index::Settings {
        database: settings.state_dir.code(),
        indexer: settings.index.indexer.clone(),
        period: settings.index.period,
        repositories: settings.repositories.clone(),
        sources: settings.index.sources,
    })?;
    let memory = remembered(&settings).map(memory::start).transpose()?;
    let telemetry = start_telemetry(&settings, input_sender.clone())?;

    let now = now();
    let history = Arc::new(History::new(settings.telemetry.period));
    let lifecycle = Lifecycle::Absent { reason: String::new() };
    let requests = Requests::new(settings.admission.queue);
    let ledger = Ledger::new(store.clone(), Arc::clone(&history), now);
    let embedders = Embedders::new(&settings);
    let view = View {
        lifecycle: &lifecycle,
        located: None,
        limits: limits(&settings, None, Rung::Full),
        governor: None,
        problem: None,
        rung: Rung::Full,
        stale: None,
        stands_in_for: &[],
        queue: requests.queue(),
        embedder: embedders.view(Role::Chosen),
        former_embedder: None,
        index: snapshot::Index::default(),
        idle: snapshot::Idle::default(),
        draining: false,
    };
    let (snapshots, snapshot_reader) = watch::channel(Arc::new(ledger.snapshot(view, now)));
    let (access, access_reader) = watch::channel(lifecycle.access());
    let handle = Handle {
        inputs: input_sender.clone(),
        access: access_reader,
        snapshots: snapshot_reader,
        history,
        ids: Arc::new(AtomicU64::new(1)),
        beats: Arc::default(),
        prepare_wait: settings.admission.prepare_wait,
        embedding: embedders.seats(&settings),
    };
    index.embed_with(Arc::new(handle.clone()));
    let governing = Governing::new(&settings, now);
    let mut supervisor = Supervisor {
        settings,
        inputs,
        input_sender,
        events,
        event_sender,
        reports,
        telemetry: telemetry.clone(),
        index_changes: index.changes(),
        index: index.clone(),
        lifecycle,
        located: None,
        measured: None,
        stands_in_for: Vec::new(),
        stale: None,
        here: None,
        replacing: false,
        keeper,
        left,
        lives: 0,
        deaths: Deaths::default(),
        governing,
        embedders,
        draining: None,
        requests,
        idle: Idle::default(),
        ledger,
        access,
        snapshots,
        published: now,
        changed: Change::Urgent,
        ids: Arc::clone(&handle.ids),
        beats: Arc::clone(&handle.beats),
    };
    // The first thing that anybody sees is already true.
    supervisor.start_engine(now);
    supervisor.publish(now);
    Ok((
        supervisor,
        handle,
        Threads { telemetry, store, store_thread, index, index_thread, memory },
    ))
}

fn remembered(settings: &Settings) -> Option<memory::Settings> {
    let (kept, bytes) = (settings.memory.kept, settings.memory.bytes);
    let database = settings.state_dir.memory();
    (!kept.is_zero()).then_some(memory::Settings { database, kept, bytes })
}

fn start_telemetry(settings: &Settings, inputs: mpsc::Sender<Input>) -> std::io::Result<Telemetry> {
    let root = jetpack::Root::new(&settings.root);
    let state_dir = settings.state_dir.path().to_owned();
    telemetry::start(root, state_dir, settings.telemetry.period, move |reading| {
        // A loop that is behind gets the next reading instead.
        let sent = inputs.try_send(Input::Reading(Box::new(reading)));
        !matches!(sent, Err(mpsc::error::TrySendError::Closed(_)))
    })
}

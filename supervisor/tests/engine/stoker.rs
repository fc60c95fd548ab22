//! The engine side without its HTTP side, on a state directory of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine_api::protocol::{Priority, Prompt, Sampling};
use supervisor::config::{
    Admission, Embedding, Engine, Governor, GpuClock, Index, Memory, Server, Settings, StateDir,
    Store, Telemetry,
};
use supervisor::governor::Profile;
use supervisor::index::SourceBounds;
use supervisor::request::{Answer, Client, Event, Request};
use supervisor::snapshot::{EngineState, Snapshot};
use supervisor::supervisor::{Handle, Haste, Threads};
use supervisor::systemd::keeper::Keeper;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::PATIENCE;

pub(crate) struct Stoker {
    pub(crate) handle: Handle,
    dir: TempDir,
    loop_task: JoinHandle<()>,
    threads: Threads,
}

impl Stoker {
    /// With an engine whose worker behaves like `scenario`, ready if it ever is.
    pub(crate) async fn start(scenario: &str) -> Self {
        Self::start_with(scenario, |_| {}).await
    }

    pub(crate) async fn start_with(scenario: &str, prepare: impl FnOnce(&Path)) -> Self {
        let scripts = script(scenario);
        let stoker = Self::start_on(scripts, |dir| {
            build_engine(dir, "fake", if scenario == "one-at-a-time" { 1 } else { 4 }, 0);
            prepare(dir);
        })
        .await;
        if !["hang", "refuse", "refuse-the-first-build", "version"].contains(&scenario) {
            stoker.when(|snapshot| snapshot.engine.state == EngineState::Ready).await;
        }
        stoker
    }

    pub(crate) async fn start_without_engine(scenario: &str) -> Self {
        Self::start_bare(script(scenario), |_| {}).await
    }

    /// With an engine and this worker.
    pub(crate) async fn start_on(worker: PathBuf, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_bare(worker, |dir| {
            if !dir.join("engines").exists() {
                build_engine(dir, "fake", 4, 0);
            }
            prepare(dir);
        })
        .await
    }

    async fn start_bare(worker: PathBuf, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let settings = settings(dir.path(), worker);
        let (supervisor, handle, threads) =
            supervisor::supervisor::start(settings, Vec::new(), Keeper::none()).unwrap();
        let loop_task = tokio::spawn(supervisor.run());
        Self { handle, dir, loop_task, threads }
    }

    pub(crate) fn build_engine(&self, id: &str) {
        build_engine(self.dir.path(), id, 4, 1);
    }

    /// The first snapshot of which `condition` holds.
    pub(crate) async fn when(
        &self,
        condition: impl FnMut(&Arc<Snapshot>) -> bool,
    ) -> Arc<Snapshot> {
        let mut snapshots = self.handle.snapshots();
        let found = timeout(PATIENCE, snapshots.wait_for(condition)).await;
        let now = self.handle.snapshot();
        let found = found.unwrap_or_else(|_| panic!("never so; now {:?}", now.engine));
        Arc::clone(&found.unwrap())
    }

    /// Waits until the worker has seen a cancellation.
    pub(crate) async fn cancelled(&self) {
        let seen = self.dir.path().join("engines/fake/a-cancellation-was-seen");
        self.when(|_| seen.exists()).await;
    }

    /// Ready, after so many deaths.
    pub(crate) async fn ready_after(&self, deaths: u64) -> Arc<Snapshot> {
        self.when(|snapshot| {
            snapshot.engine.restarts == deaths && snapshot.engine.state == EngineState::Ready
        })
        .await
    }

    pub(crate) async fn ask(&self, prompt: &str, max_tokens: u32) -> Answer {
        let prepared = timeout(PATIENCE, self.handle.prepare(text(prompt), None)).await;
        let tokens = prepared.unwrap().unwrap().tokens;
        let request = Request { prompt: tokens, ..request(prompt, max_tokens) };
        timeout(PATIENCE, self.handle.submit(request)).await.unwrap().unwrap()
    }

    pub(crate) async fn shut_down(self, haste: Haste) -> TempDir {
        self.handle.shut_down(haste).await;
        self.ended().await
    }

    pub(crate) async fn ended(self) -> TempDir {
        timeout(PATIENCE, self.loop_task).await.unwrap().unwrap();
        self.threads.store_thread.close();
        self.dir
    }
}

pub(crate) fn text(text: &str) -> Prompt {
    Prompt::Text { text: text.to_owned(), special: false }
}

pub(crate) fn request(prompt: &str, max_tokens: u32) -> Request {
    Request {
        client: Client::Address([127, 0, 0, 1].into()),
        endpoint: "/v1/completions",
        prompt: super::worker::tokens(prompt),
        generated: Vec::new(),
        max_tokens,
        sampling: Sampling::default(),
        stops: Vec::new(),
        grammar: None,
        calls: None,
        priority: Priority::Interactive,
        reuse_prefix: true,
    }
}

/// All text of an answer, and its last event.
pub(crate) async fn end(answer: &mut Answer) -> (String, Event) {
    let mut words = String::new();
    loop {
        let event = timeout(PATIENCE, answer.next()).await.unwrap().expect("a last event");
        match event {
            Event::Text { text, .. } => words.push_str(&text),
            Event::Queued { .. } | Event::Started { .. } => {}
            last @ (Event::Done { .. } | Event::Failed(_)) => return (words, last),
        }
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn settings(dir: &Path, worker: PathBuf) -> Settings {
    let long = Duration::from_secs(60);
    Settings {
        state_dir: StateDir::new(dir.to_owned()),
        root: dir.join("no-machine"),
        server: Server {
            listen: "127.0.0.1:0".parse().unwrap(),
            http: supervisor::api::Settings {
                drain_timeout: Duration::from_secs(5),
                ..supervisor::api::Settings::default()
            },
        },
        governor: Governor { profile: Profile::Max, gpu_clock: GpuClock::Leave },
        engine: Engine {
            model: None,
            worker,
            threads: None,
            max_batch_tokens: Some(64),
            reproducible: true,
            load_timeout: Duration::from_secs(2),
        },
        embedding: Embedding::default(),
        admission: Admission { queue: 2, wait: long, prepare_wait: long },
        telemetry: Telemetry { period: Duration::from_millis(100) },
        index: Index {
            indexer: "/nowhere/indexer".into(),
            period: Duration::from_secs(60),
            sources: SourceBounds::default(),
        },
        memory: Memory { kept: Duration::ZERO, bytes: 0, between_turns: false },
        repositories: Vec::new(),
        store: Store {
            requests: 100,
            incidents: 100,
            answers_kept: Duration::ZERO,
            answers_bytes: 0,
        },
    }
}

/// A worker executable: this program again, as the scenario's worker. Another
/// process writes it, because a file that any child of ours has inherited open
/// for writing cannot be executed.
fn script(scenario: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = dir.join(format!("worker-{scenario}-{}", std::process::id()));
    let write = r#"printf '#!/bin/sh\nFAKE_WORKER=%s exec %s --exact fake_worker --nocapture\n' \
        "$1" "$2" > "$3.$$" && chmod +x "$3.$$" && mv "$3.$$" "$3""#;
    let mut shell = std::process::Command::new("sh");
    let status = shell.args(["-c", write, "sh", scenario]).arg(program).arg(&path).status();
    assert!(status.unwrap().success());
    path
}

fn build_engine(state_dir: &Path, id: &str, max_sequences: u16, built_at: u64) {
    let dir = state_dir.join("engines").join(id);
    std::fs::create_dir_all(&dir).unwrap();
    let manifest = format!(
        r#"manifest_version = 1
id = "{id}"
built_at = {built_at}
[model]
name = "fake"
architecture = "fake"
licence = "Apache-2.0"
quantisation = "none"
parameters = 0
[backend]
kind = "echo"
version = "1"
[bound_to]
[serving]
context = 4096
max_sequences = {max_sequences}
cached_sequences = 0
kv_bytes = 0
[capabilities]
chat = true
fim = false
tools = false
embedding = false
"#
    );
    std::fs::write(dir.join("engine.toml.new"), manifest).unwrap();
    std::fs::rename(dir.join("engine.toml.new"), dir.join("engine.toml")).unwrap();
}

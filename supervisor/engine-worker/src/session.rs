//! One worker's life: load, say ready, then steps until the supervisor is gone
//! or has drained it.
//!
//! Threads: this one computes; one reads frames; one prepares prompts; one
//! sends heartbeats, so that a step that never ends is told apart from a
//! process that died.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;
use engine_api::manifest::Manifest;
use engine_api::protocol::{FromWorker, Load, Prompt, Ready, RequestId, ToWorker};
use jetpack::{Root, cpu};

use crate::backend::{self, Loaded, Wishes};
use crate::batch::Batch;
use crate::cores::{Cores, Usage};
use crate::link::Outbox;
use crate::prompt::Preparer;
use crate::pulse::Pulse;

/// What the thread that reads frames hands on.
#[derive(Debug)]
pub struct Inbox {
    pub commands: Receiver<ToWorker>,
    pub prompts: Receiver<(RequestId, Prompt)>,
}

/// How often to look at what other processes use, while computing.
const LOOK_AT_CORES: Duration = Duration::from_millis(250);

/// Waits for `Load`, serves the engine it names, and returns after `Drain`.
///
/// # Errors
/// The engine cannot be loaded; the supervisor has been told.
pub fn run(inbox: Inbox, outbox: &Outbox) -> anyhow::Result<()> {
    let Inbox { commands, prompts } = inbox;
    let ToWorker::Load(load) = commands.recv().context("wait for the engine to load")? else {
        anyhow::bail!("the first message was not a load");
    };
    let pulse = Pulse::start(outbox.clone());
    let started = Instant::now();
    match load_engine(&load, outbox) {
        Ok((manifest, (backend, vocabulary))) => {
            let description = backend.description();
            let context = manifest.serving.context.min(description.context);
            let preparer = Preparer::new(Arc::clone(&vocabulary), context);
            let ready = Ready {
                context,
                vocabulary: vocabulary.size(),
                max_sequences: manifest.serving.max_sequences,
                backend: description.backend.to_owned(),
                device: description.device,
                model: description.model,
                reproducible: description.reproducible,
                load_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                chat: preparer.has_template(),
                infill: vocabulary.infill().is_some(),
                chat_template: vocabulary.chat_template().unwrap_or_default(),
            };
            let sequences = manifest.serving.max_sequences;
            let batch = Batch::new(backend, vocabulary, sequences, context, load.limits);
            spawn_preparer(preparer, prompts, outbox.clone());
            outbox.send(&[FromWorker::Ready(Box::new(ready))]);
            Session::new(batch, pulse, outbox.clone()).serve(&commands);
            Ok(())
        }
        Err(error) => {
            outbox.send(&[FromWorker::LoadFailed { reason: format!("{error:#}") }]);
            Err(error)
        }
    }
}

fn load_engine(load: &Load, outbox: &Outbox) -> anyhow::Result<(Manifest, Loaded)> {
    let dir = &load.engine_dir;
    let manifest = Manifest::read(dir).context("read the engine's manifest")?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = load.threads.unwrap_or(u16::MAX).min(u16::try_from(cores).unwrap_or(u16::MAX));
    let told = outbox.clone();
    let mut last = 0.0;
    let progress = move |fraction: f32| {
        if fraction >= last + 0.05 {
            last = fraction;
            told.send(&[FromWorker::Loading { fraction }]);
        }
    };
    let wishes = Wishes { threads: threads.max(1), reproducible: load.reproducible };
    let loaded = backend::load(&manifest, dir, wishes, progress)
        .with_context(|| format!("load engine {:?}", manifest.id))?;
    Ok((manifest, loaded))
}

/// A loaded engine at work.
struct Session {
    batch: Batch,
    outbox: Outbox,
    pulse: Pulse,
    cores: Cores,
    born: Instant,
    looked: Option<Instant>,
    draining: bool,
}

impl Session {
    fn new(batch: Batch, pulse: Pulse, outbox: Outbox) -> Self {
        Self {
            batch,
            outbox,
            pulse,
            cores: Cores::default(),
            born: Instant::now(),
            looked: None,
            draining: false,
        }
    }

    /// Steps until drained. The process ends elsewhere if the supervisor goes.
    fn serve(mut self, commands: &Receiver<ToWorker>) {
        while !(self.draining && self.batch.is_idle()) {
            if self.batch.is_idle() {
                self.publish();
                self.cores.rest();
                self.looked = None;
                match commands.recv() {
                    Ok(command) => self.obey(command),
                    Err(_) => return,
                }
                // So that work of a single step shows as work.
                self.publish();
            }
            while let Ok(command) = commands.try_recv() {
                self.obey(command);
            }
            let step = Instant::now();
            self.look_at_cores(step);
            self.batch.step();
            self.outbox.send(&self.batch.take_messages());
            self.publish();
            self.wait_for_pace(step, commands);
        }
    }

    fn obey(&mut self, command: ToWorker) {
        match command {
            ToWorker::Generate(request) => self.batch.add(*request, Instant::now()),
            ToWorker::Cancel { id } => self.batch.cancel(id),
            ToWorker::Limits(limits) => self.batch.set_limits(limits),
            ToWorker::Drain => self.draining = true,
            ToWorker::Load(_) | ToWorker::Prepare { .. } => {
                tracing::warn!("message out of place was ignored");
            }
        }
        self.outbox.send(&self.batch.take_messages());
    }

    fn look_at_cores(&mut self, now: Instant) {
        if self.looked.is_some_and(|looked| now.duration_since(looked) < LOOK_AT_CORES) {
            return;
        }
        self.looked = Some(now);
        let root = Root::new("/");
        let (Ok(everybody), Ok(own)) =
            (cpu::CpuTimes::read(&root), cpu::process_cpu_time(&root, std::process::id()))
        else {
            return;
        };
        let usage = Usage { everybody: everybody.busy, own };
        let alone = self.cores.look(usage, self.born.elapsed());
        self.batch.share_cores(alone);
    }

    /// Lets the heartbeat know how far the batch has come.
    fn publish(&mut self) {
        let progress = self.batch.progress();
        self.pulse.set(progress, self.batch.is_idle());
    }

    /// Waits until the next step may start; what arrives meanwhile is obeyed.
    fn wait_for_pace(&mut self, step: Instant, commands: &Receiver<ToWorker>) {
        loop {
            let left = self.batch.pace().saturating_sub(step.elapsed());
            if left.is_zero() {
                return;
            }
            match commands.recv_timeout(left) {
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn spawn_preparer(preparer: Preparer, prompts: Receiver<(RequestId, Prompt)>, outbox: Outbox) {
    std::thread::spawn(move || {
        for (id, prompt) in prompts {
            let answer = match preparer.prepare(prompt) {
                Ok(tokens) => FromWorker::Prepared { id, tokens },
                Err(problem) => FromWorker::Unprepared { id, problem },
            };
            outbox.send(&[answer]);
        }
    });
}

//! One worker's life: load, say ready, then steps until it is drained. When a
//! supervisor goes, its requests go with it and the engine stays; the next
//! supervisor finds it loaded.
//!
//! Threads: this one computes; one listens; one prepares prompts; one compiles
//! the grammars of requests that begin or are taken up again; one sends heartbeats, so that a step that never ends is told apart from a process that
//! died.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, bail};
use engine_api::form::Grammar;
use engine_api::manifest::Manifest;
use engine_api::protocol::{FromWorker, Load, Prompt, Ready, RequestId, ToWorker, TokenId};

use crate::backend::{self, Runtime, Vocabulary, Wishes};
use crate::cores::Lookout;
use crate::grammar::Grammars;
use crate::link::{Heard, Line, Outbox};
use crate::prompt::Preparer;
use crate::pulse::Pulse;
use crate::requests::{self, Requests};

/// What the thread that listens hands on.
#[derive(Debug)]
pub struct Inbox {
    pub commands: Receiver<Heard>,
    /// Where what was compiled is told to this thread.
    pub told: SyncSender<Heard>,
    pub prompts: Receiver<ToPrepare>,
    pub grammars: Receiver<ToCompile>,
    /// Filled when there is one, so that who comes later is answered at once and
    /// not after a step.
    pub engine: Arc<OnceLock<Engine>>,
}

/// A prompt, and what its answer must fit.
#[derive(Debug)]
pub struct ToPrepare {
    pub outbox: Outbox,
    pub id: RequestId,
    pub prompt: Prompt,
    pub grammar: Option<Grammar>,
}

/// The grammar of a request that was started, and the tokens that it has.
#[derive(Debug)]
pub struct ToCompile {
    pub outbox: Outbox,
    pub id: RequestId,
    pub grammar: Grammar,
    pub generated: Vec<TokenId>,
}

/// Waits for `Load`, serves the engine it names, and returns after `Drain`.
///
/// # Errors
/// The engine cannot be loaded; the supervisor has been told.
pub fn run(inbox: Inbox, line: &Line) -> anyhow::Result<()> {
    let Inbox { commands, told, prompts, grammars, engine } = inbox;
    let (outbox, load) = first_load(&commands)?;
    let pulse = Pulse::start(line.clone());
    let started = Instant::now();
    line.loading(0.0);
    let loaded = load_engine(&load, line);
    line.loaded();
    match loaded {
        Ok((manifest, runtime, vocabulary)) => {
            let description = runtime.description();
            let context = manifest.serving.context.min(description.context);
            let known = Arc::new(Grammars::new(Arc::clone(&vocabulary)));
            let preparer = Preparer::new(Arc::clone(&vocabulary), Arc::clone(&known), context);
            let ready = Ready {
                context,
                vocabulary: vocabulary.size(),
                max_sequences: manifest.serving.max_sequences,
                backend: description.backend.to_owned(),
                device: description.device,
                model: description.model,
                largest_step: description.largest_step,
                reproducible: description.reproducible,
                load_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                chat: preparer.has_template(),
                infill: vocabulary.infill().is_some(),
                chat_template: vocabulary.chat_template().unwrap_or_default(),
            };
            let sequences = manifest.serving.max_sequences;
            let batch = requests::of(runtime, vocabulary, sequences, context, load.limits);
            spawn_preparer(preparer, prompts);
            spawn_compiler(known, grammars, told);
            outbox.send(&[FromWorker::Ready(Box::new(ready.clone()))]);
            let engine = engine.get_or_init(|| Engine { load, manifest, ready });
            Session::new(engine, batch, pulse, outbox).serve(&commands)
        }
        Err(error) => {
            line.send(&[FromWorker::LoadFailed { reason: format!("{error:#}") }]);
            Err(error)
        }
    }
}

/// What to load, and who said so. A supervisor may have gone before it did.
fn first_load(commands: &Receiver<Heard>) -> anyhow::Result<(Outbox, Load)> {
    loop {
        match commands.recv().context("wait for the engine to load")? {
            Heard::Connected(_) | Heard::Disconnected | Heard::Compiled(..) => {}
            Heard::Said(outbox, ToWorker::Load(load)) => return Ok((outbox, load)),
            Heard::Said(..) => anyhow::bail!("the first message was not a load"),
        }
    }
}

type Loaded = (Manifest, Runtime, Arc<dyn Vocabulary>);

fn load_engine(load: &Load, line: &Line) -> anyhow::Result<Loaded> {
    let dir = &load.engine_dir;
    let manifest = Manifest::read(dir).context("read the engine's manifest")?;
    if let Some(what) = manifest.damage(dir) {
        let id = &manifest.id;
        bail!("engine {id:?} is damaged: {what}; `engine-builder build {id}` builds it again");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = load.threads.unwrap_or(u16::MAX).min(u16::try_from(cores).unwrap_or(u16::MAX));
    let line = line.clone();
    let mut last = 0.0;
    let progress = move |fraction: f32| {
        if fraction >= last + 0.05 {
            last = fraction;
            line.loading(fraction);
        }
    };
    let wishes = Wishes { threads: threads.max(1), reproducible: load.reproducible };
    let (runtime, vocabulary) = backend::load(&manifest, dir, wishes, progress)
        .with_context(|| format!("load engine {:?}", manifest.id))?;
    Ok((manifest, runtime, vocabulary))
}

/// What is loaded, and by what words.
#[derive(Debug)]
pub struct Engine {
    load: Load,
    manifest: Manifest,
    ready: Ready,
}

impl Engine {
    /// Tells a supervisor that took this worker over whether it has the engine
    /// that is wanted; what to do then is returned.
    pub fn answer(&self, outbox: &Outbox, load: &Load) -> ToWorker {
        if self.is(load) {
            outbox.send(&[FromWorker::Ready(Box::new(self.ready.clone()))]);
            ToWorker::Limits(load.limits)
        } else {
            let reason = format!("another engine is loaded, {:?}", self.manifest.id);
            outbox.send(&[FromWorker::LoadFailed { reason }]);
            ToWorker::Drain
        }
    }

    /// Whether loading `load` now would end in the same engine. Limits are not
    /// part of it, they change at any time.
    fn is(&self, load: &Load) -> bool {
        let same = Load { limits: self.load.limits, ..load.clone() } == self.load;
        same && Manifest::read(&load.engine_dir).is_ok_and(|manifest| manifest == self.manifest)
    }
}

/// A loaded engine at work.
struct Session<'a> {
    engine: &'a Engine,
    batch: Box<dyn Requests>,
    outbox: Outbox,
    pulse: Pulse,
    cores: Lookout,
    draining: bool,
}

impl<'a> Session<'a> {
    fn new(engine: &'a Engine, batch: Box<dyn Requests>, pulse: Pulse, outbox: Outbox) -> Self {
        Self { engine, batch, outbox, pulse, cores: Lookout::new(Instant::now()), draining: false }
    }

    /// Steps until drained. The process ends elsewhere if no supervisor can come.
    fn serve(mut self, commands: &Receiver<Heard>) -> anyhow::Result<()> {
        while !(self.draining && self.batch.is_idle()) {
            if !self.batch.has_work() {
                self.publish();
                self.cores.rest();
                match commands.recv() {
                    Ok(heard) => self.heed(heard),
                    Err(_) => return Ok(()),
                }
                // So that work of a single step shows as work.
                self.publish();
            }
            while let Ok(heard) = commands.try_recv() {
                self.heed(heard);
            }
            if !self.batch.has_work() {
                continue;
            }
            let step = Instant::now();
            self.look_at_cores(step);
            let stepped = self.batch.step();
            self.outbox.send(&self.batch.take_messages());
            stepped.context("compute several requests together")?;
            self.publish();
            self.wait_for_pace(step, commands);
        }
        Ok(())
    }

    fn heed(&mut self, heard: Heard) {
        match heard {
            Heard::Said(_, command) => self.obey(command),
            // An earlier connection's requests may have had the same ids.
            Heard::Compiled(outbox, id, constraint) if outbox.is_same(&self.outbox) => {
                self.batch.constrain(id, constraint.map(|constraint| *constraint));
                self.outbox.send(&self.batch.take_messages());
            }
            Heard::Compiled(..) => {}
            // Nobody waits for the answers of an earlier connection.
            Heard::Disconnected => self.batch.abandon(),
            Heard::Connected(outbox) => {
                self.batch.abandon();
                self.outbox = outbox;
            }
        }
    }

    fn obey(&mut self, command: ToWorker) {
        match command {
            // It was sent while this engine was loading.
            ToWorker::Load(load) => self.obey(self.engine.answer(&self.outbox, &load)),
            ToWorker::Generate(request) => self.batch.add(*request, Instant::now()),
            ToWorker::Embed(embed) => self.batch.embed(*embed),
            ToWorker::Cancel { id } => self.batch.cancel(id),
            ToWorker::Forget { asker } => self.batch.forget(asker),
            ToWorker::Limits(limits) => self.batch.set_limits(limits),
            ToWorker::Drain => self.draining = true,
            ToWorker::Prepare { .. } | ToWorker::Backends => {
                tracing::warn!("message out of place was ignored");
            }
        }
        self.outbox.send(&self.batch.take_messages());
    }

    fn look_at_cores(&mut self, now: Instant) {
        if let Some(alone) = self.cores.look(now) {
            self.batch.share_cores(alone);
        }
    }

    /// Lets the heartbeat know how far the batch has come.
    fn publish(&mut self) {
        let progress = self.batch.progress();
        self.pulse.set(progress, self.batch.is_idle());
    }

    /// Waits until the next step may start; what arrives meanwhile is obeyed.
    fn wait_for_pace(&mut self, step: Instant, commands: &Receiver<Heard>) {
        let turn = step.elapsed();
        loop {
            let left = (turn + self.batch.rest(turn)).saturating_sub(step.elapsed());
            if left.is_zero() {
                break;
            }
            match commands.recv_timeout(left) {
                Ok(heard) => self.heed(heard),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.batch.rested(turn, step.elapsed().saturating_sub(turn));
    }
}

fn spawn_preparer(preparer: Preparer, prompts: Receiver<ToPrepare>) {
    std::thread::spawn(move || {
        for ToPrepare { outbox, id, prompt, grammar } in prompts {
            let answer = match preparer.prepare(prompt, grammar) {
                Ok((tokens, form)) => FromWorker::Prepared { id, tokens, form: Box::new(form) },
                Err(problem) => FromWorker::Unprepared { id, problem },
            };
            outbox.send(&[answer]);
        }
    });
}

/// A thread of its own, so that a request that is taken up again waits for
/// nobody's prompt.
fn spawn_compiler(known: Arc<Grammars>, grammars: Receiver<ToCompile>, told: SyncSender<Heard>) {
    std::thread::spawn(move || {
        for ToCompile { outbox, id, grammar, generated } in grammars {
            let constraint = known.start(&grammar, &generated).map(Box::new);
            if told.send(Heard::Compiled(outbox, id, constraint)).is_err() {
                return;
            }
        }
    });
}

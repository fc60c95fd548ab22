//! One step of the plan: a fresh server, one load, the readings.

mod disturbed;
mod idle;
mod long_prompt;
mod prefix;
mod throughput;

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use tests::prompts::Prompts;

use crate::measure::Key;
use crate::plan::{Scenario, Side, Step};
use crate::server::{Override, Server, Setup};
use crate::{load, proc};

/// What one step found.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) scenario: Scenario,
    pub(crate) side: Side,
    pub(crate) pair: usize,
    #[serde(flatten)]
    pub(crate) readings: Readings,
    pub(crate) conditions: Conditions,
}

/// The figures of one step.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Readings {
    pub(crate) values: BTreeMap<Key, f64>,
    /// What a figure is made of, for whoever wonders about it.
    pub(crate) details: BTreeMap<String, f64>,
}

impl Readings {
    fn set(&mut self, key: Key, value: f64) {
        self.values.insert(key, value);
    }

    fn detail(&mut self, name: impl Into<String>, value: f64) {
        self.details.insert(name.into(), value);
    }
}

/// What may have disturbed the step. Shares are of the whole machine's
/// processor time, 0 to 1.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Conditions {
    /// Processes that have nothing to do with this comparison.
    pub(crate) foreign_cpu_share: f64,
    /// This program's own work: making the load.
    pub(crate) load_cpu_share: f64,
    pub(crate) duration_s: f64,
}

/// What a scenario works with.
struct Scene<'a> {
    server: &'a Server,
    step: &'a Step,
    /// The server has a supervisor.
    supervised: bool,
    quick: bool,
    seed: u64,
}

impl Scene<'_> {
    /// Prompts that no other place of this run makes. Both sides of a pair are
    /// asked the same.
    fn prompts(&self, place: &[u64]) -> Prompts {
        let pair = u64::try_from(self.step.pair).expect("a usize fits 64 bits");
        let mut path = vec![self.step.scenario as u64, pair];
        path.extend(place);
        Prompts::new(self.seed, &path)
    }

    /// Short prompts for `clients` clients, each another.
    fn short_prompts(&self, place: u64, clients: u64) -> Vec<String> {
        (0..clients).map(|client| self.prompts(&[place, client]).text(SHORT_WORDS)).collect()
    }
}

/// Words of a prompt that costs next to nothing to read.
const SHORT_WORDS: usize = 16;

/// Runs both servers once, so that their files are in memory for each later start.
pub(crate) async fn warm_page_cache(setup: &Setup) -> anyhow::Result<()> {
    for side in [Side::Ours, Side::Peer] {
        Server::start(setup, side, &[]).await?.stop().await?;
    }
    Ok(())
}

/// Runs one step of the plan.
pub(crate) async fn run(
    setup: &Setup,
    step: &Step,
    quick: bool,
    seed: u64,
) -> anyhow::Result<Sample> {
    let server = Server::start(setup, step.side, overrides(step.scenario)).await?;
    let supervised = step.side == Side::Ours && !setup.programs.twins;
    let scene = Scene { server: &server, step, supervised, quick, seed };
    warm_up(&scene).await?;
    let gauge = Gauge::start()?;
    let mut readings = match step.scenario {
        Scenario::Throughput => throughput::run(&scene).await?,
        Scenario::Prefix => prefix::run(&scene).await?,
        Scenario::Disturbed => disturbed::run(&scene).await?,
        Scenario::LongPrompt => long_prompt::run(&scene).await?,
        Scenario::Idle | Scenario::Quiet => idle::run(&scene).await?,
    };
    let conditions = gauge.finish()?;
    if !overrides(step.scenario).is_empty() {
        readings.detail("start_s", server.start.as_secs_f64());
    } else {
        readings.set(Key::Start, server.start.as_secs_f64());
    }
    server.stop().await?;
    let Step { scenario, side, pair, .. } = *step;
    Ok(Sample { scenario, side, pair, readings, conditions })
}

fn overrides(scenario: Scenario) -> &'static [Override] {
    match scenario {
        Scenario::Quiet => &[("STOKER_TELEMETRY__PERIOD_MS", idle::SLOW_TELEMETRY_MS)],
        _ => &[],
    }
}

/// A few tokens at full width, so that nobody is measured on his first steps.
async fn warm_up(scene: &Scene<'_>) -> anyhow::Result<()> {
    let prompts = scene.short_prompts(u64::MAX, 8);
    let asks = prompts.iter().map(|prompt| load::completion(prompt, 4, load::Sampling::Greedy));
    load::together(scene.server.address, asks.collect()).await.map(drop)
}

/// Who used the processors between two moments.
struct Gauge {
    at: Instant,
    machine: proc::Machine,
    ours_s: f64,
    load_s: f64,
}

impl Gauge {
    fn start() -> anyhow::Result<Self> {
        let own = std::process::id();
        Ok(Self {
            at: Instant::now(),
            machine: proc::Machine::read()?,
            ours_s: proc::family_cpu_s(own)?,
            load_s: proc::cpu_s(own)?,
        })
    }

    fn finish(self) -> anyhow::Result<Conditions> {
        let now = Self::start()?;
        let total = (now.machine.total_s - self.machine.total_s).max(f64::EPSILON);
        let busy = now.machine.busy_s - self.machine.busy_s;
        let ours = now.ours_s - self.ours_s;
        Ok(Conditions {
            foreign_cpu_share: ((busy - ours) / total).max(0.0),
            load_cpu_share: (now.load_s - self.load_s) / total,
            duration_s: (now.at - self.at).as_secs_f64(),
        })
    }
}

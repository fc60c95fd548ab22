//! `engine-builder build --backend`: from its arguments to the steps of a plan
//! for a TensorRT backend.

use std::path::PathBuf;

use jetpack::Root;
use serde_json::json;

use super::{Build, cache_dir, plan};
use crate::catalogue::Catalogue;
use crate::error::{Error, io};
use crate::foreign::{self, Outcome};
use crate::planning::{self, Backend, Places, Setting, Wishes};
use crate::report::Report;

pub(super) fn run(order: Build, backend: Backend, report: &Report) -> Result<(), Error> {
    let Some(model) = &order.model else {
        return Err(Error::Usage(format!("{backend} builds from a checkpoint, not from --gguf")));
    };
    if order.quantise.is_some() {
        return Err(Error::Usage(format!(
            "--quantise is not for {backend}: its plan chooses the quantisation"
        )));
    }
    if order.name.is_some() {
        return Err(Error::Usage(format!(
            "--name is not for {backend}: its plan names the engine"
        )));
    }
    let catalogue = Catalogue::with_dir(&order.models.models_dir)?;
    let entry = catalogue.find(model)?;
    let root = order.root.to_string_lossy().into_owned();
    let (board, release) = plan::machine(Some(&root), None)?;
    let setting = Setting {
        board,
        release,
        wishes: Wishes {
            backend: Some(backend),
            context: order.context,
            users: order.users,
            form: order.form,
        },
        places: Places {
            state_dir: absolute(order.common.state_dir)?,
            cache_dir: absolute(cache_dir(order.cache_dir)?)?,
            runtimes_dir: absolute(order.runtimes_dir)?,
        },
    };
    let plan = planning::choose_or_say(entry, &setting, &catalogue)?;
    if order.dry_run {
        let mut facts = json!(plan);
        facts["kind"] = "plan".into();
        report.item(&planning::text(&plan), facts);
        return Ok(());
    }
    let order = foreign::Order {
        plan: &plan,
        entry,
        places: &setting.places,
        root: Root::new(order.root),
        worker: order.worker.as_deref(),
        unproved: order.unproved,
        again: false,
    };
    let (what, dir, built) = match foreign::run(&order, report)? {
        Outcome::Already(dir) => ("is already built", dir, false),
        Outcome::Unproved(dir) => ("is finished, and neither proved nor published", dir, true),
        Outcome::Built(dir) => ("is built", dir, true),
    };
    let facts = json!({"engine": plan.engine, "dir": dir, "built": built});
    report.result(&format!("{} {what}: {}", plan.engine, dir.display()), facts);
    Ok(())
}

/// Tools run in a directory of their own, where a relative path leads elsewhere.
pub(super) fn absolute(path: PathBuf) -> Result<PathBuf, Error> {
    std::path::absolute(&path).map_err(io("find", &path))
}

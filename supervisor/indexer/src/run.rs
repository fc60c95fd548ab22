//! One pass over a repository: what is different from what is known.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::Context as _;
use engine_api::index::{FromIndexer, IndexedFile, KnownFile, Stamp, Totals};

use crate::language::Language;
use crate::parsing::Parsing;
use crate::{reading, walk};

/// Messages of progress in a pass, about.
const STEPS: usize = 200;

/// Looks at every file below `root`, or at those at or below `only` these places if there
/// are any, and tells what is different.
///
/// # Errors
/// The repository is not there, or nobody listens any more.
pub fn pass(
    root: &Path,
    known: Vec<KnownFile>,
    only: &[String],
    parsing: &mut Parsing,
    tell: &mut impl FnMut(FromIndexer) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let facts = std::fs::metadata(root).with_context(|| format!("look at {}", root.display()))?;
    anyhow::ensure!(facts.is_dir(), "{} is no directory", root.display());
    let mut held = Held::of(&known);
    let mut known: HashMap<_, _> =
        known.into_iter().map(|file| (file.path.clone(), file)).collect();
    let found = walk::files(root, only);
    for path in found.directories {
        tell(FromIndexer::Directory { path })?;
    }
    let of = found.files.len();
    let mut totals = Totals { files: of as u64, ..Totals::default() };
    for (path, reason) in found.skipped {
        totals.skipped += 1;
        let before = known.remove(&path);
        held.forget(before.as_ref());
        if before.is_none_or(|before| before.hash.is_some()) {
            tell(FromIndexer::Skipped { path, stamp: None, reason })?;
        }
    }
    for (number, path) in found.files.into_iter().enumerate() {
        if number % (of / STEPS + 1) == 0 {
            tell(FromIndexer::Progress { looked_at: number as u64, of: of as u64 })?;
        }
        let before = known.remove(&path);
        if let Some(said) = look(root, path, before, &mut held, parsing, &mut totals) {
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
    held: &mut Held,
    parsing: &mut Parsing,
    totals: &mut Totals,
) -> Option<FromIndexer> {
    let opened = match reading::open(&root.join(&path)) {
        Ok(opened) => opened,
        Err(unfit) => {
            held.forget(before.as_ref());
            return Some(skipped(path, None, &unfit, totals));
        }
    };
    let stamp = opened.stamp;
    if before.as_ref().is_some_and(|before| before.stamp == Some(stamp)) {
        return None;
    }
    totals.read += 1;
    let (text, hash) = match opened.read() {
        Ok(read) => read,
        Err(unfit) => {
            held.forget(before.as_ref());
            let again = matches!(unfit, reading::Unfit::Read(_));
            return Some(skipped(path, (!again).then_some(stamp), &unfit, totals));
        }
    };
    if before.as_ref().is_some_and(|before| before.hash == Some(hash)) {
        return Some(FromIndexer::Touched { path, stamp });
    }
    held.forget(before.as_ref());
    if let Some(known_as) = held.alike(&path, &text, &hash) {
        totals.same += 1;
        return Some(FromIndexer::Same { path, stamp, hash, known_as });
    }
    Some(indexed(path, &text, stamp, hash, parsing, totals))
}

fn skipped(
    path: String,
    stamp: Option<Stamp>,
    unfit: &reading::Unfit,
    totals: &mut Totals,
) -> FromIndexer {
    totals.skipped += 1;
    FromIndexer::Skipped { path, stamp, reason: unfit.to_string() }
}

fn indexed(
    path: String,
    text: &str,
    stamp: Stamp,
    hash: [u8; 32],
    parsing: &mut Parsing,
    totals: &mut Totals,
) -> FromIndexer {
    let (language, chunks, note) = parsing.cut(&path, text);
    totals.indexed += 1;
    totals.chunks += chunks.len() as u64;
    let language = language.map_or("text", Language::name).to_owned();
    FromIndexer::Indexed(IndexedFile { path, stamp, hash, language, note, chunks })
}

/// Which known file holds what, as long as whoever listens has it like that.
struct Held(HashMap<[u8; 32], HashSet<String>>);

impl Held {
    fn of(known: &[KnownFile]) -> Self {
        let mut held: HashMap<_, HashSet<_>> = HashMap::new();
        for file in known {
            if let Some(hash) = file.hash {
                held.entry(hash).or_default().insert(file.path.clone());
            }
        }
        Self(held)
    }

    /// What is known of this file is not true any more.
    fn forget(&mut self, file: Option<&KnownFile>) {
        let Some((file, hash)) = file.and_then(|file| Some((file, file.hash?))) else { return };
        if let Some(paths) = self.0.get_mut(&hash) {
            paths.remove(&file.path);
        }
    }

    /// A known file that was cut as this one would be.
    fn alike(&self, path: &str, text: &str, hash: &[u8; 32]) -> Option<String> {
        let language = Language::of(path, text);
        let alike = self.0.get(hash)?.iter();
        alike.filter(|other| Language::of(other, text) == language).min().cloned()
    }
}

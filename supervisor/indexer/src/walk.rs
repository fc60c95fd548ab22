//! Which files of a repository are looked at: those that git would take, less
//! what `.stokerignore` names.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

/// Files of one repository at most.
pub const MOST_FILES: usize = 1_000_000;
/// Directories within directories.
const DEEPEST: usize = 64;

/// What the walk found.
#[derive(Debug, Default)]
pub struct Found {
    /// Below the root, sorted.
    pub files: Vec<String>,
    /// Directories that they may stand in, the root as an empty one.
    pub directories: Vec<String>,
    /// Places that are not looked at, and why.
    pub skipped: Vec<(String, String)>,
}

/// Lists the files below `root`; with `only`, those at or below these places alone. Links
/// are not followed.
#[must_use]
pub fn files(root: &Path, only: &[String]) -> Found {
    let wanted: Vec<_> = only.iter().map(|path| root.join(path)).collect();
    let is_wanted = move |path: &Path| {
        // What leads there is gone through, because it says what is left out.
        let leads = |wanted: &PathBuf| path.starts_with(wanted) || wanted.starts_with(path);
        wanted.is_empty() || wanted.iter().any(leads)
    };
    let mut found = Found::default();
    let walk = WalkBuilder::new(root)
        .hidden(false)
        .follow_links(false)
        .max_depth(Some(DEEPEST))
        // A repository counts without its .git as well, as an upload has none.
        .require_git(false)
        // What this machine's user ignores elsewhere says nothing of it.
        .git_global(false)
        .parents(false)
        .add_custom_ignore_filename(".stokerignore")
        .filter_entry(move |entry| {
            !is_internal(entry.file_name().as_encoded_bytes()) && is_wanted(entry.path())
        })
        .build();
    for entry in walk {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                found.skipped.push((place_of(&error, root), error.to_string()));
                continue;
            }
        };
        let path = entry.path();
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        if entry.depth() == 0 {
            found.directories.push(String::new());
            continue;
        }
        let below = path.strip_prefix(root).unwrap_or(path);
        match below.to_str() {
            Some(name) if entry.file_type().is_some_and(|kind| kind.is_dir()) => {
                found.directories.push(name.to_owned());
            }
            None if entry.file_type().is_some_and(|kind| kind.is_dir()) => {}
            None => found
                .skipped
                .push((below.to_string_lossy().into_owned(), "its name is not UTF-8".to_owned())),
            Some(name) if !is_file => {
                found.skipped.push((name.to_owned(), "it is no ordinary file".to_owned()));
            }
            Some(name) if found.files.len() < MOST_FILES => found.files.push(name.to_owned()),
            Some(_) => {
                let reason = format!("the repository has more than {MOST_FILES} files");
                found.skipped.push((".".to_owned(), reason));
                break;
            }
        }
    }
    found.files.sort_unstable();
    found
}

/// Where version control keeps its own things.
fn is_internal(name: &[u8]) -> bool {
    [&b".git"[..], b".hg", b".svn", b".jj"].contains(&name)
}

/// The place that an error of the walk is about, below `root`.
fn place_of(error: &ignore::Error, root: &Path) -> String {
    let path = match error {
        ignore::Error::WithPath { path, .. } => path.clone(),
        ignore::Error::WithDepth { err, .. } => return place_of(err, root),
        _ => PathBuf::from("."),
    };
    path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned()
}

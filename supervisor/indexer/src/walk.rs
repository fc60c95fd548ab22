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
    /// Places that are not looked at, and why.
    pub skipped: Vec<(String, String)>,
}

/// Lists the files below `root`. Links are not followed.
#[must_use]
pub fn files(root: &Path) -> Found {
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
        .filter_entry(|entry| !is_internal(entry.file_name().as_encoded_bytes()))
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
            continue;
        }
        let below = path.strip_prefix(root).unwrap_or(path);
        match below.to_str() {
            _ if entry.file_type().is_some_and(|kind| kind.is_dir()) => {}
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

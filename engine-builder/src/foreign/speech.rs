//! What a checkpoint's files say of its tokens: those that end an answer, the one
//! that begins a text, and how a chat is written. A runtime that knows token ids
//! only cannot tell it from its engine.
//!
//! The files come from outside. They are read before anything is built, no more of
//! them than a tokeniser can be long, and what makes no sense is an error.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use engine_api::manifest::SpecialTokens;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::catalogue::FimTokens;
use crate::error::{Error, io};

/// The tokeniser's file, which the worker reads, too.
pub(super) const TOKENISER: &str = "tokenizer.json";

/// The chat template's file, in a checkpoint and in an engine.
pub(super) const TEMPLATE: &str = "chat_template.jinja";

const SETTINGS: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";

/// The largest tokenisers are some ten megabytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// What there is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Speech {
    pub(super) tokens: SpecialTokens,
    /// Jinja source; `None`: the model does not chat.
    pub(super) template: Option<String>,
}

/// The entries of `tokenizer.json` that matter here.
#[derive(Debug, Deserialize)]
struct Tokeniser {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Debug, Deserialize)]
struct Added {
    id: u32,
    content: String,
}

/// Those of `tokenizer_config.json`.
#[derive(Debug, Deserialize)]
struct Settings {
    bos_token: Option<Word>,
    eos_token: Option<Word>,
    add_bos_token: Option<bool>,
    chat_template: Option<Template>,
}

/// Those of `generation_config.json`.
#[derive(Debug, Default, Deserialize)]
struct Generation {
    eos_token_id: Option<Ids>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Described { content: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Template {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Debug, Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Speech {
    /// Reads the checkpoint in `dir`. `fim` are the tokens that the catalogue knows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a tokeniser that the worker can read,
    /// [`Error::OtherModel`] if a file is not what its name says.
    pub(super) fn read(dir: &Path, fim: Option<&FimTokens>) -> Result<Self, Error> {
        let Some(tokeniser) = json::<Tokeniser>(dir, TOKENISER)? else {
            return Err(Error::Unsupported(format!(
                "{} is not there, and engine-worker reads no other tokeniser: bring it",
                dir.join(TOKENISER).display()
            )));
        };
        let settings: Option<Settings> = json(dir, SETTINGS)?;
        let generation: Generation = json(dir, GENERATION)?.unwrap_or_default();
        let template = text(dir, TEMPLATE)?;
        let Some(settings) = settings else {
            return Err(Error::Unsupported(format!(
                "{} is not there, which names the model's special tokens: bring it",
                dir.join(SETTINGS).display()
            )));
        };
        let tokens = SpecialTokens {
            ends: ends(&tokeniser, &settings, &generation),
            beginning: beginning(&tokeniser, &settings),
            infill: fim.and_then(|fim| infill(&tokeniser, fim)),
        };
        if tokens.ends.is_empty() {
            let what = "it names no token that ends an answer".into();
            return Err(Error::OtherModel { path: dir.join(SETTINGS), what });
        }
        Ok(Self { tokens, template: template.or_else(|| settings.chat_template?.usual()) })
    }
}

/// First the one that templates call `eos_token`.
fn ends(tokeniser: &Tokeniser, settings: &Settings, generation: &Generation) -> Vec<String> {
    let name = |id: &u32| {
        let token = tokeniser.added_tokens.iter().find(|token| token.id == *id);
        token.map(|token| token.content.as_str())
    };
    let ids = match &generation.eos_token_id {
        None => &[],
        Some(Ids::One(id)) => std::slice::from_ref(id),
        Some(Ids::Many(ids)) => ids.as_slice(),
    };
    let mut ends: Vec<String> = Vec::new();
    let all = settings.eos_token.as_ref().map(Word::text).into_iter();
    for end in all.chain(ids.iter().filter_map(name)) {
        if !ends.iter().any(|known| known == end) {
            ends.push(end.to_owned());
        }
    }
    ends
}

/// The token before every text: the settings say whether there is one, or else the
/// tokeniser's own template does.
fn beginning(tokeniser: &Tokeniser, settings: &Settings) -> Option<String> {
    match settings.add_bos_token {
        Some(true) => settings.bos_token.as_ref().map(|word| word.text().to_owned()),
        Some(false) => None,
        None => {
            let processor = &tokeniser.post_processor;
            let parts = processor["processors"].as_array().into_iter().flatten();
            let mut templates =
                parts.chain([processor]).filter(|part| part["type"] == "TemplateProcessing");
            let first = &templates.next()?["single"][0]["SpecialToken"]["id"];
            first.as_str().map(str::to_owned)
        }
    }
}

/// The catalogue's tokens, if this tokeniser has them.
fn infill(tokeniser: &Tokeniser, fim: &FimTokens) -> Option<[String; 3]> {
    let words = [&fim.prefix, &fim.suffix, &fim.middle];
    let has = |word: &String| tokeniser.added_tokens.iter().any(|token| token.content == *word);
    words.iter().all(|word| has(word)).then(|| words.map(Clone::clone))
}

impl Word {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Described { content: text } => text,
        }
    }
}

impl Template {
    fn usual(self) -> Option<String> {
        match self {
            Self::One(text) => Some(text),
            Self::Several(all) => {
                all.into_iter().find(|one| one.name == "default").map(|one| one.template)
            }
        }
    }
}

fn json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, Error> {
    let Some(text) = text(dir, name)? else { return Ok(None) };
    let other = |error: serde_json::Error| Error::OtherModel {
        path: dir.join(name),
        what: format!("it cannot be understood: {error}"),
    };
    serde_json::from_str(&text).map(Some).map_err(other)
}

/// The file's text; `None` if there is none.
fn text(dir: &Path, name: &str) -> Result<Option<String>, Error> {
    let path = dir.join(name);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io("read", &path))?,
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(io("read", &path))?;
    let other = |what: &str| Error::OtherModel { path: path.clone(), what: what.into() };
    if bytes.len() as u64 > MOST_BYTES {
        return Err(other("it is longer than any such file"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| other("it is no text"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn tokeniser() -> Value {
        let token = |id: u32, content: &str| json!({"id": id, "content": content, "special": true});
        let tokens = [
            token(1, "<s>"),
            token(2, "</s>"),
            token(3, "<|eot|>"),
            token(4, "<pre>"),
            token(5, "<suf>"),
            token(6, "<mid>"),
        ];
        json!({"added_tokens": tokens, "model": {"type": "BPE", "vocab": {"a": 0}}})
    }

    fn adding_bos() -> Value {
        let single = json!([{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {}}]);
        let template = json!({"type": "TemplateProcessing", "single": single});
        let mut tokeniser = tokeniser();
        tokeniser["post_processor"] =
            json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]});
        tokeniser
    }

    /// What is read from these files.
    fn read(files: &[(&str, Value)]) -> Result<Speech, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            fs::write(dir.path().join(name), text).unwrap();
        }
        let [prefix, suffix, middle] = ["<pre>", "<suf>", "<mid>"].map(str::to_owned);
        let fim = FimTokens { prefix, suffix, middle };
        Speech::read(dir.path(), Some(&fim))
            .map_err(|error| error.to_string().replace(dir.path().to_str().unwrap(), "DIR"))
    }

    #[test]
    fn ends_stand_in_two_files_and_the_templates_own_comes_first() {
        let settings = json!({"eos_token": {"content": "<|eot|>"}, "bos_token": null});
        let ends = |generation: Value| {
            let files = [(TOKENISER, tokeniser()), (SETTINGS, settings.clone())];
            let files = [&files[..], &[(GENERATION, generation)][..]].concat();
            read(&files).unwrap().tokens.ends
        };
        assert_eq!(ends(json!({})), ["<|eot|>"]);
        assert_eq!(ends(json!({"eos_token_id": 2})), ["<|eot|>", "</s>"]);
        assert_eq!(ends(json!({"eos_token_id": [3, 2, 999]})), ["<|eot|>", "</s>"]);
    }

    #[test]
    fn whether_a_text_begins_with_a_token_is_told_by_the_settings_or_else_the_tokeniser() {
        let begins = |tokeniser: Value, adds: Value| {
            let settings = json!({"eos_token": "</s>", "bos_token": "<s>", "add_bos_token": adds});
            read(&[(TOKENISER, tokeniser), (SETTINGS, settings)]).unwrap().tokens.beginning
        };
        assert_eq!(begins(tokeniser(), json!(true)).as_deref(), Some("<s>"));
        assert_eq!(begins(adding_bos(), json!(false)), None);
        assert_eq!(begins(adding_bos(), Value::Null).as_deref(), Some("<s>"));
        assert_eq!(begins(tokeniser(), Value::Null), None);
    }

    #[test]
    fn the_chat_template_is_a_file_or_an_entry_or_one_of_several() {
        let template = |entry: Value, file: Option<&str>| {
            let settings = json!({"eos_token": "</s>", "chat_template": entry});
            let mut files = vec![(TOKENISER, tokeniser()), (SETTINGS, settings)];
            files.extend(file.map(|text| (TEMPLATE, json!(text))));
            read(&files).unwrap().template
        };
        assert_eq!(template(json!("one"), None).as_deref(), Some("one"));
        assert_eq!(template(json!("one"), Some("file")).as_deref(), Some("file"));
        let several =
            json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
        assert_eq!(template(several, None).as_deref(), Some("d"));
        assert_eq!(template(Value::Null, None), None);
    }

    #[test]
    fn tokens_for_filling_in_are_taken_only_if_they_are_all_there() {
        let settings = (SETTINGS, json!({"eos_token": "</s>"}));
        let all = read(&[(TOKENISER, tokeniser()), settings.clone()]).unwrap().tokens.infill;
        assert_eq!(all, Some(["<pre>", "<suf>", "<mid>"].map(str::to_owned)));
        let mut fewer = tokeniser();
        fewer["added_tokens"].as_array_mut().unwrap().pop();
        assert_eq!(read(&[(TOKENISER, fewer), settings]).unwrap().tokens.infill, None);
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_named() {
        let settings = (SETTINGS, json!({"eos_token": "</s>"}));
        for (files, said) in [
            (vec![settings.clone()], "DIR/tokenizer.json is not there"),
            (vec![(TOKENISER, tokeniser())], "DIR/tokenizer_config.json is not there"),
            (vec![(TOKENISER, json!("{]")), settings], "DIR/tokenizer.json is not what"),
            (vec![(TOKENISER, tokeniser()), (SETTINGS, json!({}))], "no token that ends an answer"),
        ] {
            let error = read(&files).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}

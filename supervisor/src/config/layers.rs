//! The layers of the configuration: each is checked alone, so that an error
//! names where the value was written, and then they are merged.

use std::path::{Path, PathBuf};

use figment::error::{Actual, Kind};
use figment::providers::Serialized;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::place::{Place, line_at, line_of_key};
use super::raw::Raw;
use super::{ConfigError, Flags};

const PREFIX: &str = "STOKER_";
const SEPARATOR: &str = "__";
/// Variables with our prefix that are no configuration keys.
const OTHER_VARIABLES: [&str; 5] =
    ["STOKER_LOG", "STOKER_URL", "STOKER_KEY", "STOKER_MODELS_DIR", "STOKER_BENCH_PEER"];
/// How alike two names must be for one to be suggested, from 0 to 1.
const ALIKE: f64 = 0.8;
/// What a name in another table counts less than one in the same.
const ELSEWHERE: f64 = 0.9;

/// One source of values. A later layer wins over an earlier one.
#[derive(Debug)]
pub(super) struct Layer {
    origin: Origin,
    values: Dict,
}

#[derive(Debug)]
enum Origin {
    File { path: PathBuf, text: String },
    Environment,
    Flags,
}

impl Layer {
    /// A file's layer; `None` if there is no such file.
    pub(super) fn file(path: &Path) -> Result<Option<Self>, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ConfigError::Read { path: path.into(), source }),
        };
        let values = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| line_at(&text, span.start));
            ConfigError::Syntax {
                place: Place::File { path: path.into(), line },
                problem: error.message().trim_end().to_owned(),
            }
        })?;
        Self { origin: Origin::File { path: path.into(), text }, values }.checked().map(Some)
    }

    /// The layer of `STOKER_…` variables.
    pub(super) fn environment(
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut values = Dict::new();
        for (name, text) in variables {
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            if OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            set(&mut values, &key.to_lowercase().replace(SEPARATOR, "."), typed(text));
        }
        Self { origin: Origin::Environment, values }.checked()
    }

    /// The layer of command-line flags.
    pub(super) fn flags(flags: &Flags) -> Result<Self, ConfigError> {
        let mut values = Dict::new();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let given = [
            ("state_dir", path(&flags.state_dir)),
            ("root", path(&flags.root)),
            ("server.listen", flags.listen.clone()),
        ];
        for (key, text) in given {
            if let Some(text) = text {
                set(&mut values, key, text.into());
            }
        }
        Self { origin: Origin::Flags, values }.checked()
    }

    /// Refuses a layer that does not fit the raw configuration by itself.
    fn checked(self) -> Result<Self, ConfigError> {
        match defaults().merge(&self).extract::<Raw>() {
            Ok(_) => Ok(self),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn explain(&self, error: &figment::Error) -> ConfigError {
        let mut key = error.path.join(".");
        let problem = match &error.kind {
            Kind::UnknownField(field, _) => {
                if error.path.last() != Some(field) {
                    key = error.path.iter().chain([field]).cloned().collect::<Vec<_>>().join(".");
                }
                match nearest(&key) {
                    Some(known) => format!("unknown key; did you mean {known}?"),
                    None => "unknown key".to_owned(),
                }
            }
            Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
                format!("expected {}, found {}", in_words(expected), as_written(found))
            }
            other => other.to_string(),
        };
        ConfigError::Key { place: self.place(&key), key, problem }
    }

    /// Whether this layer sets `key`.
    pub(super) fn sets(&self, key: &str) -> bool {
        let mut values = &self.values;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            match values.get(part) {
                Some(Value::Dict(_, inner)) if parts.peek().is_some() => values = inner,
                Some(_) => return parts.peek().is_none(),
                None => return false,
            }
        }
        false
    }

    /// Where in this layer `key` stands.
    pub(super) fn place(&self, key: &str) -> Place {
        match &self.origin {
            Origin::File { path, text } => {
                Place::File { path: path.clone(), line: line_of_key(text, key) }
            }
            Origin::Environment => {
                Place::Variable(format!("{PREFIX}{}", key.to_uppercase().replace('.', SEPARATOR)))
            }
            Origin::Flags => Place::Flag(key.rsplit('.').next().unwrap_or(key).replace('_', "-")),
        }
    }
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(match &self.origin {
            Origin::File { path, .. } => path.display().to_string(),
            Origin::Environment => "environment".to_owned(),
            Origin::Flags => "flags".to_owned(),
        })
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// The built-in defaults, to merge layers onto.
pub(super) fn defaults() -> Figment {
    Figment::from(Serialized::defaults(Raw::default()))
}

fn set(values: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            values.insert(key.to_owned(), value);
        }
        Some((table, rest)) => {
            let inner = values.entry(table.to_owned()).or_insert_with(|| Dict::new().into());
            if let Value::Dict(_, inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// The known key or table that `unknown` most likely stands for: the one whose
/// own name is nearest, preferably in the same table.
fn nearest(unknown: &str) -> Option<String> {
    let split = |key: &str| {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        (table.to_owned(), name.to_owned())
    };
    let (table, name) = split(unknown);
    let likeness = |known: &str| {
        let (known_table, known_name) = split(known);
        let elsewhere = if known_table == table { 1.0 } else { ELSEWHERE };
        strsim::jaro_winkler(&known_name, &name) * elsewhere
    };
    let mut known = known_keys();
    known.retain(|key| likeness(key) >= ALIKE);
    known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

fn known_keys() -> Vec<String> {
    fn walk(prefix: &str, values: &Dict, keys: &mut Vec<String>) {
        for (name, value) in values {
            let key = format!("{prefix}{name}");
            if let Value::Dict(_, inner) = value {
                walk(&format!("{key}."), inner, keys);
            }
            keys.push(key);
        }
    }
    let mut keys = Vec::new();
    if let Ok(Value::Dict(_, values)) = Value::serialize(Raw::default()) {
        walk("", &values, &mut keys);
    }
    keys
}

/// A value as it was written.
fn as_written(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(text) => format!("\"{text}\""),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// serde's word for a type, for people.
fn in_words(expected: &str) -> String {
    match expected {
        "u64" | "u32" | "u16" | "usize" => "a whole number, 0 or more".to_owned(),
        "a string" | "path string" => "text in quotes".to_owned(),
        "a sequence" => "a list in brackets".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

/// A variable's text as what it most likely is.
fn typed(text: String) -> Value {
    match (text.parse::<u64>(), text.parse::<bool>()) {
        (Ok(number), _) => number.into(),
        (_, Ok(switch)) => switch.into(),
        _ => text.into(),
    }
}

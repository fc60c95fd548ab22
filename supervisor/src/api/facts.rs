//! What a request must know of the engine to be read: its names and sizes.

use crate::api::error::Problem;
use crate::api::wire::stoker::{ALIASES, Wish, alias};
use crate::keys::Chats;
use crate::snapshot::Snapshot;
use engine_api::manifest::BackendKind;
use engine_api::protocol::Setting;
use hyper::StatusCode;

/// Taken from the snapshot when the request arrives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The serving model's name; `None` if there is no engine at all.
    pub(crate) model: Option<String>,
    pub(crate) aliases: Vec<String>,
    /// The window in tokens, once the engine is loaded.
    pub(crate) context: Option<u32>,
    pub(crate) vocabulary: Option<u32>,
    /// Whether the model has a chat template; assumed until it is loaded.
    pub(crate) chat: bool,
    /// What its runtime cannot do.
    pub(crate) lacks: &'static [Setting],
    /// What the key's chats have without asking for it.
    pub(crate) chats: Chats,
}

impl Facts {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let engine = &snapshot.engine;
        let ready = engine.ready.as_deref();
        Self {
            model: engine.model.clone(),
            aliases: engine.aliases.clone(),
            context: ready.map(|ready| ready.context),
            vocabulary: ready.map(|ready| ready.vocabulary),
            chat: ready.is_none_or(|ready| ready.chat),
            lacks: engine.backend.map_or(&[], BackendKind::lacks),
            chats: Chats::default(),
        }
    }

    /// The same for a key whose chats have something without asking for it.
    pub(crate) fn with_chats(self, chats: &Chats) -> Self {
        Self { chats: chats.clone(), ..self }
    }

    pub(crate) fn lacks(&self, setting: Setting) -> bool {
        self.lacks.contains(&setting)
    }

    /// The name that answers carry when the client named none.
    pub(crate) fn serving(&self) -> &str {
        self.model.as_deref().unwrap_or("default")
    }

    /// Whether `asked` means the model that serves. Without an engine every
    /// name does: the refusal that follows says why there is none.
    ///
    /// # Errors
    /// It is another model; the problem names those that exist.
    pub(crate) fn resolve(&self, asked: Option<&str>) -> Result<(), Problem> {
        let whole = asked.unwrap_or_default();
        let (asked, _) = alias(whole);
        let Some(model) = &self.model else { return Ok(()) };
        let is_one = |asked| self.names().any(|name| same(name, asked));
        if matches!(asked, "" | "default") || is_one(asked) || is_one(whole) {
            return Ok(());
        }
        let aliases = self.aliases.iter().map(String::as_str);
        Err(model_not_found(asked, "has", std::iter::once(model.as_str()).chain(aliases)))
    }

    /// What a name wishes for, unless the whole of it is a model's own, and what the key's
    /// chats have in any case.
    pub(crate) fn wish(&self, asked: Option<&str>) -> Wish {
        let asked = asked.unwrap_or_default();
        let is_own = self.names().any(|name| same(name, asked));
        let named = if is_own { Wish::default() } else { alias(asked).1 };
        named.or_of_key(&self.chats)
    }

    /// Names of the model that wish for something.
    pub(crate) fn wishes(&self) -> Vec<String> {
        let chats = self.model.iter().filter(|_| self.chat);
        chats.flat_map(|name| ALIASES.map(|end| format!("{name}{end}"))).collect()
    }

    /// Every name of the model, its own first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.model.iter().chain(&self.aliases).map(String::as_str)
    }
}

/// The refusal of a name that is none of `names`; the server `does` something with
/// each of those.
pub(crate) fn model_not_found<'a>(
    asked: &str,
    does: &str,
    names: impl Iterator<Item = &'a str>,
) -> Problem {
    let asked: String = asked.chars().take(MAX_ECHO).collect();
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let names = names.join(", ");
    Problem {
        code: Some("model_not_found"),
        param: Some("model".to_owned()),
        ..Problem::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            format!("model '{asked}' not found; this server {does} {names}"),
        )
    }
}

/// Characters of a client's own words that are said back to it.
const MAX_ECHO: usize = 100;

/// A bare name and the same with `:latest` are one model.
pub(crate) fn same(one: &str, other: &str) -> bool {
    let bare = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let aliases = vec!["qwen2.5-coder:7b".to_owned()];
        Facts { model: Some("coder".to_owned()), aliases, ..Facts::default() }
    }

    #[test]
    fn names_that_mean_the_serving_model() {
        for asked in ["", "default", "coder", "coder:latest", "qwen2.5-coder:7b"] {
            assert_eq!(facts().resolve(Some(asked)), Ok(()), "{asked}");
        }
        assert_eq!(facts().resolve(None), Ok(()));
        assert_eq!(Facts::default().resolve(Some("anything")), Ok(()));
    }

    #[test]
    fn another_name_is_refused_with_those_that_exist() {
        for asked in ["coder:7b", "qwen2.5-coder", "gpt-4"] {
            let problem = facts().resolve(Some(asked)).unwrap_err();
            assert_eq!(problem.status, StatusCode::NOT_FOUND);
            assert_eq!(
                problem.message,
                format!("model '{asked}' not found; this server has `coder`, `qwen2.5-coder:7b`")
            );
        }
    }
}

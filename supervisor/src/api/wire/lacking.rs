//! What an engine's runtime cannot do is refused by the field's name, before a
//! prompt is looked at. Where nobody asked for it, it is left out.

use engine_api::form::{ToolChoice, Tools};
use engine_api::manifest::MOST_CANDIDATES;
use engine_api::protocol::{Sampling, Setting};

use crate::api::error::Problem;
use crate::api::facts::Facts;
use crate::api::wire::form::Wanted;

/// Which fields the client gave itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) min_p: bool,
    pub(crate) repeat_last_n: bool,
}

/// `sampling` as this engine can do it. Fields stand below `path`, which ends
/// with a dot or is empty.
///
/// # Errors
/// The client asked for what this engine cannot do.
pub(crate) fn adapt(
    facts: &Facts,
    mut sampling: Sampling,
    given: Given,
    path: &str,
) -> Result<Sampling, Problem> {
    let refuse = |field: &str, instead: &str| {
        let why = format!("cannot be done by this server's engine; {instead}");
        Err(Problem::field(format!("{path}{field}"), why))
    };
    if facts.lacks(Setting::MinP) && sampling.min_p > 0.0 {
        if given.min_p {
            return refuse("min_p", "leave it out or use `top_p`");
        }
        sampling.min_p = 0.0;
    }
    if facts.lacks(Setting::TopK) && sampling.top_k > MOST_CANDIDATES {
        return refuse("top_k", &format!("use at most {MOST_CANDIDATES}, or 0 for all tokens"));
    }
    if facts.lacks(Setting::RepeatLastN) {
        let window = facts.context.unwrap_or(u32::MAX);
        if given.repeat_last_n && sampling.repeat_last_n < window && sampling.penalises() {
            return refuse("repeat_last_n", "leave it out: penalties count the whole window");
        }
        sampling.repeat_last_n = window;
    }
    let forbids = |bias: f32| bias == f32::NEG_INFINITY;
    if facts.lacks(Setting::LogitBias) && !sampling.logit_bias.iter().all(|(_, b)| forbids(*b)) {
        return refuse("logit_bias", "it can only forbid tokens, with `false` for the number");
    }
    if facts.lacks(Setting::Logprobs) && sampling.logprobs.is_some() {
        return refuse("logprobs", "leave it out");
    }
    Ok(sampling)
}

/// The form that the answer is to have, if this engine can hold one.
///
/// # Errors
/// The client asked for a form that this engine cannot enforce.
pub(crate) fn form(facts: &Facts, wanted: Option<Wanted>) -> Result<Option<Wanted>, Problem> {
    match wanted {
        Some(Wanted { field, .. }) if facts.lacks(Setting::Grammar) => {
            let why = "cannot be enforced by this server's engine; ask for the form in the prompt";
            Err(Problem::field(field, why))
        }
        wanted => Ok(wanted),
    }
}

/// Tools, if this engine can call them as asked for: without grammars a model
/// calls them as it sees fit.
///
/// # Errors
/// The client wants a call in any case.
pub(crate) fn tools(facts: &Facts, tools: Option<Tools>) -> Result<Option<Tools>, Problem> {
    match tools {
        Some(Tools { choice: ToolChoice::Required | ToolChoice::Named(_), .. })
            if facts.lacks(Setting::Grammar) =>
        {
            let why = "must be `auto` or `none`: this server's engine cannot be made to call";
            Err(Problem::field("tool_choice", why))
        }
        tools => Ok(tools),
    }
}

#[cfg(test)]
mod tests {
    use engine_api::form::Grammar;
    use engine_api::manifest::BackendKind;
    use engine_api::protocol::TokenId;

    use super::*;

    const NOTHING: Given = Given { min_p: false, repeat_last_n: false };
    const BOTH: Given = Given { min_p: true, repeat_last_n: true };

    fn facts(backend: BackendKind) -> Facts {
        Facts { context: Some(4096), lacks: backend.lacks(), ..Facts::default() }
    }

    fn all() -> Facts {
        facts(BackendKind::TensorrtLlm)
    }

    fn field(sampling: Sampling, given: Given) -> Option<String> {
        adapt(&all(), sampling, given, "options.").unwrap_err().param
    }

    #[test]
    fn an_engine_that_lacks_nothing_changes_nothing() {
        let plain = Sampling { logprobs: Some(1), ..Sampling::default() };
        assert_eq!(adapt(&facts(BackendKind::LlamaCpp), plain.clone(), BOTH, ""), Ok(plain));
    }

    #[test]
    fn defaults_that_nobody_asked_for_are_left_out() {
        let expected = Sampling { min_p: 0.0, repeat_last_n: 4096, ..Sampling::default() };
        assert_eq!(adapt(&all(), Sampling::default(), NOTHING, ""), Ok(expected));
    }

    #[test]
    fn what_was_asked_for_is_refused_by_its_name() {
        let plain = Sampling::default;
        assert_eq!(field(plain(), BOTH).unwrap(), "options.min_p");
        let many = Sampling { min_p: 0.0, top_k: 1025, ..plain() };
        assert_eq!(field(many, NOTHING).unwrap(), "options.top_k");
        let penal = Sampling { min_p: 0.0, presence_penalty: 1.0, ..plain() };
        assert_eq!(field(penal, BOTH).unwrap(), "options.repeat_last_n");
        let biased = Sampling { logit_bias: vec![(TokenId(1), 5.0)], ..plain() };
        assert_eq!(field(biased, NOTHING).unwrap(), "options.logit_bias");
        let scored = Sampling { logprobs: Some(0), ..plain() };
        assert_eq!(field(scored, NOTHING).unwrap(), "options.logprobs");
    }

    #[test]
    fn a_form_is_refused_by_the_field_that_asked_for_it() {
        let wanted = |field| Some(Wanted { grammar: Grammar::JsonObject, field });
        for field in ["response_format", "json_schema", "grammar", "format"] {
            let refusal = form(&all(), wanted(field)).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(field));
        }
        assert_eq!(form(&all(), None), Ok(None));
        let able = form(&facts(BackendKind::LlamaCpp), wanted("format"));
        assert_eq!(able, Ok(wanted("format")));
    }

    #[test]
    fn tools_may_be_called_and_never_must() {
        let tools_with = |choice| Tools { definitions: "[]".into(), choice, parallel: true };
        for choice in [ToolChoice::Required, ToolChoice::Named("f".into())] {
            let asked = Some(tools_with(choice));
            let refusal = tools(&all(), asked.clone()).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some("tool_choice"));
            assert_eq!(tools(&facts(BackendKind::LlamaCpp), asked.clone()), Ok(asked));
        }
        let auto = Some(tools_with(ToolChoice::Auto));
        assert_eq!(tools(&all(), auto.clone()), Ok(auto));
    }

    #[test]
    fn what_makes_no_difference_is_taken() {
        let forbids = vec![(TokenId(1), f32::NEG_INFINITY)];
        let plain = Sampling { min_p: 0.0, logit_bias: forbids, ..Sampling::default() };
        assert!(adapt(&all(), plain, BOTH, "").is_ok());
    }
}

//! What an engine's runtime cannot do is refused by the field's name, before a
//! prompt is looked at. Where nobody asked for it, it is left out.

use engine_api::protocol::{Sampling, Setting};

use crate::api::error::Problem;
use crate::api::facts::Facts;

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

#[cfg(test)]
mod tests {
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
        let penal = Sampling { min_p: 0.0, presence_penalty: 1.0, ..plain() };
        assert_eq!(field(penal, BOTH).unwrap(), "options.repeat_last_n");
        let biased = Sampling { logit_bias: vec![(TokenId(1), 5.0)], ..plain() };
        assert_eq!(field(biased, NOTHING).unwrap(), "options.logit_bias");
        let scored = Sampling { logprobs: Some(0), ..plain() };
        assert_eq!(field(scored, NOTHING).unwrap(), "options.logprobs");
    }

    #[test]
    fn what_makes_no_difference_is_taken() {
        let forbids = vec![(TokenId(1), f32::NEG_INFINITY)];
        let plain = Sampling { min_p: 0.0, logit_bias: forbids, ..Sampling::default() };
        assert!(adapt(&all(), plain, BOTH, "").is_ok());
    }
}

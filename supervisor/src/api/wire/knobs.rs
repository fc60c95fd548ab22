//! The fields that every OpenAI route shares: how to sample, how much, and how
//! to send it; llama-server's extras among them.
//!
//! They are read from the body on their own, beside the route's own fields, so
//! that a wrong one is still named by its path.

use engine_api::protocol::{MAX_TOP_LOGPROBS, Sampling, Setting};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::form::{ResponseFormat, Wanted, of_openai};
use super::lacking;
use super::logit_bias::Biases;
use super::number::{Integer, seed, token_limit, within};
use super::object::Object;
use super::stops::Stops;
use crate::api::error::Problem;
use crate::api::facts::Facts;

/// Answers that one request may ask for: a client must not take the whole
/// batch with one call.
pub(crate) const MAX_CHOICES: usize = 8;

/// How the answer is to be made and sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Knobs {
    max_tokens: Option<Integer>,
    max_completion_tokens: Option<Integer>,
    n_predict: Option<Integer>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<Integer>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    repeat_last_n: Option<Integer>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    seed: Option<Integer>,
    logit_bias: Biases,
    ignore_eos: Option<bool>,
    cache_prompt: Option<bool>,
    stop: Stops,
    n: Option<Integer>,
    stream: Option<bool>,
    stream_options: Option<Object<StreamOptions>>,
    response_format: Option<Object<ResponseFormat>>,
    grammar: Option<String>,
    json_schema: Option<Box<RawValue>>,
    // `id_slot` is left unread on purpose: a client may not pin the team to one slot.
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Knobs {
    pub(crate) fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(crate) fn include_usage(&self) -> bool {
        self.stream_options
            .as_ref()
            .and_then(|Object(options)| options.include_usage)
            .unwrap_or(false)
    }

    /// Whether finished work may serve as a prefix.
    ///
    /// # Errors
    /// It must not, but this engine always does.
    pub(crate) fn reuse_prefix(&self, facts: &Facts) -> Result<bool, Problem> {
        match self.cache_prompt.unwrap_or(true) {
            false if facts.lacks(Setting::FreshPrompt) => {
                let why = "must not be false: this server's engine always reuses prefixes";
                Err(Problem::field("cache_prompt", why))
            }
            reuse => Ok(reuse),
        }
    }

    /// Tokens to generate at most; `None` for what the window leaves.
    ///
    /// # Errors
    /// Zero.
    pub(crate) fn max_tokens(&self) -> Result<Option<u32>, Problem> {
        let named = [
            ("max_completion_tokens", self.max_completion_tokens),
            ("max_tokens", self.max_tokens),
            ("n_predict", self.n_predict),
        ];
        let asked = named.into_iter().find(|(_, value)| value.is_some());
        asked.map_or(Ok(None), |(field, value)| token_limit(field, value, false))
    }

    /// Answers to give to each prompt.
    ///
    /// # Errors
    /// None at all, or more than [`MAX_CHOICES`].
    pub(crate) fn choices(&self) -> Result<usize, Problem> {
        let Integer(n) = self.n.unwrap_or(Integer(1));
        let n = usize::try_from(n).ok().filter(|n| (1..=MAX_CHOICES).contains(n));
        n.ok_or_else(|| Problem::field("n", format_args!("must be between 1 and {MAX_CHOICES}")))
    }

    /// The form that the answer is to have, if any.
    ///
    /// # Errors
    /// More than one, one that is not known, or one that this engine cannot enforce.
    pub(crate) fn wanted(&self, facts: &Facts) -> Result<Option<Wanted>, Problem> {
        let format = self.response_format.as_ref().map(|Object(format)| format);
        let wanted = of_openai(format, self.grammar.as_deref(), self.json_schema.as_deref())?;
        lacking::form(facts, wanted)
    }

    /// Strings before which the answer ends.
    ///
    /// # Errors
    /// Too many or too long.
    pub(crate) fn stops(&self) -> Result<Vec<String>, Problem> {
        self.stop.checked("stop")
    }

    /// How tokens are to be chosen; `logprobs` as the route understood them.
    ///
    /// # Errors
    /// A number out of range, or a bias for a token that does not exist.
    pub(crate) fn sampling(
        &self,
        facts: &Facts,
        logprobs: Option<u8>,
    ) -> Result<Sampling, Problem> {
        let plain = Sampling::default();
        let given = lacking::Given {
            min_p: self.min_p.is_some(),
            repeat_last_n: self.repeat_last_n.is_some(),
        };
        let sampling = Sampling {
            temperature: within("temperature", self.temperature, 0.0, 100.0, plain.temperature)?,
            top_k: top_k(self.top_k, plain.top_k),
            top_p: within("top_p", self.top_p, 0.0, 1.0, plain.top_p)?,
            min_p: within("min_p", self.min_p, 0.0, 1.0, plain.min_p)?,
            repeat_penalty: repeat_penalty("repeat_penalty", self.repeat_penalty)?,
            repeat_last_n: repeat_last_n(self.repeat_last_n, facts),
            presence_penalty: within("presence_penalty", self.presence_penalty, -2.0, 2.0, 0.0)?,
            frequency_penalty: within("frequency_penalty", self.frequency_penalty, -2.0, 2.0, 0.0)?,
            seed: seed(self.seed),
            logit_bias: self.logit_bias.checked(facts)?,
            logprobs,
            ignore_eos: self.ignore_eos.unwrap_or(false),
        };
        lacking::adapt(facts, sampling, given, "")
    }
}

/// Zero or less switches the filter off.
pub(crate) fn top_k(value: Option<Integer>, default: u32) -> u32 {
    value.map_or(default, |Integer(k)| u32::try_from(k.max(0)).unwrap_or(u32::MAX))
}

/// 1 switches it off; 0 would divide by nothing.
pub(crate) fn repeat_penalty(field: &str, value: Option<f64>) -> Result<f32, Problem> {
    within(field, value, 0.01, 10.0, Sampling::default().repeat_penalty)
}

/// Never more than the window; negative means the whole of it.
pub(crate) fn repeat_last_n(value: Option<Integer>, facts: &Facts) -> u32 {
    let window = facts.context.unwrap_or(Sampling::default().repeat_last_n);
    match value {
        None => Sampling::default().repeat_last_n,
        Some(Integer(n)) => u32::try_from(n).map_or(window, |n| n.min(window)),
    }
}

/// Log-probabilities of how many rivals.
///
/// # Errors
/// More than [`MAX_TOP_LOGPROBS`], or fewer than none.
pub(crate) fn top_logprobs(field: &str, Integer(count): Integer) -> Result<u8, Problem> {
    let count = u8::try_from(count).ok().filter(|count| *count <= MAX_TOP_LOGPROBS);
    let range = format_args!("must be between 0 and {MAX_TOP_LOGPROBS}").to_string();
    count.ok_or_else(|| Problem::field(field, range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::json::parse;

    fn facts() -> Facts {
        Facts { context: Some(4096), vocabulary: Some(100), ..Facts::default() }
    }

    fn sampling(body: &str) -> Result<Sampling, String> {
        let knobs: Knobs = parse(body.as_bytes()).map_err(|problem| problem.message)?;
        knobs.sampling(&facts(), None).map_err(|problem| problem.message)
    }

    #[test]
    fn nulls_and_unknown_fields_mean_the_defaults() {
        let body = r#"{"temperature":null,"stop":null,"logit_bias":null,"seed":7,"id_slot":0,"typical_p":"x"}"#;
        assert_eq!(sampling(body).unwrap(), Sampling { seed: 7, ..Sampling::default() });
    }

    #[test]
    fn llama_server_extras_mean_what_they_mean_there() {
        let body = r#"{"top_k":0,"min_p":0.1,"repeat_penalty":1.1,"repeat_last_n":-1,"ignore_eos":true,"seed":1}"#;
        let expected = Sampling {
            top_k: 0,
            min_p: 0.1,
            repeat_penalty: 1.1,
            repeat_last_n: 4096,
            ignore_eos: true,
            seed: 1,
            ..Sampling::default()
        };
        assert_eq!(sampling(body).unwrap(), expected);
    }

    #[test]
    fn the_newest_name_of_the_token_limit_wins() {
        let limit = |body: &str| parse::<Knobs>(body.as_bytes()).unwrap().max_tokens();
        assert_eq!(limit("{}"), Ok(None));
        assert_eq!(limit(r#"{"n_predict":3}"#), Ok(Some(3)));
        assert_eq!(limit(r#"{"n_predict":3,"max_tokens":4}"#), Ok(Some(4)));
        assert_eq!(limit(r#"{"max_tokens":4,"max_completion_tokens":5}"#), Ok(Some(5)));
        assert_eq!(limit(r#"{"max_tokens":-1}"#), Ok(None));
        assert_eq!(limit(r#"{"max_tokens":0}"#).unwrap_err().param.unwrap(), "max_tokens");
    }

    #[test]
    fn the_number_of_choices_is_bounded() {
        let choices = |body: &str| parse::<Knobs>(body.as_bytes()).unwrap().choices();
        assert_eq!(choices("{}"), Ok(1));
        assert_eq!(choices(r#"{"n":8}"#), Ok(8));
        for n in ["0", "9", "-1", "1000000000000"] {
            assert_eq!(choices(&format!("{{\"n\":{n}}}")).unwrap_err().param.unwrap(), "n");
        }
    }
}

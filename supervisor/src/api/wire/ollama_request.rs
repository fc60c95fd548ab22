//! Bodies of Ollama's `/api/chat`, `/api/generate` and `/api/show`.

use engine_api::protocol::{Message, Priority, Prompt, Role, Sampling, Setting};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::content::Messages;
use super::form::of_ollama;
use super::json::parse;
use super::knobs::{repeat_last_n, repeat_penalty, top_k, top_logprobs};
use super::lacking;
use super::number::{Integer, seed, token_limit, within};
use super::object::Object;
use super::stoker::{Extension, Wish};
use super::stops::Stops;
use super::tools::{ToolChoiceField, tools as tools_of};
use crate::api::error::Problem;
use crate::api::facts::Facts;
use crate::api::job::Job;

/// What a body on an Ollama route asks for.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The model's name as the client wrote it; answers repeat it.
    pub(crate) model: String,
    /// `None`: only to have the model loaded.
    pub(crate) job: Option<Job>,
    /// What is to be added to its chat.
    pub(crate) wish: Wish,
    pub(crate) stream: bool,
    /// The window that the client wished for. It never reloads the engine.
    pub(crate) num_ctx: Option<u32>,
}

/// Fields of both routes. `keep_alive`, `think`, `truncate` and `shift` are
/// left unread: the model stays loaded, and nothing is cut.
#[derive(Debug, Deserialize)]
struct Common {
    model: Option<String>,
    options: Option<Object<Options>>,
    format: Option<Box<RawValue>>,
    stream: Option<bool>,
    logprobs: Option<bool>,
    top_logprobs: Option<Integer>,
    stoker: Option<Object<Extension>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    num_ctx: Option<Integer>,
    num_predict: Option<Integer>,
    temperature: Option<f64>,
    top_k: Option<Integer>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    repeat_last_n: Option<Integer>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    seed: Option<Integer>,
    stop: Stops,
}

#[derive(Debug, Deserialize)]
struct ChatBody {
    messages: Option<Messages>,
    tools: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct GenerateBody {
    prompt: Option<String>,
    suffix: Option<String>,
    system: Option<String>,
    template: Option<String>,
    raw: Option<bool>,
    images: Option<Vec<IgnoredAny>>,
    context: Option<Vec<IgnoredAny>>,
}

/// Body of `/api/show`: `name` is what older clients say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ShowBody {
    model: Option<String>,
    name: Option<String>,
}

/// Reads the body of `/api/chat`.
///
/// # Errors
/// The problem says which field is wrong and why.
pub(crate) fn chat(body: &[u8], facts: &Facts) -> Result<Ask, Problem> {
    let common = common(body, facts)?;
    let ChatBody { messages, tools } = parse(body)?;
    let messages = messages.unwrap_or_default().checked()?;
    if messages.is_empty() {
        return common.ask(facts, None, Priority::Interactive);
    }
    let tools = tools_of(tools.as_deref(), ToolChoiceField::default(), true)?;
    common.ask(facts, Some(Prompt::Chat { messages, tools }), Priority::Interactive)
}

/// Reads the body of `/api/generate`.
///
/// # Errors
/// The problem says which field is wrong and why.
pub(crate) fn generate(body: &[u8], facts: &Facts) -> Result<Ask, Problem> {
    let common = common(body, facts)?;
    let generate: GenerateBody = parse(body)?;
    generate.check()?;
    let raw = generate.raw.unwrap_or(false);
    let suffix = generate.suffix.filter(|suffix| !suffix.is_empty());
    let Some(prompt) = generate.prompt.filter(|prompt| !prompt.is_empty() || suffix.is_some())
    else {
        return common.ask(facts, None, Priority::Interactive);
    };
    // Editors complete with a suffix, or with their own control tokens.
    let editor = raw || suffix.is_some();
    let priority = if editor { Priority::Completion } else { Priority::Interactive };
    let prompt = match suffix {
        Some(suffix) => Prompt::Infill { prefix: prompt, suffix },
        None if raw || !facts.chat => Prompt::Text { text: prompt, special: raw },
        None => Prompt::Chat { messages: turns(generate.system, prompt), tools: None },
    };
    common.ask(facts, Some(prompt), priority)
}

/// Reads the model's name from the body of `/api/show`.
///
/// # Errors
/// There is none.
pub(crate) fn shown(body: &[u8]) -> Result<String, Problem> {
    let ShowBody { model, name } = parse(body)?;
    let asked = model.filter(|model| !model.is_empty()).or(name);
    asked.ok_or_else(|| Problem::field("model", "is missing"))
}

fn turns(system: Option<String>, prompt: String) -> Vec<Message> {
    let message = |role, content| Message {
        role,
        content,
        tool_calls_json: None,
        tool_call_id: None,
        name: None,
    };
    let system = system.filter(|system| !system.is_empty());
    let system = system.map(|system| message(Role::System, system));
    system.into_iter().chain([message(Role::User, prompt)]).collect()
}

impl GenerateBody {
    fn check(&self) -> Result<(), Problem> {
        if self.images.as_ref().is_some_and(|images| !images.is_empty()) {
            return Err(Problem::field("images", "cannot be used: this model reads text only"));
        }
        if self.context.as_ref().is_some_and(|context| !context.is_empty()) {
            return Err(Problem::field("context", "is not kept here; use /api/chat with messages"));
        }
        if self.template.as_ref().is_some_and(|template| !template.is_empty()) {
            let why = "cannot be set by a request; format the prompt yourself and set `raw`";
            return Err(Problem::field("template", why));
        }
        Ok(())
    }
}

fn common(body: &[u8], facts: &Facts) -> Result<Common, Problem> {
    let common: Common = parse(body)?;
    facts.resolve(common.model.as_deref())?;
    Ok(common)
}

impl Common {
    fn ask(
        self,
        facts: &Facts,
        prompt: Option<Prompt>,
        priority: Priority,
    ) -> Result<Ask, Problem> {
        let logprobs = match (self.logprobs, self.top_logprobs) {
            (Some(true), _) if facts.lacks(Setting::Logprobs) => {
                let why = "cannot be done by this server's engine; leave it out";
                return Err(Problem::field("logprobs", why));
            }
            (Some(true), count) => Some(top_logprobs("top_logprobs", count.unwrap_or(Integer(0)))?),
            _ => None,
        };
        let Object(options) = self.options.unwrap_or(Object(Options::default()));
        let job = Job {
            prompts: prompt.into_iter().collect(),
            choices: 1,
            max_tokens: token_limit("options.num_predict", options.num_predict, true)?,
            sampling: Sampling { logprobs, ..options.sampling(facts)? },
            stops: options.stop.checked("options.stop")?,
            wanted: lacking::form(facts, of_ollama(self.format.as_deref())?)?,
            priority,
            reuse_prefix: true,
        };
        let wish = facts.wish(self.model.as_deref()).with(self.stoker)?;
        Ok(Ask {
            wish,
            model: self
                .model
                .filter(|model| !model.is_empty())
                .unwrap_or(facts.serving().to_owned()),
            job: (!job.prompts.is_empty()).then_some(job),
            stream: self.stream.unwrap_or(true),
            num_ctx: options.num_ctx.and_then(|Integer(tokens)| u32::try_from(tokens).ok()),
        })
    }
}

impl Options {
    fn sampling(&self, facts: &Facts) -> Result<Sampling, Problem> {
        let plain = Sampling::default();
        let penalty = |field, value| within(field, value, -2.0, 2.0, 0.0);
        let given = lacking::Given {
            min_p: self.min_p.is_some(),
            repeat_last_n: self.repeat_last_n.is_some(),
        };
        let sampling = Sampling {
            temperature: within(
                "options.temperature",
                self.temperature,
                0.0,
                100.0,
                plain.temperature,
            )?,
            top_k: top_k(self.top_k, plain.top_k),
            top_p: within("options.top_p", self.top_p, 0.0, 1.0, plain.top_p)?,
            min_p: within("options.min_p", self.min_p, 0.0, 1.0, plain.min_p)?,
            repeat_penalty: repeat_penalty("options.repeat_penalty", self.repeat_penalty)?,
            repeat_last_n: repeat_last_n(self.repeat_last_n, facts),
            presence_penalty: penalty("options.presence_penalty", self.presence_penalty)?,
            frequency_penalty: penalty("options.frequency_penalty", self.frequency_penalty)?,
            seed: seed(self.seed),
            ..plain
        };
        lacking::adapt(facts, sampling, given, "options.")
    }
}

#[cfg(test)]
mod tests {
    use engine_api::manifest::BackendKind;
    use proptest::prelude::*;

    use super::*;

    fn facts() -> Facts {
        Facts { model: Some("m".to_owned()), context: Some(4096), chat: true, ..Facts::default() }
    }

    fn prompt(body: &str) -> Prompt {
        generate(body.as_bytes(), &facts()).unwrap().job.unwrap().prompts.remove(0)
    }

    #[test]
    fn generate_prompts_in_every_form() {
        let text = |text: &str, special| Prompt::Text { text: text.to_owned(), special };
        assert_eq!(prompt(r#"{"prompt":"a","raw":true}"#), text("a", true));
        let infill = Prompt::Infill { prefix: "a".to_owned(), suffix: "b".to_owned() };
        assert_eq!(prompt(r#"{"prompt":"a","suffix":"b"}"#), infill);
        let Prompt::Chat { messages, .. } = prompt(r#"{"prompt":"a","system":"s"}"#) else {
            panic!("a plain prompt goes through the template");
        };
        let said: Vec<_> = messages.iter().map(|m| (m.role, m.content.as_str())).collect();
        assert_eq!(said, [(Role::System, "s"), (Role::User, "a")]);
        let base = Facts { chat: false, ..facts() };
        let job = generate(br#"{"prompt":"a"}"#, &base).unwrap().job.unwrap();
        assert_eq!(job.prompts, [text("a", false)]);
    }

    #[test]
    fn nothing_to_say_only_loads() {
        assert!(generate(br#"{"model":"m","keep_alive":-1}"#, &facts()).unwrap().job.is_none());
        assert!(generate(br#"{"prompt":""}"#, &facts()).unwrap().job.is_none());
        assert!(chat(br#"{"model":"m","messages":[]}"#, &facts()).unwrap().job.is_none());
        assert!(chat(br#"{"model":"m","messages":null}"#, &facts()).unwrap().job.is_none());
    }

    #[test]
    fn what_clients_send_besides_is_tolerated() {
        let body = br#"{"model":"m:latest","messages":[{"role":"user","content":"x"}],"think":false,
            "keep_alive":"5m","options":{"num_ctx":8192,"num_predict":0,"mirostat":0,"num_gpu":1}}"#;
        let ask = chat(body, &facts()).unwrap();
        assert_eq!(ask.model, "m:latest");
        assert_eq!(ask.num_ctx, Some(8192));
        assert!(ask.stream);
        assert_eq!(ask.job.unwrap().max_tokens, None);
    }

    #[test]
    fn refusals_name_the_field() {
        for (body, field) in [
            (r#"{"prompt":"a","format":"xml"}"#, "format"),
            (r#"{"prompt":"a","images":["x"]}"#, "images"),
            (r#"{"prompt":"a","context":[1]}"#, "context"),
            (r#"{"prompt":"a","template":"{{ .Prompt }}"}"#, "template"),
            (r#"{"prompt":"a","options":{"top_p":2}}"#, "options.top_p"),
            (r#"{"prompt":"a","options":{"top_k":"x"}}"#, "options.top_k"),
            (r#"{"prompt":7}"#, "prompt"),
            (r#"{"prompt":"a","model":"other"}"#, "model"),
        ] {
            let problem = generate(body.as_bytes(), &facts()).unwrap_err();
            assert_eq!(problem.param.as_deref(), Some(field), "{body}: {}", problem.message);
        }
    }

    #[test]
    fn what_an_engines_runtime_cannot_do_is_refused_by_its_field() {
        let lacking = Facts { lacks: BackendKind::TensorrtLlm.lacks(), ..facts() };
        for (field, wish) in [
            ("options.min_p", r#""options":{"min_p":0.1}"#),
            ("options.top_k", r#""options":{"top_k":2000}"#),
            ("options.repeat_last_n", r#""options":{"repeat_penalty":1.5,"repeat_last_n":64}"#),
            ("logprobs", r#""logprobs":true"#),
            ("format", r#""format":"json""#),
        ] {
            let body = format!(r#"{{"prompt":"a",{wish}}}"#);
            let refusal = generate(body.as_bytes(), &lacking).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(field), "{wish}: {}", refusal.message);
            assert!(refusal.message.contains("this server's engine"), "{}", refusal.message);
            assert!(generate(body.as_bytes(), &facts()).is_ok(), "{wish} can be done by others");
        }
    }

    #[test]
    fn show_takes_both_names_of_the_field() {
        let show = |body: &str| shown(body.as_bytes());
        assert_eq!(show(r#"{"name":"m"}"#).unwrap(), "m");
        assert_eq!(show(r#"{"model":"m:latest","verbose":true}"#).unwrap(), "m:latest");
        assert!(show("{}").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_job_or_a_clear_refusal(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for read in [chat, generate] {
                prop_assert!(read(&body, &facts()).is_err());
            }
        }
    }
}

//! From a client's prompt to token ids: chat template, tokeniser, window.
//!
//! Runs on a thread of its own, so a prompt is answered for while a step is
//! being computed. Templates come with model files and are not trusted: they
//! run in a sandbox that reads nothing and has a bound on its work.

use std::sync::{Arc, OnceLock};

use engine_api::protocol::{Message, Prompt, PromptProblem, Role, TokenId};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use crate::backend::{InfillTokens, Vocabulary};

/// Instructions that one rendering may take; far more than any template needs
/// for the longest conversation.
const MOST_TEMPLATE_WORK: u64 = 20_000_000;

/// Turns prompts into tokens for one model.
pub struct Preparer {
    vocabulary: Arc<dyn Vocabulary>,
    /// Tokens in the window, prompt and answer together.
    context: u32,
    template: Option<Environment<'static>>,
    longest_token: OnceLock<usize>,
}

impl std::fmt::Debug for Preparer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preparer").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Preparer {
    /// A preparer for a model with windows of `context` tokens. A template
    /// that does not parse is as good as none.
    #[must_use]
    pub fn new(vocabulary: Arc<dyn Vocabulary>, context: u32) -> Self {
        let template = vocabulary.chat_template().and_then(environment);
        Self { vocabulary, context, template, longest_token: OnceLock::new() }
    }

    #[must_use]
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The tokens of `prompt`.
    ///
    /// # Errors
    /// It is empty, too long, or not for this model.
    pub fn prepare(&self, prompt: Prompt) -> Result<Vec<TokenId>, PromptProblem> {
        let tokens = match prompt {
            Prompt::Chat { messages, tools_json } => {
                let text = self.render(&messages, tools_json.as_deref())?;
                self.tokenize(&text, true)?
            }
            Prompt::Text { text, special } => self.tokenize(&text, special)?,
            Prompt::Infill { prefix, suffix } => self.infill(&prefix, &suffix)?,
            Prompt::Tokens(tokens) => self.check(tokens)?,
        };
        match u32::try_from(tokens.len()) {
            Ok(0) => Err(PromptProblem::Empty),
            Ok(count) if count < self.context => Ok(tokens),
            count => Err(self.too_long(count.unwrap_or(u32::MAX), false)),
        }
    }

    fn too_long(&self, tokens: u32, at_least: bool) -> PromptProblem {
        PromptProblem::TooLong { tokens, at_least, context: self.context }
    }

    /// Tokens of `text`, with the model's beginning token before it unless the
    /// text brings its own.
    fn tokenize(&self, text: &str, special: bool) -> Result<Vec<TokenId>, PromptProblem> {
        let mut tokens = self.tokenize_part(text, special)?;
        if let Some(beginning) = self.vocabulary.beginning()
            && !tokens.is_empty()
            && tokens[0] != beginning
        {
            tokens.insert(0, beginning);
        }
        Ok(tokens)
    }

    /// Refuses text that cannot fit before any time is spent on it: a token
    /// stands for a bounded number of bytes.
    fn tokenize_part(&self, text: &str, special: bool) -> Result<Vec<TokenId>, PromptProblem> {
        let window = self.context as usize;
        if text.len() > window * 8 {
            let longest = *self.longest_token.get_or_init(|| self.vocabulary.longest_token());
            let least = text.len() / longest.max(1);
            if least >= window {
                return Err(self.too_long(u32::try_from(least).unwrap_or(u32::MAX), true));
            }
        }
        Ok(self.vocabulary.tokenize(text, special))
    }

    fn infill(&self, prefix: &str, suffix: &str) -> Result<Vec<TokenId>, PromptProblem> {
        let InfillTokens { prefix: before, suffix: after, middle } =
            self.vocabulary.infill().ok_or(PromptProblem::NoInfill)?;
        let mut tokens = Vec::new();
        tokens.extend(self.vocabulary.beginning());
        tokens.push(before);
        tokens.extend(self.tokenize_part(prefix, false)?);
        tokens.push(after);
        tokens.extend(self.tokenize_part(suffix, false)?);
        tokens.push(middle);
        Ok(tokens)
    }

    fn check(&self, tokens: Vec<TokenId>) -> Result<Vec<TokenId>, PromptProblem> {
        let vocabulary = self.vocabulary.size();
        match tokens.iter().find(|token| token.0 >= vocabulary) {
            Some(&TokenId(id)) => Err(PromptProblem::UnknownToken { id, vocabulary }),
            None => Ok(tokens),
        }
    }

    fn render(&self, messages: &[Message], tools: Option<&str>) -> Result<String, PromptProblem> {
        let environment = self.template.as_ref().ok_or(PromptProblem::NoTemplate)?;
        let refused = |error: Error| PromptProblem::Template(reason(&error));
        let template = environment.get_template(TEMPLATE).map_err(refused)?;
        let messages: Vec<Value> = messages.iter().map(message_value).collect();
        let tools = tools.and_then(json_value);
        let special = self.vocabulary.template_tokens();
        template
            .render(context! {
                messages, tools,
                bos_token => special.bos,
                eos_token => special.eos,
                add_generation_prompt => true,
            })
            .map_err(refused)
    }
}

const TEMPLATE: &str = "chat";

/// A sandbox in which model templates find what Hugging Face's renderer gives
/// them: Python's string methods, `raise_exception` and trimmed blocks.
fn environment(source: String) -> Option<Environment<'static>> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    let syntax = syntax.trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("whitespace settings change no delimiter"));
    environment.set_fuel(Some(MOST_TEMPLATE_WORK));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    match environment.add_template_owned(TEMPLATE, source) {
        Ok(()) => Some(environment),
        Err(error) => {
            tracing::warn!(%error, "chat template does not parse");
            None
        }
    }
}

fn message_value(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut fields = vec![("role", Value::from(role)), ("content", Value::from(&*message.content))];
    if let Some(calls) = message.tool_calls_json.as_deref().and_then(json_value) {
        fields.push(("tool_calls", calls));
    }
    if let Some(id) = message.tool_call_id.as_deref() {
        fields.push(("tool_call_id", Value::from(id)));
    }
    if let Some(name) = message.name.as_deref() {
        fields.push(("name", Value::from(name)));
    }
    Value::from_pairs(fields)
}

fn json_value(json: &str) -> Option<Value> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(Value::from(Serde(value)))
}

/// What a template says of itself, without its source.
fn reason(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::echo::EchoVocabulary;

    fn message(role: Role, content: &str) -> Message {
        Message {
            role,
            content: content.into(),
            tool_calls_json: None,
            tool_call_id: None,
            name: None,
        }
    }

    fn render(source: &str, messages: &[Message]) -> Result<String, String> {
        let environment = environment(source.into()).ok_or("does not parse")?;
        let values: Vec<Value> = messages.iter().map(message_value).collect();
        let template = environment.get_template(TEMPLATE).unwrap();
        template.render(context! { messages => values }).map_err(|error| reason(&error))
    }

    #[test]
    fn a_template_may_call_pythons_string_methods() {
        let source = "{% for m in messages %}\n{{ m.content.strip().upper() }}\n{% endfor %}";
        let text = render(source, &[message(Role::User, " hi ")]).unwrap();
        assert_eq!(text, "HI\n");
    }

    #[test]
    fn a_template_may_refuse_in_its_own_words() {
        let source = "{{ raise_exception('roles must alternate') }}";
        assert_eq!(render(source, &[]), Err("roles must alternate".into()));
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let source =
            "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
        assert!(render(source, &[]).is_err());
    }

    #[test]
    fn a_prompt_as_long_as_the_window_is_refused_with_the_numbers() {
        let preparer = Preparer::new(Arc::new(EchoVocabulary::new()), 64);
        let text = |length| Prompt::Text { text: "x".repeat(length), special: false };
        assert!(preparer.prepare(text(63)).is_ok());
        let problem = preparer.prepare(text(64)).unwrap_err();
        assert_eq!(problem, PromptProblem::TooLong { tokens: 64, at_least: false, context: 64 });
        let problem = preparer.prepare(text(1_000_000)).unwrap_err();
        assert!(matches!(problem, PromptProblem::TooLong { tokens: 1_000_000, .. }));
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_refused() {
        let preparer = Preparer::new(Arc::new(EchoVocabulary::new()), 64);
        let problem = preparer.prepare(Prompt::Tokens(vec![TokenId(u32::MAX)])).unwrap_err();
        assert!(matches!(problem, PromptProblem::UnknownToken { id: u32::MAX, .. }));
    }

    proptest! {
        #[test]
        fn no_message_text_breaks_the_renderer(content in ".*", name in ".*", calls in ".*") {
            let preparer = Preparer::new(Arc::new(EchoVocabulary::new()), 4096);
            let message = Message {
                role: Role::Tool,
                content,
                tool_calls_json: Some(calls),
                tool_call_id: Some(name.clone()),
                name: Some(name),
            };
            let prompt = Prompt::Chat { messages: vec![message], tools_json: None };
            let _either = preparer.prepare(prompt);
        }
    }
}

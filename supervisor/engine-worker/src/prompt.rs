//! From a client's prompt to token ids: chat template, tokeniser, window.
//!
//! Runs on a thread of its own, so a prompt is answered for while a step is
//! being computed. Templates come with model files and are not trusted: they
//! run in a sandbox that reads nothing and has a bound on its work.

mod json;
mod template;

use std::sync::{Arc, OnceLock};

use engine_api::form::{CallSyntax, Calls, Form, Grammar, ToolChoice, Tools};
use engine_api::protocol::{Message, Prompt, PromptProblem, TokenId};

use self::template::Template;
use crate::backend::{InfillTokens, Vocabulary};
use crate::grammar::{Grammars, schema};
use crate::tools::{self, Tool};

/// Turns prompts into tokens for one model.
pub struct Preparer {
    vocabulary: Arc<dyn Vocabulary>,
    /// Tokens in the window, prompt and answer together.
    context: u32,
    template: Option<Template>,
    grammars: Arc<Grammars>,
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
    pub fn new(vocabulary: Arc<dyn Vocabulary>, grammars: Arc<Grammars>, context: u32) -> Self {
        let template = vocabulary.chat_template();
        let template =
            template.and_then(|source| Template::new(source, vocabulary.template_tokens()));
        Self { vocabulary, context, template, grammars, longest_token: OnceLock::new() }
    }

    #[must_use]
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The tokens of `prompt`, and the form of its answer, which must fit
    /// `grammar`.
    ///
    /// # Errors
    /// It is empty, too long, or not for this model; or its answer cannot have
    /// that form.
    pub fn prepare(
        &self,
        prompt: Prompt,
        grammar: Option<Grammar>,
    ) -> Result<(Vec<TokenId>, Form), PromptProblem> {
        let free = |grammar| Form { grammar, calls: None };
        let (tokens, form) = match prompt {
            Prompt::Chat { messages, tools } => self.chat(messages, tools, grammar)?,
            Prompt::Text { text, special } => (self.tokenize(&text, special)?, free(grammar)),
            Prompt::Infill { prefix, suffix } => (self.infill(&prefix, &suffix)?, free(grammar)),
            Prompt::Tokens(tokens) => (self.check(tokens)?, free(grammar)),
        };
        match u32::try_from(tokens.len()) {
            Ok(0) => return Err(PromptProblem::Empty),
            Ok(count) if count < self.context => {}
            count => return Err(self.too_long(count.unwrap_or(u32::MAX), false)),
        }
        if let Form { grammar: Some(grammar), calls: None } = &form {
            let checked = self.grammars.check(grammar);
            checked.map_err(|error| PromptProblem::Grammar(error.to_string()))?;
        }
        Ok((tokens, form))
    }

    fn chat(
        &self,
        messages: Vec<Message>,
        tools: Option<Tools>,
        grammar: Option<Grammar>,
    ) -> Result<(Vec<TokenId>, Form), PromptProblem> {
        let template = self.template.as_ref().ok_or(PromptProblem::NoTemplate)?;
        let definitions = tools.as_ref().map(|tools| tools.definitions.as_str());
        let mut text = match template.calls() {
            Some(_) => template.render(&messages, definitions)?,
            None => template.render(&tools::told(messages, definitions), None)?,
        };
        let Some(tools) = tools else {
            return Ok((self.tokenize(&text, true)?, Form { grammar, calls: None }));
        };
        let syntax = template.calls().unwrap_or(CallSyntax::Hermes);
        let form = self.form(&tools, syntax, grammar)?;
        if form.calls.as_ref().is_some_and(|calls| calls.begun) {
            text += tools::beginning(syntax);
        }
        Ok((self.tokenize(&text, true)?, form))
    }

    /// The form of an answer that may call tools.
    fn form(
        &self,
        tools: &Tools,
        syntax: CallSyntax,
        grammar: Option<Grammar>,
    ) -> Result<Form, PromptProblem> {
        let all = tools::read(&tools.definitions).map_err(PromptProblem::Tools)?;
        let names = all.iter().map(|tool| tool.name.clone()).collect();
        let chosen = tools::chosen(&all, &tools.choice);
        let several = tools.parallel && tools.choice == ToolChoice::Required;
        let begun = tools.choice != ToolChoice::Auto;
        if begun || grammar.is_some() {
            tools::check(&chosen).map_err(PromptProblem::Tools)?;
        }
        let grammar = match (begun, grammar) {
            (false, None) => None,
            (false, Some(grammar)) => Some(self.either(&grammar, &chosen, syntax)?),
            (true, _) => Some(self.usable(|closed| {
                (!chosen.is_empty()).then(|| tools::forced(&chosen, syntax, several, closed))
            })?),
        };
        let calls = Calls { syntax, begun, parallel: tools.parallel, names };
        Ok(Form { grammar, calls: Some(calls) })
    }

    /// The grammar of an answer that either fits `grammar` or calls tools.
    fn either(
        &self,
        grammar: &Grammar,
        chosen: &[Tool],
        syntax: CallSyntax,
    ) -> Result<Grammar, PromptProblem> {
        // On its own first, so that what is wrong with it is said of it.
        let checked = self.grammars.check(grammar);
        checked.map_err(|error| PromptProblem::Grammar(error.to_string()))?;
        let answer = schema::of(grammar);
        let answer = answer.filter(|_| syntax != CallSyntax::Mistral).ok_or_else(|| {
            let why = "it cannot be combined with this model's tools; send one of both";
            PromptProblem::Grammar(why.to_owned())
        })?;
        self.usable(|closed| tools::either(&answer, chosen, syntax, closed))
    }

    /// The first grammar that can be used, with closed schemas or without.
    fn usable(&self, made: impl Fn(bool) -> Option<Grammar>) -> Result<Grammar, PromptProblem> {
        let mut problem = "there is no such tool".to_owned();
        for grammar in [true, false].into_iter().filter_map(made) {
            match self.grammars.check(&grammar) {
                Ok(()) => return Ok(grammar),
                Err(error) => problem = error.to_string(),
            }
        }
        Err(PromptProblem::Tools(problem))
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
}

#[cfg(test)]
mod tests {
    use engine_api::protocol::Role;
    use proptest::prelude::*;

    use super::*;
    use crate::backend::echo::EchoVocabulary;

    fn preparer(context: u32) -> Preparer {
        let vocabulary: Arc<dyn Vocabulary> = Arc::new(EchoVocabulary::new());
        Preparer::new(Arc::clone(&vocabulary), Arc::new(Grammars::new(vocabulary)), context)
    }

    #[test]
    fn a_prompt_as_long_as_the_window_is_refused_with_the_numbers() {
        let preparer = preparer(64);
        let text = |length| Prompt::Text { text: "x".repeat(length), special: false };
        assert!(preparer.prepare(text(63), None).is_ok());
        let problem = preparer.prepare(text(64), None).unwrap_err();
        assert_eq!(problem, PromptProblem::TooLong { tokens: 64, at_least: false, context: 64 });
        let problem = preparer.prepare(text(1_000_000), None).unwrap_err();
        assert!(matches!(problem, PromptProblem::TooLong { tokens: 1_000_000, .. }));
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_refused() {
        let preparer = preparer(64);
        let problem = preparer.prepare(Prompt::Tokens(vec![TokenId(u32::MAX)]), None).unwrap_err();
        assert!(matches!(problem, PromptProblem::UnknownToken { id: u32::MAX, .. }));
    }

    proptest! {
        #[test]
        fn no_message_text_breaks_the_renderer(content in ".*", name in ".*", calls in ".*") {
            let preparer = preparer(4096);
            let message = Message {
                role: Role::Tool,
                content,
                tool_calls_json: Some(calls),
                tool_call_id: Some(name.clone()),
                name: Some(name),
            };
            let prompt = Prompt::Chat { messages: vec![message], tools: None };
            let _either = preparer.prepare(prompt, None);
        }
    }
}

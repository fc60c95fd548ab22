//! What an answer said, put together from its documents in whichever dialect
//! they come. Pure.

use serde_json::{Value, json};

use crate::ask::{Ask, Form};

/// One answer, whole or as far as it came.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Transcript {
    pub(crate) choices: Vec<Choice>,
    pub(crate) usage: Option<Usage>,
    pub(crate) prefill: Option<Prefill>,
    /// `[DONE]`, a last line, or all of a document.
    pub(crate) ended: bool,
    /// Something came after the end.
    pub(crate) went_on: bool,
    /// What the server says went wrong.
    pub(crate) error: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) finish: Option<String>,
    /// What was said of each token, where it was asked for.
    pub(crate) scores: Vec<Score>,
}

/// A token and its log-probability with those of its rivals.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    pub(crate) token: Value,
    pub(crate) logprobs: Value,
}

/// Tokens, as the server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
}

/// How long the prompt took, as the server says it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prefill {
    pub(crate) tokens: f64,
    pub(crate) seconds: f64,
}

impl Transcript {
    /// Takes the next document. Says whether it has text.
    pub(crate) fn take(&mut self, document: &Value) -> bool {
        self.went_on |= self.ended;
        if let Some(error) = document.get("error") {
            // The next server has the rest, as after a broken connection.
            if error["code"] == "shutting_down" {
                return false;
            }
            self.error = Some(error_text(error));
            return false;
        }
        if document["done"].is_boolean() {
            return self.take_line(document);
        }
        let mut has_text = false;
        for choice in document["choices"].as_array().into_iter().flatten() {
            has_text |= self.take_choice(choice);
        }
        self.usage = usage(&document["usage"], "prompt_tokens", "completion_tokens").or(self.usage);
        self.prefill = prefill(&document["timings"]).or(self.prefill);
        has_text
    }

    /// One line of Ollama's.
    fn take_line(&mut self, line: &Value) -> bool {
        let text = line["message"]["content"].as_str().unwrap_or_default();
        let choice = self.choice(0);
        choice.text.push_str(text);
        choice.finish = line["done_reason"].as_str().map(str::to_owned).or(choice.finish.take());
        if line["done"] == true {
            self.usage = usage(line, "prompt_eval_count", "eval_count");
            self.ended = true;
        }
        !text.is_empty()
    }

    fn take_choice(&mut self, said: &Value) -> bool {
        let index = said["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        let choice = self.choice(index.unwrap_or(0));
        let texts = [&said["delta"]["content"], &said["message"]["content"], &said["text"]];
        let text = texts.into_iter().find_map(Value::as_str).unwrap_or_default();
        choice.text.push_str(text);
        if let Some(finish) = said["finish_reason"].as_str() {
            choice.finish = Some(finish.to_owned());
        }
        choice.scores.extend(scores(&said["logprobs"]));
        !text.is_empty()
    }

    fn choice(&mut self, index: usize) -> &mut Choice {
        // More than any request here asks for would be the server's fault.
        let index = index.min(7);
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Choice::default);
        }
        &mut self.choices[index]
    }

    /// The first thing that a proper answer to `ask` has and this one lacks.
    pub(crate) fn lack(&self, ask: &Ask) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(format!("error: {error}"));
        }
        if !self.ended {
            let lack = match ask.form {
                Form::Events => "no [DONE]",
                Form::Lines => "no last line",
                Form::Whole => "no document",
            };
            return Some(lack.to_owned());
        }
        if self.choices.len() != ask.choices {
            return Some(format!("{} choices of {}", self.choices.len(), ask.choices));
        }
        if self.choices.iter().any(|choice| choice.finish.is_none()) {
            return Some("no finish reason".to_owned());
        }
        self.usage.is_none().then(|| "no usage".to_owned())
    }
}

fn usage(said: &Value, prompt: &str, completion: &str) -> Option<Usage> {
    Some(Usage { prompt: said[prompt].as_u64()?, completion: said[completion].as_u64()? })
}

fn prefill(timings: &Value) -> Option<Prefill> {
    let seconds = timings["prompt_ms"].as_f64()? / 1e3;
    Some(Prefill { tokens: timings["prompt_n"].as_f64()?, seconds })
}

/// Both of OpenAI's shapes: a list of tokens, or lists side by side.
fn scores(said: &Value) -> Vec<Score> {
    if let Some(entries) = said["content"].as_array() {
        let score = |entry: &Value| Score {
            token: json!([entry["token"], entry["bytes"]]),
            logprobs: json!([entry["logprob"], entry["top_logprobs"]]),
        };
        return entries.iter().map(score).collect();
    }
    let score = |(index, token): (usize, &Value)| Score {
        token: token.clone(),
        logprobs: json!([said["token_logprobs"][index], said["top_logprobs"][index]]),
    };
    said["tokens"].as_array().into_iter().flatten().enumerate().map(score).collect()
}

/// An OpenAI error is an object, an Ollama one a string.
fn error_text(error: &Value) -> String {
    let message = error["message"].as_str().or(error.as_str());
    message.map_or_else(|| error.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(form: Form, choices: usize) -> Ask {
        Ask { path: "/", body: Value::Null, form, choices }
    }

    fn read(documents: &[Value]) -> Transcript {
        let mut transcript = Transcript::default();
        for document in documents {
            transcript.take(document);
        }
        transcript
    }

    fn delta(index: u64, text: &str, finish: Option<&str>) -> Value {
        let delta = json!({"content": text});
        json!({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]})
    }

    #[test]
    fn chunks_of_two_choices_are_put_together() {
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
        let mut said = read(&[
            delta(1, "x", None),
            delta(0, "a", None),
            delta(0, "b", Some("length")),
            delta(1, "", Some("stop")),
            usage,
        ]);
        said.ended = true;
        assert_eq!((&*said.choices[0].text, &*said.choices[1].text), ("ab", "x"));
        assert_eq!(said.usage, Some(Usage { prompt: 3, completion: 2 }));
        assert_eq!(said.lack(&ask(Form::Events, 2)), None);
        assert_eq!(said.lack(&ask(Form::Events, 3)).unwrap(), "2 choices of 3");
    }

    #[test]
    fn an_answer_that_stops_early_lacks_its_end() {
        let events = ask(Form::Events, 1);
        let mut said = read(&[delta(0, "a", None)]);
        assert_eq!(said.lack(&events).unwrap(), "no [DONE]");
        said.ended = true;
        assert_eq!(said.lack(&events).unwrap(), "no finish reason");
        let said = read(&[delta(0, "a", Some("stop")), json!({"error": {"message": "died"}})]);
        assert_eq!(said.lack(&events).unwrap(), "error: died");
    }

    #[test]
    fn lines_end_with_the_last() {
        let line = |text: &str| json!({"message": {"content": text}, "done": false});
        let mut last = line("");
        last["done"] = json!(true);
        last["done_reason"] = json!("stop");
        last["prompt_eval_count"] = json!(5);
        last["eval_count"] = json!(2);
        let said = read(&[line("a"), line("b")]);
        assert_eq!(said.lack(&ask(Form::Lines, 1)).unwrap(), "no last line");
        let said = read(&[line("a"), line("b"), last]);
        assert_eq!((said.lack(&ask(Form::Lines, 1)), &*said.choices[0].text), (None, "ab"));
    }

    #[test]
    fn scores_come_in_two_shapes() {
        let chat = json!({"content": [{"token": "a", "bytes": [97], "logprob": -1.0}]});
        assert_eq!(scores(&chat)[0].logprobs[0], -1.0);
        let lists = json!({"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0]});
        assert_eq!(scores(&lists)[1].logprobs[0], -2.0);
    }
}

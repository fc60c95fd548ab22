//! What clients ask: a bounded pool of different requests, drawn from the
//! seed, in each dialect and form that answers are read in here.

use ::tests::dice::Dice;
use ::tests::prompts::Prompts;
use serde_json::{Value, json};

/// One request that can be sent any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) path: &'static str,
    pub(crate) body: Value,
    pub(crate) form: Form,
    /// Answers that are asked for at once.
    pub(crate) choices: usize,
}

/// How the answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Server-sent events, `[DONE]` at the end.
    Events,
    /// A document on each line, the last with `done`.
    Lines,
    /// One document.
    Whole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Chat,
    Completion,
    Ollama,
}

/// What is special about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    Nothing,
    Two,
    Logprobs,
    Stops,
    /// Characters that are more than one token.
    Script,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choosing {
    Greedy,
    Drawn,
}

use Choosing::{Drawn, Greedy};
use Dialect::{Chat, Completion, Ollama};
use Form::{Events, Lines, Whole};

/// The kinds of requests, in turn, so that a small pool has them all.
const KINDS: [(Dialect, Form, Choosing, Extra); 12] = [
    (Chat, Events, Greedy, Extra::Nothing),
    (Completion, Events, Drawn, Extra::Nothing),
    (Chat, Whole, Drawn, Extra::Nothing),
    (Ollama, Lines, Greedy, Extra::Nothing),
    (Chat, Events, Drawn, Extra::Two),
    (Completion, Events, Greedy, Extra::Stops),
    (Chat, Events, Drawn, Extra::Logprobs),
    (Completion, Whole, Greedy, Extra::Logprobs),
    (Ollama, Lines, Drawn, Extra::Stops),
    (Completion, Whole, Drawn, Extra::Two),
    (Chat, Events, Drawn, Extra::Script),
    (Completion, Events, Drawn, Extra::Logprobs),
];

/// Tokens of the shortest answer.
const SHORTEST: usize = 8;
/// Words of a prompt, and how often in a hundred; a word is 1.13 tokens.
const PROMPTS: [(usize, (usize, usize)); 3] = [(70, (6, 60)), (20, (100, 400)), (10, (600, 1300))];
/// Common enough to come, rare enough not to come at once.
const STOPS: [&str; 3] = [" not", ".\n", " people"];
const SCRIPT: &str = "Repeat this three times: naïve café, Ελλάδα, 東京都, ещё раз, 🚒🔥👩‍🚒!";

/// How much is asked and answered at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    pub(crate) prompt_words: usize,
    pub(crate) answer_tokens: usize,
}

/// A pool of `count` requests to `model`.
pub(crate) fn pool(seed: u64, count: usize, model: &str, longest: Lengths) -> Vec<Ask> {
    (0..count).map(|number| ask(seed, number, model, longest)).collect()
}

fn ask(seed: u64, number: usize, model: &str, longest: Lengths) -> Ask {
    let (dialect, form, choosing, extra) = KINDS[number % KINDS.len()];
    let place = u64::try_from(number).expect("a usize fits 64 bits");
    let mut dice = Dice::new(seed, &[0, place]);
    let prompt = match extra {
        Extra::Script => SCRIPT.to_owned(),
        _ => Prompts::new(seed, &[1, place]).text(words(&mut dice).min(longest.prompt_words)),
    };
    let tokens = dice.within(SHORTEST.min(longest.answer_tokens), longest.answer_tokens);
    let settings = Settings { tokens, choosing, extra, seed: dice.seed() };
    let (path, mut body) = match dialect {
        Chat => ("/v1/chat/completions", json!({"messages": turns(&prompt)})),
        Completion => ("/v1/completions", json!({"prompt": prompt})),
        Ollama => ("/api/chat", json!({"messages": turns(&prompt)})),
    };
    body["model"] = json!(model);
    body["stream"] = json!(form != Whole);
    match dialect {
        Ollama => body["options"] = settings.ollama(),
        _ => settings.openai(&mut body, dialect, form),
    }
    let choices = if extra == Extra::Two { 2 } else { 1 };
    Ask { path, body, form, choices }
}

fn words(dice: &mut Dice) -> usize {
    let mut drawn = dice.below(100);
    for (share, (low, high)) in PROMPTS {
        if drawn < share {
            return dice.within(low, high);
        }
        drawn -= share;
    }
    unreachable!("the shares make a hundred")
}

fn turns(prompt: &str) -> Value {
    json!([{"role": "user", "content": format!("{prompt} Tell me more about this.")}])
}

struct Settings {
    tokens: usize,
    choosing: Choosing,
    extra: Extra,
    seed: u32,
}

impl Settings {
    fn temperature(&self) -> f64 {
        if self.choosing == Greedy { 0.0 } else { 0.9 }
    }

    fn openai(&self, body: &mut Value, dialect: Dialect, form: Form) {
        body["max_tokens"] = json!(self.tokens);
        body["temperature"] = json!(self.temperature());
        body["seed"] = json!(self.seed);
        if form == Events {
            body["stream_options"] = json!({"include_usage": true});
        }
        match (self.extra, dialect) {
            (Extra::Two, _) => body["n"] = json!(2),
            (Extra::Stops, _) => body["stop"] = json!(STOPS),
            (Extra::Logprobs, Chat) => {
                body["logprobs"] = json!(true);
                body["top_logprobs"] = json!(2);
            }
            (Extra::Logprobs, _) => body["logprobs"] = json!(2),
            (Extra::Nothing | Extra::Script, _) => {}
        }
    }

    fn ollama(&self) -> Value {
        let stop = if self.extra == Extra::Stops { &STOPS[..] } else { &[] };
        json!({
            "num_predict": self.tokens,
            "temperature": self.temperature(),
            "seed": self.seed,
            "stop": stop,
        })
    }
}

impl Ask {
    /// The same in words that llama-server knows: it has no Ollama dialect, and
    /// several answers at once are asked of it one by one.
    pub(crate) fn for_peer(mut self) -> Self {
        if self.form == Lines {
            let options = self.body["options"].take();
            let body = self.body.as_object_mut().expect("a request is an object");
            body.remove("options");
            for (name, value) in options.as_object().into_iter().flatten() {
                let name = if name == "num_predict" { "max_tokens" } else { name.as_str() };
                body.insert(name.to_owned(), value.clone());
            }
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
            (self.path, self.form) = ("/v1/chat/completions", Events);
        }
        if self.choices > 1 {
            self.body["n"] = json!(1);
            self.choices = 1;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Lengths = Lengths { prompt_words: 1300, answer_tokens: 120 };

    #[test]
    fn the_pool_is_the_same_again_and_no_request_is_there_twice() {
        let bodies = |seed| -> Vec<String> {
            pool(seed, 40, "m", LONGEST)
                .iter()
                .map(|ask| format!("{} {}", ask.path, ask.body))
                .collect()
        };
        assert_eq!(bodies(7), bodies(7));
        let distinct: std::collections::BTreeSet<_> = bodies(7).into_iter().collect();
        assert_eq!(distinct.len(), 40);
        assert!(bodies(8).iter().all(|body| !distinct.contains(body)));
    }

    #[test]
    fn long_prompts_are_among_many() {
        let lengths = pool(1, 200, "m", LONGEST).into_iter().map(|ask| ask.body.to_string().len());
        assert!(lengths.max().unwrap() > 4000);
    }

    #[test]
    fn no_request_is_longer_than_it_may_be() {
        let short = Lengths { prompt_words: 5, answer_tokens: 3 };
        for ask in pool(1, 100, "m", short) {
            let tokens = [&ask.body["max_tokens"], &ask.body["options"]["num_predict"]];
            assert!(tokens.into_iter().any(|tokens| tokens == 3), "{}", ask.body);
            assert!(ask.body.to_string().len() < 500, "{}", ask.body);
        }
    }

    #[test]
    fn the_peer_is_asked_the_same_in_its_own_words() {
        let pool = pool(3, KINDS.len(), "m", LONGEST);
        let ollama = pool.iter().find(|ask| ask.form == Lines).unwrap();
        let peer = ollama.clone().for_peer();
        assert_eq!(peer.body["max_tokens"], ollama.body["options"]["num_predict"]);
        assert_eq!(peer.body["messages"], ollama.body["messages"]);
        assert_eq!((peer.form, peer.body.get("options")), (Events, None));
    }
}

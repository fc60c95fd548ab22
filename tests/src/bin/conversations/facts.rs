//! Facts that are said in passing, in the middle of long messages, among others that are
//! almost alike, and the questions for them.

use serde_json::{Value, json};
use tests::dice::Dice;

use super::transcripts::{Transcript, content};

/// Facts of one transcript, at most; and how many of them change later.
const FACTS: usize = 48;
/// Of so many facts one is changed later.
const CHANGED: usize = 4;
/// Almost the same about something else, beside each.
const DISTRACTORS: usize = 3;
/// Messages from a fact to its question.
pub(crate) const LATER: usize = 100;
/// Messages from a fact to its change, at most.
const UNTIL_CHANGE: usize = 30;
/// Characters of a message that something can be said in the middle of.
const LONG: usize = 300;

pub(crate) struct Fact {
    /// In which message it was said last.
    pub(crate) at: usize,
    pub(crate) value: String,
    /// What it was before.
    pub(crate) was: Option<String>,
    pub(crate) direct: String,
    pub(crate) paraphrased: String,
}

pub(crate) struct Planted {
    pub(crate) messages: Vec<Value>,
    pub(crate) facts: Vec<Fact>,
}

struct Kind {
    said: &'static str,
    changed: &'static str,
    direct: &'static str,
    paraphrased: &'static str,
    value: fn(&mut Dice) -> String,
}

/// `{s}` is what it is about, `{v}` the value.
const KINDS: [Kind; 8] = [
    Kind {
        said: "The {s} listens on port {v}.",
        changed: "The {s} listens on port {v} now.",
        direct: "What port does the {s} listen on?",
        paraphrased: "Where do I connect to reach the {s}?",
        value: |dice| dice.within(20_000, 59_999).to_string(),
    },
    Kind {
        said: "The timeout of the {s} is {v} ms.",
        changed: "The timeout of the {s} is now {v} ms.",
        direct: "What is the timeout of the {s}?",
        paraphrased: "How long may the {s} take before we give up on it?",
        value: |dice| dice.within(20_000, 59_999).to_string(),
    },
    Kind {
        said: "{v} is responsible for the {s}.",
        changed: "{v} is responsible for the {s} from now on.",
        direct: "Who is responsible for the {s}?",
        paraphrased: "Whom should I ask about the {s}?",
        value: |dice| format!("{} {}", name(dice, true), name(dice, true)),
    },
    Kind {
        said: "The configuration of the {s} lives in {v}.",
        changed: "The configuration of the {s} now lives in {v}.",
        direct: "Where does the configuration of the {s} live?",
        paraphrased: "Which file do I edit to change the {s}?",
        value: |dice| format!("etc/{}/{}.toml", name(dice, false), name(dice, false)),
    },
    Kind {
        said: "We pinned the {s} to version {v}.",
        changed: "We pinned the {s} to version {v} instead.",
        direct: "Which version is the {s} pinned to?",
        paraphrased: "What release of the {s} do we run?",
        value: |dice| {
            format!("{}.{}.{}", dice.below(9), dice.within(10, 99), dice.within(100, 999))
        },
    },
    Kind {
        said: "Start the {s} with --{v} to see its traces.",
        changed: "Start the {s} with --{v} from now on to see its traces.",
        direct: "With what do I start the {s} to see its traces?",
        paraphrased: "How do I debug the {s}?",
        value: |dice| format!("{}-{}", name(dice, false), name(dice, false)),
    },
    Kind {
        said: "We decided to build the {s} on {v}.",
        changed: "We decided to build the {s} on {v} instead.",
        direct: "What did we decide to build the {s} on?",
        paraphrased: "Which technology is under the {s}?",
        value: |dice| name(dice, true),
    },
    Kind {
        said: "I like {v} logs in the {s}.",
        changed: "I like {v} logs in the {s} better.",
        direct: "Which logs do I like in the {s}?",
        paraphrased: "What style of output suits me for the {s}?",
        value: |dice| name(dice, false),
    },
];

const ADJECTIVES: [&str; 16] = [
    "amber", "brisk", "cobalt", "dusty", "eager", "fallow", "gilded", "hollow", "ivory", "jagged",
    "kindred", "lunar", "mellow", "nimble", "opal", "placid",
];
const NOUNS: [&str; 12] = [
    "gateway",
    "scheduler",
    "importer",
    "ledger",
    "notifier",
    "renderer",
    "indexer",
    "broker",
    "collector",
    "archiver",
    "resolver",
    "sampler",
];

/// A word that nobody has said.
fn name(dice: &mut Dice, is_proper: bool) -> String {
    let syllables = ["zor", "quib", "vex", "plim", "drax", "fyn", "glo", "wump", "kress", "ombi"];
    let mut name: String = (0..3).map(|_| syllables[dice.below(syllables.len())]).collect();
    if is_proper {
        name[..1].make_ascii_uppercase();
    }
    name
}

/// Says facts in a transcript, evenly from its beginning to 100 messages before its end.
pub(crate) fn plant(transcript: &Transcript, seed: u64, number: u64) -> Planted {
    let mut dice = Dice::new(seed, &[number]);
    let mut messages = transcript.messages.clone();
    let mut subjects: Vec<(usize, usize)> =
        (0..NOUNS.len()).flat_map(|noun| (0..ADJECTIVES.len()).map(move |a| (a, noun))).collect();
    let is_long =
        |message: &Value| message["role"] != "system" && content(message).chars().count() >= LONG;
    let last = messages.len().saturating_sub(LATER + 10);
    let places: Vec<usize> = (1..last).filter(|&at| is_long(&messages[at])).collect();
    let count = FACTS.min(places.len());
    let mut facts = Vec::new();
    for fact in 0..count {
        let place = places[fact * places.len() / count];
        let kind = &KINDS[fact % KINDS.len()];
        let subject = subjects.remove(dice.below(subjects.len()));
        let text = |(adjective, noun): (usize, usize)| {
            format!("{} {}", ADJECTIVES[adjective], NOUNS[noun])
        };
        let about = text(subject);
        let say = |form: &str, subject: &str, value: &str| {
            form.replace("{s}", subject).replace("{v}", value)
        };
        // Of the same noun, in messages around it.
        let mut alike: Vec<_> =
            subjects.iter().filter(|other| other.1 == subject.1).copied().collect();
        for _ in 0..DISTRACTORS.min(alike.len()) {
            let other = alike.remove(dice.below(alike.len()));
            let value = (kind.value)(&mut dice);
            let near = places[(fact * places.len() / count + dice.below(12)).min(places.len() - 1)];
            insert(&mut messages[near], &say(kind.said, &text(other), &value), &mut dice);
        }
        let first = (kind.value)(&mut dice);
        insert(&mut messages[place], &say(kind.said, &about, &first), &mut dice);
        let (mut at, mut value, mut was) = (place, first, None);
        let later: Vec<_> = places.iter().copied().filter(|&other| other > place + 4).collect();
        if (fact + fact / KINDS.len()) % CHANGED == 1 && !later.is_empty() {
            at = later[dice.below(later.len().min(UNTIL_CHANGE))];
            let new = (kind.value)(&mut dice);
            insert(&mut messages[at], &say(kind.changed, &about, &new), &mut dice);
            was = Some(std::mem::replace(&mut value, new));
        }
        let direct = say(kind.direct, &about, "");
        let paraphrased = say(kind.paraphrased, &about, "");
        facts.push(Fact { at, value, was, direct, paraphrased });
    }
    Planted { messages, facts }
}

/// Puts a sentence into the middle half of a message, between two words.
fn insert(message: &mut Value, sentence: &str, dice: &mut Dice) {
    let text = content(message).to_owned();
    let count = text.chars().count();
    let from = dice.within(count / 4, count * 3 / 4);
    let from = text.char_indices().nth(from).map_or(text.len(), |(at, _)| at);
    let at = text[from..].find(char::is_whitespace).map_or(text.len(), |at| from + at);
    message["content"] = json!(format!("{} {sentence}{}", &text[..at], &text[at..]));
}

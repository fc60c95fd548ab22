//! An answer beside its twin: the answer to the same request by the same
//! server when nobody disturbed it and nobody else asked. Pure.

use crate::ask::Ask;
use crate::transcript::{Choice, Transcript};

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same text, ends and counts.
    Equal,
    /// It has no proper end, or none at all.
    Lost(String),
    /// A piece of the twin's text stands in it twice.
    Repeated,
    /// It is the twin's text without a piece of it.
    Missing,
    /// A proper answer, but another one.
    Differing(&'static str),
}

/// Compares an answer that was read to wherever it ended.
pub(crate) fn judge(ask: &Ask, answer: &Transcript, twin: &Transcript) -> Verdict {
    if let Some(lack) = answer.lack(ask) {
        return Verdict::Lost(lack);
    }
    for (choice, other) in answer.choices.iter().zip(&twin.choices) {
        match compare(choice, other) {
            Verdict::Equal => {}
            verdict => return verdict,
        }
    }
    if answer.went_on {
        return Verdict::Differing("goes on after its end");
    }
    if answer.usage != twin.usage {
        return Verdict::Differing("usage");
    }
    Verdict::Equal
}

/// Whether every log-probability is the twin's; `None` where none was asked for.
pub(crate) fn scores_equal(answer: &Transcript, twin: &Transcript) -> Option<bool> {
    let mut scored = answer.choices.iter().chain(&twin.choices).peekable();
    scored.find(|choice| !choice.scores.is_empty())?;
    let scores = |side: &Transcript| -> Vec<_> {
        side.choices.iter().map(|choice| choice.scores.clone()).collect()
    };
    Some(scores(answer) == scores(twin))
}

fn compare(choice: &Choice, twin: &Choice) -> Verdict {
    if choice.text != twin.text {
        return text(choice.text.as_bytes(), twin.text.as_bytes());
    }
    if choice.finish != twin.finish {
        return Verdict::Differing("finish reason");
    }
    let tokens = |choice: &Choice| -> Vec<_> {
        choice.scores.iter().map(|score| score.token.clone()).collect()
    };
    if tokens(choice) != tokens(twin) {
        return Verdict::Differing("tokens of the same text");
    }
    Verdict::Equal
}

/// How a text differs from the twin's. It is a splice if a beginning of the
/// twin and an end of it make all of the text between them.
fn text(answer: &[u8], twin: &[u8]) -> Verdict {
    let beginning = common(answer.iter().zip(twin));
    let end = common(answer.iter().rev().zip(twin.iter().rev()));
    if beginning + end < answer.len() {
        Verdict::Differing("text")
    } else if answer.len() > twin.len() {
        Verdict::Repeated
    } else {
        Verdict::Missing
    }
}

/// How many pairs are of the same, from the first on.
fn common<'a>(pairs: impl Iterator<Item = (&'a u8, &'a u8)>) -> usize {
    pairs.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::ask::Form;
    use crate::transcript::{Score, Usage};

    const TWIN: &str = "one two three four five";

    fn said(text: &str) -> Transcript {
        let choice =
            Choice { text: text.to_owned(), finish: Some("length".to_owned()), scores: Vec::new() };
        let usage = Some(Usage { prompt: 3, completion: 5 });
        Transcript { choices: vec![choice], usage, ended: true, ..Transcript::default() }
    }

    fn judged(answer: &Transcript) -> Verdict {
        let ask = Ask { path: "/", body: Value::Null, form: Form::Events, choices: 1 };
        judge(&ask, answer, &said(TWIN))
    }

    #[test]
    fn the_same_answer_is_equal() {
        assert_eq!(judged(&said(TWIN)), Verdict::Equal);
    }

    #[test]
    fn a_splice_is_told_from_another_answer() {
        let cases = [
            ("one two two three four five", Verdict::Repeated),
            ("one two three one two three four five", Verdict::Repeated),
            ("one two three four fivefive", Verdict::Repeated),
            ("one three four five", Verdict::Missing),
            ("two three four five", Verdict::Missing),
            ("one two three", Verdict::Missing),
            ("", Verdict::Missing),
            ("one two trees four five", Verdict::Differing("text")),
            ("one two three four six", Verdict::Differing("text")),
            ("one three two four five", Verdict::Differing("text")),
        ];
        for (text, expected) in cases {
            assert_eq!(judged(&said(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn an_answer_without_its_end_is_lost_whatever_it_said() {
        let cut = Transcript { ended: false, ..said(TWIN) };
        assert_eq!(judged(&cut), Verdict::Lost("no [DONE]".to_owned()));
        let died = Transcript { error: Some("died".to_owned()), ..said(TWIN) };
        assert_eq!(judged(&died), Verdict::Lost("error: died".to_owned()));
        let uncounted = Transcript { usage: None, ..said(TWIN) };
        assert_eq!(judged(&uncounted), Verdict::Lost("no usage".to_owned()));
    }

    #[test]
    fn the_same_text_with_other_counts_or_ends_differs() {
        let usage = Some(Usage { prompt: 3, completion: 6 });
        assert_eq!(judged(&Transcript { usage, ..said(TWIN) }), Verdict::Differing("usage"));
        let mut stopped = said(TWIN);
        stopped.choices[0].finish = Some("stop".to_owned());
        assert_eq!(judged(&stopped), Verdict::Differing("finish reason"));
        let mut scored = said(TWIN);
        scored.choices[0].scores.push(Score { token: Value::Null, logprobs: Value::Null });
        assert_eq!(judged(&scored), Verdict::Differing("tokens of the same text"));
    }

    #[test]
    fn scores_are_compared_where_there_are_any() {
        let scored = |logprob: f64| {
            let mut said = said(TWIN);
            said.choices[0].scores.push(Score { token: "a".into(), logprobs: logprob.into() });
            said
        };
        assert_eq!(scores_equal(&said(TWIN), &said(TWIN)), None);
        assert_eq!(scores_equal(&scored(-1.0), &scored(-1.0)), Some(true));
        assert_eq!(scores_equal(&scored(-1.0), &scored(-1.5)), Some(false));
        assert_eq!(scores_equal(&said(TWIN), &scored(-1.0)), Some(false));
    }
}

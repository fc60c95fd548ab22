//! What became of all requests of one run: counted, with the first few that
//! went wrong kept for whoever has to find out why.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::ask::{Ask, Form};
use crate::client::{Ending, Outcome};
use crate::pauses::{Done, Stream};
use crate::plan::Manner;
use crate::transcript::Transcript;
use crate::verdict::{Verdict, judge, scores_equal};

/// How many that went wrong are described.
const EXAMPLES: usize = 12;
/// Characters of a text that are shown from where it differs.
const SHOWN: usize = 60;

/// Requests and their twins.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) asks: Vec<Ask>,
    pub(crate) twins: Vec<Transcript>,
    /// The server says ids by which a client can come back to an answer.
    pub(crate) with_ids: bool,
}

/// Numbers of requests, but where something else is said.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) requests: usize,
    pub(crate) equal: usize,
    pub(crate) lost: usize,
    pub(crate) repeated: usize,
    pub(crate) missing: usize,
    pub(crate) differing: usize,
    /// The client went away by itself.
    pub(crate) left: usize,
    /// The supervisor was ended, and the client had no id to come back with.
    pub(crate) cut_with_supervisor: usize,
    pub(crate) read_slowly: usize,
    /// Answers that were cut off and then fetched to their end.
    pub(crate) came_back: usize,
    /// Attempts that found nobody or were refused for the moment.
    pub(crate) turned_away: usize,
    /// Answers whose log-probabilities were compared, and were others.
    pub(crate) scores_compared: usize,
    pub(crate) scores_differing: usize,
    /// Why answers were lost, and in what they differed.
    pub(crate) reasons: BTreeMap<String, usize>,
}

/// One that went wrong.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Example {
    pub(crate) request: usize,
    /// Its number in the pool.
    pub(crate) body: usize,
    pub(crate) path: &'static str,
    pub(crate) problem: String,
    /// Seconds since the run began.
    pub(crate) sent_s: f64,
    pub(crate) ended_s: f64,
    pub(crate) pieces: usize,
    /// From where the text is another than the twin's: its place in bytes, the
    /// answer's text and the twin's.
    pub(crate) differs: Option<(usize, String, String)>,
}

/// All that is remembered of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) counts: Counts,
    pub(crate) streams: Vec<Stream>,
    pub(crate) examples: Vec<Example>,
    began: Instant,
    /// Lost without an id to come back with; a supervisor's end excuses it.
    cut: Vec<(Instant, Instant, Example)>,
}

impl Ledger {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            counts: Counts::default(),
            streams: Vec::new(),
            examples: Vec::new(),
            began,
            cut: Vec::new(),
        }
    }

    /// Takes what became of request `request`, which was `body` of the pool.
    pub(crate) fn add(
        &mut self,
        pool: &Pool,
        request: usize,
        body: usize,
        manner: Manner,
        outcome: Outcome,
    ) {
        let (ask, twin) = (&pool.asks[body], &pool.twins[body]);
        self.counts.requests += 1;
        self.counts.turned_away += outcome.turned_away as usize;
        self.counts.came_back += usize::from(outcome.returns > 0);
        self.counts.read_slowly += usize::from(matches!(manner, Manner::Slow(_)));
        let verdict = match &outcome.ending {
            Ending::Left => None,
            Ending::Whole => Some(judge(ask, &outcome.transcript, twin)),
            Ending::Broken(why) => Some(Verdict::Lost(why.clone())),
        };
        let example = |problem: String| self.example(pool, request, body, problem, &outcome);
        match verdict {
            None => self.counts.left += 1,
            Some(Verdict::Equal) => self.counts.equal += 1,
            Some(Verdict::Lost(why)) => {
                let example = example(why);
                let is_cut = !outcome.has_id && matches!(outcome.ending, Ending::Broken(_));
                match is_cut {
                    true => self.cut.push((outcome.sent, outcome.ended, example)),
                    false => self.lose(example),
                }
            }
            Some(Verdict::Repeated) => {
                let example = example("text twice".to_owned());
                self.counts.repeated += 1;
                self.remember(example);
            }
            Some(Verdict::Missing) => {
                let example = example("text missing".to_owned());
                self.counts.missing += 1;
                self.remember(example);
            }
            Some(Verdict::Differing(what)) => {
                let example = example(format!("differs: {what}"));
                self.counts.differing += 1;
                self.remember(example);
            }
        }
        if outcome.ending == Ending::Whole
            && let Some(equal) = scores_equal(&outcome.transcript, twin)
        {
            self.counts.scores_compared += 1;
            self.counts.scores_differing += usize::from(!equal);
        }
        if ask.form != Form::Whole {
            self.streams.push(Stream {
                sent: outcome.sent,
                ended: outcome.ended,
                pieces: outcome.pieces,
                prompt_tokens: twin.usage.map_or(0, |usage| usage.prompt),
                counts: manner == Manner::Eager && outcome.ending == Ending::Whole,
            });
        }
    }

    /// Draws the line: what a supervisor's end took with it is not lost by the
    /// server, but only where the client could not come back.
    pub(crate) fn close(&mut self, faults: &[Done]) {
        for (sent, ended, example) in std::mem::take(&mut self.cut) {
            let excused =
                |done: &Done| done.fault.cuts_connections() && (sent..=ended).contains(&done.at);
            match faults.iter().any(excused) {
                true => self.counts.cut_with_supervisor += 1,
                false => self.lose(example),
            }
        }
    }

    /// Lost unless it turns out that a supervisor's end took them with it.
    pub(crate) fn cut_so_far(&self) -> usize {
        self.cut.len()
    }

    fn lose(&mut self, example: Example) {
        self.counts.lost += 1;
        self.remember(example);
    }

    fn remember(&mut self, example: Example) {
        let reason = example.problem.chars().take(100).collect();
        *self.counts.reasons.entry(reason).or_default() += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }

    fn example(
        &self,
        pool: &Pool,
        request: usize,
        body: usize,
        problem: String,
        outcome: &Outcome,
    ) -> Example {
        let since = |at: Instant| at.saturating_duration_since(self.began).as_secs_f64();
        Example {
            request,
            body,
            path: pool.asks[body].path,
            problem,
            sent_s: since(outcome.sent),
            ended_s: since(outcome.ended),
            pieces: outcome.pieces.len(),
            differs: difference(&outcome.transcript, &pool.twins[body]),
        }
    }
}

/// Where the first choice that differs does so, and how both go on from there.
fn difference(answer: &Transcript, twin: &Transcript) -> Option<(usize, String, String)> {
    let mut pairs = answer.choices.iter().zip(&twin.choices);
    let (answer, twin) = pairs.find(|(answer, twin)| answer.text != twin.text)?;
    let same = answer.text.bytes().zip(twin.text.bytes()).take_while(|(a, b)| a == b).count();
    let from = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[same..]).chars().take(SHOWN).collect::<String>()
    };
    Some((same, from(&answer.text), from(&twin.text)))
}

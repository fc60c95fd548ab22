//! The proof of an embedder: vectors of known texts, at known distances.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use engine_api::embedding::{Embed, Input, Purpose, Vector};
use engine_api::manifest::{Serving, Smoke};
use engine_api::protocol::{FromWorker, RequestId, ToWorker};
use jetpack::{Bytes, Root};

use super::worker::{Peer, Worker};
use super::{ANSWER, PROMPT, SmokeError, hello, load, rate};
use crate::embedder;
use crate::hash::Sha256Hex;
use crate::report::Report;

/// How far a cosine may be from what another implementation computes: processors
/// round the activations of int8 models differently, and a wrong tokeniser, pooling
/// or file is off by far more.
const TOLERANCE: f32 = 0.02;

/// Texts of which the speed is measured, after as many that warm up.
const MEASURED: usize = 8;

/// What the run showed.
#[derive(Debug)]
pub struct Outcome {
    /// Nothing is decoded, so that rate is zero.
    pub smoke: Smoke,
    /// What the worker computes on, in words.
    pub device: String,
    /// What the worker takes once it has computed.
    pub resident: Option<Bytes>,
}

impl Outcome {
    #[must_use]
    pub fn in_words(&self) -> String {
        format!(
            "loaded in {} ms on {}, {:.0} tokens/s, {} of memory",
            self.smoke.load_ms,
            self.device,
            self.smoke.prefill_tokens_per_s,
            self.resident.map_or("an unknown amount".into(), |bytes| bytes.to_string()),
        )
    }
}

/// Runs the embedder in `dir` in the program `worker`. Its vectors have to be as far
/// from each other as `expected` says.
///
/// # Errors
/// See [`SmokeError`]. The worker is gone in any case.
pub fn embeddings(
    worker: &Path,
    dir: &Path,
    serving: &Serving,
    expected: Option<&embedder::Smoke>,
    report: &Report,
) -> Result<Outcome, SmokeError> {
    let mut worker = Worker::start(Command::new(worker), report.interrupt().clone())?;
    let mut outcome = examine(&mut worker, dir, serving, expected, report)?;
    outcome.resident = jetpack::process::group_memory(&Root::default(), worker.pid());
    worker.finish();
    Ok(outcome)
}

fn examine(
    worker: &mut impl Peer,
    dir: &Path,
    serving: &Serving,
    expected: Option<&embedder::Smoke>,
    report: &Report,
) -> Result<Outcome, SmokeError> {
    hello(worker)?;
    let ready = load(worker, dir, serving, report)?;
    let texts = match expected {
        Some(known) => vec![known.text.as_str(), &known.near.text, &known.far.text],
        None => vec![PROMPT],
    };
    let vectors = embed(worker, &texts)?;
    if let Some(known) = expected {
        near_enough(&vectors[0], &vectors[1], &known.near)?;
        near_enough(&vectors[0], &vectors[2], &known.far)?;
    }
    let measured = embed(worker, &[PROMPT])?;
    embed(worker, &[PROMPT; MEASURED])?;
    let begun = Instant::now();
    let tokens = embed(worker, &[PROMPT; MEASURED])?.iter().map(|vector| vector.tokens).sum();
    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let bytes: Vec<u8> =
        measured.iter().flat_map(|it| &it.values).flat_map(|value| value.to_le_bytes()).collect();
    Ok(Outcome {
        smoke: Smoke {
            load_ms: ready.load_ms,
            prefill_tokens_per_s: rate(tokens, took),
            decode_tokens_per_s: 0.0,
            answer_sha256: Sha256Hex::of(&bytes).as_str().into(),
        },
        device: ready.device,
        resident: None,
    })
}

fn embed(worker: &mut impl Peer, texts: &[&str]) -> Result<Vec<Vector>, SmokeError> {
    const DOING: &str = "making vectors";
    let inputs = texts.iter().map(|text| Input::Text((*text).into())).collect();
    let (id, purpose) = (RequestId(1), Purpose::Plain);
    worker.send(&ToWorker::Embed(Box::new(Embed { id, inputs, purpose, cut: false })))?;
    match worker.receive(DOING, ANSWER)? {
        FromWorker::Embedded { vectors, .. } if vectors.len() == texts.len() => Ok(vectors),
        FromWorker::Unembedded { problem, .. } => Err(SmokeError::Unprepared(problem)),
        FromWorker::Failed { reason, .. } => Err(SmokeError::Failed { reason }),
        _ => Err(SmokeError::OutOfTurn { doing: DOING }),
    }
}

fn near_enough(
    one: &Vector,
    other: &Vector,
    known: &embedder::Neighbour,
) -> Result<(), SmokeError> {
    let found = cosine(&one.values, &other.values);
    // A NaN is not near anything.
    if (found - known.cosine).abs() <= TOLERANCE {
        return Ok(());
    }
    Err(SmokeError::OtherDistance { found, expected: known.cosine })
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(one, other) / (product(one, one) * product(other, other)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[f32]) -> Vector {
        Vector { values: values.to_vec(), tokens: 1, cut: false }
    }

    #[test]
    fn distances_are_held_to_what_is_known() {
        let known = |cosine| embedder::Neighbour { text: String::new(), cosine };
        let (one, other) = (vector(&[1.0, 0.0]), vector(&[3.0, 4.0]));
        assert!(near_enough(&one, &other, &known(0.61)).is_ok());
        let error = near_enough(&one, &other, &known(0.9)).unwrap_err();
        assert!(matches!(error, SmokeError::OtherDistance { .. }), "{error}");
        assert!(near_enough(&one, &vector(&[0.0, 0.0]), &known(0.0)).is_err());
    }
}

//! Vectors that lie as those of texts do: in clusters, some near each other.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tests::dice::Dice;

use super::{Arguments, WANTED};

/// Vectors of one cluster, about.
const CLUSTER: usize = 50;
/// How far the vectors of a cluster lie from its centre, which has the length 1.
const SPREAD: f32 = 0.8;

pub(crate) struct Data {
    pub(crate) dimension: usize,
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) questions: Vec<Vec<f32>>,
}

impl Data {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let Arguments { vectors, dimension, questions, seed, .. } = *arguments;
        let mut dice = Dice::new(seed, &[]);
        let centres: Vec<_> =
            (0..vectors.div_ceil(CLUSTER)).map(|_| direction(&mut dice, dimension)).collect();
        let mut near = |count: usize| -> Vec<Vec<f32>> {
            let one = |_| {
                let centre = &centres[dice.below(centres.len())];
                let away = direction(&mut dice, dimension);
                let sum = centre.iter().zip(away).map(|(centre, away)| centre + away * SPREAD);
                with_length_1(sum.collect())
            };
            (0..count).map(one).collect()
        };
        let vectors = near(vectors);
        Self { dimension, vectors, questions: near(questions) }
    }

    /// For the other side: the numbers of all vectors, then those of the questions.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for number in self.vectors.iter().chain(&self.questions).flatten() {
            file.write_all(&number.to_le_bytes())?;
        }
        file.flush()
    }
}

/// A random vector of length 1.
fn direction(dice: &mut Dice, dimension: usize) -> Vec<f32> {
    // A sum of four is near enough to a normal distribution.
    let mut number = || {
        let sum: usize = (0..4).map(|_| dice.within(0, 10_000)).sum();
        f32::from(u16::try_from(sum).expect("it is at most 40000")) - 20_000.0
    };
    with_length_1((0..dimension).map(|_| number()).collect())
}

fn with_length_1(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    vector.into_iter().map(|number| number / length).collect()
}

/// The share of what the exact index finds that we find.
pub(crate) fn recall(ours: &[Vec<usize>], exact: &[Vec<usize>]) -> f64 {
    let found = ours.iter().zip(exact);
    let found: usize = found
        .map(|(ours, exact)| exact.iter().filter(|vector| ours.contains(vector)).count())
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    let share = found as f64 / (exact.len() * WANTED) as f64;
    share
}

//! rten: ONNX models that turn texts into vectors, on the CPU.
//!
//! The model gets token ids, a mask of ones and token types of zero, whichever of
//! these it asks for by name, and gives the hidden states of all tokens. They become
//! a vector as the manifest says. One text is computed at a time, with all threads;
//! the vector does not depend on how many these are.

mod tokens;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use engine_api::embedding::Embedding;
use engine_api::manifest::{ArtefactRole, Manifest};
use engine_api::protocol::{ModelFacts, TokenId};
use rten::{Model, NodeId, RunOptions, ThreadPool, ValueOrView};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, Tensor};

use self::tokens::Tokens;
use super::embedder::{Embedder, vector};
use super::{Description, Runtime, StepError, Vocabulary, Wishes};

/// What a model may ask for, in the names that all exporters use.
const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const TYPES: &str = "token_type_ids";

/// The text that a model is tried with, so that a wrong one is found while it loads.
const TRIAL: &str = "a b c";

/// Loads the model and its tokeniser.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub fn load(
    manifest: &Manifest,
    dir: &Path,
    wishes: Wishes,
    mut progress: impl FnMut(f32),
) -> anyhow::Result<(Runtime, Arc<dyn Vocabulary>)> {
    let embedding = manifest.embedding.clone().context("the manifest has no `embedding`")?;
    let weights = manifest.weights(dir).context("find the model in the manifest")?;
    let tokenizer = manifest
        .file(dir, ArtefactRole::Tokenizer)
        .context("find the tokeniser's file in the manifest")?;
    let tokens = Arc::new(Tokens::read(&tokenizer)?);
    progress(0.2);
    let shown = weights.display();
    let bytes = weights.metadata().with_context(|| format!("read {shown}"))?.len();
    let model = Model::load_file(&weights).with_context(|| format!("load {shown}"))?;
    progress(0.8);
    let threads = wishes.threads.max(1);
    let pool = |threads: u16| Arc::new(ThreadPool::with_num_threads(threads.into()));
    let facts = ModelFacts {
        name: manifest.model.name.clone(),
        architecture: manifest.model.architecture.clone(),
        parameters: manifest.model.parameters,
        weights_bytes: bytes,
        quantisation: manifest.model.quantisation.clone(),
        trained_context: manifest.serving.context,
    };
    let mut embedder = Rten {
        inputs: inputs(&model).with_context(|| format!("understand {shown}"))?,
        output: *model.output_ids().first().with_context(|| format!("{shown} has no output"))?,
        model,
        tokens: Arc::clone(&tokens),
        embedding,
        facts,
        context: manifest.serving.context,
        threads,
        all: pool(threads),
        one: pool(1),
        alone: false,
    };
    let trial = tokens.frame().around(&tokens.tokenize(TRIAL, false));
    embedder.embed(&trial).with_context(|| format!("try {shown}"))?;
    Ok((Runtime::Vectors(Box::new(embedder)), tokens))
}

/// What goes into one of the model's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    Ids,
    Ones,
    Zeroes,
}

/// The model's inputs and what goes into each.
fn inputs(model: &Model) -> anyhow::Result<Vec<(NodeId, Feed)>> {
    let mut inputs = Vec::new();
    for &id in model.input_ids() {
        let info = model.node_info(id);
        let name = info.as_ref().and_then(|info| info.name()).unwrap_or_default();
        let feed = match name {
            IDS => Feed::Ids,
            MASK => Feed::Ones,
            TYPES => Feed::Zeroes,
            other => anyhow::bail!("it wants an input {other:?}, which nobody here can give"),
        };
        inputs.push((id, feed));
    }
    ensure!(inputs.iter().any(|(_, feed)| *feed == Feed::Ids), "it has no input {IDS:?}");
    Ok(inputs)
}

struct Rten {
    model: Model,
    inputs: Vec<(NodeId, Feed)>,
    output: NodeId,
    tokens: Arc<Tokens>,
    embedding: Embedding,
    facts: ModelFacts,
    context: u32,
    threads: u16,
    /// Threads for when nobody else needs the cores, and for when somebody does.
    all: Arc<ThreadPool>,
    one: Arc<ThreadPool>,
    alone: bool,
}

impl Rten {
    /// The hidden states of all tokens, one row after the other.
    fn states(&self, tokens: &[TokenId]) -> anyhow::Result<Vec<f32>> {
        let ids: Vec<i32> =
            tokens.iter().map(|token| i32::try_from(token.0)).collect::<Result<_, _>>()?;
        let count = ids.len();
        let tensor = |values: Vec<i32>| NdTensor::from_data([1, count], values);
        let feed = |feed: Feed| match feed {
            Feed::Ids => tensor(ids.clone()),
            Feed::Ones => tensor(vec![1; count]),
            Feed::Zeroes => tensor(vec![0; count]),
        };
        let inputs: Vec<(NodeId, ValueOrView<'_>)> =
            self.inputs.iter().map(|&(id, wanted)| (id, feed(wanted).into())).collect();
        let pool = if self.alone { &self.one } else { &self.all };
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(pool)));
        let [output] = self.model.run_n(inputs, [self.output], Some(options))?;
        let states: Tensor<f32> = output.try_into()?;
        let expected = [1, count, self.embedding.dimension as usize];
        ensure!(
            states.shape() == expected,
            "it gives {:?} numbers where the manifest says {expected:?}",
            states.shape()
        );
        Ok(states.to_vec())
    }
}

impl Embedder for Rten {
    fn description(&self) -> Description {
        Description {
            backend: "rten",
            device: format!("CPU, {} threads", self.threads),
            model: self.facts.clone(),
            slots: 1,
            context: self.context,
            kv_bytes: 0,
            threads: self.threads,
            largest_step: self.context,
            reproducible: true,
        }
    }

    fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    fn tokenize(&self, text: &str) -> Vec<TokenId> {
        self.tokens.tokenize(text, false)
    }

    fn frame(&self) -> (&[TokenId], &[TokenId]) {
        self.tokens.frame().parts()
    }

    fn embed(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, StepError> {
        vector(self.states(tokens), &self.embedding)
    }

    fn share_cores(&mut self, alone: bool) {
        self.alone = alone;
    }
}

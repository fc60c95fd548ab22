//! The forms in which a backend can get a model's weights, best first.
//!
//! Four bits that somebody quantised with care come first: they are what the
//! memory's bandwidth wants. Eight bits rounded to the nearest come before four
//! bits rounded to the nearest, which cost answers.

use super::backend::Backend;
use super::board::{Board, Class};
use crate::catalogue::{Entry, Family, Form, Gptq, Quantisation};

/// Group size that every 4-bit kernel here has.
const GROUP: u32 = 128;

/// Working space of quantising with AWQ beside the 16-bit model.
const AWQ_SPACE: u64 = 4_000_000_000;

/// One way to get weights for a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) quantisation: Quantisation,
    /// As the model's makers or the GGUF file call it.
    pub(super) label: String,
    pub(super) from: Form,
    /// What has to be looked at on the board.
    pub(super) caution: Option<String>,
}

impl Variant {
    fn new(quantisation: Quantisation, from: Form) -> Self {
        Self { quantisation, label: quantisation.name().into(), from, caution: None }
    }

    fn with(self, caution: impl Into<Option<String>>) -> Self {
        Self { caution: caution.into(), ..self }
    }
}

/// What `backend` can make of `entry` on `board`; empty with the reason if
/// nothing.
pub(super) fn variants(
    backend: Backend,
    entry: &Entry,
    board: &Board,
    asked: Option<Form>,
) -> Result<Vec<Variant>, String> {
    let mut found = match backend {
        Backend::TensorrtLlm => tensorrt_llm(entry, board)?,
        Backend::TensorrtEdgeLlm => edge_llm(entry)?,
        Backend::LlamaCpp => vec![llama_cpp(entry, asked.unwrap_or_else(|| Form::usual(entry)))?],
    };
    found.retain(|variant| asked.is_none_or(|asked| variant.from == asked));
    match (found.is_empty(), asked) {
        (true, Some(asked)) => Err(format!("it takes this model in another form than {asked}")),
        _ => Ok(found),
    }
}

fn tensorrt_llm(entry: &Entry, board: &Board) -> Result<Vec<Variant>, String> {
    let mut found = Vec::new();
    let family = entry.architecture.family;
    if let Some(gptq) = &entry.source.gptq
        && family != Family::Phi3
        && is_usable(gptq)
    {
        found.push(Variant::new(Quantisation::Int4Gptq, Form::Gptq).with(act_order(gptq)));
    }
    if board.class != Class::AgxOrin {
        if found.is_empty() {
            return Err(
                "outside AGX Orin only a checkpoint that is already quantised with GPTQ is \
                        converted, and the catalogue has none for it"
                    .into(),
            );
        }
        return Ok(found);
    }
    if entry.source.checkpoint.is_some() {
        let sixteen_bits = 2 * entry.weights.parameters;
        if family != Family::Phi3 && sixteen_bits + AWQ_SPACE <= board.memory_bytes.get() {
            let caution = "it calibrates on cnn_dailymail, which has to be brought or fetched";
            found.push(
                Variant::new(Quantisation::Int4Awq, Form::Checkpoint)
                    .with(Some(caution.to_owned())),
            );
        }
        found.push(Variant::new(Quantisation::Int8, Form::Checkpoint));
        found.push(
            Variant::new(Quantisation::Int4, Form::Checkpoint).with(Some(
                "four bits rounded to the nearest: check answers on the board".to_owned(),
            )),
        );
    }
    if found.is_empty() {
        return Err("the catalogue has no checkpoint that it converts".into());
    }
    Ok(found)
}

fn edge_llm(entry: &Entry) -> Result<Vec<Variant>, String> {
    let mut found = Vec::new();
    let source = &entry.source;
    if source.awq.as_ref().is_some_and(|awq| awq.group_size == GROUP) {
        found.push(Variant::new(Quantisation::Int4Awq, Form::Awq));
    }
    if let Some(gptq) = source.gptq.as_ref().filter(|gptq| is_usable(gptq)) {
        found.push(Variant::new(Quantisation::Int4Gptq, Form::Gptq).with(act_order(gptq)));
    }
    if source.checkpoint.is_some() {
        found.push(Variant::new(Quantisation::F16, Form::Checkpoint));
    }
    if found.is_empty() {
        return Err("the catalogue has no checkpoint that it exports".into());
    }
    Ok(found)
}

/// The GGUF file as it is published, or one that is made from the checkpoint.
fn llama_cpp(entry: &Entry, from: Form) -> Result<Variant, String> {
    match from {
        Form::Checkpoint => return Ok(Variant::new(Quantisation::Q4KM, from)),
        Form::Gptq | Form::Awq => return Err(format!("it takes no weights that are {from}")),
        Form::Package | Form::Gguf => {}
    }
    let label = entry.weights.quantisation.clone();
    let quantisation = Quantisation::of_gguf(&label).unwrap_or(Quantisation::Q4KM);
    Ok(Variant { quantisation, label, from, caution: None })
}

/// A checkpoint in another order of columns gives nonsense in a reader that
/// takes no notice of the order.
fn is_usable(gptq: &Gptq) -> bool {
    gptq.group_size == GROUP && gptq.act_order != Some(true)
}

fn act_order(gptq: &Gptq) -> Option<String> {
    gptq.act_order.is_none().then(|| {
        format!(
            "whether {} was quantised in act order is unknown: its fetch must find desc_act false, \
             because with true the answers would be nonsense",
            gptq.repository
        )
    })
}

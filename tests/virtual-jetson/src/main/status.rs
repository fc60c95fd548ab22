//! What the program says: a line now and then, for people or for programs.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use virtual_jetson::coupling::word;
use virtual_jetson::{Activity, Board, Llm, Module, Readings, UnknownFault};

use crate::Format;

/// One status line.
pub(crate) fn say(format: Format, board: &Board, activity: &Activity) -> Result<()> {
    let readings = board.readings();
    let line = match format {
        Format::Text => text(board, &readings, activity),
        Format::Json => json(board, &readings, activity),
    };
    writeln!(io::stdout(), "{line}").context("say the status")
}

fn text(board: &Board, readings: &Readings, activity: &Activity) -> String {
    let state = match readings.off {
        Some(off) => format!("off ({})", word(off)),
        None if readings.firmware_throttled => "firmware throttle".into(),
        None if readings.throttle_steps > 0 => format!("throttled by {}", readings.throttle_steps),
        None => "on".into(),
    };
    let engine = match activity.kv_tokens {
        Some(_) => format!(
            "engine {:.1} sequences, {:.0} tokens/s",
            activity.sequences, activity.decoded_tokens_per_s
        ),
        None => "no engine".into(),
    };
    format!(
        "{:>7.0} s  {state}  Tj {:.1} °C  {:.1} W  GPU {} MHz at {:.0} %  fan {}/min  OC {:?}  {engine}  {:.1} GB free  {}",
        readings.uptime_s,
        readings.tj_celsius,
        readings.watts,
        readings.gpu_cap_hz / 1_000_000,
        readings.gpu_busy * 100.0,
        readings.fan_rpm,
        readings.over_currents,
        gigabytes(readings.memory_available_bytes),
        board.mode().name,
    )
}

#[expect(clippy::cast_precision_loss, reason = "a size of memory is far below 2^52")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

fn json(board: &Board, readings: &Readings, activity: &Activity) -> String {
    json!({
        "uptime_s": readings.uptime_s,
        "off": readings.off.map(word),
        "tj_celsius": readings.tj_celsius,
        "watts": readings.watts,
        "gpu_cap_hz": readings.gpu_cap_hz,
        "gpu_effective_hz": readings.gpu_effective_hz,
        "gpu_busy": readings.gpu_busy,
        "fan_rpm": readings.fan_rpm,
        "over_currents": readings.over_currents,
        "throttle_steps": readings.throttle_steps,
        "firmware_throttled": readings.firmware_throttled,
        "memory_available_bytes": readings.memory_available_bytes,
        "mode": board.mode().name,
        "joules": board.totals().joules,
        "shutdowns": board.totals().shutdowns,
        "sequences": activity.sequences,
        "decoded_tokens_per_s": activity.decoded_tokens_per_s,
        "prefill_tokens_per_s": activity.prefill_tokens_per_s,
    })
    .to_string()
}

/// The modules and language models that there are.
pub(crate) fn list() -> Result<()> {
    let boards: Vec<&str> = Module::all().iter().map(|module| module.name).collect();
    let llms: Vec<&str> = Llm::ALL.iter().map(|llm| llm.name).collect();
    let text = format!("boards: {}\nllms:   {}", boards.join(" "), llms.join(" "));
    writeln!(io::stdout(), "{text}").context("list the boards")
}

/// A faults file that is not understood.
pub(crate) fn complain(path: &Path, error: &UnknownFault) {
    // Nobody may be there to hear it.
    let _unheard = writeln!(io::stderr(), "{}: {error}; nothing changes", path.display());
}

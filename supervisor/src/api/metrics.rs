//! `GET /metrics`: the snapshot as Prometheus text, version 0.0.4.
//!
//! What is unknown has no sample. Counters begin at zero when the supervisor
//! starts; those of the engine when the engine does.

mod text;

use hyper::Response;

use crate::api::reply::{self, Reply};
use crate::snapshot::{EmbedderState, EngineState, Snapshot};
use text::{Kind, Text};

/// The whole page.
pub(crate) fn metrics(snapshot: &Snapshot) -> Response<Reply> {
    reply::bytes("text/plain; version=0.0.4; charset=utf-8", page(snapshot))
}

fn page(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    engine(snapshot, &mut text);
    embedder(snapshot, &mut text);
    requests(snapshot, &mut text);
    steps(snapshot, &mut text);
    governor(snapshot, &mut text);
    machine(snapshot, &mut text);
    text.into_string()
}

fn engine(snapshot: &Snapshot, text: &mut Text) {
    let engine = &snapshot.engine;
    let version = [("version", snapshot.version)];
    text.gauge("stoker_info", "Always 1; the labels say what runs.", &version, Some(1.0));
    text.gauge(
        "stoker_uptime_seconds",
        "Since the supervisor started.",
        &[],
        Some(whole(snapshot.uptime_s)),
    );
    let up = f64::from(u8::from(engine.state == EngineState::Ready));
    let model = [("model", engine.model.as_deref().unwrap_or_default())];
    text.gauge("stoker_engine_up", "1 if the engine answers.", &model, Some(up));
    text.counter(
        "stoker_engine_restarts_total",
        "Times the engine was started again after it had died.",
        engine.restarts,
    );
    let bytes = engine.resident_bytes.map(whole);
    text.gauge("stoker_engine_resident_bytes", "Resident memory of the engine.", &[], bytes);
    let bytes = snapshot.supervisor_resident_bytes.map(whole);
    text.gauge(
        "stoker_supervisor_resident_bytes",
        "Resident memory of the supervisor.",
        &[],
        bytes,
    );
}

/// None is built on most appliances.
fn embedder(snapshot: &Snapshot, text: &mut Text) {
    let Some(embedder) = &snapshot.embedder else { return };
    let up = f64::from(u8::from(embedder.state == EmbedderState::Ready));
    let help = "1 if the embedder runs; the first request for vectors starts it.";
    text.gauge("stoker_embedder_up", help, &[("model", &embedder.model)], Some(up));
    text.counter(
        "stoker_embedder_restarts_total",
        "Times the embedder ended by itself.",
        embedder.restarts,
    );
}

fn requests(snapshot: &Snapshot, text: &mut Text) {
    let queue = &snapshot.queue;
    text.gauge(
        "stoker_queue_waiting",
        "Requests that wait for their turn.",
        &[],
        Some(queue.waiting as f64),
    );
    text.gauge(
        "stoker_queue_capacity",
        "Requests that may wait.",
        &[],
        Some(queue.capacity as f64),
    );
    text.gauge(
        "stoker_requests_active",
        "Requests that are being answered.",
        &[],
        Some(queue.running as f64),
    );
    let totals = &snapshot.totals;
    text.counter("stoker_requests_total", "Requests for an answer.", totals.requests);
    let help = "Requests that ended, by how they ended.";
    text.family("stoker_requests_ended_total", help, Kind::Counter);
    for (outcome, count) in [
        ("answered", totals.answered),
        ("failed", totals.failed),
        ("cancelled", totals.cancelled),
        ("refused", totals.refused),
    ] {
        text.sample("stoker_requests_ended_total", &[("outcome", outcome)], whole(count));
    }
    text.counter(
        "stoker_prompt_tokens_total",
        "Prompt tokens of ended requests.",
        totals.prompt_tokens,
    );
    text.counter_if_known(
        "stoker_cached_prompt_tokens_total",
        "Prompt tokens that were not computed again.",
        totals.cached_tokens,
    );
    text.counter(
        "stoker_completion_tokens_total",
        "Tokens generated for ended requests.",
        totals.completion_tokens,
    );
    let rates = &snapshot.rates;
    text.gauge(
        "stoker_prefill_tokens_per_second",
        "Average of the last ten seconds.",
        &[],
        rates.prefill_tokens_per_s,
    );
    text.gauge(
        "stoker_decode_tokens_per_second",
        "Average of the last ten seconds.",
        &[],
        rates.decode_tokens_per_s,
    );
}

fn governor(snapshot: &Snapshot, text: &mut Text) {
    let limits = &snapshot.limits;
    text.gauge(
        "stoker_limit_sequences",
        "Requests that are decoded at once, at most.",
        &[],
        Some(limits.max_sequences.into()),
    );
    text.gauge(
        "stoker_limit_batch_tokens",
        "Prompt tokens computed between two steps, at most.",
        &[],
        Some(limits.max_batch_tokens.into()),
    );
    text.gauge(
        "stoker_pace_seconds",
        "Least time from one step to the next.",
        &[],
        Some(seconds(limits.pace_us.into())),
    );
    let Some(governor) = &snapshot.governor else { return };
    text.gauge(
        "stoker_governor_notch",
        "How much the engine is held back; 0 is full power.",
        &[],
        Some(governor.notch as f64),
    );
    text.gauge(
        "stoker_governor_notches",
        "The notch of least power.",
        &[],
        Some(governor.notches as f64),
    );
    text.gauge(
        "stoker_governor_limiting",
        "Always 1; the label says what limits.",
        &[("by", governor.limiting)],
        Some(1.0),
    );
    text.counter("stoker_governor_changes_total", "Changes of the limits.", governor.changes_total);
    text.gauge(
        "stoker_gpu_clock_cap_hertz",
        "What the GPU's clock is capped to by the governor.",
        &[],
        governor.gpu_cap_hertz.map(whole),
    );
}

fn steps(snapshot: &Snapshot, text: &mut Text) {
    let Some(beat) = snapshot.engine.heartbeat.as_deref() else { return };
    text.counter(
        "stoker_engine_prefill_tokens_total",
        "Prompt tokens computed since the engine started.",
        beat.prefill_tokens,
    );
    text.counter(
        "stoker_engine_decode_tokens_total",
        "Tokens generated since the engine started.",
        beat.decode_tokens,
    );
    text.counter(
        "stoker_engine_cached_tokens_total",
        "Prompt tokens taken from the prefix cache since the engine started.",
        beat.cached_tokens,
    );
    text.counter("stoker_engine_steps_total", "Decode steps and prefill chunks.", beat.steps);
    text.gauge(
        "stoker_engine_step_seconds",
        "Time of the last decode step.",
        &[],
        Some(seconds(beat.step_us)),
    );
    text.gauge(
        "stoker_engine_worst_step_seconds",
        "Slowest decode step between the last two heartbeats.",
        &[],
        Some(seconds(beat.worst_step_us)),
    );
    let age = snapshot.engine.heartbeat_age_ms.map(|ms| whole(ms) / 1e3);
    text.gauge(
        "stoker_engine_heartbeat_age_seconds",
        "Since the engine's last sign of life.",
        &[],
        age,
    );
    text.family("stoker_kv_tokens", "Tokens in the KV cache, by what they are for.", Kind::Gauge);
    text.sample("stoker_kv_tokens", &[("use", "active")], whole(beat.kv.active_tokens));
    if let Some(cached) = beat.kv.cached_tokens {
        text.sample("stoker_kv_tokens", &[("use", "cached")], whole(cached));
    }
    text.gauge(
        "stoker_kv_capacity_tokens",
        "Tokens that the KV cache can hold.",
        &[],
        Some(whole(beat.kv.capacity_tokens)),
    );
    text.gauge(
        "stoker_kv_bytes",
        "Memory that the whole KV cache takes.",
        &[],
        Some(whole(beat.kv.bytes)),
    );
}

fn machine(snapshot: &Snapshot, text: &mut Text) {
    let Some(machine) = &snapshot.machine else { return };
    text.family("stoker_temperature_celsius", "Temperature of a zone.", Kind::Gauge);
    for zone in &machine.zones {
        if let Some(celsius) = zone.celsius {
            text.sample("stoker_temperature_celsius", &[("zone", &zone.name)], celsius.degrees());
        }
    }
    text.family(
        "stoker_temperature_limit_celsius",
        "Where the machine slows itself down.",
        Kind::Gauge,
    );
    for zone in &machine.zones {
        if let Some(limit) = zone.limit_celsius {
            text.sample(
                "stoker_temperature_limit_celsius",
                &[("zone", &zone.name)],
                limit.degrees(),
            );
        }
    }
    let watts = machine.power_watts.map(jetpack::Watts::watts);
    text.gauge("stoker_power_watts", "What the whole machine takes.", &[], watts);
    text.family("stoker_rail_watts", "What one supply gives.", Kind::Gauge);
    for rail in &machine.rails {
        if let Some(watts) = rail.watts {
            text.sample("stoker_rail_watts", &[("rail", &rail.label)], watts.watts());
        }
    }
    let memory = machine.memory.as_ref();
    let total = memory.map(|memory| whole(memory.total_bytes.get()));
    let used = memory.map(|memory| whole(memory.used_bytes.get()));
    text.gauge("stoker_memory_total_bytes", "The machine's memory.", &[], total);
    text.gauge("stoker_memory_used_bytes", "Memory that is not available to new work.", &[], used);
    gpus(machine, text);
}

fn gpus(machine: &jetpack::Sample, text: &mut Text) {
    text.family("stoker_gpu_memory_used_bytes", "Memory in use on a discrete GPU.", Kind::Gauge);
    for (index, gpu) in machine.gpus.iter().enumerate() {
        if let Some(used) = gpu.memory_used_bytes {
            let index = index.to_string();
            let labels = [("gpu", index.as_str()), ("name", gpu.name.as_str())];
            text.sample("stoker_gpu_memory_used_bytes", &labels, whole(used.get()));
        }
    }
}

/// Prometheus has only floats; counts beyond 2^53 lose their last digits.
fn whole(count: u64) -> f64 {
    count as f64
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

//! The status document as a table: the server first, then the machine. What is unknown says so.

mod machine;

use std::fmt::{self, Display, Formatter};

use serde_json::Value;

/// Width of the first column.
const NAME: usize = 12;

/// A status document, as the server sent it.
#[derive(Debug)]
pub(super) struct Table<'a>(pub(super) &'a Value);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        let mut row = |name: &str, text: String| writeln!(f, "{name:NAME$}{text}");
        row("engine", engine(&status["engine"]))?;
        if status["embedder"].is_object() {
            row("embedder", engine(&status["embedder"]))?;
        }
        if let Some(build) = build(&status["build"]) {
            row("build", build)?;
        }
        if let Some(update) = status["update"]["text"].as_str() {
            row("update", update.to_owned())?;
        }
        for repository in items(&status["index"]["repositories"]) {
            let name = repository["name"].as_str().unwrap_or("a private repository");
            row("code", format!("{name}: {}", super::code::in_words(repository)))?;
        }
        if let Some(chats) = super::memory::in_numbers(&status["memory"]) {
            row("chats", chats)?;
        }
        for receipt in items(&status["memory"]["receipts"]).iter().take(3) {
            row("receipt", super::memory::receipt(receipt))?;
        }
        row("queue", queue(&status["queue"]))?;
        row("speed", speed(&status["rates"]))?;
        row("requests", requests(&status["totals"]))?;
        row("machine", summary(&status["machine"]))?;
        row("memory", memory(status))?;
        for (name, text) in machine::rows(&status["machine"]) {
            row(name, text)?;
        }
        for problem in items(&status["problems"]) {
            row("problem", format!("{}; {}", text(&problem["problem"]), text(&problem["advice"])))?;
        }
        for incident in items(&status["incidents"]).iter().take(3) {
            let id = number(&incident["id"], "");
            row(
                "incident",
                format!("{id}: {}; {}", text(&incident["problem"]), text(&incident["done"])),
            )?;
        }
        Ok(())
    }
}

/// Of the engine that answers or of the embedder.
fn engine(engine: &Value) -> String {
    let model = engine["model"].as_str().unwrap_or("none");
    let state = &engine["state"];
    let reason = state["reason"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let device = engine["ready"]["device"].as_str().or(engine["device"].as_str());
    let device = device.map(|on| format!(" on {on}")).unwrap_or_default();
    format!("{model}: {}{reason}{device}", text(&state["name"]))
}

/// `None` if nothing is known of one.
fn build(build: &Value) -> Option<String> {
    let state = build["state"].as_str()?;
    let step = format!(
        "step {} of {}, {}",
        number(&build["step_number"], ""),
        number(&build["steps"], ""),
        text(&build["step"])
    );
    Some(format!("{}: {state}, {step}: {}", text(&build["engine"]), text(&build["text"])))
}

fn queue(queue: &Value) -> String {
    let count = |name: &str| number(&queue[name], "");
    format!("{} running, {} of {} waiting", count("running"), count("waiting"), count("capacity"))
}

fn speed(rates: &Value) -> String {
    let rate = |name: &str| match rates[name].as_f64() {
        Some(rate) => format!("{rate:.1} tokens/s"),
        None => "idle".to_owned(),
    };
    format!("prefill {}, decode {}", rate("prefill_tokens_per_s"), rate("decode_tokens_per_s"))
}

fn requests(totals: &Value) -> String {
    let names = ["answered", "failed", "cancelled", "refused"];
    let counts = names.map(|name| format!("{} {name}", number(&totals[name], "")));
    counts.join(", ")
}

fn summary(machine: &Value) -> String {
    let zones = items(&machine["zones"]).iter().filter_map(|zone| zone["celsius"].as_f64());
    let hottest = zones.reduce(f64::max);
    let hottest =
        hottest.map_or_else(|| "unknown".to_owned(), |hottest| format!("{hottest:.1} °C"));
    format!("hottest zone {hottest}, power {}", number(&machine["power_watts"], " W"))
}

fn memory(status: &Value) -> String {
    let memory = &status["machine"]["memory"];
    let bytes = |value: &Value| match value.as_u64() {
        Some(bytes) => jetpack::Bytes::new(bytes).to_string(),
        None => "unknown".to_owned(),
    };
    format!(
        "{} of {} used, engine {}, supervisor {}",
        bytes(&memory["used_bytes"]),
        bytes(&memory["total_bytes"]),
        bytes(&status["engine"]["resident_bytes"]),
        bytes(&status["supervisor_resident_bytes"]),
    )
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

fn number(value: &Value, unit: &str) -> String {
    match value {
        Value::Number(number) => format!("{number}{unit}"),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_busy_server_is_a_few_lines() {
        let status = json!({
            "engine": {
                "model": "smollm2", "state": { "name": "ready" },
                "ready": { "device": "CPU, 2 threads" }, "resident_bytes": 209_715_200
            },
            "embedder": { "model": "mini", "state": { "name": "ready" }, "device": "CPU, 2 threads" },
            "queue": { "capacity": 64, "waiting": 1, "running": 8 },
            "rates": { "prefill_tokens_per_s": null, "decode_tokens_per_s": 81.26 },
            "totals": { "answered": 5, "failed": 1, "cancelled": 0, "refused": 2 },
            "machine": {
                "zones": [{ "celsius": 51.5 }, { "celsius": null }], "power_watts": 7.25,
                "memory": { "used_bytes": 1_073_741_824, "total_bytes": 8_589_934_592u64 }
            },
            "supervisor_resident_bytes": 12_582_912,
            "incidents": [{ "id": 3, "problem": "the engine stopped", "done": "it is started again at once" }],
            "problems": [{ "problem": "the disk is full", "advice": "free some space" }],
        });
        expect![[r#"
            engine      smollm2: ready on CPU, 2 threads
            embedder    mini: ready on CPU, 2 threads
            queue       8 running, 1 of 64 waiting
            speed       prefill idle, decode 81.3 tokens/s
            requests    5 answered, 1 failed, 0 cancelled, 2 refused
            machine     hottest zone 51.5 °C, power 7.25 W
            memory      1.0 GiB of 8.0 GiB used, engine 200.0 MiB, supervisor 12.0 MiB
            heat        unknown 51.5, unknown unknown
            problem     the disk is full; free some space
            incident    3: the engine stopped; it is started again at once
        "#]]
        .assert_eq(&Table(&status).to_string());
    }

    #[test]
    fn what_is_unknown_says_so() {
        expect![[r#"
            engine      none: unknown
            queue       unknown running, unknown of unknown waiting
            speed       prefill idle, decode idle
            requests    unknown answered, unknown failed, unknown cancelled, unknown refused
            machine     hottest zone unknown, power unknown
            memory      unknown of unknown used, engine unknown, supervisor unknown
        "#]]
        .assert_eq(&Table(&json!({})).to_string());
    }
}

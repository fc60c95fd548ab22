//! A plan as text for people.

use std::fmt::Write as _;

use super::{Board, BoardPlan, Origin, Release, Step};

/// The plan, several lines without a last line break.
#[must_use]
pub fn text(plan: &BoardPlan) -> String {
    let mut out = String::new();
    on_what(&mut out, &plan.model, &plan.board, plan.release.as_ref());
    row(&mut out, "backend", &format!("{} ({})", plan.backend, plan.version));
    row(&mut out, "weights", &format!("{}, licence {}", plan.quantisation, plan.licence));
    row(&mut out, "serves", &serves(plan));
    memory(&mut out, plan);
    let disk = &plan.disk;
    row(
        &mut out,
        "disk",
        &format!(
            "{} to fetch, {} at the height of the build, {} kept (estimates)",
            disk.download_bytes, disk.peak_bytes, disk.kept_bytes
        ),
    );
    row(&mut out, "speed", &speed(plan));
    row(&mut out, "time", &time(plan));
    list(&mut out, "why", &plan.why);
    let rejected: Vec<String> = plan
        .rejected
        .iter()
        .map(|no| match &no.quantisation {
            Some(quantisation) => format!("{} {quantisation}: {}", no.backend, no.why),
            None => format!("{}: {}", no.backend, no.why),
        })
        .collect();
    list(&mut out, "rejected", &rejected);
    list(&mut out, "beware", &plan.cautions);
    list(&mut out, "needs", &plan.needs);
    list(&mut out, "set by the worker", &plan.settings);
    with_steps(out, &plan.steps)
}

/// What a plan begins with.
pub(super) fn on_what(out: &mut String, model: &str, board: &Board, release: Option<&Release>) {
    let on = release.map(|release| format!(" with {release}")).unwrap_or_default();
    line(out, &format!("{model} on {}{on}", board.name));
    line(out, "");
}

/// What it ends with.
pub(super) fn with_steps(mut out: String, steps: &[Step]) -> String {
    line(&mut out, "");
    line(&mut out, "steps");
    for (number, step) in (1..).zip(steps) {
        one_step(&mut out, number, step);
    }
    out.truncate(out.trim_end().len());
    out
}

fn serves(plan: &BoardPlan) -> String {
    let sizes = &plan.sizes;
    if let Some(dimension) = plan.dimension {
        return format!("texts of up to {} tokens, vectors of {dimension}", sizes.context);
    }
    let mut said = format!("{} at once, {} tokens each", sizes.users, sizes.context);
    if sizes.spare > 0 {
        let _ = write!(said, ", {} more windows kept as prefixes", sizes.spare);
    }
    said
}

fn memory(out: &mut String, plan: &BoardPlan) {
    let memory = &plan.memory;
    row(
        out,
        "memory",
        &format!(
            "{} of the {} that an engine may take: {} weights, {} conversations, {} runtime (estimates)",
            memory.needed(),
            memory.budget_bytes,
            memory.weights_bytes,
            memory.kv_bytes,
            memory.working_bytes
        ),
    );
    row(out, "", &memory_is(&plan.board));
    if let Some(build) = memory.build_bytes {
        row(out, "", &format!("the build takes about {build} (estimate)"));
    }
}

/// How much memory the board has, and how that is known.
pub(super) fn memory_is(board: &Board) -> String {
    let known = match board.memory_is {
        Origin::Measured => "measured",
        Origin::Published => "as published for this board",
        Origin::Assumed => "assumed",
    };
    format!("the board has {}, {known}", board.memory_bytes)
}

fn speed(plan: &BoardPlan) -> String {
    match plan.speed {
        None if plan.dimension.is_some() => "unknown: nobody has measured it on a board".into(),
        None => "unknown: so is the memory's bandwidth".into(),
        Some(speed) => format!(
            "{:.0} to {:.0} tokens/s for one user (estimate: {:.0} to {:.0} % of the {:.0} that the \
             memory's bandwidth allows)",
            speed.least_tokens_per_s,
            speed.most_tokens_per_s,
            speed.least_share * 100.0,
            speed.most_share * 100.0,
            speed.roofline_tokens_per_s
        ),
    }
}

/// The foreign steps: what is known of them, and when they are ended.
fn time(plan: &BoardPlan) -> String {
    let foreign = || plan.steps.iter().filter(|step| !step.argv.is_empty() && step.name != "fetch");
    if foreign().next().is_none() {
        return "as long as the download and one load take".into();
    }
    let known = foreign().map(|step| match step.expected_s {
        Some((least, most)) => {
            format!("{} {} to {} min (estimate)", step.name, least.div_ceil(60), most.div_ceil(60))
        }
        None => format!("{} unknown, ended after {} h", step.name, step.limit_s.div_ceil(3600)),
    });
    known.collect::<Vec<_>>().join("; ")
}

pub(super) fn one_step(out: &mut String, number: usize, step: &Step) {
    line(out, &format!("  {number} {:<9}{}", step.name, step.does));
    if step.argv.is_empty() {
        return;
    }
    let env: String =
        step.env.iter().map(|(name, value)| format!("{name}={} ", quoted(value))).collect();
    let argv: Vec<String> = step.argv.iter().map(|argument| quoted(argument)).collect();
    line(out, &format!("      {env}{}", argv.join(" ")));
}

/// An argument as a shell would have to be given it.
fn quoted(argument: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./:,+@%".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

pub(super) fn list(out: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    line(out, "");
    line(out, title);
    for item in items {
        line(out, &format!("  - {item}"));
    }
}

pub(super) fn row(out: &mut String, name: &str, value: &str) {
    line(out, &format!("  {name:<9}{value}"));
}

pub(super) fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_survives_a_shell() {
        assert_eq!(quoted("--flag"), "--flag");
        assert_eq!(quoted("/a b"), "'/a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}

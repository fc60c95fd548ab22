//! One look at the appliance: the server as a client sees it, the disk by writing,
//! the machine by its sensors.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jetpack::Sample;
use serde_json::{Value, json};

use super::{Engine, Fault, FaultKind, Health};
use crate::console::StatusError;
use crate::console::ask::{Ask, ask, get};
use crate::keys::{self, KeyName};

/// What our own key is called while there is one.
const OUR_KEY: &str = "stoker-health";

/// How long the engine may take for one token.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// Looks at everything once.
pub(crate) fn now(host: &str, state_dir: &Path, sample: &Sample) -> Health {
    let mut faults = of_the_machine(sample);
    if let Err(error) = write_and_take_away(state_dir) {
        let words = format!("{} cannot be written: {error}", state_dir.display());
        faults.push(Fault { words, kind: FaultKind::OfTheSystem });
    }
    let engine = match get(host, "/api/status") {
        Ok(status) => engine(&status, || short_answer(host, state_dir)),
        Err(error) => {
            faults.push(Fault { words: with_causes(&error), kind: FaultKind::OfTheSystem });
            Engine::Pending("the supervisor does not answer".to_owned())
        }
    };
    Health { engine, faults }
}

/// An error and its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Has the engine answer with one token. Where keys are asked for, we lend ourselves
/// one for that long.
fn short_answer(host: &str, state_dir: &Path) -> Result<(), String> {
    let name = KeyName::new(OUR_KEY).expect("this is a name");
    keys::lend(state_dir, &name, |key| ask_shortly(host, key))
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

fn ask_shortly(host: &str, key: Option<&str>) -> Result<(), StatusError> {
    let messages = json!([{"role": "user", "content": "Are you there?"}]);
    let body = json!({"messages": messages, "max_tokens": 1, "stream": false});
    let (method, path, patience) = ("POST", "/v1/chat/completions", ANSWER_PATIENCE);
    ask(&Ask { method, host, path, key, body: Some(&body), patience }).map(drop)
}

/// What the supervisor says of its engine; one that says it is ready is asked.
fn engine(status: &str, answers: impl FnOnce() -> Result<(), String>) -> Engine {
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let state = &status["engine"]["state"];
    let reason = || state["reason"].as_str().unwrap_or("it does not say why").to_owned();
    match state["name"].as_str() {
        Some("ready") => match answers() {
            Ok(()) => Engine::Answers,
            Err(problem) => Engine::Pending(format!("it is ready and does not answer: {problem}")),
        },
        Some("absent" | "failed") => Engine::GivenUp(reason()),
        Some(name) => Engine::Pending(format!("it is {name}")),
        None => Engine::Pending("the supervisor does not tell of it".to_owned()),
    }
}

fn of_the_machine(sample: &Sample) -> Vec<Fault> {
    let mut faults = Vec::new();
    if sample.facts.calendar.is_plausible() == Some(false) {
        let words = "the clock is earlier than the system that runs".to_owned();
        faults.push(Fault { words, kind: FaultKind::MayPass });
    }
    // A PC need not have any.
    if sample.board.is_tegra() && sample.zones.iter().all(|zone| zone.celsius.is_none()) {
        let words = "no temperature can be read".to_owned();
        faults.push(Fault { words, kind: FaultKind::OfTheSystem });
    }
    faults.extend(sample.facts.boot.slots.iter().filter(|slot| slot.is_given_up()).map(|slot| {
        let words = format!("the firmware has given up slot {}", slot.name);
        Fault { words, kind: FaultKind::Lasts }
    }));
    faults
}

/// The directory is the service's own; nothing that lies there already is touched,
/// nor followed if it is a link.
fn write_and_take_away(directory: &Path) -> io::Result<()> {
    let path: PathBuf = directory.join(format!(".written-by-health-{}", std::process::id()));
    let mut file = fs::File::create_new(&path)?;
    let written = file.write_all(b"Are you there?\n").and_then(|()| file.sync_all());
    fs::remove_file(&path)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetpack::Machine;
    use recreated_boards as tree;

    #[test]
    fn the_engine_is_as_the_supervisor_says_and_asked_when_it_is_ready() {
        let state = |state: &str, answer: Result<(), String>| {
            engine(&format!(r#"{{"engine":{{"state":{state}}}}}"#), || answer)
        };
        assert_eq!(state(r#"{"name":"ready"}"#, Ok(())), Engine::Answers);
        for (of, waits) in [
            (r#"{"name":"ready"}"#, "it is ready and does not answer: busy"),
            (r#"{"name":"loading","fraction":0.5}"#, "it is loading"),
            (r#"{"name":"restarting","attempt":1}"#, "it is restarting"),
            ("null", "the supervisor does not tell of it"),
        ] {
            assert_eq!(state(of, Err("busy".into())), Engine::Pending(waits.into()));
        }
        for name in ["absent", "failed"] {
            let of = format!(r#"{{"name":"{name}","reason":"why"}}"#);
            assert_eq!(state(&of, Ok(())), Engine::GivenUp("why".into()));
        }
        assert!(matches!(engine("no JSON", || Ok(())), Engine::Pending(_)));
    }

    #[test]
    fn a_board_must_have_a_temperature_and_a_pc_need_not() {
        let faults = |tree: &tree::Tree| of_the_machine(&Machine::open(tree.root()).sample());
        assert_eq!(faults(&tree::pc()), []);
        assert_eq!(faults(&tree::orin_nano()), []);
        let board = tree::of(&[("proc/device-tree/compatible", "nvidia,tegra234\0")]);
        board.write("proc/stat", "btime 60\n");
        let words: Vec<_> = faults(&board).into_iter().map(|f| (f.words, f.kind)).collect();
        let expected = [
            ("the clock is earlier than the system that runs".to_owned(), FaultKind::MayPass),
            ("no temperature can be read".to_owned(), FaultKind::OfTheSystem),
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_directory_that_takes_a_file_has_none_left_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        write_and_take_away(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(write_and_take_away(&directory.path().join("none")).is_err());
    }
}

//! Engines that are quantised from a larger file, by the real worker, and held to
//! their bound.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use engine_api::manifest::{BoundFrom, Manifest};

use crate::engine::{FILE, real_weights, real_worker};
use crate::place::{Ended, Place, stand_in};

const MODEL: &str = "smollm2-135m-instruct";
const SIZE: [&str; 4] = ["--context", "512", "--users", "1"];

/// A place whose cache has the default model.
struct Yard {
    place: Place,
}

impl Yard {
    fn new() -> Self {
        let place = Place::new();
        let cached = place.path("cache/stoker/models").join(MODEL).join(FILE);
        fs::create_dir_all(cached.parent().unwrap()).unwrap();
        fs::copy(real_weights(), cached).unwrap();
        Self { place }
    }

    fn command(&self, target: &str, more: &[&str]) -> Command {
        self.place.command(&[&["build", MODEL, "--quantise", target], &SIZE[..], more].concat())
    }

    fn build(&self, target: &str, more: &[&str]) -> Ended {
        Ended::from(self.command(target, more).output().unwrap())
    }

    fn work(&self) -> PathBuf {
        self.place.path("state/work").join(format!("{MODEL}@llama-cpp"))
    }

    fn manifest(&self) -> Manifest {
        Manifest::read(&self.place.engine(MODEL)).unwrap()
    }
}

#[test]
fn a_model_is_quantised_measured_published_and_not_built_again() {
    let yard = Yard::new();
    let built = yard.build("q4_k_m", &["--format", "json"]);
    assert_eq!(built.code, Some(0), "{built:?}");
    for part in [
        r#""event":"begin","step":"quantise","text":"Q4_1 to Q4_K_M""#,
        "Q4_1 is already quantised: what it lost stays lost",
        "tensors have rows that do not divide into blocks of 256",
        r#""event":"end","step":"quantise""#,
    ] {
        assert!(built.stdout.contains(part), "{part:?} is not in {}", built.stdout);
    }
    let manifest = yard.manifest();
    assert_eq!(manifest.model.quantisation, "Q4_K_M");
    let quantised = manifest.quantised.unwrap();
    assert_eq!(quantised.from, "Q4_1");
    assert!(quantised.from_sha256.starts_with("b179c952"), "{quantised:?}");
    assert!(quantised.fallbacks > 0 && quantised.fallbacks < quantised.tensors, "{quantised:?}");
    let quality = manifest.quality.unwrap();
    assert!(quality.perplexity > 1.0 && quality.perplexity <= quality.bound, "{quality:?}");
    assert_eq!(quality.bound_from, BoundFrom::Catalogue);
    let command = manifest.commands.last().unwrap();
    assert_eq!((command[1].as_str(), command[5].as_str()), ("quantise", "Q4_K_M"));
    assert!(!yard.work().exists(), "what was made on the way takes room");

    let again = yard.build("Q4_K_M", &[]);
    assert!(again.stdout.contains("is already built"), "{again:?}");
    let listed = yard.place.run(&["list"]).stdout;
    assert!(listed.contains("Q4_K_M from Q4_1, "), "{listed}");
    assert!(listed.contains("perplexity "), "{listed}");
    let verified = yard.place.run(&["verify", MODEL]);
    assert!(verified.stdout.contains("; when built its perplexity was "), "{verified:?}");
}

#[test]
fn weights_that_were_measured_are_not_measured_again_for_another_window() {
    let yard = Yard::new();
    let build = |context: &str| {
        let what = ["build", MODEL, "--users", "1", "--format", "json", "--context", context];
        let ended = yard.place.run(&what);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout.contains("as these weights had it")
    };
    assert!(!build("512"));
    let before = yard.manifest();
    assert!(build("768"));
    let after = yard.manifest();
    assert_eq!((after.serving.context, after.files), (768, before.files));
    assert!(after.quality.is_some() && after.quality == before.quality, "{:?}", after.quality);
}

#[test]
fn a_broken_quantisation_is_not_published_and_the_older_engine_serves_on() {
    let yard = Yard::new();
    let older = yard.place.run(&[&["build", MODEL], &SIZE[..]].concat());
    assert_eq!(older.code, Some(0), "{older:?}");
    let before = yard.manifest();
    let breaking = stand_in("breaking-worker");
    let mut command = yard.command("Q8_0", &["--worker", breaking.to_str().unwrap()]);
    let broken = Ended::from(command.env("STAND_IN_WORKER", real_worker()).output().unwrap());
    broken.failed(
        18,
        &[
            "predicts the fixed text of",
            "is allowed by the catalogue; it is not published and what served before goes on",
            "quantise to a larger type",
        ],
    );
    assert_eq!(yard.manifest(), before);
    assert_eq!(yard.place.run(&["verify", MODEL]).code, Some(0));
    assert!(!yard.place.engine(&format!(".building-{MODEL}")).exists());
    assert!(!yard.work().join("quantised").exists(), "a bad result is not taken up again");
    assert!(yard.work().join("quality.log").is_file(), "the log stays");

    let cleaned = yard.place.run(&["gc"]);
    assert!(cleaned.stdout.contains("@llama-cpp stays: only logs are in it"), "{cleaned:?}");
}

#[test]
fn a_file_of_ones_own_is_held_to_what_it_measures_itself() {
    let place = Place::new();
    let weights = real_weights();
    let own = ["build", "--gguf", weights.to_str().unwrap(), "--name", "mine"];
    let built = place.run(&[&own[..], &["--quantise", "Q8_0"], &SIZE[..]].concat());
    assert_eq!(built.code, Some(0), "{built:?}");
    let quality = Manifest::read(&place.engine("mine")).unwrap().quality.unwrap();
    assert_eq!(quality.bound_from, BoundFrom::Source);
    assert!(quality.perplexity < quality.bound, "{quality:?}");
}

#[test]
fn a_build_that_is_cut_short_after_quantising_goes_on_behind_it() {
    let yard = Yard::new();
    let mut builder = yard
        .command("Q8_0", &["--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(builder.stdout.take().unwrap()).lines();
    let quantised = lines.by_ref().map_while(Result::ok);
    let said: Vec<_> =
        quantised.take_while(|line| !line.contains(r#""begin","step":"verify""#)).collect();
    builder.kill().unwrap();
    builder.wait().unwrap();
    assert!(said.iter().any(|line| line.contains(r#""end","step":"quantise""#)), "{said:?}");
    let first = fs::metadata(yard.work().join("quantised/weights.gguf")).unwrap();

    let ended = yard.build("Q8_0", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("quantise   already finished"), "{ended:?}");
    let served = fs::metadata(yard.place.engine(MODEL).join("weights.gguf")).unwrap();
    assert_eq!(served.modified().unwrap(), first.modified().unwrap());
}

#[test]
fn a_quantiser_that_dies_is_said_with_its_last_words_and_its_log() {
    let yard = Yard::new();
    let dying = stand_in("dying-worker");
    let ended = yard.build("Q8_0", &["--worker", dying.to_str().unwrap()]);
    ended.failed(15, &["quantise: ended with exit status: 9", "cannot allocate everything", "log"]);
    assert!(!yard.place.engine(MODEL).exists());
}

#[test]
fn wishes_that_cannot_be_granted_are_refused_before_anything_is_done() {
    let yard = Yard::new();
    for (target, part) in [
        ("IQ1_S", "it is none of Q8_0, Q6_K"),
        ("F16", "types below three bits and IQ types want an importance matrix"),
    ] {
        let ended = yard.build(target, &[]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    let tensorrt = yard.build("Q4_K_M", &["--backend", "tensorrt-llm"]);
    tensorrt.failed(2, &["--quantise is not for tensorrt-llm"]);
    assert!(!yard.place.path("state").exists());
}

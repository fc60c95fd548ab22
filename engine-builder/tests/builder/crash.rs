//! kill -9 at any moment of a build: what was served stays served, nothing half
//! written is trusted, and nothing piles up.
//!
//! What is lost here is a process. Writes that a power cut would lose because
//! nobody synced them are lost in `power_cut.rs`.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use engine_builder::engines::{EngineId, Engines};
use engine_builder::existing;
use engine_builder::report::Report;

use crate::engine::{FILE, WHEEL, put_package, real_weights};
use crate::place::{Ended, Place};

const MODEL: &str = "smollm2-135m-instruct";

/// Builds that are killed, and such that quantise, which take longer. `BUILDER_KILLS`
/// in the environment is as many of each instead, for a soak.
const KILLS: u64 = 20;
const QUANTISING_KILLS: u64 = 6;
/// After this many of them, one runs to its end.
const ENDS_EVERY: u64 = 5;

/// The same moments each time, as far as a machine has the same moments.
const SEED: u64 = 0x5104_2026;

/// `usual`, or as many as the environment asks for.
fn kills(usual: u64) -> u64 {
    env::var("BUILDER_KILLS").map_or(usual, |kills| kills.parse().unwrap())
}

/// Steele and Vigna's SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(most.as_micros()).unwrap().max(1)))
    }
}

/// Where a model file comes from in one build.
#[derive(Debug, Clone, Copy)]
enum Source {
    Package,
    Cache,
    /// A private file, which has to be copied.
    File,
    /// The cache, and what is in it is quantised.
    Quantised,
}

struct Yard {
    place: Place,
    package: PathBuf,
    own_file: PathBuf,
}

impl Yard {
    fn new() -> Self {
        let place = Place::new();
        let package = place.path("package.whl");
        put_package(&package);
        let own_file = place.path("own.gguf");
        fs::copy(real_weights(), &own_file).unwrap();
        fs::set_permissions(&own_file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir_all(place.path("cache/stoker/models").join(MODEL)).unwrap();
        Self { place, package, own_file }
    }

    fn cache(&self) -> PathBuf {
        self.place.path("cache/stoker/models").join(MODEL)
    }

    /// A build of `source` that differs from the one before in its window.
    fn build(&self, source: Source, context: u64) -> std::process::Command {
        let (file, wheel) = (self.cache().join(FILE), self.cache().join(WHEEL));
        match source {
            Source::Package => {
                let _ = fs::remove_file(file);
                let _ = fs::remove_file(&wheel);
                fs::hard_link(&self.package, wheel).unwrap();
            }
            Source::Cache | Source::Quantised if !file.exists() && !wheel.exists() => {
                fs::hard_link(&self.package, wheel).unwrap();
            }
            Source::Cache | Source::Quantised | Source::File => {}
        }
        let context = context.to_string();
        let size = ["--context", &context, "--users", "1", "--format", "json"];
        let own = self.own_file.to_str().unwrap();
        let what: &[&str] = match source {
            Source::Package | Source::Cache => &["build", MODEL],
            Source::File => &["build", "--gguf", own, "--name", MODEL],
            Source::Quantised => &["build", MODEL, "--quantise", "Q8_0"],
        };
        self.place.command(&[what, &size[..]].concat())
    }

    /// Builds twice, and says how long the second one took: like those that come
    /// after it, it need not measure the weights.
    fn time_of_another_build(&self, source: Source) -> Duration {
        let mut took = Duration::ZERO;
        for context in [512, 768] {
            let started = Instant::now();
            let ended = Ended::from(self.build(source, context).output().unwrap());
            assert_eq!(ended.code, Some(0), "{ended:?}");
            took = started.elapsed();
        }
        took
    }

    /// Where a build keeps what it makes on the way.
    fn work(&self) -> PathBuf {
        self.place.path("state/work").join(format!("{MODEL}@llama-cpp"))
    }

    /// What holds whenever a build has ended, however it did.
    fn is_in_order(&self, contexts: [u64; 2], when: &str) {
        let engines = Engines::of(&self.place.path("state"));
        assert_eq!(engines.default_id().as_deref(), Some(MODEL), "{when}");
        let id = EngineId::try_from(MODEL.to_owned()).unwrap();
        let manifest = existing::verify(&engines, &id, &Report::silent())
            .unwrap_or_else(|error| panic!("{when}: {}", error.chain()));
        assert!(contexts.contains(&manifest.serving.context.into()), "{when}: {manifest:?}");
        let building = format!(".building-{MODEL}");
        let known = [".lock", "default", ".new-link", MODEL, &building];
        is_among(engines.path(), &known, when);
        let on_the_way = [
            "finished.json",
            "finished.new",
            "quantise.log",
            "quantised",
            "quality.log",
            "quality.txt",
        ];
        if self.work().exists() {
            is_among(&self.work(), &on_the_way, when);
        }
        let part = format!("{FILE}.part");
        is_among(&self.cache(), &[".lock", FILE, WHEEL, &part], when);
    }
}

#[track_caller]
fn is_among(dir: &Path, known: &[&str], when: &str) {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    for name in names.map(|name| name.into_string().unwrap()) {
        assert!(known.contains(&name.as_str()), "{when}: {name} in {}", dir.display());
    }
}

/// Kills the build a random time after `step` has begun, or after its start.
fn kill(mut command: std::process::Command, step: Option<&str>, after: Duration) -> Option<i32> {
    let mut builder = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(builder.stdout.take().unwrap()).lines();
    if let Some(step) = step {
        let begin = format!(r#""step":"{step}""#);
        let _ = lines.by_ref().map_while(Result::ok).find(|line| line.contains(&begin));
    }
    // The random moment itself; nothing is hoped to have happened by then.
    std::thread::sleep(after);
    builder.kill().unwrap();
    builder.wait().unwrap().code()
}

#[test]
fn a_build_that_is_killed_anywhere_leaves_the_engine_that_serves_and_nothing_else() {
    let yard = Yard::new();
    let mut random = Random::new(SEED);
    let whole = yard.time_of_another_build(Source::Package);
    let started = Instant::now();
    let kills = kills(KILLS);
    let (mut killed, mut served) = (0, 768);
    for round in 1..=kills {
        let source = match random.below(3) {
            0 => Source::Package,
            1 => Source::Cache,
            _ => Source::File,
        };
        let wanted = if served == 512 { 768 } else { 512 };
        let (step, most) = match random.below(4) {
            0 => (None, whole),
            1 => (Some("fetch"), whole / 4),
            2 => (Some("build"), whole / 8),
            _ => (Some("publish"), Duration::from_millis(20)),
        };
        let after = random.up_to(most);
        let when = format!("seed {SEED:#x}, kill {round}: {source:?}, {step:?} + {after:?}");
        let code = kill(yard.build(source, wanted), step, after);
        killed += u64::from(code.is_none());
        yard.is_in_order([served, wanted], &when);
        if round % ENDS_EVERY == 0 {
            let ended = Ended::from(yard.build(source, wanted).output().unwrap());
            assert_eq!(ended.code, Some(0), "{when}: {ended:?}");
            yard.is_in_order([wanted, wanted], &when);
            assert!(!yard.place.engine(&format!(".building-{MODEL}")).exists(), "{when}");
        }
        let manifest = engine_api::manifest::Manifest::read(&yard.place.engine(MODEL)).unwrap();
        served = manifest.serving.context.into();
    }
    eprintln!(
        "{killed} of {kills} builds were killed, the others had ended, in {:?}",
        started.elapsed()
    );
    assert!(killed > kills / 2, "only {killed} builds were killed");
}

#[test]
fn a_quantising_build_that_is_killed_anywhere_ends_in_a_valid_engine_or_goes_on() {
    let yard = Yard::new();
    let mut random = Random::new(SEED);
    let whole = yard.time_of_another_build(Source::Quantised);
    let kills = kills(QUANTISING_KILLS);
    let (mut killed, mut served) = (0, 768);
    for round in 1..=kills {
        let wanted = if served == 512 { 768 } else { 512 };
        let (step, most) = match random.below(4) {
            0 => (None, whole),
            1 => (Some("quantise"), whole / 2),
            2 => (Some("verify"), whole / 4),
            _ => (Some("publish"), Duration::from_millis(20)),
        };
        let after = random.up_to(most);
        let when = format!("seed {SEED:#x}, kill {round}: {step:?} + {after:?}");
        let code = kill(yard.build(Source::Quantised, wanted), step, after);
        killed += u64::from(code.is_none());
        yard.is_in_order([served, wanted], &when);
        if round % ENDS_EVERY == 0 || round == kills {
            let ended = Ended::from(yard.build(Source::Quantised, wanted).output().unwrap());
            assert_eq!(ended.code, Some(0), "{when}: {ended:?}");
            yard.is_in_order([wanted, wanted], &when);
            assert!(!yard.work().exists(), "{when}: what was made on the way is still there");
        }
        let manifest = engine_api::manifest::Manifest::read(&yard.place.engine(MODEL)).unwrap();
        assert_eq!(manifest.model.quantisation, "Q8_0", "{when}");
        served = manifest.serving.context.into();
    }
    eprintln!("{killed} of {kills} builds were killed, the others had ended");
    assert!(killed > kills / 2, "only {killed} builds were killed");
}

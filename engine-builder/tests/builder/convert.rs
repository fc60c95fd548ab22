//! GGUF engines from a checkpoint: a stand-in for llama.cpp's converter leaves the
//! model file, and all else is real. `scripts/convert-round-trip` has the converter
//! itself do it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use engine_api::manifest::Manifest;
use engine_builder::convert::converter;
use engine_builder::flags::{self, Tool};

use crate::engine::real_weights;
use crate::place::{Ended, Place, stand_in};

const MODEL: &str = "smollm2-135m-instruct";
const SIZE: [&str; 4] = ["--context", "512", "--users", "1"];

/// Where a GGUF says what its weights are, and what F16 is called there.
const FILE_TYPE: &[u8] = b"general.file_type\x04\0\0\0";
const F16: u8 = 1;

/// The installed packages that are looked for.
const PACKAGES: [&str; 6] = [
    "torch-2.11.0",
    "transformers-4.57.6",
    "numpy-2.2.6",
    "sentencepiece-0.2.1",
    "safetensors-0.7.0",
    "PyYAML-6.0.3",
];

/// A converter is installed, and a stick with a checkpoint is mounted.
struct Yard {
    place: Place,
    converter: String,
}

impl Yard {
    fn new() -> Self {
        let place = Place::new();
        place.file("runtimes/llama.cpp/convert_hf_to_gguf.py", b"a stand-in");
        for module in ["conversion/base.py", "gguf-py/gguf/gguf_writer.py"] {
            place.file(&format!("runtimes/llama.cpp/{module}"), b"a stand-in");
        }
        for package in PACKAGES {
            place.file(&format!("{}/{package}.dist-info/METADATA", Self::SITE), b"");
        }
        fs::create_dir(place.path("runtimes/llama.cpp/bin")).unwrap();
        let python = place.path("runtimes/llama.cpp/bin/python3");
        symlink(stand_in("converter/python3"), python).unwrap();
        for name in ["config.json", "tokenizer_config.json", "tokenizer.json"] {
            place.file(&format!("stick/{name}"), b"{}");
        }
        // One tensor of one number.
        let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
        let length = (header.len() as u64).to_le_bytes();
        let weights = [&length[..], &header[..], &[0; 4]].concat();
        place.file("stick/model.safetensors", &weights);
        let converter = converter::sha256(&place.path("runtimes/llama.cpp")).unwrap();
        Self { place, converter: converter.as_str().to_owned() }
    }

    const SITE: &str = "runtimes/llama.cpp/lib/python3.11/site-packages";

    /// What the stand-in leaves: the model's own file, which says that it is of 16 bits.
    fn gguf(&self) -> PathBuf {
        let path = self.place.path("made.gguf");
        if !path.exists() {
            let mut bytes = fs::read(real_weights()).unwrap();
            let at = bytes.windows(FILE_TYPE.len()).position(|window| window == FILE_TYPE);
            bytes[at.unwrap() + FILE_TYPE.len()] = F16;
            fs::write(&path, bytes).unwrap();
        }
        path
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = self.place.command(&[&["build", MODEL], &SIZE[..], more].concat());
        command
            .arg("--from")
            .arg(self.place.path("stick"))
            .env("STOKER_RUNTIMES_DIR", self.place.path("runtimes"))
            .env("STOKER_CONVERTER_SHA256", &self.converter)
            .env("STAND_IN_GGUF", self.gguf())
            .env("NO_LOCAL_GGUF", "1");
        command
    }

    fn build(&self, more: &[&str]) -> Ended {
        Ended::from(self.command(more).output().unwrap())
    }

    fn failing(&self, says: &str, ends: &str) -> Command {
        let mut command = self.command(&[]);
        command.env("STAND_IN_SAYS", says).env("STAND_IN_ENDS", ends);
        command
    }

    fn work(&self) -> PathBuf {
        self.place.path("state/work").join(format!("{MODEL}@llama-cpp"))
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.work().join(name)).unwrap()
    }

    /// How often the converter was started.
    fn ran(&self) -> usize {
        fs::read_to_string(self.place.path("state/ran")).unwrap_or_default().lines().count()
    }

    fn manifest(&self) -> Manifest {
        Manifest::read(&self.place.engine(MODEL)).unwrap()
    }
}

/// Nothing else is on the stick, so nobody has to ask for it.
#[test]
fn a_checkpoint_is_converted_quantised_proved_published_and_not_built_again() {
    let yard = Yard::new();
    let built = yard.build(&["--quantise", "Q8_0", "--format", "json"]);
    assert_eq!(built.code, Some(0), "{built:?}");
    for part in [
        r#""event":"begin","step":"convert","text":"the checkpoint to a GGUF of 16 bits""#,
        r#""event":"end","step":"convert""#,
        r#""event":"begin","step":"quantise","text":"F16 to Q8_0""#,
    ] {
        assert!(built.stdout.contains(part), "{part:?} is not in {}", built.stdout);
    }
    let manifest = yard.manifest();
    assert_eq!(manifest.model.quantisation, "Q8_0");
    let quantised = manifest.quantised.unwrap();
    assert_eq!(quantised.from, "checkpoint");
    assert!(manifest.smoke.is_some() && manifest.quality.is_some());
    let [convert, quantise] = &manifest.commands[..] else { panic!("{:?}", manifest.commands) };
    flags::check(Tool::ConvertHfToGguf, convert).unwrap();
    flags::check(Tool::EngineWorker, quantise).unwrap();
    assert!(!yard.work().exists(), "what was made on the way takes room");

    let listed = yard.place.run(&["list"]).stdout;
    assert!(listed.contains("Q8_0 from checkpoint, "), "{listed}");
    let again = yard.build(&["--quantise", "Q8_0"]);
    assert!(again.stdout.contains("is already built"), "{again:?}");
    assert_eq!(yard.ran(), 1);
    // What it is made of may not change behind a pinned name.
    yard.place.file("stick/config.json", b"{\"a\": 1}");
    fs::remove_dir_all(yard.place.path("cache")).unwrap();
    let other = yard.build(&[]);
    other.failed(6, &["config.json", "the first fetch found"]);
}

#[test]
fn the_converter_is_looked_at_before_anything_is_fetched() {
    let yard = Yard::new();
    let torch = yard.place.path(Yard::SITE).join("torch-2.11.0.dist-info");
    fs::remove_dir_all(torch).unwrap();
    yard.place.file(&format!("{}/numpy-1.26.1.dist-info/METADATA", Yard::SITE), b"");
    fs::remove_dir_all(yard.place.path(Yard::SITE).join("numpy-2.2.6.dist-info")).unwrap();
    yard.place.file("runtimes/llama.cpp/conversion/llama.py", b"another release");
    yard.build(&[]).failed(
        9,
        &[
            "llama.cpp's converter cannot make a GGUF of a checkpoint here",
            "another release than the one that was tried",
            "torch is missing in the runtime's Python: install 2.11.0",
            "numpy is 1.26.1 in the runtime's Python: install 2.2.6",
            "install it with scripts/converter",
        ],
    );
    assert!(!yard.place.path("cache").exists() && yard.ran() == 0);
    fs::remove_dir_all(yard.place.path("runtimes")).unwrap();
    yard.build(&[]).failed(9, &["bin/python3 is not there", "convert_hf_to_gguf.py is not there"]);
}

#[test]
fn what_the_converter_fails_with_has_its_sentence_and_the_log_stays() {
    let yard = Yard::new();
    for (says, ends, code, sentence) in [
        ("ERROR:hf-to-gguf:Model XForCausalLM is not supported", "1", 15, "does not know this"),
        ("NotImplementedError: BPE pre-tokenizer was not recognized", "1", 15, "cuts text"),
        ("ValueError: Can not map tensor 'model.x.weight'", "1", 15, "fetch or bring it again"),
        ("safetensors_rust.SafetensorError: InvalidHeader", "1", 15, "fetch or bring it again"),
        ("ModuleNotFoundError: No module named 'torch'", "1", 15, "a Python module is missing"),
        ("convert_hf_to_gguf.py: error: unrecognized arguments: --x", "2", 15, "another release"),
        ("OSError: [Errno 28] No space left on device", "1", 4, "the disk is full"),
        ("MemoryError", "1", 4, "memory ran out"),
        ("loading", "killed", 4, "memory ran out"),
        ("what nobody has seen", "3", 15, "nothing known explains it"),
    ] {
        let ended = Ended::from(yard.failing(says, ends).output().unwrap());
        ended.failed(code, &["convert: ended with", sentence, says, "convert.log"]);
    }
    let argv: Vec<String> = yard.said("convert.argv").lines().map(str::to_owned).collect();
    flags::check(Tool::ConvertHfToGguf, &argv).unwrap();
    let env = "HF_HUB_OFFLINE=1\nPYTHONNOUSERSITE=1\nTRANSFORMERS_OFFLINE=1\n";
    assert_eq!(yard.said("convert.env"), env, "it asks nobody and takes its own modules");
    assert_eq!(yard.place.engines(), [] as [&str; 0]);
}

#[test]
fn a_converter_that_leaves_another_model_or_half_of_one_is_not_believed() {
    let yard = Yard::new();
    let leaves =
        |path: PathBuf| Ended::from(yard.command(&[]).env("STAND_IN_GGUF", path).output().unwrap());
    leaves(real_weights()).failed(6, &["converted/weights.gguf is not what", "it is llama Q4_1"]);
    let half = fs::read(yard.gguf()).unwrap();
    let half = yard.place.file("half.gguf", &half[..half.len() / 2]);
    leaves(half).failed(6, &["converted/weights.gguf"]);
    leaves(PathBuf::from("/nowhere")).failed(15, &["convert: ended with"]);
    assert_eq!(yard.ran(), 3, "none of it is taken up again");
}

#[test]
fn a_build_that_is_cut_short_begins_half_a_file_anew_and_goes_on_after_a_whole_one() {
    let yard = Yard::new();
    let mut command = yard.failing("", "waits");
    let mut builder = command.args(["--format", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let child = yard.place.waiting(&mut builder);
    builder.kill().unwrap();
    builder.wait().unwrap();
    assert_eq!(yard.work().join("converted/weights.gguf").metadata().unwrap().len(), 65536);
    // The next one ends what the last one left, and converts; its quantiser dies.
    let dying = stand_in("dying-worker");
    let ended = yard.build(&["--worker", dying.to_str().unwrap()]);
    ended.failed(15, &["quantise: ended with"]);
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(!stat.contains("(sleep) S"), "{stat}");
    assert_eq!(yard.ran(), 2);
    let ended = yard.build(&["--worker", dying.to_str().unwrap()]);
    ended.failed(15, &["quantise: ended with"]);
    assert!(ended.stderr.contains("already converted"), "{ended:?}");
    assert_eq!(yard.ran(), 2);
}

#[test]
fn a_plan_says_how_a_checkpoint_becomes_an_engine() {
    let place = Place::new();
    let asked = ["plan", MODEL, "--board", "orin-nano-8gb", "--form", "checkpoint"];
    let planned = place.run(&asked);
    assert_eq!(planned.code, Some(0), "{planned:?}");
    for part in [
        "Q4_K_M is made from the makers' checkpoint",
        "llama.cpp's converter in /opt/stoker/llama.cpp",
        "bin/python3 /opt/stoker/llama.cpp/convert_hf_to_gguf.py",
        "engine-worker quantise",
    ] {
        assert!(planned.stdout.contains(part), "{part:?} is not in {}", planned.stdout);
    }
    let asked = ["plan", MODEL, "--board", "orin-nano-8gb", "--form", "awq"];
    place.run(&asked).failed(2, &["is not published as awq, only as package, checkpoint"]);
}

//! From a model to an answer with TensorRT-LLM's stand-ins: their tools build, a
//! worker with the stand-in of the Executor proves it, and a server answers from
//! what was published. Nothing of it has met TensorRT-LLM itself.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

#[path = "../../engine-builder/tests/builder/yard.rs"]
mod yard;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use engine_api::manifest::{ArtefactRole, BackendKind, Manifest};
use serde_json::{Value, json};
use tests::appliance::Setup;
use tests::engine::Engine;
use tests::process::program;
use yard::MODEL;

/// What the build of [`MODEL`] makes.
const ENGINE: &str = "qwen2.5-coder-0.5b-instruct-tensorrt-llm";

/// The form of the weights that the plan takes.
const CHECKPOINT: &str = "cache/stoker/models/qwen2.5-coder-0.5b-instruct/gptq";

/// A staged board whose model speaks as the stand-in of the Executor does.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tool = sources.join("../engine-builder/tests/builder/stand-in/runtime/tool");
        yard::stage(site.dir.path(), &tool.canonicalize().unwrap());
        let stand_in = sources.join("tensorrt-llm-stand-in/engine");
        let read = |name| fs::read_to_string(stand_in.join(name)).unwrap();
        // The catalogue's names for the tokens around a hole.
        let mut tokeniser = read("tokenizer.json");
        for word in ["prefix", "suffix", "middle"] {
            tokeniser = tokeniser.replace(&format!("<|{word}|>"), &format!("<|fim_{word}|>"));
        }
        site.put("tokenizer.json", &tokeniser);
        site.put("generation_config.json", r#"{"eos_token_id": [256]}"#);
        site.speak(&read("chat_template.jinja"));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of the checkpoint, fetched an hour ago.
    fn put(&self, name: &str, text: &str) {
        let path = self.path(CHECKPOINT).join(name);
        fs::write(&path, text).unwrap();
        let earlier = SystemTime::now() - Duration::from_secs(3600);
        for name in [name, "config.json"] {
            let file = File::options().append(true).open(path.with_file_name(name)).unwrap();
            file.set_modified(earlier).unwrap();
        }
    }

    /// Writes the checkpoint's chat template.
    fn speak(&self, template: &str) {
        let settings =
            json!({"bos_token": null, "eos_token": "<|end|>", "chat_template": template});
        self.put("tokenizer_config.json", &settings.to_string());
    }

    fn builder(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("engine-builder"));
        command.args(arguments).stdin(Stdio::null());
        for (variable, dir) in [
            ("STOKER_STATE_DIR", "state"),
            ("STOKER_MODELS_DIR", "models.d"),
            ("STOKER_RUNTIMES_DIR", "runtimes"),
            ("XDG_CACHE_HOME", "cache"),
        ] {
            command.env(variable, self.path(dir));
        }
        command
    }

    fn build(&self, worker: &str) -> Command {
        let mut command = self.builder(&["build", MODEL, "--backend", "tensorrt-llm"]);
        command.arg("--root").arg(self.path("root")).arg("--worker").arg(program(worker));
        command
    }

    fn built(&self) -> String {
        good(self.build("engine-worker-on-stand-in").output().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> String {
        good(self.builder(arguments).output().unwrap())
    }

    /// How many tools were started so far.
    fn tools(&self) -> usize {
        fs::read_to_string(self.path("state/ran")).unwrap_or_default().lines().count()
    }

    fn rebuild(&self, worker: &Path) -> Output {
        let mut command = self.builder(&["rebuild"]);
        command.arg("--root").arg(self.path("root")).arg("--worker").arg(worker).output().unwrap()
    }

    /// Puts another Jetson Linux on the board.
    fn upgrade(&self, major: u32, revision: &str) {
        let text = format!("# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic\n");
        fs::write(self.path("root/etc/nv_tegra_release"), text).unwrap();
    }

    fn manifest(&self) -> Manifest {
        Manifest::read(&self.engine()).unwrap()
    }

    fn engine(&self) -> PathBuf {
        self.path("state/engines").join(ENGINE)
    }
}

#[track_caller]
fn good(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(output: Output, code: i32, said: &str) {
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(said), "{text}");
}

#[test]
fn what_the_tools_build_is_proved_published_used_and_answers() {
    let site = Site::new();
    let said = "cannot run tensorrt-llm engines, so none can be proved";
    refused(site.build("engine-worker").output().unwrap(), 9, said);
    assert_eq!(site.tools(), 0, "nothing is built that could not be published");

    let built = site.built();
    assert!(built.starts_with(&format!("{ENGINE} is built: ")), "{built}");
    assert_eq!(site.tools(), 2);
    assert!(!site.path("state/work").join(MODEL).exists(), "nothing takes the disk twice");
    described(&Manifest::read(&site.engine()).unwrap());

    let again = site.built();
    assert!(again.starts_with(&format!("{ENGINE} is already built: ")), "{again}");
    assert_eq!(site.tools(), 2);
    let worker = program("engine-worker-on-stand-in");
    let smoke = ["verify", ENGINE, "--smoke", "--worker", worker.to_str().unwrap()];
    let verified = site.run(&smoke);
    assert!(verified.contains("answers as when it was built"), "{verified}");
    let listed = site.run(&["list"]);
    let line = listed.lines().find(|line| line.contains(ENGINE)).unwrap();
    assert!(line.contains("for nvidia,p3701-0005 L4T 36.4.3 CUDA 12.6.68 TensorRT 10.3"), "{line}");
    assert!(line.ends_with("(default)"), "{line}");

    served(&site, "before and after");
}

/// What the manifest says of the engine.
fn described(manifest: &Manifest) {
    assert_eq!((manifest.id.as_str(), manifest.backend.kind), (ENGINE, BackendKind::TensorrtLlm));
    let files: Vec<_> =
        manifest.files.iter().map(|file| (file.path.to_str().unwrap(), file.role)).collect();
    assert_eq!(
        files,
        [
            ("config.json", ArtefactRole::Other),
            ("rank0.engine", ArtefactRole::Weights),
            ("tokenizer.json", ArtefactRole::Tokenizer),
            ("chat_template.jinja", ArtefactRole::ChatTemplate),
        ]
    );
    let tokens = &manifest.backend.tensorrt_llm.as_ref().unwrap().tokens;
    assert_eq!((tokens.ends.as_slice(), &tokens.beginning), (&["<|end|>".to_owned()][..], &None));
    let bound = &manifest.bound_to;
    let bound = [&bound.board, &bound.l4t, &bound.cuda].map(|what| what.as_deref().unwrap());
    assert_eq!(bound, ["nvidia,p3701-0005", "36.4.3", "12.6.68"]);
    assert!(manifest.capabilities.chat && manifest.capabilities.fim);
    assert!(manifest.smoke.is_some());
    assert_eq!(manifest.commands.len(), 2);
}

/// Starts a server on the site's engines and has it repeat `text`.
fn served(site: &Site, text: &str) {
    let setup = Setup::new(&Engine::Absent).state_dir(&site.path("state"));
    let appliance = setup.listen();
    let status = appliance
        .status_when("the engine is ready", |status| status["engine"]["state"]["name"] == "ready");
    assert_eq!(status["engine"]["backend"], "tensorrt-llm");
    // The model's own name serves as well as the engine's.
    for model in [ENGINE, MODEL] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
        let answer: Value = appliance.post("/v1/chat/completions", &body).good();
        assert_eq!(answer["choices"][0]["message"]["content"], text, "{answer}");
    }
}

#[test]
fn an_engine_that_does_not_prove_itself_is_not_published_and_can_be_mended() {
    let site = Site::new();
    site.speak("{{ raise_exception('no chat today') }}");
    let build = || site.build("engine-worker-on-stand-in").output().unwrap();
    refused(build(), 7, "the catalogue promises chat, the worker does not offer it");
    assert!(!site.engine().exists());
    assert_eq!(site.run(&["list"]).matches("engine  ").count(), 0);
    // What the tools made is still there: a better worker would publish it.
    refused(build(), 7, "no chat today");
    assert_eq!(site.tools(), 2);

    site.speak("{% for m in messages %}<|begin|>{{ m.content }}{% endfor %}<|answer|>");
    assert!(site.built().contains("is built: "));
    served(&site, "mended");
}

/// The worker with the stand-in, for its first starts.
const WORKER: &str = "#!/bin/sh
echo start >> \"$0.starts\"
if [ \"$(wc -l < \"$0.starts\")\" -gt GOOD ]; then echo no such device >&2; exit 3; fi
exec WORKER \"$@\"
";

/// A worker that dies at each start after the first `good` ones.
fn worker(site: &Site, good: u32) -> PathBuf {
    let path = site.path(&format!("worker-{good}"));
    let real = program("engine-worker-on-stand-in");
    let script = WORKER.replace("GOOD", &good.to_string());
    fs::write(&path, script.replace("WORKER", real.to_str().unwrap())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_stale_engine_is_built_again_for_the_new_release_and_comes_back_if_it_fails() {
    let site = Site::new();
    site.built();
    let before = site.manifest();
    let real = program("engine-worker-on-stand-in");
    let nothing = good(site.rebuild(&real));
    assert!(nothing.starts_with("no engine is stale"), "{nothing}");
    site.upgrade(36, "5.0");

    // Asked what it can run, then proved, then proved once more in its place.
    refused(site.rebuild(&worker(&site, 2)), 17, "failed where it serves, and the one before");
    assert_eq!((site.manifest(), site.tools()), (before.clone(), 4));
    site.run(&["verify", ENGINE]);

    // What the tools made is still there.
    let again = good(site.rebuild(&real));
    assert!(again.starts_with(&format!("built again: {ENGINE}")), "{again}");
    assert_eq!(site.tools(), 4);
    let after = site.manifest();
    assert_eq!(after.bound_to.l4t.as_deref(), Some("36.5.0"));
    assert_eq!((&after.serving, &after.model), (&before.serving, &before.model));
    assert!(!site.path("state/work").join(MODEL).exists());
    site.run(&["verify", ENGINE]);

    // Where the release has nothing that can build it, it stays as it is.
    site.upgrade(39, "2.0");
    refused(site.rebuild(&real), 9, "0.12.0-jetson is built for CUDA 12.6");
    assert_eq!((site.manifest(), site.tools()), (after, 4));
}

/// The same moments each time, as far as a machine has the same moments.
#[test]
fn builders_killed_at_any_moment_leave_an_engine_or_what_the_next_one_goes_on_from() {
    let site = Site::new();
    let mut published = false;
    for kill in 0..16_u64 {
        let mut builder = site.build("engine-worker-on-stand-in");
        let mut builder = builder.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(kill * 7919 % 400));
        builder.kill().unwrap();
        builder.wait().unwrap();
        assert!(!published || site.engine().exists(), "it was there before");
        published = site.engine().exists();
        if published {
            site.run(&["verify", ENGINE]);
        }
    }
    site.built();
    site.run(&["verify", ENGINE]);
    assert!(!site.path("state/work").join(MODEL).exists());
}

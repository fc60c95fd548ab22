//! Builds with the tools of TensorRT-LLM and Edge-LLM, for which stand-ins run
//! that build nothing, on a staged board.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use engine_builder::flags::{self, Tool};

use crate::engine::put_all;
use crate::place::{Ended, Place, stand_in};
use crate::yard::{self, MODEL};

/// A staged board and a model that was fetched.
pub(crate) struct Yard {
    pub(crate) place: Place,
}

impl Yard {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        yard::stage(place.dir.path(), &stand_in("runtime/tool"));
        Self { place }
    }

    pub(crate) fn command(&self, backend: &str) -> Command {
        let mut command =
            self.place.command(&["build", MODEL, "--backend", backend, "--format", "json"]);
        command.arg("--root").arg(self.place.path("root"));
        command.env("STOKER_RUNTIMES_DIR", self.place.path("runtimes"));
        command
    }

    /// A build that ends with the last tool: the worker of these tests was built
    /// without TensorRT-LLM.
    pub(crate) fn unproved(&self) -> Command {
        let mut command = self.command("tensorrt-llm");
        command.arg("--unproved");
        command
    }

    fn build(&self) -> Ended {
        Ended::from(self.unproved().output().unwrap())
    }

    fn failing(&self, step: &str, says: &str, ends: &str) -> Command {
        let mut command = self.unproved();
        command.env("STAND_IN_FAIL", step).env("STAND_IN_SAYS", says).env("STAND_IN_ENDS", ends);
        command
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.place.path("state/work").join(MODEL)
    }

    /// The steps whose tools were started, in order.
    pub(crate) fn ran(&self) -> String {
        let ran = fs::read_to_string(self.place.path("state/ran")).unwrap_or_default();
        ran.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn understood(&self, step: &str, tool: Tool) {
        let said = fs::read_to_string(self.work().join(format!("{step}.argv"))).unwrap();
        let argv: Vec<String> = said.lines().map(str::to_owned).collect();
        flags::check(tool, &argv).unwrap_or_else(|fault| panic!("{step}: {fault}"));
    }
}

#[track_caller]
fn finished(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result: serde_json::Value =
        serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&result["event"], &result["built"]), (&"result".into(), &true.into()));
}

#[test]
fn all_steps_run_and_an_engine_that_is_not_to_be_proved_is_not_published() {
    let yard = Yard::new();
    finished(&yard.build());
    assert_eq!(yard.ran(), "convert build");
    yard.understood("convert", Tool::ConvertQwen);
    yard.understood("build", Tool::TrtllmBuild);
    assert!(yard.work().join("engine/rank0.engine").is_file());
    assert!(!yard.work().join("checkpoint").exists(), "it is no longer needed");
    assert_eq!(yard.place.engines(), [] as [&str; 0]);
    finished(&yard.build());
    assert_eq!(yard.ran(), "convert build", "what is finished is not done again");
}

/// It would be known only after hours of work.
#[test]
fn without_a_worker_that_can_prove_the_engine_no_tool_runs() {
    let yard = Yard::new();
    for backend in ["tensorrt-llm", "tensorrt-edge-llm"] {
        let said = format!("cannot run {backend} engines, so none can be proved");
        let ended = Ended::from(yard.command(backend).output().unwrap());
        ended.failed(9, &["would not be published: ", "engine-worker", &said, "--unproved"]);
    }
    let mut lost = yard.command("tensorrt-llm");
    let lost = Ended::from(lost.args(["--worker", "/nowhere/worker"]).output().unwrap());
    lost.failed(2, &["there is no engine-worker at /nowhere/worker"]);
    let mut dying = yard.command("tensorrt-llm");
    let dying = Ended::from(dying.arg("--worker").arg(stand_in("dying-worker")).output().unwrap());
    dying.failed(7, &["ask ", "what it can run: the worker died", "cannot allocate everything"]);
    assert_eq!(yard.ran(), "");
}

#[test]
fn edge_llm_has_its_own_tools() {
    let yard = Yard::new();
    let mut command = yard.command("tensorrt-edge-llm");
    finished(&Ended::from(command.arg("--unproved").output().unwrap()));
    assert_eq!(yard.ran(), "export build");
    yard.understood("export", Tool::EdgellmExport);
    yard.understood("build", Tool::EdgellmLlmBuild);
}

/// The ways in which people have reported these tools to fail.
#[test]
fn each_reported_failure_has_its_sentence_and_the_older_engine_stays() {
    let yard = Yard::new();
    put_all(&yard.place, &["older"]);
    let before = fs::read(yard.place.engine("older").join("engine.toml")).unwrap();
    for (says, ends, code, sentence) in [
        ("loading weights", "killed", 4, "memory ran out"),
        ("CUDA out of memory. Tried to allocate", "1", 4, "the GPU's memory"),
        ("OSError: [Errno 28] No space left on device", "1", 4, "the disk is full"),
        ("NvMapMemAllocInternalTagged: 1075072515 error 12", "1", 4, "36.4.7 refuses"),
        ("Could not find any implementation for node {x}", "1", 4, "found no kernel that fits"),
        ("no kernel image is available for execution on the device", "1", 15, "sm_87"),
        ("getPluginCreator could not find plugin: GPTAttention", "1", 15, "plugin was not found"),
        ("ImportError: cannot import name 'a' from 'transformers'", "1", 15, "4.38.2 to 4.42.4"),
        ("fmha_v2 module not found for sm_87", "1", 15, "lacks attention kernels"),
        ("TensorRT does not currently build wheels for Tegra systems", "1", 15, "with JetPack"),
        ("version https://git-lfs.github.com/spec/v1", "1", 15, "Git LFS pointer"),
        ("trtllm-build: error: unrecognized arguments: --x", "2", 15, "another release"),
        ("what nobody has seen", "3", 15, "nothing known explains it"),
    ] {
        let ended = Ended::from(yard.failing("build", says, ends).output().unwrap());
        ended.failed(code, &["build: ended with", sentence, says, "build.log"]);
    }
    let builds = yard.ran().split(' ').filter(|step| *step == "build").count();
    assert_eq!(yard.ran(), format!("convert{}", " build".repeat(builds)), "convert ran once");
    assert_eq!(fs::read(yard.place.engine("older").join("engine.toml")).unwrap(), before);
}

#[test]
fn what_the_tools_need_is_looked_at_before_they_run() {
    let yard = Yard::new();
    let packages = "runtimes/tensorrt-llm-0.12.0/lib/python3.10/site-packages";
    yard.place.file(&format!("{packages}/pynvml.py"), b"");
    fs::remove_dir_all(yard.place.path(&format!("{packages}/mpi4py-4.0.0.dist-info"))).unwrap();
    yard.place.file("root/proc/sys/kernel/osrelease", b"6.8.0-generic\n");
    let ended = yard.build();
    ended.failed(9, &["pynvml is installed", "mpi4py is missing", "6.8.0-generic"]);
    assert_eq!(yard.ran(), "");
    fs::remove_file(yard.place.path("runtimes/tensorrt-llm-0.12.0/bin/trtllm-build")).unwrap();
    yard.build().failed(9, &["bin/trtllm-build is not there: install tensorrt-llm"]);
}

#[test]
fn a_model_that_is_not_there_is_asked_for() {
    let yard = Yard::new();
    fs::remove_dir_all(yard.place.path("cache")).unwrap();
    yard.build().failed(9, &["the model is not there, bring it: ", "into "]);
}

#[test]
fn a_builder_that_is_killed_goes_on_where_it_was_and_leaves_no_tool_running() {
    let yard = Yard::new();
    for step in ["convert", "build"] {
        let mut builder = yard.failing(step, "", "waits").stdout(Stdio::piped()).spawn().unwrap();
        let child = yard.place.waiting(&mut builder);
        let other = yard.build();
        other.failed(8, &["another engine-builder", "is at work"]);
        builder.kill().unwrap();
        builder.wait().unwrap();
        fs::remove_file(yard.place.path("state/waiting")).unwrap();
        let stat = || fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        assert!(stat().contains("(sleep) S"), "the tool outlived its builder: {}", stat());
        if step == "convert" {
            // The next one is killed as well; it must begin the step again.
            continue;
        }
        finished(&yard.build());
        assert!(!stat().contains("(sleep) S"), "the next build ended it");
    }
    assert_eq!(yard.ran(), "convert convert build build");
}

#[test]
fn a_finished_step_whose_output_lost_a_byte_is_done_again() {
    let yard = Yard::new();
    let failed = Ended::from(yard.failing("build", "x", "1").output().unwrap());
    failed.failed(15, &["build: ended with"]);
    let weights = yard.work().join("checkpoint/rank0.safetensors");
    fs::write(&weights, "stand").unwrap();
    finished(&yard.build());
    assert_eq!(yard.ran(), "convert build convert build");
}

/// The same moments each time, as far as a machine has the same moments.
#[test]
fn builders_killed_at_any_moment_leave_what_the_next_one_can_go_on_from() {
    let yard = Yard::new();
    for kill in 0..24_u64 {
        let mut builder = yard.unproved().stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(kill * 7919 % 60 * 1000));
        builder.kill().unwrap();
        builder.wait().unwrap();
        assert_eq!(yard.place.engines(), [] as [&str; 0]);
    }
    finished(&yard.build());
    let engine = fs::read_to_string(yard.work().join("engine/rank0.engine")).unwrap();
    assert_eq!(engine, "stand-in\n");
    assert!(!yard.work().join("checkpoint").exists());
}

/// What `gc` or `doctor` say of the work, and whether a step's output is there.
fn cleared(yard: &Yard, arguments: &[&str], output: &str) -> (String, bool) {
    let ended = yard.place.run(arguments);
    (ended.stdout, yard.work().join(output).exists())
}

#[test]
fn gc_keeps_what_the_next_build_goes_on_from_and_removes_half_of_an_output() {
    let yard = Yard::new();
    put_all(&yard.place, &["older"]);
    let failed = Ended::from(yard.failing("build", "x", "1").output().unwrap());
    failed.failed(15, &["build: ended with"]);
    let (said, there) = cleared(&yard, &["doctor"], "engine");
    assert!(there && said.contains("begins anew [idle_work]"), "{said}");
    let (said, there) = cleared(&yard, &["gc", "--dry-run"], "engine");
    assert!(there && said.contains("engine would be removed, "), "{said}");
    let (said, there) = cleared(&yard, &["gc"], "engine");
    assert!(!there && said.contains("engine removed, "), "{said}");
    let (said, there) = cleared(&yard, &["gc"], "checkpoint");
    assert!(there && said.contains("goes on after what is finished: convert"), "{said}");
    finished(&yard.build());
    assert_eq!(yard.ran(), "convert build build");
}

#[test]
fn gc_touches_nothing_that_is_being_built_and_no_tool_without_a_builder() {
    let yard = Yard::new();
    put_all(&yard.place, &["older"]);
    let mut builder = yard.failing("build", "", "waits").stdout(Stdio::piped()).spawn().unwrap();
    yard.place.waiting(&mut builder);
    yard.place.run(&["gc"]).failed(8, &["is at work"]);
    let (said, _) = cleared(&yard, &["gc", "--dry-run"], "engine");
    assert!(said.contains("stays: a builder is at work"), "{said}");
    builder.kill().unwrap();
    builder.wait().unwrap();
    let (said, there) = cleared(&yard, &["gc"], "engine");
    assert!(there && said.contains("stays: a tool still works in it (process "), "{said}");
    // The next build ends the tool.
    finished(&yard.build());
}

#[test]
fn gc_removes_work_that_nobody_has_gone_on_with_for_a_month() {
    let yard = Yard::new();
    put_all(&yard.place, &["older"]);
    finished(&yard.build());
    let (said, there) = cleared(&yard, &["gc"], "engine");
    assert!(there && said.contains("what is finished: build"), "{said}");
    let old = Command::new("find")
        .arg(yard.work())
        .args(["-depth", "-exec", "touch", "-d", "40 days ago", "{}", ";"])
        .status();
    assert!(old.unwrap().success());
    let (said, _) = cleared(&yard, &["gc"], "engine");
    assert!(!yard.work().exists() && said.contains("for 40 days"), "{said}");
}

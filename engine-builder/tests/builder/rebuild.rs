//! Stale engines are built again from their own weights, and one that fails
//! where it serves gives its name back.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use engine_api::manifest::{BackendKind, BoundTo, Manifest};

use crate::engine::{manifest, put, real_weights};
use crate::foreign::Yard;
use crate::place::{Ended, Place};
use crate::yard;

/// The real worker, for its first starts.
const WORKER: &str = "#!/bin/sh
echo start >> \"$0.starts\"
if [ \"$(wc -l < \"$0.starts\")\" -gt GOOD ]; then echo no such device >&2; exit 3; fi
exec WORKER \"$@\"
";

/// The engine `mine`, as an older release has left it.
fn stale() -> Place {
    let place = Place::new();
    let weights = real_weights();
    let size = ["--context", "512", "--users", "1"];
    let what = ["build", "--name", "mine", "--gguf", weights.to_str().unwrap()];
    assert_eq!(place.run(&[&what[..], &size].concat()).code, Some(0));
    change(&place, |manifest| manifest.backend.version = "llama-cpp-2 0.0.1".into());
    place
}

fn change(place: &Place, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = read(place);
    change(&mut manifest);
    let path = place.engine("mine").join("engine.toml");
    fs::write(path, toml::to_string(&manifest).unwrap()).unwrap();
}

fn read(place: &Place) -> Manifest {
    Manifest::read(&place.engine("mine")).unwrap()
}

/// A worker that dies at each start after the first `good` ones.
fn worker(place: &Place, good: u32) -> PathBuf {
    let real = Path::new(env!("CARGO_BIN_EXE_engine-builder")).with_file_name("engine-worker");
    let script = WORKER.replace("GOOD", &good.to_string());
    let script = script.replace("WORKER", real.to_str().unwrap());
    let path = place.file(&format!("worker-{good}"), script.as_bytes());
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

fn inode(place: &Place) -> u64 {
    place.engine("mine").join("weights.gguf").metadata().unwrap().ino()
}

#[test]
fn a_stale_engine_is_built_again_from_its_own_weights() {
    let place = stale();
    let (before, weights) = (read(&place), inode(&place));
    let dry = place.run(&["rebuild", "--dry-run"]);
    assert!(
        dry.stdout.contains("mine would be built again: llama.cpp llama-cpp-2 0.0.1"),
        "{dry:?}"
    );
    assert_eq!(read(&place), before);
    let ended = place.run(&["rebuild"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("built again: mine"), "{ended:?}");
    let after = read(&place);
    assert_ne!(after.backend.version, before.backend.version);
    assert_eq!((&after.model, &after.serving), (&before.model, &before.serving));
    assert_eq!(after.files, before.files);
    assert_eq!(inode(&place), weights, "the weights take the disk once");
    let work = place.path("state/work");
    assert!(!work.exists() || fs::read_dir(work).unwrap().next().is_none());
    assert_eq!(place.run(&["verify", "mine", "--smoke"]).code, Some(0));
    let again = place.run(&["rebuild"]);
    assert!(again.stdout.starts_with("no engine is stale"), "{again:?}");
}

#[test]
fn an_engine_that_fails_where_it_serves_gives_its_name_back() {
    let place = stale();
    let before = read(&place);
    let failing = worker(&place, 1);
    let ended = place.run(&["rebuild", "--worker", failing.to_str().unwrap()]);
    let says = ["the new engine mine failed where it serves", "is back", "no such device"];
    ended.failed(17, &says);
    assert_eq!(read(&place), before);
    assert_eq!(place.run(&["verify", "mine"]).code, Some(0));
    assert!(!place.engine(".building-mine").exists() && !place.engine(".replaced-mine").exists());
    let notice = fs::read_to_string(place.path("state/build.toml")).unwrap();
    assert!(notice.contains("how = \"failed\"") && notice.contains("no such device"), "{notice}");
    // One that fails before it has the name never gets it.
    let failing = worker(&place, 0);
    let ended = place.run(&["rebuild", "--worker", failing.to_str().unwrap()]);
    ended.failed(7, &["no such device"]);
    assert_eq!(read(&place), before);
}

#[test]
fn damaged_weights_and_other_backends_are_named_and_left() {
    let place = stale();
    change(&place, |manifest| manifest.files[0].sha256 = "0".repeat(64));
    place.run(&["rebuild"]).failed(6, &["engine mine is damaged", "has the sha256"]);
    let bound_to = BoundTo { l4t: Some("36.4.3".into()), ..BoundTo::default() };
    let mut other = Manifest { bound_to, ..manifest("other", b"x", 1) };
    other.backend.kind = BackendKind::Echo;
    put(&place, &other, b"x");
    let place_of_board = place.file(
        "root/etc/nv_tegra_release",
        b"# R36 (release), REVISION: 5.0, GCID: 1, BOARD: generic, EABI: aarch64\n",
    );
    let root = place_of_board.parent().unwrap().parent().unwrap();
    let ended = place.run(&["rebuild", "other", "--root", root.to_str().unwrap()]);
    ended.failed(9, &["other cannot be built again by itself"]);
    place.run(&["rebuild", "nothing"]).failed(3, &["there is no engine \"nothing\""]);
}

/// What comes after the worker is asked is tested where one is that has the stand-in
/// of the runtime: `tests/tests/tensorrt_llm_build.rs`.
#[test]
fn an_engine_of_tensorrt_stays_where_nothing_can_build_it_again() {
    let yard = Yard::new();
    let id = format!("{}-tensorrt-llm", yard::MODEL);
    let bound_to = BoundTo { l4t: Some("36.3.0".into()), ..BoundTo::default() };
    let mut stale = Manifest { bound_to, ..manifest(&id, b"x", 1) };
    stale.backend.kind = BackendKind::TensorrtLlm;
    stale.model.name = "Qwen2.5-Coder 0.5B Instruct".into();
    put(&yard.place, &stale, b"x");
    let rebuild = || {
        let mut command = yard.place.command(&["rebuild"]);
        command.arg("--root").arg(yard.place.path("root"));
        command.env("STOKER_RUNTIMES_DIR", yard.place.path("runtimes"));
        Ended::from(command.output().unwrap())
    };
    rebuild().failed(9, &["cannot run tensorrt-llm engines, so none can be proved"]);
    let release = b"# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic\n";
    yard.place.file("root/etc/nv_tegra_release", release);
    rebuild().failed(9, &["has no plan on agx-orin-64gb", "built for CUDA 12.6"]);
    stale.model.name = "somebody's own".into();
    put(&yard.place, &stale, b"x");
    rebuild().failed(9, &["cannot be built again by itself", "somebody's own"]);
    assert_eq!(Manifest::read(&yard.place.engine(&id)).unwrap(), stale);
    assert_eq!(yard.ran(), "", "no tool runs for hours before it is known");
}

//! The power is cut during a build, and what nobody has synced is gone: what
//! serves is whole, and the next build ends in a valid engine.
//!
//! What the real builder does to files is recorded once. Then its directories are
//! left as they would be after a cut at drawn places of the record, and the
//! builder runs again on each.

mod disk;
mod recording;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use engine_builder::engines::{EngineId, Engines};
use engine_builder::existing;
use engine_builder::report::Report;

use crate::engine::{FILE, WHEEL, put_all, put_package, real_weights};
use crate::foreign;
use crate::hub_model::{self, Known};
use crate::hub_server::{Answer, Server};
use crate::place::{Ended, Place};
use disk::{Cut, Disk};
use recording::{Op, record};

const MODEL: &str = "smollm2-135m-instruct";

/// The same places each time.
const SEED: u64 = 0x5104_2027;

const CUTS: [Cut; 4] = [Cut::Nothing, Cut::Names, Cut::Part(1), Cut::Part(3)];

/// Of so many writes after each other, one is a place for a cut.
const COPIES: usize = 60;

/// A recorded run below one directory.
struct Recorded {
    root: PathBuf,
    /// The directory as it was before.
    before: tempfile::TempDir,
    known: PathBuf,
    ops: Vec<Op>,
    code: Option<i32>,
}

impl Recorded {
    /// Runs `command`, which writes below `root`. Long writes are copies of `known`.
    fn new(command: &Command, root: &Path, known: &Path) -> Self {
        let before = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(root).arg(before.path()).status();
        assert!(copied.unwrap().success());
        let (code, ops) = record(command, root);
        let syncs = ops.iter().filter(|op| matches!(op, Op::Sync { .. })).count();
        eprintln!("{} operations recorded, {syncs} of them syncs", ops.len());
        Self { root: root.into(), before, known: known.into(), ops, code }
    }

    fn disk(&self) -> Disk {
        let copy = self.before.path().join(self.root.file_name().unwrap());
        Disk::new(&self.root, &copy, &self.known)
    }

    /// Leaves the directory as after each of at most `most` cuts, drawn from all
    /// that differ, the last one among them, and lets `look` judge it. It is told
    /// in words which cut it is, and whether the run had ended before it.
    fn each_cut(&self, most: usize, mut look: impl FnMut(&str, bool)) {
        let (mut disk, mut seen, mut places) = (self.disk(), BTreeSet::new(), Vec::new());
        let is_write = |at: usize| matches!(self.ops.get(at), Some(Op::Write { .. }));
        for at in 0..=self.ops.len() {
            // Of a long copy a few places are enough.
            let is_inside = at > 0 && is_write(at - 1) && is_write(at);
            let cuts: &[Cut] = if is_inside && at % COPIES != 0 { &[] } else { &CUTS };
            for cut in cuts {
                if seen.insert(disk.signature(*cut)) || at == self.ops.len() {
                    places.push((at, *cut));
                }
            }
            if let Some(op) = self.ops.get(at) {
                disk.apply(op);
            }
        }
        let all = places.len();
        let mut random = crate::crash::Random::new(SEED);
        while places.len() > most {
            // Not the last ones: then the run has ended.
            let draw = random.below((places.len() - CUTS.len()) as u64);
            places.remove(usize::try_from(draw).unwrap());
        }
        eprintln!("{all} states differ, {} are looked at", places.len());
        let (mut disk, mut done) = (self.disk(), 0);
        for (at, cut) in places {
            while done < at {
                disk.apply(&self.ops[done]);
                done += 1;
            }
            disk.leave(cut);
            let last = at.checked_sub(1).map(|last| format!("{:?}", self.ops[last]));
            let last: String = last.unwrap_or_default().chars().take(200).collect();
            look(
                &format!("cut {cut:?} after {at} operations, the last: {last}"),
                at == self.ops.len(),
            );
        }
    }
}

/// The window of the engine that serves, if one does; it is whole.
fn served(place: &Place, when: &str) -> Option<u32> {
    let engines = Engines::of(&place.path("state"));
    let id = EngineId::try_from(engines.default_id()?).unwrap();
    let manifest = existing::verify(&engines, &id, &Report::silent())
        .unwrap_or_else(|error| panic!("{when}: {}", error.chain()));
    Some(manifest.serving.context)
}

/// Every name below `engines/` that is not hidden is a whole engine.
fn all_are_whole(place: &Place, when: &str) {
    let engines = Engines::of(&place.path("state"));
    for id in engines.list().unwrap() {
        existing::verify(&engines, &id, &Report::silent())
            .unwrap_or_else(|error| panic!("{when}: {}", error.chain()));
    }
}

fn build(place: &Place, what: &[&str], context: &str) -> Command {
    place.command(&[&["build"], what, &["--context", context, "--users", "1"]].concat())
}

#[track_caller]
fn succeeds(mut command: Command, when: &str) {
    let ended = Ended::from(command.output().unwrap());
    assert_eq!(ended.code, Some(0), "{when}: {ended:?}");
}

#[test]
fn the_first_build_leaves_nothing_half_and_is_there_once_it_has_said_so() {
    let place = Place::new();
    let cache = place.path("cache/stoker/models").join(MODEL);
    fs::create_dir_all(&cache).unwrap();
    put_package(&cache.join(WHEEL));
    let command = build(&place, &[MODEL], "512");
    let recorded = Recorded::new(&command, place.dir.path(), &real_weights());
    assert_eq!(recorded.code, Some(0));
    // Each next build computes for half a minute to measure the weights.
    recorded.each_cut(7, |when, ended| {
        all_are_whole(&place, when);
        let there = served(&place, when);
        assert!(there.is_none_or(|context| context == 512), "{when}: {there:?}");
        assert!(there.is_some() || !ended, "{when}: the build had ended, and its engine is gone");
        // The package went when the file that was taken from it was safe.
        assert!(cache.join(WHEEL).exists() || cache.join(FILE).exists(), "{when}");
        succeeds(build(&place, &[MODEL], "512"), when);
        assert_eq!(served(&place, when), Some(512), "{when}");
    });
}

#[test]
fn a_build_in_the_place_of_an_engine_leaves_the_old_one_or_the_new_one() {
    let place = Place::new();
    let own = tempfile::tempdir().unwrap();
    let own = own.path().join("own.gguf");
    fs::copy(real_weights(), &own).unwrap();
    // A private file is copied, not linked.
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
    let what = ["--gguf", own.to_str().unwrap(), "--name", "mine"];
    succeeds(build(&place, &what, "512"), "before");
    let command = build(&place, &what, "768");
    let recorded = Recorded::new(&command, place.dir.path(), &own);
    assert_eq!(recorded.code, Some(0));
    recorded.each_cut(12, |when, ended| {
        all_are_whole(&place, when);
        let expected: &[u32] = if ended { &[768] } else { &[512, 768] };
        let there = served(&place, when).unwrap_or_else(|| panic!("{when}: nothing serves"));
        assert!(expected.contains(&there), "{when}: {there}");
        succeeds(build(&place, &what, "768"), when);
        assert_eq!(served(&place, when), Some(768), "{when}");
    });
}

#[test]
fn a_switch_leaves_the_old_default_or_the_new_one() {
    let place = Place::new();
    put_all(&place, &["one", "two", "three"]);
    for name in ["one", "two"] {
        assert_eq!(place.run(&["use", name]).code, Some(0));
    }
    let known = place.engine("one/weights.gguf");
    for (switch, before, after) in
        [(&["use", "three"][..], "two", "three"), (&["rollback"], "three", "two")]
    {
        let recorded = Recorded::new(&place.command(switch), place.dir.path(), &known);
        assert_eq!(recorded.code, Some(0));
        recorded.each_cut(usize::MAX, |when, ended| {
            let engines = Engines::of(&place.path("state"));
            let there = engines.default_id().unwrap_or_else(|| panic!("{when}: nothing serves"));
            let expected = if ended { &[after][..] } else { &[before, after] };
            assert!(expected.contains(&there.as_str()), "{when}: {there}");
            assert_eq!(place.run(&["use", after]).code, Some(0), "{when}");
            assert_eq!(engines.default_id().as_deref(), Some(after), "{when}");
        });
    }
}

#[test]
fn a_file_that_nobody_knew_is_pinned_before_it_is_taken() {
    let place = Place::new();
    let content = Arc::new(hub_model::gguf());
    hub_model::put(&place, &content, Known::No);
    let served = Arc::clone(&content);
    let hub = Server::new(move |_, _| Answer::File(Arc::clone(&served), "\"version-1\""));
    let fetch = || {
        let mut command = place.command(&["fetch", hub_model::ID]);
        command.env("STOKER_HUB", hub.url()).env_remove("CREDENTIALS_DIRECTORY");
        command
    };
    let recorded = Recorded::new(&fetch(), place.dir.path(), &real_weights());
    assert_eq!(recorded.code, Some(0));
    let file = place.path("cache/stoker/models").join(hub_model::ID);
    let file = file.join("gguf").join(hub_model::FILE);
    let pins = place.path("state/pins").join(format!("{}.toml", hub_model::ID));
    recorded.each_cut(40, |when, ended| {
        let there = fs::read(&file).ok();
        assert!(there.is_some() || !ended, "{when}: what was fetched is gone");
        if let Some(there) = there {
            assert!(there == *content, "{when}: it is half of a file");
            assert!(pins.exists(), "{when}: another file could be taken in its place");
        }
        succeeds(fetch(), when);
        assert!(fs::read(&file).unwrap() == *content && pins.exists(), "{when}");
    });
}

#[test]
fn a_finished_step_of_tools_outlives_a_cut_and_half_of_an_output_is_never_trusted() {
    let yard = foreign::Yard::new();
    let state = yard.place.path("state");
    fs::create_dir_all(&state).unwrap();
    put_all(&yard.place, &["older"]);
    let before = fs::read(yard.place.engine("older").join("engine.toml")).unwrap();
    let recorded = Recorded::new(&yard.unproved(), &state, &real_weights());
    assert_eq!(recorded.code, Some(0));
    let made = |name| fs::read_to_string(yard.work().join("engine").join(name)).unwrap_or_default();
    let whole = ["rank0.engine", "config.json"].map(|name| (name, made(name)));
    assert!(whole.iter().all(|(_, content)| !content.is_empty()));
    let mut seen = BTreeSet::new();
    recorded.each_cut(40, |when, _| {
        let finished = fs::read_to_string(yard.work().join("finished.json")).unwrap_or_default();
        let is_finished = |step: &str| finished.contains(&format!("\"step\": \"{step}\""));
        let left = match (is_finished("convert"), is_finished("build")) {
            (_, true) => "",
            (true, false) => "build",
            (false, false) => "convert build",
        };
        seen.insert(left);
        let _ = fs::remove_file(state.join("ran"));
        let older = fs::read(yard.place.engine("older").join("engine.toml")).unwrap();
        assert_eq!(older, before, "{when}");
        let ended = Ended::from(yard.unproved().output().unwrap());
        assert_eq!(ended.code, Some(0), "{when}: {ended:?}");
        assert_eq!(yard.ran(), left, "{when}: every time on the disk is another one now");
        for (name, content) in &whole {
            assert_eq!(made(name), *content, "{when}: {name}");
        }
    });
    assert_eq!(seen.len(), 3, "{seen:?}");
}

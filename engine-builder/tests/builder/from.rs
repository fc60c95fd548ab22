//! `--from DIR`: files that somebody brings, none of which is trusted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::stat::Mode;

use crate::hub_model::{FILE, ID, Known, gguf, put};
use crate::place::{Ended, Place};

/// A catalogue with one small model, and a directory to bring files in.
struct Stick {
    place: Place,
    dir: PathBuf,
}

impl Stick {
    fn new(known: Known) -> Self {
        let place = Place::new();
        put(&place, &gguf(), known);
        let dir = place.path("stick");
        fs::create_dir(&dir).unwrap();
        Self { place, dir }
    }

    fn bring(&self, name: &str, content: &[u8]) -> PathBuf {
        self.place.file(&format!("stick/{name}"), content)
    }

    fn fetch(&self, extra: &[&str]) -> Ended {
        let from = self.dir.to_str().unwrap();
        self.place.run(&[&["fetch", ID, "--from", from], extra].concat())
    }

    fn cached(&self, name: &str) -> PathBuf {
        self.place.path("cache/stoker/models").join(ID).join(name)
    }

    /// Names of what the cache has of this form, but for the lock.
    fn cache(&self, form: &str) -> Vec<String> {
        let entries = fs::read_dir(self.cached(form)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_is_found_in_the_layout_of_the_list_and_beside_it() {
    for place in [format!("{ID}/gguf/{FILE}"), format!("{ID}/{FILE}"), FILE.to_owned()] {
        let stick = Stick::new(Known::Yes);
        stick.bring(&place, &gguf());
        let ended = stick.fetch(&[]);
        assert_eq!(ended.code, Some(0), "{place}: {ended:?}");
        assert!(ended.stdout.contains("copied and checked"), "{ended:?}");
        assert_eq!(fs::read(stick.cached("gguf").join(FILE)).unwrap(), gguf());
        assert_eq!(stick.cache("gguf"), [FILE]);
        let again = stick.fetch(&[]);
        assert!(again.stdout.contains("already in the cache"), "{again:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named_with_every_place_that_was_looked_at() {
    let stick = Stick::new(Known::Yes);
    let places = ["stick/small/gguf/small.gguf", "stick/small/small.gguf", "stick/small.gguf"];
    stick.fetch(&[]).failed(13, &places);
    stick.fetch(&[]).failed(13, &["there is no small.gguf; looked for "]);
    let nowhere = stick.place.path("nowhere");
    let ended = stick.place.run(&["fetch", ID, "--from", nowhere.to_str().unwrap()]);
    ended.failed(1, &["nowhere: No such file"]);
    assert!(stick.cache("gguf").is_empty());
}

#[test]
fn another_file_is_refused_with_both_hashes_and_not_kept() {
    let stick = Stick::new(Known::Yes);
    let mut other = gguf();
    *other.last_mut().unwrap() ^= 1;
    stick.bring(FILE, &other);
    stick.fetch(&[]).failed(6, &["stick/small.gguf has the sha256 ", ", the catalogue says "]);
    stick.bring(FILE, &other[1..]);
    stick.fetch(&[]).failed(6, &["stick/small.gguf: it has ", " bytes, the catalogue says "]);
    assert!(stick.cache("gguf").is_empty());
}

#[test]
fn what_is_no_plain_file_inside_is_refused() {
    let stick = Stick::new(Known::Yes);
    let secret = stick.place.file("secret", &gguf());
    symlink(&secret, stick.dir.join(FILE)).unwrap();
    stick.fetch(&[]).failed(6, &["small.gguf: it is a link that leads out of the directory"]);
    fs::remove_file(stick.dir.join(FILE)).unwrap();
    nix::unistd::mkfifo(&stick.dir.join(FILE), Mode::S_IRWXU).unwrap();
    stick.fetch(&[]).failed(6, &["small.gguf: it is a pipe, not a plain file"]);
    assert!(stick.cache("gguf").is_empty());
}

#[test]
fn a_hash_that_nobody_knew_is_learnt_once_and_then_held_to() {
    let stick = Stick::new(Known::No);
    stick.bring(FILE, &gguf());
    let ended = stick.fetch(&[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("small.gguf: learnt its sha256, "), "{ended:?}");
    let listed = stick.place.run(&["fetch", "--list", ID]);
    assert!(listed.stdout.contains("(learnt at the first fetch)"), "{listed:?}");
    fs::remove_file(stick.cached("gguf").join(FILE)).unwrap();
    let mut other = gguf();
    *other.last_mut().unwrap() ^= 1;
    stick.bring(FILE, &other);
    stick.fetch(&[]).failed(6, &["has the sha256 ", ", the first fetch found "]);
    stick.bring(FILE, &gguf());
    assert_eq!(stick.fetch(&[]).code, Some(0));
}

#[test]
fn a_file_that_is_no_model_teaches_nothing() {
    let stick = Stick::new(Known::No);
    for (content, why) in [
        (&b"\x80\x02}q\x00."[..], "a pickle can run code when it is loaded"),
        (b"PK\x03\x04archive/data.pkl", "bring safetensors or GGUF"),
        (&[&b"GGUF\x03\0\0\0"[..], &[0xff; 64]].concat(), "the header claims"),
    ] {
        stick.bring(FILE, content);
        stick.fetch(&[]).failed(6, &["small.gguf: ", why]);
    }
    assert!(stick.cache("gguf").is_empty());
    assert!(!stick.place.path("state/pins").exists());
}

fn safetensors() -> Vec<u8> {
    let header = r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat()
}

fn bring_small_files(stick: &Stick) {
    for name in ["config.json", "tokenizer_config.json", "tokenizer.json"] {
        stick.bring(&format!("{ID}/checkpoint/{name}"), b"{}");
    }
}

const CHECKPOINT: [&str; 2] = ["--form", "checkpoint"];

#[test]
fn a_checkpoint_comes_with_every_part_that_its_index_names() {
    let stick = Stick::new(Known::Yes);
    bring_small_files(&stick);
    let index = br#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
    stick.bring("small/checkpoint/model.safetensors.index.json", index);
    stick.bring("small/checkpoint/model-1.safetensors", &safetensors());
    stick.fetch(&CHECKPOINT).failed(13, &["there is no model-2.safetensors; looked for "]);
    stick.bring("small/checkpoint/model-2.safetensors", &safetensors());
    let ended = stick.fetch(&CHECKPOINT);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        stick.cache("checkpoint"),
        [
            "config.json",
            "model-1.safetensors",
            "model-2.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
}

#[test]
fn weights_that_are_pickles_are_not_taken_and_the_way_out_is_said() {
    let stick = Stick::new(Known::Yes);
    bring_small_files(&stick);
    stick.bring("small/checkpoint/pytorch_model.bin", b"\x80\x02}q\x00.");
    stick.fetch(&CHECKPOINT).failed(
        13,
        &[
            "there is no model.safetensors",
            "pytorch_model.bin can run code when it is loaded and is not taken: bring safetensors",
        ],
    );
    stick.bring("small/checkpoint/model.safetensors", b"\x80\x02}q\x00.");
    stick.fetch(&CHECKPOINT).failed(6, &["model.safetensors: a pickle can run code"]);
    let hostile = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    stick.bring("small/checkpoint/model.safetensors", &hostile);
    stick.fetch(&CHECKPOINT).failed(6, &["its header is said to have 18446744073709551615 bytes"]);
    let index = br#"{"weight_map":{"a":"../../../etc/x.safetensors"}}"#;
    stick.bring("small/checkpoint/model.safetensors.index.json", index);
    stick.fetch(&CHECKPOINT).failed(6, &["not the name of a safetensors file beside it"]);
    let own = stick.place.file("own.bin", b"\x80\x02}q\x00.");
    let ended = stick.place.run(&["build", "--gguf", own.to_str().unwrap()]);
    ended.failed(6, &["own.bin: a pickle can run code"]);
}

#[test]
fn a_copy_that_is_killed_begins_again_and_takes_the_disk_once() {
    let mut content = gguf();
    content.resize(content.len() + 64 * 1024 * 1024, 7);
    let stick = Stick { place: Place::new(), dir: PathBuf::new() };
    put(&stick.place, &content, Known::Yes);
    let stick = Stick { dir: stick.place.path("stick"), ..stick };
    stick.bring(FILE, &content);
    let part = stick.cached("gguf").join(format!("{FILE}.part"));
    let whole = stick.cached("gguf").join(FILE);
    let from = stick.dir.to_str().unwrap();
    let mut killed = 0;
    // It may have ended before it is killed: then nothing is left to be done.
    for _ in 0..5 {
        let _ = fs::remove_file(&whole);
        let mut command = stick.place.command(&["fetch", ID, "--from", from]);
        let mut builder = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !part.exists() && builder.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        builder.kill().unwrap();
        killed += usize::from(builder.wait().unwrap().code().is_none());
        let names = stick.cache("gguf");
        assert!(names.iter().all(|name| name.starts_with(FILE)) && names.len() <= 1, "{names:?}");
        assert!(!whole.exists() || fs::read(&whole).unwrap() == content);
    }
    assert!(killed > 0, "every copy had ended before it could be killed");
    assert_eq!(stick.fetch(&[]).code, Some(0));
    assert!(fs::read(&whole).unwrap() == content);
    assert_eq!(stick.cache("gguf"), [FILE]);
}

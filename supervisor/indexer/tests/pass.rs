//! The command on repositories that are as they should be, and on some that are not.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use engine_api::frame::{Decoder, encode};
use engine_api::index::{FromIndexer, IndexedFile, KnownFile, ToIndexer, Totals};
use indexer::language::Language;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

fn indexer(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_indexer"));
    command.arg("pass").arg(root).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// What a pass says, in frames, with this known.
fn pass(root: &Path, known: &[KnownFile]) -> Pass {
    pass_over(root, known, &[])
}

/// The same, of these places alone.
fn pass_over(root: &Path, known: &[KnownFile], only: &[&str]) -> Pass {
    let mut child = indexer(root).args(["--format", "frames"]).spawn().unwrap();
    let mut bytes = Vec::new();
    for file in known {
        encode(&ToIndexer::Known(file.clone()), &mut bytes).unwrap();
    }
    for path in only {
        encode(&ToIndexer::Only((*path).to_owned()), &mut bytes).unwrap();
    }
    encode(&ToIndexer::Begin, &mut bytes).unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let mut decoder = Decoder::default();
    decoder.push(&output.stdout);
    Pass(std::iter::from_fn(|| decoder.next().unwrap()).collect())
}

struct Pass(Vec<FromIndexer>);

impl Pass {
    fn indexed(&self) -> BTreeMap<&str, &IndexedFile> {
        let indexed = self.0.iter().filter_map(|said| match said {
            FromIndexer::Indexed(file) => Some((file.path.as_str(), file)),
            _ => None,
        });
        indexed.collect()
    }

    fn skipped(&self) -> BTreeMap<&str, &str> {
        let skipped = self.0.iter().filter_map(|said| match said {
            FromIndexer::Skipped { path, reason, .. } => Some((path.as_str(), reason.as_str())),
            _ => None,
        });
        skipped.collect()
    }

    fn known(&self) -> Vec<KnownFile> {
        let known = |file: &&IndexedFile| KnownFile {
            path: file.path.clone(),
            stamp: Some(file.stamp),
            hash: Some(file.hash),
        };
        self.indexed().values().map(known).collect()
    }

    fn totals(&self) -> Totals {
        match self.0.last() {
            Some(FromIndexer::Done(totals)) => *totals,
            other => panic!("a pass ends with its totals, not with {other:?}"),
        }
    }

    /// What it says of files, without progress and totals.
    fn differences(&self) -> Vec<String> {
        let said = self.0.iter().filter_map(|said| match said {
            FromIndexer::Progress { .. } | FromIndexer::Directory { .. } | FromIndexer::Done(_) => {
                None
            }
            FromIndexer::Indexed(file) => Some(format!("indexed {}", file.path)),
            FromIndexer::Touched { path, .. } => Some(format!("touched {path}")),
            FromIndexer::Same { path, known_as, .. } => Some(format!("{path} is {known_as}")),
            FromIndexer::Gone { path } => Some(format!("gone {path}")),
            FromIndexer::Skipped { path, .. } => Some(format!("skipped {path}")),
        });
        said.collect()
    }
}

fn repository(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn a_second_pass_tells_only_what_is_different() {
    let root = repository(&[
        ("same.rs", "fn same() {}\n"),
        ("changed.rs", "fn before() {}\n"),
        ("touched.rs", "fn touched() {}\n"),
        ("gone.rs", "fn gone() {}\n"),
        ("old.rs", "fn moved() {}\n"),
    ]);
    let first = pass(root.path(), &[]);
    assert_eq!(first.indexed().len(), 5);
    let known = first.known();
    assert_eq!(pass(root.path(), &known).differences(), [""; 0]);
    assert_eq!(pass(root.path(), &known).totals().read, 0, "nothing is read again");

    fs::write(root.path().join("changed.rs"), "fn after() {}\n").unwrap();
    fs::write(root.path().join("touched.rs"), "fn touched() {}\n").unwrap();
    fs::remove_file(root.path().join("gone.rs")).unwrap();
    fs::rename(root.path().join("old.rs"), root.path().join("new.rs")).unwrap();
    let second = pass(root.path(), &known);
    assert_eq!(
        second.differences(),
        [
            "indexed changed.rs",
            "new.rs is old.rs",
            "touched touched.rs",
            "gone gone.rs",
            "gone old.rs"
        ]
    );
}

#[test]
fn a_pass_over_some_places_looks_at_nothing_else_and_leaves_out_the_same() {
    let root = repository(&[
        (".gitignore", "*.log\n"),
        ("src/.gitignore", "made/\n"),
        ("src/a.rs", "fn a() {}\n"),
        ("src/deep/b.rs", "fn b() {}\n"),
        ("other/c.rs", "fn c() {}\n"),
    ]);
    let known = pass(root.path(), &[]).known();
    let known = |paths: &[&str]| -> Vec<_> {
        known.iter().filter(|file| paths.contains(&file.path.as_str())).cloned().collect()
    };
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("src/a.rs", "fn changed() {}\n");
    write("other/c.rs", "fn changed_as_well() {}\n");
    let said = pass_over(root.path(), &known(&["src/a.rs"]), &["src/a.rs"]);
    assert_eq!(said.differences(), ["indexed src/a.rs"]);
    assert_eq!(said.totals().files, 1);

    fs::rename(root.path().join("src/deep"), root.path().join("src/new")).unwrap();
    write("src/made/d.rs", "fn d() {}\n");
    write("src/e.log", "a line\n");
    let places = ["src/deep", "src/new", "src/made/d.rs", "src/made", "src/e.log", "src/gone"];
    let said = pass_over(root.path(), &known(&["src/deep/b.rs"]), &places);
    assert_eq!(said.differences(), ["src/new/b.rs is src/deep/b.rs", "gone src/deep/b.rs"]);
}

#[test]
fn directories_are_told_but_not_those_that_are_left_out() {
    let root = repository(&[(".gitignore", "target/\n"), ("src/a.rs", "fn a() {}\n")]);
    for path in ["src/empty", "target/deep", ".git/objects"] {
        fs::create_dir_all(root.path().join(path)).unwrap();
    }
    let said = pass(root.path(), &[]);
    let mut directories: Vec<_> = said
        .0
        .iter()
        .filter_map(|said| match said {
            FromIndexer::Directory { path } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    directories.sort_unstable();
    assert_eq!(directories, ["", "src", "src/empty"]);
}

#[test]
fn a_file_that_took_anothers_place_is_not_taken_for_what_stood_there() {
    let root = repository(&[("a.rs", "fn one() {}\n"), ("b.rs", "fn two() {}\n")]);
    let known = pass(root.path(), &[]).known();
    let place = |name| root.path().join(name);
    // What a.rs held is in c.rs now, but a.rs is told first, and holds something else.
    fs::rename(place("a.rs"), place("c.rs")).unwrap();
    fs::rename(place("b.rs"), place("a.rs")).unwrap();
    // Another language cuts otherwise.
    fs::copy(place("a.rs"), place("d.py")).unwrap();
    let said = pass(root.path(), &known).differences();
    assert_eq!(said, ["a.rs is b.rs", "indexed c.rs", "indexed d.py", "gone b.rs"]);
}

#[test]
fn what_was_passed_over_is_not_read_again() {
    let root = repository(&[("binary.rs", "fn a() {}\0"), ("min.js", &"x=1;".repeat(5000))]);
    symlink("..", root.path().join("loop")).unwrap();
    let first = pass(root.path(), &[]);
    let known: Vec<_> = first
        .0
        .iter()
        .filter_map(|said| match said {
            FromIndexer::Skipped { path, stamp, .. } => {
                Some(KnownFile { path: path.clone(), stamp: *stamp, hash: None })
            }
            _ => None,
        })
        .collect();
    assert_eq!(known.len(), 3);
    let second = pass(root.path(), &known);
    assert_eq!((second.differences(), second.totals().read), (Vec::new(), 0));
    fs::remove_file(root.path().join("loop")).unwrap();
    fs::write(root.path().join("binary.rs"), "fn a() {}\n").unwrap();
    assert_eq!(pass(root.path(), &known).differences(), ["indexed binary.rs", "gone loop"]);
}

#[test]
fn what_git_or_the_owner_leaves_out_is_left_out() {
    let root = repository(&[
        (".gitignore", "build/\n*.log\n"),
        (".stokerignore", "secret.txt\n"),
        (".git/config", "[core]\n"),
        (".github/workflows/ci.yml", "on: push\n"),
        ("build/out.rs", "fn out() {}\n"),
        ("a.log", "a line\n"),
        ("secret.txt", "nothing to see\n"),
        ("src/a.rs", "fn a() {}\n"),
        ("src/.gitignore", "b.rs\n"),
        ("src/b.rs", "fn b() {}\n"),
    ]);
    let found = pass(root.path(), &[]);
    let indexed: Vec<_> = found.indexed().into_keys().collect();
    let ours =
        [".github/workflows/ci.yml", ".gitignore", ".stokerignore", "src/.gitignore", "src/a.rs"];
    assert_eq!(indexed, ours);
}

#[test]
fn what_nobody_wrote_by_hand_is_passed_over_with_a_reason() {
    let root = repository(&[
        ("empty.rs", ""),
        ("binary.rs", "fn a() {}\0"),
        ("min.js", &"x=1;".repeat(5000)),
        ("made.go", "// Code generated by protoc. DO NOT EDIT.\npackage a\n"),
        ("huge.txt", &"line\n".repeat(300_000)),
        ("fine.rs", "fn fine() {}\n"),
    ]);
    let place = root.path();
    mkfifo(&place.join("pipe.rs"), Mode::from_bits_truncate(0o600)).unwrap();
    let _socket = UnixListener::bind(place.join("socket.rs")).unwrap();
    symlink("..", place.join("loop")).unwrap();
    symlink("fine.rs", place.join("link.rs")).unwrap();
    symlink("/etc/hostname", place.join("outside.txt")).unwrap();
    fs::write(place.join(OsStr::from_bytes(b"\xff.rs")), "fn x() {}\n").unwrap();
    fs::write(place.join("latin1.c"), b"// caf\xe9\nint a;\n").unwrap();
    fs::write(place.join("two\nlines.rs"), "fn y() {}\n").unwrap();

    let found = pass(place, &[]);
    let indexed: Vec<_> = found.indexed().into_keys().collect();
    assert_eq!(indexed, ["fine.rs", "latin1.c", "two\nlines.rs"]);
    assert!(found.indexed()["latin1.c"].chunks[0].text.contains("// caf\u{fffd}"));
    let reasons = found.skipped();
    for (path, reason) in [
        ("empty.rs", "empty"),
        ("binary.rs", "binary"),
        ("min.js", "minified"),
        ("made.go", "generated"),
        ("huge.txt", "1500000 bytes"),
        ("pipe.rs", "no ordinary file"),
        ("socket.rs", "no ordinary file"),
        ("loop", "no ordinary file"),
        ("link.rs", "no ordinary file"),
        ("outside.txt", "no ordinary file"),
        ("\u{fffd}.rs", "not UTF-8"),
    ] {
        assert!(reasons[path].contains(reason), "{path:?}: {:?}", reasons[path]);
    }
    assert_eq!(found.totals().skipped, 11);
}

#[test]
fn files_that_break_grammars_are_cut_by_lines() {
    let root = tempfile::tempdir().unwrap();
    let units =
        ["(", "[", "{", "{\"a\":", "if (a) {", "- ", "# ", "<a>", "\"", "fn a() {\n", "> ", "`"];
    let endings = [
        "rs", "py", "js", "ts", "tsx", "go", "c", "cpp", "java", "cs", "sh", "rb", "json", "toml",
        "yaml", "md",
    ];
    for ending in endings {
        assert!(Language::of(&format!("a.{ending}"), "").is_some());
        for (number, unit) in units.iter().enumerate() {
            // In lines that somebody could have written.
            let text = unit.repeat(20_000 / unit.len());
            let bytes: Vec<_> = text.as_bytes().chunks(200).map(String::from_utf8_lossy).collect();
            fs::write(root.path().join(format!("{number}.{ending}")), bytes.join("\n")).unwrap();
        }
    }
    let found = pass(root.path(), &[]);
    assert_eq!(found.indexed().len(), endings.len() * units.len());
    assert!(found.skipped().is_empty(), "{:?}", found.skipped());
    for file in found.indexed().values() {
        assert!(!file.chunks.is_empty(), "{}", file.path);
    }
}

/// A pass that stands still because nobody reads what it says, its process that
/// parses treated with `signal`, and then the rest.
fn pass_with_parser(signal: Signal) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    for number in 0..400 {
        let text = format!("fn function_{number}() {{\n{}}}\n", "    work();\n".repeat(60));
        fs::write(root.path().join(format!("{number:03}.rs")), text).unwrap();
    }
    let mut child = indexer(root.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first =
        lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("{\"indexed\"")).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let parser = fs::read_to_string(children).unwrap();
    kill(Pid::from_raw(parser.trim().parse().unwrap()), signal).unwrap();
    let all: Vec<_> = std::iter::once(first).chain(lines.map(Result::unwrap)).collect();
    assert!(child.wait().unwrap().success());
    all.into_iter().filter(|line| line.starts_with("{\"indexed\"")).collect()
}

fn notes(lines: &[String]) -> Vec<&str> {
    let noted = lines.iter().filter_map(|line| Some(line.split_once("\"note\":\"")?.1));
    noted.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn a_parser_that_dies_costs_one_file_its_syntax() {
    let lines = pass_with_parser(Signal::SIGKILL);
    assert_eq!(lines.len(), 400);
    assert_eq!(notes(&lines), ["its parser crashed"]);
}

#[test]
fn a_parser_that_hangs_costs_one_file_its_syntax() {
    let lines = pass_with_parser(Signal::SIGSTOP);
    assert_eq!(lines.len(), 400);
    assert_eq!(notes(&lines), ["its parser did not end within 10 s"]);
}

#[test]
fn a_repository_that_is_not_there_is_named() {
    let output = indexer(Path::new("/nowhere/at/all")).stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/nowhere/at/all") && said.contains("No such file"), "{said}");
}

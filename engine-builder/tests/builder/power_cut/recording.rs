//! What a program did to files, in order, as `strace` saw it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest piece of a write whose bytes are recorded. Longer ones are copies of
/// the model, whose content is known.
const RECORDED: usize = 8192;

/// Every call that changes a file or a directory, or puts it to the disk. What
/// is not traced here and writes would make a test fail, not pass: its effects
/// would be missing after each cut.
const CALLS: &str = "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate,\
    fallocate,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,symlink,\
    symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,copy_file_range,sendfile,chdir,fchdir";

/// One thing that was done, paths absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// Opened for writing, and made if it was not there.
    Open {
        path: PathBuf,
        makes: bool,
        empties: bool,
    },
    /// `bytes` are the first of `length`. `at`: the place in the file, or its end.
    Write {
        path: PathBuf,
        at: Option<u64>,
        bytes: Vec<u8>,
        length: u64,
    },
    Truncate {
        path: PathBuf,
        length: u64,
    },
    Sync {
        path: PathBuf,
    },
    MakeDir {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        exchange: bool,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Symlink {
        target: PathBuf,
        path: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
}

/// Runs `command` and returns its exit code and what it and its children did
/// below `root`.
pub(super) fn record(command: &Command, root: &Path) -> (Option<i32>, Vec<Op>) {
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-z", "-qq", "--seccomp-bpf", "-e", "signal=none"]);
    strace.arg("-s").arg(RECORDED.to_string()).arg("-e").arg(format!("trace={CALLS}"));
    strace.arg("-o").arg(out.path()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    let ended = strace.output().expect("strace starts; apt-get install strace installs it");
    let text = std::fs::read(out.path()).unwrap();
    let text = String::from_utf8_lossy(&text);
    // Where each process has gone, because `mkdir -p` goes along what it makes.
    let (mut places, mut ops) = (BTreeMap::new(), Vec::new());
    for line in text.lines().filter_map(said) {
        let process = line.split(' ').next().unwrap_or_default();
        let place = places.entry(process).or_default();
        let op = parse(line, place);
        let op = op.unwrap_or_else(|| panic!("strace said what is not understood: {line}"));
        ops.extend(op.filter(|op| paths(op).iter().any(|path| path.starts_with(root))));
    }
    (ended.status.code(), ops)
}

/// What a line says. A process that dies as a call of it is noted leaves `PID ???(`,
/// and the next line right behind that.
fn said(line: &str) -> Option<&str> {
    let vanished =
        line.split_once(' ').and_then(|(_, call)| call.trim_start().strip_prefix("???("));
    let Some(rest) = vanished else { return Some(line) };
    rest.starts_with(|first: char| first.is_ascii_digit()).then_some(rest)
}

fn paths(op: &Op) -> Vec<&Path> {
    match op {
        Op::Open { path, .. }
        | Op::Write { path, .. }
        | Op::Truncate { path, .. }
        | Op::Sync { path }
        | Op::MakeDir { path }
        | Op::Symlink { path, .. }
        | Op::Remove { path } => vec![path],
        Op::Rename { from, to, .. } | Op::Link { from, to } => vec![from, to],
    }
}

/// `PID call(arguments) = result`; `Some(None)` if it changes nothing, `None` if
/// the line makes no sense. `place` is where its process last went.
fn parse(line: &str, place: &mut PathBuf) -> Option<Option<Op>> {
    let (_, call) = line.split_once(' ')?;
    let (name, rest) = call.trim_start().split_once('(')?;
    let mut words = Words { rest, place };
    let op = match name {
        "open" | "openat" | "creat" => {
            let flags = rest.rsplit_once(") = ")?.0;
            if name != "creat" && !["O_WRONLY", "O_RDWR"].iter().any(|way| flags.contains(way)) {
                return Some(None);
            }
            let path = named(rest.rsplit_once(") = ")?.1)?;
            let is = |flag: &str| name == "creat" || flags.contains(flag);
            Op::Open { path, makes: is("O_CREAT"), empties: is("O_TRUNC") }
        }
        "write" | "pwrite64" => {
            let path = words.descriptor()?;
            let bytes = words.text()?;
            let (length, at) = (words.number()?, words.number());
            let at = if name == "pwrite64" { Some(at?) } else { None };
            Op::Write { path, at, bytes, length }
        }
        "ftruncate" => Op::Truncate { path: words.descriptor()?, length: words.number()? },
        "truncate" => Op::Truncate { path: words.path()?, length: words.number()? },
        "fsync" | "fdatasync" => Op::Sync { path: words.descriptor()? },
        "mkdir" | "mkdirat" => Op::MakeDir { path: words.place(name == "mkdirat")? },
        "unlink" | "rmdir" | "unlinkat" => Op::Remove { path: words.place(name == "unlinkat")? },
        "rename" | "renameat" | "renameat2" => {
            let at = name != "rename";
            let (from, to) = (words.place(at)?, words.place(at)?);
            Op::Rename { from, to, exchange: rest.contains("RENAME_EXCHANGE") }
        }
        "link" | "linkat" => {
            let at = name == "linkat";
            Op::Link { from: words.place(at)?, to: words.place(at)? }
        }
        "symlink" | "symlinkat" => {
            let target = words.path()?;
            Op::Symlink { target, path: words.place(name == "symlinkat")? }
        }
        "chdir" | "fchdir" => {
            let to = if name == "chdir" { words.path()? } else { words.descriptor()? };
            // A relative one leads on from there.
            words.place.push(to);
            return Some(None);
        }
        // A pipe, a socket or the terminal.
        "writev" | "sendfile" if !named(rest)?.starts_with("/") => return Some(None),
        _ => return None,
    };
    Some(Some(op))
}

/// The path in the first `N</path>`.
fn named(text: &str) -> Option<PathBuf> {
    let (_, rest) = text.split_once('<')?;
    Some(rest.split_once('>')?.0.trim_end_matches(" (deleted)").into())
}

/// The arguments that were not read yet.
struct Words<'a> {
    rest: &'a str,
    place: &'a mut PathBuf,
}

impl Words<'_> {
    /// `3</path>`
    fn descriptor(&mut self) -> Option<PathBuf> {
        let path = named(self.rest)?;
        self.rest = self.rest.split_once('>')?.1.trim_start_matches([',', ' ']);
        Some(path)
    }

    /// A path as text, after the directory that it is relative to if there is one.
    fn place(&mut self, at: bool) -> Option<PathBuf> {
        let dir = if at { self.descriptor()? } else { self.place.clone() };
        Some(dir.join(self.path()?))
    }

    fn path(&mut self) -> Option<PathBuf> {
        Some(String::from_utf8(self.text()?).ok()?.into())
    }

    /// `"text"` with C's escapes, perhaps cut short by `...`.
    fn text(&mut self) -> Option<Vec<u8>> {
        let mut rest = self.rest.strip_prefix('"')?.as_bytes();
        let mut bytes = Vec::new();
        loop {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            match byte {
                b'"' => break,
                b'\\' => {
                    let (&kind, after) = rest.split_first()?;
                    let (byte, length) = escaped(kind, rest)?;
                    bytes.push(byte);
                    rest = if length == 0 { after } else { &rest[length..] };
                }
                byte => bytes.push(byte),
            }
        }
        let rest = std::str::from_utf8(rest).ok()?;
        self.rest = rest.trim_start_matches(['.', ',', ' ']);
        Some(bytes)
    }

    fn number(&mut self) -> Option<u64> {
        let after = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = self.rest[..self.rest.len() - after.len()].parse().ok()?;
        self.rest = after.trim_start_matches([',', ' ']);
        Some(number)
    }
}

/// The byte of an escape, and the digits that it took.
fn escaped(kind: u8, rest: &[u8]) -> Option<(u8, usize)> {
    let plain = match kind {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'v' => 11,
        b'f' => 12,
        b'"' | b'\\' => kind,
        b'0'..=b'7' => {
            let digits = rest.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte));
            let value =
                digits.clone().fold(0_u32, |value, byte| value * 8 + u32::from(byte - b'0'));
            return Some((u8::try_from(value).ok()?, digits.count()));
        }
        _ => return None,
    };
    Some((plain, 0))
}

#[test]
fn lines_of_strace_are_understood() {
    let mut place = PathBuf::new();
    let mut op = |line: &str| parse(&format!("812 {line}"), &mut place).unwrap();
    let path = || PathBuf::from("/s/d/a");
    let open = r#"openat(AT_FDCWD</s>, "d/a", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</s/d/a>"#;
    assert_eq!(op(open), Some(Op::Open { path: path(), makes: true, empties: true }));
    assert_eq!(op(r#"openat(AT_FDCWD</s>, "d/a", O_RDONLY) = 3</s/d/a>"#), None);
    let write = r#"write(1</s/d/a>, "h\303\251\"x\\ \n", 8) = 8"#;
    let bytes = "hé\"x\\ \n".as_bytes().to_vec();
    assert_eq!(op(write), Some(Op::Write { path: path(), at: None, bytes, length: 8 }));
    let write = r#"pwrite64(5</s/d/a>, "\0001\00023"..., 9000, 5) = 9000"#;
    let bytes = b"\x001\x0023".to_vec();
    assert_eq!(op(write), Some(Op::Write { path: path(), at: Some(5), bytes, length: 9000 }));
    let rename = r#"renameat2(AT_FDCWD</s>, "/s/x", AT_FDCWD</s>, "d/a", RENAME_EXCHANGE) = 0"#;
    assert_eq!(op(rename), Some(Op::Rename { from: "/s/x".into(), to: path(), exchange: true }));
    assert_eq!(op(r#"unlinkat(4</s/d>, "a", 0) = 0"#), Some(Op::Remove { path: path() }));
    let link = r#"symlink("zz", "/s/d/a") = 0"#;
    assert_eq!(op(link), Some(Op::Symlink { target: "zz".into(), path: path() }));
    assert_eq!(op("fsync(3</s/d/a>) = 0"), Some(Op::Sync { path: path() }));
    assert_eq!(op(r#"chdir("/s") = 0"#), None);
    assert_eq!(op(r#"chdir("d") = 0"#), None);
    assert_eq!(op(r#"mkdir("a", 0777) = 0"#), Some(Op::MakeDir { path: path() }));
    assert_eq!(said("812 ???(815 fsync(3</s/d/a>) = 0"), Some("815 fsync(3</s/d/a>) = 0"));
    assert_eq!(said(r#"812 write(1</s/d/a>, "???(", 4) = 4"#).map(str::len), Some(35));
    assert_eq!(said("812 ???( <unfinished ...>"), None);
    assert_eq!(parse("812 fallocate(3</s/d/a>, 0, 0, 9) = 0", &mut PathBuf::new()), None);
}

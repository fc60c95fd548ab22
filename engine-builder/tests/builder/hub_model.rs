//! A small model in a user's own catalogue file, as if it were on a hub.

use std::fs;

use engine_builder::hash::Sha256Hex;

use crate::place::Place;
use crate::sample::Sample;

pub(crate) const ID: &str = "small";
pub(crate) const FILE: &str = "small.gguf";
pub(crate) const REPOSITORY: &str = "someone/small-GGUF";
pub(crate) const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// Whether the catalogue knows the file's size and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Yes,
    No,
}

/// Bytes of a GGUF file that has a sound header.
pub(crate) fn gguf() -> Vec<u8> {
    Sample::of("llama").bytes()
}

/// Adds the model, whose file is `content`, to the catalogue of `place`.
pub(crate) fn put(place: &Place, content: &[u8], known: Known) {
    let default = include_str!("../../models/smollm2-135m-instruct.toml");
    let value = |key: &str| {
        default.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap().to_owned()
    };
    let package = default.split_once("[source.package]").unwrap().1;
    let package = package.split_once("[source.checkpoint]").unwrap().0;
    // A size that nobody knows has to be estimated, which goes for some only.
    let (bytes, sha256, revision, quantisation) = match known {
        Known::Yes => {
            let sha256 = format!("\"{}\"", Sha256Hex::of(content));
            (content.len().to_string(), sha256, REVISION, "Q4_1")
        }
        Known::No => ("\"unknown\"".into(), "\"unknown\"".into(), "unknown", "Q4_K_M"),
    };
    let gguf = format!(
        "\nrepository = \"{REPOSITORY}\"\nrevision = \"{revision}\"\nfile = \"{FILE}\"\n\n"
    );
    let text = default
        .replace(&value("id"), &format!("id = \"{ID}\""))
        .replace(&value("aliases"), "aliases = []")
        .replace("[source.package]", "[source.gguf]")
        .replace(package, &gguf)
        .replace(&value("quantisation"), &format!("quantisation = \"{quantisation}\""))
        .replace(&value("bytes"), &format!("bytes = {bytes}"))
        .replace(&value("sha256"), &format!("sha256 = {sha256}"));
    fs::create_dir_all(place.path("models.d")).unwrap();
    fs::write(place.path("models.d/small.toml"), text).unwrap();
}

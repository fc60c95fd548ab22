//! The catalogue's own files, users' files, and what is said of a wrong one.

use std::collections::BTreeSet;
use std::fs;

use expect_test::{Expect, expect};

use super::*;

#[test]
fn every_file_in_models_is_compiled_in() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let files = toml_files(&dir).unwrap();
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let found: BTreeSet<String> = files.iter().map(stem).collect();
    assert_eq!(found, FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, text) in FILES {
        let entry = read::entry(&dir.join(name), text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(entry.id.as_str(), *name);
    }
}

#[test]
fn no_name_names_two_models() {
    let mut names = BTreeSet::new();
    for entry in Catalogue::built_in().entries() {
        for name in entry.names() {
            assert!(names.insert(name.to_ascii_lowercase()), "{name} names two models");
        }
    }
}

#[test]
fn a_model_is_found_by_any_of_its_names() {
    let catalogue = Catalogue::built_in();
    for name in ["smollm2-135m-instruct", "SmolLM2", "smollm2:135m"] {
        assert_eq!(catalogue.find(name).unwrap().id.as_str(), "smollm2-135m-instruct");
    }
    assert_eq!(
        catalogue.find("qwen2.5-coder:7b").unwrap().id.as_str(),
        "qwen2.5-coder-7b-instruct"
    );
}

#[test]
fn a_misspelt_model_is_answered_with_the_nearest() {
    let catalogue = Catalogue::built_in();
    let error = catalogue.find("smolm2-135-instruct").unwrap_err().to_string();
    assert!(error.contains("did you mean smollm2-135m-instruct or "), "{error}");
    let error = catalogue.find("zzz").unwrap_err().to_string();
    assert_eq!(error, r#"there is no model "zzz"; `engine-builder list` shows what there is"#);
}

/// The default model's file with one change, in a directory of its own.
fn changed(from: &str, to: &str) -> (tempfile::TempDir, Result<Catalogue, String>) {
    let dir = tempfile::tempdir().unwrap();
    let text = FILES[0].1;
    assert!(text.contains(from), "{from}");
    fs::write(dir.path().join("mine.toml"), text.replacen(from, to, 1)).unwrap();
    fs::write(dir.path().join("README"), "no model").unwrap();
    let place = format!("{}/", dir.path().display());
    let read =
        Catalogue::with_dir(dir.path()).map_err(|error| error.to_string().replace(&place, ""));
    (dir, read)
}

#[test]
fn a_users_file_replaces_the_model_of_its_id() {
    let (_dir, catalogue) = changed("\"Apache-2.0\"", "\"MIT\"");
    let catalogue = catalogue.unwrap();
    assert_eq!(catalogue.entries().len(), FILES.len());
    assert_eq!(catalogue.find("smollm2").unwrap().licence, "MIT");
}

#[test]
fn a_users_file_adds_a_model_unless_its_names_are_taken() {
    let id = "\"smollm2-135m-instruct\"";
    let (_dir, taken) = changed(id, "\"mine\"");
    expect![[r#"mine.toml:4: aliases: "smollm2:135m" already names smollm2-135m-instruct"#]]
        .assert_eq(&taken.unwrap_err());
    let dir = tempfile::tempdir().unwrap();
    let text = FILES[0].1.replacen(id, "\"mine\"", 1);
    let aliases = text.lines().find(|line| line.starts_with("aliases")).unwrap();
    fs::write(dir.path().join("m.toml"), text.replacen(aliases, "aliases = []", 1)).unwrap();
    let catalogue = Catalogue::with_dir(dir.path()).unwrap();
    assert_eq!(catalogue.entries().len(), FILES.len() + 1);
    assert_eq!(catalogue.find("Mine").unwrap().id.as_str(), "mine");
}

#[test]
fn a_directory_that_is_not_there_adds_nothing() {
    let catalogue = Catalogue::with_dir(Path::new("/nowhere/models.d")).unwrap();
    assert_eq!(catalogue.entries().len(), FILES.len());
}

#[test]
fn a_wrong_file_is_named_with_line_and_key() {
    let check = |from, to, expected: Expect| {
        let (_dir, read) = changed(from, to);
        expected.assert_eq(&read.unwrap_err());
    };
    check(
        "licence =",
        "license =",
        expect!["mine.toml:5: license: unknown key; did you mean licence?"],
    );
    check(
        "[weights]",
        "[weights]\nparametres = 1",
        expect!["mine.toml:24: weights.parametres: unknown key; did you mean parameters?"],
    );
    check(
        "bytes = 98362432",
        "bytes = \"large\"",
        expect![[r#"mine.toml:27: weights.bytes: invalid type: string "large", expected u64"#]],
    );
    check(
        "sha256 = \"b1",
        "sha256 = \"B1",
        expect![[
            r#"mine.toml:28: weights.sha256: "B179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" is not a sha256 in lower-case hexadecimal"#
        ]],
    );
    check(
        "revision = \"12",
        "revision = \"main",
        expect![[
            r#"mine.toml:21: source.checkpoint.revision: "mainfd25f77366fa6b3b4b768ec3050bf629380bac" is neither a commit of 40 hexadecimal digits nor "unknown""#
        ]],
    );
    check(
        "heads = 9",
        "heads = 0",
        expect!["mine.toml:37: architecture.heads: 0 is not between 1 and 1024"],
    );
    check(
        "kv_heads = 3",
        "kv_heads = 4",
        expect!["mine.toml:38: architecture.kv_heads: 4 do not share 9 heads evenly"],
    );
    check(
        "layers = 30",
        "layers = 31",
        expect!["mine.toml:26: weights.parameters: 134515008; the architecture has 138055104"],
    );
    check(
        "= 23040",
        "= 23041",
        expect![
            "mine.toml:31: weights.kv_bytes_per_token: 23041; 2 × layers × kv_heads × head_dim × 2 bytes are 23040"
        ],
    );
    check(
        "context = 4096",
        "context = 100000",
        expect!["mine.toml:54: serving.context: 100000 is not within weights.trained_context"],
    );
    check(
        "trained_context = 8192\n",
        "",
        expect!["mine.toml:23: weights: missing field `trained_context`"],
    );
    check(
        "id = \"",
        "id = \"../",
        expect![[
            r#"mine.toml:2: id: "../smollm2-135m-instruct" cannot be an engine's name: use letters, digits, '.', '_', '-' and ':', at most 100, beginning with a letter or digit; "default" is taken"#
        ]],
    );
    check("[serving]", "[serving", expect!["mine.toml:53: unclosed table, expected `]`"]);
    check(
        "kind = \"default\"",
        "kind = \"linear\"",
        expect!["mine.toml:44: architecture.rope.factor: is missing"],
    );
}

#[test]
fn a_file_that_is_no_text_or_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.toml"), [0xff, 0xfe]).unwrap();
    let error = Catalogue::with_dir(dir.path()).unwrap_err().chain();
    assert!(error.contains("a.toml: stream did not contain valid UTF-8"), "{error}");
    let long = format!("{}\n{}", FILES[0].1, "#".repeat(1 << 20));
    fs::write(dir.path().join("a.toml"), long).unwrap();
    let error = Catalogue::with_dir(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("a.toml: is longer than 65536 bytes"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        at in 0..4000usize, length in 0..40usize, with in "(?s).{0,20}",
    ) {
        let mut text = FILES[0].1.to_owned();
        let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
        let (from, to) = (boundary(at).unwrap(), boundary(at + length).unwrap());
        text.replace_range(from..to, &with);
        let _ = read::entry(Path::new("m.toml"), &text);
    }
}

//! The README keeps up with the code: every configuration key and every path
//! that is served stands in it, and what it links to is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace").into()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))
}

/// The keys that the configuration's types on paper have, as `table.key`.
fn keys_of_the_code(source: &str) -> BTreeSet<String> {
    let mut table = String::new();
    let mut keys = BTreeSet::new();
    for line in source.lines().map(str::trim) {
        if let Some((_, name)) = line.split_once("struct ") {
            let name = name.trim_end_matches(" {").to_lowercase();
            table = if name == "raw" { String::new() } else { format!("{name}.") };
        } else if let Some((key, kind)) =
            line.strip_prefix("pub(super) ").and_then(|field| field.split_once(": "))
        {
            // A field of a type of that name is a table, not a key.
            if kind.trim_end_matches(',').to_lowercase() != key {
                keys.insert(format!("{table}{key}"));
            }
        }
    }
    keys
}

/// The first cells of a table's rows, where they are one word of code.
fn keys_of_the_readme(readme: &str) -> BTreeSet<String> {
    let cells = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(key, _)| key.to_owned()).filter(|key| !key.contains(' ')).collect()
}

/// The paths in the route table, but the page's own parts.
fn served_paths(source: &str) -> Vec<String> {
    let rows = source.lines().map(str::trim).filter(|line| line.starts_with("(\""));
    let paths = rows.filter_map(|row| row.split('"').nth(3));
    paths.filter(|path| !path.starts_with("/assets/")).map(str::to_owned).collect()
}

/// What `[text](target)` points to within the repository.
fn links(readme: &str) -> Vec<&str> {
    let targets = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.starts_with("http") && !target.starts_with('#')).collect()
}

#[test]
fn every_key_stands_in_the_table_and_no_other() -> Result<()> {
    let code = keys_of_the_code(&read("supervisor/src/config/raw.rs")?);
    ensure!(code.contains("server.listen") && code.contains("state_dir"), "found {code:?}");
    assert_eq!(keys_of_the_readme(&read("README.md")?), code);
    Ok(())
}

#[test]
fn every_path_is_named() -> Result<()> {
    let readme = read("README.md")?;
    let paths = served_paths(&read("supervisor/src/api/paths.rs")?);
    ensure!(paths.iter().any(|path| path == "/api/chat"), "found {paths:?}");
    let missing: Vec<_> = paths.iter().filter(|path| !readme.contains(*path)).collect();
    assert_eq!(missing, [""; 0]);
    Ok(())
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let readme = read("README.md")?;
    let dead: Vec<_> = links(&readme).into_iter().filter(|to| !root().join(to).exists()).collect();
    assert_eq!(dead, [""; 0]);
    Ok(())
}

#[test]
fn what_is_missing_is_seen() {
    let source = "struct Raw {\n pub(super) state_dir: PathBuf,\n pub(super) server: Server,\n}\n\
                  struct Server {\n pub(super) listen: String,\n}";
    let keys = ["server.listen", "state_dir"].map(str::to_owned);
    assert_eq!(keys_of_the_code(source), BTreeSet::from(keys));
    assert_eq!(
        keys_of_the_readme("| `POST /x` | y |\n| `state_dir` | z |"),
        BTreeSet::from(["state_dir".to_owned()])
    );
    assert_eq!(served_paths("(\"GET\", \"/a\"),\n(\"GET\", \"/assets/b\"),"), ["/a"]);
    assert_eq!(links("[a](b.md) [c](http://d) [e](#f)"), ["b.md"]);
}

//! The shape of the repository: who may depend on whom, what the supervisor
//! must never be linked to, and where files, versions and reasons stand.
//!
//! Each rule is a function of what was read, so that it is also shown here
//! that it can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What is built for. Dependencies for other systems do not count.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// Our packages and those of ours that each may use. `tests` looks at all of
/// them from outside and is used by none.
const DIRECTION: [(&str, &[&str]); 13] = [
    ("recreated-boards", &[]),
    ("jetpack", &["recreated-boards"]),
    ("cuda-device", &["jetpack"]),
    ("tensorrt-llm", &[]),
    ("engine-api", &["jetpack"]),
    ("engine-worker", &["cuda-device", "engine-api", "jetpack", "tensorrt-llm"]),
    ("indexer", &["engine-api", "jetpack"]),
    ("engine-builder", &["cuda-device", "engine-api", "jetpack"]),
    ("vector-scan", &[]),
    ("supervisor", &["engine-api", "jetpack", "recreated-boards", "vector-scan"]),
    ("engine-worker-on-stand-in", &["engine-worker"]),
    ("virtual-jetson", &["engine-api", "jetpack"]),
    (
        "tests",
        &[
            "engine-api",
            "engine-builder",
            "engine-worker",
            "jetpack",
            "supervisor",
            "vector-scan",
            "virtual-jetson",
        ],
    ),
];

/// Parts of the names of packages that hold model code or bring CUDA into the
/// process: a fault in them could end the supervisor.
const NEVER_IN_THE_SUPERVISOR: [&str; 7] =
    ["llama", "cudarc", "cuda", "tensorrt", "rten", "tokenizers", "tree-sitter"];

/// Foreign code that the supervisor may nevertheless hold.
const FOREIGN_CODE_IN_THE_SUPERVISOR: [&str; 3] = [
    "libsqlite3-sys",   // SQLite, compiled in
    "nvml-wrapper-sys", // opens the driver's sensor library at run time, if there is one
    "linux-raw-sys",    // numbers of system calls; nothing is linked
];

/// Longest source file, in lines.
const MAX_LINES: usize = 700;

/// File names that say nothing about what the file holds.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "misc", "shared", "stuff"];

/// Extensions of what people read as source.
const SOURCE: [&str; 8] = ["rs", "sh", "py", "js", "css", "html", "sql", "toml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
        .into()
}

/// What is read here of the document of `cargo metadata`. Its own library would
/// turn on features of packages that the programs use, and so have them compiled
/// a second time for the tests.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    /// Ids of our own.
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
    target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    /// The native library that it claims.
    links: Option<String>,
    manifest_path: PathBuf,
    dependencies: Vec<Named>,
}

/// A dependency as a manifest names it.
#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

/// A package in the graph.
#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    /// The id of what is depended on.
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    /// `dev` or `build`; none is what a program is linked from.
    kind: Option<String>,
}

impl Metadata {
    /// The graph with every feature on, for one platform.
    fn read(platform: &str) -> Result<Self> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--format-version=1", "--locked", "--all-features"]);
        cargo.args(["--filter-platform", platform]).current_dir(root());
        let output = cargo.output().with_context(|| format!("start {cargo:?}"))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{cargo:?} ended with {}: {complaint}", output.status);
        serde_json::from_slice(&output.stdout).with_context(|| format!("parse what {cargo:?} said"))
    }

    fn our_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }
}

/// Our packages with those of ours that each one depends on, in whatever way.
fn edges_between_our_packages(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeSet<_> = metadata.our_packages().map(|package| &package.name).collect();
    metadata
        .our_packages()
        .map(|package| {
            let used = package.dependencies.iter().map(|dependency| &dependency.name);
            (package.name.clone(), used.filter(|name| names.contains(name)).cloned().collect())
        })
        .collect()
}

/// Edges that [`DIRECTION`] does not allow, and packages it does not know.
fn wrong_edges(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let allowed: BTreeMap<_, _> = DIRECTION.into_iter().collect();
    let wrong = |(package, used): (&String, &BTreeSet<String>)| {
        let Some(allowed) = allowed.get(package.as_str()) else {
            return vec![format!("{package} is not in the table of directions")];
        };
        used.iter()
            .filter(|name| !allowed.contains(&name.as_str()))
            .map(|name| format!("{package} → {name}"))
            .collect()
    };
    edges.iter().flat_map(wrong).collect()
}

/// What the package's programs are linked from: the normal dependencies, and
/// theirs.
fn linked_into<'m>(metadata: &'m Metadata, name: &str) -> Vec<&'m Package> {
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let start = metadata.our_packages().find(|package| package.name == name);
    let mut found = BTreeSet::new();
    let mut to_visit: Vec<&str> = start.map(|package| package.id.as_str()).into_iter().collect();
    while let Some(id) = to_visit.pop() {
        if found.insert(id) {
            let is_normal = |edge: &&Edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none());
            let normal = nodes[id].deps.iter().filter(is_normal);
            to_visit.extend(normal.map(|edge| edge.pkg.as_str()));
        }
    }
    metadata.packages.iter().filter(|package| found.contains(package.id.as_str())).collect()
}

/// Packages that the supervisor must not be linked from.
fn forbidden_in_the_supervisor(linked: &[&Package]) -> Vec<String> {
    let is_forbidden = |package: &&&Package| {
        let foreign = package.name.ends_with("-sys") || package.links.is_some();
        NEVER_IN_THE_SUPERVISOR.iter().any(|part| package.name.contains(part))
            || foreign && !FOREIGN_CODE_IN_THE_SUPERVISOR.contains(&package.name.as_str())
    };
    linked
        .iter()
        .filter(is_forbidden)
        .map(|package| format!("{} (links {:?})", package.name, package.links))
        .collect()
}

/// Lines of a package's dependency tables that name a version of their own or
/// give no reason.
fn careless_dependencies(manifest: &str) -> Vec<&str> {
    let mut in_table = false;
    let is_careless = |line: &&str| {
        let (dependency, reason) = line.split_once('#').unwrap_or((line, ""));
        !dependency.contains("workspace = true") || reason.trim().is_empty()
    };
    manifest
        .lines()
        .map(str::trim)
        .filter(|line| {
            if line.starts_with('[') {
                // `[dependencies.x]` is a way round this rule.
                in_table = line.ends_with("dependencies]");
                return line.contains("dependencies.");
            }
            in_table && !line.is_empty() && !line.starts_with('#')
        })
        .filter(is_careless)
        .collect()
}

/// What is wrong with a source file as such.
fn untidy(path: &Path, text: &str) -> Option<&'static str> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    let says_what_it_is_for =
        ["//! ", "#![doc = include_str!("].iter().any(|start| text.starts_with(start));
    if EMPTY_NAMES.contains(&stem) {
        Some("is named for nothing that it holds")
    } else if text.lines().count() > MAX_LINES {
        Some("is too long")
    } else if is_rust && !says_what_it_is_for {
        Some("does not begin by saying what it is for")
    } else {
        None
    }
}

/// Source files below `directory`, without what is hidden and what was `built`.
fn source_files(directory: &Path, built: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut to_visit = vec![directory.to_path_buf()];
    while let Some(directory) = to_visit.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("list {}", directory.display()))?
            .collect::<Result<Vec<_>, _>>()?;
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            let is_hidden = name.to_string_lossy().starts_with('.');
            if entry.file_type()?.is_dir() {
                // Cargo marks the build directories that it made itself.
                if !is_hidden && path != built && !path.join("CACHEDIR.TAG").exists() {
                    to_visit.push(path);
                }
            } else if path.extension().is_some_and(|e| SOURCE.iter().any(|source| e == *source)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[test]
fn our_packages_depend_on_each_other_in_one_direction() -> Result<()> {
    let edges = edges_between_our_packages(&Metadata::read(PLATFORMS[0])?);
    assert_eq!(wrong_edges(&edges), [""; 0]);
    let known: BTreeSet<_> = DIRECTION.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(edges.into_keys().collect::<BTreeSet<_>>(), known);
    Ok(())
}

#[test]
fn a_wrong_direction_is_seen() {
    let uses = |name: &str| BTreeSet::from([name.to_owned()]);
    let edges = BTreeMap::from([
        ("jetpack".to_owned(), uses("engine-api")),
        ("supervisor".to_owned(), uses("engine-worker")),
        ("engine-worker".to_owned(), uses("engine-api")),
        ("extra".to_owned(), uses("jetpack")),
    ]);
    let expected = [
        "extra is not in the table of directions",
        "jetpack → engine-api",
        "supervisor → engine-worker",
    ];
    assert_eq!(wrong_edges(&edges), expected);
}

#[test]
fn the_supervisor_holds_no_model_code_and_no_cuda() -> Result<()> {
    for platform in PLATFORMS {
        let metadata = Metadata::read(platform)?;
        let linked = linked_into(&metadata, "supervisor");
        assert!(linked.iter().any(|package| package.name == "libsqlite3-sys"), "{linked:?}");
        assert_eq!(forbidden_in_the_supervisor(&linked), [""; 0], "{platform}");
    }
    Ok(())
}

#[test]
fn model_code_is_seen_where_it_is() -> Result<()> {
    let metadata = Metadata::read(PLATFORMS[0])?;
    let seen = forbidden_in_the_supervisor(&linked_into(&metadata, "engine-worker")).concat();
    for package in ["llama-cpp-2", "llama-cpp-sys-2", "tensorrt-llm", "tokenizers"] {
        assert!(seen.contains(&format!("{package} (")), "{package} in {seen}");
    }
    Ok(())
}

#[test]
fn every_dependency_has_a_reason_and_no_version_of_its_own() -> Result<()> {
    for package in Metadata::read(PLATFORMS[0])?.our_packages() {
        let path = &package.manifest_path;
        let manifest =
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        assert_eq!(careless_dependencies(&manifest), [""; 0], "{}", path.display());
    }
    Ok(())
}

#[test]
fn a_careless_dependency_is_seen() {
    let manifest = "\
[package]
name = 'x'
[dependencies]
a.workspace = true # reads sensors
b.workspace = true
c = '1' # parses things
[target.'cfg(unix)'.dev-dependencies]
d = { workspace = true, features = ['e'] } #
[dependencies.f]
[lints]
workspace = true
";
    let expected = [
        "b.workspace = true",
        "c = '1' # parses things",
        "d = { workspace = true, features = ['e'] } #",
        "[dependencies.f]",
    ];
    assert_eq!(careless_dependencies(manifest), expected);
}

#[test]
fn source_files_are_named_for_what_they_hold_and_stay_small() -> Result<()> {
    let files = source_files(&root(), &Metadata::read(PLATFORMS[0])?.target_directory)?;
    assert!(files.iter().any(|path| path.ends_with("tests/tests/packages.rs")));
    let mut found = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        found.extend(untidy(&path, &text).map(|what| format!("{} {what}", path.display())));
    }
    assert_eq!(found, [""; 0]);
    Ok(())
}

#[test]
fn an_untidy_file_is_seen() {
    let long = "//! Long.\n".repeat(MAX_LINES + 1);
    assert!(untidy(Path::new("src/utils.rs"), "//! Utilities.").is_some());
    assert!(untidy(Path::new("src/engine.rs"), "use std::fs;").is_some());
    assert!(untidy(Path::new("src/engine.rs"), &long).is_some());
    assert_eq!(untidy(Path::new("src/engine.rs"), "//! One engine.\n"), None);
}

//! The shape of the repository: who may depend on whom, what the supervisor
//! must never be linked to, and where files, versions and reasons stand.
//!
//! Each rule is a function of what was read, so that it is also shown here
//! that it can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, PackageId};

/// What is built for. Dependencies for other systems do not count.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// Our packages and those of ours that each may use. `tests` looks at all of
/// them from outside and is used by none.
const DIRECTION: [(&str, &[&str]); 12] = [
    ("jetpack", &[]),
    ("cuda-device", &["jetpack"]),
    ("tensorrt-llm", &[]),
    ("engine-api", &["jetpack"]),
    ("engine-worker", &["cuda-device", "engine-api", "jetpack", "tensorrt-llm"]),
    ("indexer", &["engine-api", "jetpack"]),
    ("engine-builder", &["cuda-device", "engine-api", "jetpack"]),
    ("vector-scan", &[]),
    ("supervisor", &["engine-api", "jetpack", "vector-scan"]),
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

/// The graph with every feature on, for one platform.
fn metadata(platform: &str) -> Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), platform.to_owned()])
        .exec()
        .with_context(|| format!("ask cargo for the graph on {platform}"))
}

/// Our packages with those of ours that each one depends on, in whatever way.
fn edges_between_our_packages(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let ours: Vec<_> = metadata.workspace_packages();
    let names: BTreeSet<_> = ours.iter().map(|package| package.name.to_string()).collect();
    ours.iter()
        .map(|package| {
            let used = package.dependencies.iter().map(|dependency| dependency.name.clone());
            (package.name.to_string(), used.filter(|name| names.contains(name)).collect())
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

/// A package that ends up in a program of ours.
#[derive(Debug)]
struct Linked {
    name: String,
    /// The native library that it claims, by cargo's `links` key.
    links: Option<String>,
}

/// What the package's programs are linked from: the normal dependencies, and
/// theirs.
fn linked_into(metadata: &Metadata, name: &str) -> Vec<Linked> {
    let resolve = metadata.resolve.as_ref().expect("cargo metadata was asked for the graph");
    let nodes: BTreeMap<&PackageId, _> =
        resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = metadata.workspace_packages().into_iter().find(|package| package.name == name);
    let mut found = BTreeSet::new();
    let mut to_visit: Vec<&PackageId> = start.map(|package| &package.id).into_iter().collect();
    while let Some(id) = to_visit.pop() {
        if found.insert(id) {
            let normal = nodes[id].deps.iter().filter(|dependency| {
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
            });
            to_visit.extend(normal.map(|dependency| &dependency.pkg));
        }
    }
    let linked = |id: &PackageId| Linked {
        name: metadata[id].name.to_string(),
        links: metadata[id].links.clone(),
    };
    found.into_iter().map(linked).collect()
}

/// Packages that the supervisor must not be linked from.
fn forbidden_in_the_supervisor(linked: &[Linked]) -> Vec<String> {
    let is_forbidden = |package: &&Linked| {
        let foreign = package.name.ends_with("-sys") || package.links.is_some();
        NEVER_IN_THE_SUPERVISOR.iter().any(|part| package.name.contains(part))
            || foreign && !FOREIGN_CODE_IN_THE_SUPERVISOR.contains(&package.name.as_str())
    };
    linked.iter().filter(is_forbidden).map(|package| format!("{package:?}")).collect()
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
    let edges = edges_between_our_packages(&metadata(PLATFORMS[0])?);
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
        let linked = linked_into(&metadata(platform)?, "supervisor");
        assert!(linked.iter().any(|package| package.name == "libsqlite3-sys"), "{linked:?}");
        assert_eq!(forbidden_in_the_supervisor(&linked), [""; 0], "{platform}");
    }
    Ok(())
}

#[test]
fn model_code_is_seen_where_it_is() -> Result<()> {
    let linked = linked_into(&metadata(PLATFORMS[0])?, "engine-worker");
    let seen = forbidden_in_the_supervisor(&linked).concat();
    for package in ["llama-cpp-2", "llama-cpp-sys-2", "tensorrt-llm", "tokenizers"] {
        assert!(seen.contains(&format!("\"{package}\"")), "{package} in {seen}");
    }
    Ok(())
}

#[test]
fn every_dependency_has_a_reason_and_no_version_of_its_own() -> Result<()> {
    for package in metadata(PLATFORMS[0])?.workspace_packages() {
        let path = package.manifest_path.as_std_path();
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
    let metadata = metadata(PLATFORMS[0])?;
    let files = source_files(&root(), metadata.target_directory.as_std_path())?;
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

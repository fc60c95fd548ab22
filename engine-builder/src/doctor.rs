//! `engine-builder doctor`: what is wrong with the engines, why it matters and
//! what to do about it.
//!
//! A finding is a pure function of what was seen, as in `stoker doctor`. Nothing
//! is changed. What could not be looked at is neither well nor ill, and is said.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jetpack::disk::Disk;
use jetpack::{Bytes, Finding, Severity};

use crate::catalogue::{Catalogue, Entry, Form};
use crate::embedder;
use crate::engines::Engines;
use crate::error::Error;
use crate::fetch::pins::Pins;
use crate::fetch::wanted;
use crate::foreign::idle::{self, Fate, Work};
use crate::hash::Sha256Hex;
use crate::installed::{self, Installed};
use crate::lock;
use crate::staleness::Here;

/// What the findings are drawn from.
#[derive(Debug)]
pub struct Seen {
    pub here: Here,
    pub engines: Vec<Installed>,
    /// The default engine's name, whether or not there is such an engine.
    pub default: Option<String>,
    /// Whether a builder is at work: what it has begun is no leftover.
    pub busy: bool,
    pub leftovers: Vec<String>,
    /// What the steps of builds have left, and what is to become of it.
    pub work: Vec<(Work, Fate)>,
    /// Model files in the cache that no engine was built from.
    pub idle_cache: Vec<(PathBuf, Bytes)>,
    pub disk: Option<Disk>,
}

impl Seen {
    /// Looks at the engines and at the cache in `cache_dir`, `now` being seconds
    /// since 1970.
    ///
    /// # Errors
    /// [`Error::Io`] if a directory that is there cannot be read.
    pub fn now(
        engines: &Engines,
        cache_dir: &Path,
        catalogue: &Catalogue,
        here: Here,
        now: u64,
    ) -> Result<Self, Error> {
        let installed = installed::all(engines, &here)?;
        let busy = match lock::look(engines.path()) {
            Ok(()) => false,
            Err(Error::Busy { .. }) => true,
            Err(error) => return Err(error),
        };
        // A directory that is not there yet will be made on the same disk.
        let there = engines.path().ancestors().find(|path| path.exists());
        Ok(Self {
            idle_cache: idle_cache(cache_dir, catalogue, &installed, engines.state_dir()),
            default: engines.default_id(),
            leftovers: engines.leftovers()?,
            work: with_fate(idle::all(engines, &installed)?, now),
            disk: there.and_then(|path| Disk::holding(path).ok()),
            engines: installed,
            busy,
            here,
        })
    }
}

fn with_fate(all: Vec<Work>, now: u64) -> Vec<(Work, Fate)> {
    let judged = |work: Work| {
        let fate = work.fate(now);
        (work, fate)
    };
    all.into_iter().map(judged).collect()
}

/// Model files below `cache_dir` that no engine has, by the catalogue's hash.
fn idle_cache(
    dir: &Path,
    catalogue: &Catalogue,
    engines: &[Installed],
    state_dir: &Path,
) -> Vec<(PathBuf, Bytes)> {
    let sounds = || engines.iter().filter_map(|engine| engine.state.as_ref().ok());
    let has = |sha256: &str| {
        sounds().flat_map(|sound| &sound.manifest.files).any(|file| file.sha256 == sha256)
    };
    let used = |model: &Path| {
        let name = model.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(embedder) = embedder::find(name) {
            return embedder.files().iter().any(|file| has(file.sha256.as_str()));
        }
        let entry = catalogue.entries().iter().find(|entry| entry.id.as_str() == name);
        entry.and_then(|entry| known(entry, state_dir)).is_some_and(|it| has(it.as_str()))
    };
    let models = fs::read_dir(dir.join("models")).into_iter().flatten().flatten();
    let idle = models.map(|entry| entry.path()).filter(|path| path.is_dir() && !used(path));
    idle.filter_map(|path| {
        let forms = Form::ALL.map(|form| path.join(form.name()));
        let bytes =
            forms.iter().map(|form| bytes_in(form)).fold(bytes_in(&path), u64::saturating_add);
        (bytes > SMALL).then_some((path, Bytes::new(bytes)))
    })
    .collect()
}

/// The hash of the file that an engine is built from: the catalogue's, or the
/// one that was learnt.
fn known(entry: &Entry, state_dir: &Path) -> Option<Sha256Hex> {
    let pins = Pins::read(state_dir, &entry.id).unwrap_or_default();
    wanted::wanted(entry, Form::usual(entry), &pins)?.files.into_iter().next()?.sha256
}

/// What the files in a directory take, half-fetched ones too.
fn bytes_in(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.blocks().saturating_mul(512)));
    sizes.fold(0, u64::saturating_add)
}

/// Locks and logs are not worth a word.
const SMALL: u64 = 1 << 20;

/// What deserves to be said, the most serious first.
#[must_use]
pub fn findings(seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    default(seen, &mut found);
    for engine in &seen.engines {
        one(engine, &seen.here, &mut found);
    }
    if !seen.leftovers.is_empty() && !seen.busy {
        found.push(Finding {
            kind: "leftovers",
            severity: Severity::Warning,
            problem: format!("{} were left by work that was cut short", seen.leftovers.join(", ")),
            why: "they take room on the disk, and no engine needs them".into(),
            advice: "`engine-builder gc` removes them; so does the next build".into(),
        });
    }
    for (work, fate) in seen.work.iter().filter(|_| !seen.busy) {
        found.extend(left_by_steps(work, fate));
    }
    for (path, bytes) in &seen.idle_cache {
        found.push(Finding {
            kind: "idle_cache",
            severity: Severity::Note,
            problem: format!("{} keeps {bytes} of a model without an engine", path.display()),
            why: "it takes room on the disk, and saves the fetch if the engine is built".into(),
            advice: "build the engine, or remove the directory".into(),
        });
    }
    disk(seen, &mut found);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

fn left_by_steps(work: &Work, fate: &Fate) -> Option<Finding> {
    let finding = match fate {
        Fate::Goes { paths, bytes, why } => {
            let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            Finding {
                kind: "idle_work",
                severity: Severity::Warning,
                problem: format!("{} keeps {bytes} of a build: {why}", paths.join(", ")),
                why: "it takes room on the disk, and no build goes on from it".into(),
                advice: "`engine-builder gc` removes it".into(),
            }
        }
        Fate::Stays { why } if work.bytes.get() > SMALL => Finding {
            kind: "unfinished_work",
            severity: Severity::Note,
            problem: format!("{} keeps {} of a build: {why}", work.dir.display(), work.bytes),
            why: "it takes room on the disk, and saves the steps that are finished".into(),
            advice: format!("build {} again, or remove the directory", work.model),
        },
        Fate::Stays { .. } => return None,
    };
    Some(finding)
}

fn default(seen: &Seen, found: &mut Vec<Finding>) {
    // Embedders serve beside the default. What cannot be read could be either.
    let answers = |engine: &&Installed| {
        engine.state.as_ref().map_or(true, |sound| !sound.manifest.is_embedder())
    };
    let engines: Vec<&Installed> = seen.engines.iter().filter(answers).collect();
    let there = |name: &String| engines.iter().any(|engine| engine.id.as_str() == name);
    let (problem, severity) = match (&seen.default, &engines[..]) {
        (Some(name), _) if !there(name) => {
            (format!("the default is {name}, and there is no such engine"), Severity::Serious)
        }
        (None, []) => ("there is no engine".into(), Severity::Serious),
        (None, [_, _, ..]) => {
            ("there are several engines and none is the default".into(), Severity::Warning)
        }
        _ => return,
    };
    let advice = match &engines[..] {
        [] => "`engine-builder build MODEL`; `engine-builder list` shows the models",
        _ => "`engine-builder use ENGINE`",
    };
    let why = "a server whose configuration names no engine has nothing to serve";
    found.push(Finding {
        kind: "no_default",
        severity,
        problem,
        why: why.into(),
        advice: advice.into(),
    });
}

fn one(engine: &Installed, here: &Here, found: &mut Vec<Finding>) {
    let id = &engine.id;
    let severity = if engine.is_default { Severity::Serious } else { Severity::Warning };
    let again = || format!("build {id} again");
    let sound = match &engine.state {
        Ok(sound) => sound,
        Err(error) => {
            let back = "or `engine-builder rollback`";
            let advice = if engine.is_default { format!("{}, {back}", again()) } else { again() };
            found.push(Finding {
                kind: "damaged_engine",
                severity,
                problem: error.chain(),
                why: "it cannot be loaded, or would compute something else".into(),
                advice,
            });
            return;
        }
    };
    let staleness = &sound.staleness;
    if staleness.is_stale() {
        found.push(Finding {
            kind: "stale_engine",
            severity: Severity::Warning,
            problem: format!("engine {id} was built for {}", staleness.words(here)),
            why: "an engine of another machine or release may fail to load or compute wrong".into(),
            advice: format!("`engine-builder rebuild {id}`, or build it again"),
        });
    }
    if !staleness.unknown.is_empty() {
        found.push(Finding {
            kind: "unknown_binding",
            severity: Severity::Note,
            problem: format!(
                "whether engine {id} belongs to this machine is not known for: {}",
                staleness.unknown_words()
            ),
            why: "the machine or the manifest does not tell, so it does not count as stale".into(),
            advice: format!("`engine-builder verify {id} --smoke` shows whether it still works"),
        });
    }
}

/// A build that cannot link its weights needs as much as the largest engine.
fn disk(seen: &Seen, found: &mut Vec<Finding>) {
    let sizes = seen.engines.iter().filter_map(|engine| Some(engine.state.as_ref().ok()?.bytes()));
    let (Some(largest), Some(disk)) = (sizes.max(), seen.disk) else { return };
    let (largest, free) = (Bytes::new(largest), disk.available_bytes);
    if free < largest {
        found.push(Finding {
            kind: "little_disk",
            severity: Severity::Warning,
            problem: format!("{free} of disk are free, the largest engine takes {largest}"),
            why: "an engine is replaced only when the new one stands whole beside it".into(),
            advice: "`engine-builder gc --dry-run` says what could go".into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::existing::sample;
    use crate::installed::{Sound, Verified};
    use crate::staleness::Staleness;

    fn engine(name: &str, is_default: bool) -> Installed {
        let mut manifest = sample::manifest(name, b"abc");
        manifest.bound_to.sm = Some(87);
        let here = Here { sm: Some(110), ..here() };
        let staleness = Staleness::of(&manifest, &here);
        let verified = Verified { at: 1, smoke: true };
        Installed {
            id: name.to_owned().try_into().unwrap(),
            is_default,
            is_previous: false,
            state: Ok(Sound { manifest, verified, staleness }),
        }
    }

    fn here() -> Here {
        Here { llama_cpp: Some(crate::plan::LLAMA_CPP.into()), ..Here::default() }
    }

    fn well() -> Seen {
        let mut only = engine("a", true);
        only.state.as_mut().unwrap().staleness = Staleness::default();
        let bytes = Bytes::new(1 << 30);
        Seen {
            here: here(),
            engines: vec![only],
            default: Some("a".into()),
            busy: false,
            leftovers: Vec::new(),
            work: Vec::new(),
            idle_cache: Vec::new(),
            disk: Some(Disk { total_bytes: bytes, available_bytes: bytes }),
        }
    }

    fn kinds(seen: &Seen) -> Vec<(&'static str, Severity)> {
        findings(seen).into_iter().map(|finding| (finding.kind, finding.severity)).collect()
    }

    #[test]
    fn nothing_is_found_where_all_is_well() {
        assert_eq!(findings(&well()), []);
    }

    #[test]
    fn an_embedder_serves_beside_the_default_and_is_none() {
        let embedder = || {
            let mut engine = engine("b", false);
            let sound = engine.state.as_mut().unwrap();
            sound.staleness = Staleness::default();
            sound.manifest.embedding = Some(embedder::entries()[0].embedding.clone());
            engine
        };
        let mut beside = well();
        beside.engines.push(embedder());
        assert_eq!(findings(&beside), []);
        let alone = Seen { engines: vec![embedder()], default: None, ..well() };
        assert_eq!(kinds(&alone), [("no_default", Severity::Serious)]);
    }

    #[test]
    fn what_cannot_serve_is_serious() {
        let gone = Seen { default: Some("b".into()), ..well() };
        assert_eq!(kinds(&gone), [("no_default", Severity::Serious)]);
        let none = Seen { engines: Vec::new(), default: None, ..well() };
        assert_eq!(kinds(&none), [("no_default", Severity::Serious)]);
        let mut damaged = well();
        damaged.engines[0].state = Err(Error::Damaged { id: "a".into(), what: "gone".into() });
        assert_eq!(kinds(&damaged), [("damaged_engine", Severity::Serious)]);
        damaged.engines[0].is_default = false;
        assert_eq!(kinds(&damaged), [("damaged_engine", Severity::Warning)]);
    }

    #[test]
    fn an_engine_of_another_machine_is_a_warning_and_an_unknown_one_a_note() {
        let stale = Seen { engines: vec![engine("a", true)], ..well() };
        assert_eq!(kinds(&stale), [("stale_engine", Severity::Warning)]);
        let mut unknown = well();
        unknown.engines[0].state.as_mut().unwrap().staleness.unknown =
            vec![crate::staleness::Binding::L4t];
        assert_eq!(kinds(&unknown), [("unknown_binding", Severity::Note)]);
    }

    #[test]
    fn leftovers_are_none_while_a_builder_works() {
        let left = || Seen { leftovers: vec![".building-a".into()], ..well() };
        assert_eq!(kinds(&left()), [("leftovers", Severity::Warning)]);
        assert_eq!(kinds(&Seen { busy: true, ..left() }), []);
    }

    #[test]
    fn a_disk_without_room_for_another_engine_and_an_idle_cache_are_said() {
        let bytes = Bytes::new(2);
        let disk = Some(Disk { total_bytes: bytes, available_bytes: bytes });
        let idle_cache = vec![("/c/models/x".into(), Bytes::new(5))];
        let seen = Seen { disk, idle_cache, ..well() };
        let expected = [("little_disk", Severity::Warning), ("idle_cache", Severity::Note)];
        assert_eq!(kinds(&seen), expected);
    }
}

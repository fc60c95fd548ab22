//! Engines that are already there: whether one is sound, and whether it is
//! the one that a plan would build.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use engine_api::manifest::{Artefact, Manifest, Quantised};

use crate::engines::{EngineId, Engines};
use crate::error::{Error, io};
use crate::hash;
use crate::plan::{Origin, Plan};
use crate::report::Report;

/// The manifest of an engine whose files are all there in their right sizes.
///
/// # Errors
/// [`Error::Manifest`] or [`Error::Damaged`].
pub fn open(engines: &Engines, id: &EngineId) -> Result<Manifest, Error> {
    let dir = engines.engine(id);
    let manifest =
        Manifest::read(&dir).map_err(|source| Error::Manifest { id: id.to_string(), source })?;
    let damaged = |what: String| Err(Error::Damaged { id: id.to_string(), what });
    if manifest.id != id.as_str() {
        return damaged(format!("its manifest is that of {:?}", manifest.id));
    }
    if manifest.smoke.is_none() {
        return damaged("its manifest has no smoke run".into());
    }
    match manifest.damage(&dir) {
        Some(what) => damaged(what),
        None => Ok(manifest),
    }
}

/// Reads every file of an engine and compares its hash with the manifest's.
///
/// # Errors
/// As [`open`], and [`Error::Io`] if a file cannot be read.
pub fn verify(engines: &Engines, id: &EngineId, report: &Report) -> Result<Manifest, Error> {
    let manifest = open(engines, id)?;
    let mut meter = report.meter(manifest.files.iter().map(|file| file.bytes).sum());
    for Artefact { path, sha256, .. } in &manifest.files {
        let file = engines.engine(id).join(path);
        let found = hash::file(&file, &mut meter).map_err(io("read", &file))?;
        if found.as_str() != sha256 {
            let what = format!("{} has the sha256 {found}, not {sha256}", path.display());
            return Err(Error::Damaged { id: id.to_string(), what });
        }
    }
    Ok(manifest)
}

/// The engine that `plan` would build, if it is already there. A damaged or a
/// different one is `None`: the build then replaces it.
///
/// # Errors
/// The user's own model file cannot be read.
pub fn same(engines: &Engines, plan: &Plan, report: &Report) -> Result<Option<Manifest>, Error> {
    let Ok(manifest) = open(engines, &plan.id) else { return Ok(None) };
    let alike = manifest.model == plan.model
        && manifest.backend == plan.backend
        && manifest.serving == plan.serving
        && manifest.embedding == plan.embedding
        && manifest.quantised.is_some() == plan.quantise.is_some();
    let [weights] = manifest.files.as_slice() else { return Ok(None) };
    if !alike {
        return Ok(None);
    }
    if let Some(quantised) = &manifest.quantised {
        let same = is_from(quantised, plan, report)?;
        return Ok(same.then_some(manifest));
    }
    if weights.bytes != plan.weights.bytes {
        return Ok(None);
    }
    let same = match (&plan.weights.sha256, &plan.weights.origin) {
        (Some(sha256), _) => weights.sha256 == sha256.as_str(),
        (None, Origin::Package { .. } | Origin::Hub { .. } | Origin::Checkpoint { .. }) => false,
        (None, Origin::File(path)) => {
            let placed = engines.engine(&plan.id).join(&weights.path);
            is_untouched_link(path, &placed, manifest.built_at)?
                || hash::file(path, &mut report.meter(weights.bytes))
                    .map_err(io("read", path))?
                    .as_str()
                    == weights.sha256
        }
    };
    Ok(same.then_some(manifest))
}

/// Whether an engine was quantised from the file that `plan` names. The type is
/// the model's, and has been compared.
fn is_from(quantised: &Quantised, plan: &Plan, report: &Report) -> Result<bool, Error> {
    if quantised.from != plan.made_from() || quantised.tool != plan.backend.version {
        return Ok(false);
    }
    let source = match (&plan.weights.sha256, &plan.weights.origin) {
        (Some(sha256), _) => sha256.clone(),
        (None, Origin::Package { .. } | Origin::Hub { .. } | Origin::Checkpoint { .. }) => {
            return Ok(false);
        }
        (None, Origin::File(path)) => {
            hash::file(path, &mut report.meter(plan.weights.bytes)).map_err(io("read", path))?
        }
    };
    Ok(source.as_str() == quantised.from_sha256)
}

/// Whether both are one file, last written before the engine was built: then
/// its hash need not be computed again.
fn is_untouched_link(file: &Path, placed: &Path, built_at: u64) -> Result<bool, Error> {
    let look = |path: &Path| path.metadata().map_err(io("look at", path));
    let (file, placed) = (look(file)?, look(placed)?);
    let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    let written = u64::try_from(file.mtime()).unwrap_or(0);
    Ok(identity(&file) == identity(&placed) && written < built_at)
}

#[cfg(test)]
pub(crate) mod sample;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use engine_api::chore::Target;

    use super::*;
    use crate::gguf;
    use crate::plan::{self, Wishes};

    /// An engine built from a model file, and the plan that built it.
    struct Built {
        dir: tempfile::TempDir,
        engines: Engines,
        plan: Plan,
    }

    fn built() -> Built {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.gguf");
        fs::write(&file, gguf::sample::Sample::of("llama").bytes()).unwrap();
        let plan = plan_for(file.clone());
        let engines = Engines::of(dir.path());
        let engine = engines.engine(&plan.id);
        fs::create_dir_all(&engine).unwrap();
        fs::copy(&file, engine.join("weights.gguf")).unwrap();
        let manifest = Manifest {
            model: plan.model.clone(),
            serving: plan.serving.clone(),
            ..sample::manifest(plan.id.as_str(), &fs::read(&file).unwrap())
        };
        crate::publish::write_manifest(&engine, &manifest).unwrap();
        Built { dir, engines, plan }
    }

    fn plan_for(file: PathBuf) -> Plan {
        let bytes = file.metadata().unwrap().len();
        plan::from_file(file.clone(), bytes, &gguf::read(&file).unwrap(), &Wishes::default())
            .unwrap()
    }

    impl Built {
        fn is_current(&self, plan: &Plan) -> bool {
            same(&self.engines, plan, &Report::silent()).unwrap().is_some()
        }

        fn weights(&self) -> PathBuf {
            self.engines.engine(&self.plan.id).join("weights.gguf")
        }

        fn edit(&self, from: &str, to: &str) {
            let path = self.engines.engine(&self.plan.id).join("engine.toml");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from));
            fs::write(&path, text.replace(from, to)).unwrap();
        }

        fn fault(&self) -> String {
            verify(&self.engines, &self.plan.id, &Report::silent()).unwrap_err().to_string()
        }
    }

    #[test]
    fn an_engine_is_not_built_twice() {
        let built = built();
        assert!(built.is_current(&built.plan));
        verify(&built.engines, &built.plan.id, &Report::silent()).unwrap();
    }

    #[test]
    fn other_wishes_or_another_backend_make_another_engine() {
        let built = built();
        let mut plan = built.plan.clone();
        plan.serving.max_sequences += 1;
        assert!(!built.is_current(&plan));
        let mut plan = built.plan.clone();
        plan.backend.version.push('1');
        assert!(!built.is_current(&plan));
    }

    #[test]
    fn another_file_of_the_same_size_makes_another_engine() {
        let built = built();
        let other = built.dir.path().join("other.gguf");
        let mut bytes = fs::read(built.weights()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&other, bytes).unwrap();
        assert!(!built.is_current(&plan_for(other)));
    }

    #[test]
    fn an_engine_that_was_quantised_here_is_known_by_its_source() {
        let built = built();
        let path = built.dir.path().join("model.gguf");
        let wishes = Wishes { quantise: Target::named("Q4_K_M"), ..Wishes::default() };
        let facts = gguf::read(&path).unwrap();
        let plan = plan::from_file(path.clone(), 1, &facts, &wishes).unwrap();
        assert!(!built.is_current(&plan), "the engine is not quantised");
        let dir = built.engines.engine(&plan.id);
        let mut manifest = Manifest::read(&dir).unwrap();
        manifest.model = plan.model.clone();
        manifest.quantised = Some(Quantised {
            from: plan.source_quantisation().into(),
            from_sha256: hash::file(&path, &mut Report::silent().meter(1)).unwrap().to_string(),
            tool: plan.backend.version.clone(),
            tensors: 1,
            fallbacks: 0,
        });
        let is_current_with = |change: &dyn Fn(&mut Quantised)| {
            let mut changed = manifest.clone();
            change(changed.quantised.as_mut().unwrap());
            crate::publish::write_manifest(&dir, &changed).unwrap();
            built.is_current(&plan)
        };
        assert!(is_current_with(&|_| {}));
        assert!(!is_current_with(&|quantised| quantised.from_sha256 = "0".repeat(64)));
        assert!(!is_current_with(&|quantised| quantised.tool.push('1')));
        assert!(!built.is_current(&built.plan), "the file itself is another engine");
    }

    #[test]
    fn a_linked_file_is_read_again_only_if_it_was_written_since() {
        let built = built();
        let linked = built.dir.path().join("linked.gguf");
        fs::hard_link(built.weights(), &linked).unwrap();
        let now = linked.metadata().unwrap().mtime().cast_unsigned();
        assert!(is_untouched_link(&linked, &built.weights(), now + 1).unwrap());
        assert!(!is_untouched_link(&linked, &built.weights(), now).unwrap());
        let copy = built.dir.path().join("model.gguf");
        assert!(!is_untouched_link(&copy, &built.weights(), now + 1).unwrap());
    }

    #[test]
    fn damage_is_named() {
        let damaged = built();
        let mut bytes = fs::read(damaged.weights()).unwrap();
        bytes[40] ^= 1;
        fs::write(damaged.weights(), &bytes).unwrap();
        assert!(damaged.fault().contains("weights.gguf has the sha256 "));
        bytes.pop();
        fs::write(damaged.weights(), &bytes).unwrap();
        assert!(damaged.fault().contains(&format!("has {} bytes, not ", bytes.len())));
        assert!(!damaged.is_current(&damaged.plan));
        fs::remove_file(damaged.weights()).unwrap();
        assert!(damaged.fault().contains("weights.gguf: No such file"));
    }

    #[test]
    fn a_manifest_that_was_edited_is_refused() {
        let other_id = built();
        other_id.edit("sample-model", "something-else");
        assert!(other_id.fault().contains(r#"its manifest is that of "something-else""#));
        let outside = built();
        outside.edit("\"weights.gguf\"", "\"../model.gguf\"");
        assert!(!outside.is_current(&outside.plan));
        let unknown = built();
        unknown.edit("manifest_version", "manifest_versions");
        assert!(!unknown.is_current(&unknown.plan));
    }
}

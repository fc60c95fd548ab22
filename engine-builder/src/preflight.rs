//! Whether the build can succeed, found out before anything costly begins.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use cuda_device::Gpu;
use jetpack::disk::Disk;
use jetpack::{Bytes, Machine, Root};

use crate::catalogue::Form;
use crate::engines::Engines;
use crate::error::{Error, io};
use crate::fetch::Cache;
use crate::foreign::record;
use crate::lock::Lock;
use crate::plan::{Origin, Plan};
use crate::{convert, publish, quantise};

/// Room for the manifest and directory entries.
const SMALL_FILES_BYTES: u64 = 1024 * 1024;

/// The way is free. While this lives, no other builder works here.
#[derive(Debug)]
pub struct Cleared {
    pub worker: PathBuf,
    /// One line on what was found.
    pub finding: String,
    _lock: Lock,
}

/// Makes the directories, takes the lock, tidies up and checks what the build needs.
///
/// # Errors
/// [`Error::Io`] if a directory cannot be written, [`Error::Busy`],
/// [`Error::Disk`], [`Error::Memory`] or [`Error::NoWorker`].
pub fn clear(
    plan: &Plan,
    engines: &Engines,
    cache: &Cache,
    worker: Option<&Path>,
) -> Result<Cleared, Error> {
    let (worker, lock) = begin(engines, worker)?;
    let available = memory(plan)?;
    let claims = claims(plan, engines, cache)?;
    let free = check_disk(&claims)?;
    let available = available.map_or("unknown".into(), |bytes: Bytes| bytes.to_string());
    let finding = format!("{free} of disk and {available} of memory free{}", gpus());
    Ok(Cleared { worker, finding, _lock: lock })
}

/// The GPUs that CUDA has and their free memory; nothing without one.
fn gpus() -> String {
    let free = |gpu: &Gpu| gpu.free().map_or("unknown".into(), |free| free.to_string());
    let one = |gpu: Gpu| format!(", {} of {gpu}", free(&gpu));
    Gpu::all().map_or_else(|_| String::new(), |gpus| gpus.into_iter().map(one).collect())
}

/// The same for an engine of which it is known where how many bytes will be written;
/// its memory is small.
///
/// # Errors
/// As [`clear`].
pub(crate) fn clear_for(
    claims: &[(PathBuf, u64)],
    engines: &Engines,
    worker: Option<&Path>,
) -> Result<Cleared, Error> {
    let (worker, lock) = begin(engines, worker)?;
    let mut all = vec![Claim::new(engines.path(), SMALL_FILES_BYTES)?];
    for (path, bytes) in claims {
        all.push(Claim::new(path, *bytes)?);
    }
    let finding = format!("{} of disk free", check_disk(&all)?);
    Ok(Cleared { worker, finding, _lock: lock })
}

/// Makes the directory, takes the lock and tidies up.
fn begin(engines: &Engines, worker: Option<&Path>) -> Result<(PathBuf, Lock), Error> {
    let worker = find_worker(worker)?;
    make_dir(engines.path())?;
    let lock = Lock::take(engines.path())?;
    // First: what an earlier build left must not count against this one's disk.
    publish::recover(engines)?;
    Ok((worker, lock))
}

/// The named worker, or the one beside this program.
pub(crate) fn find_worker(named: Option<&Path>) -> Result<PathBuf, Error> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            let own = std::env::current_exe().map_err(io("find", Path::new("this program")))?;
            own.with_file_name("engine-worker")
        }
    };
    let is_program =
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0);
    if is_program { Ok(path) } else { Err(Error::NoWorker { path }) }
}

/// Makes a directory that everyone may read, with its parents, and puts their
/// names to the disk: what is synced inside is lost with a name that is not.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    let missing: Vec<_> = path.ancestors().take_while(|dir| is_missing(dir)).collect();
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io("create", path))?;
    for dir in missing {
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        publish::sync(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// The empty path stands for where we are.
fn is_missing(dir: &Path) -> bool {
    !dir.as_os_str().is_empty() && !dir.exists()
}

/// The memory that is available, if that can be found out.
fn memory(plan: &Plan) -> Result<Option<Bytes>, Error> {
    let memory = Machine::open(Root::default()).sample().memory;
    let Some(available) = memory.map(|memory| memory.available_bytes) else { return Ok(None) };
    if plan.memory() <= available {
        return Ok(Some(available));
    }
    Err(Error::Memory {
        needed: plan.memory(),
        weights: Bytes::new(plan.engine_bytes()),
        kv: Bytes::new(plan.serving.kv_bytes),
        available,
        users_that_fit: plan.users_that_fit(available),
    })
}

/// Bytes that will be written on one file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    path: PathBuf,
    device: u64,
    bytes: u64,
}

impl Claim {
    fn new(path: &Path, bytes: u64) -> Result<Self, Error> {
        Ok(Self { path: path.into(), device: device(path)?, bytes })
    }
}

fn claims(plan: &Plan, engines: &Engines, cache: &Cache) -> Result<Vec<Claim>, Error> {
    let mut claims = vec![Claim::new(engines.path(), SMALL_FILES_BYTES)?];
    let source = match &plan.weights.origin {
        Origin::File(path) => path.clone(),
        Origin::Package { cached_as, package } => {
            let dir = cache.dir(cached_as);
            make_dir(&dir)?;
            cache.sweep(cached_as, package)?;
            if !cache.seems_to_have(plan) {
                // Archive and extracted file stand side by side for a moment.
                let download = match cache.has_package(cached_as, package) {
                    true => 0,
                    false => package.download_bytes,
                };
                let bytes = plan.weights.bytes.saturating_add(download);
                claims.push(Claim::new(&dir, bytes)?);
            }
            dir
        }
        Origin::Hub { entry, file } => {
            let dir = cache.dir_of(&entry.id, Form::Gguf);
            make_dir(&dir)?;
            if !cache.seems_to_have(plan) {
                let begun = Cache::begun(&dir.join(file));
                claims.push(Claim::new(&dir, plan.weights.bytes.saturating_sub(begun))?);
            }
            dir
        }
        Origin::Checkpoint { entry } => {
            let dir = cache.dir_of(&entry.id, Form::Checkpoint);
            make_dir(&dir)?;
            // Two bytes for each parameter, as far as they have not come yet.
            let whole = entry.weights.parameters.saturating_mul(2);
            claims.push(Claim::new(&dir, whole.saturating_sub(record::bytes(&dir)))?);
            let begun = convert::begun(engines.state_dir(), plan);
            claims[0].bytes += plan.weights.bytes.saturating_sub(begun);
            dir
        }
    };
    if plan.quantise.is_some() {
        let begun = quantise::begun(engines.state_dir(), plan);
        claims[0].bytes += plan.engine_bytes().saturating_sub(begun);
    } else if device(&source)? != claims[0].device {
        claims[0].bytes = claims[0].bytes.saturating_add(plan.weights.bytes);
    }
    Ok(claims)
}

fn device(path: &Path) -> Result<u64, Error> {
    Ok(path.metadata().map_err(io("look at", path))?.dev())
}

/// Free space where the engines are; an error if any file system has too little.
fn check_disk(claims: &[Claim]) -> Result<Bytes, Error> {
    for Claim { path, bytes, .. } in merged(claims) {
        let free = free(&path)?;
        let needed = Bytes::new(bytes);
        if free < needed {
            return Err(Error::Disk { path, needed, free });
        }
    }
    free(&claims[0].path)
}

fn free(path: &Path) -> Result<Bytes, Error> {
    Ok(Disk::holding(path).map_err(io("measure", path))?.available_bytes)
}

/// One claim for each file system.
fn merged(claims: &[Claim]) -> Vec<Claim> {
    let mut merged: Vec<Claim> = Vec::new();
    for claim in claims {
        match merged.iter_mut().find(|other| other.device == claim.device) {
            Some(same) => same.bytes = same.bytes.saturating_add(claim.bytes),
            None => merged.push(claim.clone()),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_on_one_file_system_add_up() {
        let claim = |path: &str, device, bytes| Claim { path: path.into(), device, bytes };
        let claims = [claim("/a", 1, 10), claim("/b", 2, 20), claim("/c", 1, u64::MAX)];
        assert_eq!(merged(&claims), [claim("/a", 1, u64::MAX), claim("/b", 2, 20)]);
    }

    #[test]
    fn a_disk_that_is_too_small_is_named_with_both_numbers() {
        let path = std::env::temp_dir();
        let error = check_disk(&[Claim { path, device: 1, bytes: u64::MAX }]).unwrap_err();
        assert!(matches!(error, Error::Disk { .. }));
        assert!(error.to_string().ends_with("this build needs 16777216.0 TiB there"), "{error}");
    }

    #[test]
    fn a_worker_that_is_not_there_is_named() {
        for path in ["/nowhere/engine-worker", "/etc/passwd", "/"] {
            let error = find_worker(Some(Path::new(path))).unwrap_err();
            assert!(error.to_string().contains(path));
        }
    }
}

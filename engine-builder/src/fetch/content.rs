//! Whether a file is of the kind that its name says, found out before it is
//! taken. Its hash may be unknown; that it can do no harm is not.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::de::IgnoredAny;

use crate::gguf::{self, GgufError};
use crate::pickle;
use crate::safetensors::{self, SafetensorsError};

/// As many bytes tell a pickle.
const BEGINNING: u64 = 8;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("{}", pickle::INSTEAD)]
    Pickle,
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    #[error("this is not JSON")]
    Json(#[source] serde_json::Error),
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// Looks at the file at `path`, which will be called `name`.
pub(super) fn check(path: &Path, name: &str) -> Result<(), ContentError> {
    let mut beginning = Vec::new();
    File::open(path)?.take(BEGINNING).read_to_end(&mut beginning)?;
    if pickle::is_named(Path::new(name)) || pickle::begins(&beginning) {
        return Err(ContentError::Pickle);
    }
    match Path::new(name).extension().and_then(|ending| ending.to_str()) {
        Some("gguf") => drop(gguf::read(path)?),
        Some("safetensors") => drop(safetensors::read(path)?),
        Some("json") => {
            let reader = BufReader::new(File::open(path)?);
            let _: IgnoredAny = serde_json::from_reader(reader).map_err(ContentError::Json)?;
        }
        _ => {}
    }
    Ok(())
}

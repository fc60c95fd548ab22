//! Which engine is to be an embedder, and what its vectors are told apart by.

use engine_api::manifest::Manifest;
use sha2::{Digest as _, Sha256};

use crate::config::Settings;
use crate::engines::locate::{self, Located};
use crate::index::{Maker, SAID};
use crate::supervisor::engine::in_one_line;

/// What is looked for in the directory of engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum Sought {
    /// The one that is configured, or the only one.
    Configured,
    /// The one whose vectors are told apart by this.
    Maker([u8; 32]),
    Nothing,
}

impl Sought {
    /// It, or in one line why it is not there.
    pub(super) fn locate(self, settings: &Settings) -> Result<Located, String> {
        let dir = &settings.state_dir;
        match self {
            Self::Configured => locate::embedder(dir, settings.embedding.model.as_ref())
                .map_err(|error| in_one_line(&error)),
            Self::Maker(identity) => locate::embedders(dir)
                .map_err(|error| in_one_line(&error))?
                .into_iter()
                .find(|it| maker(&it.manifest).is_some_and(|maker| maker.identity == identity))
                .ok_or_else(|| "it is not there any more".to_owned()),
            Self::Nothing => Err("nobody needs it".to_owned()),
        }
    }
}

/// What tells its vectors from those of every other; `None` if it makes none.
pub(super) fn maker(manifest: &Manifest) -> Option<Maker> {
    let embedding = manifest.embedding.as_ref()?;
    let files: Vec<_> = manifest.files.iter().map(|file| (file.role, &file.sha256)).collect();
    let backend = (&manifest.backend.kind, &manifest.backend.version);
    let all = (&manifest.id, backend, embedding, manifest.serving.context, files, SAID);
    let all = serde_json::to_vec(&all).ok()?;
    Some(Maker {
        identity: Sha256::digest(&all).into(),
        model: manifest.id.clone(),
        dimension: embedding.dimension,
    })
}

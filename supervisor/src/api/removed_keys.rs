//! Forgets what is kept for keys that were removed: repositories, chats, answers, and what
//! the engine has computed. Whoever removed one, here or with `stoker key`, only noted it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::api::adding::Sources;
use crate::api::kept::Keeper;
use crate::api::{identity, memory};
use crate::index::OrderError;
use crate::keys::{Hash, KeysError, removed};
use crate::request::{Client, KeyDigest};
use crate::supervisor::Handle;

/// From one look for removed keys to the next.
const LOOK: Duration = Duration::from_secs(2);
/// The same after something could not be forgotten.
const AGAIN: Duration = Duration::from_secs(10);

/// What something is kept in.
pub(crate) struct Places {
    pub(crate) handle: Handle,
    pub(crate) sources: Sources,
    pub(crate) keeper: Arc<Keeper>,
}

/// Goes on until it is dropped.
pub(crate) async fn follow(state_dir: PathBuf, places: Places) {
    let mut is_late = false;
    loop {
        tokio::time::sleep(if is_late { AGAIN } else { LOOK }).await;
        let passed = pass(&state_dir, &places).await;
        // Said once, and not again until it went well.
        if let (Err(why), false) = (&passed, is_late) {
            warn!(why, "what was kept for a removed key is not all forgotten; tried again");
        }
        is_late = passed.is_err();
    }
}

async fn pass(state_dir: &Path, places: &Places) -> Result<(), String> {
    let removed = aside(state_dir, removed::read).await?;
    for key in removed {
        places.forget(&key).await?;
        aside(state_dir, move |at| removed::forgotten(at, &[key])).await?;
        info!("what was kept for a removed key is forgotten");
    }
    Ok(())
}

impl Places {
    async fn forget(&self, key: &Hash) -> Result<(), String> {
        let client = Client::Key(KeyDigest(key.beginning()));
        let owner = identity::owner(&client);
        let index = &self.sources.index;
        let entries = index.changes().borrow().clone().ok_or("the index is being opened")?;
        let own = entries.iter().filter(|entry| entry.repository.is.owner.as_ref() == Some(&owner));
        for name in own.map(|entry| &entry.repository.is.name) {
            match index.remove(owner.clone(), name.clone()).await {
                // What stands in the configuration is the operator's to take out.
                Ok(()) | Err(OrderError::Unknown(_) | OrderError::Configured(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if let Some(memory) = &self.sources.memory {
            let _ = memory.forget(&owner, None).await.map_err(|error| error.to_string())?;
        }
        memory::forget_computed(&self.keeper, &self.handle, &client).await.map_err(str::to_owned)
    }
}

async fn aside<T: Send + 'static>(
    state_dir: &Path,
    work: impl FnOnce(&Path) -> Result<T, KeysError> + Send + 'static,
) -> Result<T, String> {
    let state_dir = state_dir.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&state_dir)).await;
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

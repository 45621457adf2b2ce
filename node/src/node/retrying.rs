//! Spaces that could not be opened or begun when the node started: they are tried again, for their disk may have been full.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use zerocloud_crdt::id::SpaceId;

use super::opened::{OpenError, OpenSpace};
use super::{Shared, lock};
use crate::store::StoreError;

/// As often as a running folder tries again what its disk had no room for.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Tries again and again, until the node ends.
pub(super) async fn keep_trying(shared: Weak<Shared>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(RETRY_INTERVAL)).await.is_some() {
        let Some(shared) = shared.upgrade() else { return };
        let begun: Vec<Arc<OpenSpace>> = shared.all().into_iter().filter(|space| space.running.is_err()).collect();
        for space in begun {
            shared.begin_again(space).await;
        }
        let is_of_the_disk =
            |error: &OpenError| matches!(error, OpenError::Store(StoreError::DiskFull | StoreError::Io(_)));
        let broken = |(id, error): (&SpaceId, &OpenError)| is_of_the_disk(error).then_some(*id);
        let unopened: Vec<SpaceId> = lock(&shared.broken).iter().filter_map(broken).collect();
        for id in unopened {
            shared.open_again(id).await;
        }
    }
}

impl Shared {
    /// Begins to work on a space whose store is open.
    async fn begin_again(self: &Arc<Self>, space: Arc<OpenSpace>) {
        let (shared, old) = (self.clone(), space.clone());
        let begin = move || old.begin(&shared.surroundings, &lock(&shared.secrets));
        // Why it can't be is told by `status` since the first time.
        let Ok(Ok(new)) = tokio::task::spawn_blocking(begin).await else { return };
        let new = Arc::new(new);
        let is_wanted = {
            let mut spaces = lock(&self.spaces);
            // Meanwhile it may have been removed, or the node ends and has counted what it has to stop.
            let is_wanted =
                !self.shutdown.is_cancelled() && spaces.get(&space.id).is_some_and(|there| Arc::ptr_eq(there, &space));
            if is_wanted {
                spaces.insert(space.id, new.clone());
            }
            is_wanted
        };
        if is_wanted {
            tracing::info!(space = %space.id, "a space is worked on again");
            self.welcome(&new);
            self.follow(&new);
        } else if let Ok(running) = &new.running {
            running.folder.stop().await;
        }
    }

    /// Opens a store that could not be opened.
    async fn open_again(self: &Arc<Self>, id: SpaceId) {
        let shared = self.clone();
        let open = move || -> Result<OpenSpace, OpenError> {
            OpenSpace::open(id, &shared.surroundings, &lock(&shared.secrets), false)
        };
        let Ok(Ok(space)) = tokio::task::spawn_blocking(open).await else { return };
        if lock(&self.broken).remove(&id).is_some() && !self.shutdown.is_cancelled() {
            let space = self.insert(space);
            self.begin_again(space).await;
        }
    }
}

//! Rounds in which members can bring what they owe, and telling of those whose word and deeds differ.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::opened::OpenSpace;
use super::{Shared, show};
use crate::answers;
use crate::api::types::What;
use crate::space::Discrepancies;

/// How long a round is: in three of them the largest entry comes over any connection of more than 30 KiB in a second.
const ROUND_INTERVAL: Duration = Duration::from_secs(20);

/// Ends rounds, until the node does.
pub(super) async fn count_rounds(shared: Weak<Shared>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(ROUND_INTERVAL)).await.is_some() {
        let Some(shared) = shared.upgrade() else { return };
        for space in shared.all() {
            if let Ok(running) = &space.running {
                // One that has ended meanwhile has no rounds.
                let _ = running.handle.end_round().await;
            }
        }
    }
}

impl Shared {
    /// Tells of members whose word and deeds differ, for as long as a space is open.
    pub(super) fn follow_discrepancies(self: &Arc<Self>, space: &OpenSpace) {
        let Ok(running) = &space.running else { return };
        let (mut differing, id, name) = (running.handle.discrepancies(), space.id, show(&space.name));
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut told = Discrepancies::new();
            loop {
                let now = differing.borrow_and_update().clone();
                let Some(shared) = shared.upgrade() else { return };
                let is_news = |entry: &(_, &_)| told.get(entry.0).is_none_or(|before| before != entry.1);
                for (device, discrepancy) in now.iter().filter(is_news) {
                    let snapshot = shared.space(id).and_then(|space| space.store.snapshot().ok());
                    let row = snapshot.and_then(|snapshot| snapshot.peer(*device).ok()).flatten();
                    shared.tell(What::Discrepancy {
                        space: name.clone(),
                        device: device.to_string(),
                        name: row.and_then(|row| row.name).as_ref().map(show).unwrap_or_default(),
                        kind: answers::discrepancies::kind(discrepancy.kind),
                        entries: discrepancy.entry_count,
                    });
                }
                told = now;
                drop(shared);
                if differing.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

//! What a replica keeps in memory, counted: none of it may grow with time alone.

use super::{Replica, Shelf};

impl<S: Shelf> Replica<S> {
    /// What is kept in memory, and how many of each. When all have what all know, all of it is bounded by the members.
    pub fn kept_counts(&self) -> [(&'static str, usize); 6] {
        let peers = || self.peers.values();
        [
            ("peers", self.peers.len()),
            ("entries without their past", peers().map(|peer| peer.waiting.count()).sum()),
            ("bytes being sent", peers().map(|peer| peer.sending_len).sum()),
            ("actions", self.actions.len()),
            ("discrepancies", self.discrepancies.len() + self.owing.len()),
            ("words handed on", self.handed_on.len()),
        ]
    }
}

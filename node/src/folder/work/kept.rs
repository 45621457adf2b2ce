//! What an open folder keeps in memory, counted: none of it may grow with time alone.

use super::Folder;

impl<P> Folder<P> {
    /// What is kept in memory, and how many of each. When a folder has nothing to do, all of it is small.
    pub fn kept_counts(&self) -> [(&'static str, usize); 12] {
        [
            ("directories to be scanned", self.dirty.len() + self.again.len()),
            ("files that settle", self.settling.len()),
            ("waiting rescans", self.rescans.len() + self.rescanned.len()),
            ("second looks", self.looks.count()),
            ("problems of scans", self.scan_problems.len()),
            ("items to be planned", self.ready.len() + self.settled.len()),
            ("items that wait", self.waiting.len() + self.waiters.len()),
            ("items that are stuck", self.stuck.len() + self.aside.len()),
            ("files on their way", self.jobs.count() + self.restores.len()),
            ("lists of chunks", self.lists.len()),
            ("texts to be kept", self.texts.count()),
            ("warnings", self.warnings.len()),
        ]
    }
}

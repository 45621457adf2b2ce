//! When a change is looked at: soon after its writer is done, and deletions not before the creations of their burst.
//!
//! Pure: events and moments go in, dirty directories come out. A deletion that went out before the creation that it
//! belongs to would turn a move into a delete and a copy on all devices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use zerocloud_crdt::mutated;

use super::dirty::{Depth, DirtySet};
use super::{Change, Hint};
use crate::clock::Moment;

/// After a file was closed by its writer or renamed into place: long enough for the rest of a save by rename.
pub const SETTLED_DELAY: Duration = Duration::from_millis(10);
/// After the last write to a file that nobody was seen to close, and after a deletion.
pub const WRITE_DELAY: Duration = Duration::from_millis(100);
/// How long a deletion waits at most for creations: a download of hours must not hold back all deletions.
pub const DELETION_DELAY_MAX: Duration = Duration::from_secs(60);
/// Paths that wait at a time; above it, all is scanned instead.
pub const WAITING_COUNT_MAX: usize = 100_000;

/// Changes of one space that wait until they are looked at.
///
/// Feed it with [`handle_change`](Self::handle_change) and [`handle_rescan`](Self::handle_rescan), arm a timer for
/// [`poll_timeout`](Self::poll_timeout), then take what is due with [`poll`](Self::poll). `now` never goes back.
#[derive(Debug, Default)]
pub struct Debounce {
    waiting: BTreeMap<Arc<[u8]>, Wait>,
    /// All that are no deletion, by when they are due.
    due: BTreeSet<(Moment, Arc<[u8]>)>,
    /// Those of `due` that are creations.
    creations: BTreeSet<(Moment, Arc<[u8]>)>,
    /// Deletions, by when they are ready to go out if no creation waits.
    deletions: BTreeSet<(Moment, Arc<[u8]>)>,
    /// When all is to be looked at.
    rescan: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Moment,
    what: What,
    /// Whether all below is to be looked at, too.
    is_deep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Creation,
    Change,
    Deletion,
}

impl Debounce {
    /// Nothing waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one change.
    pub fn handle_change(&mut self, now: Moment, change: &Change) {
        let before = self.forget(&change.path);
        if before.is_none() && self.waiting.len() >= WAITING_COUNT_MAX {
            return self.handle_rescan(now);
        }
        let was_creation = before.is_some_and(|wait| wait.what == What::Creation);
        let still = if was_creation { What::Creation } else { What::Change };
        let (what, delay) = match change.hint {
            // A directory is complete when it is made, what follows are changes of their own.
            Hint::Created if change.is_directory => (What::Creation, SETTLED_DELAY),
            Hint::Created => (What::Creation, WRITE_DELAY),
            Hint::RenamedHere => (What::Creation, SETTLED_DELAY),
            Hint::Changed => (still, WRITE_DELAY),
            Hint::ClosedAfterWrite => (still, SETTLED_DELAY),
            Hint::RenamedAway => (What::Deletion, SETTLED_DELAY),
            Hint::Removed => (What::Deletion, WRITE_DELAY),
        };
        let is_news_below = change.is_directory && what == What::Creation;
        // An earlier "all below" holds for what is there, not for what was removed.
        let is_deep = is_news_below || (what != What::Deletion && before.is_some_and(|wait| wait.is_deep));
        self.remember(change.path.as_ref().into(), Wait { until: now + delay, what, is_deep });
    }

    /// Takes in that changes were missed: all that waits becomes one look at everything.
    pub fn handle_rescan(&mut self, now: Moment) {
        // A rescan that waits already keeps its time, so that a flood can't put it off for ever.
        let rescan = self.rescan.unwrap_or(now + WRITE_DELAY);
        *self = Self { rescan: (!mutated!(LostRescan)).then_some(rescan), ..Self::default() };
    }

    /// Takes out what is due. Creations that are due come with the deletions that waited for them.
    pub fn poll(&mut self, now: Moment) -> DirtySet {
        let mut dirty = DirtySet::default();
        if self.rescan.is_some_and(|due| due <= now) {
            self.rescan = None;
            dirty.add_everything();
        }
        while let Some((_, path)) = self.due.first().filter(|(due, _)| *due <= now).cloned() {
            self.take(&path, &mut dirty);
        }
        while let Some((ready, path)) = self.deletions.first().cloned() {
            if self.deletion_due(ready) > now {
                break;
            }
            self.take(&path, &mut dirty);
        }
        dirty
    }

    /// Takes out all that waits, due or not: who found something gone is to look where it may have come to.
    pub fn take_waiting(&mut self) -> DirtySet {
        let mut dirty = DirtySet::default();
        while let Some(path) = self.waiting.keys().next().cloned() {
            self.take(&path, &mut dirty);
        }
        dirty
    }

    /// When [`poll`](Self::poll) has something next; `None` if nothing waits.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let due = self.due.first().map(|(due, _)| *due);
        let deletion = self.deletions.first().map(|(ready, _)| self.deletion_due(*ready));
        [due, deletion, self.rescan].into_iter().flatten().min()
    }

    fn deletion_due(&self, ready: Moment) -> Moment {
        match self.creations.last() {
            Some((creation, _)) => ready.max(*creation).min(ready + DELETION_DELAY_MAX),
            None => ready,
        }
    }

    fn remember(&mut self, path: Arc<[u8]>, wait: Wait) {
        let key = (wait.until, path.clone());
        match wait.what {
            What::Deletion => {
                self.deletions.insert(key);
            }
            What::Creation => {
                self.creations.insert(key.clone());
                self.due.insert(key);
            }
            What::Change => {
                self.due.insert(key);
            }
        }
        self.waiting.insert(path, wait);
    }

    fn forget(&mut self, path: &[u8]) -> Option<Wait> {
        let (path, wait) = self.waiting.remove_entry(path)?;
        let key = (wait.until, path);
        self.due.remove(&key);
        self.creations.remove(&key);
        self.deletions.remove(&key);
        Some(wait)
    }

    fn take(&mut self, path: &[u8], dirty: &mut DirtySet) {
        let Some(wait) = self.forget(path) else { return };
        dirty.add_path(path);
        if wait.is_deep {
            dirty.add(path, Depth::Subtree);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn change(path: &str, hint: Hint) -> Change {
        Change { path: path.as_bytes().into(), hint, is_directory: false }
    }

    fn directory(path: &str, hint: Hint) -> Change {
        Change { is_directory: true, ..change(path, hint) }
    }

    /// What is to be looked at: paths, and `/**` behind those with all below.
    fn told(due: &DirtySet) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut told = Vec::new();
        for (directory, depth) in due.iter() {
            let directory = text(directory);
            match depth {
                Depth::Some(names) if directory.is_empty() => told.extend(names.iter().map(|name| text(name))),
                Depth::Some(names) => told.extend(names.iter().map(|name| format!("{directory}/{}", text(name)))),
                Depth::Names => told.push(directory + "/*"),
                Depth::Subtree => told.push(directory + "/**"),
            }
        }
        told
    }

    /// Feeds `(milliseconds, change)` and returns `(milliseconds, paths)` of each poll that gave something.
    fn run(changes: &[(u64, Change)]) -> Vec<(u64, Vec<String>)> {
        let mut debounce = Debounce::new();
        let mut out = Vec::new();
        let mut feed = changes.iter().peekable();
        loop {
            let next_change = feed.peek().map(|(at, _)| Moment(at * MS));
            let now = match (next_change, debounce.poll_timeout()) {
                (Some(change), Some(due)) => change.min(due),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return out,
            };
            while let Some((_, change)) = feed.next_if(|(at, _)| Moment(at * MS) == now) {
                debounce.handle_change(now, change);
            }
            let due = debounce.poll(now);
            if !due.is_empty() {
                out.push((now.0 / MS, told(&due)));
            }
        }
    }

    #[test]
    fn a_closed_file_is_due_after_10_ms_and_an_open_one_100_ms_after_the_last_write() {
        use Hint::*;
        let closed = [(0, change("a/f", Created)), (1, change("a/f", Changed)), (2, change("a/f", ClosedAfterWrite))];
        assert_eq!(run(&closed), [(12, vec!["a/f".into()])]);
        let open = [(0, change("a/f", Created)), (90, change("a/f", Changed)), (180, change("a/f", Changed))];
        assert_eq!(run(&open), [(280, vec!["a/f".into()])]);
        let second_writer = [(0, change("f", ClosedAfterWrite)), (5, change("f", Changed))];
        assert_eq!(run(&second_writer), [(105, vec!["f".into()])]);
    }

    #[test]
    fn whoever_finds_something_gone_gets_all_that_waits_at_once() {
        let mut debounce = Debounce::new();
        debounce.handle_change(Moment(0), &change("old/f", Hint::RenamedAway));
        debounce.handle_change(Moment(0), &directory("new/d", Hint::RenamedHere));
        assert_eq!(told(&debounce.take_waiting()), ["new/d", "new/d/**", "old/f"]);
        assert_eq!(debounce.poll_timeout(), None);
    }

    #[test]
    fn a_save_by_rename_is_one_look_10_ms_after_the_rename() {
        use Hint::*;
        let save = [
            (0, change("f.tmp", Created)),
            (1, change("f.tmp", Changed)),
            (2, change("f.tmp", ClosedAfterWrite)),
            (3, change("f.tmp", RenamedAway)),
            (3, change("f", RenamedHere)),
        ];
        assert_eq!(run(&save), [(13, vec!["f".into(), "f.tmp".into()])]);
    }

    #[test]
    fn a_deletion_goes_out_with_the_creation_of_its_burst_and_not_before() {
        use Hint::*;
        // Cut and paste between programs: the copy is still written when the original goes.
        let mut moved = vec![(0, change("new/f", Created))];
        moved.extend((1..10).map(|n| (n * 50, change("new/f", Changed))));
        moved.push((455, change("old/f", Removed)));
        moved.push((500, change("new/f", Changed)));
        moved.push((590, change("new/f", ClosedAfterWrite)));
        assert_eq!(run(&moved), [(600, vec!["new/f".into(), "old/f".into()])].to_vec());
        // A log that is only appended to holds nothing back.
        let log = [(0, change("log", Changed)), (1, change("a/f", Removed)), (90, change("log", Changed))];
        assert_eq!(run(&log), [(101, vec!["a/f".into()]), (190, vec!["log".into()])]);
    }

    #[test]
    fn a_creation_without_end_holds_deletions_for_a_minute_only() {
        use Hint::*;
        let mut changes = vec![(0, change("a/f", Removed)), (0, change("big", Created))];
        changes.extend((1..2_000).map(|n| (n * 50, change("big", Changed))));
        let out = run(&changes);
        assert_eq!(out.first(), Some(&(60_100, vec!["a/f".into()])));
        assert_eq!(out.last(), Some(&(100_050, vec!["big".into()])));
    }

    #[test]
    fn a_file_that_is_made_again_is_no_deletion() {
        use Hint::*;
        let again = [(0, change("f", Removed)), (1, change("f", Created)), (2, change("f", ClosedAfterWrite))];
        assert_eq!(run(&again), [(12, vec!["f".into()])]);
        let gone = [(0, change("f", Created)), (1, change("f", ClosedAfterWrite)), (2, change("f", Removed))];
        assert_eq!(run(&gone), [(102, vec!["f".into()])]);
    }

    #[test]
    fn a_directory_that_comes_is_looked_at_with_all_below() {
        use Hint::*;
        let moved = [(0, directory("a/d", RenamedAway)), (0, directory("b/e", RenamedHere))];
        assert_eq!(run(&moved), [(10, vec!["a/d".into(), "b/e".into(), "b/e/**".into()])]);
        // Also when more happens to it before it is due.
        let changed = [(0, directory("d", Created)), (1, directory("d", Changed))];
        assert_eq!(run(&changed), [(101, vec!["d".into(), "d/**".into()])]);
    }

    #[test]
    fn too_many_paths_become_one_look_at_everything() {
        let mut debounce = Debounce::new();
        for number in 0..=WAITING_COUNT_MAX {
            debounce.handle_change(Moment(0), &change(&number.to_string(), Hint::Removed));
        }
        assert!(!debounce.waiting.contains_key(b"7".as_slice()));
        debounce.handle_rescan(Moment(50 * MS));
        assert_eq!(debounce.poll_timeout(), Some(Moment(100 * MS)));
        assert_eq!(debounce.poll(Moment(99 * MS)), DirtySet::default());
        assert_eq!(debounce.poll(Moment(100 * MS)), DirtySet::everything());
        assert_eq!(debounce.poll_timeout(), None);
    }

    proptest! {
        #[test]
        fn every_change_is_told_and_no_deletion_before_a_creation_that_waits(
            changes in proptest::collection::vec((0u64..40, 0usize..6, 0usize..6, any::<bool>()), 1..60)
        ) {
            let hints = [Hint::Created, Hint::Changed, Hint::ClosedAfterWrite, Hint::RenamedAway, Hint::RenamedHere,
                Hint::Removed];
            let mut debounce = Debounce::new();
            let mut now = 0;
            let mut waiting = BTreeSet::new();
            for (pause, file, hint, is_directory) in changes {
                now += pause;
                let path = format!("{file}/f");
                let change = Change { is_directory, ..change(&path, hints[hint]) };
                debounce.handle_change(Moment(now * MS), &change);
                prop_assert!(debounce.waiting.contains_key(path.as_bytes()));
                waiting.insert(path);
                let due = debounce.poll(Moment(now * MS));
                waiting.retain(|path| !due.has_path(path.as_bytes()));
                let has_creation = !debounce.creations.is_empty();
                let first_deletion = debounce.deletions.first().map(|(ready, _)| *ready);
                prop_assert!(has_creation || first_deletion.is_none_or(|ready| ready > Moment(now * MS)));
                prop_assert_eq!(waiting.len(), debounce.waiting.len());
            }
            while let Some(due) = debounce.poll_timeout() {
                prop_assert!(!debounce.poll(due).is_empty());
            }
            prop_assert!(debounce.waiting.is_empty());
        }
    }
}

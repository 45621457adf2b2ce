//! The mass-change guard: between view and tree, so that one mistake elsewhere does not empty this disk unasked.
//!
//! Counted is what leaves or changes within ten minutes; what the version store of this disk keeps is not, unless the
//! user wants it so. Entries and registers are always applied: what is held is only not done here. A held row keeps its
//! path and bytes, and local edits of it are concurrent with what is held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use zerocloud_crdt::base::{BaseRead, BaseRow, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::plan::Action;
use zerocloud_crdt::register::{Content, FileContent, Kind};
use zerocloud_crdt::scan::Seen;

use super::{Folder, FolderError};
use crate::api::path::BytePath;
use crate::api::types::Decision;
use crate::clock::{Moment, WallTime};
use crate::config;
use crate::engine::found::{Found, FoundWith, Keep};
use crate::store::{HeldRow, Snapshot, StoreError};
use crate::tree::Pool;
use crate::tree::scan::read_content;
use crate::tree::serve::{ChunkReader, Source};
use crate::tree::versions::Retention;

/// Over how long changes are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// As many may always go.
const COUNT_MIN: u64 = 1_000;
/// Of so many one may go.
const SHARE: u64 = 4;
/// How long before the first of many changes a user is told to go back: they came before they were done here.
const MARGIN: Duration = Duration::from_secs(60);
/// Rows that are kept in one entry.
const KEEP_COUNT: usize = 500;

/// What the guard has seen.
#[derive(Debug)]
pub(super) struct Guard {
    mode: config::Guard,
    /// Whether what leaves goes to the version store for a while.
    is_kept: bool,
    /// When, how many paths left or changed, and how many of these counted.
    window: VecDeque<(Moment, u64, u64)>,
    /// What is held: ids, and the items in whose registers their content stands.
    pub(super) held: BTreeMap<FileId, FileId>,
    /// What the user is told while much is in the window.
    pub(super) warning: Option<String>,
    /// What the user let go.
    accepted: BTreeSet<FileId>,
    /// What the user does here, and is not done on this disk yet.
    own: BTreeSet<FileId>,
}

impl Guard {
    /// A guard that holds what a store says.
    pub(super) fn new(mode: config::Guard, retention: Retention, snapshot: &Snapshot) -> Result<Self, StoreError> {
        let mut held = BTreeMap::new();
        for id in snapshot.held()?.into_keys() {
            held.insert(id, snapshot.loser_of(id)?.unwrap_or(id));
        }
        let is_kept = retention != Retention::None;
        Ok(Self {
            mode,
            is_kept,
            window: VecDeque::new(),
            held,
            warning: None,
            accepted: BTreeSet::new(),
            own: BTreeSet::new(),
        })
    }

    /// Whether an action makes something leave or change that counts.
    fn counts(&self, action: &Action) -> bool {
        match self.mode {
            config::Guard::Off => false,
            config::Guard::Normal => !self.is_kept && is_change(action) && !self.accepted.contains(&action.id()),
            config::Guard::Strict => is_change(action) && !self.accepted.contains(&action.id()),
        }
    }

    /// When the first of what the window has was done.
    fn begun(&self, now: Moment) -> Moment {
        self.window.front().map_or(now, |(at, ..)| *at)
    }

    fn sums(&self) -> (u64, u64) {
        self.window.iter().fold((0, 0), |(all, counted), (_, a, c)| (all + a, counted + c))
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// As `--at` takes it, whatever the time zone of the terminal is.
fn shown_utc(time: WallTime) -> String {
    let seconds = jiff::Timestamp::from_second(time.0.div_euclid(1_000_000_000));
    seconds.map_or_else(|_| "TIME".to_owned(), |time| time.to_string())
}

fn is_change(action: &Action) -> bool {
    matches!(action, Action::Delete { .. } | Action::Replace { .. } | Action::RemoveDirectory { .. })
}

impl<P: Pool> Folder<P> {
    /// Takes out of a batch what must wait for the user, and notes that durably.
    pub(super) fn guard(&mut self, actions: Vec<Action>) -> Result<Vec<Action>, FolderError> {
        let now = self.now();
        while self.guard.window.front().is_some_and(|(at, ..)| now.since(*at) > WINDOW) {
            self.guard.window.pop_front();
        }
        if self.guard.window.is_empty() {
            self.guard.warning = None;
        }
        let changed: BTreeSet<FileId> = actions.iter().filter(|action| is_change(action)).map(Action::id).collect();
        let own = &self.guard.own & &changed;
        self.guard.own.retain(|id| !own.contains(id));
        let all = actions.iter().filter(|action| is_change(action) && !own.contains(&action.id())).count() as u64;
        if all == 0 {
            return Ok(actions);
        }
        let to_hold = actions.iter().filter(|action| !own.contains(&action.id()) && self.guard.counts(action));
        let to_hold: BTreeSet<FileId> = to_hold.map(Action::id).collect();
        let counted = to_hold.len() as u64;
        let (all_before, counted_before) = self.guard.sums();
        let counts = self.parts.store.snapshot()?.base_counts();
        // As many as there were when the window began.
        let total = counts.files + counts.symlinks + counts.directories + all_before;
        let is_much = |sum: u64| sum > COUNT_MIN && sum > total / SHARE;
        if is_much(all_before + all) {
            let before = (self.parts.clock.wall_time().0 - nanos(now.since(self.guard.begun(now))))
                .saturating_sub(nanos(MARGIN));
            self.guard.warning = Some(format!(
                "{} of {total} paths of this folder left or changed within ten minutes by changes from other devices; \
                 `zerocloud restore {} --at {}` brings back what was there before",
                all_before + all,
                BytePath::from(self.parts.path.as_path()),
                shown_utc(WallTime(before)),
            ));
        }
        if !is_much(counted_before + counted) {
            self.guard.window.push_back((now, all, counted));
            return Ok(actions);
        }
        let (held, free): (Vec<Action>, Vec<Action>) =
            actions.into_iter().partition(|action| is_change(action) && to_hold.contains(&action.id()));
        let since = self.parts.clock.wall_time();
        self.parts.store.write::<_, StoreError>(|write| {
            held.iter().try_for_each(|action| write.put_held(action.id(), HeldRow { since }))
        })?;
        for action in held {
            self.ready.remove(&action.source());
            self.guard.held.insert(action.id(), action.source());
        }
        self.guard.window.push_back((now, all - counted, 0));
        Ok(free)
    }

    /// Lets pass, once, what the user of this device has just done to these.
    pub(super) fn let_pass(&mut self, ids: impl IntoIterator<Item = FileId>) {
        self.guard.own.extend(ids);
    }

    /// Lets what is held happen, or undoes it everywhere.
    pub(super) fn decide_held(&mut self, decision: Decision, done: oneshot::Sender<Result<(), String>>) {
        let decided = match decision {
            Decision::Accept => self.drop_holds(),
            Decision::Reject => self.keep_held().and_then(|()| self.drop_holds()),
        };
        // Whoever asked may have gone.
        let _ = done.send(decided.map_err(|error| error.to_string()));
    }

    fn drop_holds(&mut self) -> Result<(), FolderError> {
        let held = self.guard.held.clone();
        self.parts
            .store
            .write::<_, StoreError>(|write| held.keys().try_for_each(|id| write.remove_held(*id).map(drop)))?;
        self.guard.held.clear();
        self.guard.accepted.extend(held.keys());
        self.ready.extend(held.values());
        // What waited because of them.
        self.done_count += 1;
        self.is_materialised = false;
        Ok(())
    }

    /// Writes what this disk has of what is held, as the newest that there is.
    fn keep_held(&mut self) -> Result<(), FolderError> {
        // Local edits of held rows are concurrent and known first.
        self.scan_all()?;
        let held: Vec<(FileId, FileId)> = self.guard.held.iter().map(|(id, source)| (*id, *source)).collect();
        for some in held.chunks(KEEP_COUNT) {
            let snapshot = self.parts.store.snapshot()?;
            let mut reader = ChunkReader::new(&*self.volume)?;
            let (mut keeps, mut contents) = (Vec::new(), BTreeMap::new());
            for (id, source) in some {
                let Some(key) = snapshot.find(*id, *source)? else { continue };
                let Some(row) = snapshot.row(&key)? else { continue };
                if let Some((content, stored)) = self.content_here(&snapshot, &mut reader, &key, &row)? {
                    contents.extend(stored);
                    keeps.push(Keep { key, row, content });
                }
            }
            if !keeps.is_empty() {
                self.parts.log.append(vec![FoundWith { found: Found::Kept(keeps), contents }])?;
            }
        }
        Ok(())
    }

    /// What a file of this disk is now, as a value for the index.
    #[expect(clippy::type_complexity, reason = "used once, next to where it is made")]
    pub(super) fn content_here(
        &self,
        snapshot: &Snapshot,
        reader: &mut ChunkReader,
        key: &RowKey,
        row: &BaseRow,
    ) -> Result<Option<(Content, BTreeMap<zerocloud_crdt::id::ContentHash, crate::engine::shelf::Contents>)>, FolderError>
    {
        match row.kind {
            Kind::Directory => Ok(Some((Content::Directory, BTreeMap::new()))),
            Kind::Symlink => {
                let item = snapshot.item(row.source)?.unwrap_or_default();
                let shown = row.content_ops.iter().rev().find_map(|op| item.content.get(op)).cloned();
                Ok(shown.map(|content| (content, BTreeMap::new())))
            }
            Kind::File => {
                let Some(file) = reader.open(snapshot, Source::Row(key))? else { return Ok(None) };
                let previous = super::scanning::previous(snapshot, row);
                let Ok(read) = read_content(&*file, previous.as_ref(), &self.parts.keyring) else { return Ok(None) };
                let contents = super::scanning::contents_of(&read.seen, read.contents);
                let Seen::File { hash, manifest } = read.seen else { return Ok(None) };
                let mtime = row.mtime.unwrap_or(row.print.mtime);
                let file = FileContent { mtime, executable: row.executable, hash, manifest };
                Ok(Some((Content::File(file), contents)))
            }
        }
    }

    pub(super) fn scan_all(&mut self) -> Result<(), FolderError> {
        self.dirty.add_everything();
        self.scan_what_is_due(self.now())?;
        while !self.left_off.is_empty() {
            self.scan_what_is_due(self.now())?;
        }
        Ok(())
    }
}

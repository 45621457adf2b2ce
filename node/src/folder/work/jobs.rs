//! Files whose bytes are wanted, on their way, or complete and not yet in their place.
//!
//! Bookkeeping alone: who has what is [`super::wanting`]'s, what is done with a staged file [`super::acting`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use zerocloud_crdt::id::FileId;
use zerocloud_crdt::view::ViewEntry;

use crate::clock::Moment;
use crate::engine::fetch::JobId;
use crate::fetcher::Supply;
use crate::tree::stage::Staged;

/// Files on their way at a time: what small files bring while a batch of others is put in place, which takes up to a
/// second or two.
const ACTIVE_COUNT_MAX: usize = 16_384;
/// Their lengths together, above which no further one is begun.
const ACTIVE_LEN_MAX: u64 = 1 << 30;
/// How long members have to look again at a file that they did not have as it was noted, until what they say counts.
const RESCAN_DURATION: Duration = Duration::from_secs(2);

/// Where the bytes of one file are.
#[derive(Clone, Debug)]
enum At {
    /// Wanted, nothing begun.
    Queued,
    /// On their way.
    Active(JobId),
    /// Complete under a temporary name.
    Staged(Staged),
    /// Nobody who is connected has them.
    Starved,
}

/// The files of one folder.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// By id: what is wanted, and where it is.
    files: BTreeMap<FileId, (ViewEntry, At)>,
    /// Their lengths together.
    len: u64,
    by_source: BTreeMap<FileId, BTreeSet<FileId>>,
    /// In the order in which they were wanted.
    queue: BTreeMap<u64, FileId>,
    active: BTreeMap<JobId, FileId>,
    active_len: u64,
    next: u64,
    /// By id, what is known of versions that nobody had: while they are asked for again, too.
    lacks: BTreeMap<FileId, Lack>,
    /// What is [`At::Starved`].
    starved: BTreeSet<FileId>,
}

/// A version that nobody had.
#[derive(Clone, Copy, Debug, Default)]
struct Lack {
    /// When every member first said that it does not have it.
    denied_since: Option<Moment>,
    /// Whether every member said so again, after it had the time to look.
    is_lost: bool,
}

/// Whether what was had for one entry is what another asks for.
fn is_same(a: &ViewEntry, b: &ViewEntry) -> bool {
    (a.hash, a.len, a.mtime, a.executable) == (b.hash, b.len, b.mtime, b.executable)
}

impl Jobs {
    /// None. Jobs are numbered from `first` on: what a supply still has of an earlier opening is never taken for one.
    pub(super) fn new(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// Asks for nothing more.
    pub(super) fn abandon(&mut self, supply: &dyn Supply) {
        std::mem::take(&mut self.active).into_keys().for_each(|job| supply.remove(job));
    }

    /// An entry's bytes are wanted. What was wanted of the same id before is not any more.
    pub(super) fn want(&mut self, entry: ViewEntry, supply: &dyn Supply) {
        if let Some((known, _)) = self.files.get_mut(&entry.id)
            && is_same(known, &entry)
        {
            // It may have got another place or other operations.
            if known.source == entry.source {
                *known = entry;
            }
            return;
        }
        // What was staged for another version stays in `tmp` until the next start.
        self.remove(entry.id, supply);
        self.queue.insert(self.next, entry.id);
        self.next += 1;
        self.put(entry, At::Queued);
    }

    /// The next file to be begun, under a new job, unless enough are on their way.
    pub(super) fn begin(&mut self) -> Option<(JobId, ViewEntry)> {
        if self.active.len() >= ACTIVE_COUNT_MAX || (self.active_len >= ACTIVE_LEN_MAX && !self.active.is_empty()) {
            return None;
        }
        while let Some((_, id)) = self.queue.pop_first() {
            let Some((entry, at @ At::Queued)) = self.files.get_mut(&id) else { continue };
            let job = JobId(self.next);
            self.next += 1;
            *at = At::Active(job);
            self.active_len = self.active_len.saturating_add(entry.len);
            let entry = entry.clone();
            self.active.insert(job, id);
            return Some((job, entry));
        }
        None
    }

    /// A job that nothing here is about.
    pub(super) fn next_job(&mut self) -> JobId {
        self.next += 1;
        JobId(self.next - 1)
    }

    /// The entry of a job that is on its way.
    pub(super) fn entry(&self, job: JobId) -> Option<&ViewEntry> {
        self.files.get(self.active.get(&job)?).map(|(entry, _)| entry)
    }

    /// A job is over; its entry, if it is still wanted.
    pub(super) fn end(&mut self, job: JobId) -> Option<ViewEntry> {
        let id = self.active.remove(&job)?;
        let (entry, _) = self.take(id)?;
        self.active_len = self.active_len.saturating_sub(entry.len);
        Some(entry)
    }

    /// A file is complete under a temporary name.
    pub(super) fn put_staged(&mut self, entry: ViewEntry, staged: Staged) {
        self.lacks.remove(&entry.id);
        self.put(entry, At::Staged(staged));
    }

    /// Nobody who is connected has a file. `denied`: when that was, if these are all members there are.
    pub(super) fn starve(&mut self, entry: ViewEntry, denied: Option<Moment>) {
        let lack = self.lacks.entry(entry.id).or_default();
        if let Some(now) = denied {
            let since = *lack.denied_since.get_or_insert(now);
            lack.is_lost |= now.since(since) >= RESCAN_DURATION;
        }
        self.put(entry, At::Starved);
    }

    /// Whether no member has what is wanted under an id.
    pub(super) fn is_lost(&self, id: FileId) -> bool {
        self.files.contains_key(&id) && self.lacks.get(&id).is_some_and(|lack| lack.is_lost)
    }

    /// What no member has.
    pub(super) fn lost(&self) -> impl Iterator<Item = &ViewEntry> {
        let lost = self.lacks.iter().filter(|(_, lack)| lack.is_lost);
        lost.filter_map(|(id, _)| self.files.get(id)).map(|(entry, _)| entry)
    }

    /// How many versions no member has.
    pub(super) fn lost_count(&self) -> usize {
        self.lost().count()
    }

    /// What nobody who is connected has, and another member may have.
    pub(super) fn awaited(&self) -> impl Iterator<Item = &ViewEntry> {
        let awaited = self.lacks.iter().filter(|(_, lack)| !lack.is_lost);
        awaited.filter_map(|(id, _)| self.files.get(id)).map(|(entry, _)| entry)
    }

    /// All that is wanted, not here and not lost.
    pub(super) fn not_lost(&self) -> impl Iterator<Item = &ViewEntry> {
        let missing = self.files.values().filter(|(_, at)| !matches!(at, At::Staged(_)));
        missing.map(|(entry, _)| entry).filter(|entry| !self.is_lost(entry.id))
    }

    /// What is wanted of an item and not here.
    pub(super) fn missing_of(&self, source: FileId) -> impl Iterator<Item = &ViewEntry> {
        let ids = self.by_source.get(&source).into_iter().flatten();
        let files = ids.filter_map(|id| self.files.get(id));
        files.filter(|(_, at)| !matches!(at, At::Staged(_))).map(|(entry, _)| entry)
    }

    /// Wants again what nobody had.
    pub(super) fn want_starved(&mut self) {
        for id in std::mem::take(&mut self.starved) {
            if let Some((_, at)) = self.files.get_mut(&id) {
                *at = At::Queued;
                self.queue.insert(self.next, id);
                self.next += 1;
            }
        }
    }

    /// Whether an entry's file is complete.
    pub(super) fn is_staged(&self, entry: &ViewEntry) -> bool {
        matches!(self.files.get(&entry.id), Some((known, At::Staged(_))) if is_same(known, entry))
    }

    /// Takes the file of an entry out, to be put in its place.
    pub(super) fn take_staged(&mut self, entry: &ViewEntry) -> Option<Staged> {
        if !self.is_staged(entry) {
            return None;
        }
        match self.take(entry.id)? {
            (_, At::Staged(staged)) => Some(staged),
            _ => None,
        }
    }

    /// What is wanted under an id, wherever its bytes are by now.
    pub(super) fn wanted(&self, id: FileId) -> Option<&ViewEntry> {
        self.files.get(&id).map(|(entry, _)| entry)
    }

    /// Drops what was wanted of `source` under ids that are not in `staying`; gives what was staged of it.
    pub(super) fn drop_others(
        &mut self,
        source: FileId,
        staying: &BTreeSet<FileId>,
        supply: &dyn Supply,
    ) -> Vec<Staged> {
        let gone: Vec<FileId> = self.by_source.get(&source).into_iter().flatten().copied().collect();
        let gone = gone.into_iter().filter(|id| !staying.contains(id));
        let mut staged = Vec::new();
        for id in gone {
            staged.extend(self.remove(id, supply));
        }
        staged
    }

    /// Forgets what was staged: its files were swept away.
    pub(super) fn forget_staged(&mut self) {
        let staged: Vec<FileId> =
            self.files.iter().filter(|(_, (_, at))| matches!(at, At::Staged(_))).map(|(id, _)| *id).collect();
        for id in staged {
            self.take(id);
        }
    }

    /// How many files are wanted, on their way or waiting for their place.
    pub(super) fn count(&self) -> usize {
        self.files.len()
    }

    /// The lengths of the files that [`Self::count`] counts together, in bytes.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// The files that [`Self::count`] counts.
    pub(super) fn ids(&self) -> impl Iterator<Item = FileId> {
        self.files.keys().copied()
    }

    /// How many files are on their way or about to be.
    pub(super) fn coming_count(&self) -> usize {
        self.active.len() + self.queue.len()
    }

    /// Whether files are on their way or about to be.
    pub(super) fn is_fetching(&self) -> bool {
        !self.active.is_empty() || !self.queue.is_empty()
    }

    /// Nothing is wanted under an id any more; gives what was staged.
    pub(super) fn remove(&mut self, id: FileId, supply: &dyn Supply) -> Option<Staged> {
        self.lacks.remove(&id);
        let (entry, at) = self.take(id)?;
        match at {
            At::Staged(staged) => Some(staged),
            At::Active(job) => {
                self.active.remove(&job);
                self.active_len = self.active_len.saturating_sub(entry.len);
                supply.remove(job);
                None
            }
            At::Queued | At::Starved => None,
        }
    }

    fn put(&mut self, entry: ViewEntry, at: At) {
        self.take(entry.id);
        if matches!(at, At::Starved) {
            self.starved.insert(entry.id);
        }
        self.len = self.len.saturating_add(entry.len);
        self.by_source.entry(entry.source).or_default().insert(entry.id);
        self.files.insert(entry.id, (entry, at));
    }

    fn take(&mut self, id: FileId) -> Option<(ViewEntry, At)> {
        let (entry, at) = self.files.remove(&id)?;
        self.starved.remove(&id);
        self.len = self.len.saturating_sub(entry.len);
        if let Some(ids) = self.by_source.get_mut(&entry.source) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_source.remove(&entry.source);
            }
        }
        Some((entry, at))
    }
}

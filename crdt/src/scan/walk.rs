//! The walk over a tree, without the tree: which directory to list next, and what the listings mean.
//!
//! Whoever owns the disk asks [`Walk::next_directory`] which directory to list and hands the listing back. A directory that may
//! have moved is descended only when it is known which row it continues, because its entries are compared with that
//! row's. Nothing here reads a file.
//!
//! Where it is told which names of a directory changed, only these are looked at: that costs what changed, and not what the
//! directory holds. It does only while nothing else there could matter, which [`Walk::short`] tells.

mod comparison;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::comparison::{Comparison, Standing};
use super::identity::{identify, must_be_read};
use super::{Findings, Parent, Seen, Sighting};
use crate::base::{BaseRead, BaseRow, Fingerprint, PARKED, RowKey};
use crate::id::FileId;
use crate::limits::PATH_DEPTH_MAX;
use crate::name::Name;
use crate::register::Kind;

/// New directories that are listed before it is looked at again how much was found.
const DESCEND_COUNT: usize = 128;

/// One entry of a directory, as listed and looked at without following links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name on this disk.
    pub local: Name,
    /// What it is. Whatever is none of these is left out of the listing, and reported by the lister.
    pub kind: Kind,
    /// What the file system says of it.
    pub print: Fingerprint,
    /// Hard links to it.
    pub links: u64,
    /// Its bytes may be others although nothing else is: it is sighted even if its fingerprint is that of its row.
    pub is_doubted: bool,
}

/// A walk in progress.
pub struct Walk<'a, B: BaseRead> {
    base: &'a B,
    findings: Findings,
    queue: VecDeque<Parent>,
    /// Directories that were asked for: none is listed twice.
    asked: BTreeSet<Parent>,
    /// Directories of which only some names are looked at, with these.
    partly: BTreeMap<FileId, BTreeSet<Name>>,
    /// Those of them of which more must be known.
    short: BTreeSet<FileId>,
    /// Directories that were asked for and are not where base has them: asked for again when they are found.
    missing: BTreeSet<Parent>,
    /// Rows at whose own paths this walk saw something else, or nothing: what is gone of them is gone.
    decided: BTreeSet<RowKey>,
    /// Sightings of directories that were not descended yet.
    deferred: VecDeque<usize>,
    /// Rows that sightings continue.
    claimed: BTreeSet<RowKey>,
    /// Sightings of directories that continue rows, by the id of the row.
    found: BTreeMap<FileId, usize>,
    /// How many sightings [`identify`] has looked at, and with how many rows gone.
    looked_at: usize,
    gone_count: usize,
    /// Known directories that an earlier walk left off, for when there is room.
    left: VecDeque<FileId>,
    /// At how many sightings what is in new directories is left off.
    room: usize,
    /// Whether directories that are as base has them are descended.
    is_full: bool,
    /// Whether they are in a directory that was moved, and the directories of which that is known.
    are_moved_whole: bool,
    whole: BTreeSet<FileId>,
}

impl<'a, B: BaseRead> Walk<'a, B> {
    /// A walk over the whole tree.
    pub fn full(base: &'a B) -> Self {
        let mut walk = Self::of_directories(base, [FileId::ROOT, PARKED]);
        walk.is_full = true;
        walk
    }

    /// A walk over some directories that have rows, and over whatever in them is new or moved.
    pub fn of_directories(base: &'a B, directories: impl IntoIterator<Item = FileId>) -> Self {
        let mut walk = Self {
            base,
            findings: Findings::default(),
            queue: VecDeque::new(),
            asked: BTreeSet::new(),
            partly: BTreeMap::new(),
            short: BTreeSet::new(),
            missing: BTreeSet::new(),
            decided: BTreeSet::new(),
            deferred: VecDeque::new(),
            claimed: BTreeSet::new(),
            found: BTreeMap::new(),
            looked_at: 0,
            gone_count: 0,
            left: VecDeque::new(),
            room: usize::MAX,
            is_full: false,
            are_moved_whole: false,
            whole: BTreeSet::new(),
        };
        directories.into_iter().for_each(|directory| walk.ask(Parent::Known(directory)));
        walk
    }

    /// Looks at a directory that has a row, too.
    #[must_use]
    pub fn with_directory(mut self, directory: FileId) -> Self {
        self.ask(Parent::Known(directory));
        self
    }

    /// Looks at these names of a directory that has a row, too, and at no other: whatever else is in it is as base has it.
    #[must_use]
    pub fn with_names(mut self, directory: FileId, names: BTreeSet<Name>) -> Self {
        if self.asked.insert(Parent::Known(directory)) {
            self.queue.push_back(Parent::Known(directory));
            self.partly.insert(directory, names);
        }
        self
    }

    /// The names of a directory that are to be looked at, if not all that are in it: its listing has those of them that are
    /// there.
    pub fn names(&self, directory: Parent) -> Option<&BTreeSet<Name>> {
        match directory {
            Parent::Known(id) => self.partly.get(&id),
            Parent::New(_) => None,
        }
    }

    /// The directories that are not looked at as a whole, with the names that are.
    pub const fn partly(&self) -> &BTreeMap<FileId, BTreeSet<Name>> {
        &self.partly
    }

    /// Directories of which some names were not enough: one of them is gone, or what stands under it may have come from
    /// another name. If there are any, nothing that this walk found counts, and one that lists these whole is to be made.
    pub const fn short(&self) -> &BTreeSet<FileId> {
        &self.short
    }

    /// Looks at all below what was moved: something changed there, and it is not known where base has it.
    #[must_use]
    pub fn with_moved_whole(mut self) -> Self {
        self.are_moved_whole = true;
        self
    }

    /// Leaves off what is in new directories once there are `room` sightings and nothing is gone, and goes on with those
    /// that an earlier walk so left off, which have rows since. What was found until then counts: where nothing is gone,
    /// nothing was moved to what is left off, and a later walk asks where that came from.
    #[must_use]
    pub fn with_room(mut self, room: usize, left: impl IntoIterator<Item = FileId>) -> Self {
        self.room = room;
        self.left = left.into_iter().filter(|id| self.asked.insert(Parent::Known(*id))).collect();
        self
    }

    /// The directories that this walk, which is over, left off.
    pub fn left_off(&self) -> Result<Vec<Parent>, B::Error> {
        let mut left: Vec<Parent> = self.left.iter().copied().map(Parent::Known).collect();
        for at in &self.deferred {
            if self.depth(*at)? < PATH_DEPTH_MAX {
                left.push(Parent::New(*at));
            }
        }
        Ok(left)
    }

    fn ask(&mut self, directory: Parent) {
        self.handle_ambiguous(directory);
        if self.asked.insert(directory) {
            self.queue.push_back(directory);
        }
    }

    /// The directory to list next; `None` when the walk is over, or has to be made [again](Walk::short). Every directory
    /// that this returns is answered by [`Walk::handle_listing`], [`Walk::handle_ambiguous`], [`Walk::handle_missing`] or
    /// [`Walk::handle_unlisted`] before the next call.
    pub fn next_directory(&mut self) -> Result<Option<Parent>, B::Error> {
        loop {
            if !self.short.is_empty() {
                return Ok(None);
            }
            if let Some(directory) = self.queue.pop_front() {
                return Ok(Some(directory));
            }
            self.ask_for_origins()?;
            if !self.queue.is_empty() {
                continue;
            }
            // What was looked at with the same rows gone would be told the same again.
            let first = if self.findings.gone.len() > self.gone_count { 0 } else { self.looked_at };
            for from in identify(self.base, &mut self.findings, first)? {
                self.findings.gone.remove(&from);
                self.claimed.insert(from);
            }
            self.looked_at = self.findings.sightings.len();
            // What gave way to another kind of thing may stand under another name now.
            let partly = |key: &&RowKey| self.partly.contains_key(&key.parent);
            self.short.extend(self.findings.gone.iter().filter(partly).map(|key| key.parent));
            self.descend_identified()?;
            self.gone_count = self.findings.gone.len();
            if !self.queue.is_empty() {
                continue;
            }
            // Every row that could move is gone by now: whatever is left is new.
            let is_any_gone = !self.findings.gone.is_empty();
            if !is_any_gone && self.findings.sightings.len() >= self.room {
                return Ok(None);
            }
            // One that is gone may be in any of them.
            let mut count = if is_any_gone { usize::MAX } else { DESCEND_COUNT };
            while count > 0 && self.descend_one()? {
                count -= 1;
            }
            if self.queue.is_empty() && self.deferred.is_empty() && self.left.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Takes the complete listing of a directory, or of those [names](Walk::names) that are to be looked at. `inode` is
    /// that of the directory that was listed: another than base has, where this walk did not yet find out why, may be
    /// another directory.
    pub fn handle_listing(&mut self, directory: Parent, inode: u64, listing: Vec<Listed>) -> Result<(), B::Error> {
        if self.is_another(directory, inode)? {
            return self.handle_missing(directory);
        }
        let mut compared = Comparison::of(&listing);
        self.each_row(directory, &mut |local, row| compared.take(&listing, local, row))?;
        let Comparison { standings, missing, .. } = compared;
        if !missing.is_empty() && self.names(directory).is_some() {
            self.handle_ambiguous(directory);
            return Ok(());
        }
        if let Parent::Known(parent) = directory {
            for (local, below) in missing {
                let key = RowKey { parent, local };
                self.decided.insert(key.clone());
                self.add_gone(key, below)?;
            }
        }
        for (Listed { local, kind, print, links, .. }, standing) in listing.into_iter().zip(standings) {
            let row = match standing {
                Standing::AsBefore => continue,
                Standing::Directory(id) => {
                    self.handle_unchanged(directory, id)?;
                    continue;
                }
                Standing::Other(id, kind) => Some((id, kind)),
                Standing::New => None,
            };
            // What stands under a temporary name and has no row is none of the user's.
            if directory == Parent::Known(PARKED) && row.is_none() {
                continue;
            }
            if let (Parent::Known(parent), Some((id, was))) = (directory, row) {
                let key = RowKey { parent, local: local.clone() };
                // Where that directory was found elsewhere, what is in it is there.
                let is_claimed = self.claimed.contains(&key);
                self.decided.insert(key);
                if was == Kind::Directory && kind != Kind::Directory && !is_claimed {
                    self.add_gone_below(id)?;
                }
            }
            if kind == Kind::Directory {
                self.deferred.push_back(self.findings.sightings.len());
            }
            let seen = Seen::AsBefore;
            self.findings.sightings.push(Sighting { parent: directory, local, kind, print, links, from: None, seen });
        }
        Ok(())
    }

    /// Takes note that the [names](Walk::names) of a directory don't tell what stands there: the disk may take one for
    /// another. Nothing is to be noted of one that is listed whole.
    pub fn handle_ambiguous(&mut self, directory: Parent) {
        if let Parent::Known(id) = directory
            && self.partly.contains_key(&id)
        {
            self.short.insert(id);
        }
    }

    /// Gives the rows of what is looked at in a directory.
    fn each_row(&self, directory: Parent, each: &mut dyn FnMut(Name, BaseRow)) -> Result<(), B::Error> {
        let Parent::Known(parent) = directory else { return Ok(()) };
        let Some(names) = self.partly.get(&parent) else { return self.base.each_row(parent, each) };
        for local in names {
            let key = RowKey { parent, local: local.clone() };
            if let Some(row) = self.base.row(&key)? {
                each(key.local, row);
            }
        }
        Ok(())
    }

    /// A directory is as base has it, in one that was listed.
    fn handle_unchanged(&mut self, parent: Parent, id: FileId) -> Result<(), B::Error> {
        let directory = Parent::Known(id);
        let is_found = self.take_missing(directory);
        if matches!(parent, Parent::Known(parent) if self.whole.contains(&parent)) {
            return self.ask_whole(id);
        }
        // One that a walk left off before a restart has no rows, and one without rows has nothing that could be gone.
        if self.is_full && self.room < usize::MAX && !self.base.has_rows(id)? {
            if self.asked.insert(directory) {
                self.left.push_back(id);
            }
        } else if self.is_full || is_found {
            self.ask(directory);
        }
        Ok(())
    }

    /// Whether a directory was asked for where it is no more, it or one above it having been moved: it may be asked for
    /// again.
    fn take_missing(&mut self, directory: Parent) -> bool {
        let is_found = self.missing.remove(&directory);
        if is_found {
            self.asked.remove(&directory);
        }
        is_found
    }

    /// Asks for a directory in one that was moved, and for all below it. One that was listed before that was known is
    /// not listed again: those in it are asked for as base has them.
    fn ask_whole(&mut self, id: FileId) -> Result<(), B::Error> {
        let mut below = vec![id];
        while let Some(id) = below.pop() {
            if self.whole.insert(id) && self.asked.contains(&Parent::Known(id)) {
                let rows = self.base.rows(id)?;
                below.extend(rows.iter().filter(|(_, row)| row.kind == Kind::Directory).map(|(_, row)| row.id));
            }
            self.ask(Parent::Known(id));
        }
        Ok(())
    }

    fn is_another(&self, directory: Parent, inode: u64) -> Result<bool, B::Error> {
        let Parent::Known(id) = directory else { return Ok(false) };
        let Some(key) = self.base.find(id, id)?.filter(|key| !self.claimed.contains(key)) else { return Ok(false) };
        Ok(self.base.row(&key)?.is_some_and(|row| row.print.inode != inode))
    }

    /// Takes note that a known directory is not where base has it. The directory above is listed; if this one is found
    /// elsewhere it is asked for again, there.
    pub fn handle_missing(&mut self, directory: Parent) -> Result<(), B::Error> {
        let Parent::Known(id) = directory else { return Ok(()) };
        self.missing.insert(directory);
        if let Some(key) = self.base.find(id, id)? {
            self.ask(Parent::Known(key.parent));
        }
        Ok(())
    }

    /// Takes note that a directory could not be listed completely: nothing in it counts as gone.
    pub fn handle_unlisted(&mut self, directory: Parent) -> Result<(), B::Error> {
        let Parent::Known(id) = directory else { return Ok(()) };
        self.findings.gone.retain(|key| key.parent != id);
        Ok(())
    }

    /// The findings, and the indices of the sightings that must be read before they can be diffed.
    pub fn finish(mut self) -> Result<(Findings, Vec<usize>), B::Error> {
        let mut unread = Vec::new();
        for (at, sighting) in self.findings.sightings.iter_mut().enumerate() {
            let row = match &sighting.from {
                Some(from) => self.base.row(from)?,
                None => None,
            };
            if sighting.kind == Kind::Directory && row.is_none() {
                sighting.seen = Seen::Directory;
            } else if must_be_read(row.as_ref(), sighting.kind, &sighting.print, &sighting.seen) {
                unread.push(at);
            }
        }
        Ok((self.findings, unread))
    }

    /// The names from a known directory down to the one that is to be listed, for whoever opens it.
    pub fn path(&self, directory: Parent) -> (FileId, Vec<Name>) {
        let (mut at, mut names) = (directory, Vec::new());
        loop {
            match at {
                Parent::Known(id) => {
                    names.reverse();
                    return (id, names);
                }
                Parent::New(index) => match self.findings.sightings.get(index) {
                    Some(sighting) => {
                        names.push(sighting.local.clone());
                        at = sighting.parent;
                    }
                    None => at = Parent::Known(FileId::ROOT),
                },
            }
        }
    }

    /// Where a known directory was found, if this walk found it elsewhere than base has it.
    pub fn found(&self, id: FileId) -> Result<Option<(Parent, Name)>, B::Error> {
        let sighting = self.sighting(Parent::Known(id));
        Ok(sighting.map(|sighting| (sighting.parent, sighting.local.clone())))
    }

    /// The sighting of a directory: of a new one, or of a known one that is not as base has it.
    pub fn sighting(&self, directory: Parent) -> Option<&Sighting> {
        let at = match directory {
            Parent::New(at) => at,
            Parent::Known(id) => *self.found.get(&id)?,
        };
        self.findings.sightings.get(at)
    }

    /// Asks for one of the directories that nothing but what is new is in; false if there is none.
    fn descend_one(&mut self) -> Result<bool, B::Error> {
        if let Some(at) = self.deferred.pop_front() {
            if self.depth(at)? < PATH_DEPTH_MAX {
                self.ask(Parent::New(at));
            }
            return Ok(true);
        }
        let known = self.left.pop_front();
        self.queue.extend(known.map(Parent::Known));
        Ok(known.is_some())
    }

    /// How many names lead from the root to a directory that was sighted; [`PATH_DEPTH_MAX`] stands for any above.
    fn depth(&self, at: usize) -> Result<usize, B::Error> {
        let (mut known, names) = self.path(Parent::New(at));
        let mut depth = names.len();
        while known != FileId::ROOT && known != PARKED && depth < PATH_DEPTH_MAX {
            depth += 1;
            match self.found(known)? {
                Some((Parent::Known(above), _)) => known = above,
                Some((at @ Parent::New(_), _)) => {
                    let (above, names) = self.path(at);
                    (known, depth) = (above, depth + names.len());
                }
                None => match self.base.find(known, known)? {
                    Some(key) => known = key.parent,
                    None => break,
                },
            }
        }
        Ok(depth)
    }

    fn add_gone(&mut self, key: RowKey, directory: Option<FileId>) -> Result<(), B::Error> {
        let is_claimed = self.claimed.contains(&key);
        if !is_claimed {
            self.findings.gone.insert(key);
        }
        if let Some(id) = directory.filter(|_| !is_claimed) {
            self.add_gone_below(id)?;
        }
        Ok(())
    }

    /// With a directory goes what is in it, until it is found elsewhere.
    fn add_gone_below(&mut self, directory: FileId) -> Result<(), B::Error> {
        let mut below = vec![directory];
        while let Some(parent) = below.pop() {
            for (local, row) in self.base.rows(parent)? {
                let key = RowKey { parent, local };
                if self.claimed.contains(&key) {
                    continue;
                }
                if row.kind == Kind::Directory {
                    below.push(row.id);
                }
                self.findings.gone.insert(key);
            }
        }
        Ok(())
    }

    /// A directory that is found again: what is in it is looked at there. Not what was looked at before, nor what of it
    /// was found elsewhere, where it may have been.
    fn take_back_below(&mut self, directory: FileId) -> Result<(), B::Error> {
        let mut below = vec![directory];
        while let Some(parent) = below.pop() {
            for (local, row) in self.base.rows(parent)? {
                let key = RowKey { parent, local };
                if self.claimed.contains(&key) || self.decided.contains(&key) {
                    continue;
                }
                if row.kind == Kind::Directory {
                    below.push(row.id);
                }
                self.findings.gone.remove(&key);
            }
        }
        Ok(())
    }

    /// Whatever has the inode of a row elsewhere may come from there: that directory is listed, too.
    fn ask_for_origins(&mut self) -> Result<(), B::Error> {
        if self.is_full {
            return Ok(());
        }
        let mut origins = Vec::new();
        for sighting in self.findings.sightings.iter().skip(self.looked_at) {
            let own = sighting.key();
            for key in self.base.of_inode(sighting.print.inode)? {
                if own.as_ref() != Some(&key) && !self.findings.gone.contains(&key) {
                    origins.push(key.parent);
                }
            }
        }
        origins.into_iter().for_each(|origin| self.ask(Parent::Known(origin)));
        Ok(())
    }

    fn descend_identified(&mut self) -> Result<(), B::Error> {
        let mut left = VecDeque::new();
        while let Some(at) = self.deferred.pop_front() {
            let from = self.findings.sightings.get(at).and_then(|sighting| sighting.from.clone());
            match from {
                Some(from) => {
                    if let Some(row) = self.base.row(&from)? {
                        if !crate::mutated!(GoneWithMove) {
                            self.take_back_below(row.id)?;
                        }
                        self.found.insert(row.id, at);
                        let directory = Parent::Known(row.id);
                        self.take_missing(directory);
                        if self.are_moved_whole {
                            self.ask_whole(row.id)?;
                        }
                        self.ask(directory);
                    }
                }
                None => left.push_back(at),
            }
        }
        self.deferred = left;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

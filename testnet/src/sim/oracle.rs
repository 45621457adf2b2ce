//! What must hold, whatever happens: which contents must be where, and which may be gone.
//!
//! It knows what users did and what stands on each disk, and nothing of the log.
#![allow(clippy::panic, reason = "a simulation ends where a promise is broken")]

mod counts;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use zerocloud::clock::WallTime;
use zerocloud::tree::versions::KEEP_DAY_COUNT;
use zerocloud_crdt::id::ContentHash;
use zerocloud_crdt::name::CONTROL;

use self::counts::Counts;
use self::texts::Texts;
use super::volume::{SimPerson, Tree, TreeEntry};

/// How long a version is kept, in nanoseconds.
const KEPT_FOR_NS: i64 = KEEP_DAY_COUNT as i64 * 24 * 60 * 60 * 1_000_000_000;

/// Contents by hash.
pub type Hashes = BTreeSet<ContentHash>;

/// The content of a file, if it is none that a power loss left as zeros, and not empty.
fn content_of(entry: &TreeEntry) -> Option<ContentHash> {
    match entry {
        TreeEntry::File { content, .. } if content.iter().any(|byte| *byte != 0) => Some(ContentHash::of(content)),
        _ => None,
    }
}

/// The contents of all files of a tree, but for empty ones and those that a power loss left as zeros.
fn contents(tree: &Tree) -> impl Iterator<Item = ContentHash> {
    tree.values().filter_map(content_of)
}

/// The files of a tree that a power loss left as zeros.
fn zeros(tree: &Tree) -> impl Iterator<Item = &[u8]> {
    let is_zeros = |entry: &TreeEntry| matches!(entry, TreeEntry::File { content, .. } if !content.is_empty() && content.iter().all(|byte| *byte == 0));
    tree.iter().filter(move |(_, entry)| is_zeros(entry)).map(|(path, _)| &**path)
}

fn hashes(tree: &Tree) -> Hashes {
    contents(tree).collect()
}

/// Whether a path is that of a temporary file whose name begins with `prefix`.
fn is_temporary(path: &[u8], prefix: &[u8]) -> bool {
    let rest = path.strip_prefix(CONTROL.as_bytes()).and_then(|rest| rest.strip_prefix(b"/tmp/"));
    rest.is_some_and(|name| name.starts_with(prefix))
}

/// Whether a path is that of a file that is staged, or of what an exchange put in its place.
fn is_staged(path: &[u8]) -> bool {
    is_temporary(path, b"put-") || is_temporary(path, b"get-")
}

/// Whether a path is that of our own directory, or below it.
fn is_ours(path: &[u8]) -> bool {
    path.starts_with(CONTROL.as_bytes())
}

/// What is on a disk at some of its paths.
fn part(disk: &Tree, is_part: impl Fn(&[u8]) -> bool) -> Tree {
    disk.iter().filter(|(path, _)| is_part(path)).map(|(path, entry)| (path.clone(), entry.clone())).collect()
}

/// How many files have each content.
fn counts(tree: &Tree) -> BTreeMap<ContentHash, usize> {
    let mut counts = BTreeMap::new();
    for content in contents(tree) {
        *counts.entry(content).or_default() += 1;
    }
    counts
}

/// What a user did: the tree before and after.
#[derive(Clone, Debug)]
pub struct Acted {
    /// Before.
    pub before: Tree,
    /// After.
    pub after: Tree,
    /// All of the disk before and after, if files on it have several names.
    pub disk: Option<(Tree, Tree)>,
    /// Told.
    pub line: String,
}

impl Acted {
    /// What a user does, who then tells it.
    pub fn by(person: &SimPerson, act: impl FnOnce(&SimPerson) -> String) -> Self {
        let whole = || person.has_hard_links().then(|| person.whole_tree());
        let (before, disk) = (person.tree(), whole());
        let line = act(person);
        Self { before, after: person.tree(), disk: disk.zip(whole()), line }
    }
}

/// What is known of contents. See the module.
#[derive(Default)]
pub struct Oracle {
    /// All that a user ever wrote.
    written: Hashes,
    /// By device: what its user wrote there.
    own: Vec<Hashes>,
    /// What a user overwrote or deleted somewhere, or lost to a power loss: it may be gone.
    gone: Hashes,
    /// What a user overwrote or deleted somewhere.
    taken: Hashes,
    /// What everybody had seen the end of: it must not come back.
    dead: Hashes,
    /// By device: of which contents its user took the last file away, and made none since.
    ended: Vec<Hashes>,
    /// By device: what its node took out of the tree since all was settled, while other files had it, too. It may be a
    /// conflict copy that is still to come.
    taken_out: Vec<Hashes>,
    /// How many files have each content.
    counts: Counts,
    /// What may be merged.
    texts: Texts,
    /// By device: what its node took out of the tree, and when, by its own clock: it is a version from then on.
    versions: Vec<BTreeMap<ContentHash, WallTime>>,
    /// Some device forgot what it knew, or can't show all that there is.
    is_forgetful: bool,
    /// A user touched, moved or copied what a power loss had left as zeros, which may spread by that.
    are_zeros_wanted: bool,
}

impl Oracle {
    /// For so many devices, of which some may not be able to show all that there is.
    pub fn new(device_count: usize, is_forgetful: bool) -> Self {
        Self {
            own: vec![Hashes::new(); device_count],
            ended: vec![Hashes::new(); device_count],
            taken_out: vec![Hashes::new(); device_count],
            counts: Counts::new(device_count),
            versions: vec![BTreeMap::new(); device_count],
            is_forgetful,
            ..Self::default()
        }
    }

    /// The same where texts that two changed are merged.
    #[must_use]
    pub fn with_merges(self) -> Self {
        Self { texts: Texts::merged(), ..self }
    }

    /// How many texts there were that no user wrote.
    pub fn merge_count(&self) -> usize {
        self.texts.merge_count()
    }

    /// A user acted: the tree before and after.
    pub fn note_act(&mut self, device: usize, before: &Tree, after: &Tree) {
        self.counts.note_act(device, before, after);
        self.texts.note_act(before, after);
        // One of two copies went; elsewhere another user may take the other at the same time.
        let (counts, left) = (counts(before), counts(after));
        let taken: Hashes =
            counts.iter().filter(|(hash, count)| left.get(*hash) < Some(*count)).map(|(hash, _)| *hash).collect();
        let ended = &mut self.ended[device];
        ended.retain(|content| !left.contains_key(content));
        ended.extend(taken.iter().filter(|content| !left.contains_key(*content)));
        self.gone.extend(&taken);
        self.taken.extend(taken);
        let known: BTreeSet<&[u8]> = zeros(before).collect();
        self.are_zeros_wanted |= zeros(after).any(|path| !known.contains(path));
        let (before, after) = (hashes(before), hashes(after));
        for content in after.difference(&before) {
            self.written.insert(*content);
            self.own[device].insert(*content);
            self.dead.remove(content);
        }
    }

    /// A user may have written to files that the node had moved aside, by their other names: the disk before and after.
    pub fn note_act_aside(&mut self, device: usize, before: &Tree, after: &Tree) {
        let aside = |disk: &Tree| counts(&part(disk, is_ours));
        self.counts.note_act_aside(device, aside(before), aside(after));
    }

    /// A user touched a file of this tree.
    pub fn note_touch(&mut self, tree: &Tree) {
        self.are_zeros_wanted |= zeros(tree).next().is_some();
    }

    /// A power loss: all files of the disk before and after. Only what the user of this device wrote may be lost by it;
    /// what he deleted may be there again.
    pub fn note_power_loss(&mut self, device: usize, before: &Tree, after: &Tree) {
        self.is_forgetful = true;
        // What is staged was put nowhere yet; but after an exchange what stood there has its name.
        let mut before = before.clone();
        let own = &self.own[device];
        before
            .retain(|path, entry| !is_staged(path) || content_of(entry).is_some_and(|content| own.contains(&content)));
        self.counts.note_loss(&before, after);
        self.texts.note_undone(&before, after);
        let spoilt = before.iter().filter(|(path, entry)| after.get(*path) != Some(*entry));
        let spoilt: Hashes = spoilt.filter_map(|(_, entry)| content_of(entry)).collect();
        let (before, disk, after) = (hashes(&before), after, hashes(after));
        // What is in the tree again is the user's.
        let stored = hashes(&part(disk, is_ours));
        self.versions[device].retain(|content, _| stored.contains(content));
        self.texts.note_loss(before.difference(&after).chain(&spoilt), disk);
        for content in before.difference(&after) {
            let is_own = self.own[device].contains(content) || !self.written.contains(content);
            assert!(is_own || self.gone.contains(content), "a power loss took what had come from another device");
            self.gone.insert(*content);
        }
        // Who deletes what is left of a file deletes what it had, and with that its copies.
        self.gone.extend(spoilt);
        self.dead.retain(|content| !after.contains(content));
    }

    /// A device went away for good: all of its disk, and all of those that stay. What it alone had may be gone, and what
    /// its user took away may be there as before.
    pub fn note_leaver(&mut self, device: usize, disk: &Tree, stays: &[Tree]) {
        // What is staged was put nowhere yet.
        let there = stays.iter().flat_map(|tree| tree.iter().filter(|(path, _)| !is_staged(path)));
        let there: Hashes = there.filter_map(|(_, entry)| content_of(entry)).collect();
        let alone: Hashes = hashes(disk).difference(&there).copied().collect();
        self.gone.extend(&alone);
        self.ended[device].clear();
        self.counts.note_leaver(device, alone);
    }

    /// A user gives up so many versions, and what stands in their places on this disk is to stand again, also where another
    /// user took it away and what came after that is what is given up. Another user may have something else there.
    pub fn note_given_up(&mut self, device: usize, count: usize, tree: &Tree) {
        self.counts.note_changed(device, count);
        let here = hashes(tree);
        self.ended.iter_mut().for_each(|ended| ended.retain(|content| !here.contains(content)));
        self.dead.retain(|content| !here.contains(content));
        self.gone.extend(self.texts.parts_of_merges());
        self.counts.note_may_stand(here);
    }

    /// A device was copied: so is what its user did. As soon as the copy, or what was copied, begins a new history, what its
    /// user puts back is no edit.
    pub fn note_copy(&mut self, of: usize, tree: &Tree) {
        self.texts.note_copy(tree);
        self.own.push(Hashes::new());
        self.ended.push(self.ended[of].clone());
        self.taken_out.push(self.taken_out[of].clone());
        self.versions.push(self.versions[of].clone());
        self.counts.note_copy(of);
    }

    /// A device got an old home, which does not know what its user did since.
    pub fn note_rollback(&mut self, device: usize) {
        self.is_forgetful = true;
        self.versions[device].clear();
        self.counts.note_forgotten();
    }

    /// The user of a device with an old home goes on without what others know: what ended since is not known to have.
    pub fn note_alone(&mut self) {
        self.dead.clear();
        self.texts.note_alone();
    }

    /// A device lost its home and our own directory: all files of the disk before and after. A local edit that was
    /// displaced and not yet published goes with them.
    pub fn note_wipe(&mut self, device: usize, before: &Tree, after: &Tree) {
        self.is_forgetful = true;
        self.counts.note_loss(before, after);
        self.counts.note_forgotten();
        let (before, disk, after) = (hashes(before), after, hashes(after));
        self.versions[device].clear();
        let lost: Hashes =
            before.difference(&after).filter(|content| self.own[device].contains(content)).copied().collect();
        self.texts.note_loss(&lost, disk);
        self.gone.extend(lost);
    }

    /// The node worked: the user's tree before, what the user did meanwhile, and tree and whole disk after.
    pub fn check_turn(
        &mut self,
        (device, now): (usize, WallTime),
        before: &Tree,
        meanwhile: &[Acted],
        after: &Tree,
        disk: &Tree,
    ) {
        if let Some(path) = zeros(after).find(|path| self.is_emptied(before.get(*path), after)) {
            panic!("device {device}: {} became zeros by no act of a user", String::from_utf8_lossy(path));
        }
        let (had, has) = (counts(meanwhile.last().map_or(before, |act| &act.after)), counts(after));
        let is_taken = |content: &&ContentHash| has.get(*content).is_some_and(|count| had.get(*content) > Some(count));
        self.taken_out[device].extend(had.keys().filter(is_taken));
        // Whoever makes a file where another was moved aside a moment ago has replaced that one.
        for act in meanwhile {
            for path in act.after.keys().filter(|path| !act.before.contains_key(*path)) {
                if let Some(content) = before.get(path).and_then(content_of) {
                    self.gone.insert(content);
                    self.counts.note_taken(device, content);
                }
            }
        }
        let acted = meanwhile.iter().flat_map(|act| [&act.before, &act.after]);
        self.texts.look(&[before, after].into_iter().chain(acted).collect::<Vec<_>>(), disk);
        // What makes room for others comes back.
        let stored = hashes(&part(disk, is_ours));
        let parked = hashes(&part(disk, |path| is_temporary(path, b"parked-")));
        let (mut kept, after, disk) = (hashes(before), hashes(after), hashes(disk));
        let mut before = kept.clone();
        for act in meanwhile {
            let (left, there) = (hashes(&act.before), hashes(&act.after));
            kept.retain(|content| there.contains(content) || !left.contains(content));
            kept.extend(there.difference(&left));
            before.extend(there);
        }
        if let Some(content) = kept.difference(&disk).next() {
            panic!("device {device}: {content} left the tree and is in no version");
        }
        // What comes back into the tree is a version no more: it is the user's.
        self.versions[device].retain(|content, _| stored.contains(content) || !after.contains(content));
        let left = kept.difference(&after).filter(|content| !parked.contains(content));
        self.check_versions(device, now, left, &disk);
        self.written.extend(after.iter().filter(|content| self.texts.is_merged(content)));
        if let Some(content) = after.difference(&before).find(|content| !self.written.contains(content)) {
            panic!("device {device}: {content} was put into the tree and nobody wrote it");
        }
        if let Some(content) = after.difference(&before).find(|content| self.dead.contains(content)) {
            panic!("device {device}: {content} was deleted and came back");
        }
        if let Some(content) = self.texts.find_dead(after.difference(&before)) {
            panic!("device {device}: a line of {content} was deleted and came back");
        }
    }

    /// What left the tree stays on the disk for as long as versions are kept.
    fn check_versions<'c>(
        &mut self,
        device: usize,
        now: WallTime,
        left: impl Iterator<Item = &'c ContentHash>,
        disk: &Hashes,
    ) {
        let versions = &mut self.versions[device];
        for content in left {
            let at = versions.entry(*content).or_insert(now);
            *at = (*at).max(now);
        }
        versions.retain(|content, at| {
            let is_due = now.0.saturating_sub(at.0) >= KEPT_FOR_NS;
            let is_kept = disk.contains(content);
            assert!(is_due || is_kept, "device {device}: {content} was a version and went before its time");
            if !is_kept {
                self.counts.note_pruned(*content);
            }
            is_kept
        });
    }

    /// Whether a device may not show a content again: its user saw it and took the last file of it away. An edit
    /// elsewhere at the same time keeps other bytes, or none; only where they were put at a path there they come. Where the
    /// content came from elsewhere, it was put at one to begin with.
    fn is_over(&self, device: usize, content: &ContentHash) -> bool {
        let may_come =
            self.is_forgetful || self.taken_out[device].contains(content) || self.texts.may_be_made_again(content);
        if may_come || !self.ended[device].contains(content) {
            return false;
        }
        let (elsewhere, here) = self.counts.put(device, content);
        let is_from_elsewhere = !self.counts.is_settled(content) && here == 0;
        elsewhere <= usize::from(is_from_elsewhere)
    }

    /// Whether something that no user took away was there and is nowhere in the tree.
    fn is_emptied(&self, before: Option<&TreeEntry>, after: &Tree) -> bool {
        let Some(TreeEntry::File { content, .. }) = before else { return false };
        let hash = ContentHash::of(content);
        let is_content = content.iter().any(|byte| *byte != 0);
        is_content && !self.are_zeros_wanted && !self.taken.contains(&hash) && !hashes(after).contains(&hash)
    }

    /// All devices show the same, as far as each can: the tree of one that can show all, and those of all.
    pub fn check_end(&mut self, tree: &Tree, trees: &[&Tree]) {
        let (here, covered) = (hashes(tree), self.texts.settle(tree));
        let is_there = |content: &ContentHash| here.contains(content) || covered.contains(content);
        if let Some(content) = self.written.iter().find(|c| !is_there(c) && !self.gone.contains(c)) {
            panic!("{content} is lost");
        }
        // What a user took away while it was being put elsewhere may show until the next look at his tree.
        for device in 0..self.ended.len() {
            if let Some(content) = here.iter().find(|content| self.is_over(device, content)) {
                panic!("device {device}: {content} was deleted here, nobody made it elsewhere, and it came back");
            }
        }
        self.counts.note_may_stand(here.iter().filter(|content| self.texts.may_be_made_again(content)).copied());
        if let Err(wrong) = self.counts.settle(tree, &covered, self.is_forgetful) {
            panic!("{wrong}");
        }
        // What has no place on a device stays there as it was.
        let anywhere: Hashes = trees.iter().flat_map(|tree| contents(tree)).collect();
        self.dead = self.written.difference(&anywhere).copied().collect();
        self.ended.iter_mut().chain(&mut self.taken_out).for_each(Hashes::clear);
    }
}

//! How many files have each content when all has settled: as many as were left, no more than were made, and copies of
//! conflicts only where two acted.
//!
//! Files are told by what is in them, so two with the same bytes can't be told apart, but they can be counted. Between
//! two moments at which all is settled, what one user makes is one file on all devices; what two make may be one (the
//! same bytes at the same path), and what two take away may be one as well. That bounds the count from both sides,
//! whatever the engine's rules are.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::id::ContentHash;

use super::{Hashes, content_of, counts, is_ours, part};
use crate::sim::volume::{Tree, TreeEntry};

/// Numbers of files by content.
type Numbers = BTreeMap<ContentHash, usize>;

/// What one user did since all was settled.
#[derive(Clone, Debug, Default)]
struct Done {
    /// By how many files there were more.
    gained: Numbers,
    /// By how many files there were more because one of their names was moved aside: each may become a file of its own,
    /// or stay the one with the other names.
    aside: Numbers,
    /// At how many paths it was put: what is moved, too, may be another file to all if it was touched before anybody
    /// looked, or an edit of what stood there.
    put: Numbers,
    /// By how many files there were fewer.
    taken: Numbers,
    /// Went away: what it did may be known to nobody, or to all.
    has_left: bool,
    /// How many files there were after the last act. There may be more than the user made, while a conflict copy is there
    /// already and the other version is still on its way, or fewer, while a copy is still to be made.
    left: Option<Numbers>,
    /// Paths at which something else stood.
    changed: usize,
    /// Copies of conflicts that the user copied or edited: they are files of their own from then on.
    copied: usize,
}

/// What users did since all was settled, counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    settled: Numbers,
    copies: usize,
    users: Vec<Done>,
    /// What power losses and lost homes took.
    dropped: Numbers,
    /// What stood in copies of conflicts that somebody saw. If it is put in the place of the other version, too, the copy
    /// becomes a file of its own, whatever others do with it.
    in_copies: BTreeSet<ContentHash>,
    /// What only a device that went away had, besides those that had let it go in time.
    left_with: BTreeSet<ContentHash>,
    /// What stood where a version was given up.
    may_stand: BTreeSet<ContentHash>,
    /// All that was ever there.
    ever: BTreeSet<ContentHash>,
    /// What had been there when a device lost its home, since all was settled: an old copy of a folder that joins brings
    /// nothing back, so that whoever puts one there before it joined gets what the others have.
    old: BTreeSet<ContentHash>,
    /// Whether a device may know no more of what was at any time.
    forgets_anytime: bool,
}

impl Counts {
    pub(super) fn new(device_count: usize) -> Self {
        Self { users: vec![Done::default(); device_count], ..Self::default() }
    }

    /// A user acted: the tree before and after.
    pub(super) fn note_act(&mut self, device: usize, before: &Tree, after: &Tree) {
        let Some(done) = self.users.get_mut(device) else { return };
        self.in_copies.extend(copies_of(before).filter_map(|(_, entry)| content_of(entry)));
        done.copied += copy_count(after).saturating_sub(copy_count(before));
        done.copied +=
            copies_of(after).filter(|(path, entry)| before.get(*path).is_some_and(|had| had != *entry)).count();
        let (had, has) = (counts(before), counts(after));
        add(&mut done.taken, more(&had, &has));
        let gained = more(&has, &had);
        if self.forgets_anytime {
            self.old.extend(gained.keys().filter(|content| self.ever.contains(*content)));
        }
        self.ever.extend(gained.keys());
        add(&mut done.gained, gained);
        done.left = Some(has);
        for (path, entry) in after.iter().filter(|(path, entry)| before.get(*path) != Some(entry)) {
            let is_there = before.get(path).and_then(content_of);
            if let Some(content) = content_of(entry).filter(|content| is_there != Some(*content)) {
                *done.put.entry(content).or_default() += 1;
            }
        }
        done.changed += before.iter().filter(|(path, entry)| after.get(*path) != Some(*entry)).count();
        done.changed += after.keys().filter(|path| !before.contains_key(*path)).count();
    }

    /// A user wrote to files that did not show at that moment: what they had, and have.
    pub(super) fn note_act_aside(&mut self, device: usize, had: Numbers, has: Numbers) {
        let Some(done) = self.users.get_mut(device) else { return };
        add(&mut done.taken, more(&had, &has));
        let gained = more(&has, &had);
        self.ever.extend(gained.keys());
        add(&mut done.put, gained.clone());
        add(&mut done.aside, gained);
    }

    /// A user changed something at so many paths.
    pub(super) fn note_changed(&mut self, device: usize, count: usize) {
        if let Some(done) = self.users.get_mut(device) {
            done.changed += count;
        }
    }

    /// A user wrote over a file that did not show at that moment.
    pub(super) fn note_taken(&mut self, device: usize, content: ContentHash) {
        if let Some(done) = self.users.get_mut(device) {
            *done.taken.entry(content).or_default() += 1;
        }
    }

    /// Something but a user took files away: all of the disk before and after.
    pub(super) fn note_loss(&mut self, before: &Tree, after: &Tree) {
        let of_tree = |disk: &Tree| counts(&part(disk, |path| !is_ours(path)));
        // What is in our own directory again makes up for nothing that went from the tree.
        let mut dropped = more(&of_tree(before), &of_tree(after));
        for (content, count) in more(&counts(before), &counts(after)) {
            let of_content = dropped.entry(content).or_default();
            *of_content = count.max(*of_content);
        }
        add(&mut self.dropped, dropped);
    }

    /// A device went away, and nobody may know what its user did, nor have what it alone had.
    pub(super) fn note_leaver(&mut self, device: usize, alone: impl IntoIterator<Item = ContentHash>) {
        self.left_with.extend(alone);
        let Some(done) = self.users.get_mut(device) else { return };
        done.gained.clear();
        done.aside.clear();
        done.has_left = true;
    }

    /// The time of a version was over: whoever has it in the tree may be away.
    pub(super) fn note_pruned(&mut self, content: ContentHash) {
        if self.users.iter().any(|done| done.has_left) {
            self.left_with.insert(content);
        }
    }

    /// Whatever of this may stand again at any place.
    pub(super) fn note_may_stand(&mut self, contents: impl IntoIterator<Item = ContentHash>) {
        self.may_stand.extend(contents);
    }

    /// A device was copied, with what its user did.
    pub(super) fn note_copy(&mut self, of: usize) {
        self.users.extend(self.users.get(of).cloned());
        self.forgets_anytime = true;
    }

    /// A device knows no more of what was since some moment.
    pub(super) fn note_forgotten(&mut self) {
        self.old.clone_from(&self.ever);
    }

    /// At how many paths other users than this one put a content since all was settled, and this one.
    pub(super) fn put(&self, device: usize, content: &ContentHash) -> (usize, usize) {
        let of = |done: &Done| done.put.get(content).copied().unwrap_or_default();
        let own = self.users.get(device).map(of).unwrap_or_default();
        (self.users.iter().map(of).sum::<usize>() - own, own)
    }

    /// Whether all had a content when all was settled.
    pub(super) fn is_settled(&self, content: &ContentHash) -> bool {
        self.settled.contains_key(content)
    }

    /// All is settled and this is there; gives what is wrong with it. What was merged with others may stand there as that
    /// (`covered`). Where devices forget what they knew, things may come again.
    pub(super) fn settle(&mut self, tree: &Tree, covered: &Hashes, is_forgetful: bool) -> Result<(), String> {
        let (now, copies) = (counts(tree), copy_count(tree));
        let users = std::mem::take(&mut self.users);
        let mut any = std::mem::take(&mut self.in_copies);
        any.append(&mut self.may_stand);
        let (dropped, old) = (std::mem::take(&mut self.dropped), std::mem::take(&mut self.old));
        let settled = std::mem::replace(&mut self.settled, now.clone());
        let left_with = std::mem::take(&mut self.left_with);
        let former_copies = std::mem::replace(&mut self.copies, copies);
        self.users = vec![Done::default(); users.len()];
        let of = |numbers: &Numbers, content: &ContentHash| numbers.get(content).copied().unwrap_or_default();
        let all = |numbers: fn(&Done) -> &Numbers, content: &ContentHash| {
            users.iter().map(|done| of(numbers(done), content)).collect::<Vec<_>>()
        };
        let known = users.iter().flat_map(|done| done.gained.keys()).chain(settled.keys());
        for content in known {
            let (there, begun) = (of(&now, content), of(&settled, content));
            let taken = all(|done| &done.taken, content);
            // What two put may have come to one path.
            let puts = all(|done| &done.put, content).into_iter().filter(|count| *count > 0).count();
            let gained = all(|done| &done.gained, content).into_iter().filter(|_| !old.contains(content));
            let least = if puts > 1 { begun.min(1) } else { begun + gained.max().unwrap_or_default() };
            let least = least.saturating_sub(taken.iter().sum::<usize>() + of(&dropped, content));
            if there < least.min(1) && !covered.contains(content) && !left_with.contains(content) {
                return Err(format!("{content} is lost: {least} files of it were not taken away by anybody"));
            }
            let stays = users.iter().enumerate().filter(|(_, done)| !done.has_left);
            let most = stays.map(|(at, done)| {
                let own = begun + of(&done.gained, content) + of(&done.aside, content);
                let own = own.saturating_sub(of(&done.taken, content));
                let left = own.max(done.left.as_ref().map_or(0, |left| of(left, content)));
                let others = users.iter().enumerate().filter(|(other, _)| *other != at);
                left + others.map(|(_, done)| of(&done.put, content)).sum::<usize>()
            });
            let most = most.min().unwrap_or_default();
            if there > most && !is_forgetful && !any.contains(content) {
                return Err(format!("{there} files of {content} are there, and {most} could be"));
            }
        }
        let changed: Vec<usize> = users.iter().map(|done| done.changed).collect();
        let busiest = changed.iter().max().copied().unwrap_or_default();
        let others = changed.iter().sum::<usize>() - busiest;
        let copied = users.iter().map(|done| done.copied).sum::<usize>();
        if copies > former_copies + others + copied && !is_forgetful {
            return Err(format!(
                "{copies} conflict copies after {former_copies}, and others than one changed {others} paths"
            ));
        }
        Ok(())
    }
}

/// By how much the first has more of each content than the second.
fn more(these: &Numbers, those: &Numbers) -> Numbers {
    let more = these
        .iter()
        .map(|(content, count)| (*content, count.saturating_sub(those.get(content).copied().unwrap_or_default())));
    more.filter(|(_, count)| *count > 0).collect()
}

fn add(to: &mut Numbers, numbers: Numbers) {
    for (content, count) in numbers {
        *to.entry(content).or_default() += count;
    }
}

/// How many things have the name of a conflict copy.
fn copy_count(tree: &Tree) -> usize {
    copies_of(tree).count()
}

fn copies_of(tree: &Tree) -> impl Iterator<Item = (&[u8], &TreeEntry)> {
    const MARK: &[u8] = b" (conflict ";
    let is_copy = |path: &[u8]| {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        name.windows(MARK.len()).any(|part| part == MARK)
    };
    tree.iter().map(|(path, entry)| (&**path, entry)).filter(move |(path, _)| is_copy(path))
}

//! What becomes of texts that two changed at the same time: what a merge may be, and what it may stand for.
//!
//! Each line that users write is another than all before, so that it can be followed wherever it goes. A merge is judged
//! by which lines it has and in which order, and by nothing of how it is made: it has what either of the two brought and
//! nothing that either took away. What a text does not have and once had, whoever wrote it took away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zerocloud_crdt::id::ContentHash;

use super::{Hashes, content_of};
use crate::sim::volume::{Tree, TreeEntry};

/// One line, with its end if it has one.
type Line = Arc<[u8]>;

/// Ways to one content that are told apart at most.
const WAY_COUNT_MAX: usize = 16;

/// What is known of texts. See the module.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// Whether texts are merged. If not, all else stays empty.
    is_on: bool,
    /// All that were ever in a tree, and their lines.
    known: BTreeMap<ContentHash, Vec<Line>>,
    /// Those of them that no user wrote.
    merged: Hashes,
    /// All lines that ever stood in a text or in what it was made from, for each way in which it was made.
    pasts: BTreeMap<ContentHash, BTreeSet<BTreeSet<Line>>>,
    /// All lines that ever stood in a text.
    ever: BTreeSet<Line>,
    /// Lines that a user put into a further file, or back into one: where they stood before tells nothing.
    copied: BTreeSet<Line>,
    /// By path, what a user took from there since all was settled.
    left: BTreeMap<Box<[u8]>, ContentHash>,
    /// Lines that a user took out of a file, or that a power loss did: no text needs to have them.
    taken: BTreeSet<Line>,
    /// Lines of which everybody had seen the end: they must not come back.
    dead: BTreeSet<Line>,
}

impl Texts {
    /// Where texts are merged.
    pub(super) fn merged() -> Self {
        Self { is_on: true, ..Self::default() }
    }

    /// How many there were that no user wrote.
    pub(super) fn merge_count(&self) -> usize {
        self.merged.len()
    }

    /// A user acted: the tree before and after.
    pub(super) fn note_act(&mut self, before: &Tree, after: &Tree) {
        if !self.is_on {
            return;
        }
        let (had, has) = (line_counts(before), line_counts(after));
        self.taken
            .extend(had.iter().filter(|(line, count)| has.get(*line) < Some(count)).map(|(line, _)| line.clone()));
        self.dead.retain(|line| had.contains_key(line) || !has.contains_key(line));
        let left = before.iter().filter(|(path, _)| !after.contains_key(*path));
        self.left.extend(left.filter_map(|(path, entry)| Some((path.clone(), text_of(entry)?.0))));
        self.copied
            .extend(had.iter().filter(|(line, count)| has.get(*line) > Some(count)).map(|(line, _)| line.clone()));
        for (path, entry) in after.iter().filter(|(path, entry)| before.get(*path) != Some(entry)) {
            let Some((content, lines)) = text_of(entry) else { continue };
            let from = before.get(path).and_then(text_of);
            // Where a text went away, another is an edit of it to whoever looks only now.
            let left = self.left.get(path).copied();
            for (of, old) in from.iter().chain(&left.and_then(|of| Some((of, self.known.get(&of)?.clone())))) {
                self.note_edit((*of, old), content, &lines);
            }
            if from.is_none() {
                self.note_way(content, &lines, self.pasts_of(None));
            }
            self.ever.extend(lines.iter().cloned());
            self.known.entry(content).or_insert(lines);
        }
    }

    /// A power loss made other texts of some: whoever knew these takes them for edits.
    pub(super) fn note_undone(&mut self, before: &Tree, after: &Tree) {
        if !self.is_on {
            return;
        }
        for (path, entry) in before.iter().filter(|(path, entry)| after.get(*path) != Some(entry)) {
            let Some((of, old)) = text_of(entry) else { continue };
            match after.get(path).and_then(text_of) {
                Some((content, lines)) => self.note_edit((of, &old), content, &lines),
                None => drop(self.left.insert(path.clone(), of)),
            }
        }
    }

    /// A text was made of another, which may have been another way before.
    fn note_edit(&mut self, (of, old): (ContentHash, &[Line]), content: ContentHash, lines: &[Line]) {
        let again = lines.iter().filter(|line| self.ever.contains(*line) && !old.contains(line));
        self.copied.extend(again.cloned());
        self.note_way(content, lines, self.pasts_of(Some(of)));
    }

    /// What a content has in its past, for each way to it; nothing, if it was made from nothing.
    fn pasts_of(&self, content: Option<ContentHash>) -> BTreeSet<BTreeSet<Line>> {
        let ways = content.and_then(|content| self.pasts.get(&content)).cloned();
        ways.unwrap_or_else(|| BTreeSet::from([BTreeSet::new()]))
    }

    /// A text was made from what had these in its past.
    fn note_way(&mut self, content: ContentHash, lines: &[Line], pasts: impl IntoIterator<Item = BTreeSet<Line>>) {
        let ways = self.pasts.entry(content).or_default();
        for mut past in pasts {
            past.extend(lines.iter().cloned());
            if ways.len() < WAY_COUNT_MAX {
                ways.insert(past);
            }
        }
    }

    /// These may be gone by no act of a user, and what is on a disk may be there again.
    pub(super) fn note_loss<'c>(&mut self, gone: impl IntoIterator<Item = &'c ContentHash>, disk: &Tree) {
        let lines = gone.into_iter().filter_map(|content| self.known.get(content)).flatten();
        self.taken.extend(lines.cloned());
        if self.is_on {
            let there = line_counts(disk);
            self.dead.retain(|line| !there.contains_key(line));
        }
    }

    /// Somebody goes on who does not know what ended.
    pub(super) fn note_alone(&mut self) {
        self.dead.clear();
    }

    /// A device was copied: what nobody looked at before stands in the trees of both, and was put into each of them.
    pub(super) fn note_copy(&mut self, tree: &Tree) {
        if self.is_on {
            self.copied.extend(line_counts(tree).into_keys());
        }
    }

    /// What merges may have been made from: nothing of it is left where a merge that did not come is given up.
    pub(super) fn parts_of_merges(&self) -> Vec<ContentHash> {
        let pasts: Vec<&BTreeSet<Line>> = self.merged.iter().filter_map(|it| self.pasts.get(it)).flatten().collect();
        let is_part = |lines: &[Line]| pasts.iter().any(|past| lines.iter().all(|line| past.contains(line)));
        self.known.iter().filter(|(_, lines)| is_part(lines)).map(|(content, _)| *content).collect()
    }

    /// A node worked: what stood in its tree at any time meanwhile, and all of its disk after. What nobody knows there
    /// is a merge if it can be one of two that stood there, of which one was the copy of a conflict.
    pub(super) fn look(&mut self, trees: &[&Tree], disk: &Tree) {
        if !self.is_on {
            return;
        }
        for (content, lines) in texts(disk) {
            if self.known.contains_key(&content) {
                continue;
            }
            let ways = self.ways_of_merge(&lines, trees);
            if !ways.is_empty() {
                self.note_way(content, &lines, ways);
                self.known.insert(content, lines);
                self.merged.insert(content);
            }
        }
    }

    /// The pasts that a text has if it is the merge of two that stood in these trees; none if it can't be.
    fn ways_of_merge(&self, text: &[Line], trees: &[&Tree]) -> BTreeSet<BTreeSet<Line>> {
        let is_copy = |path: &[u8]| path.windows(11).any(|part| part == b" (conflict ");
        let mut sides: BTreeMap<ContentHash, (Vec<Line>, bool)> = BTreeMap::new();
        for (path, entry) in trees.iter().flat_map(|tree| tree.iter()) {
            if let Some((content, lines)) = text_of(entry) {
                sides.entry(content).or_insert((lines, false)).1 |= is_copy(path);
            }
        }
        let mut ways = BTreeSet::new();
        for (copy, (a, _)) in sides.iter().filter(|(_, (_, is_copy))| *is_copy) {
            for (other, (b, _)) in &sides {
                let both = Both::new(a, b);
                if !both.may_be(text) || !self.known.values().any(|ancestor| both.make(text, ancestor)) {
                    continue;
                }
                for past in self.pasts_of(Some(*copy)) {
                    for other in self.pasts_of(Some(*other)) {
                        if both.keep(text, (&past, &other), &self.copied) {
                            ways.insert(past.union(&other).cloned().collect());
                        }
                    }
                }
            }
        }
        ways
    }

    /// Whether a content is one that no user wrote and that was merged.
    pub(super) fn is_merged(&self, content: &ContentHash) -> bool {
        self.merged.contains(content)
    }

    /// Whether a content may be the merge of itself and another, whose changes it has: whoever deletes it meanwhile deletes
    /// what the merge was made from.
    pub(super) fn may_be_made_again(&self, content: &ContentHash) -> bool {
        self.known.contains_key(content)
    }

    /// The first of these that has a line of which everybody had seen the end.
    pub(super) fn find_dead<'c>(&self, contents: impl IntoIterator<Item = &'c ContentHash>) -> Option<&'c ContentHash> {
        let has_dead =
            |content: &&ContentHash| self.known.get(content).is_some_and(|of| of.iter().any(|l| self.dead.contains(l)));
        contents.into_iter().find(has_dead)
    }

    /// All has settled and this is there: the texts of which each line stands in a file, unless somebody took it away.
    /// They may have been merged with others.
    pub(super) fn settle(&mut self, tree: &Tree) -> Hashes {
        if !self.is_on {
            return Hashes::new();
        }
        self.left.clear();
        let there = line_counts(tree);
        let lines = self.known.values().flatten();
        self.dead = lines.filter(|line| !there.contains_key(*line)).cloned().collect();
        let is_covered = |line: &Line| there.contains_key(line) || self.taken.contains(line);
        self.known.iter().filter(|(_, lines)| lines.iter().all(is_covered)).map(|(content, _)| *content).collect()
    }
}

/// Two texts that may be merged.
struct Both<'t> {
    a: &'t [Line],
    b: &'t [Line],
    of_a: BTreeSet<&'t Line>,
    of_b: BTreeSet<&'t Line>,
}

impl<'t> Both<'t> {
    fn new(a: &'t [Line], b: &'t [Line]) -> Self {
        Self { a, b, of_a: a.iter().collect(), of_b: b.iter().collect() }
    }

    /// Whether a text has no line but theirs, none twice, all that both have, and each one's in its order.
    fn may_be(&self, text: &[Line]) -> bool {
        let lines: BTreeSet<&Line> = text.iter().collect();
        lines.len() == text.len()
            && lines.iter().all(|line| self.of_a.contains(line) || self.of_b.contains(line))
            && self.of_a.intersection(&self.of_b).all(|line| lines.contains(line))
            && [(self.a, &self.of_a), (self.b, &self.of_b)].into_iter().all(|(side, of_side)| {
                let has = text.iter().filter(|line| of_side.contains(line));
                has.eq(side.iter().filter(|line| lines.contains(line)))
            })
    }

    /// Whether a text that may be theirs has of what one of them alone has just that which it did not have from
    /// `ancestor`: the other took that away.
    fn make(&self, text: &[Line], ancestor: &[Line]) -> bool {
        let mut of_one = self.of_a.symmetric_difference(&self.of_b);
        of_one.all(|line| text.contains(line) != ancestor.contains(line))
    }

    /// Whether a text that may be theirs has of what one of them alone has just that which the other never had. Of lines
    /// that were copied that is not known.
    fn keep(&self, text: &[Line], pasts: (&BTreeSet<Line>, &BTreeSet<Line>), copied: &BTreeSet<Line>) -> bool {
        let is_kept = |line: &&&Line, past: &BTreeSet<Line>| text.contains(**line) != past.contains(**line);
        let only_in = |these: &BTreeSet<&'t Line>, those: &BTreeSet<&'t Line>| -> Vec<&'t Line> {
            these.difference(those).copied().filter(|line| !copied.contains(*line)).collect()
        };
        only_in(&self.of_a, &self.of_b).iter().all(|line| is_kept(&line, pasts.1))
            && only_in(&self.of_b, &self.of_a).iter().all(|line| is_kept(&line, pasts.0))
    }
}

/// The lines of a text.
fn text_of(entry: &TreeEntry) -> Option<(ContentHash, Vec<Line>)> {
    let TreeEntry::File { content, .. } = entry else { return None };
    let text = std::str::from_utf8(content).ok().filter(|text| !text.contains('\0'))?;
    Some((content_of(entry)?, text.split_inclusive('\n').map(|line| line.as_bytes().into()).collect()))
}

fn texts(tree: &Tree) -> impl Iterator<Item = (ContentHash, Vec<Line>)> {
    tree.values().filter_map(text_of)
}

/// How often each line stands in a text of a tree.
fn line_counts(tree: &Tree) -> BTreeMap<Line, usize> {
    let mut counts = BTreeMap::new();
    for line in texts(tree).flat_map(|(_, lines)| lines) {
        *counts.entry(line).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        text.chars().map(|line| line.to_string().into_bytes().into()).collect()
    }

    /// Whether a text with these lines may be a merge of two, each letter a line.
    fn may_be(text: &str, ancestor: &str, a: &str, b: &str) -> bool {
        let (text, ancestor, a, b) = (lines(text), lines(ancestor), lines(a), lines(b));
        let both = Both::new(&a, &b);
        both.may_be(&text) && both.make(&text, &ancestor)
    }

    #[test]
    fn a_merge_has_what_either_brought_and_nothing_that_either_took_away() {
        assert!(may_be("xbcy", "abc", "xbc", "abcy"));
        assert!(may_be("b", "abc", "ab", "bc"), "each took one away");
        assert!(!may_be("xbc", "abc", "xbc", "abcy"), "what one brought is not there");
        assert!(!may_be("xabcy", "abc", "xbc", "abcy"), "what one took away is there");
        assert!(!may_be("xcy", "abc", "xbc", "abcy"), "what both have is not there");
        assert!(!may_be("xbczy", "abc", "xbc", "abcy"), "nobody brought that");
        assert!(!may_be("xbcyy", "abc", "xbc", "abcy"), "twice");
        assert!(!may_be("xcby", "abc", "xbc", "abcy"), "in another order");
        assert!(!may_be("xbcy", "bc", "axbc", "bcy"), "what one brought was not in the text that they came from");
    }
}

//! Which findings go into which entry.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Parent, Seen, Sighting};
use crate::base::RowKey;
use crate::name::Name;
use crate::projection::NameRules;

/// Cuts findings into parts whose operations touch at most `file_count_max` files each (4 or more; an entry holds
/// [`ENTRY_FILE_COUNT_MAX`](crate::limits::ENTRY_FILE_COUNT_MAX)): what continues a row first, then what is new,
/// deletions last. But a new directory goes before what is in it, what leaves a path before what takes it, and a row
/// that is gone with the thing that took its path.
///
/// A part may begin in a directory that an earlier part creates: its sightings name that directory by index into the
/// part's own list, or by the path of indices through `resolve`, which the caller fills with the ids that the parts
/// before were given. Each part is diffed against the index and base that the part before left.
///
/// Things that take each other's paths in a circle go into one part. If they are too many for one, one of them goes by
/// way of a name of its own, so that the others can follow one after the other.
pub fn batches(findings: Findings, file_count_max: usize) -> Vec<Part> {
    let Findings { mut sightings, gone, names } = findings;
    let mut packing = Packing { parts: Vec::new(), gone, names, file_count_max };
    for group in in_order(&sightings) {
        let file_count: usize = group.iter().filter_map(|at| sightings.get(*at)).map(|it| packing.cost(it)).sum();
        if file_count <= file_count_max {
            packing.put(file_count, group.iter().filter_map(|at| Some((*at, sightings.get(*at)?.clone()))));
            continue;
        }
        // The last of a circle leaves the path that the first one takes.
        let detour = group.last().and_then(|last| detour(sightings.get_mut(*last)?));
        if let Some(away) = detour {
            let at = sightings.len() + packing.parts.len();
            packing.put(packing.cost(&away), [(at, away)]);
        }
        for at in group {
            if let Some(sighting) = sightings.get(at) {
                packing.put(packing.cost(sighting), [(at, sighting.clone())]);
            }
        }
    }
    packing.finish()
}

/// Has a sighting come from a name of its own, and gives the one that brings it there.
fn detour(sighting: &mut Sighting) -> Option<Sighting> {
    let from = sighting.from.take()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(from.parent.as_bytes()).update(from.local.as_bytes());
    let name = format!("moving-{}", hasher.finalize().to_hex());
    let between = RowKey { parent: from.parent, local: Name::parse(name.as_bytes()).ok()? };
    let parent = Parent::Known(between.parent);
    let away =
        Sighting { parent, local: between.local.clone(), from: Some(from), seen: Seen::AsBefore, ..sighting.clone() };
    sighting.from = Some(between);
    Some(away)
}

/// Sightings in groups that can't be parted, each after what it waits for: circles, the one that waits first, and all
/// others one by one.
fn in_order(sightings: &[Sighting]) -> Vec<Vec<usize>> {
    let leavers: BTreeMap<&RowKey, usize> =
        sightings.iter().enumerate().filter_map(|(at, sighting)| Some((sighting.from.as_ref()?, at))).collect();
    let is_known = |at: usize| sightings.get(at).is_some_and(|sighting| matches!(sighting.parent, Parent::Known(_)));
    // A sighting waits for one other at most.
    let waits_for = |at: usize| -> Option<usize> {
        let sighting = sightings.get(at)?;
        match sighting.parent {
            Parent::New(directory) => Some(directory),
            Parent::Known(_) => leavers.get(&sighting.key()?).copied().filter(|leaver| *leaver != at),
        }
    };
    let is_continued = |at: &usize| is_known(*at) && sightings.get(*at).is_some_and(|sighting| sighting.from.is_some());
    let (continued, new): (Vec<usize>, Vec<usize>) = (0..sightings.len()).partition(is_continued);
    let mut groups = Vec::new();
    let mut seen = BTreeSet::new();
    for start in continued.into_iter().chain(new) {
        let mut way: Vec<usize> = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| seen.insert(*at)) {
            way.push(at);
            next = waits_for(at);
        }
        if let Some(since) = next.and_then(|at| way.iter().position(|passed| *passed == at)) {
            let mut circle = way.split_off(since);
            // It is cut where one takes the path of another: not between a directory and what is in it.
            let cut = circle.iter().position(|at| is_known(*at)).map_or(0, |taker| taker + 1);
            let cut = cut % circle.len();
            circle.rotate_left(cut);
            circle.reverse();
            groups.push(circle);
        }
        groups.extend(way.into_iter().rev().map(|at| vec![at]));
    }
    groups
}

/// Parts that are being filled.
struct Packing {
    parts: Vec<Part>,
    /// Rows that are gone and in no part yet.
    gone: BTreeSet<RowKey>,
    names: NameRules,
    file_count_max: usize,
}

impl Packing {
    /// How many files operations about a sighting may touch: what is new is one; what continues a row may be its item
    /// and the one whose loser it showed; what has come where a row was may end that as well.
    fn cost(&self, sighting: &Sighting) -> usize {
        let own = if sighting.from.is_some() { 2 } else { 1 };
        let ended = if sighting.key().is_some_and(|key| self.gone.contains(&key)) { GONE_COST } else { 0 };
        own + ended
    }

    /// Sightings that touch `file_count` files go into one part, each with the row whose path it took.
    fn put(&mut self, file_count: usize, sightings: impl IntoIterator<Item = (usize, Sighting)>) {
        let mut gone = Vec::new();
        let sightings: Vec<(usize, Sighting)> = sightings.into_iter().collect();
        for (_, sighting) in &sightings {
            gone.extend(sighting.key().and_then(|key| self.gone.take(&key)));
        }
        let part = self.part(file_count);
        part.sightings.extend(sightings);
        part.gone.extend(gone);
    }

    /// The part that has room for `file_count` more.
    fn part(&mut self, file_count: usize) -> &mut Part {
        if self.parts.last().is_none_or(|part| part.file_count + file_count > self.file_count_max) {
            self.parts.push(Part { names: self.names, ..Part::default() });
        }
        let last = self.parts.len() - 1;
        let part = &mut self.parts[last];
        part.file_count += file_count;
        part
    }

    fn finish(mut self) -> Vec<Part> {
        for key in std::mem::take(&mut self.gone) {
            self.part(GONE_COST).gone.insert(key);
        }
        self.parts
    }
}

/// How many files an operation about a path that a row has left may touch: the row's, and the one whose loser it showed.
const GONE_COST: usize = 2;

/// The findings of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Sightings by their index in the whole findings.
    sightings: BTreeMap<usize, Sighting>,
    gone: BTreeSet<RowKey>,
    names: NameRules,
    /// Files that its operations may touch.
    file_count: usize,
}

impl Part {
    /// The findings of this part. `known` gives the id of a directory that an earlier part created, by its index in
    /// the whole findings.
    pub fn resolve(self, mut known: impl FnMut(usize) -> Option<crate::id::FileId>) -> Findings {
        let place: BTreeMap<usize, usize> = self.sightings.keys().enumerate().map(|(now, at)| (*at, now)).collect();
        let mut sightings: Vec<Sighting> = Vec::with_capacity(self.sightings.len());
        for mut sighting in self.sightings.into_values() {
            if let Parent::New(at) = sighting.parent {
                sighting.parent = match place.get(&at) {
                    Some(now) => Parent::New(*now),
                    None => known(at).map_or(sighting.parent, Parent::Known),
                };
            }
            sightings.push(sighting);
        }
        Findings { sightings, gone: self.gone, names: self.names }
    }

    /// Whether it can be read before the parts are written that come before it and have the sightings `before`, if that
    /// can be said of them as well: nothing in it has moved, and it is in no directory that they create.
    pub fn is_apart(&self, before: &BTreeSet<usize>) -> bool {
        let is_in_before = |sighting: &Sighting| matches!(sighting.parent, Parent::New(at) if before.contains(&at));
        !self.sightings.values().any(|sighting| sighting.is_moved() || is_in_before(sighting))
    }

    /// The indices (in the whole findings) of this part's sightings, in the order of [`Part::resolve`]'s.
    pub fn indices(&self) -> Vec<usize> {
        self.sightings.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests;

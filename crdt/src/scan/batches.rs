//! Which findings go into which entry.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Parent, Sighting};
use crate::base::RowKey;
use crate::limits::ENTRY_FILE_COUNT_MAX;

/// Cuts findings into parts of at most [`ENTRY_FILE_COUNT_MAX`] files each: what continues a row first, then what is
/// new, parents before children, deletions last; but a row that is gone goes with the thing that took its path.
///
/// A part may begin in a directory that an earlier part creates: its sightings name that directory by index into the
/// part's own list, or by the path of indices through `resolve`, which the caller fills with the ids that the parts
/// before were given. Each part is diffed against the index and base that the part before left.
pub fn batches(findings: Findings) -> Vec<Part> {
    let Findings { sightings, mut gone } = findings;
    let mut parts: Vec<Part> = Vec::new();
    let new = (0..sightings.len()).filter(|at| !is_continued(&sightings, *at)).map(|at| vec![at]);
    for group in chains(&sightings).into_iter().chain(new) {
        let file_count: usize =
            group.iter().filter_map(|at| sightings.get(*at)).map(|sighting| cost(sighting, &gone)).sum();
        if parts.last().is_none_or(|part| part.file_count + file_count > ENTRY_FILE_COUNT_MAX) {
            parts.push(Part::default());
        }
        let Some(part) = parts.last_mut() else { continue };
        part.file_count += file_count;
        for at in group {
            let Some(sighting) = sightings.get(at) else { continue };
            if let Some(key) = sighting.key()
                && gone.remove(&key)
            {
                part.gone.insert(key);
            }
            part.sightings.insert(at, sighting.clone());
        }
    }
    for key in gone {
        if parts.last().is_none_or(|part| part.file_count + GONE_COST > ENTRY_FILE_COUNT_MAX) {
            parts.push(Part::default());
        }
        if let Some(part) = parts.last_mut() {
            part.file_count += GONE_COST;
            part.gone.insert(key);
        }
    }
    parts
}

/// How many files an operation about a path that a row has left may touch: the row's, and the one whose loser it showed.
const GONE_COST: usize = 2;

/// How many files operations about a sighting may touch: what is new is one; what continues a row may be its item and the
/// one whose loser it showed; what has come where a row was may end that as well.
fn cost(sighting: &Sighting, gone: &BTreeSet<RowKey>) -> usize {
    let own = if sighting.from.is_some() { 2 } else { 1 };
    let ended = if sighting.key().is_some_and(|key| gone.contains(&key)) { GONE_COST } else { 0 };
    own + ended
}

/// The sightings that continue a row, in groups that can't be parted: each takes the path that the next one leaves.
fn chains(sightings: &[Sighting]) -> Vec<Vec<usize>> {
    let leaves: BTreeMap<&RowKey, usize> = (0..sightings.len())
        .filter(|at| is_continued(sightings, *at))
        .filter_map(|at| Some((sightings.get(at)?.from.as_ref()?, at)))
        .collect();
    let next = |at: usize| -> Option<usize> {
        let key = sightings.get(at)?.key()?;
        leaves.get(&key).copied().filter(|next| *next != at)
    };
    let followed: BTreeSet<usize> = leaves.values().filter_map(|at| next(*at)).collect();
    let mut seen = BTreeSet::new();
    let mut groups = Vec::new();
    // Chains from their first link, then what is left: cycles.
    let order: BTreeSet<usize> = leaves.values().copied().collect();
    let firsts = order.iter().filter(|at| !followed.contains(*at));
    for first in firsts.chain(order.iter()) {
        let mut group = Vec::new();
        let mut at = Some(*first);
        while let Some(link) = at.filter(|link| seen.insert(*link)) {
            group.push(link);
            at = next(link);
        }
        if !group.is_empty() {
            groups.push(group);
        }
    }
    groups
}

/// Continues a row, in a directory that has one.
fn is_continued(sightings: &[Sighting], at: usize) -> bool {
    sightings.get(at).is_some_and(|sighting| sighting.from.is_some() && matches!(sighting.parent, Parent::Known(_)))
}

/// The findings of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Sightings by their index in the whole findings.
    sightings: BTreeMap<usize, Sighting>,
    gone: BTreeSet<RowKey>,
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
        Findings { sightings, gone: self.gone }
    }

    /// The indices (in the whole findings) of this part's sightings, in the order of [`Part::resolve`]'s.
    pub fn indices(&self) -> Vec<usize> {
        self.sightings.keys().copied().collect()
    }
}

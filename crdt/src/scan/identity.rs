//! Which row each sighting continues.
//!
//! A path that is in base and still there as the same kind keeps its row, whatever its inode: editors save by rename.
//! A move is seen only if the old path is gone, the new one is not in base, and inode and birth time match, and for a
//! file also length and time, with one link. Exception: unchanged inodes that are permuted among base paths (a swap, a
//! cycle, a case-only rename) are moves.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Seen};
use crate::base::{BaseRead, BaseRow, Fingerprint, RowKey};
use crate::register::Kind;

/// Whether what is at some path now may be the very thing that `row` noted, under another name.
pub fn is_same_thing(row: &BaseRow, kind: Kind, print: &Fingerprint) -> bool {
    row.kind == kind
        && row.print.inode == print.inode
        && row.print.birth == print.birth
        && (kind == Kind::Directory || (row.print.len == print.len && row.print.mtime == print.mtime))
}

/// Decides `from` for every sighting that has none and whose directory has a row, and takes the rows that are
/// continued out of `gone`. May be called again after more was found; what was decided stays. Looks at the sightings
/// from index `first` on; returns the rows that were given away in this call.
///
/// A sighting that keeps its path, or moves unchanged, and was not read needs no reading: its `seen` stays
/// [`Seen::AsBefore`]. One that continues a row and was not read, but differs in length or time, must be read before
/// the diff.
pub fn identify<B: BaseRead>(base: &B, findings: &mut Findings, first: usize) -> Result<Vec<RowKey>, B::Error> {
    let mut given = Vec::new();
    let mut used: BTreeSet<RowKey> = findings.sightings.iter().filter_map(|sighting| sighting.from.clone()).collect();
    let mut at_path: BTreeMap<RowKey, (usize, BaseRow)> = BTreeMap::new();
    for (at, sighting) in findings.sightings.iter().enumerate().skip(first) {
        if let (None, Some(key)) = (&sighting.from, sighting.key())
            && let Some(row) = base.row(&key)?
        {
            at_path.insert(key, (at, row));
        }
    }
    let permuted = permutation(base, findings, &at_path, &used)?;
    for (key, (at, row)) in &at_path {
        let Some(sighting) = findings.sightings.get_mut(*at) else { continue };
        if let Some(from) = permuted.get(key) {
            sighting.from = Some(from.clone());
        } else if row.kind == sighting.kind && !used.contains(key) {
            sighting.from = Some(key.clone());
        } else {
            // Another kind of thing: the row's own file is gone.
            if !used.contains(key) {
                findings.gone.insert(key.clone());
            }
            continue;
        }
        used.extend(sighting.from.clone());
        given.extend(sighting.from.clone());
    }
    for sighting in findings.sightings.iter_mut().skip(first) {
        let is_in_base = sighting.key().is_some_and(|key| at_path.contains_key(&key));
        if sighting.from.is_some() || is_in_base || (sighting.kind != Kind::Directory && sighting.links > 1) {
            continue;
        }
        for from in base.of_inode(sighting.print.inode)? {
            let is_same = base.row(&from)?.is_some_and(|row| is_same_thing(&row, sighting.kind, &sighting.print));
            if is_same && findings.gone.contains(&from) && used.insert(from.clone()) {
                findings.gone.remove(&from);
                given.push(from.clone());
                sighting.from = Some(from);
                break;
            }
        }
    }
    Ok(given)
}

/// Which sightings at paths that base knows are unchanged things from other such paths: from where each comes. As many
/// come as go: what has several names is another thing under each, so that no two come from one row.
fn permutation<B: BaseRead>(
    base: &B,
    findings: &Findings,
    at_path: &BTreeMap<RowKey, (usize, BaseRow)>,
    used: &BTreeSet<RowKey>,
) -> Result<BTreeMap<RowKey, RowKey>, B::Error> {
    let moved = |key: &RowKey| {
        let (at, row) = at_path.get(key)?;
        findings.sightings.get(*at).filter(|sighting| sighting.print.inode != row.print.inode)
    };
    let mut permuted: BTreeMap<RowKey, RowKey> = BTreeMap::new();
    let mut given: BTreeSet<RowKey> = BTreeSet::new();
    for key in at_path.keys() {
        let Some(sighting) = moved(key) else { continue };
        for from in base.of_inode(sighting.print.inode)? {
            let is_same = base.row(&from)?.is_some_and(|row| is_same_thing(&row, sighting.kind, &sighting.print));
            if is_same && moved(&from).is_some() && !used.contains(&from) && given.insert(from.clone()) {
                permuted.insert(key.clone(), from);
                break;
            }
        }
    }
    loop {
        let open: Vec<RowKey> =
            permuted.iter().filter(|(_, from)| !permuted.contains_key(*from)).map(|(key, _)| key.clone()).collect();
        if open.is_empty() {
            return Ok(permuted);
        }
        open.iter().for_each(|key| drop(permuted.remove(key)));
    }
}

/// Whether a sighting must be read before the diff: its bytes may be new.
///
/// A new ctime alone is a rename or a mode. Not so where the time of the content was set to one that was still to come:
/// an edit in that very moment gives it again, and the ctime alone tells of it.
pub fn must_be_read(row: Option<&BaseRow>, kind: Kind, print: &Fingerprint, seen: &Seen) -> bool {
    if *seen != Seen::AsBefore || kind == Kind::Directory {
        return false;
    }
    row.is_none_or(|row| {
        row.print.inode != print.inode
            || row.print.birth != print.birth
            || row.print.len != print.len
            || row.print.mtime != print.mtime
            || row.print.is_unsettled()
            || (row.print.ctime != print.ctime && row.print.mtime > row.print.ctime)
    })
}

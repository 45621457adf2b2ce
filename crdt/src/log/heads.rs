//! Which entries are the newest: what a next entry has to name, and what its change depends on.

use super::EntryPoint;
use super::check::LogRead;
use super::entry::Head;
use crate::id::{ChangeHash, LogId};

/// Those of `candidates`, entries with changes that count, which are in the past of no other one.
pub(super) fn newest<R: LogRead>(
    candidates: &[EntryPoint],
    log: &R,
) -> Result<Vec<(EntryPoint, ChangeHash)>, R::Error> {
    let mut metas = Vec::new();
    for &point in candidates {
        if let Some(meta) = log.entry(point)?
            && let Some(change) = meta.change
        {
            metas.push((point, change.hash, meta.clock));
        }
    }
    let is_newest = |point: EntryPoint| !metas.iter().any(|(other, _, clock)| *other != point && clock.includes(point));
    Ok(metas.iter().filter(|(point, ..)| is_newest(*point)).map(|(point, hash, _)| (*point, *hash)).collect())
}

/// The last entries of all logs but `own` that a next entry of `own` has to name: those in the past of no other and
/// not in the past of the own last entry. More than [`crate::limits::ENTRY_HEADS_COUNT_MAX`] go over several entries:
/// write `Seen` entries for the first ones.
///
/// # Errors
/// Those of the store.
pub fn current_heads<R: LogRead>(log: &R, own: LogId) -> Result<Vec<Head>, R::Error> {
    let frontier = log.frontier()?;
    let mut ends = Vec::new();
    for (log_id, position) in frontier.iter() {
        let point = EntryPoint { log: log_id, number: position.number };
        if let Some(meta) = log.entry(point)? {
            ends.push((point, meta));
        }
    }
    let is_covered = |point: EntryPoint| ends.iter().any(|(other, meta)| *other != point && meta.clock.includes(point));
    Ok(ends
        .iter()
        .filter(|(point, _)| point.log != own && !is_covered(*point))
        .map(|(point, meta)| Head { point: *point, hash: meta.hash })
        .collect())
}

//! What the mass-change guard holds, and what would happen to each.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseRead, BaseRow, RowKey};
use zerocloud_crdt::change::{Key, Register};
use zerocloud_crdt::id::{FileId, OpId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::view::{View, ViewEntry, natural_place};

use super::paths::{path_of_entry, path_of_row};
use super::{byte_path, label_of, store_failed};
use crate::api::ApiError;
use crate::api::types::{Change, HeldChange};
use crate::store::{Snapshot, StoreError};

/// Every held change of a space that is called `space` on this device, by path. A held item of which view and base
/// say the same by now is left out.
///
/// # Errors
/// Failures of the store.
pub fn held(snapshot: &Snapshot, space: &str) -> Result<Vec<HeldChange>, ApiError> {
    changes(snapshot, space).map_err(store_failed)
}

fn changes(snapshot: &Snapshot, space: &str) -> Result<Vec<HeldChange>, StoreError> {
    let view = View::new(snapshot);
    let mut changes = Vec::new();
    for (id, source) in sources(snapshot)? {
        let entry = view.entry(id, source)?;
        let row = match snapshot.find(id, source)? {
            Some(key) => snapshot.row(&key)?.map(|row| (key, row)),
            None => None,
        };
        let Some(change) = change(row.as_ref().map(|(_, row)| row), entry.as_ref()) else { continue };
        let path = match &row {
            Some((key, row)) => path_on_disk(snapshot, key, row)?,
            None => match &entry {
                Some(entry) => path_of_entry(&view, entry)?.unwrap_or_else(|| vec![entry.name.clone()]),
                None => continue,
            },
        };
        let op = author_op(snapshot, change, id, source, entry.as_ref())?;
        changes.push(HeldChange {
            space: space.to_owned(),
            path: byte_path(&path),
            change,
            device_name: op.map_or(Ok(String::new()), |op| label_of(snapshot, op.actor))?,
        });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

/// Where a row stands; by its own name alone while it is under a temporary one.
fn path_on_disk(snapshot: &Snapshot, key: &RowKey, row: &BaseRow) -> Result<Vec<Name>, StoreError> {
    Ok(path_of_row(snapshot, key)?.unwrap_or_else(|| vec![row.view_name.clone()]))
}

/// The held ids with the items in whose registers their content stands.
fn sources(snapshot: &Snapshot) -> Result<BTreeMap<FileId, FileId>, StoreError> {
    let (mut sources, mut unknown) = (BTreeMap::new(), BTreeSet::new());
    for id in snapshot.held()?.into_keys() {
        if snapshot.find(id, id)?.is_some() {
            sources.insert(id, id);
        } else if let Some(source) = snapshot.loser_of(id)? {
            sources.insert(id, source);
        } else if snapshot.item(id)?.is_some() {
            sources.insert(id, id);
        } else {
            unknown.insert(id);
        }
    }
    // A loser that never stood on its own: only its row says whose it is.
    if !unknown.is_empty() {
        sources.extend(snapshot.sources_in_base(&unknown)?);
    }
    Ok(sources)
}

/// What would happen to what base has, if the view's state came.
fn change(row: Option<&BaseRow>, entry: Option<&ViewEntry>) -> Option<Change> {
    match (row, entry) {
        (None, None) => None,
        (None, Some(_)) => Some(Change::Created),
        (Some(_), None) => Some(Change::Deleted),
        (Some(row), Some(entry)) => {
            if (row.kind, row.hash) != (entry.kind, entry.hash) {
                Some(Change::Modified)
            } else if (row.view_parent, &row.view_name) != (entry.parent, &entry.name) {
                Some(Change::Moved)
            } else if (row.mtime, row.executable) != (entry.mtime, entry.executable) {
                Some(Change::Modified)
            } else {
                None
            }
        }
    }
}

/// The operation that made the change.
fn author_op(
    snapshot: &Snapshot,
    change: Change,
    id: FileId,
    source: FileId,
    entry: Option<&ViewEntry>,
) -> Result<Option<OpId>, StoreError> {
    match change {
        Change::Created | Change::Modified => {
            Ok(entry.and_then(|entry| entry.meta_ops.last().max(entry.content_ops.last()).copied()))
        }
        Change::Moved => Ok(natural_place(snapshot, id)?.map(|(op, ..)| op)),
        Change::Deleted => {
            let operations = snapshot.operations(Key { item: source, register: Register::Content })?;
            Ok(operations.iter().rev().find(|operation| !operation.is_put).map(|operation| operation.id))
        }
    }
}

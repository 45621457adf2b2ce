//! What a directory of the view holds.

use std::collections::BTreeMap;

use zerocloud_crdt::base::{BaseRead, BaseRow};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::register::Kind;
use zerocloud_crdt::view::{View, ViewEntry};

use super::conflicts::is_conflict;
use super::paths::{Spot, find};
use super::{item_kind, milliseconds, not_found, store_failed};
use crate::api::ApiError;
use crate::api::types::{Listing, ListingEntry};
use crate::store::{Snapshot, StoreError};

/// Lists the directory at a path of the view; a file or link lists itself.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::api::ErrorKind::NotFound), and failures of the store.
pub fn list(snapshot: &Snapshot, path: &[Vec<u8>]) -> Result<Listing, ApiError> {
    let entries = match find(snapshot, path)? {
        Spot::Root => directory(snapshot, FileId::ROOT),
        Spot::Here(entry) if entry.kind == Kind::Directory => directory(snapshot, entry.id),
        Spot::Here(entry) => alone(snapshot, &entry),
        Spot::Gone(_) => {
            return Err(not_found(path).hint("it was deleted: `zerocloud history PATH` shows what it was"));
        }
    };
    Ok(Listing { entries: entries.map_err(store_failed)? })
}

fn directory(snapshot: &Snapshot, id: FileId) -> Result<Vec<ListingEntry>, StoreError> {
    let rows: BTreeMap<FileId, BaseRow> = snapshot.rows(id)?.into_iter().map(|(_, row)| (row.id, row)).collect();
    View::new(snapshot).directory(id)?.iter().map(|entry| listed(snapshot, entry, rows.get(&entry.id))).collect()
}

fn alone(snapshot: &Snapshot, entry: &ViewEntry) -> Result<Vec<ListingEntry>, StoreError> {
    let row = match snapshot.find(entry.id, entry.source)?.filter(|key| key.parent == entry.parent) {
        Some(key) => snapshot.row(&key)?,
        None => None,
    };
    Ok(vec![listed(snapshot, entry, row.as_ref())?])
}

/// An entry, and the row with its id in its own directory.
fn listed(snapshot: &Snapshot, entry: &ViewEntry, row: Option<&BaseRow>) -> Result<ListingEntry, StoreError> {
    Ok(ListingEntry {
        name: entry.name.as_bytes().to_vec().into(),
        kind: item_kind(entry.kind),
        size: entry.len,
        modified_ms: entry.mtime.map(milliseconds),
        is_here: row.is_some_and(|row| is_here(entry, row)),
        is_conflict: is_conflict(snapshot, entry)?,
    })
}

/// Whether a row in the entry's directory has its name and bytes. Operations may differ that wrote the same bytes, and
/// times of which the disk is told later.
fn is_here(entry: &ViewEntry, row: &BaseRow) -> bool {
    row.kind == entry.kind && row.hash == entry.hash && row.view_name == entry.name
}

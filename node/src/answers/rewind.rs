//! What a space was on this device at an earlier moment, and what differs from that by now.
//!
//! What had come by then is known to the store ([`Snapshot::arrived_by`]). Items that nothing has touched since are as
//! they are; the registers of the others are made again from the log, and the view of both is compared.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::BaseRead;
use zerocloud_crdt::change::{Key, Register};
use zerocloud_crdt::id::{EpochId, FileId, LogId, OpId};
use zerocloud_crdt::index::Overlay;
use zerocloud_crdt::keys::EpochSecret;
use zerocloud_crdt::log::{EntryPoint, LogRead};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, Item, Op};
use zerocloud_crdt::rewind::{Change, Extent, Former, compare};
use zerocloud_crdt::view::View;

use super::history::{HistoryError, ops_of};
use super::paths::{entry_named, path_of_directory};
use super::{byte_path, shown, store_failed};
use crate::api::path::BytePath;
use crate::api::{ApiError, ErrorKind};
use crate::store::{Snapshot, StoreError};

/// What is to be done so that something is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewind {
    /// What was asked for, as the view of then showed it: the root, a directory or one file.
    pub top: FileId,
    /// What the bytes on this device are enough for.
    pub changes: Vec<Change>,
    /// Files whose bytes are not on this device: another one must have them.
    pub absent: Vec<Former>,
}

impl Rewind {
    /// How many files and links stand again with the bytes on this device.
    pub fn file_count(&self) -> u64 {
        let is_file = |change: &&Change| {
            let content = if let Change::Former(former) = change { former.content.as_ref() } else { None };
            content.is_some_and(|content| *content != Content::Directory)
        };
        self.changes.iter().filter(is_file).count() as u64
    }

    /// How many files and directories go.
    pub fn gone_count(&self) -> u64 {
        self.changes.iter().filter(|change| matches!(change, Change::Gone(_))).count() as u64
    }
}

/// Whether this device had the space at `at_ms` (milliseconds since 1970), so that it knows what it was then.
///
/// # Errors
/// Failures of the store.
pub fn is_known(snapshot: &Snapshot, at_ms: i64) -> Result<bool, ApiError> {
    Ok(!snapshot.arrived_by(at_ms).map_err(store_failed)?.is_empty())
}

/// What differs at `path` from what this device had there at `at_ms` (milliseconds since 1970).
///
/// # Errors
/// [`ErrorKind::NotFound`] if this device did not have the space then, or nothing stood there;
/// [`ErrorKind::Failed`] if an entry can't be opened or the store fails.
pub fn rewind(
    snapshot: &Snapshot,
    secrets: &BTreeMap<EpochId, EpochSecret>,
    path: &[Vec<u8>],
    at_ms: i64,
    extent: Extent,
) -> Result<Rewind, ApiError> {
    let arrived = snapshot.arrived_by(at_ms).map_err(store_failed)?;
    if arrived.is_empty() {
        return Err(ApiError::new(
            ErrorKind::NotFound,
            "this device did not have this space at that time",
            "ask a device that had it, or restore files one by one: `zerocloud history PATH`",
        ));
    }
    let items = items_then(snapshot, secrets, &arrived)?;
    let mut then = Overlay::new(snapshot);
    let touched = then.put_back(items).map_err(store_failed)?;
    let top = find(&View::new(&then), path).map_err(store_failed)?.ok_or_else(|| {
        ApiError::new(
            ErrorKind::NotFound,
            format!("nothing stood at `{}` then", shown(path)),
            "name a folder that was there, or the whole space",
        )
    })?;
    let changes = compare(&then, snapshot, &touched, top, extent).map_err(store_failed)?;
    part(snapshot, top, changes).map_err(store_failed)
}

/// The entry at a path.
fn find(view: &View<'_, Overlay<'_, Snapshot>>, path: &[Vec<u8>]) -> Result<Option<FileId>, StoreError> {
    let mut at = FileId::ROOT;
    for name in path {
        let Ok(name) = Name::parse(name) else { return Ok(None) };
        match entry_named(view, at, &name)? {
            Some(entry) => at = entry.id,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Parts what can be done from what another device's bytes are needed for.
fn part(snapshot: &Snapshot, top: FileId, changes: Vec<Change>) -> Result<Rewind, StoreError> {
    let view = View::new(snapshot);
    let mut rewind = Rewind { top, changes: Vec::new(), absent: Vec::new() };
    for change in changes {
        let Change::Former(former) = &change else {
            rewind.changes.push(change);
            continue;
        };
        let is_absent = match &former.content {
            Some(Content::File(file)) => file.manifest.len > 0 && !snapshot.has_content(file.hash)?,
            Some(Content::Directory | Content::Symlink { .. }) | None => false,
        };
        if !is_absent {
            rewind.changes.push(change);
            continue;
        }
        // What it is now stands where that stood until the bytes are here.
        if view.entry(former.id, former.source)?.is_some() || view.entry(former.id, former.id)?.is_some() {
            rewind.changes.push(Change::Former(Former { content: None, ..former.clone() }));
        }
        rewind.absent.push(former.clone());
    }
    Ok(rewind)
}

/// The registers, as they were when `arrived` was what had come, of every item that was touched since.
fn items_then(
    snapshot: &Snapshot,
    secrets: &BTreeMap<EpochId, EpochSecret>,
    arrived: &BTreeMap<LogId, u64>,
) -> Result<BTreeMap<FileId, Item>, HistoryError> {
    let branches = LogRead::branches(snapshot)?;
    let number = |log: LogId| arrived.get(&log).copied().unwrap_or(0);
    let mut items: BTreeMap<FileId, Item> = BTreeMap::new();
    for (log, position) in LogRead::frontier(snapshot)?.iter() {
        for number in number(log) + 1..=position.number {
            let point = EntryPoint { log, number };
            if LogRead::entry(snapshot, point)?.is_some_and(|meta| meta.change.is_some()) {
                let ops = ops_of(snapshot, secrets, &branches, point)?;
                items.extend(ops.into_iter().map(|op| (op.item, Item::default())));
            }
        }
    }
    let (mut history, mut makers): (Vec<OpId>, BTreeSet<EntryPoint>) = (Vec::new(), BTreeSet::new());
    for item in items.keys() {
        for register in [Register::Place, Register::Content, Register::Meta] {
            for operation in snapshot.operations(Key { item: *item, register })? {
                if operation.maker.number <= number(operation.maker.log) {
                    history.push(operation.id);
                    makers.insert(operation.maker);
                }
            }
        }
    }
    let mut ops: BTreeMap<OpId, Op> = BTreeMap::new();
    for maker in makers {
        let of_items = ops_of(snapshot, secrets, &branches, maker)?.into_iter();
        let of_items = of_items.filter(|op| items.contains_key(&op.item));
        ops.extend(of_items.map(|op| (op.id, op)));
    }
    // Of each register in the order of their ids, in which none stands before one that it supersedes.
    for id in history {
        let op = ops.get(&id).ok_or(HistoryError::Missing)?;
        if let Some(item) = items.get_mut(&op.item) {
            item.apply(op);
        }
    }
    Ok(items)
}

/// Where each of what stood is to be put, as the view is now, from the root down; `None` if its directory is not shown.
///
/// # Errors
/// Failures of the store.
pub fn places(snapshot: &Snapshot, formers: &[Former]) -> Result<Vec<Option<Vec<Name>>>, ApiError> {
    let view = View::new(snapshot);
    let place = |former: &Former| {
        let Some((parent, name)) = &former.place else { return Ok(None) };
        let above = path_of_directory(&view, *parent)?;
        Ok(above.map(|mut path| {
            path.push(name.clone());
            path
        }))
    };
    formers.iter().map(place).collect::<Result<_, StoreError>>().map_err(store_failed)
}

/// Keeps of `changes` what this disk does not show yet.
///
/// # Errors
/// Failures of the store.
pub fn retain_unsettled(snapshot: &Snapshot, changes: &mut Vec<Change>) -> Result<(), ApiError> {
    let is_settled = |change: &Change| -> Result<bool, StoreError> {
        let (id, source) = match change {
            Change::Former(former) => (former.id, former.source),
            Change::Gone(shown) | Change::GivenUp { shown, .. } => (shown.id, shown.source),
        };
        let key = match BaseRead::find(snapshot, id, id)? {
            None => BaseRead::find(snapshot, id, source)?,
            found => found,
        };
        let row = match &key {
            Some(key) => BaseRead::row(snapshot, key)?,
            None => None,
        };
        Ok(match change {
            Change::Gone(_) | Change::GivenUp { content: None, .. } => row.is_none(),
            Change::Former(Former { content: Some(content), .. }) | Change::GivenUp { content: Some(content), .. } => {
                row.is_some_and(|row| (row.kind, row.hash) == (content.kind(), content.hash()))
            }
            Change::Former(Former { content: None, .. }) => true,
        })
    };
    let mut failed = None;
    changes.retain(|change| match is_settled(change) {
        Ok(is_settled) => !is_settled,
        Err(error) => {
            failed = Some(error);
            true
        }
    });
    failed.map_or(Ok(()), |error| Err(store_failed(error)))
}

/// A path for an answer, of what is to be put there.
pub fn path_shown(path: Option<&Vec<Name>>, former: &Former) -> BytePath {
    match (path, &former.place) {
        (Some(path), _) => byte_path(path),
        (None, Some((_, name))) => byte_path(std::slice::from_ref(name)),
        (None, None) => BytePath::from(Vec::new()),
    }
}

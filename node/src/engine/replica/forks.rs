//! When a fork shows: all entries are applied anew, each in its branch.
//!
//! That is rare and plain. Which branch holds an entry, and so the name of each of its operations, follows from all
//! entries that are here ([`Branches::of`]); what was applied under other names is taken away and made again from the
//! log, and base, which notes operations too, has them renamed. Both entries at the place of the fork stay: they are
//! its proof, and go to every peer like others.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseChanges, BaseRead, BaseRow, PARKED, RowKey};
use zerocloud_crdt::id::{ActorId, EntryHash, EpochId, FileId, LogId, OpId, SpaceId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::keys::EpochSecret;
use zerocloud_crdt::log::check::check;
use zerocloud_crdt::log::{Branches, Entry, Frontier, Lacking, Link, LogRead, Outcome};
use zerocloud_crdt::membership::Records;
use zerocloud_crdt::register::Write;
use zerocloud_crdt::scan::ScanOutcome;
use zerocloud_crdt::view::virtual_id;

use super::entries::apply;
use super::{Replica, ReplicaError};
use crate::engine::shelf::{Shelf, ShelfRead, ShelfWrite};

impl<S: Shelf> Replica<S> {
    /// Brings what is known of peers to the branches that are here by now.
    pub(super) fn translate_frontiers(&mut self) -> Result<(), ReplicaError<S::Error>> {
        let snapshot = self.shelf.snapshot().map_err(ReplicaError::Store)?;
        let branches = LogRead::branches(&snapshot).map_err(ReplicaError::Store)?;
        for peer in self.peers.values_mut() {
            for theirs in peer.frontier.iter_mut().chain([&mut peer.came]) {
                *theirs = branches.translate(&snapshot, theirs).map_err(ReplicaError::Store)?;
            }
        }
        Ok(())
    }
}

/// Applies everything anew, with the branch that `entry` begins, which is applied next. Gives the items whose view may
/// have changed.
pub(super) fn replay<W: ShelfWrite>(
    write: &mut W,
    records: &Records,
    secrets: &BTreeMap<EpochId, EpochSecret>,
    entry: &Entry,
) -> Result<BTreeSet<FileId>, ReplicaError<W::Fault>> {
    let stored = all_entries(write)?;
    let (branches, holders) = Branches::of(stored.iter().chain([entry]).map(Link::of));
    let base = renamed_base(write, &holders).map_err(ReplicaError::Store)?;
    write.clear_log(branches).map_err(ReplicaError::Store)?;
    let mut touched = BTreeSet::new();
    for entry in &stored {
        match check(entry, write, records, |epoch| secrets.get(&epoch)) {
            Ok(Outcome::Checked(checked)) => {
                touched.extend(apply(write, entry, &checked).map_err(ReplicaError::Store)?);
            }
            _ => return Err(ReplicaError::Write("an entry of the log can't be applied a second time".into())),
        }
    }
    write.put_base(base).map_err(ReplicaError::Store)?;
    Ok(touched)
}

/// Every entry, each after all that it names.
fn all_entries<R: ShelfRead>(read: &R) -> Result<Vec<Entry>, ReplicaError<R::Fault>> {
    let space = IndexRead::space(read);
    let mut points = Lacking::new(read, &Frontier::default()).map_err(ReplicaError::Store)?;
    let mut entries = Vec::new();
    while let Some(point) = points.next_point().map_err(ReplicaError::Store)? {
        let bytes = read.entry_bytes(point).map_err(ReplicaError::Store)?.unwrap_or_default();
        let entry = Entry::decode_stored(space, bytes);
        entries
            .push(entry.map_err(|error| ReplicaError::Write(format!("an entry of the log can't be read: {error}")))?);
    }
    Ok(entries)
}

/// The rows of base that note operations which get other names, with these.
fn renamed_base<R: ShelfRead>(read: &R, holders: &BTreeMap<EntryHash, LogId>) -> Result<BaseChanges, R::Fault> {
    let space = IndexRead::space(read);
    let (mut changes, mut open) = (BaseChanges::new(), vec![FileId::ROOT, PARKED]);
    while let Some(parent) = open.pop() {
        for (local, row) in BaseRead::rows(read, parent)? {
            if row.id != parent && row.kind == zerocloud_crdt::register::Kind::Directory {
                open.push(row.id);
            }
            if let Some(renamed) = renamed_row(read, space, holders, &row)? {
                changes.insert(RowKey { parent, local }, Some(renamed));
            }
        }
    }
    Ok(changes)
}

fn renamed_row<R: ShelfRead>(
    read: &R,
    space: SpaceId,
    holders: &BTreeMap<EntryHash, LogId>,
    row: &BaseRow,
) -> Result<Option<BaseRow>, R::Fault> {
    let mut names: BTreeMap<OpId, OpId> = BTreeMap::new();
    for id in row.content_ops.iter().chain(&row.meta_ops) {
        let Some(maker) = read.maker(*id)? else { continue };
        let hash = LogRead::entry(read, maker)?.map(|meta| meta.hash);
        if let Some(holder) = hash.and_then(|hash| holders.get(&hash)).filter(|holder| **holder != maker.log) {
            names.insert(*id, OpId { actor: ActorId::of_log(space, *holder), ..*id });
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    let renamed = |ops: &BTreeSet<OpId>| -> BTreeSet<OpId> {
        ops.iter().map(|id| names.get(id).copied().unwrap_or(*id)).collect()
    };
    let (content_ops, meta_ops) = (renamed(&row.content_ops), renamed(&row.meta_ops));
    // A loser is named by one of the operations that it shows.
    let of = |id: &OpId| virtual_id(space, row.source, *id, row.hash);
    let namer = row.content_ops.iter().filter(|_| row.is_virtual()).find(|id| of(id) == row.id);
    let id = namer.and_then(|id| names.get(id)).map_or(row.id, of);
    Ok(Some(BaseRow { id, content_ops, meta_ops, ..row.clone() }))
}

/// What a folder found while a fork showed may name operations by names that they had before. What it supersedes by
/// those is concurrent, and stays.
pub(super) fn forget_former_names<R: ShelfRead>(read: &R, outcome: &mut ScanOutcome) -> Result<(), R::Fault> {
    if LogRead::branches(read)?.is_empty() {
        return Ok(());
    }
    outcome.changes = None;
    for op in &mut outcome.ops {
        let mut known = Vec::with_capacity(op.pred.len());
        for id in &op.pred {
            if read.maker(*id)?.is_some() {
                known.push(*id);
            }
        }
        op.pred = known;
        if let Write::Meta(Some(meta)) = &op.write
            && read.maker(meta.about)?.is_none()
        {
            op.write = Write::Meta(None);
        }
    }
    Ok(())
}

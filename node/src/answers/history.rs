//! The versions of a file: what its content register ever held, read from the log.
//!
//! The store knows which operations were on a register and which entries hold them; their values stand sealed in
//! those entries. Operations are taken in the order of their ids, in which none stands before one that it supersedes.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::change::{Key, Register};
use zerocloud_crdt::id::{ActorId, DeviceId, EpochId, FileId, LogId, OpId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::keys::EpochSecret;
use zerocloud_crdt::log::payload::OpenError;
use zerocloud_crdt::log::{Branches, Entry, EntryError, EntryPoint, LogRead};
use zerocloud_crdt::register::{Content, Kind, Op, Write};

use super::members::device_names;
use super::paths::Spot;
use super::{milliseconds, store_failed, text};
use crate::api::types::{Version, VersionList};
use crate::api::{ApiError, ErrorKind};
use crate::store::{Operation, Snapshot, StoreError};

/// A state of a file, as one operation made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastVersion {
    /// The operation.
    pub op: OpId,
    /// What it put; `None`: it deleted the file.
    pub content: Option<Content>,
    /// When: the value's time of last change. A deletion or link has none, and that of an older version that came back
    /// is older than what it took the place of: then when it came to this device, or the time of what it superseded.
    pub time_ms: i64,
    /// Whose operation it is.
    pub author: DeviceId,
    /// The log that holds it.
    pub log: LogId,
}

/// Why past versions can't be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored entry is no entry.
    #[error("an entry of the space's history can't be read ({0}); restart ZeroCloud and report this")]
    Entry(#[from] EntryError),
    /// A stored entry does not open.
    #[error("an entry of the space's history can't be opened ({0}); restart ZeroCloud and report this")]
    Open(#[from] OpenError),
    /// A stored entry is of an epoch that this device has no secret of.
    #[error(
        "this device has no key for a part of the space's history (epoch {epoch}); connect it with a device that joined before"
    )]
    NoSecret {
        /// Which epoch.
        epoch: EpochId,
    },
    /// An entry without an operation that the store says it has.
    #[error("the space's history does not hold what its index names; restart ZeroCloud and report this")]
    Missing,
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(error) => store_failed(error),
            other => Self::of(ErrorKind::Failed, &other),
        }
    }
}

/// The versions of what a path names, newest first. `own` is this device, which is never among `others`.
///
/// Another device is said to have a version's content where that is known for sure: it wrote the version that the view
/// shows. What a frontier covers is the entry, not the file's bytes.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a directory, [`ErrorKind::Failed`] if an entry can't be opened or the store fails.
pub fn history(
    snapshot: &Snapshot,
    secrets: &BTreeMap<EpochId, EpochSecret>,
    spot: &Spot,
    own: DeviceId,
) -> Result<VersionList, ApiError> {
    let (item, shown) = match spot {
        Spot::Here(entry) if entry.kind != Kind::Directory => (entry.source, entry.content_ops.clone()),
        Spot::Gone(id) => (source_of_gone(snapshot, *id).map_err(store_failed)?, BTreeSet::new()),
        Spot::Root | Spot::Here(_) => return Err(directories_have_none()),
    };
    let versions = versions_of(snapshot, secrets, item)?;
    if versions.iter().any(|version| matches!(version.content, Some(Content::Directory))) {
        return Err(directories_have_none());
    }
    let is_gone = matches!(spot, Spot::Gone(_));
    let names = device_names(snapshot).map_err(store_failed)?;
    let mut list = Vec::with_capacity(versions.len());
    for (position, past) in versions.iter().enumerate() {
        let name = names.get(&past.author).cloned().unwrap_or_default();
        let is_current = match past.content {
            Some(_) => shown.contains(&past.op),
            None => is_gone && position == 0,
        };
        let is_elsewhere = is_current && past.content.is_some() && past.author != own;
        list.push(Version {
            time_ms: past.time_ms,
            size: past.content.as_ref().map(Content::byte_len),
            device: past.author.to_string(),
            device_name: label(snapshot, past.log).map_err(store_failed)?.unwrap_or_else(|| name.clone()),
            is_current,
            is_here: is_here(snapshot, past.content.as_ref()).map_err(store_failed)?,
            others: if is_elsewhere && !name.is_empty() { vec![name] } else { Vec::new() },
        });
    }
    Ok(VersionList { versions: list })
}

fn directories_have_none() -> ApiError {
    ApiError::new(
        ErrorKind::Invalid,
        "directories have no versions of their own",
        "name a file in it, or `zerocloud restore` the directory to a moment",
    )
}

/// Every version of an item, newest first: each value that was put, and each delete that left none.
///
/// # Errors
/// A variant of [`HistoryError`] for each reason.
pub fn versions_of(
    snapshot: &Snapshot,
    secrets: &BTreeMap<EpochId, EpochSecret>,
    item: FileId,
) -> Result<Vec<PastVersion>, HistoryError> {
    let key = Key { item, register: Register::Content };
    let operations = snapshot.operations(key)?;
    let branches = LogRead::branches(snapshot)?;
    let mut ops = read_ops(snapshot, secrets, &branches, key, &operations)?;
    let mut times: BTreeMap<OpId, i64> = BTreeMap::new();
    let (mut live, mut versions, mut deleted_ms) = (BTreeSet::new(), Vec::new(), 0);
    for Operation { id, maker, .. } in operations {
        let op = ops.remove(&id).ok_or(HistoryError::Missing)?;
        let Write::Content(content) = op.write else { return Err(HistoryError::Missing) };
        let superseded = op.pred.iter().filter_map(|pred| times.get(pred)).copied().max().unwrap_or(0);
        let before = if op.pred.is_empty() { deleted_ms } else { superseded };
        let noted = match &content {
            Some(Content::File(file)) => Some(milliseconds(file.mtime)).filter(|time_ms| *time_ms >= before),
            Some(Content::Directory | Content::Symlink { .. }) | None => None,
        };
        let time_ms = match noted {
            Some(time_ms) => time_ms,
            None => snapshot.arrived_at(maker)?.unwrap_or(before),
        };
        for pred in &op.pred {
            live.remove(pred);
        }
        if content.is_some() {
            live.insert(id);
            times.insert(id, time_ms);
        } else if !live.is_empty() {
            // A conflict copy was deleted, or the file was edited meanwhile: it is still there.
            continue;
        } else {
            deleted_ms = time_ms;
        }
        let log = branches.root_of(maker.log);
        versions.push(PastVersion { op: id, content, time_ms, author: log.author, log });
    }
    versions.reverse();
    Ok(versions)
}

/// One operation on an item's content; `None` if it is not known here, or is on something else.
///
/// # Errors
/// A variant of [`HistoryError`] for each reason.
pub fn content_op(
    snapshot: &Snapshot,
    secrets: &BTreeMap<EpochId, EpochSecret>,
    item: FileId,
    id: OpId,
) -> Result<Option<Op>, HistoryError> {
    let Some(maker) = snapshot.maker(id)? else { return Ok(None) };
    let key = Key { item, register: Register::Content };
    let branches = LogRead::branches(snapshot)?;
    Ok(read_ops(snapshot, secrets, &branches, key, &[Operation { id, maker, is_put: true }])?.remove(&id))
}

/// Opens the entries that hold operations on a register; each once.
fn read_ops(
    snapshot: &Snapshot,
    secrets: &BTreeMap<EpochId, EpochSecret>,
    branches: &Branches,
    key: Key,
    operations: &[Operation],
) -> Result<BTreeMap<OpId, Op>, HistoryError> {
    let makers: BTreeSet<EntryPoint> = operations.iter().map(|operation| operation.maker).collect();
    let mut ops = BTreeMap::new();
    for maker in makers {
        let of_key = ops_of(snapshot, secrets, branches, maker)?.into_iter().filter(|op| op.key() == key);
        ops.extend(of_key.map(|op| (op.id, op)));
    }
    Ok(ops)
}

/// Opens an entry and gives its operations, under the ids that they have here.
pub(super) fn ops_of(
    snapshot: &Snapshot,
    secrets: &BTreeMap<EpochId, EpochSecret>,
    branches: &Branches,
    point: EntryPoint,
) -> Result<Vec<Op>, HistoryError> {
    let space = IndexRead::space(snapshot);
    let bytes = snapshot.entry_bytes(point)?.ok_or(HistoryError::Missing)?;
    let entry = Entry::decode_stored(space, bytes)?;
    let epoch = entry.header().epoch;
    let body = entry.open(secrets.get(&epoch).ok_or(HistoryError::NoSecret { epoch })?)?;
    let past = LogRead::entry(snapshot, point)?.ok_or(HistoryError::Missing)?.clock;
    let mut ops = body.ops().to_vec();
    for op in &mut ops {
        // An entry names operations as its author knew them.
        op.id.actor = ActorId::of_log(space, point.log);
        for (id, _) in op.named_mut() {
            *id = branches.resolve(snapshot, space, &past, *id)?.map_or(*id, |(_, id)| id);
        }
    }
    Ok(ops)
}

/// The item in whose registers the versions of what is gone stand: a loser's in its item's, unless it got content of
/// its own.
fn source_of_gone(snapshot: &Snapshot, id: FileId) -> Result<FileId, StoreError> {
    let is_written = !snapshot.operations(Key { item: id, register: Register::Content })?.is_empty();
    Ok(if is_written { id } else { snapshot.loser_of(id)?.unwrap_or(id) })
}

/// Whether a version's content can be had on this device alone. What stands in the log itself, or has no bytes, can.
fn is_here(snapshot: &Snapshot, content: Option<&Content>) -> Result<bool, StoreError> {
    match content {
        Some(Content::File(file)) => Ok(file.manifest.len == 0 || snapshot.has_content(file.hash)?),
        Some(Content::Directory | Content::Symlink { .. }) => Ok(true),
        None => Ok(false),
    }
}

fn label(snapshot: &Snapshot, log: LogId) -> Result<Option<String>, StoreError> {
    Ok(snapshot.start(log)?.map(|start| text(&start.label)))
}

//! Who belongs to a space, and what each device is called.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::log::LogRead;
use zerocloud_crdt::membership::{Records, Role as TableRole};

use super::{store_failed, text};
use crate::api::types::{Member, MemberList, Role};
use crate::api::{ApiError, ErrorKind};
use crate::store::{Snapshot, StoreError};

/// The rank of the recovery key, which no device has.
const RECOVERY_RANK: u32 = 0;

/// Every row of a space's table, best rank first. `own` is this device.
///
/// # Errors
/// [`ErrorKind::Failed`] if a newer version wrote a record, and failures of the store.
pub fn members(snapshot: &Snapshot, records: &Records, own: DeviceId) -> Result<MemberList, ApiError> {
    let table = records
        .table()
        .map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string(), "update ZeroCloud on this device"))?;
    let names = device_names(snapshot).map_err(store_failed)?;
    let mut rows: Vec<_> = table.rows().collect();
    rows.sort_by_key(|row| (row.given.rank, row.identity.device));
    let members = rows.into_iter().map(|row| {
        let device = row.identity.device;
        Member {
            device: device.to_string(),
            name: names.get(&device).cloned().unwrap_or_default(),
            person: row.given.person.to_string(),
            role: role(row.given.role),
            rank: row.given.rank,
            is_this_device: device == own,
            is_recovery: row.given.rank == RECOVERY_RANK,
        }
    });
    Ok(MemberList { members: members.collect() })
}

/// What each device is called: as it last said when it connected, else as its newest log says. Devices of which
/// neither is known are not named.
///
/// # Errors
/// Those of the store.
pub fn device_names(snapshot: &Snapshot) -> Result<BTreeMap<DeviceId, String>, StoreError> {
    let mut labels: BTreeMap<DeviceId, (usize, String)> = BTreeMap::new();
    for (log, _) in LogRead::frontier(snapshot)?.iter() {
        let Some(start) = snapshot.start(log)? else { continue };
        // A log names all that its device wrote before: the newest names most.
        let earlier_count = start.earlier.len();
        if labels.get(&log.author).is_none_or(|(most, _)| earlier_count > *most) {
            labels.insert(log.author, (earlier_count, text(&start.label)));
        }
    }
    let mut names: BTreeMap<DeviceId, String> = labels.into_iter().map(|(id, (_, label))| (id, label)).collect();
    for (device, row) in snapshot.peers()? {
        if let Some(name) = row.name {
            names.insert(device, text(&name));
        }
    }
    Ok(names)
}

/// Whether the space has another device than this one, whose index could be read. Records that can't be evaluated may
/// have one.
///
/// # Errors
/// Those of the store.
pub fn has_others(snapshot: &Snapshot) -> Result<bool, StoreError> {
    Ok(devices(snapshot)?.is_none_or(|devices| devices.len() > 1))
}

/// The devices of the space, this one among them; `None` if its records can't be evaluated.
///
/// # Errors
/// Those of the store.
pub fn devices(snapshot: &Snapshot) -> Result<Option<BTreeSet<DeviceId>>, StoreError> {
    let stored = snapshot.records()?;
    let Some(((_, genesis), later)) = stored.split_first() else { return Ok(Some(BTreeSet::new())) };
    let Ok(mut records) = Records::new(IndexRead::space(snapshot), genesis) else { return Ok(None) };
    if !later.iter().all(|(_, bytes)| records.insert(bytes).is_ok()) {
        return Ok(None);
    }
    let Ok(table) = records.table() else { return Ok(None) };
    let rows = table.rows().filter(|row| row.given.rank != RECOVERY_RANK);
    Ok(Some(rows.map(|row| row.identity.device).collect()))
}

/// A role of the table in the words of the API.
pub const fn role(role: TableRole) -> Role {
    match role {
        TableRole::Keeper => Role::Keeper,
        TableRole::Viewer => Role::Viewer,
        TableRole::Editor => Role::Editor,
        TableRole::Owner => Role::Owner,
    }
}

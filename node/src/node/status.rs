//! What goes on in a node: status, waiting until all agree, and telling of changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::membership::Records;

use super::opened::{OpenSpace, Running, records_of};
use super::{AGREEMENT_INTERVAL, Shared, failed, lock, show};
use crate::answers;
use crate::api::path::BytePath;
use crate::api::types::*;
use crate::api::{ApiError, Progress};
use crate::fetcher::Supply;
use crate::folder::{FolderState, Lacks, Phase};
use crate::link::{Congestion, Route};
use crate::store::Snapshot;

/// How long a device that is connected has to open a space's stream; a member that does not has removed the space, and
/// nobody waits for it to agree.
const SHARE_LIMIT: Duration = Duration::from_secs(3);

/// How long a device has to be connected that the node has not tried to reach before: it has just started, or joined.
const FIRST_DIAL_LIMIT: Duration = Duration::from_secs(5);

/// The devices of a space but `us`; recovery rows are none.
pub(super) fn others(records: &Records, us: DeviceId) -> BTreeSet<DeviceId> {
    let recovery = records.genesis().body().recovery.device;
    let rows = records.table().map(|table| table.rows().map(|row| row.identity.device).collect());
    let rows: BTreeSet<DeviceId> = rows.unwrap_or_default();
    rows.into_iter().filter(|device| *device != us && *device != recovery).collect()
}

impl Shared {
    pub(super) async fn status(&self) -> Result<Status, ApiError> {
        let mut spaces = Vec::new();
        for space in self.all() {
            spaces.push(self.space_status(&space).await?);
        }
        let mut warnings: Vec<String> = Vec::new();
        if let Some(meeting) = &self.meeting {
            warnings.extend(meeting.warnings());
        }
        for space in self.all() {
            if let Ok(running) = &space.running {
                let name = show(&space.name);
                warnings.extend(running.folder.state().warnings.iter().map(|warning| format!("{name}: {warning}")));
            }
        }
        for space in self.all() {
            let name = show(&space.name);
            let snapshot = space.store.snapshot()?;
            let mut told = answers::homes::warnings(&snapshot)?;
            told.extend(answers::discrepancies::warnings(&snapshot)?);
            warnings.extend(told.into_iter().map(|warning| format!("{name}: {warning}")));
        }
        warnings.extend(self.lost_spaces().iter().map(|id| {
            format!(
                "the store of the space {id} is gone from this device's home: join the space again, into the same \
                 folder, with a ticket from another member (`zerocloud invite SPACE --me` there)"
            )
        }));
        let broken = lock(&self.broken);
        warnings.extend(broken.iter().map(|(id, error)| format!("the space {id} can't be opened: {error}")));
        drop(broken);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.surroundings.keys.id().to_string(),
            spaces,
            warnings,
        })
    }

    async fn space_status(&self, space: &OpenSpace) -> Result<SpaceStatus, ApiError> {
        let snapshot = space.store.snapshot()?;
        let counts = snapshot.base_counts();
        let (state, error, missing_chunks, lacks, left_out, problems) = match &space.running {
            Err(reason) => (State::Error, Some(reason.clone()), 0, Lacks::default(), 0, Vec::new()),
            Ok(running) => {
                let folder = running.folder.state();
                let stop = running.handle.look(|facts| facts.stop()).await.map_err(failed)?;
                let (state, error) = match (stop, &folder.phase) {
                    (Some(stop), _) => (State::Error, Some(stop.to_string())),
                    (None, Phase::Failed(reason)) => (State::Error, Some(reason.clone())),
                    (None, phase) => (state_of(phase), None),
                };
                let problems = folder.problems.iter();
                let problems = problems.map(|(path, reason)| Problem { path: path.clone(), reason: reason.clone() });
                // Of what is lost chunks are asked for, too, and not awaited.
                let missing = match folder.waiting_files {
                    0 => 0,
                    files => files.max(running.fetcher.missing_count() as u64),
                };
                (state, error, missing, folder.lacks.clone(), folder.left_out, problems.collect())
            }
        };
        let Space { role, .. } = self.describe(space)?;
        let running = space.running.as_ref().ok();
        let received_bytes = running.map_or(0, |running| running.fetcher.received_len());
        let sent_bytes = running.map_or(0, |running| running.sent_len.load(Ordering::Relaxed));
        Ok(SpaceStatus {
            id: space.id.to_string(),
            name: show(&space.name),
            dir: BytePath::from(space.dir.as_path()),
            role,
            state,
            error,
            files: counts.files + counts.symlinks,
            directories: counts.directories,
            bytes: counts.bytes,
            missing_chunks,
            awaited: lacks.awaited,
            awaited_paths: lacks.awaited_paths,
            lost: lacks.lost,
            left_out,
            received_bytes,
            sent_bytes,
            conflicts: answers::conflicts::conflict_count(&snapshot)?,
            problems,
            peers: self.peer_statuses(space, &snapshot).await?,
        })
    }

    async fn peer_statuses(&self, space: &OpenSpace, snapshot: &Snapshot) -> Result<Vec<PeerStatus>, ApiError> {
        let records = records_of(snapshot, space.id)?;
        let mut peers = Vec::new();
        for device in others(&records, self.surroundings.keys.id()) {
            let conn = self.meeting.as_ref().and_then(|meeting| meeting.conn(device));
            let path = conn.as_ref().and_then(crate::link::Conn::path);
            let in_sync = match &space.running {
                Ok(running) if conn.is_some() => {
                    running.handle.look(move |facts| facts.is_in_sync(device)).await.unwrap_or(false)
                }
                _ => false,
            };
            let name = snapshot.peer(device)?.and_then(|row| row.name);
            peers.push(PeerStatus {
                device: device.to_string(),
                name: name.as_ref().map(show).unwrap_or_default(),
                connected: conn.is_some(),
                path: match path.as_ref().map(|path| &path.route) {
                    Some(Route::Direct(_)) => PeerPath::Direct,
                    Some(Route::Relay(_)) => PeerPath::Relay,
                    None => PeerPath::None,
                },
                congestion: path.as_ref().and_then(|path| path.congestion).map(|congestion| match congestion {
                    Congestion::Cubic => PeerCongestion::Cubic,
                    Congestion::Bbr3 => PeerCongestion::Bbr3,
                }),
                rtt_ms: path.map(|path| path.round_trip.as_secs_f64() * 1e3),
                in_sync,
            });
        }
        Ok(peers)
    }

    /// Scans some spaces; waits until all agree if asked to.
    pub(super) async fn sync(&self, request: &SyncSpaces, progress: Progress) -> Result<SyncReport, ApiError> {
        let spaces = self.some(request.space.as_ref())?;
        let mut report = SyncReport { spaces: Vec::new(), peers_in_sync: 0, problems: 0 };
        progress.report(Step::Waiting { what: "scanning".into() });
        for space in &spaces {
            report.spaces.push(show(&space.name));
            if !space.is_paused()? {
                let folder = &space.running()?.folder;
                if let Err(closed) = folder.rescan().await {
                    return Err(failed_for(space, &folder.state()).unwrap_or_else(|| failed(closed)));
                }
            }
        }
        for space in &spaces {
            let running = space.running()?;
            if request.wait && !space.is_paused()? {
                report.peers_in_sync += self.agreement(space, running, &progress).await?;
            }
            report.problems += running.folder.state().problems.len() as u64;
        }
        Ok(report)
    }

    /// Waits until this device and all connected peers agree on a space; gives how many peers that are.
    async fn agreement(&self, space: &OpenSpace, running: &Running, progress: &Progress) -> Result<u64, ApiError> {
        let (begun, since) = (running.folder.state().written, tokio::time::Instant::now());
        loop {
            // Asked before this device's own tree: what they agree on, or more, is what that has to show.
            let agreeing = self.agreeing(space, running, since.elapsed()).await?;
            let state = running.folder.state();
            if let Some(error) = failed_for(space, &state) {
                return Err(error);
            }
            // Of what is lost chunks are asked for now and then.
            let is_nothing_asked = state.lacks.lost > 0 || running.fetcher.missing_count() == 0;
            let is_here = match state.phase {
                Phase::Held => is_nothing_asked,
                // The folder may not have heard yet of what has just come.
                Phase::Idle => {
                    is_nothing_asked && running.handle.look(|facts| facts.is_materialised()).await.map_err(failed)?
                }
                _ => false,
            };
            if let Some(count) = agreeing.filter(|_| is_here) {
                return Ok(count);
            }
            progress.report(transfer(begun, &state));
            tokio::time::sleep(AGREEMENT_INTERVAL).await;
        }
    }

    /// How many peers are connected, if all of them agree, after waiting for so long. At first that is also asked of those
    /// that do not speak of the space with us, and those are waited for that are being reached.
    async fn agreeing(&self, space: &OpenSpace, running: &Running, waited: Duration) -> Result<Option<u64>, ApiError> {
        let records = records_of(&space.store.snapshot()?, space.id)?;
        let mut count = 0;
        for device in others(&records, self.surroundings.keys.id()) {
            let Some(meeting) = &self.meeting else { continue };
            if meeting.conn(device).is_none() {
                if waited < FIRST_DIAL_LIMIT && meeting.is_sought(device) {
                    return Ok(None);
                }
                continue;
            }
            let is_keeper =
                records.role_at(&records.heads(), device).ok().flatten().is_some_and(|role| !role.can_read());
            let look = running.handle.look(move |facts| (facts.is_in_sync(device), facts.is_shared(device)));
            let (agrees, is_shared) = look.await.map_err(failed)?;
            if !is_shared && waited >= SHARE_LIMIT {
                continue;
            }
            if !agrees && !is_keeper {
                return Ok(None);
            }
            count += 1;
        }
        Ok(Some(count))
    }

    /// Tells of changes of a space's state for as long as it is open.
    pub(super) fn follow(self: &Arc<Self>, space: &OpenSpace) {
        let Ok(running) = &space.running else { return };
        self.follow_discrepancies(space);
        let (mut states, name) = (running.folder.watch(), show(&space.name));
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut told: Option<State> = None;
            let mut known: BTreeSet<BytePath> = BTreeSet::new();
            loop {
                let FolderState { phase, problems, .. } = states.borrow_and_update().clone();
                let Some(shared) = shared.upgrade() else { return };
                let state = state_of(&phase);
                if told.replace(state) != Some(state) {
                    shared.tell(What::State { space: name.clone(), state });
                }
                for (path, reason) in problems.iter().filter(|(path, _)| !known.contains(path)) {
                    shared.tell(What::Problem { space: name.clone(), path: path.clone(), reason: reason.clone() });
                }
                known = problems.iter().map(|(path, _)| path.clone()).collect();
                drop(shared);
                if states.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

/// What to say of a space whose folder stopped, if it did.
fn failed_for(space: &OpenSpace, folder: &FolderState) -> Option<ApiError> {
    match &folder.phase {
        Phase::Failed(reason) => Some(failed(format!("{}: {reason}", show(&space.name)))),
        _ => None,
    }
}

const fn state_of(phase: &Phase) -> State {
    match phase {
        Phase::Scanning => State::Scanning,
        Phase::Syncing => State::Syncing,
        Phase::Idle => State::Idle,
        Phase::Paused => State::Paused,
        Phase::Held => State::Held,
        Phase::Failed(_) => State::Error,
    }
}

/// How far a folder is of which so many files and bytes were written when somebody began to wait.
pub(super) const fn transfer(begun: (u64, u64), state: &FolderState) -> Step {
    let files_done = state.written.0.saturating_sub(begun.0);
    let bytes_done = state.written.1.saturating_sub(begun.1);
    let files_total = files_done.saturating_add(state.waiting_files);
    Step::Transfer { files_done, files_total, bytes_done, bytes_total: bytes_done.saturating_add(state.waiting_bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_awaited_is_part_of_the_total_and_what_was_there_before_of_nothing() {
        let state = FolderState { written: (7, 900), waiting_files: 3, waiting_bytes: 5_000, ..FolderState::default() };
        let step = transfer((5, 400), &state);
        assert_eq!(step, Step::Transfer { files_done: 2, files_total: 5, bytes_done: 500, bytes_total: 5_500 });
    }
}

//! `doctor`: gathers what there is to be looked at, and has each looked at.

use std::path::PathBuf;
use std::sync::Arc;

use zerocloud_crdt::id::SpaceId;

use super::opened::{OpenSpace, records_of};
use super::status::others;
use super::{Shared, on_disk, show};
use crate::answers::doctor::clock::{self, Evidence};
use crate::answers::doctor::{self, FolderFacts};
use crate::api::ApiError;
use crate::api::types::*;
use crate::clock::WallTime;
use crate::store::values;
use crate::tree::marker::Marker;
use crate::volume::{LinuxVolume, Volume};

impl Shared {
    pub(super) async fn doctor(self: &Arc<Self>) -> Result<Diagnosis, ApiError> {
        let status = self.status().await?;
        let shared = self.clone();
        on_disk(move || {
            let all = shared.all();
            let mut directories = 0;
            for space in &all {
                directories += space.store.snapshot()?.base_counts().directories;
            }
            let mut checks = doctor::kernel_checks(directories, all.len() as u64);
            checks.push(doctor::confinement_check(shared.surroundings.config.landlock));
            checks.push(clock::clock_check(shared.surroundings.clock.wall_time(), &shared.evidence(&all)?));
            checks.extend(doctor::home_checks(shared.surroundings.home.dir()));
            let places: Vec<(SpaceId, PathBuf)> = all.iter().map(|space| (space.id, space.dir.clone())).collect();
            for space in &all {
                let volume = LinuxVolume::open(&space.dir);
                let noted = || space.store.snapshot().ok()?.value(values::MARKER_COUNTER).ok()?;
                checks.extend(doctor::folder_checks(&FolderFacts {
                    space_name: &show(&space.name),
                    space: space.id,
                    dir: &space.dir,
                    volume: volume.as_ref().map(|volume| -> &dyn Volume { volume }),
                    noted: &noted,
                    all: &places,
                }));
            }
            checks.extend(status.spaces.iter().map(space_check));
            Ok(Diagnosis { checks })
        })
        .await
    }

    /// What there is to compare the clock with. What can't be asked now says nothing.
    fn evidence(&self, all: &[Arc<OpenSpace>]) -> Result<Evidence, ApiError> {
        let clock = &self.surroundings.clock;
        let mut evidence = Evidence::default();
        let before = clock.wall_time();
        if let Ok(time) = clock::time_of_file_in(self.surroundings.home.dir()) {
            evidence.written.push(("this device's home".to_owned(), before, time));
        }
        for space in all {
            let (snapshot, name) = (space.store.snapshot()?, show(&space.name));
            if let Ok(volume) = LinuxVolume::open(&space.dir)
                && Marker::read(&volume).is_ok_and(|marker| marker.space == space.id)
            {
                let before = clock.wall_time();
                let time = clock::time_of_file_on(&volume);
                evidence.written.extend(time.map(|time| (name.clone(), before, time)));
            }
            let arrival = snapshot.last_arrival_ms()?.map(|ms| WallTime(ms.saturating_mul(1_000_000)));
            let noted = arrival.max(snapshot.value(values::LAST_SYNC)?).max(snapshot.value(values::LAST_WALK)?);
            evidence.noted.extend(noted.map(|noted| (name, noted)));
            for device in others(&records_of(&snapshot, space.id)?, self.surroundings.keys.id()) {
                let Some(peer) = snapshot.peer(device)? else { continue };
                // A device numbers what it says of its addresses by the milliseconds of its clock.
                let Some(counter) = peer.signed_addresses().map(|signed| signed.record().counter) else { continue };
                let told = i64::try_from(counter).unwrap_or(i64::MAX).saturating_mul(1_000_000);
                let name = peer.name.as_ref().map_or_else(|| device.to_string(), show);
                evidence.told.push((name, WallTime(told)));
            }
        }
        Ok(evidence)
    }
}

/// What a space's own state says.
fn space_check(space: &SpaceStatus) -> Check {
    let name = format!("space {}", space.name);
    let connected = space.peers.iter().filter(|peer| peer.connected).count();
    if let Some(error) = &space.error {
        let advice = Some("`zerocloud status` shows whether it goes on by itself".to_owned());
        return Check { name, level: Level::Error, found: error.clone(), advice };
    }
    if !space.peers.is_empty() && connected == 0 {
        return Check {
            name,
            level: Level::Warning,
            found: "none of its other devices is connected".to_owned(),
            advice: Some("switch one on, and see that both reach each other's address".to_owned()),
        };
    }
    if !space.problems.is_empty() {
        let found = format!("{} paths are not as they should be", space.problems.len());
        let advice = Some("`zerocloud status` lists them".to_owned());
        return Check { name, level: Level::Warning, found, advice };
    }
    let found = format!("{} files, {connected} of {} other devices connected", space.files, space.peers.len());
    Check { name, level: Level::Ok, found, advice: None }
}

//! Older versions, what is held, and what is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use zerocloud_crdt::id::EpochId;
use zerocloud_crdt::keys::EpochSecret;

use super::opened::OpenSpace;
use super::{Shared, lock, on_disk, show};
use crate::answers;
use crate::api::types::*;
use crate::api::{ApiError, ErrorKind, Progress};
use crate::volume::LinuxVolume;

impl Shared {
    fn epoch_secrets(&self, space: &OpenSpace) -> BTreeMap<EpochId, EpochSecret> {
        let secrets = lock(&self.secrets);
        let of_space = secrets.epochs(space.id);
        of_space.map(|(epoch, secret)| (epoch, EpochSecret::new(space.id, epoch, secret.clone()))).collect()
    }

    pub(super) async fn history(&self, request: &History) -> Result<VersionList, ApiError> {
        let (space, path) = self.resolve(&request.target)?;
        let (secrets, us) = (self.epoch_secrets(&space), self.surroundings.keys.id());
        on_disk(move || {
            let snapshot = space.store.snapshot()?;
            let spot = answers::paths::find(&snapshot, &path)?;
            answers::history::history(&snapshot, &secrets, &spot, us)
        })
        .await
    }

    pub(super) async fn restore(&self, _: Restore, _: Progress) -> Result<Restored, ApiError> {
        Err(ApiError::new(ErrorKind::Failed, "not yet"))
    }

    pub(super) async fn held(&self, request: &Held) -> Result<HeldList, ApiError> {
        let mut held = Vec::new();
        for space in self.some(request.space.as_ref())? {
            held.extend(answers::held::held(&space.store.snapshot()?, &show(&space.name))?);
        }
        Ok(HeldList { held })
    }

    pub(super) async fn doctor(self: &Arc<Self>) -> Result<Diagnosis, ApiError> {
        let status = self.status().await?;
        let shared = self.clone();
        on_disk(move || {
            let all = shared.all();
            let mut directories = 0;
            for space in &all {
                directories += space.store.snapshot()?.base_counts().directories;
            }
            let mut checks = answers::doctor::kernel_checks(directories, all.len() as u64);
            checks.push(answers::doctor::clock_check(shared.surroundings.clock.wall_time()));
            checks.extend(answers::doctor::home_checks(shared.surroundings.home.dir()));
            for space in &all {
                let volume = LinuxVolume::open(&space.dir);
                let volume = volume.as_ref().map(|volume| -> &dyn crate::volume::Volume { volume });
                checks.extend(answers::doctor::folder_checks(&show(&space.name), volume, space.id));
            }
            for space in status.spaces {
                checks.push(space_check(&space));
            }
            Ok(Diagnosis { checks })
        })
        .await
    }
}

/// What a space's own state says.
fn space_check(space: &SpaceStatus) -> Check {
    let name = format!("space {}", zerocloud_crdt::name::escape(space.name.as_bytes()));
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

//! Making, pausing and removing spaces on this device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zerocloud_crdt::id::{DeviceId, EpochId, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, Secret};
use zerocloud_crdt::membership::{Genesis, Identity};
use zerocloud_crdt::name::Name;

use super::opened::{OpenSpace, records_of};
use super::{Shared, failed, lock, show};
use crate::answers;
use crate::api::path::BytePath;
use crate::api::target::Target;
use crate::api::types::*;
use crate::api::{ApiError, ErrorKind};
use crate::daemon::Mode;
use crate::folder::Message;
use crate::home::{Recovery, Secrets};
use crate::random::system_rng;
use crate::store::{Awaited, PeerRow, SpaceStore, StoreError, values};
use crate::tree::marker::{Marker, MarkerError};
use crate::volume::LinuxVolume;

/// A space that is about to be stored here for the first time.
pub(super) struct NewSpace {
    pub(super) id: SpaceId,
    pub(super) name: Name,
    pub(super) dir: PathBuf,
    /// The genesis first, in causal order.
    pub(super) records: Vec<(zerocloud_crdt::id::RecordHash, Vec<u8>)>,
    pub(super) secrets: Vec<(EpochId, Secret)>,
}

impl Shared {
    /// Makes a directory a new space.
    pub(super) fn add_space(self: &Arc<Self>, request: &AddSpace) -> Result<Space, ApiError> {
        let dir = self.make_folder(request.dir.as_ref(), None)?;
        let name = match &request.name {
            Some(name) => name.clone().into_bytes(),
            None => dir.file_name().map(|name| BytePath::from(name).as_bytes().to_vec()).unwrap_or_default(),
        };
        let name = Name::parse(&name).map_err(|error| {
            ApiError::new(
                ErrorKind::Invalid,
                format!("a space can't be called that: {error}"),
                "give it a name with `--name`",
            )
        })?;
        if self.all().iter().any(|space| space.name == name) {
            return Err(ApiError::new(
                ErrorKind::Conflict,
                format!("there is a space called `{}` already", escaped(&name)),
                "give this one another name with `--name`",
            ));
        }
        let mut rng = system_rng().map_err(failed)?;
        let secret = Secret::draw(&mut rng);
        let genesis = Genesis::make(&self.surroundings.keys, self.recovery_identity()?, &secret, &mut rng);
        let id = genesis.space();
        let hash = zerocloud_crdt::id::RecordHash(id.0);
        self.store_new(
            NewSpace {
                id,
                name,
                dir,
                records: vec![(hash, genesis.bytes().to_vec())],
                secrets: vec![(id.first_epoch(), secret)],
            },
            None,
        )
    }

    /// What each genesis that is made here says of the recovery key.
    fn recovery_identity(&self) -> Result<Identity, ApiError> {
        match lock(&self.secrets).recovery() {
            Recovery::Seed(seed) => Ok(Identity::of(&DeviceKeys::from_seed(seed.clone()))),
            Recovery::PublicRow(row) => zerocloud_crdt::codec::decode(row, row.len())
                .map_err(|error| failed(format!("the recovery key in this home can't be read: {error}"))),
        }
    }

    /// Lets the recovery seed leave the home.
    pub(super) fn confirm_recovery(&self) -> Result<Done, ApiError> {
        let row = zerocloud_crdt::codec::encode(&self.recovery_identity()?);
        self.change_secrets(|secrets| secrets.confirm_recovery(row))?;
        Ok(Done {})
    }

    /// Changes the secrets, in the home first.
    fn change_secrets(&self, change: impl FnOnce(&mut Secrets)) -> Result<(), ApiError> {
        let mut secrets = lock(&self.secrets);
        let mut changed = secrets.clone();
        change(&mut changed);
        self.surroundings.home.save_secrets(&changed).map_err(failed)?;
        *secrets = changed;
        Ok(())
    }

    /// Makes the directory of a space if there is none, and checks that it can be one. `joined` is the space, if others
    /// have it already: a folder of it that this home had is taken again.
    pub(super) fn make_folder(&self, dir: &Path, joined: Option<SpaceId>) -> Result<PathBuf, ApiError> {
        let shown = BytePath::from(dir);
        std::fs::create_dir_all(dir)
            .and_then(|()| dir.canonicalize())
            .map_err(|error| {
                let message = format!("{shown} can't be a space's folder: {error}");
                ApiError::new(ErrorKind::Invalid, message, "choose a directory that you may write to")
            })
            .and_then(|dir| self.check_folder(&dir, joined).map(|()| dir))
    }

    fn check_folder(&self, dir: &Path, joined: Option<SpaceId>) -> Result<(), ApiError> {
        let shown = BytePath::from(dir);
        let conflict = |reason: String| Err(ApiError::new(ErrorKind::Conflict, reason, "choose another folder"));
        let home = self.surroundings.home.dir();
        if home.starts_with(dir) || dir.starts_with(home) {
            return conflict(format!("{shown} and this node's own files lie in one another"));
        }
        for space in self.all() {
            if space.dir == dir {
                return conflict(format!("{shown} is the folder of the space `{}` already", escaped(&space.name)));
            }
            if space.dir.starts_with(dir) || dir.starts_with(&space.dir) {
                let name = escaped(&space.name);
                return conflict(format!("{shown} and the folder of the space `{name}` lie in one another"));
            }
        }
        let volume = LinuxVolume::open(dir).map_err(failed)?;
        match Marker::read(&volume) {
            Err(MarkerError::Missing) => Ok(()),
            // The secrets say that this home was in the space; its store is lost.
            Ok(marker) if joined == Some(marker.space) && self.is_lost(marker.space) => Ok(()),
            Ok(marker) => Err(ApiError::new(
                ErrorKind::Conflict,
                format!("{shown} is a folder of the space {} already, by another home", marker.space),
                "if that home is gone, remove `.zerocloud/marker` in the folder and try again",
            )),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether this home has the secrets of a space and not its store.
    fn is_lost(&self, space: SpaceId) -> bool {
        lock(&self.secrets).epochs(space).next().is_some() && !self.surroundings.home.store_path(space).exists()
    }

    /// The spaces of which this home has the secrets and not the store.
    pub(super) fn lost_spaces(&self) -> Vec<SpaceId> {
        let spaces: Vec<SpaceId> = lock(&self.secrets).spaces().collect();
        spaces.into_iter().filter(|space| self.is_lost(*space)).collect()
    }

    /// Stores a space for the first time and begins to work on it. Whatever is left of a try that was cut is replaced.
    /// `inviter`: who let this device in, and where it is.
    pub(super) fn store_new(
        self: &Arc<Self>,
        new: NewSpace,
        inviter: Option<(DeviceId, PeerRow)>,
    ) -> Result<Space, ApiError> {
        let home = &self.surroundings.home;
        self.change_secrets(|secrets| {
            for (epoch, secret) in &new.secrets {
                secrets.insert_epoch(new.id, *epoch, secret.clone());
            }
        })?;
        home.make_space_stores().map_err(failed)?;
        let store = SpaceStore::open(&home.store_path(new.id), new.id)?;
        let has_files = std::fs::read_dir(&new.dir).map_err(failed)?.next().is_some();
        let dir = BytePath::from(new.dir.as_path()).as_bytes().to_vec();
        store.write::<_, StoreError>(|write| {
            for (hash, bytes) in &new.records {
                write.put_record(*hash, bytes)?;
            }
            if let Some((device, row)) = inviter {
                write.put_peer(device, &row)?;
                if has_files {
                    write.set(values::AWAITS_INDEX, &Awaited::Member(device))?;
                }
            }
            write.set(values::NAME, &new.name)?;
            write.set(values::FOLDER, &dir)
        })?;
        drop(store);
        let secrets = lock(&self.secrets).clone();
        let space = OpenSpace::open(new.id, &self.surroundings, &secrets, self.mode == Mode::Node)?;
        let space = self.insert(space);
        self.follow(&space);
        self.describe(&space)
    }

    /// A space as the local API tells of it.
    pub(super) fn describe(&self, space: &OpenSpace) -> Result<Space, ApiError> {
        Ok(Space {
            id: space.id.to_string(),
            name: show(&space.name),
            dir: BytePath::from(space.dir.as_path()),
            role: self.role(space)?,
            paused: space.is_paused()?,
        })
    }

    fn role(&self, space: &OpenSpace) -> Result<Role, ApiError> {
        let snapshot = space.store.snapshot()?;
        let table = records_of(&snapshot, space.id)?.table().map_err(failed)?;
        let role = table.role(self.surroundings.keys.id());
        // Without a row of its own a device holds what it holds, and may do nothing more.
        Ok(role.map_or(Role::Keeper, answers::members::role))
    }

    /// Pauses or resumes a space, across restarts.
    pub(super) fn pause(&self, target: &Target, is_paused: bool) -> Result<Space, ApiError> {
        let (space, _) = self.resolve(target)?;
        let was_paused = space.is_paused()?;
        space.store.write::<_, StoreError>(|write| {
            // Who resumes what is not paused goes on with what is here, whatever the members know.
            if !is_paused && !was_paused && write.value(values::AWAITS_INDEX)?.is_some() {
                write.set(values::AWAITS_INDEX, &Awaited::Nobody)?;
            }
            write.set(values::PAUSED, &is_paused)
        })?;
        if let Ok(running) = &space.running {
            running.folder.tell(Message::Pause(is_paused));
        }
        self.describe(&space)
    }

    /// Forgets a space. Its files stay where they are.
    pub(super) async fn remove_space(&self, request: &RemoveSpace) -> Result<Space, ApiError> {
        let (space, path) = self.resolve(&request.space)?;
        if !path.is_empty() {
            return Err(ApiError::new(
                ErrorKind::Invalid,
                "this is a path in a space, and not a space",
                "name the space alone",
            ));
        }
        let described = self.describe(&space)?;
        if let Ok(running) = &space.running {
            running.folder.stop().await;
        }
        self.sessions.remove(space.id);
        lock(&self.spaces).remove(&space.id);
        let marker = space.dir.join(".zerocloud").join("marker");
        match std::fs::remove_file(&marker) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the marker of a space that was removed stays");
            }
            _ => {}
        }
        std::fs::remove_file(self.surroundings.home.store_path(space.id)).map_err(failed)?;
        self.change_secrets(|secrets| secrets.forget_space(space.id))?;
        Ok(described)
    }
}

pub(super) fn escaped(name: &Name) -> String {
    zerocloud_crdt::name::escape(name.as_bytes())
}

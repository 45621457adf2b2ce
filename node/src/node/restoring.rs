//! Older versions, and what is held.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;
use zerocloud_crdt::id::{EpochId, OpId};
use zerocloud_crdt::keys::EpochSecret;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{FileTime, Kind};

use super::opened::OpenSpace;
use super::{Shared, failed, lock, on_disk, show};
use crate::answers;
use crate::answers::history::PastVersion;
use crate::answers::paths::Spot;
use crate::api::path::BytePath;
use crate::api::types::*;
use crate::api::{ApiError, ErrorKind, Progress};
use crate::folder::{Message, Restoring};
use crate::store::VersionCounts;

impl Shared {
    pub(super) fn epoch_secrets(&self, space: &OpenSpace) -> BTreeMap<EpochId, EpochSecret> {
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

    /// Brings an older version of a file back, as an edit of now.
    pub(super) async fn restore(&self, request: Restore, progress: Progress) -> Result<Restored, ApiError> {
        let (space, path) = self.resolve(&request.target)?;
        let secrets = self.epoch_secrets(&space);
        let (found, at_ms) = (space.clone(), request.at_ms);
        if let Some(at_ms) = at_ms
            && !self.is_file(&space, path.clone()).await?
        {
            return self.rewind(&space, path, at_ms, request.exact, progress).await;
        }
        let (version, path) = on_disk(move || {
            let snapshot = found.store.snapshot()?;
            let spot = answers::paths::find(&snapshot, &path)?;
            let item = match &spot {
                Spot::Here(entry) if entry.kind != Kind::Directory => entry.source,
                Spot::Gone(item) => *item,
                Spot::Root | Spot::Here(_) => {
                    return Err(ApiError::new(
                        ErrorKind::Invalid,
                        "a folder is restored to a moment",
                        "say which, as in `zerocloud restore FOLDER --at 2h`",
                    ));
                }
            };
            let shown = match &spot {
                Spot::Here(entry) => entry.content_ops.clone(),
                Spot::Root | Spot::Gone(_) => BTreeSet::new(),
            };
            let versions = answers::history::versions_of(&snapshot, &secrets, item)?;
            let version = choose(versions, &shown, at_ms)?;
            let names = path.iter().map(|name| Name::parse(name)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
            Ok(((item, version), names))
        })
        .await?;
        let (source, PastVersion { op, content, time_ms, .. }) = version;
        let content = content.ok_or_else(|| {
            ApiError::new(
                ErrorKind::NotFound,
                "the file was deleted at that time",
                "`zerocloud history` lists its versions",
            )
        })?;
        progress.report(Step::Waiting { what: "bringing the version".into() });
        let running = space.running()?;
        let (done, answer) = oneshot::channel();
        let put: Vec<&[u8]> = path.iter().map(Name::as_bytes).collect();
        let at = BytePath::from([BytePath::from(space.dir.as_path()).as_bytes(), &put.join(&b'/')].join(&b'/'));
        // An edit of now.
        let now = self.surroundings.clock.wall_time().0;
        let nanos = u32::try_from(now.rem_euclid(1_000_000_000)).unwrap_or(0);
        let mtime = FileTime { secs: now.div_euclid(1_000_000_000), nanos };
        running.folder.tell(Message::Restore(Box::new(Restoring { path, source, op, content, mtime, done })));
        answer.await.map_err(failed)?.map_err(failed)?;
        running.folder.rescan().await.map_err(failed)?;
        Ok(Restored { path: at, time_ms, files: 1, deleted: 0, failed: Vec::new() })
    }

    /// Lets older versions of a space go.
    pub(super) async fn prune(&self, request: &Prune) -> Result<Pruned, ApiError> {
        let (space, _) = self.resolve(&request.space)?;
        let age_ms = i64::try_from(request.older_secs).unwrap_or(i64::MAX).saturating_mul(1_000);
        let (done, answer) = oneshot::channel();
        space.running()?.folder.tell(Message::Prune(age_ms, done));
        let VersionCounts { versions, bytes } = answer.await.map_err(failed)?.map_err(failed)?;
        Ok(Pruned { versions, bytes })
    }

    /// Lists what is held; with a decision, what was held until then.
    pub(super) async fn held(&self, request: &Held) -> Result<HeldList, ApiError> {
        if request.decision.is_some() && request.space.is_none() {
            return Err(ApiError::new(
                ErrorKind::Invalid,
                "a decision needs a space",
                "name one, as in `zerocloud held SPACE accept`",
            ));
        }
        let mut held = Vec::new();
        for space in self.some(request.space.as_ref())? {
            held.extend(answers::held::held(&space.store.snapshot()?, &show(&space.name))?);
            if let Some(decision) = request.decision {
                let (done, answer) = oneshot::channel();
                space.running()?.folder.tell(Message::Held(decision, done));
                answer.await.map_err(failed)?.map_err(failed)?;
            }
        }
        Ok(HeldList { held })
    }
}

/// The version that is wanted: what stood there at a moment, or the one before what is shown.
fn choose(versions: Vec<PastVersion>, shown: &BTreeSet<OpId>, at_ms: Option<i64>) -> Result<PastVersion, ApiError> {
    let nothing = || ApiError::new(ErrorKind::NotFound, "there is no such version", "`zerocloud history` lists them");
    let mut versions = versions.into_iter();
    match at_ms {
        Some(at_ms) => versions.find(|version| version.time_ms <= at_ms),
        None => versions.find(|version| version.content.is_some() && !shown.contains(&version.op)),
    }
    .ok_or_else(nothing)
}

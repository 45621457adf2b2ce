//! A directory or a whole space as it was at a moment: what differs is found, written as changes of now, and waited
//! for; what this device does not have is asked of others.

use std::sync::Arc;

use tokio::sync::oneshot;
use zerocloud_crdt::register::Content;
use zerocloud_crdt::rewind::{Change, Extent, Former};

use super::opened::{OpenSpace, Running};
use super::status::transfer;
use super::{AGREEMENT_INTERVAL, Shared, failed, on_disk};
use crate::answers;
use crate::answers::paths::Spot;
use crate::api::path::BytePath;
use crate::api::types::*;
use crate::api::{ApiError, ErrorKind, Progress};
use crate::folder::{FolderState, Message, Phase, Restoring, Rewinding};

/// Files that are asked of other devices at a time.
const ASKED_COUNT: usize = 64;

impl Shared {
    /// Whether a path names a file, or last did.
    pub(super) async fn is_file(&self, space: &Arc<OpenSpace>, path: Vec<Vec<u8>>) -> Result<bool, ApiError> {
        let (secrets, space) = (self.epoch_secrets(space), space.clone());
        on_disk(move || {
            let snapshot = space.store.snapshot()?;
            match answers::paths::find(&snapshot, &path) {
                Ok(Spot::Here(entry)) => Ok(entry.kind != zerocloud_crdt::register::Kind::Directory),
                Ok(Spot::Gone(item)) => {
                    let versions = answers::history::versions_of(&snapshot, &secrets, item)?;
                    Ok(!versions.iter().any(|version| matches!(version.content, Some(Content::Directory))))
                }
                Ok(Spot::Root) => Ok(false),
                // It may have stood there under another item's name.
                Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Makes what is at `path` as it was on this device at `at_ms`; returns when it is so on this disk.
    pub(super) async fn rewind(
        &self,
        space: &Arc<OpenSpace>,
        path: Vec<Vec<u8>>,
        at_ms: i64,
        exact: bool,
        progress: Progress,
    ) -> Result<Restored, ApiError> {
        let running = space.running()?;
        if space.is_paused()? {
            return Err(failed("the space is paused").hint("`zerocloud space resume SPACE`, then try again"));
        }
        progress.report(Step::Waiting { what: "looking for what differs".into() });
        // What was done here and is not in the log yet is part of what differs.
        running.folder.rescan().await.map_err(failed)?;
        let extent = if exact { Extent::Exact } else { Extent::Keep };
        let (secrets, found, names) = (self.epoch_secrets(space), space.clone(), path.clone());
        let look = move || answers::rewind::rewind(&found.store.snapshot()?, &secrets, &names, at_ms, extent);
        let rewind = on_disk(look).await?;
        let (files, deleted) = (rewind.file_count(), rewind.gone_count());
        let mut failures = Vec::new();
        if !rewind.changes.is_empty() {
            let (done, answer) = oneshot::channel();
            let rewinding = Rewinding { changes: rewind.changes.clone(), done };
            running.folder.tell(Message::Rewind(Box::new(rewinding)));
            let scan_count = answer.await.map_err(failed)?.map_err(failed)?;
            failures.extend(self.until_settled(space, running, rewind.changes, scan_count, &progress).await?);
        }
        let absent_count = rewind.absent.len() as u64;
        let missing = self.bring_absent(space, running, rewind.absent, &progress).await?;
        let files = (files + absent_count).saturating_sub(missing.len() as u64);
        failures.extend(missing);
        failures.sort_by(|a, b| a.path.cmp(&b.path));
        let dir = BytePath::from(space.dir.as_path());
        let names: Vec<&[u8]> = std::iter::once(dir.as_bytes()).chain(path.iter().map(Vec::as_slice)).collect();
        let path = BytePath::from(names.join(&b'/'));
        Ok(Restored { path, time_ms: at_ms, files, deleted, failed: failures })
    }

    /// Waits until this disk shows the changes or nothing more happens; gives what it does not show then.
    async fn until_settled(
        &self,
        space: &Arc<OpenSpace>,
        running: &Running,
        mut left: Vec<Change>,
        scan_count: u64,
        progress: &Progress,
    ) -> Result<Vec<Problem>, ApiError> {
        // They were written after a scan: what is told once that is counted, or by a folder that was opened anew, is told
        // by one that knows of them.
        let mut states = running.folder.watch();
        let before = states.borrow().clone();
        let is_told = |state: &FolderState| {
            let is_new = state.scan_count < before.scan_count || matches!(state.phase, Phase::Failed(_));
            is_new || state.scan_count >= scan_count
        };
        drop(states.wait_for(is_told).await.map_err(failed)?);
        loop {
            let state = running.folder.state();
            let looked = space.clone();
            left = on_disk(move || {
                answers::rewind::retain_unsettled(&looked.store.snapshot()?, &mut left)?;
                Ok(left)
            })
            .await?;
            if left.is_empty() {
                return Ok(Vec::new());
            }
            match &state.phase {
                Phase::Failed(reason) => return Err(failed(reason)),
                Phase::Idle | Phase::Held | Phase::Paused => break,
                Phase::Scanning | Phase::Syncing => {}
            }
            progress.report(transfer(before.written, &state));
            tokio::time::sleep(AGREEMENT_INTERVAL).await;
        }
        let problems = running.folder.state().problems;
        let formers = left.into_iter().filter_map(|change| match change {
            Change::Former(former) => Some(former),
            // It was made anew meanwhile, or is listed by `status`.
            Change::Gone(_) | Change::GivenUp { .. } => None,
        });
        let formers: Vec<Former> = formers.collect();
        let looked = space.clone();
        on_disk(move || {
            let places = answers::rewind::places(&looked.store.snapshot()?, &formers)?;
            let problem = |(former, place): (&Former, &Option<_>)| {
                let path = answers::rewind::path_shown(place.as_ref(), former);
                let known = problems.iter().find(|(at, _)| *at == path).map(|(_, reason)| reason.clone());
                let reason = known.unwrap_or_else(|| "it waits; `zerocloud status` says for what".to_owned());
                Problem { path, reason }
            };
            Ok(formers.iter().zip(&places).map(problem).collect())
        })
        .await
    }

    /// Has the bytes of files brought that are not here; gives those of which nobody had them.
    async fn bring_absent(
        &self,
        space: &Arc<OpenSpace>,
        running: &Running,
        absent: Vec<Former>,
        progress: &Progress,
    ) -> Result<Vec<Problem>, ApiError> {
        if absent.is_empty() {
            return Ok(Vec::new());
        }
        progress.report(Step::Waiting { what: "bringing what other devices have".into() });
        let looked = space.clone();
        let (absent, places) = on_disk(move || {
            let places = answers::rewind::places(&looked.store.snapshot()?, &absent)?;
            Ok((absent, places))
        })
        .await?;
        let mut missing = Vec::new();
        let all: Vec<_> = absent.into_iter().zip(places).collect();
        for some in all.chunks(ASKED_COUNT) {
            let mut asked = Vec::with_capacity(some.len());
            for (former, place) in some {
                let shown = answers::rewind::path_shown(place.as_ref(), former);
                match (place, former.op, &former.content) {
                    (Some(path), Some(op), Some(content @ Content::File(file))) => {
                        let (done, answer) = oneshot::channel();
                        let (content, mtime) = (content.clone(), file.mtime);
                        let (path, source) = (path.clone(), former.source);
                        let restoring = Restoring { path, source, op, content, mtime, done };
                        running.folder.tell(Message::Restore(Box::new(restoring)));
                        asked.push((shown, answer));
                    }
                    _ => missing
                        .push(Problem { path: shown, reason: "its folder is not there; restore that first".into() }),
                }
            }
            for (path, answer) in asked {
                if let Err(reason) = answer.await.map_err(failed)? {
                    missing.push(Problem { path, reason });
                }
            }
        }
        running.folder.rescan().await.map_err(failed)?;
        Ok(missing)
    }
}

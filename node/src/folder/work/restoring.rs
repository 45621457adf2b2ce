//! Bringing an older version back: an edit as if the user had made it now.

use std::sync::Arc;

use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, Kind};

use super::wanting::{NotBegun, Version};
use super::{Folder, FolderError};
use crate::engine::fetch::JobId;
use crate::folder::{NotStaged, Restoring};
use crate::tree::serve::ChunkReader;
use crate::tree::stage::{FileSpec, Staged};
use crate::tree::versions::{self, VersionRow};
use crate::tree::{Commit, Ledger, Pool};
use crate::volume::{At, Permissions, VolumeDirectory, VolumeError, VolumeErrorKind};
use crate::watch::dirty::Depth;

impl<P: Pool> Folder<P> {
    /// Begins to bring a version back.
    pub(super) fn restore(&mut self, restoring: Restoring) {
        if self.is_paused {
            return answer(restoring, Err("the space is paused; resume it first".into()));
        }
        let job = self.jobs.next_job();
        self.restores.insert(job, restoring);
        self.go_on_restoring(job);
    }

    /// Has the bytes brought, as far as they are known.
    pub(super) fn go_on_restoring(&mut self, job: JobId) {
        let Some(restoring) = self.restores.remove(&job) else { return };
        let staged = match &restoring.content {
            Content::Symlink { target } => {
                self.staging.stage_symlink(target.as_slice()).map(Some).map_err(NotBegun::Stage)
            }
            Content::Directory => {
                Err(NotBegun::Damaged("a directory has no versions; name a file in it, or say `--at TIME`".into()))
            }
            Content::File(content) => self.bring_version(job, &restoring, content),
        };
        let (source, op) = (restoring.source, restoring.op);
        self.restores.insert(job, restoring);
        let failed = match staged {
            Ok(None) if self.parts.supply.has_members() => return,
            Ok(None) => {
                self.parts.supply.remove(job);
                "this device does not have this version, and no other is connected; connect one that has it: `zerocloud history`".to_owned()
            }
            Ok(Some(staged)) => return self.end_restoring(job, Ok(staged)),
            Err(NotBegun::Page(page)) => return self.ask_for_page(job, source, op, page),
            Err(NotBegun::Stage(error)) => error.to_string(),
            Err(NotBegun::Damaged(reason)) => reason,
            Err(NotBegun::Folder(error)) => error.to_string(),
            Err(NotBegun::Superseded) => {
                "this version is not known any more; choose another: `zerocloud history`".to_owned()
            }
        };
        if let Some(restoring) = self.restores.remove(&job) {
            answer(restoring, Err(failed));
        }
    }

    fn bring_version(
        &mut self,
        job: JobId,
        restoring: &Restoring,
        content: &zerocloud_crdt::register::FileContent,
    ) -> Result<Option<Staged>, NotBegun> {
        let snapshot = self.parts.store.snapshot()?;
        let mut reader = ChunkReader::new(&*self.volume).map_err(|error| NotBegun::Folder(error.into()))?;
        let mtime = restoring.mtime;
        let permissions = Permissions::New { executable: content.executable };
        let spec = FileSpec { id: restoring.source, hash: content.hash, len: content.manifest.len, mtime, permissions };
        let version = Version { source: restoring.source, op: restoring.op, content, spec };
        self.bring(job, &version, &snapshot, &mut reader)
    }

    /// Puts a version in its place; the next scan finds it there.
    pub(super) fn end_restoring(&mut self, job: JobId, staged: Result<Staged, NotStaged>) {
        let Some(restoring) = self.restores.remove(&job) else { return };
        let put = match staged {
            Ok(staged) => self.put(&restoring, &staged).map_err(|error| error.to_string()),
            Err(NotStaged::Missing(_)) => {
                Err("no device that is connected has this version; connect one that has it: `zerocloud history`"
                    .to_owned())
            }
            Err(NotStaged::Failed(error)) => Err(error.to_string()),
        };
        answer(restoring, put);
    }

    fn put(&mut self, restoring: &Restoring, staged: &Staged) -> Result<(), FolderError> {
        let Some((name, above)) = restoring.path.split_last() else { return Ok(()) };
        let names: Vec<&[u8]> = restoring.path.iter().map(Name::as_bytes).collect();
        let mut content = restoring.content.clone();
        if let Content::File(file) = &mut content {
            file.mtime = restoring.mtime;
        }
        if self.put_in_place_of_missing(restoring.source, &names.join(&b'/'), content, staged)? {
            return Ok(());
        }
        let control = self.volume.control()?;
        let mut directory: Arc<dyn VolumeDirectory> = self.volume.root();
        let mut path: Vec<u8> = Vec::new();
        // All that is new in them is found by a look at the first that was there.
        self.dirty.add(&[], Depth::Names);
        for name in above {
            self.dirty.add(&path, Depth::Names);
            directory = match directory.open_directory(name.as_bytes()) {
                Err(error) if error.kind() == VolumeErrorKind::NotFound => {
                    directory.create_directory(name.as_bytes())?;
                    directory.open_directory(name.as_bytes())?
                }
                opened => opened?,
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
        }
        self.dirty.add(&path, Depth::Names);
        let temp = At { directory: &*control.tmp, name: staged.temp.as_bytes() };
        let place = At { directory: &*directory, name: name.as_bytes() };
        match self.volume.rename_noreplace(temp, place) {
            Err(error) if error.kind() == VolumeErrorKind::Exists => {
                self.put_in_place_of(restoring, staged, &*directory)
            }
            renamed => Ok(renamed?),
        }
    }

    /// Puts a version in place of what stands there, which goes to the version store.
    fn put_in_place_of(
        &mut self,
        restoring: &Restoring,
        staged: &Staged,
        directory: &dyn VolumeDirectory,
    ) -> Result<(), FolderError> {
        let Some(name) = restoring.path.last() else { return Ok(()) };
        let control = self.volume.control()?;
        let stat = directory.stat(name.as_bytes())?;
        if stat.kind == crate::volume::Kind::Directory {
            let error = VolumeError::new(VolumeErrorKind::WrongKind, "restore over a directory", name.as_bytes());
            return Err(error.into());
        }
        let temp = At { directory: &*control.tmp, name: staged.temp.as_bytes() };
        self.volume.exchange(temp, At { directory, name: name.as_bytes() })?;
        let print = crate::tree::fingerprint(&control.tmp.stat(staged.temp.as_bytes())?);
        self.ledger.refresh()?;
        let origin = self.row_of(restoring.source, print.inode)?;
        let kept_at_ms = self.parts.clock.wall_time().as_milliseconds();
        let version = VersionRow { stored: staged.temp.clone(), origin, print, kept_at_ms };
        self.ledger.commit(Commit { versions: vec![version], ..Commit::default() })?;
        Ok(versions::keep(&*self.volume, &control, &staged.temp)?)
    }

    fn row_of(
        &self,
        source: FileId,
        inode: u64,
    ) -> Result<Option<(RowKey, zerocloud_crdt::base::BaseRow)>, FolderError> {
        for (_, key) in self.ledger.of_source(source)? {
            if let Some(row) =
                self.ledger.row(&key)?.filter(|row| row.print.inode == inode && row.kind != Kind::Directory)
            {
                return Ok(Some((key, row)));
            }
        }
        Ok(None)
    }
}

fn answer(restoring: Restoring, result: Result<(), String>) {
    // Whoever asked may have gone.
    let _ = restoring.done.send(result);
}

//! Telling what a folder did and what its user did, for [`crate::api::types::What`]. Nothing here decides or keeps
//! anything: what can't be read is not told, and while nobody listens nothing is read.

use std::collections::BTreeMap;

use zerocloud_crdt::base::{BaseRead, BaseRow, PARKED, RowKey};
use zerocloud_crdt::change::{Key, Register};
use zerocloud_crdt::id::{ActorId, FileId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::plan::Action;
use zerocloud_crdt::register::Kind;
use zerocloud_crdt::scan::{Findings, Parent, Seen, Sighting};
use zerocloud_crdt::view::natural_place;

use super::Folder;
use super::scanning::directory_path;
use crate::api::path::BytePath;
use crate::api::types::Change;
use crate::store::{Snapshot, StoreError};
use crate::tree::Pool;
use crate::tree::materialise::{Job, Outcome};

/// Something happened in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderEvent {
    /// A path changed.
    Path {
        /// Below the root; of what moved, where it was.
        path: BytePath,
        /// How.
        change: Change,
        /// Where what moved is now.
        to: Option<BytePath>,
        /// What the device that made the change calls itself, empty if that is not known; `None` for this one.
        device_name: Option<String>,
    },
    /// A conflict copy came to stand here.
    Conflict {
        /// Below the root.
        copy: BytePath,
    },
}

/// Who is told of a folder's events. Called by the folder's thread: must not block, and may lose what it is told.
pub trait Listener: Send + Sync {
    /// Whether anybody wants to know: while nobody does, no path is looked up.
    fn is_listening(&self) -> bool;
    /// Tells.
    fn tell(&self, event: FolderEvent);
}

/// Nobody.
impl Listener for () {
    fn is_listening(&self) -> bool {
        false
    }

    fn tell(&self, _: FolderEvent) {}
}

/// Where what a batch or a scan changes stood before it, by row; empty while nobody listens.
#[derive(Default)]
pub(super) struct Former(Option<BTreeMap<RowKey, BytePath>>);

/// Paths of one state of base. Directories are looked up once each.
struct Paths<'a> {
    snapshot: &'a Snapshot,
    directories: BTreeMap<FileId, Option<Box<[u8]>>>,
}

impl<'a> Paths<'a> {
    const fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, directories: BTreeMap::new() }
    }

    /// `None` where the directory is not on disk under its name.
    fn of(&mut self, parent: FileId, local: &Name) -> Option<BytePath> {
        let snapshot = self.snapshot;
        let directory = self.directories.entry(parent).or_insert_with(|| directory_path(snapshot, parent));
        directory.as_ref().map(|directory| below(directory, local))
    }

    fn of_key(&mut self, key: &RowKey) -> Option<BytePath> {
        self.of(key.parent, &key.local)
    }
}

fn below(directory: &[u8], local: &Name) -> BytePath {
    let directory = (!directory.is_empty()).then_some(directory);
    let parts: Vec<&[u8]> = directory.into_iter().chain([local.as_bytes()]).collect();
    BytePath::from(parts.join(&b'/'))
}

/// The row that an action takes the place of or takes away, and under which key the user knew it: what is parked, by
/// its last place in the view.
fn former_of(action: &Action) -> Option<(&RowKey, RowKey)> {
    let (key, old) = match action {
        Action::Delete { key, old } | Action::RemoveDirectory { key, old } => (key, old),
        Action::Move { from, old, .. } => (from, old),
        Action::Create { .. }
        | Action::Replace { .. }
        | Action::SetMeta { .. }
        | Action::Park { .. }
        | Action::Note { .. } => return None,
    };
    let is_parked = key.parent == PARKED;
    let shown = RowKey { parent: old.view_parent, local: old.view_name.clone() };
    Some((key, if is_parked { shown } else { key.clone() }))
}

impl<P: Pool> Folder<P> {
    fn is_told(&self) -> bool {
        self.parts.listener.is_listening()
    }

    /// To be asked for before a batch.
    pub(super) fn former_paths(&self, jobs: &[Job]) -> Former {
        if !self.is_told() {
            return Former::default();
        }
        let mut paths = Paths::new(self.ledger.snapshot());
        let of = |job: &Job| former_of(&job.action).and_then(|(key, shown)| Some((key.clone(), paths.of_key(&shown)?)));
        Former(Some(jobs.iter().filter_map(of).collect()))
    }

    /// Tells what a batch did.
    pub(super) fn tell_of_batch<'a>(&self, former: &Former, done: impl Iterator<Item = (&'a Job, &'a Outcome)>) {
        let Some(former) = &former.0 else { return };
        let telling = self.parts.store.snapshot().and_then(|snapshot| {
            let mut paths = Paths::new(&snapshot);
            for (job, _) in done.filter(|(_, outcome)| matches!(outcome, Outcome::Done(_))) {
                self.tell_of_action(&job.action, former, &mut paths)?;
            }
            Ok(())
        });
        log_untold(telling);
    }

    fn tell_of_action(
        &self,
        action: &Action,
        former: &BTreeMap<RowKey, BytePath>,
        paths: &mut Paths<'_>,
    ) -> Result<(), StoreError> {
        let snapshot = paths.snapshot;
        // The change, where, where to, by whom, and under which name a conflict copy may have come to stand.
        let (change, path, to, author, named) = match action {
            Action::Create { key, entry } => {
                let author = match entry.content_op() {
                    Some(op) => Some(op.actor),
                    None => placer(snapshot, entry.id)?,
                };
                (Change::Created, paths.of_key(key), None, author, Some((entry.id, &entry.name)))
            }
            Action::Replace { key, entry, .. } => {
                (Change::Modified, paths.of_key(key), None, entry.content_op().map(|op| op.actor), None)
            }
            Action::SetMeta { key, entry, .. } => {
                let op = entry.meta_ops.last().copied().or_else(|| entry.content_op());
                (Change::Modified, paths.of_key(key), None, op.map(|op| op.actor), None)
            }
            Action::Move { from, to, old, at } => {
                let named = (!old.is_virtual()).then_some((old.id, &at.1));
                (Change::Moved, former.get(from).cloned(), paths.of_key(to), placer(snapshot, old.id)?, named)
            }
            Action::Delete { key, old } | Action::RemoveDirectory { key, old } => {
                (Change::Deleted, former.get(key).cloned(), None, deleter(snapshot, old)?, None)
            }
            Action::Park { .. } | Action::Note { .. } => return Ok(()),
        };
        let Some(path) = path else { return Ok(()) };
        let copy = match named {
            Some((id, name)) if natural_place(snapshot, id)?.is_none_or(|(_, _, natural)| natural != *name) => {
                Some(to.as_ref().unwrap_or(&path).clone())
            }
            _ => None,
        };
        let device_name = match author {
            Some(actor) if actor == self.parts.actor => None,
            Some(actor) => Some(snapshot.label(actor)?.map(|label| text(&label)).unwrap_or_default()),
            None => Some(String::new()),
        };
        self.parts.listener.tell(FolderEvent::Path { path, change, to, device_name });
        if let Some(copy) = copy {
            self.parts.listener.tell(FolderEvent::Conflict { copy });
        }
        Ok(())
    }

    /// To be asked for before what a scan found is written.
    pub(super) fn former_places(&self, snapshot: &Snapshot, findings: &Findings) -> Former {
        if !self.is_told() {
            return Former::default();
        }
        let mut paths = Paths::new(snapshot);
        let moved = findings.sightings.iter().filter(|sighting| sighting.from != sighting.key());
        let keys = moved.filter_map(|sighting| sighting.from.as_ref()).chain(&findings.gone);
        Former(Some(keys.filter_map(|key| Some((key.clone(), paths.of_key(key)?))).collect()))
    }

    /// Tells what a scan found of the user, when it is written. `before`: as it was when the scan looked.
    pub(super) fn tell_of_scan(&self, before: &Snapshot, former: &Former, found: &[Told], gone: &[RowKey]) {
        let Some(former) = &former.0 else { return };
        let tell = |path, change, to| {
            self.parts.listener.tell(FolderEvent::Path { path, change, to, device_name: None });
        };
        let telling = self.parts.store.snapshot().and_then(|now| {
            let mut paths = Paths::new(&now);
            let mut found_paths: Vec<Option<BytePath>> = Vec::with_capacity(found.len());
            for told in found {
                let path = match told.parent {
                    Parent::Known(parent) => paths.of(parent, &told.local),
                    Parent::New(at) => match found_paths.get(at) {
                        Some(Some(directory)) => Some(below(directory.as_bytes(), &told.local)),
                        _ => None,
                    },
                };
                found_paths.push(path.clone());
                let Some(path) = path else { continue };
                match &told.from {
                    None => tell(path, Change::Created, None),
                    Some(from) if told.key.as_ref() != Some(from) => {
                        if let Some(was) = former.get(from) {
                            tell(was.clone(), Change::Moved, Some(path));
                        }
                    }
                    Some(from) => {
                        if before.row(from)?.is_none_or(|row| told.is_change_of(&row)) {
                            tell(path, Change::Modified, None);
                        }
                    }
                }
            }
            Ok(())
        });
        log_untold(telling);
        for path in gone.iter().filter_map(|key| former.get(key)) {
            tell(path.clone(), Change::Deleted, None);
        }
    }

    /// What [`Self::tell_of_scan`] needs of findings, which the log takes; nothing while nobody listens.
    pub(super) fn to_tell(&self, former: &Former, findings: &Findings) -> (Vec<Told>, Vec<RowKey>) {
        if former.0.is_none() {
            return (Vec::new(), Vec::new());
        }
        (findings.sightings.iter().map(Told::of).collect(), findings.gone.iter().cloned().collect())
    }
}

/// What is told of a sighting.
pub(super) struct Told {
    parent: Parent,
    local: Name,
    key: Option<RowKey>,
    from: Option<RowKey>,
    /// Its kind, the hash of its content, its time and bit, as far as they were read.
    seen: Option<(Kind, zerocloud_crdt::id::ContentHash)>,
    print: zerocloud_crdt::base::Fingerprint,
}

impl Told {
    fn of(sighting: &Sighting) -> Self {
        let hash = match &sighting.seen {
            Seen::File { hash, .. } => Some(*hash),
            Seen::Symlink { target } => Some(zerocloud_crdt::id::ContentHash::of(target)),
            Seen::AsBefore | Seen::Directory => None,
        };
        Self {
            parent: sighting.parent,
            local: sighting.local.clone(),
            key: sighting.key(),
            from: sighting.from.clone(),
            seen: hash.map(|hash| (sighting.kind, hash)),
            print: sighting.print,
        }
    }

    /// Whether the user would say that something changed: a file system's new word on an inode is no change.
    fn is_change_of(&self, row: &BaseRow) -> bool {
        let Some((kind, hash)) = self.seen else { return false };
        let is_other = kind != row.kind || hash != row.hash;
        let is_touched = self.print.mtime != row.print.mtime || self.print.is_executable() != row.print.is_executable();
        is_other || (kind == Kind::File && is_touched)
    }
}

/// Who gave an item its place.
fn placer(snapshot: &Snapshot, id: FileId) -> Result<Option<ActorId>, StoreError> {
    Ok(natural_place(snapshot, id)?.map(|(op, ..)| op.actor))
}

/// Who took away what a row showed: the register is empty now, the log says who emptied it.
fn deleter(snapshot: &Snapshot, old: &BaseRow) -> Result<Option<ActorId>, StoreError> {
    let operations = snapshot.operations(Key { item: old.source, register: Register::Content })?;
    Ok(operations.last().map(|operation| operation.id.actor))
}

fn text(name: &Name) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

fn log_untold(telling: Result<(), StoreError>) {
    if let Err(error) = telling {
        tracing::debug!(%error, "what happened in a folder is not told");
    }
}

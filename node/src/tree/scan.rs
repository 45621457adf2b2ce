//! Runs a walk over a volume: lists and looks, opens nothing but directories. What has to be read is read by
//! [`read_findings`], part by part.

mod doubt;
mod ignored;
mod names;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use self::doubt::{Doubt, Lost, ends_in_zeros, is_untouched};
use self::ignored::{Judge, Standing};
pub use self::read::{
    LostFile, Previous, Read, ReadError, ReadFindings, read_content, read_doubted, read_findings, read_stored,
};
use super::handles::{Handles, InBase, Locate, OpenError, Step};
use super::ignoring::{Rules, RulesFault, RulesFile};
use super::marker::{Marker, MarkerError};
use super::{PARKED_PREFIX, TreeError, fingerprint, is_fatal, kind_of};
use crate::volume::{Kind, TMP, Volume, VolumeDirectory, VolumeError, VolumeErrorKind};
use zerocloud_crdt::base::{BaseRead, PARKED, RowKey};
use zerocloud_crdt::id::{FileId, SpaceId};
use zerocloud_crdt::limits::LINK_TARGET_LEN_MAX;
use zerocloud_crdt::mutated;
use zerocloud_crdt::name::{CONTROL, Name, NameError, escape};
use zerocloud_crdt::projection::NameRules;
use zerocloud_crdt::register;
use zerocloud_crdt::scan::{Findings, Listed, Parent, Sighting, Walk};

/// How far a scan goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The whole tree.
    Full,
    /// Some directories, and whatever in them is new or moved.
    Directories {
        /// These, each as a whole or only these names in it.
        directories: BTreeMap<FileId, Option<BTreeSet<Name>>>,
        /// Also all below what is moved: something changed there that was told under its new path.
        are_moved_whole: bool,
    },
    /// The whole tree, or only what earlier scans left off of it; no more of new directories than there is room for.
    Paced {
        /// The whole tree.
        is_full: bool,
        /// Directories that were left off.
        left: BTreeSet<FileId>,
        /// At how many sightings what is in new directories is left off.
        room: usize,
    },
}

/// What a scan found, not yet read.
#[derive(Debug, Default)]
pub struct Scanned {
    /// To be cut by `zerocloud_crdt::scan::batches` and read.
    pub findings: Findings,
    /// What could not be looked at, or is left out.
    pub problems: Vec<Problem>,
    /// The rules files that were looked at, by their directories; `None` where there is none.
    pub rules: BTreeMap<Parent, Option<Arc<RulesFile>>>,
    /// Of each directory that was listed, what is ignored in it and has no row.
    pub left_out: BTreeMap<Parent, BTreeSet<Name>>,
    /// The names that were looked at in directories that were not listed as a whole.
    pub names: BTreeMap<FileId, BTreeSet<Name>>,
    /// Rows that slept and whose file is gone, by no act that counts: they leave base without an operation.
    pub left: Vec<RowKey>,
    /// Directories that were not listed, for want of room.
    pub left_off: Vec<Parent>,
}

/// Something on disk that is not synced as it stands, or not seen: nothing of it counts as deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The names from the root down; raw bytes, because some are refused.
    pub path: Vec<Box<[u8]>>,
    /// Why.
    pub reason: Reason,
}

/// Why something is not synced, or only with a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No device could hold it.
    #[error("it is left out: {0}; rename it")]
    Name(NameError),
    /// A FIFO, socket or device.
    #[error("it is neither file, directory nor link, and is left out; move it elsewhere if that disturbs you")]
    Special,
    /// A mount point.
    #[error("another file system is mounted here, which is left out; make it a space of its own")]
    OtherFilesystem,
    /// Synced, as a file of its own.
    #[error(
        "the file has {count} names (hard links), which other devices will have as separate files; nothing is to be done"
    )]
    HardLinked {
        /// Its names.
        count: u64,
    },
    /// A directory whose list could not be had.
    #[error("the directory can't be listed: {0}")]
    Unlisted(VolumeErrorKind),
    /// A file, link or name that could not be looked at or read.
    #[error("it can't be read: {0}")]
    Unreadable(VolumeErrorKind),
    /// It kept changing while it was read.
    #[error("it changes while it is read; it will be tried again")]
    Unstable,
    /// It stood there no more, or as something else.
    #[error("it was replaced while the folder was scanned; it will be looked at again")]
    Replaced,
    /// Above what can be stored.
    #[error("it is too long to be synced; split it, or rename it if it is a link")]
    TooLong,
    /// A rules file of which something does not count.
    #[error("some of these ignore rules don't count: {0}")]
    Rules(RulesFault),
    /// A rules file above the number, or the length of all together, that counts.
    #[error("these ignore rules don't count: there are too many; put them into fewer and shorter files")]
    TooManyRules,
    /// It lost its bytes to a power loss.
    #[error(
        "a power loss took bytes of this file, which is not published as it is now; bring a version back with `zerocloud \
         restore`, save or touch it to publish what is there, or delete it"
    )]
    Lost,
    /// The keys of an epoch are missing.
    #[error("the keys that it would be named with are not known yet; connect with another device of the space")]
    NoKeys,
}

impl Reason {
    /// Whether base does not follow what is there because of it.
    pub const fn hides_what_is_there(self) -> bool {
        !matches!(self, Self::HardLinked { .. } | Self::Rules(_) | Self::TooManyRules)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", escape(&self.path.join(&b'/')), self.reason)
    }
}

/// Walks over the tree of `space`, as [`scan_under`] does with no rules in force.
///
/// # Errors
/// As [`scan_under`].
pub fn scan<B: BaseRead>(
    volume: &dyn Volume,
    base: &B,
    space: SpaceId,
    extent: &Extent,
) -> Result<Scanned, TreeError<B::Error>> {
    scan_under(volume, base, space, extent, &Rules::default(), &Doubt::default())
}

/// Walks over the tree of `space`. `in_force` are the ignore rules under which rows sleep; those that stand on the disk
/// decide what else is left out, and what wakes (see `ignored`). What is in `doubt` is sighted whatever it seems to be, and
/// is to be read by [`read_doubted`].
///
/// A row whose path can't be looked at (permissions, something mounted over it) is taken as unchanged: absence is not
/// deletion.
///
/// # Errors
/// [`TreeError::Marker`] if the folder is not that of `space`; [`TreeError::Volume`] if the root is gone or can't be
/// listed. Nothing that was found counts then.
pub fn scan_under<B: BaseRead>(
    volume: &dyn Volume,
    base: &B,
    space: SpaceId,
    extent: &Extent,
    in_force: &Rules,
    doubt: &Doubt,
) -> Result<Scanned, TreeError<B::Error>> {
    volume.check_root()?;
    let marker = Marker::read(volume)?;
    if marker.space != space {
        return Err(MarkerError::OtherSpace { found: marker.space }.into());
    }
    let mut whole = BTreeSet::new();
    loop {
        let mut walk = names::walk_of(base, extent, volume.name_rules(), &whole);
        let lister = list_all(volume, base, &mut walk, in_force, doubt)?;
        // A disk that was unmounted meanwhile leaves an empty directory behind.
        volume.check_root()?;
        if walk.short().is_empty() {
            return finish(walk, lister, volume.name_rules());
        }
        whole.extend(walk.short());
    }
}

/// Lists whatever a walk asks for.
fn list_all<'a, B: BaseRead>(
    volume: &dyn Volume,
    base: &'a B,
    walk: &mut Walk<'a, B>,
    in_force: &'a Rules,
    doubt: &'a Doubt,
) -> Result<Lister<'a, B>, TreeError<B::Error>> {
    let root = volume.root();
    let dev = root.stat_self()?.dev;
    let control = root.open_directory(CONTROL.as_bytes())?;
    let tmp = match super::found(control.open_directory(TMP))? {
        Some(tmp) => tmp,
        None => volume.control()?.tmp,
    };
    let judge = Judge::new(base, in_force, volume.name_rules());
    let handles = Handles::new(root, tmp);
    let mut lister = Lister { base, dev, handles, problems: Vec::new(), judge, doubt };
    while let Some(directory) = walk.next_directory().map_err(TreeError::Store)? {
        match lister.list(walk, directory)? {
            Listing::Complete { inode, entries } => walk.handle_listing(directory, inode, entries),
            Listing::Ambiguous => {
                walk.handle_ambiguous(directory);
                Ok(())
            }
            Listing::Missing => walk.handle_missing(directory),
            Listing::Failed => walk.handle_unlisted(directory),
        }
        .map_err(TreeError::Store)?;
    }
    Ok(lister)
}

/// What a walk that is over found.
fn finish<'a, B: BaseRead>(
    walk: Walk<'a, B>,
    lister: Lister<'a, B>,
    rules: NameRules,
) -> Result<Scanned, TreeError<B::Error>> {
    let (left_off, names) = (walk.left_off().map_err(TreeError::Store)?, walk.partly().clone());
    let (mut findings, _) = walk.finish().map_err(TreeError::Store)?;
    findings.names = rules;
    let left = lister.judge.take_sleeping(&mut findings)?;
    let Lister { judge: Judge { files: rules, left_out, .. }, problems, .. } = lister;
    Ok(Scanned { findings, problems, rules, left_out, names, left, left_off })
}

/// What became of the wish to list a directory.
enum Listing {
    /// All that is in it, or all of what is asked for.
    Complete {
        /// The directory's own inode.
        inode: u64,
        /// What is in it.
        entries: Vec<Listed>,
    },
    /// What is asked for is not enough.
    Ambiguous,
    /// It is not where base has it; the walk looks for it.
    Missing,
    /// It can't be listed, which was reported, or is ignored.
    Failed,
}

struct Lister<'a, B: BaseRead> {
    base: &'a B,
    dev: u64,
    handles: Handles,
    problems: Vec<Problem>,
    judge: Judge<'a, B>,
    doubt: &'a Doubt,
}

impl<B: BaseRead> Lister<'_, B> {
    fn list(&mut self, walk: &Walk<'_, B>, directory: Parent) -> Result<Listing, TreeError<B::Error>> {
        let locate = InWalk { walk, base: self.base };
        self.enter(&locate, directory)?;
        if self.judge.is_asleep(directory)? {
            return Ok(Listing::Failed);
        }
        // Where base has it and no more is known: what stands there may have come from elsewhere, or be gone.
        let is_guess = walk.sighting(directory).is_none()
            && !matches!(directory, Parent::Known(FileId::ROOT | PARKED) | Parent::New(_));
        let handle = match self.handles.open(&locate, directory) {
            Ok(handle) => handle,
            Err(OpenError::Store(error)) => return Err(TreeError::Store(error)),
            Err(OpenError::Volume(error)) if is_guess && is_absence(error.kind()) => return Ok(Listing::Missing),
            Err(OpenError::Volume(error)) => return self.unlisted(&locate, directory, error),
            Err(OpenError::NotAsNoted) if is_guess => return Ok(Listing::Missing),
            Err(OpenError::NotAsNoted) => {
                self.report(&locate, directory, None, Reason::Replaced)?;
                return Ok(Listing::Failed);
            }
        };
        if let Some(names) = walk.names(directory) {
            return self.look_at_names(&locate, directory, &*handle, names);
        }
        let (inode, entries) = match handle.stat_self().and_then(|stat| Ok((stat.ino, handle.list()?))) {
            Ok(listed) => listed,
            Err(error) => return self.unlisted(&locate, directory, error),
        };
        let mut listing = self.judge.sleepers_without_file(directory, &entries)?;
        for entry in entries {
            let is_ours = directory == Parent::Known(FileId::ROOT) && *entry.name == *CONTROL.as_bytes();
            let is_out = directory == Parent::Known(PARKED) && !entry.name.starts_with(PARKED_PREFIX);
            if !is_ours && !is_out {
                listing.extend(self.look(&locate, directory, &*handle, &entry.name)?);
            }
        }
        Ok(Listing::Complete { inode, entries: listing })
    }

    fn unlisted(
        &mut self,
        locate: &InWalk<'_, '_, B>,
        directory: Parent,
        error: VolumeError,
    ) -> Result<Listing, TreeError<B::Error>> {
        if is_fatal(error.kind()) || directory == Parent::Known(FileId::ROOT) {
            return Err(error.into());
        }
        self.report(locate, directory, None, Reason::Unlisted(error.kind()))?;
        if mutated!(UnlistedIsEmpty)
            && let Some(Step { inode, .. }) = locate.locate(directory).map_err(TreeError::Store)?
        {
            return Ok(Listing::Complete { inode, entries: Vec::new() });
        }
        Ok(Listing::Failed)
    }

    /// Looks at one name of a directory. `None` if there is nothing to be synced.
    fn look(
        &mut self,
        locate: &InWalk<'_, '_, B>,
        directory: Parent,
        handle: &dyn VolumeDirectory,
        name: &[u8],
    ) -> Result<Option<Listed>, TreeError<B::Error>> {
        let local = match Name::parse(name) {
            Ok(local) => local,
            Err(error) => {
                self.report(locate, directory, Some(name), Reason::Name(error))?;
                return Ok(None);
            }
        };
        let stat = match handle.stat(name) {
            Ok(stat) => stat,
            Err(error) if error.kind() == VolumeErrorKind::NotFound => return Ok(None),
            Err(error) if is_fatal(error.kind()) => return Err(error.into()),
            Err(error) => {
                self.report(locate, directory, Some(name), Reason::Unreadable(error.kind()))?;
                return self.as_before(directory, local);
            }
        };
        let kind = kind_of(stat.kind);
        match self.judge.standing(directory, &local, kind.unwrap_or(register::Kind::File))? {
            Standing::Counts => {}
            Standing::LeftOut => return Ok(None),
            Standing::Asleep => return self.as_before(directory, local),
        }
        if stat.dev != self.dev {
            self.report(locate, directory, Some(name), Reason::OtherFilesystem)?;
            return self.as_before(directory, local);
        }
        let Some(kind) = kind else {
            self.report(locate, directory, Some(name), Reason::Special)?;
            return Ok(None);
        };
        if stat.kind == Kind::Symlink && stat.size > LINK_TARGET_LEN_MAX as u64 {
            self.report(locate, directory, Some(name), Reason::TooLong)?;
            return self.as_before(directory, local);
        }
        if stat.kind == Kind::File && stat.link_count > 1 {
            self.report(locate, directory, Some(name), Reason::HardLinked { count: stat.link_count })?;
        }
        let print = fingerprint(&stat);
        let is_doubted = self.doubt.is_recent(kind, &print);
        Ok(Some(Listed { local, kind, print, links: stat.link_count, is_doubted }))
    }

    /// What base has at a path that can't be looked at.
    fn as_before(&self, directory: Parent, local: Name) -> Result<Option<Listed>, TreeError<B::Error>> {
        let Parent::Known(parent) = directory else { return Ok(None) };
        let key = RowKey { parent, local };
        let row = self.base.row(&key).map_err(TreeError::Store)?;
        Ok(row.map(|row| Listed { local: key.local, kind: row.kind, print: row.print, links: 1, is_doubted: false }))
    }

    fn report<L: Locate<Error = B::Error>>(
        &mut self,
        locate: &L,
        directory: Parent,
        name: Option<&[u8]>,
        reason: Reason,
    ) -> Result<(), TreeError<B::Error>> {
        let path = path_of(locate, directory, name).map_err(TreeError::Store)?;
        self.problems.push(Problem { path, reason });
        Ok(())
    }
}

/// Whether there is no directory at a path.
const fn is_absence(kind: VolumeErrorKind) -> bool {
    matches!(
        kind,
        VolumeErrorKind::NotFound
            | VolumeErrorKind::NotADirectory
            | VolumeErrorKind::IsALink
            | VolumeErrorKind::WrongKind
    )
}

/// The names that lead to a directory, and to `name` in it.
fn path_of<L: Locate>(locate: &L, directory: Parent, name: Option<&[u8]>) -> Result<Vec<Box<[u8]>>, L::Error> {
    let mut path: Vec<Box<[u8]>> = name.map(Into::into).into_iter().collect();
    let mut at = directory;
    // As deep as a walk goes: a cycle can't be told from a deep path.
    for _ in 0..zerocloud_crdt::limits::PATH_DEPTH_MAX {
        let Some(Step { parent, local, .. }) = locate.locate(at)? else { break };
        path.push(local.as_bytes().into());
        at = parent;
    }
    if at == Parent::Known(PARKED) {
        path.push(TMP.into());
        path.push(CONTROL.as_bytes().into());
    }
    path.reverse();
    Ok(path)
}

/// Directories where a walk found them.
struct InWalk<'w, 'a, B: BaseRead> {
    walk: &'w Walk<'a, B>,
    base: &'a B,
}

impl<B: BaseRead> Locate for InWalk<'_, '_, B> {
    type Error = B::Error;

    fn locate(&self, directory: Parent) -> Result<Option<Step>, B::Error> {
        match self.walk.sighting(directory) {
            Some(sighting) => Ok(Some(step_of(sighting))),
            None => InBase(self.base).locate(directory),
        }
    }
}

/// Directories where findings have them.
struct InFindings<'a, B> {
    sightings: &'a [Sighting],
    /// By the id of the row that they continue.
    known: BTreeMap<FileId, usize>,
    base: &'a B,
}

impl<'a, B: BaseRead> InFindings<'a, B> {
    fn new(findings: &'a Findings, base: &'a B) -> Result<Self, B::Error> {
        let mut known = BTreeMap::new();
        for (at, sighting) in findings.sightings.iter().enumerate() {
            if let (register::Kind::Directory, Some(from)) = (sighting.kind, &sighting.from)
                && let Some(row) = base.row(from)?
            {
                known.insert(row.id, at);
            }
        }
        Ok(Self { sightings: &findings.sightings, known, base })
    }
}

impl<B: BaseRead> Locate for InFindings<'_, B> {
    type Error = B::Error;

    fn locate(&self, directory: Parent) -> Result<Option<Step>, B::Error> {
        let at = match directory {
            Parent::New(at) => Some(at),
            Parent::Known(id) => self.known.get(&id).copied(),
        };
        match at.and_then(|at| self.sightings.get(at)) {
            Some(sighting) => Ok(Some(step_of(sighting))),
            None => InBase(self.base).locate(directory),
        }
    }
}

fn step_of(sighting: &Sighting) -> Step {
    Step { parent: sighting.parent, local: sighting.local.clone(), inode: sighting.print.inode }
}

/// The handles of a volume whose control directory is there.
fn handles_of(volume: &dyn Volume) -> Result<Handles, VolumeError> {
    let root: Arc<dyn VolumeDirectory> = volume.root();
    Ok(Handles::new(root, volume.control()?.tmp))
}

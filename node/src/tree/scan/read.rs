//! Reading what a scan found: bytes into hash, chunks and manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zerocloud_crdt::base::{BaseRead, BaseRow, Fingerprint, RowKey};
use zerocloud_crdt::chunk::{Chunker, Content, Namer};
use zerocloud_crdt::id::{ChunkId, ContentHash, EpochId, FileId};
use zerocloud_crdt::limits::LINK_TARGET_LEN_MAX;
use zerocloud_crdt::manifest::{Chunk, ManifestBuilder, Profile};
use zerocloud_crdt::mutated;
use zerocloud_crdt::register::Kind;
use zerocloud_crdt::scan::identity::must_be_read;
use zerocloud_crdt::scan::{Findings, Parent, Seen, Sighting};
use zerocloud_crdt::seal::ChunkKeys;

use super::super::handles::OpenError;
use super::super::reading::{read_hashed, read_whole};
use super::super::{Keyring, Pool, TreeError, fingerprint, is_fatal, kind_of};
use super::doubt::{Doubt, Lost, ends_in_zeros, is_untouched};
use super::{InFindings, Problem, Reason, handles_of, path_of};
use crate::engine::shelf::Contents;
use crate::volume::{Control, Volume, VolumeDirectory, VolumeError, VolumeErrorKind, VolumeFile};

/// How often a file that changes while it is read is begun anew.
const TRY_COUNT_MAX: usize = 3;
/// Epochs of the version before under which a chunk is looked for.
const OLDER_EPOCH_COUNT_MAX: usize = 2;

/// The version that a file's content replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// How it was cut: kept while the length stays near.
    pub profile: Profile,
    /// Epochs of its chunks, the newest first.
    pub epochs: Vec<EpochId>,
    /// Its chunks: what is among them keeps its name.
    pub known: BTreeSet<(EpochId, ChunkId)>,
}

/// What was read of a file or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// For the sighting.
    pub seen: Seen,
    /// The file's state, the same before and after it was read.
    pub print: Fingerprint,
    /// For the store.
    pub contents: Contents,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It changed each time while it was read.
    #[error("the file changes while it is read; it will be tried again")]
    Unstable,
    /// The keys of its profile's epoch, or of the epoch that is written under, are missing.
    #[error("the keys of an epoch are not known yet")]
    NoKeys,
    /// Longer than what a manifest can hold.
    #[error(transparent)]
    TooLong(#[from] zerocloud_crdt::manifest::ManifestError),
    /// The disk.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// Findings whose files have been read.
#[derive(Debug, Default)]
pub struct ReadFindings {
    /// To be diffed. What could not be read is not in it.
    pub findings: Findings,
    /// Where each sighting stood in the findings that were to be read.
    pub kept: Vec<usize>,
    /// What is to be stored, by index into `findings.sightings`.
    pub contents: BTreeMap<usize, Contents>,
    /// What could not be read, and is left for the next scan.
    pub problems: Vec<Problem>,
    /// Rows whose file took the place of another and could not be read there: if they are gone, that is to be told with
    /// what is there, or others delete what nobody can have from here yet.
    pub withheld: BTreeSet<RowKey>,
    /// What lost its bytes. It is in `findings` as one that was not read where only its place or mode is new.
    pub lost: Vec<LostFile>,
}

/// A file that was read and does not have its bytes any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostFile {
    /// Its row's.
    pub id: FileId,
    /// What is noted of it.
    pub lost: Lost,
}

/// Reads what a scan found, as [`read_doubted`] does where nothing is in doubt.
///
/// # Errors
/// As [`read_doubted`].
pub fn read_findings<B: BaseRead>(
    volume: &dyn Volume,
    base: &B,
    findings: Findings,
    keyring: &Keyring,
    previous: impl Fn(&BaseRow) -> Option<Previous>,
    pool: &impl Pool,
) -> Result<ReadFindings, TreeError<B::Error>> {
    read_doubted(volume, base, findings, keyring, previous, pool, &Doubt::default())
}

/// Reads whatever must be read of `findings` (a part of a scan, resolved) on the workers of `pool`, the longest files
/// first. `previous` tells of the version that base has at a row. What is in `doubt` is read too, and left out if it
/// lost its bytes.
///
/// # Errors
/// [`TreeError::Volume`] if the root is gone. What concerns one file is a problem, and its sighting left out.
pub fn read_doubted<B: BaseRead>(
    volume: &dyn Volume,
    base: &B,
    findings: Findings,
    keyring: &Keyring,
    previous: impl Fn(&BaseRow) -> Option<Previous>,
    pool: &impl Pool,
    doubt: &Doubt,
) -> Result<ReadFindings, TreeError<B::Error>> {
    volume.check_root()?;
    let locate = InFindings::new(&findings, base).map_err(TreeError::Store)?;
    let mut handles = handles_of(volume)?;
    let mut jobs: Vec<Job<'_>> = Vec::new();
    let mut outcomes: BTreeMap<usize, Result<Read, Reason>> = BTreeMap::new();
    let mut lost = Vec::new();
    let mut moved: BTreeMap<usize, Fingerprint> = BTreeMap::new();
    for (at, sighting) in findings.sightings.iter().enumerate() {
        let row = match &sighting.from {
            Some(from) => base.row(from).map_err(TreeError::Store)?,
            None => None,
        };
        let is_doubted =
            row.is_some() && sighting.seen == Seen::AsBefore && doubt.is_recent(sighting.kind, &sighting.print);
        if !is_doubted && !must_be_read(row.as_ref(), sighting.kind, &sighting.print, &sighting.seen) {
            continue;
        }
        if let Some(row) = &row
            && sighting.key() != sighting.from
        {
            moved.insert(at, row.print);
        }
        match handles.open(&locate, sighting.parent) {
            Ok(directory) => {
                let previous = row.as_ref().and_then(&previous);
                jobs.push(Job { at, sighting, directory, previous, row });
            }
            Err(OpenError::Store(error)) => return Err(TreeError::Store(error)),
            Err(OpenError::Volume(error)) if is_fatal(error.kind()) => return Err(error.into()),
            Err(OpenError::Volume(error)) => drop(outcomes.insert(at, Err(Reason::Unreadable(error.kind())))),
            Err(OpenError::NotAsNoted) => drop(outcomes.insert(at, Err(Reason::Replaced))),
        }
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.sighting.print.len));
    for (at, row, outcome) in pool.map(jobs, |job| {
        let outcome = read_job(&job, keyring, doubt);
        (job.at, job.row, outcome)
    }) {
        match outcome {
            Ok((read, is_lost)) if is_lost => {
                if let (Some(row), Some(sighting), Seen::File { hash, .. }) =
                    (row, findings.sightings.get(at), &read.seen)
                {
                    // A move or a mode counts all the same: a row that stayed behind would lose its place to another.
                    if !is_untouched(&row.print, &read.print) {
                        outcomes.insert(at, Err(Reason::Lost));
                    }
                    let local = sighting.local.as_bytes();
                    let path = path_of(&locate, sighting.parent, Some(local)).map_err(TreeError::Store)?.join(&b'/');
                    let (source, noted, path) = (row.source, row.print, path.into());
                    let lost_file = Lost { source, noted, print: read.print, hash: *hash, path };
                    lost.push(LostFile { id: row.id, lost: lost_file });
                }
            }
            Err(ReadError::Volume(error)) if is_fatal(error.kind()) => return Err(error.into()),
            outcome => drop(outcomes.insert(at, outcome.map(|(read, _)| read).map_err(reason_of))),
        }
    }
    let (mut problems, mut withheld) = (Vec::new(), BTreeSet::new());
    for (at, outcome) in &outcomes {
        if let (Err(reason), Some(sighting)) = (outcome, findings.sightings.get(*at))
            && *reason != Reason::Lost
        {
            let path = path_of(&locate, sighting.parent, Some(sighting.local.as_bytes())).map_err(TreeError::Store)?;
            problems.push(Problem { path, reason: *reason });
            withheld.extend(replacing(base, sighting).map_err(TreeError::Store)?);
        }
    }
    // What something else took the path of has no place to stay in.
    if !withheld.is_empty() {
        for key in findings.sightings.iter().filter_map(Sighting::key) {
            withheld.remove(&key);
        }
    }
    Ok(ReadFindings { lost, withheld, ..keep_read(findings, outcomes, &moved, problems) })
}

/// The rows of a file that took the place of another one.
fn replacing<B: BaseRead>(base: &B, sighting: &Sighting) -> Result<Vec<RowKey>, B::Error> {
    let replaced = match &sighting.from {
        Some(from) if !sighting.is_moved() => base.row(from)?,
        _ => None,
    };
    let mut rows = Vec::new();
    if replaced.is_some_and(|replaced| replaced.print.inode != sighting.print.inode) {
        for key in base.of_inode(sighting.print.inode)? {
            let is_it = base.row(&key)?.is_some_and(|row| row.print.birth == sighting.print.birth);
            rows.extend(is_it.then_some(key));
        }
    }
    Ok(rows)
}

/// Puts what was read into its sightings and leaves out what was not. What `moved` counts as moved all the same, with the
/// print that its row had, so that it is read another time: a row that stayed behind would lose its place to what took
/// its path.
fn keep_read(
    findings: Findings,
    mut outcomes: BTreeMap<usize, Result<Read, Reason>>,
    moved: &BTreeMap<usize, Fingerprint>,
    problems: Vec<Problem>,
) -> ReadFindings {
    let mut read = ReadFindings { problems, ..ReadFindings::default() };
    (read.findings.gone, read.findings.names) = (findings.gone, findings.names);
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, mut sighting) in findings.sightings.into_iter().enumerate() {
        let now = read.findings.sightings.len();
        match outcomes.remove(&at) {
            None => {}
            Some(Ok(Read { seen, print, contents })) => {
                (sighting.seen, sighting.print) = (seen, print);
                read.contents.insert(now, contents);
            }
            Some(Err(_)) if let Some(print) = moved.get(&at) => sighting.print = *print,
            Some(Err(_)) => {
                // What stands there is not known: the row of this path sleeps.
                if let Some(key) = sighting.key() {
                    if mutated!(UnreadIsDeleted) {
                        read.findings.gone.insert(key);
                    } else {
                        read.findings.gone.remove(&key);
                    }
                }
                continue;
            }
        }
        // Directories are never read, hence never left out.
        if let Parent::New(of) = sighting.parent {
            sighting.parent = places.get(&of).map_or(sighting.parent, |place| Parent::New(*place));
        }
        places.insert(at, now);
        read.kept.push(at);
        read.findings.sightings.push(sighting);
    }
    read
}

struct Job<'a> {
    at: usize,
    sighting: &'a Sighting,
    directory: Arc<dyn VolumeDirectory>,
    previous: Option<Previous>,
    row: Option<BaseRow>,
}

fn reason_of(error: ReadError) -> Reason {
    match error {
        ReadError::Unstable => Reason::Unstable,
        ReadError::NoKeys => Reason::NoKeys,
        ReadError::TooLong(_) => Reason::TooLong,
        ReadError::Volume(error) if is_replaced(error.kind()) => Reason::Replaced,
        ReadError::Volume(error) => Reason::Unreadable(error.kind()),
    }
}

const fn is_replaced(kind: VolumeErrorKind) -> bool {
    matches!(kind, VolumeErrorKind::NotFound | VolumeErrorKind::IsALink | VolumeErrorKind::WrongKind)
}

/// What was read, and whether the file lost its bytes.
fn read_job(job: &Job<'_>, keyring: &Keyring, doubt: &Doubt) -> Result<(Read, bool), ReadError> {
    let name = job.sighting.local.as_bytes();
    let (read, is_lost) = match job.sighting.kind {
        Kind::Symlink => (read_link(&*job.directory, name)?, false),
        Kind::File | Kind::Directory => {
            let file = job.directory.open_file(name)?;
            let read = read_content(&*file, job.previous.as_ref(), keyring)?;
            let is_lost = match (&job.row, &read.seen) {
                (Some(row), Seen::File { hash, .. }) => {
                    doubt.is_lost(row, *hash, &read.print, || ends_in_zeros(&*file, read.print.len))?
                }
                _ => false,
            };
            (read, is_lost)
        }
    };
    // Another file came to this path since it was listed: which row it continues is to be decided anew.
    if read.print.inode == job.sighting.print.inode { Ok((read, is_lost)) } else { Err(ReadError::Unstable) }
}

fn read_link(directory: &dyn VolumeDirectory, name: &[u8]) -> Result<Read, ReadError> {
    for _ in 0..TRY_COUNT_MAX {
        let before = directory.stat(name)?;
        let target = directory.read_link(name)?;
        if directory.stat(name)? == before && target.len() <= LINK_TARGET_LEN_MAX {
            let print = fingerprint(&before);
            return Ok(Read { seen: Seen::Symlink { target }, print, contents: Contents::default() });
        }
    }
    Err(ReadError::Unstable)
}

/// Reads a file's content and looks at it before and after; what changes meanwhile is begun anew, three times in all.
///
/// # Errors
/// [`ReadError`], as documented there.
pub fn read_content(file: &dyn VolumeFile, previous: Option<&Previous>, keyring: &Keyring) -> Result<Read, ReadError> {
    for _ in 0..TRY_COUNT_MAX {
        let before = file.stat()?;
        let (hash, len, profile, chunks) = cut(file, before.size, previous, keyring)?;
        if file.stat()? != before || len != before.size {
            continue;
        }
        let mut chunks = chunks;
        if mutated!(ReorderedManifest) {
            chunks.reverse();
        }
        let pages = keyring.pages(&keyring.epoch()).ok_or(ReadError::NoKeys)?;
        let (manifest, pages) =
            ManifestBuilder::build(profile, chunks.iter().copied(), |page| (pages.id(page), pages.epoch()))?;
        let seen = Seen::File { hash, manifest };
        return Ok(Read { seen, print: fingerprint(&before), contents: Contents { chunks, pages } });
    }
    Err(ReadError::Unstable)
}

type Cut = (ContentHash, u64, Profile, Vec<Chunk>);

fn cut(file: &dyn VolumeFile, len: u64, previous: Option<&Previous>, keyring: &Keyring) -> Result<Cut, ReadError> {
    let epoch = keyring.epoch();
    let profile = previous
        .map_or_else(|| Profile::of_new_file(len, epoch), |previous| previous.profile.of_next_version(len, epoch));
    let gear = keyring.gear(&profile.epoch).ok_or(ReadError::NoKeys)?;
    let keys = keyring.chunks(&epoch).ok_or(ReadError::NoKeys)?;
    let older = previous.map(|previous| older_keys(previous, keyring)).unwrap_or_default();
    let name = |plaintext: &[u8]| {
        let is_known = |chunk: &Chunk| previous.is_some_and(|known| known.known.contains(&(chunk.epoch, chunk.id)));
        let chunk = keys.chunk(plaintext);
        if older.is_empty() || is_known(&chunk) {
            return chunk;
        }
        older.iter().map(|keys| keys.chunk(plaintext)).find(is_known).unwrap_or(chunk)
    };
    if let Some(content) = read_whole(file, len)? {
        let Content { hash, len, chunks } = Content::of(&profile, gear, name, &content);
        return Ok((hash, len, profile, chunks));
    }
    let (mut chunker, mut namer) = (Chunker::new(profile.class, gear), Namer::new(name));
    let cut = |piece: &[u8]| Ok::<_, VolumeError>(chunker.update_lens(piece));
    let (hash, len) = read_hashed(file, len, cut, |piece, lens: Vec<usize>| namer.update(piece, &lens))?;
    Ok((hash, len, profile, namer.finish(&chunker.finish_lens())))
}

/// The keys under which chunks of the version before may be named, apart from those that are written under.
fn older_keys<'k>(previous: &Previous, keyring: &'k Keyring) -> Vec<&'k ChunkKeys> {
    let epochs = previous.epochs.iter().take(OLDER_EPOCH_COUNT_MAX);
    epochs.filter(|epoch| **epoch != keyring.epoch()).filter_map(|epoch| keyring.chunks(epoch)).collect()
}

/// Reads a displaced file or a version, so that it can be published.
///
/// # Errors
/// [`ReadError`], as documented there; `NotFound` if nothing is stored under this name.
pub fn read_stored(
    control: &Control,
    stored: &str,
    previous: Option<&Previous>,
    keyring: &Keyring,
) -> Result<Read, ReadError> {
    let (directory, stat) = super::super::versions::find(control, stored)?;
    match kind_of(stat.kind) {
        Some(Kind::Symlink) => read_link(&*directory, stored.as_bytes()),
        _ => read_content(&*directory.open_file(stored.as_bytes())?, previous, keyring),
    }
}

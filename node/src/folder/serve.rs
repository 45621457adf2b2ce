//! Answers members' requests for chunks from this folder's files.
//!
//! Which file has the bytes is looked up here, in the rows of this space alone; reading and checking them is
//! [`crate::tree::serve`]'s, sealing `zerocloud_crdt::seal`'s.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::register::Content;
use zerocloud_crdt::seal::{Compression, Named, Sealer, Suite};
use zerocloud_crdt::wire::{Ask, What, Whereabouts};

use super::Message;
use super::arriving::Arrivals;
use crate::clock::{Clock, Moment, SystemClock};
use crate::engine::fetch::Lack;
use crate::random::system_rng;
use crate::session::chunks::ChunkSource;
use crate::store::{Snapshot, SpaceStore, StoreError};
use crate::tree::Keyring;
use crate::tree::serve::{Answer, ChunkReader, Source};
use crate::volume::{LinuxVolume, Volume, VolumeError};

/// How long a reader keeps directories open: long enough for a run of requests, too short to be in anybody's way.
const READER_AGE_MAX: Duration = Duration::from_secs(2);
/// Readers that wait for the next request.
const READER_COUNT_MAX: usize = 8;

/// Files that wait to be scanned because a peer asked for them in vain. More are found when they are asked for again.
const SUSPECT_COUNT_MAX: usize = 1_000;

/// Opens the folder anew: a handle from before a disk was unmounted would not see the one that came after it.
pub type OpenVolume = Box<dyn Fn() -> Result<Arc<dyn Volume>, VolumeError> + Send + Sync>;

/// The chunks of one space's folder.
pub struct FolderChunks {
    store: Arc<SpaceStore>,
    open: OpenVolume,
    clock: Arc<dyn Clock>,
    keyring: Arc<Keyring>,
    suite: Suite,
    folder: mpsc::Sender<Message>,
    /// What is on its way to the folder. Also held by the folder.
    arrivals: Arc<Arrivals>,
    /// Bytes of sealed chunks that were given. Also held by who tells of it.
    sent_len: Arc<AtomicU64>,
    /// What the folder was told of and has not looked at yet. Also held by the folder's mail.
    suspects: Arc<Suspects>,
    idle: Mutex<Vec<Server>>,
}

/// What serves one request after the other.
struct Server {
    made: Moment,
    reader: ChunkReader,
    sealer: Sealer,
    rng: ChaCha20Rng,
}

/// Files that peers asked for and that are not as base has them. However much peers ask, one message with at most
/// 1,000 of them waits for the folder.
#[derive(Debug, Default)]
pub struct Suspects(Mutex<BTreeSet<FileId>>);

impl Suspects {
    /// Adds a file; says whether the folder is to be told, because nothing was waiting before.
    fn insert(&self, file: FileId) -> bool {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = files.is_empty();
        if files.len() < SUSPECT_COUNT_MAX {
            files.insert(file);
        }
        is_first
    }

    /// All that wait, which are the folder's from now on.
    pub fn take(&self) -> BTreeSet<FileId> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where a chunk's plaintext may lie, likeliest first.
enum Place {
    Row(RowKey),
    Stored(String),
}

impl FolderChunks {
    /// Serves the folder at `path`. `folder` is told of files that are not as base has them.
    pub fn new(
        store: Arc<SpaceStore>,
        path: PathBuf,
        keyring: Arc<Keyring>,
        suite: Suite,
        folder: mpsc::Sender<Message>,
        arrivals: Arc<Arrivals>,
    ) -> Self {
        let open = move || Ok(Arc::new(LinuxVolume::open(&path)?) as Arc<dyn Volume>);
        Self::over(store, Box::new(open), Arc::new(SystemClock::new()), keyring, suite, folder, arrivals)
    }

    /// As [`new`](Self::new), over a volume and a clock of any kind.
    pub fn over(
        store: Arc<SpaceStore>,
        open: OpenVolume,
        clock: Arc<dyn Clock>,
        keyring: Arc<Keyring>,
        suite: Suite,
        folder: mpsc::Sender<Message>,
        arrivals: Arc<Arrivals>,
    ) -> Self {
        let (sent_len, suspects) = (Arc::default(), Arc::default());
        let idle = Mutex::default();
        Self { store, open, clock, keyring, suite, folder, arrivals, sent_len, suspects, idle }
    }

    /// Bytes of sealed chunks that members were given since the start, as it grows.
    pub fn sent_len(&self) -> Arc<AtomicU64> {
        self.sent_len.clone()
    }

    fn server(&self) -> Option<Server> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        idle.retain(|server| now.since(server.made) < READER_AGE_MAX);
        if let Some(server) = idle.pop() {
            return Some(server);
        }
        drop(idle);
        let volume = (self.open)().ok()?;
        let reader = ChunkReader::new(&*volume).ok()?;
        let sealer = Sealer::new(self.suite, Compression::ON);
        Some(Server { made: now, reader, sealer, rng: system_rng().ok()? })
    }

    /// The plaintext of what is asked for. Takes a `server` if it looks on the disk.
    fn find(
        &self,
        snapshot: &Snapshot,
        ask: &Ask,
        server: &mut Option<Server>,
    ) -> Result<Result<Named<'_>, Lack>, StoreError> {
        if ask.what == What::Page {
            let Some(page) = snapshot.page(ask.id)? else { return Ok(Err(Lack::Missing)) };
            let Some(keys) = self.keyring.pages(&ask.epoch) else { return Ok(Err(Lack::NotNow)) };
            return Ok(keys.check(&ask.id, page).ok_or(Lack::Missing));
        }
        let Some(at) = ask.at else { return Ok(Err(Lack::Missing)) };
        let chunk = Chunk { id: ask.id, epoch: ask.epoch, len: at.len };
        let mut places = Places::new(snapshot, &at)?;
        let mut may_come = false;
        while let Some(place) = places.next()? {
            // What no row and no version of this space has is not looked for on the disk.
            let Some(server) = self.server_of(server) else { return Ok(Err(Lack::NotNow)) };
            let source = match &place {
                Place::Row(key) => Source::Row(key),
                Place::Stored(stored) => Source::Stored(stored),
            };
            match server.reader.read(snapshot, source, at.offset, &chunk, &self.keyring) {
                Ok(Answer::Chunk(named)) => return Ok(Ok(named)),
                // No scan brings back what the version store should have and does not.
                Ok(Answer::Missing) => may_come |= matches!(place, Place::Row(_)),
                Err(error) => {
                    may_come = true;
                    tracing::debug!(space = %self.store.space(), %error, "a chunk could not be read");
                }
            }
        }
        if let Some(arriving) = self.find_arriving(snapshot, &at, &chunk)? {
            return Ok(arriving);
        }
        if places.is_empty {
            return Ok(Err(Lack::Missing));
        }
        tracing::debug!(space = %self.store.space(), chunk = ?ask.id, "a chunk that was asked for is not here");
        self.report(at.file);
        Ok(Err(if may_come { Lack::NotNow } else { Lack::Missing }))
    }

    /// What is asked for, if it is a part of a file that is on its way.
    fn find_arriving(
        &self,
        snapshot: &Snapshot,
        at: &Whereabouts,
        chunk: &Chunk,
    ) -> Result<Option<Result<Named<'_>, Lack>>, StoreError> {
        if self.arrivals.is_empty() {
            return Ok(None);
        }
        let item = snapshot.item(at.file)?;
        let Some(Content::File(file)) = item.as_ref().and_then(|item| item.content.get(&at.op)) else {
            return Ok(None);
        };
        Ok(self.arrivals.find(file.hash, (at.ordinal, at.offset), chunk, &self.keyring))
    }

    /// The file may have changed since the scan: a new one finds out.
    fn report(&self, file: FileId) {
        if self.suspects.insert(file) {
            drop(self.folder.send(Message::Changed(self.suspects.clone())));
        }
    }

    /// The server that was taken, or one that is taken now.
    fn server_of<'s>(&self, taken: &'s mut Option<Server>) -> Option<&'s mut Server> {
        if taken.is_none() {
            *taken = self.server();
        }
        taken.as_mut()
    }

    fn rest(&self, server: Server) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READER_COUNT_MAX {
            idle.push(server);
        }
    }
}

impl ChunkSource for FolderChunks {
    fn seal(&self, asks: &[Ask], give: &mut dyn FnMut(Result<Vec<u8>, Lack>) -> ControlFlow<()>) {
        let snapshot = self.store.snapshot();
        let mut taken = None;
        for ask in asks {
            let found = match &snapshot {
                Ok(snapshot) => self.find(snapshot, ask, &mut taken).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let found = found.unwrap_or_else(|error| {
                tracing::warn!(space = %self.store.space(), error, "a chunk could not be looked up");
                Err(Lack::NotNow)
            });
            let sealed = found.and_then(|named| {
                let server = self.server_of(&mut taken).ok_or(Lack::NotNow)?;
                server.sealer.seal(&named, &mut server.rng).map_err(|_| Lack::NotNow)
            });
            let len = sealed.as_ref().map_or(0, Vec::len) as u64;
            self.sent_len.fetch_add(len, Ordering::Relaxed);
            if give(sealed).is_break() {
                break;
            }
        }
        if let Some(server) = taken {
            self.rest(server);
        }
    }
}

/// Where the bytes of a version may lie: at rows that show it, in the version store, at files of the same content. The
/// first is nearly always right, so the others are looked up when it was not.
struct Places<'s> {
    snapshot: &'s Snapshot,
    at: &'s Whereabouts,
    found: VecDeque<Place>,
    hashes: BTreeSet<ContentHash>,
    has_others: bool,
    /// Whether there was none.
    is_empty: bool,
}

impl<'s> Places<'s> {
    fn new(snapshot: &'s Snapshot, at: &'s Whereabouts) -> Result<Self, StoreError> {
        let (mut found, mut hashes) = (VecDeque::new(), BTreeSet::new());
        for (_, key) in snapshot.of_source(at.file)? {
            if let Some(row) = snapshot.row(&key)?
                && row.content_ops.contains(&at.op)
            {
                hashes.insert(row.hash);
                found.push_back(Place::Row(key));
            }
        }
        Ok(Self { snapshot, at, found, hashes, has_others: true, is_empty: true })
    }

    fn next(&mut self) -> Result<Option<Place>, StoreError> {
        if self.found.is_empty() && std::mem::take(&mut self.has_others) {
            self.look_for_others()?;
        }
        let next = self.found.pop_front();
        self.is_empty &= next.is_none();
        Ok(next)
    }

    fn look_for_others(&mut self) -> Result<(), StoreError> {
        let Self { snapshot, at, .. } = *self;
        if let Some(item) = snapshot.item(at.file)?
            && let Some(Content::File(file)) = item.content.get(&at.op)
        {
            self.hashes.insert(file.hash);
        }
        for version in snapshot.versions(at.file)? {
            if version.origin.as_ref().is_some_and(|(_, row)| row.content_ops.contains(&at.op)) {
                self.found.push_back(Place::Stored(version.stored));
            }
        }
        for hash in &self.hashes {
            self.found.extend(snapshot.by_hash(*hash)?.into_iter().map(|(key, _)| Place::Row(key)));
            let versions = snapshot.versions_by_hash(*hash)?.into_iter();
            self.found.extend(versions.map(|version| Place::Stored(version.stored)));
        }
        Ok(())
    }
}

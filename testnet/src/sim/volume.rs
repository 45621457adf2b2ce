//! The simulated twin of a space's files: in memory, deterministic, with a clock that is handed in, a size, faults and
//! a person who works behind the node's back.
//!
//! **Crashes.** A live image is what everyone sees; a durable one is what a power loss leaves. `sync_all` copies all,
//! `sync` of a file its bytes (not its name), `sync` of a directory all names (not the bytes: a file never synced
//! itself comes back as zeros, and if it was synced before, with its old bytes). After
//! [`crash_after`](SimVolume::crash_after) the node's calls fail with `Crashed` until
//! [`restart`](SimVolume::restart), which says what was lost; handles from before never work again.

mod copy;
mod handles;
mod image;
mod interruption;
mod person;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zerocloud::clock::Clock;
use zerocloud::volume::{
    At, Control, FileTime, FilesystemId, FreeSpace, TMP, VERSIONS, Volume, VolumeDirectory, VolumeError,
    VolumeErrorKind, check_name,
};
use zerocloud::watch::{Change, Hint};
use zerocloud_crdt::name::CONTROL;
use zerocloud_crdt::projection::NameRules;

use self::handles::SimDirectory;
pub use self::image::folded;
use self::image::{Image, Ino, ROOT};
pub use self::interruption::Before;
use self::interruption::Interruption;
pub use self::person::{SimPerson, TreeEntry};

/// A simulated disk with the root of one space on it. Clones are the same disk.
#[derive(Clone)]
pub struct SimVolume {
    /// Shared with handles and the person. Held for one call.
    disk: Arc<Mutex<Disk>>,
    supports_exchange: bool,
    /// The mounting that was opened; `None` for whatever is mounted.
    mount: Option<u64>,
}

/// Who makes a call: which process, through which mounting of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    process: u64,
    mount: u64,
}

/// What a stop of the simulated process takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process was killed; the kernel goes on: nothing is lost.
    Killed,
    /// Power was lost: what was not synced is gone, the person's own work too.
    PowerLoss,
}

struct Disk {
    live: Image,
    durable: Image,
    clock: Arc<dyn Clock>,
    last_time: FileTime,
    /// How often anything was changed.
    change_count: u64,
    /// Calls that still succeed; `None` for no end.
    calls_left: Option<u64>,
    call_count: u64,
    /// Above so many calls the node goes round in circles.
    call_count_max: u64,
    /// Handles of an earlier process are void.
    process: u64,
    is_root_gone: bool,
    /// Which file system it is.
    filesystem: u64,
    /// How often the disk was mounted or unmounted.
    mount: u64,
    /// The disk, live and durable, while it is not mounted and the directory that it was mounted on is seen.
    unmounted: Option<Box<(Image, Image)>>,
    /// Of which nothing can be read or listed.
    unreadable: BTreeSet<Ino>,
    /// What happens before a call of the node.
    interruption: Option<Interruption>,
    changes: Vec<Change>,
    /// Nanoseconds between two times that the file system can tell apart.
    granularity_ns: i64,
}

const UMASK: u32 = 0o022;
/// The file system of a disk that is no copy.
const FILESYSTEM: u64 = 42;

impl SimVolume {
    /// An empty disk of `capacity` bytes.
    pub fn new(clock: Arc<dyn Clock>, capacity: u64) -> Self {
        let disk = Disk::new(Image::new(FileTime::default(), capacity), clock);
        Self { disk: Arc::new(Mutex::new(disk)), supports_exchange: true, mount: None }
    }

    /// The same disk through a file system that can neither exchange names nor, in one call, refuse to replace.
    pub fn without_exchange(self) -> Self {
        Self { supports_exchange: false, ..self }
    }

    /// The same disk with a file system that knows so coarse times only. Where times are as fine as can be (1 ns, as in the
    /// beginning), no two changes have the same.
    pub fn with_granularity(self, granularity: Duration) -> Self {
        self.lock().granularity_ns = i64::try_from(granularity.as_nanos()).unwrap_or(i64::MAX).max(1);
        self
    }

    /// The same disk with a file system for which names are one that differ in case or Unicode form alone.
    pub fn folding_names(self) -> Self {
        let mut disk = self.lock();
        (disk.live.folds_names, disk.durable.folds_names) = (true, true);
        drop(disk);
        self
    }

    /// The same disk with a file system that keeps no permission bits: every file shows these.
    pub fn with_fixed_mode(self, mode: u32) -> Self {
        let mut disk = self.lock();
        (disk.live.fixed_mode, disk.durable.fixed_mode) = (Some(mode), Some(mode));
        drop(disk);
        self
    }

    /// What is mounted now, opened: it is gone when the disk is unmounted, or mounted again.
    #[must_use]
    pub fn opened(&self) -> Self {
        Self { mount: Some(self.lock().mount), ..self.clone() }
    }

    /// Unmounts the disk, which leaves the empty directory that it was mounted on, or mounts it again.
    pub fn set_mounted(&self, is_mounted: bool) {
        let mut disk = self.lock();
        if disk.unmounted.is_none() == is_mounted {
            return;
        }
        disk.mount += 1;
        disk.changes.clear();
        match disk.unmounted.take() {
            Some(images) => (disk.live, disk.durable) = *images,
            None => {
                let mut images = (disk.live.clone(), disk.live.clone());
                images.1.collect();
                let empty = Image::new(FileTime::default(), disk.live.capacity);
                (disk.live, disk.durable) = (empty.clone(), empty);
                disk.unmounted = Some(Box::new(images));
            }
        }
    }

    /// Whether the disk is mounted.
    pub fn is_mounted(&self) -> bool {
        self.lock().unmounted.is_none()
    }

    /// Has something happen before one of the node's next calls of a kind, after so many others; in place of what was to
    /// happen.
    pub fn interrupt_after(&self, call_count: u64, before: Before, act: impl FnOnce(&[u8]) + Send + 'static) {
        self.lock().interruption = Some(Interruption::new(before, call_count, act));
    }

    /// Nothing is to happen between calls any more.
    pub fn clear_interruption(&self) {
        self.lock().interruption = None;
    }

    /// Makes everything readable again.
    pub fn clear_unreadable(&self) {
        self.lock().unreadable.clear();
    }

    fn session(&self) -> Session {
        let disk = self.lock();
        Session { process: disk.process, mount: self.mount.unwrap_or(disk.mount) }
    }

    /// One call of the node that is about no name.
    fn call<T>(
        &self,
        verb: &'static str,
        act: impl FnOnce(&mut Disk) -> Result<T, VolumeErrorKind>,
    ) -> Result<T, VolumeError> {
        call(&self.disk, self.session(), verb, b"", act)
    }

    /// Who works with these files.
    pub fn person(&self) -> SimPerson {
        SimPerson::new(self.disk.clone())
    }

    /// Lets `call_count` more calls of the node succeed; all after them fail with `Crashed`, without effect.
    pub fn crash_after(&self, call_count: u64) {
        self.lock().calls_left = Some(call_count);
    }

    /// Counts a call that the same process makes to something else: whether it still runs.
    pub fn count_call(&self) -> bool {
        let mut disk = self.lock();
        if disk.calls_left == Some(0) {
            return false;
        }
        disk.call_count += 1;
        disk.calls_left = disk.calls_left.map(|left| left - 1);
        true
    }

    /// Has a call panic after so many others: nothing that a node does in one go takes as many.
    ///
    /// # Panics
    /// Not here: there.
    pub fn end_after(&self, call_count: u64) {
        let mut disk = self.lock();
        disk.call_count_max = disk.call_count.saturating_add(call_count);
    }

    /// Whether the process came to its end: no call succeeds before it is started again.
    pub fn has_crashed(&self) -> bool {
        self.lock().calls_left == Some(0)
    }

    /// How many calls the node has made: a scenario crashes a second run at each of them.
    pub fn call_count(&self) -> u64 {
        self.lock().call_count
    }

    /// How often anything was changed on the disk, by whom ever, or tried to be: while it is the same, so is the tree.
    pub fn change_count(&self) -> u64 {
        self.lock().change_count
    }

    /// Starts the process again. Handles from before stay dead.
    pub fn restart(&self, crash: Crash) {
        let mut disk = self.lock();
        if crash == Crash::PowerLoss {
            let last = disk.live.last_number();
            disk.live = disk.durable.clone();
            disk.live.skip_numbers(last);
        }
        disk.live.collect();
        disk.calls_left = None;
        disk.process += 1;
        disk.changes.clear();
    }

    /// The kernel's journal writes all names, as it does every few seconds, and none of the bytes that it still has.
    pub fn commit_names(&self) {
        let mut disk = self.lock();
        let Disk { live, durable, .. } = &mut *disk;
        durable.copy_names(live);
    }

    /// Changes how much fits on the disk, in bytes; what is there stays.
    pub fn set_capacity(&self, capacity: u64) {
        let mut disk = self.lock();
        disk.live.capacity = capacity;
        disk.durable.capacity = capacity;
    }

    /// Takes the root away as an unmounted disk does, or brings it back.
    pub fn set_root_gone(&self, is_gone: bool) {
        self.lock().is_root_gone = is_gone;
    }

    /// What a watcher would have told since the last call, in order. Nothing of our own directory.
    pub fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.lock().changes)
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    fn own<'a>(&self, at: At<'a>, verb: &'static str) -> Result<&'a SimDirectory, VolumeError> {
        check_name(verb, at.name)?;
        let own = at.directory.as_any().downcast_ref::<SimDirectory>();
        own.filter(|directory| directory.is_of(&self.disk))
            .ok_or_else(|| VolumeError::new(VolumeErrorKind::CrossDevice, verb, at.name))
    }

    fn rename(&self, from: At<'_>, to: At<'_>, verb: &'static str) -> Result<(), VolumeError> {
        let (source, target) = (self.own(from, verb)?, self.own(to, verb)?);
        target.check_same_session(source, verb, to.name)?;
        // What is put out of the way is told by the name that it has in the tree.
        let name = if verb == "park" { from.name } else { to.name };
        target.call(verb, name, |disk| {
            let now = disk.tick();
            let ino = disk.live.rename((source.ino(), from.name), (target.ino(), to.name), now)?;
            disk.note_rename(source.ino(), from.name, target.ino(), to.name, ino);
            Ok(())
        })
    }
}

/// One call of the node: counted, refused after a crash.
fn call<T>(
    disk: &Mutex<Disk>,
    session: Session,
    verb: &'static str,
    name: &[u8],
    act: impl FnOnce(&mut Disk) -> Result<T, VolumeErrorKind>,
) -> Result<T, VolumeError> {
    // Not while the disk is held: whoever interrupts uses it.
    let interruption = lock(disk).take_interruption(verb);
    if let Some(interruption) = interruption {
        interruption.happen(name);
    }
    let mut disk = lock(disk);
    let outcome = disk.begin(session).and_then(|()| act(&mut disk));
    outcome.map_err(|kind| VolumeError::new(kind, verb, name))
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// A disk on which this stands, and is synced.
    fn new(image: Image, clock: Arc<dyn Clock>) -> Self {
        Self {
            live: image.clone(),
            durable: image,
            clock,
            last_time: FileTime::default(),
            change_count: 0,
            calls_left: None,
            call_count: 0,
            call_count_max: u64::MAX,
            process: 0,
            is_root_gone: false,
            filesystem: FILESYSTEM,
            mount: 0,
            unmounted: None,
            unreadable: BTreeSet::new(),
            interruption: None,
            changes: Vec::new(),
            granularity_ns: 1,
        }
    }

    /// Counts one call of the node, and says whether its process still runs.
    fn begin(&mut self, session: Session) -> Result<(), VolumeErrorKind> {
        if session.process != self.process || self.calls_left == Some(0) {
            return Err(VolumeErrorKind::Crashed);
        }
        if self.is_root_gone || session.mount != self.mount {
            return Err(VolumeErrorKind::Gone);
        }
        self.call_count += 1;
        let (count, max) = (self.call_count, self.call_count_max);
        assert!(count <= max, "calls to the disk without end: {count} in all");
        self.calls_left = self.calls_left.map(|left| left - 1);
        Ok(())
    }

    fn take_interruption(&mut self, verb: &str) -> Option<Interruption> {
        if self.interruption.as_mut()?.is_due(verb) { self.interruption.take() } else { None }
    }

    /// Whether an inode can be read or listed.
    fn check_readable(&self, ino: Ino) -> Result<(), VolumeErrorKind> {
        if !self.unreadable.contains(&ino) {
            return Ok(());
        }
        // A disk that fails and rights that are missing, both in one, so that every run meets both.
        Err(if ino.is_multiple_of(2) { VolumeErrorKind::Io } else { VolumeErrorKind::PermissionDenied })
    }

    /// The time of a change: the clock's, as far as the file system can tell it; where that is to the nanosecond, later
    /// than that of any other change.
    fn tick(&mut self) -> FileTime {
        self.change_count += 1;
        let wall = self.clock.wall_time().0;
        let seconds = wall.div_euclid(1_000_000_000);
        let nanoseconds = u32::try_from(wall.rem_euclid(1_000_000_000)).unwrap_or(0);
        if self.granularity_ns > 1 {
            return self.rounded(FileTime { seconds, nanoseconds });
        }
        let mut next = self.last_time;
        next.nanoseconds += 1;
        if next.nanoseconds == 1_000_000_000 {
            next = FileTime { seconds: next.seconds + 1, nanoseconds: 0 };
        }
        self.last_time = next.max(FileTime { seconds, nanoseconds });
        self.last_time
    }

    /// A time as the file system can keep it.
    fn rounded(&self, time: FileTime) -> FileTime {
        let at = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
        let at = at - at.rem_euclid(i128::from(self.granularity_ns));
        let seconds = i64::try_from(at.div_euclid(1_000_000_000)).unwrap_or(time.seconds);
        FileTime { seconds, nanoseconds: u32::try_from(at.rem_euclid(1_000_000_000)).unwrap_or(0) }
    }

    /// Notes for the watcher that something happened to `name` in `directory`.
    fn note(&mut self, directory: Ino, name: &[u8], hint: Hint, is_directory: bool) {
        let Some(mut path) = self.live.path(directory) else { return };
        path.push(name.into());
        if path.first().is_some_and(|first| &**first == CONTROL.as_bytes()) {
            return;
        }
        self.changes.push(Change { path: path.join(&b'/').into(), hint, is_directory });
    }

    /// Notes for the watcher that something happened to an inode, if it still has a name.
    fn note_inode(&mut self, ino: Ino, hint: Hint) {
        let places = self.live.inode(ino).map(|inode| inode.places.clone()).unwrap_or_default();
        if let Some((directory, name)) = places.first() {
            let directory = *directory;
            self.note(directory, name, hint, self.live.names(ino).is_ok());
        }
    }

    fn note_rename(&mut self, source: Ino, from: &[u8], target: Ino, to: &[u8], ino: Ino) {
        let is_directory = self.live.names(ino).is_ok();
        self.note(source, from, Hint::RenamedAway, is_directory);
        self.note(target, to, Hint::RenamedHere, is_directory);
    }
}

impl Volume for SimVolume {
    fn root(&self) -> Arc<dyn VolumeDirectory> {
        Arc::new(SimDirectory::new(self.disk.clone(), self.session(), ROOT, false))
    }

    fn control(&self) -> Result<Control, VolumeError> {
        let root = SimDirectory::new(self.disk.clone(), self.session(), ROOT, false);
        let directory = root.make_control(CONTROL.as_bytes())?;
        let tmp = directory.make_control(TMP)?;
        let versions = directory.make_control(VERSIONS)?;
        Ok(Control { directory: Arc::new(directory), tmp: Arc::new(tmp), versions: Arc::new(versions) })
    }

    fn check_root(&self) -> Result<(), VolumeError> {
        self.call("find the folder", |_| Ok(()))
    }

    fn supports_exchange(&self) -> Result<bool, VolumeError> {
        Ok(self.supports_exchange)
    }

    fn exchange(&self, a: At<'_>, b: At<'_>) -> Result<(), VolumeError> {
        let verb = "exchange";
        let (first, second) = (self.own(a, verb)?, self.own(b, verb)?);
        second.check_same_session(first, verb, b.name)?;
        if !self.supports_exchange {
            return Err(VolumeError::new(VolumeErrorKind::Unsupported, verb, b.name));
        }
        second.call(verb, b.name, |disk| {
            let now = disk.tick();
            disk.live.exchange((first.ino(), a.name), (second.ino(), b.name), now)?;
            for (directory, name) in [(first.ino(), a.name), (second.ino(), b.name)] {
                let is_directory = disk.live.child(directory, name).is_ok_and(|ino| disk.live.names(ino).is_ok());
                disk.note(directory, name, Hint::RenamedHere, is_directory);
            }
            Ok(())
        })
    }

    fn rename_noreplace(&self, from: At<'_>, to: At<'_>) -> Result<(), VolumeError> {
        self.rename(from, to, "rename")
    }

    fn park(&self, from: At<'_>, to: At<'_>) -> Result<(), VolumeError> {
        if !to.directory.is_in_control() {
            return Err(VolumeError::new(VolumeErrorKind::NotInControl, "park", to.name));
        }
        self.rename(from, to, "park")
    }

    fn sync_all(&self) -> Result<(), VolumeError> {
        self.call("sync the folder", |disk| {
            disk.durable = disk.live.clone();
            disk.durable.collect();
            Ok(())
        })
    }

    fn free_space(&self) -> Result<FreeSpace, VolumeError> {
        self.call("measure the folder's disk", |disk| Ok(FreeSpace { bytes: disk.live.free(), inode_count: None }))
    }

    fn filesystem_id(&self) -> Result<FilesystemId, VolumeError> {
        // Where it was mounted is another file system, or a directory of the one on which it was made.
        let disk = self.lock();
        let fsid = if disk.unmounted.is_some() && disk.mount % 4 == 1 { 7 } else { disk.filesystem };
        Ok(FilesystemId { uuid: None, fsid })
    }

    fn name_rules(&self) -> NameRules {
        NameRules::Linux
    }

    fn umask(&self) -> u32 {
        UMASK
    }
}

/// A tree as a person sees it: paths with `/`, in order.
pub type Tree = BTreeMap<Box<[u8]>, TreeEntry>;

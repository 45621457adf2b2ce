//! The watcher of Linux: one inotify watch per directory, known by its watch descriptor.
//!
//! A watch belongs to an inode, so a directory that is moved stays watched without a gap; only its place in our own
//! tree of names changes. That is why this talks to inotify itself and not through `notify` 8, which knows watches by
//! path: it drops and renews those of a moved directory once its queue is empty, loses what happens between, and
//! subscribes to every file that our own scan opens.
//!
//! The tree of names is corrected by looking: each event about a directory's name opens that name and asks the kernel
//! which watch it has. A later change brings a later event, so the tree ends right whatever the order was. A watch is
//! always set before what is below is told, so that whoever scans then misses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use zerocloud_crdt::limits::PATH_DEPTH_MAX;
use zerocloud_crdt::name::CONTROL;

use super::{Change, Hint, WatchError, WatchEvent, WatchWarning};
use crate::volume::{Kind, LinuxVolume, Volume, VolumeDirectory, VolumeError, VolumeErrorKind};

/// What is read of the kernel's queue at a time: some 2,000 events.
const QUEUE_BUFFER_LEN: usize = 64 << 10;
/// How long more events are let come before the queue is read again: who makes thousands, above all this process, would
/// wake a reader for each of them otherwise. The first is told at once.
const READ_PAUSE: Duration = Duration::from_millis(1);

/// What is told of the root in addition. That it was removed is told only once nobody has it open.
const ROOT_FLAGS: WatchFlags = WatchFlags::MOVE_SELF.union(WatchFlags::DELETE_SELF);
/// What is mounted, as this process sees it.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Watches one space until it is dropped.
///
/// The kernel keeps quiet about a root that is removed or unmounted while it is held open. So its name in the directory
/// above is watched, too, and the list of what is mounted; [`Volume::check_root`] says what came of it. A directory
/// further up that is moved is noticed at the next scan.
#[derive(Debug)]
pub struct Watcher {
    queue: Arc<OwnedFd>,
    root: WatchId,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type WatchId = i32;

impl Watcher {
    /// Watches all directories of `volume` but our own. When it returns, whatever happens from then on is told to
    /// `tell`, on a thread of its own; `tell` must not block for long, or the kernel's queue overflows.
    ///
    /// # Errors
    /// [`WatchError::Unavailable`] if not even the root can be watched.
    pub fn start(volume: &LinuxVolume, tell: impl FnMut(WatchEvent) + Send + 'static) -> Result<Self, WatchError> {
        let unavailable = |errno: Errno| WatchError::Unavailable(errno.into());
        let queue = Arc::new(inotify::init(CreateFlags::CLOEXEC).map_err(unavailable)?);
        let directory = volume.root();
        let root = add_watch(&queue, &*directory, ROOT_FLAGS).map_err(unavailable)?;
        let name_of_root = watch_name(&queue, volume.path());
        // Without it an unmounted root is noticed at the next scan.
        let mounts = rustix::fs::open(MOUNTS, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        let watches = BTreeMap::from([(root, Node::default())]);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let mut tree = WatchTree {
            queue: queue.clone(),
            directory,
            root,
            name_of_root,
            mounts,
            watches,
            displaced: BTreeSet::new(),
            is_exhausted: false,
            tell,
        };
        tree.refresh_all();
        let stopped = is_stopped.clone();
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || tree.run(&stopped))
            .map_err(WatchError::Unavailable)?;
        Ok(Self { queue, root, is_stopped, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // Its end is an event, and that event wakes the thread. The root is held open, so its watch is there to end.
        let _ended = inotify::remove_watch(&self.queue, self.root);
        if let Some(thread) = self.thread.take() {
            // A panic of `tell` has been reported by its own thread.
            let _panicked = thread.join();
        }
    }
}

/// A watched directory in the tree of names.
#[derive(Debug, Default)]
struct Node {
    /// Its directory's watch and its name there; `None` for the root, and while it has no known place.
    place: Option<(WatchId, Box<[u8]>)>,
    children: BTreeMap<Box<[u8]>, WatchId>,
}

struct WatchTree<F> {
    queue: Arc<OwnedFd>,
    directory: Arc<dyn VolumeDirectory>,
    root: WatchId,
    /// The watch of the directory above the root, and the root's name there.
    name_of_root: Option<(WatchId, Box<[u8]>)>,
    /// The list of what is mounted.
    mounts: Option<OwnedFd>,
    watches: BTreeMap<WatchId, Node>,
    /// Those that may have no place.
    displaced: BTreeSet<WatchId>,
    /// Whether the user was told that watches ran out.
    is_exhausted: bool,
    tell: F,
}

/// An event, out of the kernel's buffer.
struct Event {
    watch: WatchId,
    flags: ReadFlags,
    name: Option<Box<[u8]>>,
}

impl<F: FnMut(WatchEvent)> WatchTree<F> {
    fn run(mut self, is_stopped: &AtomicBool) {
        let mut buffer = Vec::with_capacity(QUEUE_BUFFER_LEN);
        let queue = self.queue.clone();
        let mut reader = Reader::new(&*queue, buffer.spare_capacity_mut() as &mut [MaybeUninit<u8>]);
        loop {
            if reader.is_buffer_empty() && self.wait_for_mounts() {
                (self.tell)(WatchEvent::Root);
                continue;
            }
            let event = match reader.next() {
                Ok(event) => Event {
                    watch: event.wd(),
                    flags: event.events(),
                    name: event.file_name().map(|name| name.to_bytes().into()),
                },
                Err(Errno::INTR) => continue,
                Err(errno) => return (self.tell)(WatchEvent::Warning(WatchWarning::Stopped(errno.into()))),
            };
            if is_stopped.load(Ordering::Acquire) {
                return;
            }
            self.handle(event);
            if reader.is_buffer_empty() {
                self.drop_displaced();
                std::thread::sleep(READ_PAUSE);
            }
        }
    }

    /// Waits for an event in the queue, or a change of what is mounted; says whether it was that.
    fn wait_for_mounts(&self) -> bool {
        let Some(mounts) = &self.mounts else { return false };
        let queue = PollFd::new(&*self.queue, PollFlags::IN);
        // A change is said once, as exceptional (proc(5), `/proc/pid/mounts`).
        let mut polled = [queue, PollFd::new(mounts, PollFlags::PRI)];
        // Who can't wait here waits at the queue.
        poll(&mut polled, None).is_ok() && polled[1].revents().intersects(PollFlags::PRI | PollFlags::ERR)
    }

    fn handle(&mut self, event: Event) {
        if let Some((above, name)) = &self.name_of_root
            && event.watch == *above
        {
            if event.name.as_ref() == Some(name) {
                (self.tell)(WatchEvent::Root);
            }
            return;
        }
        let of_root = ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
        if event.watch == self.root && event.flags.intersects(of_root) {
            return (self.tell)(WatchEvent::Root);
        }
        if event.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.refresh_all();
            return (self.tell)(WatchEvent::Rescan);
        }
        if event.flags.contains(ReadFlags::IGNORED) {
            return self.forget(event.watch);
        }
        let Some(name) = event.name else { return };
        if event.watch == self.root && *name == *CONTROL.as_bytes() {
            return;
        }
        let Some(mut names) = self.path(event.watch) else { return };
        let is_directory = event.flags.contains(ReadFlags::ISDIR);
        let structure = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
        // What is no directory may have taken the name of one that was exchanged.
        if event.flags.intersects(structure) && (is_directory || self.child(event.watch, &name).is_some()) {
            self.refresh(event.watch, &names, &name);
        }
        names.push(name);
        let hints = [
            (ReadFlags::CREATE, Hint::Created),
            (ReadFlags::MODIFY, Hint::Changed),
            (ReadFlags::ATTRIB, Hint::Changed),
            (ReadFlags::CLOSE_WRITE, Hint::ClosedAfterWrite),
            (ReadFlags::MOVED_FROM, Hint::RenamedAway),
            (ReadFlags::MOVED_TO, Hint::RenamedHere),
            (ReadFlags::DELETE, Hint::Removed),
        ];
        if let Some((_, hint)) = hints.into_iter().find(|(flag, _)| event.flags.contains(*flag)) {
            let path = names.join(&b'/').into();
            (self.tell)(WatchEvent::Change(Change { path, hint, is_directory }));
        }
    }

    /// Looks at all directories again.
    fn refresh_all(&mut self) {
        let root = self.directory.clone();
        self.refresh_below(self.root, &*root, &mut Vec::new());
        self.drop_displaced();
    }

    /// Makes the tree of names right about one name: a directory there is watched with all below, anything else is
    /// not.
    fn refresh(&mut self, parent: WatchId, names: &[Box<[u8]>], name: &[u8]) {
        let opened = names.iter().try_fold(self.directory.clone(), |directory, name| directory.open_directory(name));
        let mut names = names.to_vec();
        match opened {
            Ok(directory) => self.refresh_child(parent, &*directory, &mut names, name),
            Err(error) => self.lose(parent, &names, name, error),
        }
    }

    fn refresh_child(
        &mut self,
        parent: WatchId,
        directory: &dyn VolumeDirectory,
        names: &mut Vec<Box<[u8]>>,
        name: &[u8],
    ) {
        if names.len() >= PATH_DEPTH_MAX {
            return;
        }
        let child = match directory.open_directory(name) {
            Ok(child) => child,
            Err(error) => return self.lose(parent, names, name, error),
        };
        match add_watch(&self.queue, &*child, WatchFlags::empty()) {
            Ok(watch) => {
                self.place(watch, parent, name);
                names.push(name.into());
                self.refresh_below(watch, &*child, names);
                names.pop();
            }
            Err(Errno::NOSPC) => {
                if !std::mem::replace(&mut self.is_exhausted, true) {
                    (self.tell)(WatchEvent::Warning(WatchWarning::OutOfWatches));
                }
            }
            Err(errno) => {
                let error = VolumeError::new(VolumeErrorKind::Io, "watch", name).with_source(errno.into());
                self.lose(parent, names, name, error);
            }
        }
    }

    fn refresh_below(&mut self, watch: WatchId, directory: &dyn VolumeDirectory, names: &mut Vec<Box<[u8]>>) {
        let entries = match directory.list() {
            Ok(entries) => entries,
            // Removed meanwhile: its parent's event says so.
            Err(error) if error.kind() == VolumeErrorKind::NotFound => return,
            Err(source) => return self.warn(names.join(&b'/').into(), source),
        };
        for entry in entries {
            let is_control = names.is_empty() && *entry.name == *CONTROL.as_bytes();
            if !is_control && entry.kind.is_none_or(|kind| kind == Kind::Directory) {
                self.refresh_child(watch, directory, names, &entry.name);
            }
        }
    }

    /// Notes that no directory can be watched under a name, and says so if that is more than its absence.
    fn lose(&mut self, parent: WatchId, names: &[Box<[u8]>], name: &[u8], error: VolumeError) {
        if let Some(watch) = self.child(parent, name) {
            self.displace(watch);
        }
        match error.kind() {
            VolumeErrorKind::NotFound | VolumeErrorKind::NotADirectory | VolumeErrorKind::IsALink => {}
            _ => self.warn([&names.join(&b'/'), name].join(&b'/').into(), error),
        }
    }

    fn warn(&mut self, path: Box<[u8]>, source: VolumeError) {
        (self.tell)(WatchEvent::Warning(WatchWarning::NotWatched { path, source }));
    }

    fn child(&self, parent: WatchId, name: &[u8]) -> Option<WatchId> {
        self.watches.get(&parent)?.children.get(name).copied()
    }

    /// The names from the root to a watched directory; `None` while its place is not known.
    fn path(&self, watch: WatchId) -> Option<Vec<Box<[u8]>>> {
        let mut names = Vec::new();
        let mut at = watch;
        while at != self.root {
            let (parent, name) = self.watches.get(&at)?.place.as_ref()?;
            names.push(name.clone());
            at = *parent;
            // The places of a tree that is being moved can lead in a circle for a moment.
            if names.len() > PATH_DEPTH_MAX {
                return None;
            }
        }
        names.reverse();
        Some(names)
    }

    fn place(&mut self, watch: WatchId, parent: WatchId, name: &[u8]) {
        if self.child(parent, name) == Some(watch) || watch == self.root {
            return;
        }
        if let Some(other) = self.child(parent, name) {
            self.displace(other);
        }
        self.displace(watch);
        self.watches.entry(watch).or_default().place = Some((parent, name.into()));
        if let Some(parent) = self.watches.get_mut(&parent) {
            parent.children.insert(name.into(), watch);
        }
    }

    /// Takes a directory from its place, with all below; where it is now, the next event tells.
    fn displace(&mut self, watch: WatchId) {
        let Some((parent, name)) = self.watches.get_mut(&watch).and_then(|node| node.place.take()) else { return };
        self.displaced.insert(watch);
        if let Some(parent) = self.watches.get_mut(&parent) {
            parent.children.remove(&name);
        }
    }

    /// The kernel has ended a watch.
    fn forget(&mut self, watch: WatchId) {
        self.displace(watch);
        let Some(node) = self.watches.remove(&watch) else { return };
        for child in node.children.into_values() {
            if let Some(node) = self.watches.get_mut(&child) {
                node.place = None;
                self.displaced.insert(child);
            }
        }
    }

    /// Ends the watches of what was moved out of sight. What came back by the end of a batch has a place again; what
    /// comes back later is watched anew, before it is told.
    fn drop_displaced(&mut self) {
        let mut displaced: Vec<_> = std::mem::take(&mut self.displaced).into_iter().collect();
        displaced.retain(|watch| self.watches.get(watch).is_some_and(|node| node.place.is_none()));
        while let Some(watch) = displaced.pop() {
            // It may be gone already, and its end is in the queue.
            let _gone = inotify::remove_watch(&self.queue, watch);
            if let Some(node) = self.watches.remove(&watch) {
                displaced.extend(node.children.into_values());
            }
        }
    }
}

/// Watches the directory that is open, wherever it is: by handle, so that no link can take its place. The same
/// directory always gives the same watch.
fn add_watch(queue: &OwnedFd, directory: &dyn VolumeDirectory, further: WatchFlags) -> Result<WatchId, Errno> {
    let flags = further
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MODIFY
        | WatchFlags::ATTRIB
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ONLYDIR
        | WatchFlags::EXCL_UNLINK;
    let fd = LinuxVolume::descriptor(directory).ok_or(Errno::XDEV)?;
    inotify::add_watch(queue, format!("/proc/self/fd/{}", fd.as_raw_fd()), flags)
}

/// Watches the name of the root in the directory above. Where that is not allowed, its end is noticed at the next scan.
fn watch_name(queue: &OwnedFd, root: &Path) -> Option<(WatchId, Box<[u8]>)> {
    let (above, name) = (root.parent()?, root.file_name()?);
    let watch = inotify::add_watch(queue, above, WatchFlags::MOVED_FROM | WatchFlags::DELETE | WatchFlags::ONLYDIR);
    Some((watch.ok()?, name.as_encoded_bytes().into()))
}

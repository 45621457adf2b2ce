//! A space's folder at work: the thread that scans it, plans, and writes.
//!
//! Here live the thread, its handle, and what goes on as others see it ([`FolderState`]). What it does stands in
//! [`work`]: that is synchronous code over the traits of this crate, which the simulator runs as well. Which operations
//! a scan makes, what is to be done next, and how it is done safely are decided in `zerocloud_crdt` and [`crate::tree`].

pub mod arriving;
pub mod serve;
pub mod work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use zerocloud_crdt::id::{DeviceId, FileId, OpId};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, FileTime};
use zerocloud_crdt::rewind::Change;

use self::work::{Folder, FolderError, FolderParts};
use crate::api::path::BytePath;
use crate::api::types::Decision;
use crate::clock::Moment;
use crate::engine::fetch::JobId;
use crate::store::VersionCounts;
use crate::tree::Threads;
use crate::tree::stage::{StageError, Staged};
use crate::volume::LinuxVolume;
use crate::watch::{WatchEvent, Watcher};

/// How long the thread waits at most before it looks around.
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// How long after something failed as a whole (the disk is gone, the store is full) it is begun again.
const RESTART_DELAY: Duration = Duration::from_secs(3);

/// What goes on in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderState {
    /// What it is doing.
    pub phase: Phase,
    /// Files that are to be written, or whose chunks are awaited.
    pub waiting_files: u64,
    /// Their lengths together, in bytes.
    pub waiting_bytes: u64,
    /// Versions that nobody who is connected has.
    pub lacks: Lacks,
    /// Files that do not come to this device because it leaves them out.
    pub left_out: u64,
    /// What is not on disk as the view has it, or not synced, and why.
    pub problems: Arc<Vec<(BytePath, String)>>,
    /// What the user should know of the folder as a whole.
    pub warnings: Vec<String>,
    /// Scans of the whole tree that were finished since the start.
    pub scan_count: u64,
    /// Files that were written since the start, and their lengths together in bytes.
    pub written: (u64, u64),
}

/// Versions of files that nobody who is connected has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// How many another member may have.
    pub awaited: u64,
    /// Some of these, by path.
    pub awaited_paths: Vec<BytePath>,
    /// How many no member has. They are among the problems and keep nothing from being idle.
    pub lost: u64,
}

/// What a folder is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The tree is being read, or a change is waiting to be.
    #[default]
    Scanning,
    /// Chunks are awaited, or files are being written.
    Syncing,
    /// Nothing is to be done.
    Idle,
    /// The user paused it.
    Paused,
    /// The guard holds changes; all else is done.
    Held,
    /// It stopped, and why; it is tried again.
    Failed(String),
}

/// What the thread is told.
#[derive(Debug)]
pub enum Message {
    /// By the kernel.
    Watch(WatchEvent),
    /// What these items show may have changed.
    Plan(BTreeSet<FileId>),
    /// A file is complete under a temporary name, or will not be.
    Staged {
        /// Whose.
        job: JobId,
        /// What became of it.
        staged: Result<Staged, NotStaged>,
    },
    /// A manifest page has come.
    Page {
        /// For whom.
        job: JobId,
        /// Its address.
        id: zerocloud_crdt::id::ChunkId,
        /// Its plaintext.
        plaintext: Vec<u8>,
    },
    /// Peers asked for bytes that these files should have and do not.
    Changed(Arc<serve::Suspects>),
    /// Scan everything; told when it was done.
    Rescan(oneshot::Sender<()>),
    /// Stop or go on to scan, fetch and write.
    Pause(bool),
    /// A member's connection came: what nobody had is asked for again.
    Connected,
    /// What the user wants of what is held; told when it is written.
    Held(Decision, oneshot::Sender<Result<(), String>>),
    /// Bring an older version back.
    Restore(Box<Restoring>),
    /// Make things as they were.
    Rewind(Box<Rewinding>),
    /// Change what does not come to this device.
    Select(Box<Selecting>),
    /// End the wait for versions that nobody has.
    Forget(Box<Forgetting>),
    /// Remove the versions that are older than so many milliseconds; told what went.
    Prune(i64, oneshot::Sender<Result<VersionCounts, String>>),
    /// End; told when all is stored.
    Stop(oneshot::Sender<()>),
}

/// An older version that is to come back, as an edit of now.
#[derive(Debug)]
pub struct Restoring {
    /// Names from the root to where it is put. Directories on the way are made if they are not there.
    pub path: Vec<Name>,
    /// The item in whose registers it stood.
    pub source: FileId,
    /// The operation that put it.
    pub op: OpId,
    /// What it put.
    pub content: Content,
    /// The time of last change that it gets.
    pub mtime: FileTime,
    /// Told when it is in its place, or why it is not.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// What is to be as it was, as changes of now.
#[derive(Debug)]
pub struct Rewinding {
    /// What is to be done. The bytes for it are on this device.
    pub changes: Vec<Change>,
    /// Told when all of it is in the log, from where it comes to every disk, with the scans of the whole tree that were
    /// finished by then ([`FolderState::scan_count`]); or why it is not.
    pub done: oneshot::Sender<Result<u64, String>>,
}

/// Another selection.
#[derive(Debug)]
pub struct Selecting {
    /// Patterns of what does not come, in gitignore's syntax; empty for nothing.
    pub patterns: Vec<u8>,
    /// Told when it is in force, or why it is not.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// Versions that nobody has and that the user gives up.
#[derive(Debug)]
pub struct Forgetting {
    /// What lies at or below this, in names from the root joined by `/`; empty for all.
    pub path: Vec<u8>,
    /// Also what a member that is not connected may have.
    pub is_awaited_too: bool,
    /// Told what was given up, which is in the log then; or why nothing was.
    pub done: oneshot::Sender<Result<Vec<GivenUp>, NotForgotten>>,
}

/// A version that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Where.
    pub path: BytePath,
    /// Whether what this disk has there stands in its place; otherwise nothing does.
    pub is_older_kept: bool,
}

/// Why nothing was given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotForgotten {
    /// Nothing there is without a source.
    #[error("nothing there is lost")]
    NothingLost,
    /// It may come yet.
    #[error("a device that is not connected may still have {count} of these files")]
    Awaited {
        /// How many.
        count: usize,
    },
    /// The folder can't be written to now.
    #[error("{0}")]
    Failed(String),
}

/// Why a file is not staged.
#[derive(Debug)]
pub enum NotStaged {
    /// Nobody who is connected gives it; these do not have it.
    Missing(BTreeSet<DeviceId>),
    /// Writing it failed.
    Failed(StageError),
}

/// The rest of the node's hold on a folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FolderHandle {
    messages: mpsc::Sender<Message>,
    state: watch::Receiver<FolderState>,
}

/// The folder's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the folder is closed")]
pub struct FolderClosed;

/// Where messages to a folder's thread wait before it runs: whoever is to send them is made before it.
#[derive(Debug)]
pub struct Mailbox {
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { sender, receiver }
    }

    /// Where messages go.
    pub fn sender(&self) -> mpsc::Sender<Message> {
        self.sender.clone()
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

impl FolderHandle {
    /// Starts the thread of a folder.
    ///
    /// # Errors
    /// Those of the system, if it has no more threads.
    pub fn start(parts: FolderParts, mailbox: Mailbox, is_paused: bool) -> std::io::Result<Self> {
        let Mailbox { sender, receiver } = mailbox;
        let (tell, state) = watch::channel(FolderState::default());
        let inbox = sender.clone();
        std::thread::Builder::new().name("folder-keeper".into()).spawn(move || {
            Keeper { parts, inbox, messages: receiver, tell, is_paused }.run();
        })?;
        Ok(Self { messages: sender, state })
    }

    /// What goes on.
    pub fn state(&self) -> FolderState {
        self.state.borrow().clone()
    }

    /// Tells of each change of what goes on.
    pub fn watch(&self) -> watch::Receiver<FolderState> {
        self.state.clone()
    }

    /// Tells the thread something. One that has ended needs to know nothing more.
    pub fn tell(&self, message: Message) {
        drop(self.messages.send(message));
    }

    /// Scans everything; returns when that is done and what was found is in the log.
    ///
    /// # Errors
    /// [`FolderClosed`].
    pub async fn rescan(&self) -> Result<(), FolderClosed> {
        let (done, answer) = oneshot::channel();
        self.tell(Message::Rescan(done));
        answer.await.map_err(|_| FolderClosed)
    }

    /// Ends the thread; returns when all is stored.
    pub async fn stop(&self) {
        let (done, answer) = oneshot::channel();
        self.tell(Message::Stop(done));
        // A thread that has ended answers by that.
        let _ = answer.await;
    }
}

/// The thread: keeps a folder open as long as it can be, by a second one that reaches nothing else.
struct Keeper {
    parts: FolderParts,
    inbox: mpsc::Sender<Message>,
    messages: mpsc::Receiver<Message>,
    tell: watch::Sender<FolderState>,
    is_paused: bool,
}

/// Why the loop over one open folder ended.
enum End {
    Stopped(Option<oneshot::Sender<()>>),
    Failed(FolderError),
}

/// Tells whoever waits that it is done; they may have gone.
fn answer(done: Option<oneshot::Sender<()>>) {
    if let Some(done) = done {
        let _ = done.send(());
    }
}

impl Keeper {
    fn run(mut self) {
        loop {
            let end = self.keep_apart();
            match end {
                End::Stopped(done) => return answer(done),
                End::Failed(error) => {
                    tracing::warn!(space = %self.parts.store.space(), %error, "the folder can't be kept; it is tried again");
                    self.tell.send_replace(FolderState {
                        phase: Phase::Failed(error.to_string()),
                        ..FolderState::default()
                    });
                    if let Some(done) = self.rest() {
                        return answer(Some(done));
                    }
                }
            }
        }
    }

    /// Keeps the folder on a thread of its own: that one can reach but the directory that is there now, for good, and
    /// the next time another may have been mounted in its place.
    fn keep_apart(&mut self) -> End {
        let kept = std::thread::scope(|scope| {
            let worker = std::thread::Builder::new().name("folder".into());
            Ok(worker.spawn_scoped(scope, || self.keep())?.join())
        });
        match kept {
            Ok(Ok(end)) => end,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => End::Failed(FolderError::Thread(error)),
        }
    }

    fn keep(&mut self) -> End {
        match self.open() {
            Ok((folder, watcher)) => self.work(folder, watcher),
            Err(error) => End::Failed(error),
        }
    }

    fn open(&mut self) -> Result<(Folder<Threads>, Option<Watcher>), FolderError> {
        let volume = Arc::new(LinuxVolume::open(&self.parts.path)?.with_name_rules(self.parts.name_rules));
        if self.parts.is_confined {
            // Where the kernel can't do it, `doctor` says so.
            let _ = volume.confine_this_thread();
        }
        // Watched before the first scan: what changes meanwhile is told.
        let inbox = self.inbox.clone();
        let watcher = Watcher::start(&volume, move |event| drop(inbox.send(Message::Watch(event))));
        let mut folder = Folder::open(&self.parts, volume, self.inbox.clone(), Threads::of_cores())?;
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                folder.warn(error.to_string());
                None
            }
        };
        folder.pause(self.is_paused);
        Ok((folder, watcher))
    }

    /// Works until it is stopped or something fails as a whole.
    fn work(&mut self, mut folder: Folder<Threads>, _watcher: Option<Watcher>) -> End {
        loop {
            if let Err(error) = folder.step() {
                return End::Failed(error);
            }
            self.publish(folder.state());
            folder.tell_rescanned();
            let wait = folder.timeout().map_or(IDLE_WAIT, |until| self.time_until(until).min(IDLE_WAIT));
            let mut next = match self.messages.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return End::Stopped(None),
            };
            while let Some(message) = next {
                match message {
                    Message::Stop(done) => {
                        if let Err(error) = folder.close() {
                            tracing::warn!(%error, "the folder was not closed as it should be");
                        }
                        return End::Stopped(Some(done));
                    }
                    Message::Pause(is_paused) => {
                        self.is_paused = is_paused;
                        folder.pause(is_paused);
                    }
                    message => folder.handle(message),
                }
                next = self.messages.try_recv().ok();
            }
        }
    }

    /// Waits before the folder is opened again; gives who asked for an end, if somebody did.
    fn rest(&mut self) -> Option<oneshot::Sender<()>> {
        let until = self.parts.clock.now() + RESTART_DELAY;
        loop {
            match self.messages.recv_timeout(self.time_until(until)) {
                Ok(Message::Stop(done)) => return Some(done),
                Ok(Message::Pause(is_paused)) => self.is_paused = is_paused,
                // All that is told meanwhile is found by the scan and the plan at the start.
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    fn time_until(&self, until: Moment) -> Duration {
        until.since(self.parts.clock.now())
    }

    fn publish(&self, state: FolderState) {
        self.tell.send_if_modified(|shown| {
            let is_changed = *shown != state;
            if is_changed {
                *shown = state;
            }
            is_changed
        });
    }
}

#[cfg(test)]
mod tests;

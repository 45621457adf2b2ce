//! The local API: HTTP with JSON over a Unix socket in the home, and the seam between it and the engine.
//!
//! Every command is one type in [`types`] that implements [`Command`]: its path, its answer, and which method of
//! [`Backend`] gives that answer. The server ([`server`]) and the client ([`client`]) know nothing more. An answer is
//! one JSON object. A long command answers with JSON lines: any number of `{"progress": …}`, then `{"done": …}` or
//! `{"error": …}`. A failure has the status code of its kind and the body `{"error": {"kind", "message", "hints"}}`.
//! What a command means is not decided here but behind [`Backend`].

use std::future::Future;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::{broadcast, mpsc};

use crate::advice::Advises;
use crate::daemon::Setup;

pub mod client;
pub mod path;
pub mod server;
pub mod socket;
pub mod target;
pub mod types;

use types::*;

/// What the engine does for the local API. One method for each command; each may run beside any other.
///
/// A future that is dropped (the caller went away, or its time is over) must leave a state that the next call can
/// work on.
pub trait Backend: Send + Sync + Sized + 'static {
    /// Opens the store and, if `setup.mode` says so, begins to synchronise. The work goes on until
    /// `setup.shutdown` is cancelled.
    fn open(setup: Setup) -> impl Future<Output = Result<Self, ApiError>> + Send;

    /// Waits until everything is stored and every task has ended, after `shutdown` was cancelled.
    fn close(&self) -> impl Future<Output = ()> + Send;

    /// What this node is doing.
    fn status(&self, request: StatusRequest) -> impl Future<Output = Result<Status, ApiError>> + Send;

    /// Makes a directory a space; the directory is made if there is none.
    fn add_space(&self, request: AddSpace) -> impl Future<Output = Result<Space, ApiError>> + Send;

    /// Lists the spaces of this device.
    fn list_spaces(&self, request: ListSpaces) -> impl Future<Output = Result<SpaceList, ApiError>> + Send;

    /// Stops keeping a space on this device; its files stay where they are.
    fn remove_space(&self, request: RemoveSpace) -> impl Future<Output = Result<Space, ApiError>> + Send;

    /// Stops scanning, fetching and writing in a space until it is resumed, across restarts.
    fn pause_space(&self, request: PauseSpace) -> impl Future<Output = Result<Space, ApiError>> + Send;

    /// Ends a pause.
    fn resume_space(&self, request: ResumeSpace) -> impl Future<Output = Result<Space, ApiError>> + Send;

    /// Makes a ticket.
    fn invite(&self, request: Invite) -> impl Future<Output = Result<Invitation, ApiError>> + Send;

    /// Answers [`What::Pairing`] of a ticket that asks for confirmation.
    fn confirm_pairing(&self, request: ConfirmPairing) -> impl Future<Output = Result<Done, ApiError>> + Send;

    /// Joins a space by a ticket. Done when the space is stored here; its files follow by themselves.
    fn join(&self, request: Join, progress: Progress) -> impl Future<Output = Result<Space, ApiError>> + Send;

    /// Lists who belongs to a space.
    fn list_members(&self, request: ListMembers) -> impl Future<Output = Result<MemberList, ApiError>> + Send;

    /// Scans; with `wait`, is done when this device and all connected peers agree and no chunk is awaited. The time
    /// limit is not the backend's: its future is dropped.
    fn sync(
        &self,
        request: SyncSpaces,
        progress: Progress,
    ) -> impl Future<Output = Result<SyncReport, ApiError>> + Send;

    /// Lists a directory of the view.
    fn list(&self, request: List) -> impl Future<Output = Result<Listing, ApiError>> + Send;

    /// Lists the versions of a file, newest first.
    fn history(&self, request: History) -> impl Future<Output = Result<VersionList, ApiError>> + Send;

    /// Brings an older version back, as an edit of now.
    fn restore(&self, request: Restore, progress: Progress) -> impl Future<Output = Result<Restored, ApiError>> + Send;

    /// Says what does not come to this device, and changes that.
    fn select(&self, request: Select) -> impl Future<Output = Result<Selection, ApiError>> + Send;

    /// Gives up versions that no device has, on all devices.
    fn forget(&self, request: Forget) -> impl Future<Output = Result<Forgotten, ApiError>> + Send;

    /// Lists conflict copies.
    fn conflicts(&self, request: ListConflicts) -> impl Future<Output = Result<ConflictList, ApiError>> + Send;

    /// Lists what the mass-change guard holds, and with a decision accepts or rejects it.
    fn held(&self, request: Held) -> impl Future<Output = Result<HeldList, ApiError>> + Send;

    /// Lets the versions go that are older than asked for; on this device alone.
    fn prune(&self, request: Prune) -> impl Future<Output = Result<Pruned, ApiError>> + Send;

    /// Looks for what keeps this node from doing its work, and says what to do.
    fn doctor(&self, request: Doctor) -> impl Future<Output = Result<Diagnosis, ApiError>> + Send;

    /// The 24 words of the recovery seed.
    fn recovery_words(&self, request: ShowRecovery) -> impl Future<Output = Result<RecoveryWords, ApiError>> + Send;

    /// Lets the recovery seed leave the home, as the user has its words.
    fn confirm_recovery(&self, request: ConfirmRecovery) -> impl Future<Output = Result<Done, ApiError>> + Send;

    /// What happens from now on. A receiver that falls behind is told how much it missed.
    fn events(&self) -> broadcast::Receiver<Event>;
}

/// One command: a request, and where it goes. Implemented in [`types`] for each.
pub trait Command: Serialize + DeserializeOwned + Send + 'static {
    /// What is given back.
    type Answer: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Its path on the server.
    const PATH: &str;

    /// Whether it answers by JSON lines with progress.
    const IS_LONG: bool;

    /// Whether it only reads, takes no arguments and is asked by `GET`.
    const IS_GET: bool;

    /// Whether it makes sense on a store whose node does not run.
    const WORKS_OFFLINE: bool;

    /// Calls the backend.
    fn run(
        self,
        backend: &impl Backend,
        progress: Progress,
    ) -> impl Future<Output = Result<Self::Answer, ApiError>> + Send;
}

/// Tells a waiting user how far a long command is. Never waits: a reader that is slow sees less of it, but always the
/// words.
#[derive(Clone, Debug)]
pub struct Progress(mpsc::Sender<Step>);

impl Progress {
    /// Steps that wait for a reader.
    const STEP_COUNT_MAX: usize = 16;
    /// Of these, room that is kept for words.
    const WORDS_COUNT_MAX: usize = 4;

    /// A sender and the end where its steps come out.
    pub fn channel() -> (Self, mpsc::Receiver<Step>) {
        let (sender, receiver) = mpsc::channel(Self::STEP_COUNT_MAX);
        (Self(sender), receiver)
    }

    /// Reports a step.
    pub fn report(&self, step: Step) {
        let is_words = matches!(step, Step::Words { .. });
        if is_words || self.0.capacity() > Self::WORDS_COUNT_MAX {
            // A closed channel has nobody to tell.
            let _ = self.0.try_send(step);
        }
    }
}

/// Why a command failed, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What a program needs to decide on.
    pub kind: ErrorKind,
    /// What went wrong, one sentence without a full stop. Text from peers in it is escaped.
    pub message: String,
    /// What to do about it, one sentence each.
    #[serde(default)]
    pub hints: Vec<String>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument has no meaning.
    Invalid,
    /// This device's role does not allow it.
    Denied,
    /// There is no such space, file, version, ticket or device.
    NotFound,
    /// It contradicts what is there: a used ticket, a directory that is a space already, a held change.
    Conflict,
    /// Needs a peer, and none answers.
    Unreachable,
    /// Did not end in the time that was given.
    TimedOut,
    /// Everything else: a full disk, a damaged store, a fault of ours.
    Failed,
}

impl ErrorKind {
    /// The HTTP status code.
    pub const fn status_code(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Unreachable => 503,
            Self::TimedOut => 504,
            Self::Failed => 500,
        }
    }
}

impl ApiError {
    /// A failure, and what to do about it.
    pub fn new(kind: ErrorKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: vec![hint.into()] }
    }

    /// A failure whose own text says what to do about it.
    pub fn of(kind: ErrorKind, error: &impl Advises) -> Self {
        Self { kind, message: error.to_string(), hints: Vec::new() }
    }

    /// Adds something else that can be done about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// Bodies of failures: `{"error": …}`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: ApiError,
}

/// A line of a long command's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line<A> {
    Progress(Step),
    Done(A),
    Error(ApiError),
}

/// Where events are streamed from, as JSON lines.
pub(crate) const EVENTS_PATH: &str = "/v0/events";
/// Where a node is stopped.
pub(crate) const STOP_PATH: &str = "/v0/stop";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_misses_progress_but_no_words() {
        let (progress, mut steps) = Progress::channel();
        for n in 0..100 {
            progress.report(Step::Transfer { files_done: n, files_total: 100, bytes_done: 0, bytes_total: 0 });
        }
        let words = Step::Words { words: vec!["alpha".into()] };
        progress.report(words.clone());
        let seen: Vec<_> = std::iter::from_fn(|| steps.try_recv().ok()).collect();
        assert_eq!(seen.len(), Progress::STEP_COUNT_MAX - Progress::WORDS_COUNT_MAX + 1);
        assert_eq!(seen.last(), Some(&words));
    }

    #[test]
    fn every_kind_of_failure_has_a_status_code_of_its_own() {
        let kinds = [
            ErrorKind::Invalid,
            ErrorKind::Denied,
            ErrorKind::NotFound,
            ErrorKind::Conflict,
            ErrorKind::Unreachable,
            ErrorKind::TimedOut,
            ErrorKind::Failed,
        ];
        let codes: std::collections::BTreeSet<_> = kinds.iter().map(|kind| kind.status_code()).collect();
        assert_eq!(codes.len(), kinds.len());
        assert!(codes.iter().all(|code| (400..600).contains(code)));
    }
}

//! Requests and answers of the local API.
//!
//! The field names are a contract: scripts and other programs read them. Fields are added, never renamed or removed.
//! Times are milliseconds since 1970 (`_ms`), sizes are bytes, ids are hexadecimal. Text from peers is not escaped
//! here; whoever shows it does that.

use serde::{Deserialize, Serialize};

use super::path::BytePath;
use super::target::Target;
use super::{ApiError, Backend, Command, ErrorKind, Progress};

mod answers;
mod event;

pub use answers::*;
pub use event::*;

/// Asks for [`Status`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StatusRequest {}

/// Makes a directory a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddSpace {
    /// The directory, absolute.
    pub dir: BytePath,
    /// Its name; the directory's, if there is none.
    pub name: Option<String>,
}

/// Asks for [`SpaceList`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ListSpaces {}

/// Takes a space off this device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemoveSpace {
    /// Which one.
    pub space: Target,
}

/// Pauses a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PauseSpace {
    /// Which one.
    pub space: Target,
}

/// Resumes a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResumeSpace {
    /// Which one.
    pub space: Target,
}

/// Makes a ticket to a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invite {
    /// Which space.
    pub space: Target,
    /// For whom.
    pub guest: Guest,
    /// For how long it can be used.
    pub expires_secs: u64,
}

/// Whom a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guest {
    /// A further device of the person who invites.
    Me {
        /// Whether the user must compare six words before the device is let in.
        confirm: bool,
    },
    /// Somebody else, with this role.
    Person(Role),
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Changes who belongs to the space, and all below.
    Owner,
    /// Reads and writes.
    Editor,
    /// Reads.
    Viewer,
    /// Stores ciphertext.
    Keeper,
}

impl Role {
    /// The word for it, in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Editor => "editor",
            Self::Viewer => "viewer",
            Self::Keeper => "keeper",
        }
    }
}

/// Says whether the six words on both screens are the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfirmPairing {
    /// The joining device, from [`What::Pairing`].
    pub device: String,
    /// Whether it may come in.
    pub accept: bool,
}

/// Joins a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Join {
    /// The ticket's text.
    pub ticket: String,
    /// Where its files go, absolute; `~/NAME` if there is none.
    pub dir: Option<BytePath>,
}

/// Asks for [`MemberList`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListMembers {
    /// Of which space.
    pub space: Target,
}

/// Scans, and waits if asked to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SyncSpaces {
    /// Which space; all, if there is none.
    pub space: Option<Target>,
    /// Whether to wait until all connected peers agree.
    pub wait: bool,
    /// For how long; enforced in front of the backend.
    pub timeout_secs: Option<u64>,
}

/// Asks for [`Listing`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct List {
    /// A space or a directory in it.
    pub target: Target,
}

/// Asks for [`VersionList`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    /// Which file.
    pub target: Target,
}

/// Brings an older version of a file back, or all of a directory or space as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restore {
    /// Of which file, directory or space.
    pub target: Target,
    /// As it was at this moment; the version before the last, if there is none, and for files alone.
    pub at_ms: Option<i64>,
    /// Whether what came to a directory since goes.
    #[serde(default)]
    pub exact: bool,
}

/// Asks for [`Selection`], and changes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Select {
    /// Of which space.
    pub space: Target,
    /// What is not to come to this device from now on, as patterns of gitignore's syntax; none changes nothing.
    #[serde(default)]
    pub without: Option<Vec<String>>,
}

/// Gives up versions of files that no device has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forget {
    /// Of which file, or of which directory or space all of them.
    pub target: Target,
    /// Also those that a device that is not connected may have.
    #[serde(default)]
    pub awaited: bool,
}

/// Lets older versions go on this device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prune {
    /// Of which space.
    pub space: Target,
    /// Those that are kept for longer than this go.
    pub older_secs: u64,
}

/// Asks for [`ConflictList`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ListConflicts {
    /// Of which space; of all, if there is none.
    pub space: Option<Target>,
}

/// Asks for [`HeldList`], and decides.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Held {
    /// Of which space; of all, if there is none. A decision needs one.
    pub space: Option<Target>,
    /// What becomes of it.
    pub decision: Option<Decision>,
}

/// What becomes of held changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// They happen here, too.
    Accept,
    /// They are undone everywhere.
    Reject,
}

/// Asks for [`Diagnosis`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Doctor {}

/// Asks for [`RecoveryWords`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ShowRecovery {}

/// Lets the recovery seed leave the home.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConfirmRecovery {}

macro_rules! commands {
    ($($request:ty => $answer:ty, $path:literal, $method:ident, get: $get:literal, offline: $offline:literal;)*) => {$(
        impl Command for $request {
            type Answer = $answer;
            const PATH: &str = $path;
            const IS_LONG: bool = false;
            const IS_GET: bool = $get;
            const WORKS_OFFLINE: bool = $offline;

            async fn run(self, backend: &impl Backend, _: Progress) -> Result<$answer, ApiError> {
                backend.$method(self).await
            }
        }
    )*};
}

commands! {
    StatusRequest => Status, "/v0/status", status, get: true, offline: false;
    AddSpace => Space, "/v0/spaces/add", add_space, get: false, offline: true;
    ListSpaces => SpaceList, "/v0/spaces", list_spaces, get: true, offline: true;
    RemoveSpace => Space, "/v0/spaces/remove", remove_space, get: false, offline: true;
    PauseSpace => Space, "/v0/spaces/pause", pause_space, get: false, offline: true;
    ResumeSpace => Space, "/v0/spaces/resume", resume_space, get: false, offline: true;
    Invite => Invitation, "/v0/invite", invite, get: false, offline: true;
    ConfirmPairing => Done, "/v0/invite/confirm", confirm_pairing, get: false, offline: false;
    ListMembers => MemberList, "/v0/members", list_members, get: false, offline: true;
    List => Listing, "/v0/list", list, get: false, offline: true;
    History => VersionList, "/v0/history", history, get: false, offline: true;
    ListConflicts => ConflictList, "/v0/conflicts", conflicts, get: false, offline: true;
    Held => HeldList, "/v0/held", held, get: false, offline: false;
    Select => Selection, "/v0/select", select, get: false, offline: false;
    Forget => Forgotten, "/v0/forget", forget, get: false, offline: false;
    Prune => Pruned, "/v0/prune", prune, get: false, offline: false;
    Doctor => Diagnosis, "/v0/doctor", doctor, get: true, offline: false;
    ShowRecovery => RecoveryWords, "/v0/recovery", recovery_words, get: true, offline: true;
    ConfirmRecovery => Done, "/v0/recovery/confirm", confirm_recovery, get: false, offline: true;
}

impl Command for Join {
    type Answer = Space;
    const PATH: &str = "/v0/join";
    const IS_LONG: bool = true;
    const IS_GET: bool = false;
    const WORKS_OFFLINE: bool = false;

    async fn run(self, backend: &impl Backend, progress: Progress) -> Result<Space, ApiError> {
        backend.join(self, progress).await
    }
}

impl Command for Restore {
    type Answer = Restored;
    const PATH: &str = "/v0/restore";
    const IS_LONG: bool = true;
    const IS_GET: bool = false;
    const WORKS_OFFLINE: bool = false;

    async fn run(self, backend: &impl Backend, progress: Progress) -> Result<Restored, ApiError> {
        backend.restore(self, progress).await
    }
}

impl Command for SyncSpaces {
    type Answer = SyncReport;
    const PATH: &str = "/v0/sync";
    const IS_LONG: bool = true;
    const IS_GET: bool = false;
    const WORKS_OFFLINE: bool = false;

    async fn run(self, backend: &impl Backend, progress: Progress) -> Result<SyncReport, ApiError> {
        let Some(secs) = self.timeout_secs else { return backend.sync(self, progress).await };
        let limit = std::time::Duration::from_secs(secs);
        let timed_out = || {
            let shown = crate::duration::show(limit);
            Err(ApiError::new(
                ErrorKind::TimedOut,
                format!("not everything was in sync after {shown}"),
                "`zerocloud status` shows what is missing",
            ))
        };
        tokio::time::timeout(limit, backend.sync(self, progress)).await.unwrap_or_else(|_| timed_out())
    }
}

#[cfg(test)]
mod tests;

//! What commands answer, and how far they are.

use serde::{Deserialize, Serialize};

use super::{BytePath, Role};

/// What a node is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's version, as `--version` prints it behind the name.
    pub version: String,
    /// This device's id.
    pub device: String,
    /// Each space of this device, by name.
    pub spaces: Vec<SpaceStatus>,
    /// What the user should know about the node as a whole.
    pub warnings: Vec<String>,
}

/// What a node is doing in one space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpaceStatus {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub dir: BytePath,
    /// This device's role in it.
    pub role: Role,
    /// What goes on.
    pub state: State,
    /// Why it stopped, where `state` is [`State::Error`].
    pub error: Option<String>,
    /// Files of the view.
    pub files: u64,
    /// Directories of the view, without the root.
    pub directories: u64,
    /// Length of all files of the view.
    pub bytes: u64,
    /// Awaited chunks.
    pub missing_chunks: u64,
    /// Files whose newest version no device has that is connected, and another may have.
    #[serde(default)]
    pub awaited: u64,
    /// Some of these, below the space's root.
    #[serde(default)]
    pub awaited_paths: Vec<BytePath>,
    /// Files whose newest version no device has any more. They are listed in `problems`, and nothing waits for them.
    #[serde(default)]
    pub lost: u64,
    /// Files that do not come to this device because it leaves them out.
    #[serde(default)]
    pub left_out: u64,
    /// Content that other devices gave this one since its node was started, in bytes.
    #[serde(default)]
    pub received_bytes: u64,
    /// Sealed chunks that this device gave others since its node was started, in bytes.
    #[serde(default)]
    pub sent_bytes: u64,
    /// Conflict copies in the view.
    pub conflicts: u64,
    /// What is not on disk as the view has it, and why.
    pub problems: Vec<Problem>,
    /// Every other device of the space.
    pub peers: Vec<PeerStatus>,
}

/// What goes on in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No watcher event is pending, no scan or write is running, and every item of the view is on disk or listed in
    /// `problems`.
    Idle,
    /// The tree is being read.
    Scanning,
    /// Chunks or entries are awaited, or files are being written.
    Syncing,
    /// The user paused it.
    Paused,
    /// The mass-change guard holds changes.
    Held,
    /// It stopped; `error` says why.
    Error,
}

/// A path that is not as the view has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Below the space's root.
    pub path: BytePath,
    /// Why, in words.
    pub reason: String,
}

/// Another device of a space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its id.
    pub device: String,
    /// What it calls itself.
    pub name: String,
    /// Whether there is a connection.
    pub connected: bool,
    /// How the connection goes.
    pub path: PeerPath,
    /// Round trip in milliseconds; null without a connection.
    pub rtt_ms: Option<f64>,
    /// By what this device sends on that path; null without a connection.
    pub congestion: Option<PeerCongestion>,
    /// Both frontiers are equal, and the peer has reported that frontier as materialised: as with [`State::Idle`], every
    /// item is on its disk or among its `problems`. Which these are is not told between devices: where the peer could
    /// not write a file, only `status` on the peer says so.
    pub in_sync: bool,
}

/// How a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerPath {
    /// From device to device.
    Direct,
    /// Through a relay.
    Relay,
    /// There is none.
    None,
}

/// How a sender finds out how much a path bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerCongestion {
    /// By losses: what paths begin with.
    Cubic,
    /// By the rate at which packets arrive: on far paths that lose packets.
    Bbr3,
}

/// A space of this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub dir: BytePath,
    /// This device's role in it.
    pub role: Role,
    /// Whether the user paused it.
    pub paused: bool,
}

/// The spaces of this device, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceList {
    /// Each of them.
    pub spaces: Vec<Space>,
}

/// A ticket that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its text: what the other device is given.
    pub ticket: String,
    /// To which space, by name.
    pub space: String,
    /// With which role.
    pub role: Role,
    /// Until when it can be used.
    pub expires_ms: i64,
}

/// Who belongs to a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberList {
    /// Every row of the table, best rank first.
    pub members: Vec<Member>,
}

/// A device in a space's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub device: String,
    /// What it calls itself; empty if it never said so.
    pub name: String,
    /// The person whom it belongs to.
    pub person: String,
    /// What it may do.
    pub role: Role,
    /// Its rank: who has a better (lower) one can remove it.
    pub rank: u32,
    /// Whether it is this device.
    pub is_this_device: bool,
    /// Whether it is the recovery key: no device, but 24 words on paper.
    pub is_recovery: bool,
}

/// What a sync found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncReport {
    /// Spaces that were scanned, by name.
    pub spaces: Vec<String>,
    /// Connected peers that agree; always 0 without `wait`.
    pub peers_in_sync: u64,
    /// Paths that could not be brought to the view's state.
    pub problems: u64,
}

/// A directory of the view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// What it holds, by name; a file lists itself.
    pub entries: Vec<ListingEntry>,
}

/// A thing in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingEntry {
    /// Its name in the view.
    pub name: BytePath,
    /// What it is.
    pub kind: ItemKind,
    /// Length of its content; 0 for a directory.
    pub size: u64,
    /// When it was changed last, as its author's disk said.
    pub modified_ms: Option<i64>,
    /// Whether it is on this device's disk as the view has it.
    pub is_here: bool,
    /// Whether it is a conflict copy.
    pub is_conflict: bool,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
}

/// The versions of a file, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionList {
    /// Each of them.
    pub versions: Vec<Version>,
}

/// A version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// When its author noted it.
    pub time_ms: i64,
    /// Length of its content; null where it says that the file was deleted.
    pub size: Option<u64>,
    /// Who wrote it, by id.
    pub device: String,
    /// What that device calls itself.
    pub device_name: String,
    /// Whether it is what the view shows.
    pub is_current: bool,
    /// Whether its content is on this device.
    pub is_here: bool,
    /// Names of other devices that have its content.
    pub others: Vec<String>,
}

/// What a restore brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Where it is, absolute.
    pub path: BytePath,
    /// From when the version is.
    pub time_ms: i64,
    /// How many files it was.
    pub files: u64,
    /// How many files and folders went because they did not stand there then; 0 unless that was asked for.
    #[serde(default)]
    pub deleted: u64,
    /// What could not be brought back, by path below the space's root, and why.
    #[serde(default)]
    pub failed: Vec<Problem>,
}

/// What does not come to this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Of which space, by name.
    pub space: String,
    /// Patterns of gitignore's syntax, held against paths from the space's root; the last one that matches decides.
    pub without: Vec<String>,
}

/// What was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Each file whose newest version was given up.
    pub files: Vec<ForgottenFile>,
}

/// A file whose newest version was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenFile {
    /// Below the space's root.
    pub path: BytePath,
    /// Whether the version that this device has stands in its place; otherwise the file is deleted.
    pub kept: bool,
}

/// What a prune let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// How many versions went.
    pub versions: u64,
    /// Their lengths together.
    pub bytes: u64,
}

/// Conflict copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictList {
    /// Each of them, by path.
    pub conflicts: Vec<Conflict>,
}

/// A conflict copy: what one device wrote while another wrote, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// In which space, by name.
    pub space: String,
    /// The file that won, below the space's root.
    pub path: BytePath,
    /// The copy beside it.
    pub copy: BytePath,
    /// Who wrote the copy, by the name that it calls itself.
    pub device_name: String,
    /// Length of the copy.
    pub size: u64,
    /// When its author noted it.
    pub time_ms: i64,
}

/// Changes that the guard holds, or held until they were decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldList {
    /// Each of them, by path.
    pub held: Vec<HeldChange>,
}

/// A change by a peer that waits for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldChange {
    /// In which space, by name.
    pub space: String,
    /// Below the space's root.
    pub path: BytePath,
    /// What would happen.
    pub change: Change,
    /// Who made the change, by the name that it calls itself.
    pub device_name: String,
}

/// What happens to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is made.
    Created,
    /// Its content or its bits change.
    Modified,
    /// It leaves for another place or name.
    Moved,
    /// It goes.
    Deleted,
}

/// What a look at the node and its surroundings found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Everything that was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What it was.
    pub name: String,
    /// Whether it is right.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Right.
    Ok,
    /// Works, but slower or with less safety than it could.
    Warning,
    /// Does not work.
    Error,
}

/// The words of the recovery seed.
#[derive(Clone, Serialize, Deserialize)]
pub struct RecoveryWords {
    /// 24 of them, in order.
    pub words: Vec<String>,
}

impl std::fmt::Debug for RecoveryWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryWords(..)")
    }
}

/// It is done; there is nothing more to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// How far a long command is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// It waits for something that has no measure.
    Waiting {
        /// For what, in words: `reaching the other device`.
        what: String,
    },
    /// The six words that both screens show while a device of one's own joins.
    Words {
        /// In order.
        words: Vec<String>,
    },
    /// Content is on its way.
    Transfer {
        /// Files that are complete.
        files_done: u64,
        /// Files in all, as far as is known.
        files_total: u64,
        /// Bytes that are here.
        bytes_done: u64,
        /// Bytes in all, as far as is known.
        bytes_total: u64,
    },
}

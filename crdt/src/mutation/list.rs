//! The list of faults, and which of them is on in this process.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Defines [`Mutation`]: each with its name and, as its documentation, what is broken.
macro_rules! mutations {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A deliberate fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutation {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Mutation {
            /// All.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// By which it is asked for.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What is broken.
            pub const fn broken(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

mutations! {
    /// What is staged is not synced before something points to it.
    UnsyncedStaging = "unsynced-staging",
    /// A batch counts as done before its renames are synced.
    UnsyncedBatch = "unsynced-batch",
    /// A walk notes that the disk was synced, and it was not.
    UnsyncedWalk = "unsynced-walk",
    /// What a batch is about to do is not noted before it is done.
    UnnotedIntents = "unnoted-intents",
    /// A transaction of the store, and with it the number of an entry, is told to others before it is durable.
    UnsyncedStore = "unsynced-store",
    /// What a finished transaction changed in the index is not marked to be brought to the tree.
    UnmarkedItems = "unmarked-items",
    /// After a start, an unfinished batch counts as not begun.
    UnjudgedIntents = "unjudged-intents",
    /// A displaced file is taken for what base had there, without a look.
    UncomparedDisplaced = "uncompared-displaced",
    /// A displaced file is removed instead of kept as a version.
    UnkeptVersion = "unkept-version",
    /// A displaced local edit is not published.
    UnpublishedDisplaced = "unpublished-displaced",
    /// Time and mode are set on a file that was edited since, and what it shows then counts as known.
    TouchedOverEdit = "touched-over-edit",
    /// An action is done although base has something else in its place by then.
    UnaskedObstacle = "unasked-obstacle",
    /// An edit supersedes what the register holds instead of what base shows.
    EditPredOfRegister = "edit-pred-of-register",
    /// A deletion supersedes what the register holds instead of what base shows.
    DeletePredOfRegister = "delete-pred-of-register",
    /// An edit supersedes nothing.
    EditWithoutPred = "edit-without-pred",
    /// A row notes the operations of a version whose bytes are not here, and the file stays as it is.
    NotedWithoutBytes = "noted-without-bytes",
    /// Entries are sent, and applied, before those that they name.
    AppliedBeforeHeads = "applied-before-heads",
    /// An operation leaves what it supersedes in the register.
    UnsupersededContent = "unsuperseded-content",
    /// A device whose home is older than its folder goes on as it was, with the incarnation and the numbers that it had.
    ReusedIncarnation = "reused-incarnation",
    /// Chunks are written to a manifest in another order, and whoever puts the file together does not check the whole.
    ReorderedManifest = "reordered-manifest",
    /// The losers of a conflict are not shown.
    HiddenLosers = "hidden-losers",
    /// Moves that make a cycle stay as they are.
    UnbrokenCycle = "unbroken-cycle",
    /// A name is looked at alone where the disk may take it for another.
    NamesAlone = "names-alone",
    /// A directory that can't be listed counts as empty.
    UnlistedIsEmpty = "unlisted-is-empty",
    /// A file that can't be read counts as deleted.
    UnreadIsDeleted = "unread-is-deleted",
    /// The directory under an unmounted disk is taken for the folder.
    UnmountedIsEmpty = "unmounted-is-empty",
    /// A file that was read in the tick of its edit counts as known.
    TrustedTick = "trusted-tick",
    /// The mode that a file system without modes shows is published.
    PublishedFixedMode = "published-fixed-mode",
    /// What was found in a directory that moved while it was scanned counts as gone.
    GoneWithMove = "gone-with-move",
    /// A file that lost its bytes to a power loss is acted on before its user has decided.
    UnheldLost = "unheld-lost",
    /// A version goes as soon as versions are looked through.
    PrunedAtOnce = "pruned-at-once",
    /// Chunks that nobody had are not asked for again.
    StarvedForGood = "starved-for-good",
    /// What was asked of a peer that left is not asked of others.
    LostAsks = "lost-asks",
    /// What one peer was sent counts as had by it after the connection ended.
    StaleCursor = "stale-cursor",
    /// What came from one peer is not passed on to others.
    UnpassedEntries = "unpassed-entries",
    /// A watcher that lost track is taken for one that has nothing to tell.
    LostRescan = "lost-rescan",
    /// After a start, what users did meanwhile is not looked for.
    UnscannedStart = "unscanned-start",
    /// What a scan left off for want of memory is not looked at by another.
    UnscannedRest = "unscanned-rest",
    /// A merge leaves out a change of one side.
    DroppedHunk = "dropped-hunk",
    /// Of two entries with one number the second is dropped.
    DroppedBranch = "dropped-branch",
    /// A member whose word goes back behind what it said before is believed.
    UnnoticedRollback = "unnoticed-rollback",
    /// What a member told others is not held against what it told this device.
    UnnoticedViews = "unnoticed-views",
    /// Whoever says that it has entries and does not bring them is waited for in silence.
    UnnoticedGap = "unnoticed-gap",
    /// Whoever is refused at pairing is told why.
    TellingRefusal = "telling-refusal",
    /// A chunk that does not open under its key is taken for one that its sender can't read now.
    TellingOpening = "telling-opening",
    /// A chunk's id is the plain hash of what is in it.
    UnkeyedChunkIds = "unkeyed-chunk-ids",
    /// The payload of an entry is not encrypted.
    UnsealedPayloads = "unsealed-payloads",
    /// A link in the place of a directory or file is followed.
    FollowedLinks = "followed-links",
    /// What a frame announces is set aside before its length is checked.
    UncheckedFrames = "unchecked-frames",
    /// Of one peer's entries without their past as many are kept as it sends.
    UnboundedOrphans = "unbounded-orphans",
    /// Of one peer's messages as many wait for the space as the peer sends.
    UnfairTurns = "unfair-turns",
    /// What is no message is passed over.
    ToleratedGarbage = "tolerated-garbage",
    /// A member that owes answers is waited for without end.
    AwaitedSilence = "awaited-silence",
    /// Of what comes on a connection as much waits for its readers as its peer sends.
    UnboundedWindow = "unbounded-window",
    /// Addresses count that their device did not sign.
    UnsignedAddresses = "unsigned-addresses",
    /// A name stands on every disk as it is.
    UnprojectedNames = "unprojected-names",
    /// The process may be written to disk as it is when it ends.
    WrittenCores = "written-cores",
    /// A secret is shown where its type is printed.
    ShownSecrets = "shown-secrets",
}

/// The place in [`Mutation::ALL`] of the one that is on, plus one; 0 if none is. For all threads: a process plays many
/// worlds with one fault.
static ON: AtomicUsize = AtomicUsize::new(0);

/// Names the fault that is on in a process from its start, for a test that runs another program.
pub const VARIABLE: &str = "ZEROCLOUD_MUTATION";

/// The fault that the environment names.
static NAMED: LazyLock<Option<Mutation>> = LazyLock::new(|| {
    let name = std::env::var(VARIABLE).ok()?;
    Mutation::ALL.iter().copied().find(|mutation| mutation.name() == name)
});

/// Whether a fault is on.
pub fn is_on(mutation: Mutation) -> bool {
    ON.load(Ordering::Relaxed) == mutation as usize + 1 || *NAMED == Some(mutation)
}

/// Switches a fault on, and every other off.
pub fn switch_to(mutation: Option<Mutation>) {
    ON.store(mutation.map_or(0, |mutation| mutation as usize + 1), Ordering::Relaxed);
}

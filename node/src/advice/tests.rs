//! Walks every variant of every error of the list: each must say what to do next.

use std::collections::BTreeSet;
use std::path::PathBuf;

use zerocloud_crdt::codec::DecodeError;
use zerocloud_crdt::grant::OpenGrantError;
use zerocloud_crdt::id::{DeviceId, EpochId, SpaceId};
use zerocloud_crdt::log::EntryError;
use zerocloud_crdt::membership::{GenesisError, InsertError, NeedsNewerVersion, Newer};
use zerocloud_crdt::name::NameError;
use zerocloud_crdt::pairing::{NonceError, T2Error};
use zerocloud_crdt::ticket::TicketError;

use super::ADVISING;
use crate::answers::history::HistoryError;
use crate::api::client::CallError;
use crate::api::{ApiError, ErrorKind};
use crate::config::ConfigError;
use crate::daemon::RunError;
use crate::duration::DurationError;
use crate::engine::replica::Stop;
use crate::folder::work::FolderError;
use crate::home::{HomeError, LockError, SecretsError};
use crate::link::iroh::{Bind, LinkWarning, OpenLinkError};
use crate::link::{CloseReason, DialError};
use crate::node::opened::OpenError;
use crate::pairing::{JoinError, MakeTicketError};
use crate::space::AppendError;
use crate::store::StoreError;
use crate::tree::ignoring::RulesFault;
use crate::tree::marker::MarkerError;
use crate::tree::materialise::Blocked;
use crate::tree::scan::Reason;
use crate::tree::stage::StageError;
use crate::volume::{VolumeError, VolumeErrorKind};
use crate::watch::{WatchError, WatchWarning};
use crate::wire::FrameError;

/// What a user can be asked to do: how a part of a sentence begins that says so.
const DEEDS: &[&str] = &[
    "ask one",
    "ask whoever",
    "change it",
    "check",
    "choose",
    "close",
    "connect",
    "copy it again",
    "free some",
    "give their",
    "join again",
    "join it again",
    "make a new",
    "make it",
    "make that",
    "make the",
    "make them",
    "mend it",
    "mount",
    "move",
    "pair again",
    "put back",
    "put it",
    "put the",
    "put them",
    "put what",
    "raise",
    "rename",
    "report",
    "restart",
    "save",
    "shorten",
    "split",
    "start it",
    "stop that",
    "try again",
    "update",
    "use it",
    "use fewer",
    "use the",
    "write it",
    "bring a version",
    "run zerocloud",
    "`zerocloud ",
    "it begins with",
];
/// What is said where there is nothing to be done.
const BY_ITSELF: &[&str] =
    &["it will be tried again", "it will be looked at again", "and then it goes on", "nothing is to be done"];

/// Whether some part of a text says what to do, or that nothing is to be done.
fn says_what_to_do(text: &str) -> bool {
    let lower = text.to_lowercase();
    let parts = lower.split(['\n', ';', ':', '?', ',', '(']);
    parts.map(str::trim).any(|part| DEEDS.iter().any(|deed| part.starts_with(deed)))
        || BY_ITSELF.iter().any(|said| lower.contains(said))
}

#[derive(Default)]
struct Walk {
    reached: BTreeSet<String>,
    silent: Vec<String>,
}

impl Walk {
    fn see<T: super::Advises>(&mut self, all: &[T]) {
        self.reached.insert(std::any::type_name::<T>().to_owned());
        self.silent.extend(all.iter().map(ToString::to_string).filter(|text| !says_what_to_do(text)));
    }
}

/// One of each variant. A variant that is not here does not compile.
macro_rules! every {
    ($walk:ident, $error:ident: $($variant:pat => $sample:expr),* $(,)?) => {{
        let known = |error: &$error| match error { $($variant => (),)* };
        let all: Vec<$error> = vec![$($sample),*];
        all.iter().for_each(known);
        $walk.see(&all);
    }};
}

fn io() -> std::io::Error {
    std::io::Error::other("no")
}

fn path() -> PathBuf {
    "/somewhere".into()
}

const PEER: DeviceId = DeviceId([1; 32]);
const SPACE: SpaceId = SpaceId([2; 32]);

fn volume_error() -> VolumeError {
    VolumeError::new(VolumeErrorKind::NoSpace, "write", b"a")
}

/// An error as the client of the local API gets it when a node goes away.
fn broken() -> hyper::Error {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        let io = hyper_util::rt::TokioIo::new(near);
        let (mut sender, conn) = hyper::client::conn::http1::handshake::<_, String>(io).await.unwrap();
        let (answer, _) = tokio::join!(sender.send_request(hyper::Request::new(String::new())), conn);
        answer.unwrap_err()
    })
}

fn newer() -> NeedsNewerVersion {
    NeedsNewerVersion { what: Newer::Level { level: 9 } }
}

fn walk_what_a_command_meets(walk: &mut Walk) {
    every!(walk, CallError:
        CallError::NoNode => CallError::NoNode,
        CallError::Io(_) => CallError::Io(io()),
        CallError::Broken(_) => CallError::Broken(broken()),
        CallError::Malformed(_) => CallError::Malformed(serde_json::from_str::<u8>("x").unwrap_err()),
        CallError::Refused(_) => CallError::Refused(ApiError::of(ErrorKind::Failed, &StoreError::DiskFull)),
    );
    every!(walk, HomeError:
        HomeError::NoDefault => HomeError::NoDefault,
        HomeError::Absent { .. } => HomeError::Absent { dir: path() },
        HomeError::Foreign { .. } => HomeError::Foreign { dir: path() },
        HomeError::NotOurs { .. } => HomeError::NotOurs { dir: path(), owner: 7 },
        HomeError::Io { .. } => HomeError::Io { dir: path(), source: io() },
    );
    every!(walk, LockError:
        LockError::Running { .. } => LockError::Running { pid: None },
        LockError::Io { .. } => LockError::Io { path: path(), source: io() },
    );
    every!(walk, SecretsError:
        SecretsError::Io { .. } => SecretsError::Io { path: path(), source: io() },
        SecretsError::Exposed { .. } => SecretsError::Exposed { path: path(), mode: 0o644 },
        SecretsError::Damaged { .. } => SecretsError::Damaged { path: path() },
        SecretsError::UnknownFormat { .. } => SecretsError::UnknownFormat { path: path(), found: 9 },
        SecretsError::Lost { .. } => SecretsError::Lost { path: path() },
    );
    every!(walk, ConfigError:
        ConfigError::Io { .. } => ConfigError::Io { path: path(), source: io() },
        ConfigError::Malformed { .. } => ConfigError::Malformed { path: path(), message: "line 1".into() },
        ConfigError::OutOfRange { .. } => ConfigError::OutOfRange { path: path(), key: "lan", reason: "is odd" },
    );
    every!(walk, RunError:
        RunError::Lock(_) => RunError::Lock(LockError::Running { pid: Some(1) }),
        RunError::Config(_) => RunError::Config(ConfigError::Io { path: path(), source: io() }),
        RunError::Secrets(_) => RunError::Secrets(SecretsError::Damaged { path: path() }),
        RunError::Random(_) => RunError::Random(getrandom::Error::UNEXPECTED),
        RunError::Backend(_) => RunError::Backend(ApiError::of(ErrorKind::Failed, &StoreError::InUse)),
        RunError::Api(_) => RunError::Api(io()),
        RunError::Signals(_) => RunError::Signals(io()),
        RunError::SlowStop => RunError::SlowStop,
    );
    every!(walk, DurationError:
        DurationError::Malformed { .. } => DurationError::Malformed { text: "soon".into() },
        DurationError::TooLong { .. } => DurationError::TooLong { text: "9999999999d".into() },
    );
    every!(walk, HistoryError:
        HistoryError::Store(_) => HistoryError::Store(StoreError::FailedBefore),
        HistoryError::Entry(_) => HistoryError::Entry(EntryError::WrongSpace),
        HistoryError::Open(_) => HistoryError::Open(zerocloud_crdt::log::payload::OpenError::UnknownSuite { suite: 9 }),
        HistoryError::NoSecret { .. } => HistoryError::NoSecret { epoch: EpochId([0; 32]) },
        HistoryError::Missing => HistoryError::Missing,
    );
}

fn walk_joining(walk: &mut Walk) {
    every!(walk, TicketError:
        TicketError::NotTicket => TicketError::NotTicket,
        TicketError::Damaged => TicketError::Damaged,
        TicketError::NewerVersion => TicketError::NewerVersion,
        TicketError::Draft => TicketError::Draft,
        TicketError::TooLong => TicketError::TooLong,
    );
    every!(walk, NonceError:
        NonceError::Decode(_) => NonceError::Decode(DecodeError::Malformed),
        NonceError::NotExpected => NonceError::NotExpected,
        NonceError::Wrong => NonceError::Wrong,
    );
    every!(walk, T2Error:
        T2Error::Decode(_) => T2Error::Decode(DecodeError::Malformed),
        T2Error::NotAuthentic => T2Error::NotAuthentic,
        T2Error::Shape => T2Error::Shape,
        T2Error::Genesis(_) => T2Error::Genesis(GenesisError::WrongSpace),
        T2Error::Record(_) => T2Error::Record(InsertError::LevelFell),
        T2Error::OutOfOrder => T2Error::OutOfOrder,
        T2Error::NeedsNewerVersion(_) => T2Error::NeedsNewerVersion(newer()),
        T2Error::NotAdmitted => T2Error::NotAdmitted,
        T2Error::Grant(_) => T2Error::Grant(OpenGrantError::WrongSpace),
        T2Error::MissingSecret => T2Error::MissingSecret,
    );
    every!(walk, JoinError:
        JoinError::Dial(_) => JoinError::Dial(DialError::NoAnswer { peer: PEER }),
        JoinError::Refused => JoinError::Refused,
        JoinError::NotConfirmed => JoinError::NotConfirmed,
        JoinError::NoAnswer => JoinError::NoAnswer,
        JoinError::Ended(_) => JoinError::Ended(CloseReason::Silent),
        JoinError::Frame(_) => JoinError::Frame(FrameError::Truncated),
        JoinError::Nonce(_) => JoinError::Nonce(NonceError::Wrong),
        JoinError::Answer(_) => JoinError::Answer(T2Error::Shape),
    );
    every!(walk, MakeTicketError:
        MakeTicketError::NotMember => MakeTicketError::NotMember,
        MakeTicketError::NotOwner => MakeTicketError::NotOwner,
        MakeTicketError::Text(_) => MakeTicketError::Text(TicketError::TooLong),
        MakeTicketError::Store(_) => MakeTicketError::Store(StoreError::DiskFull),
        MakeTicketError::Stopping => MakeTicketError::Stopping,
    );
    every!(walk, DialError:
        DialError::NoAddress { .. } => DialError::NoAddress { peer: PEER },
        DialError::NotAKey { .. } => DialError::NotAKey { peer: PEER },
        DialError::OurselfDialled => DialError::OurselfDialled,
        DialError::NotProven { .. } => DialError::NotProven { peer: PEER },
        DialError::OtherVersion { .. } => DialError::OtherVersion { peer: PEER },
        DialError::NoAnswer { .. } => DialError::NoAnswer { peer: PEER },
        DialError::Ended { .. } => DialError::Ended { peer: PEER, reason: CloseReason::Reset },
        DialError::LinkClosed => DialError::LinkClosed,
    );
    every!(walk, OpenLinkError:
        OpenLinkError::Bind { .. } => OpenLinkError::Bind { bind: Bind::RelaysOnly, source: io() },
        OpenLinkError::RelayUrl { .. } => OpenLinkError::RelayUrl { url: "x".into() },
        OpenLinkError::RelayCertificate { .. } => OpenLinkError::RelayCertificate { path: path(), reason: "no".into() },
        OpenLinkError::Endpoint { .. } => OpenLinkError::Endpoint { source: Box::new(io()) },
    );
    every!(walk, LinkWarning:
        LinkWarning::UdpBufferClipped { .. } => LinkWarning::UdpBufferClipped { wanted_len: 2, granted_len: 1 },
        LinkWarning::LanUnavailable { .. } => LinkWarning::LanUnavailable { detail: "no".into() },
        LinkWarning::RelayHasOtherCertificate { .. } =>
            LinkWarning::RelayHasOtherCertificate { url: "x".into(), path: path() },
        LinkWarning::RelayNotVouchedFor { .. } => LinkWarning::RelayNotVouchedFor { url: "x".into() },
        LinkWarning::RelayRefuses { .. } => LinkWarning::RelayRefuses { url: "x".into(), reason: "no".into() },
        LinkWarning::NoRelayAnswers { .. } => LinkWarning::NoRelayAnswers { urls: "x".into() },
    );
}

fn walk_spaces(walk: &mut Walk) {
    every!(walk, StoreError:
        StoreError::DiskFull => StoreError::DiskFull,
        StoreError::Damaged { .. } => StoreError::Damaged { table: "base" },
        StoreError::NewerVersion { .. } => StoreError::NewerVersion { found: 9 },
        StoreError::Draft { .. } => StoreError::Draft { found: 0 },
        StoreError::WrongSpace { .. } => StoreError::WrongSpace { found: SPACE },
        StoreError::InUse => StoreError::InUse,
        StoreError::FailedBefore => StoreError::FailedBefore,
        StoreError::OutOfTurn => StoreError::OutOfTurn,
        StoreError::TooLong { .. } => StoreError::TooLong { len: 9 },
        StoreError::Io(_) => StoreError::Io(io()),
        StoreError::Database(_) => StoreError::Database(redb::Error::DatabaseAlreadyOpen),
    );
    every!(walk, OpenError:
        OpenError::Store(_) => OpenError::Store(StoreError::InUse),
        OpenError::Incomplete => OpenError::Incomplete,
        OpenError::Records(_) => OpenError::Records("no".into()),
        OpenError::NoSecret => OpenError::NoSecret,
        OpenError::Replica(_) => OpenError::Replica("no".into()),
        OpenError::System(_) => OpenError::System(io()),
        OpenError::Random(_) => OpenError::Random(getrandom::Error::UNEXPECTED),
    );
    every!(walk, Stop: Stop::NeedsNewerVersion => Stop::NeedsNewerVersion);
    every!(walk, AppendError:
        AppendError::Stopped(_) => AppendError::Stopped(Stop::NeedsNewerVersion),
        AppendError::Failed(_) => AppendError::Failed("no".into()),
        AppendError::Closed => AppendError::Closed,
    );
    every!(walk, FolderError:
        FolderError::Volume(_) => FolderError::Volume(volume_error()),
        FolderError::Marker(_) => FolderError::Marker(MarkerError::Missing),
        FolderError::OtherFilesystem => FolderError::OtherFilesystem,
        FolderError::Store(_) => FolderError::Store(StoreError::DiskFull),
        FolderError::Log(_) => FolderError::Log(AppendError::Closed),
        FolderError::NotRecovered => FolderError::NotRecovered,
        FolderError::Thread(_) => FolderError::Thread(io()),
    );
    every!(walk, MarkerError:
        MarkerError::Missing => MarkerError::Missing,
        MarkerError::Damaged(_) => MarkerError::Damaged(DecodeError::Malformed),
        MarkerError::OtherSpace { .. } => MarkerError::OtherSpace { found: SPACE },
        MarkerError::Higher { .. } => MarkerError::Higher { marker: 2, store: 1 },
        MarkerError::Lower { .. } => MarkerError::Lower { marker: 1, store: 2 },
        MarkerError::Volume(_) => MarkerError::Volume(volume_error()),
    );
    every!(walk, WatchWarning:
        WatchWarning::OutOfWatches => WatchWarning::OutOfWatches,
        WatchWarning::NotWatched { .. } => WatchWarning::NotWatched { path: (*b"a").into(), source: volume_error() },
        WatchWarning::Stopped(_) => WatchWarning::Stopped(io()),
    );
    every!(walk, WatchError: WatchError::Unavailable(_) => WatchError::Unavailable(io()));
}

fn walk_files(walk: &mut Walk) {
    use VolumeErrorKind as Kind;
    every!(walk, VolumeErrorKind:
        Kind::NotFound => Kind::NotFound,
        Kind::Exists => Kind::Exists,
        Kind::NotEmpty => Kind::NotEmpty,
        Kind::NotADirectory => Kind::NotADirectory,
        Kind::IsALink => Kind::IsALink,
        Kind::WrongKind => Kind::WrongKind,
        Kind::IntoItself => Kind::IntoItself,
        Kind::InvalidName => Kind::InvalidName,
        Kind::NameTooLong => Kind::NameTooLong,
        Kind::NoSpace => Kind::NoSpace,
        Kind::TooLarge => Kind::TooLarge,
        Kind::PermissionDenied => Kind::PermissionDenied,
        Kind::NotInControl => Kind::NotInControl,
        Kind::Busy => Kind::Busy,
        Kind::TooManyOpenFiles => Kind::TooManyOpenFiles,
        Kind::CrossDevice => Kind::CrossDevice,
        Kind::Unsupported => Kind::Unsupported,
        Kind::ReadOnly => Kind::ReadOnly,
        Kind::Gone => Kind::Gone,
        Kind::Io => Kind::Io,
        // No user meets it: only a simulated disk has it.
        Kind::Crashed => Kind::Io,
    );
    walk.see(&[volume_error()]);
    every!(walk, Reason:
        Reason::Name(_) => Reason::Name(NameError::Reserved),
        Reason::Special => Reason::Special,
        Reason::OtherFilesystem => Reason::OtherFilesystem,
        Reason::HardLinked { .. } => Reason::HardLinked { count: 2 },
        Reason::Unlisted(_) => Reason::Unlisted(Kind::PermissionDenied),
        Reason::Unreadable(_) => Reason::Unreadable(Kind::Io),
        Reason::Unstable => Reason::Unstable,
        Reason::Replaced => Reason::Replaced,
        Reason::TooLong => Reason::TooLong,
        Reason::Rules(_) => Reason::Rules(RulesFault::TooComplex),
        Reason::TooManyRules => Reason::TooManyRules,
        Reason::Lost => Reason::Lost,
        Reason::NoKeys => Reason::NoKeys,
    );
    every!(walk, RulesFault:
        RulesFault::Malformed { .. } => RulesFault::Malformed { line: 3 },
        RulesFault::TooLong { .. } => RulesFault::TooLong { line: 3 },
        RulesFault::TooComplex => RulesFault::TooComplex,
    );
    every!(walk, Blocked:
        Blocked::NoDirectory => Blocked::NoDirectory,
        Blocked::Missing => Blocked::Missing,
        Blocked::Changed => Blocked::Changed,
        Blocked::Occupied => Blocked::Occupied,
        Blocked::Collides => Blocked::Collides,
        Blocked::Itself => Blocked::Itself,
        Blocked::NotEmpty => Blocked::NotEmpty,
        Blocked::NotStaged => Blocked::NotStaged,
    );
    every!(walk, StageError:
        StageError::WrongChunk { .. } => StageError::WrongChunk { index: 1 },
        StageError::Incomplete { .. } => StageError::Incomplete { count: 1 },
        StageError::WrongContent => StageError::WrongContent,
        StageError::Volume(_) => StageError::Volume(volume_error()),
    );
}

#[test]
fn every_error_that_a_user_meets_says_what_to_do_next() {
    let mut walk = Walk::default();
    walk_what_a_command_meets(&mut walk);
    walk_joining(&mut walk);
    walk_spaces(&mut walk);
    walk_files(&mut walk);
    assert_eq!(walk.silent, Vec::<String>::new(), "these texts say nothing to do");
    let name = |path: &str| path.rsplit("::").next().unwrap_or_default().to_owned();
    let reached: BTreeSet<String> = walk.reached.iter().map(|path| name(path)).collect();
    assert_eq!(reached, ADVISING.iter().map(|path| name(path)).collect(), "each error of the list is walked");
}

#[test]
fn a_text_without_advice_is_noticed() {
    for text in ["the disk failed", "it can't be read: no", "a node is already running on this home"] {
        assert!(!says_what_to_do(text), "{text}");
    }
    assert!(says_what_to_do("the disk is full; free some space"));
    assert!(says_what_to_do("the file changes; it will be tried again"));
}

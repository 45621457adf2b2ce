//! Failures of a command: what the user reads, and the exit code.

use serde::Serialize;

use crate::api::client::CallError;
use crate::api::{ApiError, ErrorKind};
use crate::daemon::RunError;
use crate::home::{HomeError, LockError};

/// Exit code of a command that did what it was asked.
pub(super) const DONE: u8 = 0;
/// Exit code of a command line that has no meaning.
pub(super) const USAGE: u8 = 2;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) struct CommandError {
    kind: Kind,
    source: Box<dyn std::error::Error + Send + Sync>,
    hints: Vec<String>,
}

/// What scripts tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Failed,
    Usage,
    NoNode,
    TimedOut,
}

/// As `--json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    error: ShownError<'a>,
}

#[derive(Serialize)]
struct ShownError<'a> {
    kind: Kind,
    message: String,
    hints: &'a [String],
}

impl CommandError {
    fn new(kind: Kind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into(), hints: Vec::new() }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message.into())
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message.into())
    }

    pub(super) fn runtime(error: std::io::Error) -> Self {
        Self::new(Kind::Failed, format!("threads can't be started: {error}"))
    }

    /// `what` is where something was to be written.
    pub(super) fn unwritten(what: &str, error: &std::io::Error) -> Self {
        Self::failed(format!("{what} can't be written: {error}")).hint("choose a directory that you may write to")
    }

    pub(super) fn no_node() -> Self {
        CallError::NoNode.into()
    }

    pub(super) fn home_is_busy() -> Self {
        Self::new(Kind::Failed, "the home is in use by a node that is starting or by another command")
            .hint("try again in a moment")
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => USAGE,
            Kind::NoNode => 3,
            Kind::TimedOut => 4,
        }
    }

    /// `error: …`, and a line for each hint.
    pub(super) fn to_text(&self) -> String {
        let hints = self.hints.iter().map(|hint| format!("\n  hint: {hint}"));
        format!("error: {}{}", self.source, hints.collect::<String>())
    }

    pub(super) fn to_json(&self) -> String {
        let error = ShownError { kind: self.kind, message: self.source.to_string(), hints: &self.hints };
        serde_json::to_string(&Shown { error }).unwrap_or_default()
    }
}

impl From<ApiError> for CommandError {
    fn from(error: ApiError) -> Self {
        let kind = match error.kind {
            ErrorKind::Invalid => Kind::Usage,
            ErrorKind::TimedOut => Kind::TimedOut,
            ErrorKind::Denied
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Unreachable
            | ErrorKind::Failed => Kind::Failed,
        };
        Self { kind, hints: error.hints.clone(), source: error.into() }
    }
}

impl From<CallError> for CommandError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(error) => error.into(),
            CallError::NoNode => Self::new(Kind::NoNode, error)
                .hint("`zerocloud start` runs it; `zerocloud up` also makes a first space and a ticket"),
            CallError::Io(_) | CallError::Broken(_) | CallError::Malformed(_) => Self::new(Kind::Failed, error),
        }
    }
}

impl From<HomeError> for CommandError {
    fn from(error: HomeError) -> Self {
        let hint = match &error {
            HomeError::NoDefault | HomeError::Foreign { .. } => {
                "choose an empty or new directory with --home or ZEROCLOUD_HOME"
            }
            HomeError::NotOurs { .. } => "run zerocloud as its owner, or choose another home with --home",
            HomeError::Absent { .. } | HomeError::Io { .. } => return Self::new(Kind::Failed, error),
        };
        Self::new(Kind::Failed, error).hint(hint)
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Backend(error) => error.into(),
            RunError::Lock(LockError::Running { .. }) => Self::new(Kind::Failed, error).hint(
                "`zerocloud status` shows what it does, `zerocloud stop` ends it; a second node needs a second --home",
            ),
            _ => Self::new(Kind::Failed, error),
        }
    }
}

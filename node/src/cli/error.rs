//! Failures of a command: what the user reads, and the exit code.

use serde::Serialize;

use crate::advice::Advises;
use crate::api::client::CallError;
use crate::api::{ApiError, ErrorKind};
use crate::daemon::RunError;
use crate::home::HomeError;

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
    /// A failure, and what to do about it.
    fn new(kind: Kind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, source: message.into().into(), hints: vec![hint.into()] }
    }

    /// A failure whose own text says what to do about it.
    fn of(kind: Kind, error: impl Advises + std::error::Error + Send + Sync + 'static) -> Self {
        Self { kind, source: error.into(), hints: Vec::new() }
    }

    pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message, hint)
    }

    pub(super) fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message, hint)
    }

    pub(super) fn runtime(error: std::io::Error) -> Self {
        let hint = "close other programs, or raise the limit of processes (`ulimit -u`)";
        Self::failed(format!("threads can't be started: {error}"), hint)
    }

    /// `what` is where something was to be written.
    pub(super) fn unwritten(what: &str, error: &std::io::Error) -> Self {
        Self::failed(format!("{what} can't be written: {error}"), "choose a directory that you may write to")
    }

    pub(super) fn no_node() -> Self {
        CallError::NoNode.into()
    }

    pub(super) fn home_is_busy() -> Self {
        let message = "the home is in use by a node that is starting or by another command";
        Self::failed(message, "try again in a moment")
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
            CallError::NoNode => Self::of(Kind::NoNode, error),
            CallError::Io(_) | CallError::Broken(_) | CallError::Malformed(_) => Self::of(Kind::Failed, error),
        }
    }
}

impl From<HomeError> for CommandError {
    fn from(error: HomeError) -> Self {
        Self::of(Kind::Failed, error)
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Backend(error) => error.into(),
            error => Self::of(Kind::Failed, error),
        }
    }
}

//! Which errors say themselves what a user can do about them: those whose text is all that a user sees, in an answer,
//! in `status`, in a problem or a warning. The texts stand beside the errors.
//!
//! What only a log tells (sessions, peers, frames) is not here. What has no text of its own takes its advice where it
//! is made: [`ApiError::new`](crate::api::ApiError::new) asks for it.

use std::fmt::Display;

/// An error whose text says what to do next. Implemented here alone, for the errors that the tests walk variant by
/// variant.
pub trait Advises: Display {}

macro_rules! advises {
    ($($error:ty),* $(,)?) => {
        $(impl Advises for $error {})*
        /// The errors that a walk has to reach.
        #[cfg(test)]
        const ADVISING: &[&str] = &[$(stringify!($error)),*];
    };
}

advises!(
    crate::answers::history::HistoryError,
    crate::api::client::CallError,
    crate::config::ConfigError,
    crate::daemon::RunError,
    crate::duration::DurationError,
    crate::engine::replica::Stop,
    crate::folder::work::FolderError,
    crate::home::HomeError,
    crate::home::LockError,
    crate::home::SecretsError,
    crate::link::DialError,
    crate::link::iroh::LinkWarning,
    crate::link::iroh::OpenLinkError,
    crate::node::opened::OpenError,
    crate::pairing::JoinError,
    crate::pairing::MakeTicketError,
    crate::space::AppendError,
    crate::store::StoreError,
    crate::tree::ignoring::RulesFault,
    crate::tree::marker::MarkerError,
    crate::tree::materialise::Blocked,
    crate::tree::scan::Reason,
    crate::tree::stage::StageError,
    crate::volume::VolumeError,
    crate::volume::VolumeErrorKind,
    crate::watch::WatchError,
    crate::watch::WatchWarning,
    zerocloud_crdt::pairing::NonceError,
    zerocloud_crdt::pairing::T2Error,
    zerocloud_crdt::ticket::TicketError,
);

#[cfg(test)]
mod tests;

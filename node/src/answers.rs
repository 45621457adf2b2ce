//! Answers of the local API that follow from a space's stored state alone.
//!
//! Every function reads one [`Snapshot`], the space's records or secrets, and writes nothing,
//! so that a command is answered in the same way by a running node and on a store whose node does not run. Which
//! space a user means, and what needs a peer or a folder's thread, is the [`Backend`](crate::api::Backend)'s work.
//!
//! Names and labels go into answers as they are, byte for byte: whoever shows them escapes them. In messages of an
//! [`ApiError`] they are escaped.

use zerocloud_crdt::id::ActorId;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::name::{Name, escape};
use zerocloud_crdt::register::{FileTime, Kind};

use crate::api::path::BytePath;
use crate::api::types::ItemKind;
use crate::api::{ApiError, ErrorKind};
use crate::store::{Snapshot, StoreError};

pub mod conflicts;
pub mod discrepancies;
pub mod doctor;
pub mod held;
pub mod history;
pub mod homes;
pub mod list;
pub mod members;
pub mod paths;
pub mod rewind;
#[cfg(test)]
mod tests;

/// A failure of the store, whose text says what to do.
fn store_failed(error: StoreError) -> ApiError {
    ApiError::of(ErrorKind::Failed, &error)
}

/// The view has nothing at a path.
fn not_found(path: &[Vec<u8>]) -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        format!("there is no `{}` in this space", shown(path)),
        "`zerocloud ls SPACE` lists what there is",
    )
}

/// A path for a message.
fn shown(path: &[Vec<u8>]) -> String {
    escape(&path.join(&b'/'))
}

/// A path for an answer, from the space's root down.
fn byte_path(path: &[Name]) -> BytePath {
    let names: Vec<&[u8]> = path.iter().map(Name::as_bytes).collect();
    names.join(&b'/').into()
}

/// Milliseconds since 1970, rounded down; the first or last there are for times beyond.
fn milliseconds(time: FileTime) -> i64 {
    time.secs.saturating_mul(1_000).saturating_add(i64::from(time.nanos / 1_000_000))
}

const fn item_kind(kind: Kind) -> ItemKind {
    match kind {
        Kind::Directory => ItemKind::Directory,
        Kind::File => ItemKind::File,
        Kind::Symlink => ItemKind::Link,
    }
}

/// A name as text; what is no UTF-8 in it can't be told in JSON.
fn text(name: &Name) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

/// What the log that writes as `actor` calls its device; empty if that is not known.
fn label_of(snapshot: &Snapshot, actor: ActorId) -> Result<String, StoreError> {
    Ok(snapshot.label(actor)?.as_ref().map(text).unwrap_or_default())
}

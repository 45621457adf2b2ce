//! Why the store did not read or write.

use std::io;

use zerocloud_crdt::id::SpaceId;

/// What a caller decides on. The text says what a user can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Hardly any space, or the user's quota is used up. Nothing of the transaction was kept.
    #[error("the disk that holds ZeroCloud's database is full or the quota is used up; free some space")]
    DiskFull,
    /// Bytes that nobody wrote, or a table without what must be there.
    #[error(
        "ZeroCloud's database is damaged (table {table}); move it away and join the space again from another device: \
         your files stay where they are"
    )]
    Damaged {
        /// Where it was noticed.
        table: &'static str,
    },
    /// Written by a newer version of the program.
    #[error("the database has format {found}, which is newer than this version reads; update ZeroCloud")]
    NewerVersion {
        /// Its format.
        found: u32,
    },
    /// Written by a version whose formats were drafts.
    #[error(
        "the database has format {found}, which is that of a draft of ZeroCloud and read no more; move the home aside \
         and make the space anew: your files stay where they are"
    )]
    Draft {
        /// Its format.
        found: u32,
    },
    /// Another space's store.
    #[error("the database belongs to space {found}; put the database of this space in its place")]
    WrongSpace {
        /// Whose it is.
        found: SpaceId,
    },
    /// Another process has the file open.
    #[error("the database is open in another process; stop that ZeroCloud first")]
    InUse,
    /// A transaction failed before this one, and the file must be opened again to know what it holds.
    #[error("the database failed to write before; restart ZeroCloud")]
    FailedBefore,
    /// An entry was put whose number is not the next of its log: a mistake of the caller.
    #[error("an entry was stored out of its turn; restart ZeroCloud and report this")]
    OutOfTurn,
    /// Too large for the format: a mistake of the caller.
    #[error("a value of {len} bytes is too long for the database; report this")]
    TooLong {
        /// Length in bytes.
        len: usize,
    },
    /// The disk said no.
    #[error("the disk that holds ZeroCloud's database fails: {0}; check the disk")]
    Io(#[source] io::Error),
    /// A failure of the database that none of the above describes.
    #[error("ZeroCloud's database fails: {0}; restart ZeroCloud")]
    Database(#[source] redb::Error),
}

impl StoreError {
    pub(super) fn of_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            // redb says so of a file that is none of its own.
            io::ErrorKind::InvalidData => Self::Damaged { table: "file" },
            _ => Self::Io(error),
        }
    }

    pub(super) fn of_redb(error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Io(error) => Self::of_io(error),
            redb::Error::Corrupted(_) => Self::Damaged { table: "file" },
            redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. } => {
                Self::Damaged { table: "list of tables" }
            }
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::PreviousIo => Self::FailedBefore,
            redb::Error::ValueTooLarge(len) => Self::TooLong { len },
            error => Self::Database(error),
        }
    }
}

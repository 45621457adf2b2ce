//! The table: who is in a space, with which role, rank and person.

use std::collections::BTreeMap;

use super::{Given, Identity, NeedsNewerVersion, Role};
use crate::id::{DeviceId, PersonId, RecordHash};

/// A device that is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name and keys.
    pub identity: Identity,
    /// Whose device it is, its rank and its role.
    pub given: Given,
}

/// Who is in a space: a pure function of a set of records, whatever their order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    rows: BTreeMap<DeviceId, Member>,
}

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A record that is not here (yet).
    #[error("membership record {0} has not arrived yet")]
    Unknown(RecordHash),
    /// One of the records can't be evaluated here.
    #[error(transparent)]
    NeedsNewerVersion(#[from] NeedsNewerVersion),
}

/// Why an author may not add a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddRefusal {
    /// The author is not in the table.
    #[error("this device is not a member of the space")]
    NotMember,
    /// The rank is not strictly worse than the author's.
    #[error("a device can only be added with a worse rank than that of the device that adds it")]
    Rank,
    /// A device of one's own person would get more than the author has.
    #[error("a device can't give more rights than it has")]
    Role,
    /// Only owners add other people.
    #[error("only an owner can add other people; ask one to make the invitation")]
    NotOwner,
    /// The person is in the table already, and is not the author's.
    #[error("other people are added under a person of their own")]
    PersonTaken,
    /// The device is in the table under another person, or with a rank on which the author can't act.
    #[error("the device is already a member, on which this device can't act")]
    Standing,
}

impl Table {
    pub(super) fn from_rows(rows: impl IntoIterator<Item = Member>) -> Self {
        Self { rows: rows.into_iter().map(|row| (row.identity.device, row)).collect() }
    }

    /// The row of a device, if it is in.
    pub fn row(&self, device: DeviceId) -> Option<&Member> {
        self.rows.get(&device)
    }

    /// The role of a device, if it is in.
    pub fn role(&self, device: DeviceId) -> Option<Role> {
        self.row(device).map(|row| row.given.role)
    }

    /// Every row, ascending by device.
    pub fn rows(&self) -> impl Iterator<Item = &Member> {
        self.rows.values()
    }

    /// Whether a device's entries change the index.
    pub fn may_write(&self, device: DeviceId) -> bool {
        self.role(device).is_some_and(Role::can_write)
    }

    /// Whether a device is granted epoch secrets.
    pub fn may_read(&self, device: DeviceId) -> bool {
        self.role(device).is_some_and(Role::can_read)
    }

    /// Whether any device of a person is in.
    pub fn has_person(&self, person: PersonId) -> bool {
        self.rows.values().any(|row| row.given.person == person)
    }

    /// Whether `author` may add `device` with what is `given` to it.
    ///
    /// # Errors
    /// One variant of [`AddRefusal`] for each rule.
    pub fn may_add(&self, author: DeviceId, device: DeviceId, given: Given) -> Result<(), AddRefusal> {
        let author = self.row(author).ok_or(AddRefusal::NotMember)?.given;
        let standing = self.row(device).map(|row| row.given);
        may_add(author, standing, given, || self.has_person(given.person))
    }

    /// The best rank that `author` can give and that no row has: who came first stands before who came later.
    /// `None` if the author is not in, or has the worst of all ranks.
    pub fn free_rank(&self, author: DeviceId) -> Option<u32> {
        let mut rank = self.row(author)?.given.rank.checked_add(1)?;
        let mut taken: Vec<u32> = self.rows.values().map(|row| row.given.rank).filter(|taken| *taken >= rank).collect();
        taken.sort_unstable();
        taken.dedup();
        for taken in taken {
            if taken == rank {
                rank = rank.checked_add(1)?;
            }
        }
        Some(rank)
    }
}

/// The rule for `add`: a device that is in is acted upon, so its rank must be worse than the author's and its person
/// stays; devices of one's own person get no more role than the author has; other people are an owner's matter.
pub(super) fn may_add(
    author: Given,
    standing: Option<Given>,
    given: Given,
    is_person_taken: impl FnOnce() -> bool,
) -> Result<(), AddRefusal> {
    if given.rank <= author.rank {
        return Err(AddRefusal::Rank);
    }
    if standing.is_some_and(|standing| standing.person != given.person || standing.rank <= author.rank) {
        return Err(AddRefusal::Standing);
    }
    if given.person == author.person {
        return if given.role > author.role { Err(AddRefusal::Role) } else { Ok(()) };
    }
    if !author.role.can_add_members() {
        return Err(AddRefusal::NotOwner);
    }
    if standing.is_none() && is_person_taken() { Err(AddRefusal::PersonTaken) } else { Ok(()) }
}

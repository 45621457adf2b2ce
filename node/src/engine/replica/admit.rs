//! Letting a device in, and what is handed to it.

use zerocloud_crdt::codec::DecodeError;
use zerocloud_crdt::grant::{self, SealGrantError};
use zerocloud_crdt::id::{DeviceId, PersonId};
use zerocloud_crdt::log::SignedFrontier;
use zerocloud_crdt::membership::{Given, InsertError, Introduction, NeedsNewerVersion, Role, Row};
use zerocloud_crdt::pairing::Welcome;

use super::{Replica, ReplicaError};
use crate::engine::shelf::{Shelf, ShelfWrite};

/// Why a device was not let in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError<E> {
    /// What it says of itself is refused, we may not add it, or the space has no room for its record.
    #[error("the joining device can't be let in: {0}")]
    Record(#[from] InsertError),
    /// The space needs a newer version.
    #[error(transparent)]
    NeedsNewerVersion(#[from] NeedsNewerVersion),
    /// We are no member ourselves.
    #[error("this device is not a member of the space; ask one that is to make the invitation")]
    NotMember,
    /// We have the worst rank there is.
    #[error("this device can't add others to the space; make the invitation on a device that joined before it")]
    NoRank,
    /// It is in, but not as it is to be let in.
    #[error("the joining device is a member of the space already, with another role or as another person's device")]
    OtherStanding,
    /// It is to be welcomed and is not in.
    #[error("the joining device is not a member of the space; let it in first")]
    NotAdmitted,
    /// No secret can be sealed to it.
    #[error(transparent)]
    Seal(#[from] SealGrantError),
    /// More logs than a frontier names.
    #[error("the frontier of the space can't be written: {0}")]
    Frontier(#[from] DecodeError),
    /// The store failed, or the space stopped.
    #[error(transparent)]
    Replica(#[from] ReplicaError<E>),
}

impl<S: Shelf> Replica<S> {
    /// Lets a device in under our own person (`is_own`; never with more than our own role) or under a person of its
    /// own. Its record is durable when this returns, and is shown to everyone. Nothing happens if it is in already,
    /// just so.
    ///
    /// # Errors
    /// All of [`AdmitError`] but `NotAdmitted`, `Seal` and `Frontier`. The same may be asked again after any of them.
    pub fn admit(
        &mut self,
        introduction: Introduction,
        is_own: bool,
        role: Role,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<(), AdmitError<S::Error>> {
        if let Some(stop) = &self.stop {
            return Err(ReplicaError::Stopped(stop.clone()).into());
        }
        let table = self.records.table()?;
        let us = self.identity.keys.id();
        let own = table.row(us).ok_or(AdmitError::NotMember)?.given;
        let role = if is_own { role.min(own.role) } else { role };
        if let Some(member) = table.row(introduction.identity.device) {
            let is_so = member.identity == introduction.identity
                && member.given.role == role
                && (member.given.person == own.person) == is_own;
            return if is_so { Ok(()) } else { Err(AdmitError::OtherStanding) };
        }
        let rank = table.free_rank(us).ok_or(AdmitError::NoRank)?;
        let person = if is_own { own.person } else { draw_person(rng) };
        let row = Row { introduction, given: Given { person, rank, role } };

        // On a copy: what is in memory counts as durable when the same device asks again.
        let mut records = self.records.clone();
        let record = records.add(&self.identity.keys.signing_key(), row)?;
        self.shelf.write(ReplicaError::Store, |write| {
            write.put_record(record.hash(), record.bytes()).map_err(ReplicaError::Store)
        })?;
        self.records = records;
        self.announce_records(None, &[record.hash()])?;
        Ok(())
    }

    /// What a member is handed when it joins: all records, the secrets of the epochs if it may read, and our frontier.
    ///
    /// # Errors
    /// [`AdmitError::NotAdmitted`], `Seal`, `Frontier`, `NeedsNewerVersion`, and those of the store.
    pub fn welcome(
        &self,
        device: DeviceId,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Welcome, AdmitError<S::Error>> {
        let table = self.records.table()?;
        let member = table.row(device).ok_or(AdmitError::NotAdmitted)?;
        let key = self.identity.keys.signing_key();
        let mut grants = Vec::new();
        if member.given.role.can_read() {
            for secret in self.identity.secrets.values() {
                grants.push(grant::seal(&key, secret, &member.identity, rng)?);
            }
        }
        let frontier = SignedFrontier::sign(&key, self.space(), self.frontier()?)?;
        Ok(Welcome {
            records: self.records.lacked_by(&[]).map(<[u8]>::to_vec).collect(),
            grants,
            frontier: frontier.as_bytes().to_vec(),
            snapshot: None,
        })
    }
}

fn draw_person(rng: &mut impl rand_core::CryptoRng) -> PersonId {
    let mut person = PersonId([0; 16]);
    rng.fill_bytes(&mut person.0);
    person
}

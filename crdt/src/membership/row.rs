//! Rows: what a device says of itself, and what its inviter gives it.
//!
//! ```text
//! Identity       device 32; keys: count varint, each (suite u8, key_len varint, key)
//! Introduction   identity; inviter 32; signature by the device over the bytes of (identity, inviter)
//! Given          person 16; rank varint; role varint (0 keeper, 1 viewer, 2 editor, 3 owner)
//! Row            introduction; given
//! ```
//! The device signs for one space and one inviter. Without the inviter, any member could take the introduction of
//! another device out of its record and add that device again on heads of long ago, with a smaller role.

use serde::{Deserialize, Serialize};

use super::Role;
use crate::codec::encode;
use crate::grant;
use crate::id::{DeviceId, PersonId, SpaceId};
use crate::keys::DeviceKeys;
use crate::limits::{KEM_KEY_COUNT_MAX, KEM_KEY_LEN_MAX};
use crate::sign::{Signature, Signed, sign, verify};

/// A public key to which secrets are sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KemKey {
    /// The HPKE suite that it is for; see [`grant::SUITE`].
    pub suite: u8,
    /// The key in the suite's own form.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
}

/// Who a device is: its name and the keys to which secrets for it are sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The device.
    pub device: DeviceId,
    /// Its keys, at most one for each suite, ascending by suite.
    pub keys: Vec<KemKey>,
}

/// Why a row is refused by itself, before anyone's rights are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The device did not sign this, or for another space or inviter.
    #[error("the device did not sign its introduction for this space and inviter")]
    BadSignature,
    /// Too many or too long keys, suites out of order, or a key that is none of its suite.
    #[error("the device's list of keys is not well-formed")]
    BadKeys,
}

impl Identity {
    /// The identity of the device with these keys.
    pub fn of(keys: &DeviceKeys) -> Self {
        Self { device: keys.id(), keys: vec![KemKey { suite: grant::SUITE, key: grant::public_key(keys) }] }
    }

    /// The key for one suite.
    pub fn key(&self, suite: u8) -> Option<&[u8]> {
        self.keys.iter().find(|key| key.suite == suite).map(|key| key.key.as_slice())
    }

    /// Checks bounds, order, and the keys of suites that this version knows.
    ///
    /// # Errors
    /// [`RowError::BadKeys`].
    pub fn check(&self) -> Result<(), RowError> {
        let is_bounded = self.keys.len() <= KEM_KEY_COUNT_MAX
            && self.keys.iter().all(|key| key.key.len() <= KEM_KEY_LEN_MAX)
            && self.keys.is_sorted_by(|a, b| a.suite < b.suite);
        let is_usable = self.key(grant::SUITE).is_none_or(grant::is_public_key);
        if is_bounded && is_usable { Ok(()) } else { Err(RowError::BadKeys) }
    }
}

/// What a device says of itself, to one inviter about one space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Who it is.
    pub identity: Identity,
    /// Who may add it.
    pub inviter: DeviceId,
    /// The device's signature over both.
    pub signature: Signature,
}

impl Introduction {
    /// Signs for `inviter` in `space` (inside a genesis: its random bytes).
    pub fn make(keys: &DeviceKeys, inviter: DeviceId, space: SpaceId) -> Self {
        let identity = Identity::of(keys);
        let signature = sign(&keys.signing_key(), Signed::Row, space, &encode(&(&identity, inviter)));
        Self { identity, inviter, signature }
    }

    /// Checks signature and keys.
    ///
    /// # Errors
    /// Both variants of [`RowError`].
    pub fn check(&self, space: SpaceId) -> Result<(), RowError> {
        let signed = encode(&(&self.identity, self.inviter));
        verify(self.identity.device, Signed::Row, space, &signed, &self.signature)
            .map_err(|_| RowError::BadSignature)?;
        self.identity.check()
    }
}

/// What the author of an `add` gives a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Whose device it is.
    pub person: PersonId,
    /// Who wins where members act on each other: a lower number is better. Fixed at admission.
    pub rank: u32,
    /// What it may do.
    pub role: Role,
}

/// A device's line in the table, as an `add` brings it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What the device says of itself.
    pub introduction: Introduction,
    /// What it is given.
    pub given: Given,
}

//! The genesis: the first record of a space, whose hash names it.
//!
//! ```text
//! format       1     0
//! body_len     varint
//! body:
//!   level      varint  needed format level
//!   chunker    1
//!   random     32
//!   creator    Introduction, with itself as inviter: rank 1, owner
//!   recovery   Identity of the recovery key: rank 0, owner
//!   person     16      whose both are
//!   commitment 32      to the secret of the first epoch
//! scheme       varint 0 = Ed25519
//! signature    64      by the creator, over the body
//! ```
//! The 32 random bytes stand wherever the space's id would: in both signatures and the commitment. The recovery row
//! has no signature of its own, because its seed may have left the home long before. The space's id is
//! `derive_key("zerocloud/1 space id", all bytes)`.

use serde::{Deserialize, Serialize};

use super::{CHUNKER, Identity, Introduction, LEVEL, LEVEL_MIN, NeedsNewerVersion, Newer, RowError};
use crate::codec::{DecodeError, decode, encode};
use crate::envelope::Envelope;
use crate::id::{PersonId, SpaceId};
use crate::keys::{DeviceKeys, Secret, commitment};
use crate::limits::RECORD_LEN_MAX;
use crate::sign::Signed;

/// The fields of a genesis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisBody {
    /// The format level that a program must have.
    pub level: u16,
    /// How files are cut.
    pub chunker: u8,
    /// Makes the space unlike any other.
    pub random: [u8; 32],
    /// The device that made the space: rank 1, owner.
    pub creator: Introduction,
    /// The key that 24 words stand for: rank 0, owner.
    pub recovery: Identity,
    /// Whose both are.
    pub person: PersonId,
    /// To the secret of the first epoch.
    pub commitment: [u8; 32],
}

/// A verified genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    body: GenesisBody,
    bytes: Vec<u8>,
    space: SpaceId,
}

/// Why bytes are no genesis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// Not of this format.
    #[error("the space's first record: {0}")]
    Decode(#[from] DecodeError),
    /// Written by a newer version.
    #[error(transparent)]
    NeedsNewerVersion(#[from] NeedsNewerVersion),
    /// It asks for less than this program accepts.
    #[error("the space's first record asks for an older construction than this version accepts")]
    BelowMinimum,
    /// The genesis of another space.
    #[error("the space's first record is that of another space")]
    WrongSpace,
    /// A row in it is refused.
    #[error("the space's first record: {0}")]
    Row(#[from] RowError),
    /// The creator did not sign it.
    #[error("the space's first record is not signed by its creator")]
    BadSignature,
    /// The creator invited by another, or the recovery key its own device.
    #[error("the space's first record contradicts itself")]
    Contradiction,
}

impl Genesis {
    /// Makes a space: `creator` becomes its first device, `recovery` is the public part of the recovery key, and
    /// `first_secret` the secret of its first epoch.
    pub fn make(
        creator: &DeviceKeys,
        recovery: Identity,
        first_secret: &Secret,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Self {
        let mut random = [0; 32];
        rng.fill_bytes(&mut random);
        let mut person = PersonId([0; 16]);
        rng.fill_bytes(&mut person.0);
        let binding = SpaceId(random);
        let body = GenesisBody {
            level: LEVEL_MIN,
            chunker: CHUNKER,
            random,
            creator: Introduction::make(creator, creator.id(), binding),
            recovery,
            person,
            commitment: commitment(first_secret, &random),
        };
        let bytes = Envelope::seal(&creator.signing_key(), Signed::Genesis, binding, encode(&body));
        let space = Self::id_of(&bytes);
        Self { body, bytes, space }
    }

    /// The id of the space that begins with these bytes.
    pub fn id_of(bytes: &[u8]) -> SpaceId {
        SpaceId(blake3::derive_key("zerocloud/1 space id", bytes))
    }

    /// Reads and verifies the genesis of `space`.
    ///
    /// # Errors
    /// One variant of [`GenesisError`] for each check. The id is compared before anything is read.
    pub fn decode(space: SpaceId, bytes: &[u8]) -> Result<Self, GenesisError> {
        if bytes.len() > RECORD_LEN_MAX {
            return Err(DecodeError::TooLong { len: bytes.len(), limit: RECORD_LEN_MAX }.into());
        }
        if Self::id_of(bytes) != space {
            return Err(GenesisError::WrongSpace);
        }
        let envelope = Envelope::decode(bytes, RECORD_LEN_MAX)?;
        check_level(&envelope.body)?;
        let body: GenesisBody = decode(&envelope.body, RECORD_LEN_MAX)?;
        match body.chunker {
            CHUNKER => {}
            0 => return Err(GenesisError::BelowMinimum),
            chunker => return Err(NeedsNewerVersion { what: Newer::Chunker { chunker } }.into()),
        }
        let binding = SpaceId(body.random);
        let creator = body.creator.identity.device;
        envelope.verify(creator, Signed::Genesis, binding).map_err(|_| GenesisError::BadSignature)?;
        body.creator.check(binding)?;
        body.recovery.check()?;
        if body.creator.inviter != creator || body.recovery.device == creator {
            return Err(GenesisError::Contradiction);
        }
        Ok(Self { body, bytes: bytes.to_vec(), space })
    }

    /// Its fields.
    pub const fn body(&self) -> &GenesisBody {
        &self.body
    }

    /// Its bytes, as they are sent and stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The space that begins with it.
    pub const fn space(&self) -> SpaceId {
        self.space
    }
}

/// The level is the first field in every version of the format: read alone, before the rest is understood.
fn check_level(body: &[u8]) -> Result<(), GenesisError> {
    let (level, _) = postcard::take_from_bytes::<u16>(body).map_err(|_| DecodeError::Malformed)?;
    match level {
        ..LEVEL_MIN => Err(GenesisError::BelowMinimum),
        LEVEL_MIN..=LEVEL => Ok(()),
        level => Err(NeedsNewerVersion { what: Newer::Level { level } }.into()),
    }
}

//! Signatures: what is signed, under which context, by which scheme.
//!
//! A signature is Ed25519 over `"zerocloud/V/TYPE" ‖ 0x00 ‖ SpaceId ‖ BLAKE3(bytes)`, where V is the format version.
//! The type and the space in the context keep an object of one kind or space from being taken for another. Checks
//! are strict (RFC 8032 with small-order keys and non-canonical encodings refused).

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::FORMAT;
use crate::id::{DeviceId, SpaceId};

/// What a signature is about. One variant for each object that is ever signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signed {
    /// The first record of a space.
    Genesis,
    /// A log entry.
    Entry,
    /// A change of membership.
    Record,
    /// What a device says of itself.
    Row,
    /// An epoch's secret, sealed to one device.
    Grant,
    /// A statement that sealed bytes were stored with a keeper.
    Deposit,
    /// The end of a deposit.
    Release,
    /// Agreement with a snapshot's root.
    Agree,
    /// What a device has of a space.
    Frontier,
    /// A pairing message.
    Pairing,
    /// Where a device can be reached; about no space.
    Address,
}

impl Signed {
    /// Every type of signed object.
    pub const ALL: [Self; 11] = [
        Self::Genesis,
        Self::Entry,
        Self::Record,
        Self::Row,
        Self::Grant,
        Self::Deposit,
        Self::Release,
        Self::Agree,
        Self::Frontier,
        Self::Pairing,
        Self::Address,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Genesis => "genesis",
            Self::Entry => "entry",
            Self::Record => "record",
            Self::Row => "row",
            Self::Grant => "grant",
            Self::Deposit => "deposit",
            Self::Release => "release",
            Self::Agree => "agree",
            Self::Frontier => "frontier",
            Self::Pairing => "pairing",
            Self::Address => "address",
        }
    }
}

/// A signature with its scheme, so that a hybrid scheme can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signature {
    /// Ed25519, 64 bytes: R, then s.
    Ed25519(#[serde(with = "split64")] [u8; 64]),
}

/// The signature does not fit the bytes, the signer, the type or the space. Says no more, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature is not valid")]
pub struct BadSignature;

fn message(signed: Signed, space: SpaceId, bytes: &[u8]) -> Vec<u8> {
    let mut message = format!("zerocloud/{FORMAT}/{}", signed.word()).into_bytes();
    message.push(0);
    message.extend_from_slice(space.as_bytes());
    message.extend_from_slice(blake3::hash(bytes).as_bytes());
    message
}

/// Signs `bytes` as an object of type `signed` in `space`. `bytes` are never chosen by a peer.
pub fn sign(key: &SigningKey, signed: Signed, space: SpaceId, bytes: &[u8]) -> Signature {
    Signature::Ed25519(key.sign(&message(signed, space, bytes)).to_bytes())
}

/// Checks that `signer` signed `bytes` as an object of type `signed` in `space`.
///
/// # Errors
/// [`BadSignature`] for any mismatch, and for a key that is no point of large order.
pub fn verify(
    signer: DeviceId,
    signed: Signed,
    space: SpaceId,
    bytes: &[u8],
    signature: &Signature,
) -> Result<(), BadSignature> {
    let Signature::Ed25519(signature) = signature;
    let key = VerifyingKey::from_bytes(&signer.0).map_err(|_| BadSignature)?;
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    key.verify_strict(&message(signed, space, bytes), &signature).map_err(|_| BadSignature)
}

/// serde has no arrays above 32 elements: 64 bytes travel as two halves, without a length.
mod split64 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
        let (mut left, mut right) = ([0u8; 32], [0u8; 32]);
        left.copy_from_slice(&bytes[..32]);
        right.copy_from_slice(&bytes[32..]);
        (left, right).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 64], D::Error> {
        let (left, right) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&left);
        bytes[32..].copy_from_slice(&right);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threat_11_a_signature_of_one_type_or_space_is_none_of_another() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signer = DeviceId(key.verifying_key().to_bytes());
        let spaces = [SpaceId::NONE, SpaceId([1; 32])];
        for made in Signed::ALL {
            for space in spaces {
                let signature = sign(&key, made, space, b"bytes");
                for claimed in Signed::ALL {
                    for other in spaces {
                        let fits = verify(signer, claimed, other, b"bytes", &signature).is_ok();
                        assert_eq!(fits, made == claimed && space == other, "{made:?} {claimed:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_small_order_key_signs_nothing() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let signature = Signature::Ed25519([0; 64]);
        assert_eq!(verify(DeviceId(neutral), Signed::Entry, SpaceId::NONE, b"", &signature), Err(BadSignature));
    }
}

//! Grants: an epoch's secret, sealed to one device.
//!
//! ```text
//! format      1     0
//! body_len    varint
//! body:
//!   space     32
//!   epoch     32
//!   granter   32      who signs
//!   recipient 32
//!   suite     1       1
//!   enc       varint length, then X-Wing's ciphertext: 1,120
//!   sealed    varint length, then the secret and the tag: 32 + 16
//! scheme      varint 0 = Ed25519
//! signature   64      by the granter, over the body
//! ```
//! Suite 1 is HPKE (RFC 9180) in base mode with KEM X-Wing (X25519 with ML-KEM-768, draft-connolly-cfrg-xwing-kem),
//! HKDF-SHA256 and ChaCha20-Poly1305. `info` = `"zerocloud/1 grant" ‖ 0x00 ‖ format 1 ‖ suite 1 ‖ space 32 ‖ epoch 32 ‖
//! recipient 32`; the additional data is empty. The 32-byte KEM seed is X-Wing's own decapsulation key.
//!
//! A grant proves nothing by its signature alone: what makes a secret the right one is the commitment in the record
//! that opened its epoch.

use ed25519_dalek::SigningKey;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::FORMAT;
use crate::codec::{DecodeError, decode, encode};
use crate::envelope::Envelope;
use crate::id::{DeviceId, EpochId, SpaceId};
use crate::keys::{DeviceKeys, EpochSecret, Secret};
use crate::limits::GRANT_LEN_MAX;
use crate::membership::{Identity, NeedsNewerVersion, Records};
use crate::sign::Signed;

/// HPKE suite 1: X-Wing, HKDF-SHA256, ChaCha20-Poly1305.
pub const SUITE: u8 = 1;

type PrivateKey = <XWing as Kem>::PrivateKey;
type PublicKey = <XWing as Kem>::PublicKey;
type EncappedKey = <XWing as Kem>::EncappedKey;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    space: SpaceId,
    epoch: EpochId,
    granter: DeviceId,
    recipient: DeviceId,
    suite: u8,
    #[serde(with = "serde_bytes")]
    enc: Vec<u8>,
    #[serde(with = "serde_bytes")]
    sealed: Vec<u8>,
}

/// Why no grant was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealGrantError {
    /// The recipient has no key of suite 1.
    #[error("the device has no key to which a secret can be sealed; update ZeroCloud there")]
    NoKey,
}

/// Why a grant was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenGrantError {
    /// Not of this format.
    #[error("grant: {0}")]
    Decode(#[from] DecodeError),
    /// About another space.
    #[error("grant of another space")]
    WrongSpace,
    /// Sealed to another device.
    #[error("grant for another device")]
    WrongRecipient,
    /// The granter did not sign it, or never was a member that reads.
    #[error("grant is not signed by a member that can read")]
    BadSignature,
    /// Sealed by a suite that this version does not know.
    #[error("grant is sealed by suite {suite}, which is unknown to this version; update ZeroCloud")]
    UnknownSuite {
        /// The suite that it names.
        suite: u8,
    },
    /// The members can't be evaluated here.
    #[error(transparent)]
    NeedsNewerVersion(#[from] NeedsNewerVersion),
    /// The recipient is not in the table with a role that reads.
    #[error("grant for a device that may not read this space")]
    NotReader,
    /// No record that is known opened the epoch.
    #[error("grant of an epoch that no known record opened")]
    UnknownEpoch,
    /// Wrong key, damage or forgery. Says no more, on purpose.
    #[error("grant does not open")]
    NotAuthentic,
    /// It opened to a secret that the record of the epoch is not committed to: proof that the granter lied.
    #[error("grant holds another secret than the one to which the epoch's record is committed")]
    WrongSecret,
}

/// The public key to which secrets for the device with these keys are sealed.
pub fn public_key(keys: &DeviceKeys) -> Vec<u8> {
    // A seed of 32 bytes always is a private key.
    private_key(keys).map(|key| XWing::sk_to_pk(&key).to_bytes().to_vec()).unwrap_or_default()
}

/// Whether bytes are a public key of suite 1.
pub fn is_public_key(bytes: &[u8]) -> bool {
    PublicKey::from_bytes(bytes).is_ok()
}

/// Seals `secret` to `recipient` and signs with `key`. Whether the recipient may read is the caller's to look up in
/// the table.
///
/// # Errors
/// [`SealGrantError::NoKey`].
pub fn seal(
    key: &SigningKey,
    secret: &EpochSecret,
    recipient: &Identity,
    rng: &mut impl rand_core::CryptoRng,
) -> Result<Vec<u8>, SealGrantError> {
    let public = recipient.key(SUITE).ok_or(SealGrantError::NoKey)?;
    let public = PublicKey::from_bytes(public).map_err(|_| SealGrantError::NoKey)?;
    let info = info(secret.space, secret.epoch, recipient.device);
    let plain = secret.secret().expose();
    let (enc, sealed) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        &info,
        plain,
        &[],
        rng,
    )
    .map_err(|_| SealGrantError::NoKey)?;
    let body = Body {
        space: secret.space,
        epoch: secret.epoch,
        granter: DeviceId(key.verifying_key().to_bytes()),
        recipient: recipient.device,
        suite: SUITE,
        enc: enc.to_bytes().to_vec(),
        sealed,
    };
    Ok(Envelope::seal(key, Signed::Grant, secret.space, encode(&body)))
}

/// Opens a grant for the device with these `keys` in the space of `records`.
///
/// # Errors
/// One variant of [`OpenGrantError`] for each check.
pub fn open(bytes: &[u8], keys: &DeviceKeys, records: &Records) -> Result<EpochSecret, OpenGrantError> {
    let envelope = Envelope::decode(bytes, GRANT_LEN_MAX)?;
    let body: Body = decode(&envelope.body, GRANT_LEN_MAX)?;
    if body.space != records.space() {
        return Err(OpenGrantError::WrongSpace);
    }
    let recipient = keys.id();
    if body.recipient != recipient {
        return Err(OpenGrantError::WrongRecipient);
    }
    envelope.verify(body.granter, Signed::Grant, body.space).map_err(|_| OpenGrantError::BadSignature)?;
    if !records.was_reader(body.granter) {
        return Err(OpenGrantError::BadSignature);
    }
    if body.suite != SUITE {
        return Err(OpenGrantError::UnknownSuite { suite: body.suite });
    }
    if !records.table()?.may_read(recipient) {
        return Err(OpenGrantError::NotReader);
    }
    let secret = open_body(&body, keys).ok_or(OpenGrantError::NotAuthentic)?;
    match records.is_secret_of(body.epoch, &secret) {
        Some(true) => Ok(EpochSecret::new(body.space, body.epoch, secret)),
        Some(false) => Err(OpenGrantError::WrongSecret),
        None => Err(OpenGrantError::UnknownEpoch),
    }
}

fn open_body(body: &Body, keys: &DeviceKeys) -> Option<Secret> {
    let enc = EncappedKey::from_bytes(&body.enc).ok()?;
    let plain = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeR::Base,
        &private_key(keys)?,
        &enc,
        &info(body.space, body.epoch, body.recipient),
        &body.sealed,
        &[],
    );
    let plain = Zeroizing::new(plain.ok()?);
    Some(Secret::new(plain.as_slice().try_into().ok()?))
}

fn private_key(keys: &DeviceKeys) -> Option<PrivateKey> {
    PrivateKey::from_bytes(keys.kem_seed().expose()).ok()
}

fn info(space: SpaceId, epoch: EpochId, recipient: DeviceId) -> Vec<u8> {
    let mut info = b"zerocloud/1 grant\0".to_vec();
    info.extend_from_slice(&[FORMAT, SUITE]);
    info.extend_from_slice(space.as_bytes());
    info.extend_from_slice(epoch.as_bytes());
    info.extend_from_slice(recipient.as_bytes());
    info
}

#[cfg(test)]
mod tests;

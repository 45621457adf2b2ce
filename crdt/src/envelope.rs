//! The frame around every object that one device signs: its body, then the signature over the body.
//!
//! ```text
//! format      1     0
//! body_len    varint
//! body        body_len bytes: what is signed, byte for byte
//! scheme      varint 0 = Ed25519
//! signature   64    R, then s
//! ```
//! The body stands in a frame of its own so that a reader can check who signed it before it reads any of it, also
//! where a newer version wrote what this one does not understand.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, decode_object, encode_object};
use crate::id::{DeviceId, SpaceId};
use crate::sign::{BadSignature, Signature, Signed, sign, verify};

/// A body with its signature, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// What is signed.
    #[serde(with = "serde_bytes")]
    pub(crate) body: Vec<u8>,
    /// By whom says the body, or who reads it knows.
    pub(crate) signature: Signature,
}

impl Envelope {
    /// Signs `body` and frames it.
    pub(crate) fn seal(key: &SigningKey, signed: Signed, space: SpaceId, body: Vec<u8>) -> Vec<u8> {
        let signature = sign(key, signed, space, &body);
        encode_object(&Self { body, signature })
    }

    /// Takes the frame apart; `limit` bounds the whole in bytes.
    pub(crate) fn decode(bytes: &[u8], limit: usize) -> Result<Self, DecodeError> {
        decode_object(bytes, limit)
    }

    /// Checks that `signer` signed the body as an object of type `signed` in `space`.
    pub(crate) fn verify(&self, signer: DeviceId, signed: Signed, space: SpaceId) -> Result<(), BadSignature> {
        verify(signer, signed, space, &self.body, &self.signature)
    }
}

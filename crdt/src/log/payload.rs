//! The payload of an entry: what it says, and how that is sealed.
//!
//! ```text
//! payload = suite:1 = 1 ‖ nonce:24, random ‖ XChaCha20-Poly1305(key, nonce, plain; additional data: the header's bytes)
//! key     = the epoch's key for [`Purpose::Log`]
//! plain   = flags:1 (0 raw, 1 zstd) ‖ body length:4 LE ‖ stored length:4 LE ‖ stored ‖ zeros up to a step of [`padded_len`]
//! stored  = body, or one zstd frame of it (level 3) where that is shorter
//! body    = start: postcard of [`Start`]; index: one change chunk ([`crate::change`]); seen: empty
//! ```

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zstd::zstd_safe;

use super::entry::{Entry, Header, Kind};
use crate::change::{Change, ChangeError};
use crate::codec;
use crate::id::{ChangeHash, Incarnation};
use crate::keys::{EpochSecret, Purpose};
use crate::limits::{
    ENTRY_PAYLOAD_LEN_MAX, ENTRY_PLAIN_LEN_MAX, ENTRY_WINDOW_LOG_MAX, INCARNATION_COUNT_MAX, LABEL_LEN_MAX,
};
use crate::name::Name;
use crate::padding::padded_len;

/// XChaCha20-Poly1305.
const SUITE: u8 = 1;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// Flags and the two lengths.
const PREFIX_LEN: usize = 9;
const ZSTD_LEVEL: i32 = 3;
/// A start, encoded: label, incarnations and their lengths.
const START_LEN_MAX: usize = LABEL_LEN_MAX + INCARNATION_COUNT_MAX * Incarnation::LEN + 8;

/// What the first entry of a log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What people call the device; fixed for the incarnation. At most [`LABEL_LEN_MAX`] bytes.
    pub label: Name,
    /// The device's earlier incarnations in this space, ascending, at most [`INCARNATION_COUNT_MAX`].
    pub earlier: Vec<Incarnation>,
}

/// What an entry says, opened and checked by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The beginning of a log.
    Start(Start),
    /// A change of the index, with its hash.
    Index(Change, ChangeHash),
    /// Nothing but the heads in the header.
    Seen,
}

impl Body {
    /// Of which kind an entry with this body is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Start(_) => Kind::Start,
            Self::Index(..) => Kind::Index,
            Self::Seen => Kind::Seen,
        }
    }

    /// The operations, in their order; none but for a change.
    pub fn ops(&self) -> &[crate::register::Op] {
        match self {
            Self::Index(change, _) => &change.ops,
            Self::Start(_) | Self::Seen => &[],
        }
    }
}

/// Why a payload says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Sealed by a suite of a newer version.
    #[error("cipher suite {suite} is unknown to this version; update ZeroCloud")]
    UnknownSuite {
        /// Its number.
        suite: u8,
    },
    /// Wrong key, damage, forgery, a header that it was not sealed for, or a malformed inside. Says no more, on
    /// purpose.
    #[error("payload does not open")]
    NotAuthentic,
    /// The start's label or incarnations are not as they must be.
    #[error("malformed start of a log")]
    Start,
    /// The change is not as it must be, or of a newer version ([`ChangeError::is_unknown`]).
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl OpenError {
    /// Whether a newer version may well open this payload: the space stops, nothing is void.
    pub const fn is_unknown(&self) -> bool {
        match self {
            Self::UnknownSuite { .. } => true,
            Self::Change(error) => error.is_unknown(),
            Self::NotAuthentic | Self::Start => false,
        }
    }
}

/// Why a payload was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Above [`ENTRY_PLAIN_LEN_MAX`] opened or [`ENTRY_PAYLOAD_LEN_MAX`] sealed: write it as several entries.
    #[error("payload of {len} bytes is too long for one entry")]
    TooLong {
        /// Length in bytes.
        len: usize,
    },
}

impl Start {
    /// Whether label and incarnations are within their bounds and in order, and `own` is not among the latter.
    pub fn is_well_formed(&self, own: Incarnation) -> bool {
        self.label.as_bytes().len() <= LABEL_LEN_MAX
            && self.earlier.len() <= INCARNATION_COUNT_MAX
            && self.earlier.is_sorted_by(|left, right| left < right)
            && !self.earlier.contains(&own)
    }
}

/// Seals `body` for an entry with this header.
///
/// # Errors
/// [`SealError::TooLong`].
pub(super) fn seal(
    header: &Header,
    body: &[u8],
    secret: &EpochSecret,
    rng: &mut impl rand_core::CryptoRng,
) -> Result<Vec<u8>, SealError> {
    if body.len() > ENTRY_PLAIN_LEN_MAX {
        return Err(SealError::TooLong { len: body.len() });
    }
    let compressed = zstd::bulk::compress(body, ZSTD_LEVEL).ok().filter(|frame| frame.len() < body.len());
    let (flags, stored) = compressed.as_deref().map_or((RAW, body), |frame| (ZSTD, frame));
    let padded = padded_len((PREFIX_LEN + stored.len()) as u64) as usize;
    if 1 + NONCE_LEN + padded + TAG_LEN > ENTRY_PAYLOAD_LEN_MAX {
        return Err(SealError::TooLong { len: stored.len() });
    }
    // Both lengths are at most ENTRY_PLAIN_LEN_MAX here.
    let mut plain = vec![flags];
    plain.extend((body.len() as u32).to_le_bytes());
    plain.extend((stored.len() as u32).to_le_bytes());
    plain.extend(stored);
    plain.resize(padded, 0);
    seal_plain(header, &plain, secret, rng)
}

/// Seals what is padded.
pub(super) fn seal_plain(
    header: &Header,
    plain: &[u8],
    secret: &EpochSecret,
    rng: &mut impl rand_core::CryptoRng,
) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    let key = secret.key(Purpose::Log);
    if crate::mutated!(UnsealedPayloads) {
        return Ok([&[SUITE], &nonce[..], plain, &[0; TAG_LEN]].concat());
    }
    let sealed = XChaCha20Poly1305::new(key.expose().into())
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &header.encode() })
        // Fails for lengths above 2^38 bytes alone.
        .map_err(|_| SealError::TooLong { len: plain.len() })?;
    let mut payload = vec![SUITE];
    payload.extend(nonce);
    payload.extend(sealed);
    Ok(payload)
}

impl Entry {
    /// Opens the payload with the secret of the epoch that the header names, and reads what it says.
    ///
    /// # Errors
    /// A variant of [`OpenError`] for each rule; all devices that hold the secret get the same.
    pub fn open(&self, secret: &EpochSecret) -> Result<Body, OpenError> {
        let body = self.open_body(secret)?;
        match self.header().kind {
            Kind::Start => {
                let start: Start = codec::decode(&body, START_LEN_MAX).map_err(|_| OpenError::Start)?;
                let is_well_formed = start.is_well_formed(self.header().log.incarnation);
                if is_well_formed { Ok(Body::Start(start)) } else { Err(OpenError::Start) }
            }
            Kind::Index => {
                let (change, hash) = Change::decode(&body)?;
                Ok(Body::Index(change, hash))
            }
            Kind::Seen if body.is_empty() => Ok(Body::Seen),
            Kind::Seen => Err(OpenError::NotAuthentic),
        }
    }

    fn open_body(&self, secret: &EpochSecret) -> Result<Vec<u8>, OpenError> {
        let (&suite, rest) = self.payload().split_first().ok_or(OpenError::NotAuthentic)?;
        if suite != SUITE {
            return Err(OpenError::UnknownSuite { suite });
        }
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::NotAuthentic)?;
        let key = secret.key(Purpose::Log);
        if crate::mutated!(UnsealedPayloads) {
            let plain = sealed.split_last_chunk::<TAG_LEN>().ok_or(OpenError::NotAuthentic)?.0;
            return unpad(plain).ok_or(OpenError::NotAuthentic);
        }
        let plain = XChaCha20Poly1305::new(key.expose().into())
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: self.header_bytes() })
            .map_err(|_| OpenError::NotAuthentic)?;
        unpad(&plain).ok_or(OpenError::NotAuthentic)
    }
}

/// The body inside an opened payload. The author is a member, and still may have written anything.
fn unpad(plain: &[u8]) -> Option<Vec<u8>> {
    let (prefix, rest) = plain.split_first_chunk::<PREFIX_LEN>()?;
    let [flags, b0, b1, b2, b3, s0, s1, s2, s3] = *prefix;
    let body_len = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
    let stored_len = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
    let (stored, padding) = rest.split_at_checked(stored_len)?;
    let is_padded = padded_len((PREFIX_LEN + stored_len) as u64) == plain.len() as u64;
    if !is_padded || padding.iter().any(|&byte| byte != 0) || body_len > ENTRY_PLAIN_LEN_MAX {
        return None;
    }
    match flags {
        RAW if stored_len == body_len => Some(stored.to_vec()),
        ZSTD if stored_len < body_len => decompress(stored, body_len),
        _ => None,
    }
}

/// Decompresses exactly one frame of exactly `len` bytes, which is within its bound.
fn decompress(frame: &[u8], len: usize) -> Option<Vec<u8>> {
    if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len())
        || !matches!(zstd_safe::get_frame_content_size(frame), Ok(Some(declared)) if declared == len as u64)
    {
        return None;
    }
    let mut decompressor = zstd::bulk::Decompressor::new().ok()?;
    decompressor.set_parameter(zstd_safe::DParameter::WindowLogMax(ENTRY_WINDOW_LOG_MAX)).ok()?;
    let body = decompressor.decompress(frame, len).ok()?;
    (body.len() == len).then_some(body)
}

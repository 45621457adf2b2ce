//! The two cipher suites, and nothing of the format around them.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{AeadInOut, KeyInit, inout::InOutBuf},
};

use crate::keys::Secret;

/// Length of an authentication tag of either suite, in bytes.
pub(super) const TAG_LEN: usize = 16;
/// The longest salt of any suite, in bytes.
pub(super) const SALT_LEN_MAX: usize = 32;

/// How a chunk is sealed. Every implementation opens both; a device seals with what is faster on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Suite {
    /// Suite 1: XChaCha20-Poly1305 under the chunk key, with a random nonce of 24 bytes.
    XChaCha20Poly1305 = 1,
    /// Suite 2: AES-256-GCM under keyed BLAKE3 of a random salt of 32 bytes by the chunk key, with nonce zero: each
    /// key seals once.
    Aes256Gcm = 2,
}

/// The cipher's only answer to whatever is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CipherError;

impl Suite {
    /// Both suites.
    pub const ALL: [Self; 2] = [Self::XChaCha20Poly1305, Self::Aes256Gcm];

    /// What seals fastest with this build on this processor. Asks the processor for AES instructions, never a clock.
    pub fn fastest() -> Self {
        if has_aes_instructions() { Self::Aes256Gcm } else { Self::XChaCha20Poly1305 }
    }

    /// The suite of a number; none for a number that this version does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::XChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// The suite's number, as it stands in a sealed object and in a deposit.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Length of what is drawn for each sealing (a nonce or a salt), in bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::XChaCha20Poly1305 => 24,
            Self::Aes256Gcm => SALT_LEN_MAX,
        }
    }

    /// Encrypts `text` in place and returns its tag.
    pub(super) fn encrypt(
        self,
        key: &Secret,
        salt: &[u8],
        additional: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_LEN], CipherError> {
        match self {
            Self::XChaCha20Poly1305 => {
                let nonce: [u8; 24] = salt.try_into().map_err(|_| CipherError)?;
                XChaCha20Poly1305::new(key.expose().into())
                    .encrypt_inout_detached(&nonce.into(), additional, text.into())
                    .map(Into::into)
                    .map_err(|_| CipherError)
            }
            Self::Aes256Gcm => aes::encrypt(&salted(key, salt), additional, text),
        }
    }

    /// Decrypts `sealed` into `text`, which has the same length, if the tag is right. What `text` holds after a
    /// failure is not plaintext.
    pub(super) fn decrypt(
        self,
        key: &Secret,
        salt: &[u8],
        additional: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        text: &mut [u8],
    ) -> Result<(), CipherError> {
        match self {
            Self::XChaCha20Poly1305 => {
                let nonce: [u8; 24] = salt.try_into().map_err(|_| CipherError)?;
                let buffer = InOutBuf::new(sealed, text).map_err(|_| CipherError)?;
                XChaCha20Poly1305::new(key.expose().into())
                    .decrypt_inout_detached(&nonce.into(), additional, buffer, tag.into())
                    .map_err(|_| CipherError)
            }
            Self::Aes256Gcm => aes::decrypt(&salted(key, salt), additional, sealed, tag, text),
        }
    }
}

/// Suite 2's key of one sealing.
fn salted(key: &Secret, salt: &[u8]) -> Secret {
    Secret::new(*blake3::keyed_hash(key.expose(), salt).as_bytes())
}

fn has_aes_instructions() -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    return std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    return false;
}

/// AES-256-GCM with nonce zero in pure Rust.
#[cfg_attr(feature = "native-aead", allow(dead_code))]
mod pure {
    use super::{AeadInOut, Aes256Gcm, CipherError, InOutBuf, KeyInit, Secret, TAG_LEN};

    const NONCE: [u8; 12] = [0; 12];

    pub(super) fn encrypt(key: &Secret, additional: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], CipherError> {
        Aes256Gcm::new(key.expose().into())
            .encrypt_inout_detached(&NONCE.into(), additional, text.into())
            .map(Into::into)
            .map_err(|_| CipherError)
    }

    pub(super) fn decrypt(
        key: &Secret,
        additional: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        text: &mut [u8],
    ) -> Result<(), CipherError> {
        let buffer = InOutBuf::new(sealed, text).map_err(|_| CipherError)?;
        Aes256Gcm::new(key.expose().into())
            .decrypt_inout_detached(&NONCE.into(), additional, buffer, tag.into())
            .map_err(|_| CipherError)
    }
}

/// AES-256-GCM with nonce zero by aws-lc: the same bytes, four times as fast.
#[cfg(feature = "native-aead")]
mod native {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::{CipherError, Secret, TAG_LEN};

    fn cipher(key: &Secret) -> Result<LessSafeKey, CipherError> {
        UnboundKey::new(&AES_256_GCM, key.expose()).map(LessSafeKey::new).map_err(|_| CipherError)
    }

    fn nonce() -> Nonce {
        Nonce::assume_unique_for_key([0; 12])
    }

    pub(super) fn encrypt(key: &Secret, additional: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], CipherError> {
        let tag =
            cipher(key)?.seal_in_place_separate_tag(nonce(), Aad::from(additional), text).map_err(|_| CipherError)?;
        tag.as_ref().try_into().map_err(|_| CipherError)
    }

    pub(super) fn decrypt(
        key: &Secret,
        additional: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        text: &mut [u8],
    ) -> Result<(), CipherError> {
        if sealed.len() != text.len() {
            return Err(CipherError);
        }
        cipher(key)?.open_separate_gather(nonce(), Aad::from(additional), sealed, tag, text).map_err(|_| CipherError)
    }
}

#[cfg(feature = "native-aead")]
use native as aes;
#[cfg(not(feature = "native-aead"))]
use pure as aes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_has_one_number() {
        let known: Vec<_> = (0..=u8::MAX).filter_map(Suite::from_number).collect();
        assert_eq!(known, Suite::ALL);
        assert!(Suite::ALL.iter().all(|suite| Suite::from_number(suite.number()) == Some(*suite)));
    }

    #[cfg(feature = "native-aead")]
    #[test]
    fn the_native_cipher_writes_and_reads_the_same_bytes() {
        let key = Secret::new([7; 32]);
        for len in [0, 1, 15, 16, 17, 1000, 70_001] {
            let text: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let (mut one, mut other) = (text.clone(), text.clone());
            let tag = pure::encrypt(&key, b"about", &mut one).unwrap();
            assert_eq!(native::encrypt(&key, b"about", &mut other), Ok(tag));
            assert_eq!(one, other);
            let mut opened = vec![0; len];
            native::decrypt(&key, b"about", &one, &tag, &mut opened).unwrap();
            assert_eq!(opened, text);
            assert_eq!(native::decrypt(&key, b"other", &one, &tag, &mut opened), Err(CipherError));
        }
    }
}

//! The key schedule: what is derived from a device's seed, and what from an epoch's secret.
//!
//! Secrets have no `Debug` that shows them, are not cloned without need, and are overwritten when dropped. Sealing a
//! secret for another device is in `grant`; the 24 words of a seed are in `words`.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::{DeviceId, EpochId, SpaceId};

/// 32 secret bytes that are overwritten when dropped. `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if crate::mutated!(ShownSecrets) {
            return write!(f, "Secret({:02x?})", self.expose());
        }
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Takes bytes over as a secret.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Draws a secret from `rng`, which must be a cryptographic generator seeded by the system.
    pub fn draw(rng: &mut impl rand_core::CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The secret bytes. Keep what is made of them as short-lived as possible.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key for one purpose: BLAKE3 derive_key under `context`, over the secret and `material`.
    pub fn derive(&self, context: &str, material: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.0);
        for part in material {
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

/// A device's seed and the keys that come from it. 24 BIP-39 words are such a seed, too.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DeviceKeys {
    seed: Secret,
}

impl std::fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceKeys({:?})", self.id())
    }
}

impl DeviceKeys {
    /// All keys of the device with this seed.
    pub const fn from_seed(seed: Secret) -> Self {
        Self { seed }
    }

    /// The seed itself, to be kept in the home's file of secrets or shown as words.
    pub const fn seed(&self) -> &Secret {
        &self.seed
    }

    /// The Ed25519 seed: identity, signatures and transport.
    pub fn identity_seed(&self) -> Secret {
        self.seed.derive("zerocloud/1 device identity", &[])
    }

    /// The key that signs for this device.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(self.identity_seed().expose())
    }

    /// The device's public name.
    pub fn id(&self) -> DeviceId {
        DeviceId(self.signing_key().verifying_key().to_bytes())
    }

    /// The seed of the X-Wing key by which grants are opened; never converted from the Ed25519 key.
    pub fn kem_seed(&self) -> Secret {
        self.seed.derive("zerocloud/1 device kem x-wing", &[])
    }
}

/// The purposes that an epoch's secret serves; each has a context string of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Sealing the payloads of log entries.
    Log,
    /// Naming chunks (keyed BLAKE3 of their plaintext).
    ChunkId,
    /// Deriving each chunk's key.
    Sealing,
    /// The gear table by which content is cut.
    Chunking,
    /// Naming manifest pages.
    ManifestId,
    /// Deriving each manifest page's key.
    ManifestSealing,
    /// Sharing links.
    Link,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 7] =
        [Self::Log, Self::ChunkId, Self::Sealing, Self::Chunking, Self::ManifestId, Self::ManifestSealing, Self::Link];

    const fn context(self) -> &'static str {
        match self {
            Self::Log => "zerocloud/1 epoch log",
            Self::ChunkId => "zerocloud/1 epoch chunk id",
            Self::Sealing => "zerocloud/1 epoch sealing",
            Self::Chunking => "zerocloud/1 epoch chunking",
            Self::ManifestId => "zerocloud/1 epoch manifest id",
            Self::ManifestSealing => "zerocloud/1 epoch manifest sealing",
            Self::Link => "zerocloud/1 epoch link",
        }
    }
}

/// An epoch's secret E, with the space and epoch that it is for.
#[derive(Clone, Debug)]
pub struct EpochSecret {
    /// Which epoch it is.
    pub epoch: EpochId,
    /// In which space.
    pub space: SpaceId,
    secret: Secret,
}

impl EpochSecret {
    /// Binds a secret to its space and epoch.
    pub const fn new(space: SpaceId, epoch: EpochId, secret: Secret) -> Self {
        Self { epoch, space, secret }
    }

    /// The raw secret, to be granted to a device or kept in the home's file of secrets.
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The key for one purpose: derive_key(context, E ‖ space ‖ epoch).
    pub fn key(&self, purpose: Purpose) -> Secret {
        self.secret.derive(purpose.context(), &[self.space.as_bytes(), self.epoch.as_bytes()])
    }
}

/// What a record says of the secret of the epoch that it opens: derive_key(context, E ‖ space). `binding` is the
/// space's id, or the genesis's 32 random bytes inside the genesis itself, which can't know its own hash.
pub fn commitment(secret: &Secret, binding: &[u8; 32]) -> [u8; 32] {
    *secret.derive("zerocloud/1 epoch commitment", &[binding]).expose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_space_and_epoch_has_a_key_of_its_own() {
        let mut keys = Vec::new();
        for purpose in Purpose::ALL {
            for space in [1, 2] {
                for epoch in [1, 2] {
                    let secret = EpochSecret::new(SpaceId([space; 32]), EpochId([epoch; 32]), Secret::new([9; 32]));
                    keys.push(*secret.key(purpose).expose());
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), Purpose::ALL.len() * 4);
    }

    #[test]
    fn threat_58_a_secret_is_not_shown_by_debug() {
        let keys = DeviceKeys::from_seed(Secret::new([0xab; 32]));
        assert_eq!(format!("{:?}", keys.seed()), "Secret(..)");
        assert!(!format!("{keys:?}").contains("abab"));
    }
}

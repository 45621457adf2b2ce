//! Randomness of the system, drawn at the edges: what is pure takes a generator.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// A generator that is seeded by the system.
///
/// # Errors
/// What the system says.
pub fn system_rng() -> Result<ChaCha20Rng, getrandom::Error> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

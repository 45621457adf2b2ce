//! Padding: the steps to which sealed lengths are rounded up, so that a length says little about what is inside.

/// Below this length steps are [`STEP_LEN`] long, above it they follow Padmé.
const STEPPED_LEN_MAX: u64 = 16 << 10;
/// The step of short lengths, in bytes.
const STEP_LEN: u64 = 1 << 10;

/// The length to which `len` bytes are padded: the next multiple of 1 KiB up to 16 KiB, then Padmé (Nikitin et al.,
/// "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019), which adds at most 12 %
/// and leaks O(log log `len`) bits. Zero becomes one step. Lengths above 2^63 stay as they are.
pub const fn padded_len(len: u64) -> u64 {
    if len > 1 << 63 {
        return len;
    }
    if len == 0 {
        return STEP_LEN;
    }
    if len <= STEPPED_LEN_MAX {
        return len.div_ceil(STEP_LEN) * STEP_LEN;
    }
    let exponent = len.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1 << (exponent - kept_bits)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lengths_step_by_one_kib() {
        assert_eq!([0, 1, 1024, 1025, 16 << 10].map(padded_len), [1024, 1024, 1024, 2048, 16 << 10]);
    }

    #[test]
    fn long_lengths_grow_by_at_most_an_eighth_and_stay_put_when_padded_again() {
        for len in (16_385..5_000_000).step_by(997).chain([(1 << 63) - 1, 1 << 63, u64::MAX]) {
            let padded = padded_len(len);
            assert!(padded >= len && padded - len <= len / 8, "{len}");
            assert_eq!(padded_len(padded), padded, "{len}");
        }
    }
}

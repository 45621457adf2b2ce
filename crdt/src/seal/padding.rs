//! The lengths that a sealed object may have.

use crate::padding;

/// The length to which a sealed object of `len` bytes is padded: [`padding::padded_len`], which costs at most 7 % here.
/// Both for the length of the whole object, header and tag included, so that the suite does not show in it.
pub const fn padded_len(len: usize) -> usize {
    // What lies in memory, and an eighth more, is far below both bounds.
    padding::padded_len(len as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_step_by_one_kib_then_by_padme() {
        for (len, padded) in [
            (0, 1 << 10),
            (1, 1 << 10),
            (1024, 1024),
            (1025, 2048),
            (16 << 10, 16 << 10),
            ((16 << 10) + 1, 17 << 10),
            ((32 << 10) + 1, 34 << 10),
            ((1 << 20) + 1, (1 << 20) + (32 << 10)),
            ((4 << 20) + 59, (4 << 20) + (128 << 10)),
        ] {
            assert_eq!(padded_len(len), padded, "{len}");
        }
    }

    proptest! {
        #[test]
        fn a_padded_length_is_a_fixed_point_and_costs_little(len in 0usize..8 << 20) {
            let padded = padded_len(len);
            prop_assert!(padded >= len);
            prop_assert_eq!(padded_len(padded), padded);
            prop_assert!(padded - len < (len / 14).max(1025));
        }
    }
}

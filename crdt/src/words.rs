//! Words: a 32-byte seed as 24 BIP-39 words, and six words by which two screens are compared.
//!
//! List and checksum are those of BIP-39 (English). The words stand for the seed itself; BIP-39's own stretching into
//! a wallet seed is not used.

use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

use crate::keys::Secret;
use crate::limits::WORDS_LEN_MAX;

/// How many words a seed is.
pub const SEED_WORD_COUNT: usize = 24;

/// How many words two people compare.
pub const COMPARED_WORD_COUNT: usize = 6;

/// Why a text is not the words of a seed. Never holds a word: an error may end in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordsError {
    /// Too few or too many.
    #[error("{found} words instead of {SEED_WORD_COUNT}: enter all {SEED_WORD_COUNT}, in order, with spaces between")]
    Count {
        /// How many there are; counted up to one too many.
        found: usize,
    },
    /// Not in the list.
    #[error("word {position} is not one of the list: check its spelling")]
    Unknown {
        /// Which, from 1.
        position: usize,
    },
    /// All are in the list, but do not belong together.
    #[error("every word is known, but together they are not right: a word is wrong, or two have changed places")]
    Checksum,
}

/// The words of a seed, with a space between each two. Show them, and let them go.
pub fn of_seed(seed: &Secret) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(WORDS_LEN_MAX));
    // 32 bytes always are 24 words.
    if let Ok(mnemonic) = Mnemonic::from_entropy_in(Language::English, seed.expose()) {
        for (index, word) in mnemonic.words().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
    }
    text
}

/// The seed that the words in `text` stand for. Case and the kind and number of spaces do not matter.
///
/// # Errors
/// One variant of [`WordsError`] for what is wrong; of several unknown words the first.
pub fn to_seed(text: &str) -> Result<Secret, WordsError> {
    let found = text.split_whitespace().take(SEED_WORD_COUNT + 1).count();
    if found != SEED_WORD_COUNT {
        return Err(WordsError::Count { found });
    }
    // Sized beforehand, so that no copy of a part stays behind in memory when it would grow.
    let mut normal = Zeroizing::new(String::with_capacity(WORDS_LEN_MAX));
    for (index, word) in text.split_whitespace().enumerate() {
        let position = index + 1;
        if word.len() > WORD_LEN_MAX {
            return Err(WordsError::Unknown { position });
        }
        let begin = normal.len();
        normal.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        if normal.get(begin..).and_then(|word| Language::English.find_word(word)).is_none() {
            return Err(WordsError::Unknown { position });
        }
        normal.push(' ');
    }
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, &normal).map_err(|_| WordsError::Checksum)?;
    let (entropy, _) = mnemonic.to_entropy_array();
    let entropy = Zeroizing::new(entropy);
    let mut seed = Zeroizing::new([0; 32]);
    for (to, from) in seed.iter_mut().zip(entropy.iter()) {
        *to = *from;
    }
    Ok(Secret::new(*seed))
}

/// The first 66 bits of `hash`, eleven for each word, most significant first.
pub fn compared(hash: &[u8; 32]) -> [&'static str; COMPARED_WORD_COUNT] {
    let bit = |index: usize| hash.get(index / 8).map_or(0, |byte| usize::from(byte >> (7 - index % 8) & 1));
    let list = Language::English.word_list();
    std::array::from_fn(|word| {
        let index = (0..11).fold(0, |index, place| index << 1 | bit(word * 11 + place));
        list.get(index).copied().unwrap_or_default()
    })
}

/// No word of the list is longer than this, in bytes.
const WORD_LEN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_of_bip_39_are_these() {
        let cases =
            [([0u8; 32], format!("{}art", "abandon ".repeat(23))), ([0xff; 32], format!("{}vote", "zoo ".repeat(23)))];
        for (seed, words) in cases {
            assert_eq!(of_seed(&Secret::new(seed)).as_str(), words);
            assert_eq!(to_seed(&words).unwrap().expose(), &seed);
        }
    }

    #[test]
    fn an_error_says_which_word_it_is() {
        let abandon = "abandon ".repeat(23);
        assert_eq!(to_seed(""), Err(WordsError::Count { found: 0 }));
        assert_eq!(to_seed(&abandon), Err(WordsError::Count { found: 23 }));
        assert_eq!(to_seed(&abandon.repeat(50)), Err(WordsError::Count { found: 25 }));
        assert_eq!(to_seed(&format!("{abandon}artt")), Err(WordsError::Unknown { position: 24 }));
        assert_eq!(to_seed(&format!("zerocloud {abandon}")), Err(WordsError::Unknown { position: 1 }));
        assert_eq!(to_seed(&format!("{abandon}abandon")), Err(WordsError::Checksum));
        let words = of_seed(&Secret::new([7; 32]));
        let mut swapped: Vec<_> = words.split(' ').collect();
        swapped.swap(3, 4);
        assert_eq!(to_seed(&swapped.join(" ")), Err(WordsError::Checksum));
    }

    #[test]
    fn sixty_six_bits_are_six_words() {
        assert_eq!(compared(&[0; 32]), ["abandon"; 6]);
        assert_eq!(compared(&[0xff; 32]), ["zoo"; 6]);
        let mut hash = [0; 32];
        hash[1] = 0x20; // bit 10, the last of the first word
        hash[8] = 0x40; // bit 65, the last of the last word
        assert_eq!(compared(&hash), ["ability", "abandon", "abandon", "abandon", "abandon", "ability"]);
        hash[8] = 0x60; // bit 66 is in no word
        assert_eq!(compared(&hash)[5], "ability");
    }

    proptest! {
        #[test]
        fn every_seed_is_read_back(seed: [u8; 32]) {
            let words = of_seed(&Secret::new(seed));
            prop_assert_eq!(to_seed(&words), Ok(Secret::new(seed)));
            let shouted = words.to_uppercase().replace(' ', "\n \t");
            prop_assert_eq!(to_seed(&shouted), Ok(Secret::new(seed)));
        }

        #[test]
        fn any_text_is_a_seed_or_an_error(text: String) {
            prop_assert!(to_seed(&text).is_err());
        }
    }
}

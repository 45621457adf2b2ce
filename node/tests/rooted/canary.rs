//! The search for words that must be nowhere, in every form in which they are usually written.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};

/// Shorter forms are found by chance.
const FORM_LEN_MIN: usize = 6;

/// The words in `bytes`, in any form.
pub(crate) fn words_in<'a>(bytes: &[u8], words: &[&'a str]) -> BTreeSet<&'a str> {
    // By the first two bytes, so that each place is looked at once, whatever the count of words.
    let mut needles: BTreeMap<[u8; 2], Vec<(Vec<u8>, &'a str)>> = BTreeMap::new();
    let mut begins = vec![false; 1 << 16];
    for word in words {
        for form in forms(word).into_iter().filter(|form| form.len() >= FORM_LEN_MIN) {
            let begin = [form[0], form[1]];
            begins[usize::from(u16::from_be_bytes(begin))] = true;
            needles.entry(begin).or_default().push((form, word));
        }
    }
    let mut found = BTreeSet::new();
    for (at, pair) in bytes.windows(2).enumerate() {
        let begin = [pair[0], pair[1]];
        if begins[usize::from(u16::from_be_bytes(begin))] {
            let here = needles[&begin].iter().filter(|(form, _)| bytes[at..].starts_with(form));
            found.extend(here.map(|(_, word)| *word));
        }
    }
    found
}

/// A word as it is, in UTF-16, hexadecimal, percent and, at each of three offsets, base64; and backwards.
fn forms(word: &str) -> BTreeSet<Vec<u8>> {
    let raw = word.as_bytes();
    let mut forms = BTreeSet::from([
        raw.to_vec(),
        raw.iter().rev().copied().collect(),
        word.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        word.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        HEXLOWER.encode(raw).into_bytes(),
        HEXUPPER.encode(raw).into_bytes(),
        percent(raw),
    ]);
    for (offset, unsure) in [(0, 0), (1, 2), (2, 3)] {
        let shifted = [&[0; 2][..offset], raw].concat();
        for alphabet in [BASE64, BASE64URL] {
            let text = alphabet.encode(&shifted);
            let text = text.trim_end_matches('=');
            // The first and the last letters also have bits of what stands beside the word.
            forms.insert(text.as_bytes()[unsure..text.len() - 1].to_vec());
        }
    }
    forms
}

fn percent(raw: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    for &byte in raw {
        if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) {
            text.push(byte.into());
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text.into_bytes()
}

#[test]
fn a_word_is_found_in_every_form_and_nowhere_else() {
    let word = "Nordlicht-Grünspan";
    let around = |inner: &[u8]| [b"what stands before", inner, b"and behind"].concat();
    assert!(words_in(&around(b"nothing of it"), &[word]).is_empty());
    for form in forms(word) {
        assert!(words_in(&around(&form), &[word, "another word"]).iter().eq([&word]), "{}", form.escape_ascii());
    }
    for before in ["", "1", "12", "123"] {
        let within = format!("{before}{word} and more");
        assert!(words_in(BASE64.encode(within.as_bytes()).as_bytes(), &[word]).contains(word), "after {before:?}");
    }
}

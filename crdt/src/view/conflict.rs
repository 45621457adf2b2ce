//! Conflict names: what is shown where two things want one name.
//!
//! The lower place operation keeps a name; the others, and then the losers of concurrent edits, get
//! `stem (conflict LABEL 2026-11-23 14.05).ext`, always built from the natural name.

use std::collections::{BTreeMap, BTreeSet};

use super::{losers, natural_place, shown_mtime};
use crate::id::{FileId, OpId};
use crate::index::{IndexRead, name_key};
use crate::limits::NAME_LEN_MAX;
use crate::name::Name;
use crate::register::FileTime;

/// An extension longer than this (bytes, with its dot) counts as part of the stem.
const EXTENSION_LEN_MAX: usize = 32;

/// The names of one directory that are not natural: entry id → name. Losers that show beside their item always have
/// one; items only where another keeps their natural name.
pub(super) fn names<I: IndexRead>(index: &I, parent: FileId) -> Result<BTreeMap<FileId, Name>, I::Error> {
    let contested = index.contested(parent)?;
    let mut names = BTreeMap::new();
    if contested.is_empty() {
        return Ok(names);
    }
    // Items by place operation, then losers by lowest operation.
    let mut items: Vec<(OpId, FileId, Name)> = Vec::new();
    for id in contested {
        if let Some((op, _, name)) = natural_place(index, id)? {
            items.push((op, id, name));
        }
    }
    items.sort();
    let mut wants: Vec<(FileId, Name, OpId, Option<FileTime>)> = Vec::new();
    let mut kept: BTreeSet<&Name> = BTreeSet::new();
    for (op, id, name) in &items {
        if !kept.insert(name) {
            wants.push((*id, name.clone(), *op, shown_mtime(index, *id)?));
        }
    }
    let mut virtuals: Vec<(OpId, FileId, &Name, Option<FileTime>)> = Vec::new();
    for (_, id, name) in &items {
        virtuals.extend(losers(index, *id)?.into_iter().map(|loser| (loser.lowest, loser.id, name, loser.mtime)));
    }
    virtuals.sort();
    wants.extend(virtuals.into_iter().map(|(op, id, name, mtime)| (id, name.clone(), op, mtime)));
    let mut given = BTreeSet::new();
    for (id, natural, op, mtime) in wants {
        let label = index.label(op.actor)?;
        let label: &[u8] = label.as_ref().map_or(b"unknown", |label| label.as_bytes());
        for k in 1u32.. {
            let name = conflict_name(&natural, label, mtime, k);
            if !given.contains(&name) && !is_taken(index, parent, &name)? {
                given.insert(name.clone());
                names.insert(id, name);
                break;
            }
        }
    }
    Ok(names)
}

/// How many entries of a directory have a conflict name. Makes no names, and reads the contested items alone.
pub fn count<I: IndexRead>(index: &I, parent: FileId) -> Result<u64, I::Error> {
    let (mut naturals, mut count) = (BTreeSet::new(), 0);
    for id in index.contested(parent)? {
        if let Some((_, _, name)) = natural_place(index, id)? {
            count += u64::from(!naturals.insert(name)) + losers(index, id)?.len() as u64;
        }
    }
    Ok(count)
}

fn is_taken<I: IndexRead>(index: &I, parent: FileId, name: &Name) -> Result<bool, I::Error> {
    for id in index.keyed(parent, name_key(name))? {
        if natural_place(index, id)?.is_some_and(|(_, _, natural)| natural == *name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Builds the `k`-th conflict name of `natural`. The extension starts at the last dot that is not the first byte; the
/// stem is cut at a character border so that the name fits (a byte that is not UTF-8 is a character of its own).
pub fn conflict_name(natural: &Name, label: &[u8], mtime: Option<FileTime>, k: u32) -> Name {
    let bytes = natural.as_bytes();
    let dot = bytes.iter().rposition(|&byte| byte == b'.').filter(|&at| at > 0);
    let at = dot.filter(|&at| bytes.len() - at <= EXTENSION_LEN_MAX).unwrap_or(bytes.len());
    let (stem, extension) = bytes.split_at(at);
    let mut tail = b" (conflict ".to_vec();
    tail.extend_from_slice(label);
    if let Some(stamp) = mtime.and_then(stamp) {
        tail.push(b' ');
        tail.extend_from_slice(stamp.as_bytes());
    }
    tail.push(b')');
    if k > 1 {
        tail.extend_from_slice(format!(" {k}").as_bytes());
    }
    tail.extend_from_slice(extension);
    let mut name = cut(stem, NAME_LEN_MAX.saturating_sub(tail.len())).to_vec();
    name.extend_from_slice(&tail);
    // A stem without separators, a label that is a name and digits make a name; only its length could be refused.
    Name::parse(&name).unwrap_or_else(|_| natural.clone())
}

/// The longest prefix of at most `len` bytes that ends at a character border.
fn cut(stem: &[u8], len: usize) -> &[u8] {
    let mut end = 0;
    for chunk in stem.utf8_chunks() {
        for c in chunk.valid().chars() {
            if end + c.len_utf8() > len {
                return &stem[..end];
            }
            end += c.len_utf8();
        }
        for _ in chunk.invalid() {
            if end == len {
                return &stem[..end];
            }
            end += 1;
        }
    }
    stem
}

/// `2026-11-23 14.05` in UTC; `None` for years that have not four digits.
fn stamp(time: FileTime) -> Option<String> {
    let days = time.secs.div_euclid(86_400);
    let second = time.secs.rem_euclid(86_400);
    // Days since 0000-03-01, in eras of 400 years ("chrono-Compatible Low-Level Date Algorithms", H. Hinnant).
    let shifted = days.checked_add(719_468)?;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era.checked_mul(400)? + year_of_era + i64::from(month <= 2);
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02} {:02}.{:02}", second / 3600, second % 3600 / 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text.as_bytes()).unwrap()
    }

    fn at(secs: i64) -> Option<FileTime> {
        Some(FileTime { secs, nanos: 0 })
    }

    #[test]
    fn a_conflict_name_says_who_and_when() {
        for (natural, mtime, k, expected) in [
            ("a.txt", at(1_795_442_700), 1, "a (conflict laptop 2026-11-23 14.05).txt"),
            ("a.txt", None, 2, "a (conflict laptop) 2.txt"),
            (".bashrc", None, 1, ".bashrc (conflict laptop)"),
            ("a.tar.gz", None, 1, "a.tar (conflict laptop).gz"),
            ("a", at(-1), 1, "a (conflict laptop 1969-12-31 23.59)"),
            ("a", at(i64::MAX), 1, "a (conflict laptop)"),
            ("a", at(951_782_400), 1, "a (conflict laptop 2000-02-29 00.00)"),
        ] {
            assert_eq!(conflict_name(&name(natural), b"laptop", mtime, k), name(expected));
        }
    }

    #[test]
    fn a_conflict_name_fits_and_ends_at_a_character() {
        let long = name(&("漢".repeat(80) + ".txt"));
        let made = conflict_name(&long, &[b'l'; 64], at(0), 12);
        assert!(made.as_bytes().len() <= 255);
        assert!(std::str::from_utf8(made.as_bytes()).is_ok());
        let extension = name(&format!("a.{}", "x".repeat(40)));
        assert!(conflict_name(&extension, b"l", None, 1).as_bytes().ends_with(b"x (conflict l)"));
    }
}

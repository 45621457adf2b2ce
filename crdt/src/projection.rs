//! Projection: which names a disk can hold, and under which local name it gets what it can't.
//!
//! The view's names are any bytes ([`Name`]). What stands in a directory on this device has a *local* name: the view's,
//! or, where the disk or the system above it would refuse that, or take it for something else, one that can be read back
//! to it. Nothing here asks a disk. What two names a disk takes for one is for the disk to say, and not decided here.
//!
//! A byte that can't stand becomes the character U+F000 plus its value, as Cygwin and the Linux subsystem of Windows have
//! it, in a part of Unicode that no letter lies in: so no two names become one, nor one by case alone if they were not. A
//! name that holds such characters itself has them written byte by byte in the same way.

use std::fmt::{self, Display};

use crate::mutated;
use crate::name::Name;

/// What decides which names a disk can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRules {
    /// Linux and its own file systems: every name stands as it is.
    #[default]
    Linux,
    /// macOS (APFS, HFS+): well-formed Unicode only.
    MacOs,
    /// Windows and its file systems (NTFS, exFAT, FAT), wherever they are mounted: what is written there, a Windows
    /// computer must be able to read.
    Windows,
}

/// Why a name can't stand on a disk as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Bytes that are no UTF-8.
    IllFormed,
    /// A character that means something else there, such as `:` (a stream of a file) or `\` (a directory).
    Character(char),
    /// A dot or space at the end, which Windows drops: the name would be that of another file.
    End,
    /// The name of a device, with whatever extension: what is written there goes to the device.
    Device,
    /// The form of a short name (`PROGRA~1`), by which Windows may find a file with a long one.
    ShortName,
}

impl Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IllFormed => f.write_str("it has bytes that are no Unicode"),
            Self::Character(c) => write!(f, "it has the character `{}`", c.escape_debug()),
            Self::End => f.write_str("it ends with a dot or a space"),
            Self::Device => f.write_str("Windows has a device of this name"),
            Self::ShortName => f.write_str("it has the form of a short name"),
        }
    }
}

impl NameRules {
    /// The first reason why a name can't stand as it is; `None` if it can.
    pub fn objection(self, name: &[u8]) -> Option<Objection> {
        if self == Self::Linux {
            return None;
        }
        let Ok(text) = std::str::from_utf8(name) else { return Some(Objection::IllFormed) };
        if self == Self::MacOs {
            return None;
        }
        if let Some(c) = text.chars().find(|c| has_other_meaning(*c)) {
            return Some(Objection::Character(c));
        }
        if text.ends_with(['.', ' ']) {
            return Some(Objection::End);
        }
        if is_device(text) {
            return Some(Objection::Device);
        }
        short_name_mark(text).map(|_| Objection::ShortName)
    }

    /// The local name of what the view calls `name`: that itself if it can stand. `None` if what would stand for it is
    /// longer than a name can be.
    ///
    /// [`NameRules::natural`] reads it back, and gives for no other local name of this kind the same.
    pub fn local(self, name: &Name) -> Option<Name> {
        if self == Self::Linux || mutated!(UnprojectedNames) {
            return Some(name.clone());
        }
        let mut local = String::with_capacity(name.as_bytes().len());
        for part in name.as_bytes().utf8_chunks() {
            for c in part.valid().chars() {
                if is_stand_in(c) || (self == Self::Windows && has_other_meaning(c)) {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| local.push(stand_in(byte)));
                } else {
                    local.push(c);
                }
            }
            part.invalid().iter().for_each(|byte| local.push(stand_in(*byte)));
        }
        if self == Self::Windows {
            if let Some(end) = local.bytes().next_back().filter(|byte| matches!(byte, b'.' | b' ')) {
                local.pop();
                local.push(stand_in(end));
            }
            // One letter less, and it is no device; one sign less, and it is no short name. Each is one byte long.
            let meant = if is_device(&local) { Some(0) } else { short_name_mark(&local) };
            if let Some((at, byte)) = meant.and_then(|at| Some((at, *local.as_bytes().get(at)?))) {
                local.replace_range(at..=at, stand_in(byte).encode_utf8(&mut [0; 4]));
            }
        }
        Name::parse(local.as_bytes()).ok()
    }

    /// The name in the view of what stands under a local name that no row of base notes: what [`NameRules::local`] would
    /// have made it of, else the local name itself, as its maker gave it.
    pub fn natural(self, local: &Name) -> Name {
        let text = std::str::from_utf8(local.as_bytes()).unwrap_or_default();
        if self == Self::Linux || !text.chars().any(is_stand_in) {
            return local.clone();
        }
        let mut natural = Vec::with_capacity(text.len());
        for c in text.chars() {
            match u8::try_from(u32::from(c).wrapping_sub(STAND_IN)) {
                Ok(byte) => natural.push(byte),
                Err(_) => natural.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        // Only what reads back: two local names must not be one in the view.
        let natural = Name::parse(&natural).ok().filter(|natural| self.local(natural).as_ref() == Some(local));
        natural.unwrap_or_else(|| local.clone())
    }
}

/// Where the characters begin that stand for bytes.
const STAND_IN: u32 = 0xf000;

fn stand_in(byte: u8) -> char {
    char::from_u32(STAND_IN + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

const fn is_stand_in(c: char) -> bool {
    matches!(c, '\u{f000}'..='\u{f0ff}')
}

/// Whether a character of a name means something else to Windows.
const fn has_other_meaning(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '"' | '*' | ':' | '<' | '>' | '?' | '|' | '\\')
}

/// Whether Windows takes a name for a device: the part before the first dot counts, without spaces at its end.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ').to_ascii_uppercase();
    if ["CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"].contains(&stem.as_str()) {
        return true;
    }
    // The superscripts are digits to Windows.
    let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    let mut digits = number.unwrap_or_default().chars();
    let is_digit = |c: char| matches!(c, '0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}');
    digits.next().is_some_and(is_digit) && digits.next().is_none()
}

/// Where the `~` stands in a name of the form that Windows gives as a second one: eight characters at most with a number
/// behind the `~`, and an extension of three at most.
fn short_name_mark(name: &str) -> Option<usize> {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let at = stem.rfind('~')?;
    let number = stem.get(at + 1..)?;
    let is_short = stem.chars().count() <= 8 && extension.chars().count() <= 3 && !extension.contains('.');
    let is_numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (at > 0 && is_short && is_numbered).then_some(at)
}

#[cfg(test)]
mod tests;

//! What a power loss may have made of a file: old bytes, or none, under a name, a length and times that are new.
//!
//! A file system with a journal keeps names and lengths and may still lose bytes that it had not written. What was
//! changed since the disk was last synced is therefore read after such a boot, even where nothing seems to have changed,
//! and what lost its bytes is no edit of the user. Which boot that is, and what becomes of these files, is decided by
//! whoever owns the folder.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zerocloud_crdt::base::{BaseRow, Fingerprint};
use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::register::Kind;

use crate::clock::WallTime;
use crate::volume::{VolumeError, VolumeFile};

/// What a file system writes as a whole, in bytes; where one uses less, a lost end is longer than one of its blocks.
const BLOCK_LEN: u64 = 4096;

/// Which files are doubted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Files that changed at this time or later may have lost bytes; `None` if nothing may.
    pub since: Option<WallTime>,
    /// Files that are known to have, by the ids of their rows.
    pub lost: BTreeMap<FileId, Lost>,
}

/// A file that lost its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The item in whose registers its content stands.
    pub source: FileId,
    /// What its row noted when that was found out.
    pub noted: Fingerprint,
    /// The file as it was then; one that is another by now was changed by somebody who may.
    pub print: Fingerprint,
    /// The bytes that it had then: an edit may come within the tick of `print`.
    pub hash: ContentHash,
    /// Names from the root, joined by `/`.
    pub path: Box<[u8]>,
}

impl Doubt {
    /// Whether a file must be read, whatever it seems to be.
    pub(super) fn is_recent(&self, kind: Kind, print: &Fingerprint) -> bool {
        let time = print.mtime.max(print.ctime);
        let at = time.secs.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos));
        kind == Kind::File && self.since.is_some_and(|since| WallTime(at) >= since)
    }

    /// Whether a file that was read lost its bytes: it is known to have, or it does not show what its row has although
    /// nobody changed it, or nothing but an end of zeros is new.
    ///
    /// # Errors
    /// Those of `ends_in_zeros`.
    pub fn is_lost(
        &self,
        row: &BaseRow,
        hash: ContentHash,
        print: &Fingerprint,
        ends_in_zeros: impl FnOnce() -> Result<bool, VolumeError>,
    ) -> Result<bool, VolumeError> {
        if row.kind != Kind::File || row.hash == hash {
            return Ok(false);
        }
        if self.lost.get(&row.id).is_some_and(|lost| lost.hash == hash && is_untouched(&lost.print, print)) {
            return Ok(true);
        }
        if !self.is_recent(Kind::File, print) {
            return Ok(false);
        }
        let (before, now) = (&row.print, print);
        let is_same_write = (before.inode, before.birth, before.mtime) == (now.inode, now.birth, now.mtime);
        Ok(is_same_write || (row.len > 0 && (print.len == 0 || ends_in_zeros()?)))
    }
}

/// Whether nobody wrote to a file: another name or mode says nothing of its bytes.
pub fn is_untouched(before: &Fingerprint, now: &Fingerprint) -> bool {
    (before.inode, before.birth, before.len, before.mtime) == (now.inode, now.birth, now.len, now.mtime)
}

/// Whether a file's last block is all zeros; an empty file has none.
///
/// # Errors
/// Those of the disk.
pub fn ends_in_zeros(file: &dyn VolumeFile, len: u64) -> Result<bool, VolumeError> {
    let Some(last) = len.checked_sub(1) else { return Ok(false) };
    let mut offset = last / BLOCK_LEN * BLOCK_LEN;
    let mut block = [0; BLOCK_LEN as usize];
    while offset < len {
        let read = file.read_at(&mut block, offset)?;
        match block.get(..read) {
            Some(bytes) if read > 0 && bytes.iter().all(|byte| *byte == 0) => offset += read as u64,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use zerocloud_crdt::name::Name;
    use zerocloud_crdt::register::FileTime;

    const NEW: ContentHash = ContentHash([1; 32]);

    fn print(secs: i64, len: u64) -> Fingerprint {
        let time = FileTime { secs, nanos: 0 };
        Fingerprint { inode: 7, birth: None, len, mtime: time, ctime: time, mode: 0o644 }
    }

    fn row(len: u64) -> BaseRow {
        BaseRow {
            id: FileId([1; 16]),
            source: FileId([1; 16]),
            kind: Kind::File,
            view_parent: FileId::ROOT,
            view_name: Name::parse(b"a").unwrap(),
            content_ops: BTreeSet::new(),
            meta_ops: BTreeSet::new(),
            hash: ContentHash([2; 32]),
            len,
            mtime: None,
            executable: false,
            print: print(10, len),
        }
    }

    fn since(secs: i64) -> Doubt {
        Doubt { since: Some(WallTime(secs * 1_000_000_000)), lost: BTreeMap::new() }
    }

    fn is_lost(doubt: &Doubt, row: &BaseRow, hash: ContentHash, print: &Fingerprint, is_zeros: bool) -> bool {
        doubt.is_lost(row, hash, print, || Ok(is_zeros)).unwrap()
    }

    #[test]
    fn an_end_of_zeros_or_nothing_at_all_is_no_edit_after_a_power_loss() {
        assert!(is_lost(&since(5), &row(3), NEW, &print(20, 3), true));
        assert!(is_lost(&since(5), &row(3), NEW, &print(20, 0), false));
        assert!(!is_lost(&since(5), &row(3), NEW, &print(20, 3), false), "bytes that are not zeros are an edit");
        assert!(!is_lost(&since(5), &row(0), NEW, &print(20, 3), true), "nothing is lost of a file that was empty");
        assert!(!is_lost(&since(21), &row(3), NEW, &print(20, 3), true), "it was synced after it was written");
        assert!(!is_lost(&Doubt::default(), &row(3), NEW, &print(20, 0), true), "no power was lost");
    }

    #[test]
    fn other_bytes_in_a_file_that_nobody_wrote_to_are_no_edit() {
        assert!(is_lost(&since(5), &row(3), NEW, &print(10, 3), false));
        assert!(!is_lost(&since(5), &row(3), row(3).hash, &print(10, 3), false), "it shows what its row has");
    }

    #[test]
    fn what_is_lost_stays_so_until_somebody_writes_to_it() {
        let (row, was) = (row(3), print(20, 3));
        let lost = Lost { source: row.source, noted: row.print, print: was, hash: NEW, path: Box::default() };
        let doubt = Doubt { since: None, lost: BTreeMap::from([(row.id, lost)]) };
        assert!(is_lost(&doubt, &row, NEW, &was, true));
        assert!(is_lost(&doubt, &row, NEW, &Fingerprint { mode: 0o755, ..was }, true), "a mode says nothing of bytes");
        assert!(!is_lost(&doubt, &row, NEW, &print(21, 3), true), "a touch publishes it");
        assert!(!is_lost(&doubt, &row, ContentHash([3; 32]), &was, false), "so do other bytes, whenever they came");
    }
}

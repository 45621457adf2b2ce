//! What tells a home from a copy of it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Where a home lies: machine, file system, inode. A store notes it; where it differs, the home was copied or
/// restored, and the device begins a new incarnation in each of its spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// BLAKE3 of the machine's id under a context of our own (machine-id(5) asks not to use it bare); of nothing on
    /// a machine that has none.
    pub machine: [u8; 32],
    /// `f_fsid` of the file system.
    pub file_system: u64,
    /// The directory's inode.
    pub inode: u64,
}

/// Where Linux and the BSDs keep the machine's id.
const MACHINE_ID_PATHS: [&str; 3] = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostid"];

impl Fingerprint {
    pub(super) fn of(dir: &Path) -> std::io::Result<Self> {
        let machine_id = MACHINE_ID_PATHS.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        Ok(Self {
            machine: blake3_of(&machine_id),
            file_system: rustix::fs::statvfs(dir)?.f_fsid,
            inode: std::fs::metadata(dir)?.ino(),
        })
    }
}

fn blake3_of(machine_id: &[u8]) -> [u8; 32] {
    blake3::derive_key("zerocloud/1 home machine", machine_id.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_told_from_its_original_and_a_rename_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::create_dir(&one).unwrap();
        let before = Fingerprint::of(&one).unwrap();
        assert_eq!(before, Fingerprint::of(&one).unwrap());
        std::fs::rename(&one, &two).unwrap();
        std::fs::create_dir(&one).unwrap();
        assert_eq!(before, Fingerprint::of(&two).unwrap());
        assert_ne!(before, Fingerprint::of(&one).unwrap());
        assert!(Fingerprint::of(&dir.path().join("three")).is_err());
    }

    #[test]
    fn the_machines_id_is_not_kept_as_it_is() {
        assert_eq!(blake3_of(b"0123456789abcdef\n"), blake3_of(b"0123456789abcdef"));
        assert_ne!(blake3_of(b"0123456789abcdef"), *blake3::hash(b"0123456789abcdef").as_bytes());
    }
}

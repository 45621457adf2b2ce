//! Small disks of a test, which it fills, grows and takes away.

use std::path::{Path, PathBuf};

use super::namespace::clean_up;
use super::system;

/// Something mounted, until this is dropped. Drop it after whatever lives in it.
pub(crate) struct Mount {
    at: PathBuf,
    is_mounted: bool,
}

impl Mount {
    /// A new disk in memory.
    pub(crate) fn disk(at: PathBuf, size: &str) -> Self {
        let mount = Self::at(at);
        system(&["mount", "-t", "tmpfs", "-o", &format!("size={size},mode=755"), "zerocloud-test", mount.path_str()]);
        mount
    }

    /// A directory at a second place.
    pub(crate) fn bound(from: &Path, at: PathBuf) -> Self {
        let mount = Self::at(at);
        system(&["mount", "--bind", from.to_str().unwrap(), mount.path_str()]);
        mount
    }

    fn at(at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        Self { at, is_mounted: true }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    fn path_str(&self) -> &str {
        self.at.to_str().unwrap()
    }

    /// Changes how much a disk holds.
    pub(crate) fn resize(&self, size: &str) {
        system(&["mount", "-o", &format!("remount,size={size}"), self.path_str()]);
    }

    /// Takes it away, though files in it are open.
    pub(crate) fn unmount(mut self) {
        system(&["umount", "--lazy", self.path_str()]);
        self.is_mounted = false;
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted {
            clean_up(&["umount", "--lazy", self.path_str()]);
        }
    }
}

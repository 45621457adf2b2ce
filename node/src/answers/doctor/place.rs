//! Where a home or a folder lies: on what kind of file system, beside which other folders, and whether another home
//! works there.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::name::CONTROL;

use super::check;
use crate::api::types::{Check, Level};
use crate::tree::marker::Marker;
use crate::volume::{Kind, LinuxVolume, Volume};

/// Directories of a folder that are looked into for other folders: enough for any folder that a person has made a
/// space by hand, and done in a moment.
const LOOKED_INTO_MAX: usize = 10_000;

/// File systems that other machines serve, by the magic number of statfs(2).
const NETWORK: [(u64, &str); 11] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9P"),
    (0x7375_7245, "Coda"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x0bd0_0bd0, "Lustre"),
];
/// FUSE, by the magic number of statfs(2).
const FUSE: u64 = 0x6573_5546;

/// The magic number of the file system on which a path lies; `None` where the system does not say.
pub(super) fn magic_of(path: &Path) -> Option<u64> {
    Some(crate::volume::magic(&rustix::fs::statfs(path).ok()?))
}

/// What it means for a folder that it lies on such a file system.
pub(super) fn folder_kind(name: String, magic: Option<u64>) -> Check {
    let found = match kind_of(magic) {
        FilesystemKind::Local => return check(name, Level::Ok, "on this machine".to_owned()),
        FilesystemKind::Network(which) => format!(
            "a network file system ({which}): what other machines change there is seen by the hourly walk alone, and \
             a connection that breaks stops the space"
        ),
        FilesystemKind::Fuse => "made by a program (FUSE): what that program changes by itself may be seen by the \
                                 hourly walk alone, and what is promised about power losses is up to it"
            .to_owned(),
    };
    check(name, Level::Warning, found)
        .advise("keep the space on a disk of this machine, or run ZeroCloud on the machine that has the files")
}

/// What it means for a home that it lies on such a file system.
pub(super) fn home_kind(magic: Option<u64>) -> Check {
    let name = "home's file system";
    let found = match kind_of(magic) {
        FilesystemKind::Local => return check(name, Level::Ok, "on this machine".to_owned()),
        FilesystemKind::Network(which) => format!("a network file system ({which})"),
        FilesystemKind::Fuse => "made by a program (FUSE)".to_owned(),
    };
    let found = format!("{found}: locks and syncs that the database needs may not be kept");
    check(name, Level::Warning, found)
        .advise("stop the node, move the home to a disk of this machine, and name it with --home or ZEROCLOUD_HOME")
}

enum FilesystemKind {
    Local,
    Network(&'static str),
    Fuse,
}

fn kind_of(magic: Option<u64>) -> FilesystemKind {
    match magic {
        Some(FUSE) => FilesystemKind::Fuse,
        Some(magic) => NETWORK
            .iter()
            .find(|(known, _)| *known == magic)
            .map_or(FilesystemKind::Local, |(_, which)| FilesystemKind::Network(which)),
        None => FilesystemKind::Local,
    }
}

/// Whether another home works on a folder: its marker is `found`, and this home noted `noted` as the last that it wrote
/// there. Behind by one is what this home leaves for a moment when it opens the folder.
pub(super) fn other_home(name: String, found: u64, noted: Option<u64>) -> Check {
    let Some(noted) = noted else { return check(name, Level::Ok, "not opened yet".to_owned()) };
    if found == noted || found.checked_add(1) == Some(noted) {
        return check(name, Level::Ok, "this home alone works on it".to_owned());
    }
    let found = format!(
        "another home has opened this folder, or an older copy was put over it, since this node began to work on it \
         (marker {found}, noted {noted}): two homes on one folder undo each other's work"
    );
    check(name, Level::Error, found).advise(
        "stop the other node, and give it a folder of its own; if there is none, stop and start this one: it then \
         finds out what changed",
    )
}

/// Folders of other spaces around a folder and in it. `others` are where they lie, `dir` is the folder itself.
pub(super) fn neighbours(name: String, dir: &Path, others: &[PathBuf]) -> Check {
    let Some(other) = others.first() else {
        return check(name, Level::Ok, "no other space lies in it or around it".to_owned());
    };
    let how = if other == dir {
        "it is the folder of two spaces".to_owned()
    } else if dir.starts_with(other) {
        format!("it lies in the folder of another space, {}", other.display())
    } else {
        format!("the folder of another space lies in it, {}", other.display())
    };
    let found = format!("{how}: each file there belongs to two spaces, and each undoes what the other does");
    check(name, Level::Error, found).advise(
        "take one of them away: `zerocloud space rm SPACE` leaves its files; move them out, and add or join it there",
    )
}

/// The directories above one that are folders of spaces, of whatever home.
pub(super) fn spaces_above(dir: &Path) -> Vec<PathBuf> {
    let above = dir.ancestors().skip(1).filter(|above| has_marker(above));
    above.map(Path::to_owned).collect()
}

fn has_marker(dir: &Path) -> bool {
    // Who may not look there is told nothing about it.
    LinuxVolume::open(dir).is_ok_and(|volume| Marker::read(&volume).is_ok())
}

/// The directories below a folder's root that are folders of spaces, of whatever home. Looks into a bounded number of
/// directories, those near the root first.
pub(super) fn spaces_below(volume: &dyn Volume, dir: &Path) -> Vec<PathBuf> {
    // By names, and not by handles: as many would be open at the same time.
    let mut waiting: VecDeque<Vec<Box<[u8]>>> = [Vec::new()].into();
    let (mut found, mut looked_into) = (Vec::new(), 0);
    while let Some(names) = waiting.pop_front() {
        looked_into += 1;
        let opened = names.iter().try_fold(volume.root(), |directory, name| directory.open_directory(name));
        // What can't be opened or listed is a problem that the scan tells of.
        for entry in opened.and_then(|directory| directory.list()).unwrap_or_default() {
            let may_be_directory = entry.kind.is_none_or(|kind| kind == Kind::Directory);
            if *entry.name == *CONTROL.as_bytes() {
                let path = names.iter().fold(dir.to_owned(), |path, name| path.join(OsStr::from_bytes(name)));
                if !names.is_empty() && has_marker(&path) {
                    found.push(path);
                }
            } else if may_be_directory && looked_into + waiting.len() < LOOKED_INTO_MAX {
                waiting.push_back(names.iter().cloned().chain([entry.name]).collect());
            }
        }
    }
    found
}

/// Where the spaces lie that share files with one of this home: `ours` is it, `all` are this home's, by id and folder.
pub(super) fn overlapping(ours: SpaceId, dir: &Path, all: &[(SpaceId, PathBuf)], found: Vec<PathBuf>) -> Vec<PathBuf> {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let dir = canonical(dir);
    let others = all.iter().filter(|(id, _)| *id != ours).map(|(_, other)| canonical(other));
    let mut overlapping: Vec<PathBuf> =
        others.filter(|other| other.starts_with(&dir) || dir.starts_with(other)).chain(found).collect();
    overlapping.sort();
    overlapping.dedup();
    overlapping
}

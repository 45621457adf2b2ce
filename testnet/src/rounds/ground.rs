//! On what homes and folders lie: a directory of this machine, or a small disk that is made for one world.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::Mutex;

use fuser::BackgroundSession;
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::folding;
use super::world::NAMES;
use crate::sim::user::below;

/// `EXT4_SUPER_MAGIC` of `linux/magic.h`.
const EXT4_MAGIC: u64 = 0xef53;
/// What a disk in memory holds at first, and by how much it grows when users have filled it for good.
const TMPFS_LEN: u64 = 48 << 20;
/// What must be free while nodes settle: more than all that they may fetch in a round.
const ROOM_MIN: u64 = 24 << 20;
/// What a disk in a file holds. XFS takes none below 300 MiB; the file is sparse.
const IMAGE_LEN: u64 = 512 << 20;
/// What a full disk has room for at most.
const LEFT_LEN_MAX: usize = 200_000;

/// What a world can stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// Where the directory for temporary files is.
    Ext4,
    /// A small disk in memory that is filled up.
    Tmpfs,
    /// A disk that takes letters of both cases for one, for the folders of all devices but the first.
    Folding,
    /// XFS in a file.
    Xfs,
    /// btrfs in a file.
    Btrfs,
}

impl VolumeKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ext4, Self::Tmpfs, Self::Folding, Self::Xfs, Self::Btrfs];

    const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Tmpfs => "tmpfs",
            Self::Folding => "folding",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl fmt::Display for VolumeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Kinds of volumes with commas between them, or `all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeKinds(pub Vec<VolumeKind>);

impl FromStr for VolumeKinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(VolumeKind::ALL.to_vec()));
        }
        let known = || VolumeKind::ALL.map(VolumeKind::name).join(", ");
        let kind = |name: &str| VolumeKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kinds =
            text.split(',').map(|name| kind(name).ok_or_else(|| format!("{name}: not one of {}, all", known())));
        Ok(Self(kinds.collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for VolumeKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(","))
    }
}

/// Why there is no such volume on this machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroundError {
    /// It is mounted.
    #[error("only root may mount it; run this as root")]
    NotRoot,
    /// A program of the system was not found or failed.
    #[error("`{command}`: {complaint}")]
    System {
        /// As it was called.
        command: String,
        /// What it said.
        complaint: String,
    },
    /// There is no `/dev/fuse`, or it may not be used.
    #[error("a file system in this process can't be mounted; is there a /dev/fuse? {0}")]
    NoFuse(#[source] std::io::Error),
    /// A directory or file could not be made.
    #[error("nothing can be written below the directory for temporary files: {0}")]
    Io(#[from] std::io::Error),
}

/// See the module.
pub(super) struct Ground {
    kind: VolumeKind,
    described: String,
    lab: PathBuf,
    /// How much the disk holds, where that is little. Held for one look at it.
    len: Mutex<u64>,
    /// Those that fold names. They go before the directory in which they are, as the next one does.
    _folders: Vec<BackgroundSession>,
    mount: Option<Mount>,
    root: TempDir,
}

impl Ground {
    /// An empty one.
    pub(super) fn make(kind: VolumeKind) -> Result<Self, GroundError> {
        let root = tempfile::Builder::new().prefix("zerocloud-rounds-").tempdir()?;
        let (disk, image) = (root.path().join("disk"), root.path().join("image"));
        let mount = match kind {
            VolumeKind::Ext4 | VolumeKind::Folding => None,
            VolumeKind::Tmpfs => {
                let options = format!("size={TMPFS_LEN},mode=755");
                Some(Mount::make(&disk, &["-t", "tmpfs", "-o", &options, "zerocloud-rounds"])?)
            }
            VolumeKind::Xfs | VolumeKind::Btrfs => {
                require_root()?;
                File::create(&image)?.set_len(IMAGE_LEN)?;
                system(&format!("mkfs.{kind}"), &["-q".as_ref(), image.as_ref()])?;
                let image = image.to_string_lossy();
                Some(Mount::make(&disk, &["-t", kind.name(), "-o", "loop", &image])?)
            }
        };
        let lab = mount.as_ref().map_or(root.path(), |mount| &mount.at).join("lab");
        std::fs::create_dir(&lab)?;
        let mut folders = Vec::new();
        if kind == VolumeKind::Folding {
            require_root()?;
            for name in NAMES.iter().skip(1) {
                let (folder, backing) = (lab.join(name), root.path().join(name));
                std::fs::create_dir(&folder)?;
                std::fs::create_dir(&backing)?;
                folders.push(folding::mount(&backing, &folder).map_err(GroundError::NoFuse)?);
            }
        }
        let described = match kind {
            VolumeKind::Folding => "a disk that folds names, by FUSE".to_owned(),
            VolumeKind::Ext4 => describe_temporary(root.path())?,
            VolumeKind::Tmpfs => format!("tmpfs of {} MiB that fills up", TMPFS_LEN >> 20),
            VolumeKind::Xfs | VolumeKind::Btrfs => format!("{kind} of {} MiB in a file", IMAGE_LEN >> 20),
        };
        Ok(Self { kind, described, lab, len: Mutex::new(TMPFS_LEN), mount, _folders: folders, root })
    }

    pub(super) const fn kind(&self) -> VolumeKind {
        self.kind
    }

    /// What it is.
    pub(super) fn describe(&self) -> &str {
        &self.described
    }

    /// Where homes and folders lie.
    pub(super) fn lab(&self) -> &Path {
        &self.lab
    }

    /// Whether the disk may be full.
    pub(super) fn fills_up(&self) -> bool {
        self.kind == VolumeKind::Tmpfs
    }

    /// Whether the folder of the `n`th device folds names. That of the first can hold all.
    pub(super) fn folds(&self, n: usize) -> bool {
        self.kind == VolumeKind::Folding && n > 0
    }

    /// Fills the disk, but for as little as is drawn; tells it.
    pub(super) fn fill(&self, rng: &mut ChaCha8Rng) -> Option<String> {
        let left_len = if below(rng, 2) == 0 { 0 } else { below(rng, LEFT_LEN_MAX) } as u64;
        if !self.fills_up() {
            return None;
        }
        let mut filler = File::options().create(true).append(true).open(self.filler()).ok()?;
        let block = vec![1; 1 << 20];
        // Until the last is written in part, and there is no room for one byte.
        while filler.write_all(&block).is_ok() {}
        let len = filler.metadata().map_or(0, |metadata| metadata.len());
        // A disk that users filled has nothing to give.
        let _ = filler.set_len(len.saturating_sub(left_len));
        Some(format!("the disk is full but for {} bytes", left_len.min(len)))
    }

    /// Makes room again.
    pub(super) fn empty(&self) {
        if !self.fills_up() {
            return;
        }
        // There is none before it was filled.
        let _ = std::fs::remove_file(self.filler());
    }

    /// Makes room again, and more where users and versions took it for good.
    pub(super) fn make_room(&self) {
        self.empty();
        let (true, Some(mount)) = (self.fills_up(), &self.mount) else { return };
        let stat = rustix::fs::statvfs(&mount.at).unwrap();
        if stat.f_bavail * stat.f_frsize < ROOM_MIN {
            let mut len = self.len.lock().unwrap();
            *len += ROOM_MIN;
            let options = format!("remount,size={len}");
            system("mount", &["-o".as_ref(), options.as_ref(), mount.at.as_ref()]).unwrap();
        }
    }

    fn filler(&self) -> PathBuf {
        self.lab.with_file_name("filler")
    }

    /// Leaves all as it is; gives where it lies.
    pub(super) fn keep(self) -> PathBuf {
        if let Some(mount) = self.mount {
            mount.keep();
        }
        let _ = self.root.keep();
        self.lab
    }
}

/// What the directory for temporary files lies on.
fn describe_temporary(path: &Path) -> Result<String, GroundError> {
    let magic = rustix::fs::statfs(path).map_err(std::io::Error::from)?.f_type as u64;
    let directory = std::env::temp_dir();
    Ok(match magic {
        EXT4_MAGIC => format!("ext4, {}", directory.display()),
        magic => format!("{} is on no ext4, but on the file system {magic:#x}", directory.display()),
    })
}

fn require_root() -> Result<(), GroundError> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(GroundError::NotRoot) }
}

fn system(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<(), GroundError> {
    let mut command = Command::new(program);
    command.args(arguments);
    let failure = |complaint: String| GroundError::System { command: format!("{command:?}"), complaint };
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failure(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(error) => Err(failure(error.to_string())),
    }
}

/// Something mounted, until this is dropped. Drop it after whatever lives in it.
struct Mount {
    at: PathBuf,
    is_kept: bool,
}

impl Mount {
    /// Mounts at a directory that is made.
    fn make(at: &Path, arguments: &[&str]) -> Result<Self, GroundError> {
        require_root()?;
        std::fs::create_dir(at)?;
        let arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(AsRef::as_ref).chain([at.as_os_str()]).collect();
        system("mount", &arguments)?;
        Ok(Self { at: at.to_path_buf(), is_kept: false })
    }

    fn keep(mut self) {
        self.is_kept = true;
        println!("still mounted: `umount {}` when you have seen it", self.at.display());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let arguments = ["--lazy".as_ref(), self.at.as_os_str()];
        if !self.is_kept
            && let Err(error) = system("umount", &arguments)
        {
            eprintln!("left behind: {error}");
        }
    }
}

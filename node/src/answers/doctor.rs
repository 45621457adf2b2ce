//! What keeps a node from doing its work, as far as it shows without a running engine: the kernel's limits, the clock
//! (`clock`), the home, and each space's folder and where it lies (`place`).
//!
//! Looking changes nothing, but for temporary files in the home and in the control directory of a folder that has its
//! marker.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::name::escape;

use crate::api::types::{Check, Level};
use crate::link::iroh::{LinkWarning, udp_buffer_warning};
use crate::tree::marker::{Marker, MarkerError};
use crate::volume::{Volume, VolumeError};

pub mod clock;
mod place;

/// Watches that other programs of the user (editors, file managers) may hold at the same time.
const OTHER_WATCH_COUNT: u64 = 8_192;
/// Instances of inotify that a desktop's programs hold.
const OTHER_INSTANCE_COUNT: u64 = 64;
/// Below this many free bytes a database or file may not be written any more.
const FREE_LEN_MIN: u64 = 64 << 20;
/// Below this many free bytes the user should know.
const FREE_LEN_LOW: u64 = 1 << 30;
/// Inodes that a batch of new files may need.
const FREE_INODE_COUNT_LOW: u64 = 10_000;

/// The kernel's limits. `directory_count` is how many directories all spaces have on this disk, `space_count` how many
/// spaces there are: each needs a watch and an instance of inotify.
pub fn kernel_checks(directory_count: u64, space_count: u64) -> Vec<Check> {
    let mut checks = Vec::new();
    if cfg!(target_os = "linux") {
        let limit = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
            text.trim().parse().ok()
        };
        checks.push(watches(limit("max_user_watches"), directory_count));
        checks.push(instances(limit("max_user_instances"), space_count));
    }
    checks.push(udp_buffers(udp_buffer_warning().as_ref()));
    checks
}

/// Whether the threads that write into folders are kept from everything else. `is_wanted`: as `config.toml` says.
pub fn confinement_check(is_wanted: bool) -> Check {
    confinement(is_wanted, is_wanted && crate::confine::is_possible())
}

fn confinement(is_wanted: bool, is_possible: bool) -> Check {
    let name = "confinement";
    match (is_wanted, is_possible) {
        (true, true) => check(name, Level::Ok, "the threads that write into a folder can open nothing else".to_owned()),
        (false, _) => check(name, Level::Ok, "off in config.toml (`landlock`)".to_owned()),
        (true, false) => check(name, Level::Warning, "this system does not keep threads to their folder".to_owned())
            .advise(
                "nothing is wrong; a kernel from Linux 5.19 on with Landlock would be a second wall around folders",
            ),
    }
}

fn watches(limit: Option<u64>, directory_count: u64) -> Check {
    let name = "watched directories";
    let wanted = directory_count.saturating_add(OTHER_WATCH_COUNT);
    inotify_limit(name, "fs.inotify.max_user_watches", limit, directory_count, wanted)
}

fn instances(limit: Option<u64>, space_count: u64) -> Check {
    let wanted = space_count.saturating_add(OTHER_INSTANCE_COUNT);
    inotify_limit("watched folders", "fs.inotify.max_user_instances", limit, space_count, wanted)
}

/// A limit of which `needed` are used here and `wanted` would leave room for other programs.
fn inotify_limit(name: &str, sysctl: &str, limit: Option<u64>, needed: u64, wanted: u64) -> Check {
    let Some(limit) = limit else {
        let advice = "changes are found by walks alone if folders can't be watched; /proc must be readable to tell";
        return check(name, Level::Warning, format!("{sysctl} can't be read")).advise(advice);
    };
    let level = match limit {
        _ if limit < needed => Level::Error,
        _ if limit < wanted => Level::Warning,
        _ => return check(name, Level::Ok, format!("{needed} needed, {limit} allowed ({sysctl})")),
    };
    // The next power of two leaves room for what is added tomorrow.
    let raised = wanted.checked_next_power_of_two().unwrap_or(wanted);
    check(name, level, format!("{needed} needed, {limit} allowed for all programs together ({sysctl})"))
        .advise(sysctl_advice(sysctl, raised))
}

fn udp_buffers(warning: Option<&LinkWarning>) -> Check {
    match warning {
        Some(LinkWarning::UdpBufferClipped { wanted_len, granted_len }) => {
            let found = format!("{granted_len} of {wanted_len} bytes: transfers over long distances are slow");
            let both = format!("net.core.rmem_max={wanted_len} net.core.wmem_max");
            check("network buffers", Level::Warning, found).advise(sysctl_advice(&both, *wanted_len as u64))
        }
        Some(other) => check("network buffers", Level::Warning, other.to_string())
            .advise("restart the node, and look for it in `zerocloud status`"),
        None => check("network buffers", Level::Ok, "large enough".to_owned()),
    }
}

fn sysctl_advice(sysctl: &str, value: u64) -> String {
    format!("run `sudo sysctl {sysctl}={value}`, and write the same into a file in /etc/sysctl.d to keep it")
}

/// The home: who may read it, what is free on its disk, and what kind of file system that has.
pub fn home_checks(dir: &Path) -> Vec<Check> {
    let mut checks = vec![permissions(dir)];
    checks.push(match rustix::fs::statvfs(dir) {
        Ok(stat) => {
            // Some file systems make inodes as they need them, and say that there are none at all.
            let inode_count = (stat.f_files > 0).then_some(stat.f_favail);
            free_space("home's disk", stat.f_bavail.saturating_mul(stat.f_frsize), inode_count)
        }
        Err(error) => check("home's disk", Level::Error, format!("can't be measured: {error}"))
            .advise("check that the home's disk is mounted and sound"),
    });
    checks.push(place::home_kind(place::magic_of(dir)));
    checks
}

fn permissions(dir: &Path) -> Check {
    let name = "home's permissions";
    let shown = escape(dir.as_os_str().as_encoded_bytes());
    let metadata = match std::fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) => {
            return check(name, Level::Error, format!("{shown} can't be read: {error}"))
                .advise("check owner and mode of the directory and of those above it");
        }
    };
    let owner = metadata.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return check(name, Level::Error, format!("{shown} belongs to another user (id {owner})"))
            .advise("run the node as the user whom the home belongs to, or choose another with --home");
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return check(name, Level::Error, format!("other users can reach {shown} (mode {mode:03o}): it holds secrets"))
            .advise(format!("run `chmod 700 {shown}`"));
    }
    check(name, Level::Ok, format!("{shown} is its owner's alone"))
}

fn free_space(name: &str, bytes: u64, inode_count: Option<u64>) -> Check {
    let found = format!("{} MiB free", bytes >> 20);
    let level = if bytes < FREE_LEN_MIN {
        Level::Error
    } else if bytes < FREE_LEN_LOW {
        Level::Warning
    } else {
        Level::Ok
    };
    if level != Level::Ok {
        return check(name, level, found).advise("free some space: what can't be written waits until there is room");
    }
    match inode_count {
        Some(count) if count < FREE_INODE_COUNT_LOW => {
            check(name, Level::Warning, format!("{found}, but room for only {count} more files"))
                .advise("remove files, or use a file system with more inodes")
        }
        _ => check(name, Level::Ok, found),
    }
}

/// A space's folder, as this home knows it.
pub struct FolderFacts<'a> {
    /// What the space is called on this device.
    pub space_name: &'a str,
    /// Which space it is.
    pub space: SpaceId,
    /// Where it lies.
    pub dir: &'a Path,
    /// The folder, as it was opened.
    pub volume: Result<&'a dyn Volume, &'a VolumeError>,
    /// The counter of the marker that this home wrote last, asked for after the marker was read.
    pub noted: &'a dyn Fn() -> Option<u64>,
    /// All spaces of this home, and where they lie.
    pub all: &'a [(SpaceId, PathBuf)],
}

/// A space's folder: whether it is there, this space's and no other's, what is free on its disk, what kind of file
/// system that has, and whether files can be swapped there.
pub fn folder_checks(facts: &FolderFacts<'_>) -> Vec<Check> {
    let name = |what: &str| format!("{}: {what}", facts.space_name);
    let volume = match facts.volume {
        Ok(volume) => volume,
        Err(error) => {
            return vec![
                check(name("folder"), Level::Error, error.to_string())
                    .advise("mount its disk or put the folder back; nothing is taken for deleted while it is away"),
            ];
        }
    };
    let found = volume.check_root().map_err(MarkerError::from).and_then(|()| Marker::read(volume));
    let is_new = matches!(found, Err(MarkerError::Missing)) && (facts.noted)().is_none();
    let marker = match is_new {
        true => check(name("folder"), Level::Ok, "there, and about to be opened for the first time".to_owned()),
        false => marker(name("folder"), &found, facts.space),
    };
    let is_ours = marker.level == Level::Ok;
    let mut checks = vec![marker];
    checks.push(match volume.free_space() {
        Ok(free) => free_space(&name("disk"), free.bytes, free.inode_count),
        Err(error) => {
            check(name("disk"), Level::Error, error.to_string()).advise("check that the disk is mounted and sound")
        }
    });
    checks.push(place::folder_kind(name("kind of file system"), place::magic_of(facts.dir)));
    if let (true, Ok(found)) = (is_ours, found) {
        checks.push(place::other_home(name("home"), found.counter, (facts.noted)()));
        let around = place::spaces_above(facts.dir).into_iter().chain(place::spaces_below(volume, facts.dir)).collect();
        let others = place::overlapping(facts.space, facts.dir, facts.all, around);
        checks.push(place::neighbours(name("neighbours"), facts.dir, &others));
        // Trying it writes into the control directory: only into one that is ours.
        checks.push(exchange(name("file system"), volume));
    }
    checks
}

fn marker(name: String, found: &Result<Marker, MarkerError>, space: SpaceId) -> Check {
    match found {
        Ok(marker) if marker.space == space => check(name, Level::Ok, "there, with its marker".to_owned()),
        Ok(marker) => check(name, Level::Error, MarkerError::OtherSpace { found: marker.space }.to_string())
            .advise("put the folder of this space back in its place, or remove the space and add it again"),
        Err(error) => check(name, Level::Error, error.to_string()).advise(
            "mount its disk or put the folder back; if it is meant to be this one, remove the space and join it again",
        ),
    }
}

fn exchange(name: String, volume: &dyn Volume) -> Check {
    match volume.supports_exchange() {
        Ok(true) => check(name, Level::Ok, "files can be swapped in one step".to_owned()),
        Ok(false) => {
            let found = "files can't be swapped in one step: for a moment a file that is replaced has no name";
            check(name, Level::Warning, found.to_owned()).advise("ext4, XFS and Btrfs can; move the folder if you can")
        }
        Err(error) => check(name, Level::Error, error.to_string())
            .advise("see that the disk is writable and has room; what is replaced waits until then"),
    }
}

fn check(name: impl Into<String>, level: Level, found: String) -> Check {
    Check { name: name.into(), level, found, advice: None }
}

impl Check {
    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

#[cfg(test)]
mod tests;

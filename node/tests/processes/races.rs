//! A local attacker who swaps directories for links while a node works on them.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};

use super::harness::{Lab, agree};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");
/// For how long the attacker swaps during sync; set `ZEROCLOUD_RACE_SECONDS` for more.
const RACE_SECONDS: u64 = 4;

/// Inode, mode, time of change of content, of that and all else, and content.
type Print = (u64, u32, i64, i64, i64, Vec<u8>);

/// All of a directory that a write or a change of mode or time would alter.
fn state_of(root: &Path) -> BTreeMap<String, Print> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            std::fs::read(&path).unwrap()
        };
        let print = (meta.ino(), meta.mode(), meta.mtime(), meta.mtime_nsec(), meta.ctime_nsec(), content);
        all.insert(path.display().to_string(), print);
    }
    all
}

/// A directory that is no link, held open: the attacker's link comes to the other device, too, and this test must not
/// write through it.
struct Held(OwnedFd);

impl Held {
    fn open(path: &Path) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).ok().map(Self)
    }

    fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{path}", self.0.as_raw_fd()))
    }
}

#[test]
fn threat_35_a_directory_that_flips_to_a_link_during_sync_and_deletion_leads_nowhere() {
    let seconds = std::env::var("ZEROCLOUD_RACE_SECONDS").ok().and_then(|text| text.parse().ok());
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    // What lies outside has the names that are written and deleted inside.
    let decoy = lab.path().join("decoy");
    for n in 0..200 {
        std::fs::create_dir_all(decoy.join(format!("sub{}", n % 5))).unwrap();
        std::fs::write(decoy.join(format!("sub{}/{n}", n % 5)), format!("outside {n}")).unwrap();
        a.write(&format!("tree/sub{}/{n}", n % 5), format!("inside {n}"));
    }
    agree(&[&a, &b]);
    let before = state_of(&decoy);
    let link = lab.path().join("link");
    symlink(&decoy, &link).unwrap();

    let (is_done, flips) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                // The node may have moved or removed what is swapped.
                if renameat_with(CWD, b.at("tree"), CWD, &link, RenameFlags::EXCHANGE).is_ok() {
                    flips.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::yield_now();
            }
        });
        let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(RACE_SECONDS));
        let mut round = 0;
        while Instant::now() < end {
            round += 1;
            for n in (0..200).step_by(3) {
                let path = format!("sub{}/{n}", n % 5);
                if let Some(tree) = Held::open(&a.at("tree")) {
                    let _ = std::fs::create_dir_all(tree.at(&path).parent().unwrap());
                    let _ = std::fs::write(tree.at(&path), format!("round {round} of {n}"));
                }
            }
        }
        for n in 0..5 {
            if let Some(tree) = Held::open(&a.at("tree")) {
                let _ = std::fs::remove_dir_all(tree.at(&format!("sub{n}")));
            }
        }
        let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(RACE_SECONDS) / 2);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert!(flips.load(Ordering::Relaxed) > 100, "{flips:?} swaps");
    assert_eq!(state_of(&decoy), before, "what lies outside is as it was");
    assert_eq!((a.say(["status"]).code, b.say(["status"]).code), (0, 0), "both nodes live");
}

//! Each check with what is right, what is not, and what it says then.

use std::os::unix::fs::PermissionsExt;

use super::clock::{CLOCK_MIN, Evidence, clock_check};
use super::*;
use crate::clock::{Clock, SystemClock, WallTime};

#[test]
fn too_few_watches_are_an_error_and_few_a_warning() {
    assert_eq!(watches(Some(1 << 20), 1_000).level, Level::Ok);
    assert_eq!(watches(Some(8_192), 1_000).level, Level::Warning);
    let bad = watches(Some(8_192), 100_000);
    assert_eq!(bad.level, Level::Error);
    assert!(bad.advice.unwrap().contains("fs.inotify.max_user_watches=131072"));
    assert_eq!(watches(Some(u64::MAX), u64::MAX).level, Level::Ok);
    assert_eq!(instances(Some(128), 3).level, Level::Ok);
    assert_eq!(instances(Some(2), 3).level, Level::Error);
    assert_eq!(instances(None, 3).level, Level::Warning);
}

#[test]
fn small_network_buffers_are_a_warning_with_the_settings_to_change() {
    let clipped = LinkWarning::UdpBufferClipped { wanted_len: 7_000, granted_len: 200 };
    let check = udp_buffers(Some(&clipped));
    assert_eq!(check.level, Level::Warning);
    assert!(check.advice.unwrap().contains("net.core.rmem_max=7000 net.core.wmem_max=7000"));
    assert_eq!(udp_buffers(None).level, Level::Ok);
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernels_own_limits_are_told() {
    let checks = kernel_checks(0, 0);
    assert_eq!(checks.len(), 3);
    for (check, name) in checks.iter().zip(["max_user_watches", "max_user_instances"]) {
        match std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")) {
            Ok(limit) => assert!(check.found.contains(&format!("{} allowed", limit.trim())), "{check:?}"),
            Err(_) => assert_eq!(check.level, Level::Warning),
        }
    }
}

const NOON: WallTime = WallTime(CLOCK_MIN.0 + 43_200_000_000_000);

fn seconds(count: i64) -> i64 {
    count * 1_000_000_000
}

#[test]
fn a_wall_that_is_wanted_and_not_there_is_told() {
    assert_eq!(confinement(true, true).level, Level::Ok);
    assert_eq!(confinement(false, true).level, Level::Ok);
    assert!(confinement(true, false).level == Level::Warning && confinement(true, false).advice.is_some());
    assert_eq!(confinement_check(true).level == Level::Ok, crate::confine::is_possible());
}

#[test]
fn a_clock_before_this_program_was_written_is_wrong() {
    assert_eq!(clock_check(WallTime(0), &Evidence::default()).level, Level::Error);
    let alone = clock_check(CLOCK_MIN, &Evidence::default());
    assert_eq!((alone.level, alone.found.as_str()), (Level::Ok, "plausible (compared with the year alone)"));
}

#[test]
fn a_clock_is_compared_with_files_notes_and_what_members_said() {
    let at = |secs| WallTime(NOON.0 + seconds(secs));
    let evidence = |file, noted, told| Evidence {
        written: vec![("Docs".to_owned(), NOON, at(file))],
        noted: vec![("Docs".to_owned(), at(noted))],
        told: vec![("phone".to_owned(), at(told))],
    };
    let right = clock_check(NOON, &evidence(-119, 119, 119));
    assert_eq!(right.found, "plausible (compared with files written now, times noted before, what members said)");
    assert_eq!(clock_check(NOON, &evidence(0, -86_400, -86_400)).level, Level::Ok, "what is past says nothing");
    for (wrong, said) in [
        (evidence(7_200, 0, 0), "2h ahead of this device's clock"),
        (evidence(-300, 0, 0), "5m behind this device's clock"),
        (evidence(0, 86_400, 0), "what came to the space Docs last came 1d from now"),
        (evidence(0, 0, 3_600), "the clock of phone was 1h ahead of this one"),
    ] {
        let check = clock_check(NOON, &wrong);
        assert_eq!(check.level, Level::Warning);
        assert!(check.found.contains(said), "{}", check.found);
        assert!(check.advice.unwrap().contains("timedatectl"));
    }
}

#[test]
fn a_file_that_is_written_now_has_the_time_of_now_and_goes_again() {
    let dir = tempfile::tempdir().unwrap();
    let now = || SystemClock::new().wall_time();
    let check = |before, time| {
        clock_check(now(), &Evidence { written: vec![("here".to_owned(), before, time)], ..Evidence::default() })
    };
    assert_eq!(check(now(), clock::time_of_file_in(dir.path()).unwrap()).level, Level::Ok);
    let volume = crate::volume::LinuxVolume::open(dir.path()).unwrap();
    for _ in 0..2 {
        assert_eq!(check(now(), clock::time_of_file_on(&volume).unwrap()).level, Level::Ok);
    }
    let left = std::fs::read_dir(dir.path().join(".zerocloud/tmp")).unwrap().count();
    assert_eq!((left, std::fs::read_dir(dir.path()).unwrap().count()), (0, 1));
    assert!(clock::time_of_file_in(&dir.path().join("none")).is_err());
}

#[test]
fn a_disk_that_another_machine_or_a_program_serves_is_a_warning() {
    for (magic, which) in [(0x6969, "NFS"), (0xff53_4d42, "SMB"), (0x6573_5546, "FUSE"), (0x0102_1997, "9P")] {
        for check in [place::folder_kind("Docs".into(), Some(magic)), place::home_kind(Some(magic))] {
            assert!(check.level == Level::Warning && check.found.contains(which), "{check:?}");
            assert!(check.advice.unwrap().contains("disk of this machine"));
        }
    }
    for magic in [Some(0xef53), Some(0x9123_683e), None] {
        assert_eq!(place::folder_kind("Docs".into(), magic).level, Level::Ok);
        assert_eq!(place::home_kind(magic).level, Level::Ok);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernel_tells_what_kind_of_file_system_it_is() {
    // procfs is on every Linux, and its number is its own.
    assert_eq!(place::magic_of(Path::new("/proc")), Some(0x9fa0));
    assert_eq!(place::magic_of(Path::new("/proc/none/at/all")), None);
}

#[test]
fn a_marker_that_this_home_did_not_write_shows_another_home() {
    let check = |found, noted| place::other_home("Docs".into(), found, noted);
    for (found, noted) in [(7, Some(7)), (6, Some(7)), (7, None)] {
        assert_eq!(check(found, noted).level, Level::Ok, "{found} {noted:?}");
    }
    for (found, noted) in [(8, 7), (5, 7), (u64::MAX, 0)] {
        let check = check(found, Some(noted));
        assert_eq!(check.level, Level::Error);
        assert!(check.advice.unwrap().contains("a folder of its own"), "{}", check.found);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn folders_of_spaces_in_one_another_are_found_whatever_home_they_are_of() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let make = |path: &str, id: u8| {
        let path = root.join(path);
        std::fs::create_dir_all(&path).unwrap();
        let volume = crate::volume::LinuxVolume::open(&path).unwrap();
        Marker { space: SpaceId([id; 32]), counter: 1 }.write(&volume).unwrap();
        (path, volume)
    };
    let (alone, alone_volume) = make("alone", 1);
    let (outer, outer_volume) = make("outer", 2);
    let (inner, inner_volume) = make("outer/a/b/inner", 3);
    std::os::unix::fs::symlink(&alone, outer.join("link")).unwrap();

    assert_eq!(place::spaces_below(&outer_volume, &outer), std::slice::from_ref(&inner), "and no link is followed");
    assert_eq!(place::spaces_above(&inner), std::slice::from_ref(&outer));
    for (path, volume) in [(&alone, &alone_volume), (&inner, &inner_volume)] {
        assert!(place::spaces_below(volume, path).is_empty());
    }
    assert!(place::spaces_above(&outer).is_empty() && place::spaces_above(&alone).is_empty());

    let said = |ours: u8, dir: &Path, others: &[(u8, &Path)], found: Vec<PathBuf>| {
        let all: Vec<_> = others.iter().map(|(id, dir)| (SpaceId([*id; 32]), dir.to_path_buf())).collect();
        let others = place::overlapping(SpaceId([ours; 32]), dir, &all, found);
        place::neighbours("Docs".into(), dir, &others)
    };
    let ours = [(1, alone.as_path()), (2, outer.as_path()), (3, inner.as_path())];
    assert_eq!(said(1, &alone, &ours, Vec::new()).level, Level::Ok);
    assert!(said(2, &outer, &ours, Vec::new()).found.contains("the folder of another space lies in it"));
    assert!(said(3, &inner, &ours, Vec::new()).found.contains("it lies in the folder of another space"));
    assert!(said(3, &inner, &[(3, &inner)], vec![outer.clone()]).found.contains("it lies in the folder of another"));
    let same = said(1, &alone, &[(1, &alone), (4, &outer.join("link"))], Vec::new());
    assert!(same.level == Level::Error && same.found.contains("it is the folder of two spaces"), "{same:?}");
    assert!(same.advice.unwrap().contains("zerocloud space rm"));
}

#[test]
fn little_space_is_a_warning_and_none_an_error() {
    assert_eq!(free_space("disk", FREE_LEN_LOW, None).level, Level::Ok);
    assert_eq!(free_space("disk", FREE_LEN_LOW - 1, None).level, Level::Warning);
    assert_eq!(free_space("disk", FREE_LEN_MIN - 1, Some(0)).level, Level::Error);
    assert_eq!(free_space("disk", u64::MAX, Some(5)).level, Level::Warning);
}

#[test]
fn a_home_that_others_can_reach_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let checks = home_checks(dir.path());
    assert_eq!((checks.len(), checks[0].level), (3, Level::Ok));
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o750)).unwrap();
    let check = &home_checks(dir.path())[0];
    assert!(check.level == Level::Error && check.advice.as_ref().unwrap().contains("chmod 700"), "{check:?}");
    assert!(home_checks(&dir.path().join("none")).iter().take(2).all(|check| check.level == Level::Error));
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_is_right_with_the_marker_of_its_space_alone() {
    let dir = tempfile::tempdir().unwrap();
    let volume = crate::volume::LinuxVolume::open(dir.path()).unwrap();
    let (ours, other) = (SpaceId([1; 32]), SpaceId([2; 32]));
    let checks_of = |volume, space, noted| {
        let noted = move || noted;
        folder_checks(&FolderFacts { space_name: "Docs", space, dir: dir.path(), volume, noted: &noted, all: &[] })
    };
    for (noted, level) in [(None, Level::Ok), (Some(4), Level::Error)] {
        let checks = checks_of(Ok(&volume), ours, noted);
        assert_eq!((checks[0].level, checks.len()), (level, 3), "no marker: {checks:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "and nothing was made");
    Marker { space: ours, counter: 4 }.write(&volume).unwrap();
    let checks = checks_of(Ok(&volume), ours, Some(4));
    assert_eq!((checks[0].level, checks.len()), (Level::Ok, 6), "{checks:?}");
    assert!(checks.iter().all(|check| check.name.starts_with("Docs: ")));
    assert_eq!(checks[3].level, Level::Ok, "{checks:?}");
    assert_eq!(checks_of(Ok(&volume), ours, Some(3))[3].level, Level::Error, "another home raised the counter");
    let checks = checks_of(Ok(&volume), other, Some(4));
    assert_eq!((checks[0].level, checks.len()), (Level::Error, 3));
    std::fs::rename(dir.path(), dir.path().with_extension("away")).unwrap();
    assert_eq!(checks_of(Ok(&volume), ours, Some(4))[0].level, Level::Error);
    std::fs::rename(dir.path().with_extension("away"), dir.path()).unwrap();
    let error = crate::volume::LinuxVolume::open(&dir.path().join("none")).err().unwrap();
    let checks = checks_of(Err(&error), ours, Some(4));
    assert!(checks.len() == 1 && checks[0].level == Level::Error && checks[0].advice.is_some());
}

//! Each check with what is right, what is not, and what it says then.

use std::os::unix::fs::PermissionsExt;

use super::*;

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

#[test]
fn a_clock_before_this_program_was_written_is_wrong() {
    assert_eq!(clock_check(WallTime(0)).level, Level::Error);
    assert_eq!(clock_check(CLOCK_MIN).level, Level::Ok);
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
    assert_eq!((checks.len(), checks[0].level), (2, Level::Ok));
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o750)).unwrap();
    let check = &home_checks(dir.path())[0];
    assert!(check.level == Level::Error && check.advice.as_ref().unwrap().contains("chmod 700"), "{check:?}");
    assert!(home_checks(&dir.path().join("none")).iter().all(|check| check.level == Level::Error));
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_is_right_with_the_marker_of_its_space_alone() {
    let dir = tempfile::tempdir().unwrap();
    let volume = crate::volume::LinuxVolume::open(dir.path()).unwrap();
    let space = SpaceId([1; 32]);
    let checks = folder_checks("Docs", Ok(&volume), space);
    assert_eq!((checks[0].level, checks.len()), (Level::Error, 2), "no marker, and nothing was made");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    Marker { space, counter: 4 }.write(&volume).unwrap();
    let checks = folder_checks("Docs", Ok(&volume), space);
    assert_eq!((checks[0].level, checks.len()), (Level::Ok, 3), "{checks:?}");
    assert!(checks.iter().all(|check| check.name.starts_with("Docs: ")));
    let checks = folder_checks("Docs", Ok(&volume), SpaceId([2; 32]));
    assert_eq!((checks[0].level, checks.len()), (Level::Error, 2));
    std::fs::rename(dir.path(), dir.path().with_extension("away")).unwrap();
    assert_eq!(folder_checks("Docs", Ok(&volume), space)[0].level, Level::Error);
    std::fs::rename(dir.path().with_extension("away"), dir.path()).unwrap();
    let error = crate::volume::LinuxVolume::open(&dir.path().join("none")).err().unwrap();
    let checks = folder_checks("Docs", Err(&error), space);
    assert!(checks.len() == 1 && checks[0].level == Level::Error && checks[0].advice.is_some());
}

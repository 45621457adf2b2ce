use super::*;
use crate::api::path::BytePath;

pub(super) fn space() -> SpaceStatus {
    SpaceStatus {
        id: "ab".repeat(32),
        name: "Photos".into(),
        dir: BytePath::from("/home/anna/Photos"),
        role: Role::Owner,
        state: State::Idle,
        error: None,
        files: 12_345,
        directories: 1,
        bytes: 13_207_100_000,
        missing_chunks: 0,
        received_bytes: 0,
        sent_bytes: 0,
        awaited: 0,
        awaited_paths: Vec::new(),
        lost: 0,
        left_out: 0,
        conflicts: 0,
        problems: Vec::new(),
        peers: Vec::new(),
    }
}

pub(super) fn peer(name: &str, connected: bool, in_sync: bool) -> PeerStatus {
    let (path, rtt_ms) = if connected { (PeerPath::Direct, Some(1.25)) } else { (PeerPath::None, None) };
    PeerStatus { device: "cd".repeat(32), name: name.into(), connected, path, rtt_ms, congestion: None, in_sync }
}

pub(super) fn node(spaces: Vec<SpaceStatus>) -> Status {
    Status { version: "0.1.0".into(), device: "ef".repeat(32), spaces, warnings: Vec::new() }
}

#[test]
fn threat_38_no_text_of_a_peer_reaches_the_terminal_unescaped() {
    let bad = "x\x1b[2J\u{202e}\n";
    let evil = SpaceStatus {
        name: bad.into(),
        dir: BytePath::from(bad),
        error: Some(bad.into()),
        problems: vec![Problem { path: BytePath::from(bad), reason: bad.into() }],
        peers: vec![peer(bad, true, true)],
        ..space()
    };
    let plain_space =
        Space { id: "ab".repeat(32), name: bad.into(), dir: BytePath::from(bad), role: Role::Viewer, paused: true };
    let what = [
        What::State { space: bad.into(), state: State::Idle },
        What::Path {
            space: bad.into(),
            path: BytePath::from(bad),
            change: Change::Moved,
            to: Some(BytePath::from(bad)),
            device_name: Some(bad.into()),
        },
        What::Conflict { space: bad.into(), copy: BytePath::from(bad) },
        What::Problem { space: bad.into(), path: BytePath::from(bad), reason: bad.into() },
        What::Peer { device: String::new(), name: bad.into(), connected: true },
        What::Pairing {
            space: bad.into(),
            device: String::new(),
            name: bad.into(),
            words: vec![bad.into()],
            needs_confirmation: true,
        },
        What::Joined { space: bad.into(), device: String::new(), name: bad.into() },
        What::Discrepancy {
            space: bad.into(),
            device: String::new(),
            name: bad.into(),
            kind: DiscrepancyKind::TwoViews,
            entries: 2,
        },
        What::Warning { text: bad.into() },
    ];
    let member = Member {
        device: String::new(),
        name: bad.into(),
        person: String::new(),
        role: Role::Editor,
        rank: 2,
        is_this_device: true,
        is_recovery: false,
    };
    let entry = ListingEntry {
        name: BytePath::from(bad),
        kind: ItemKind::File,
        size: 1,
        modified_ms: None,
        is_here: false,
        is_conflict: true,
    };
    let version = Version {
        time_ms: 0,
        size: None,
        device: String::new(),
        device_name: bad.into(),
        is_current: true,
        is_here: true,
        others: vec![bad.into()],
    };
    let conflict = Conflict {
        space: bad.into(),
        path: BytePath::from(bad),
        copy: BytePath::from(bad),
        device_name: bad.into(),
        size: 1,
        time_ms: 0,
    };
    let change =
        HeldChange { space: bad.into(), path: BytePath::from(bad), change: Change::Deleted, device_name: bad.into() };
    let failed = vec![Problem { path: BytePath::from(bad), reason: bad.into() }];
    let half_restored = Restored { path: BytePath::from(bad), time_ms: 0, files: 1, deleted: 1, failed };
    let check = Check { name: bad.into(), level: Level::Error, found: bad.into(), advice: Some(bad.into()) };
    let mut all = vec![
        diagnosis(&Diagnosis { checks: vec![check] }),
        status(&node(vec![evil]), 80),
        spaces(&SpaceList { spaces: vec![plain_space.clone()] }),
        space_is(&plain_space, "is"),
        joined(&plain_space),
        up_intro(&plain_space),
        members(&MemberList { members: vec![member] }),
        listing(&Listing { entries: vec![entry] }),
        versions(&VersionList { versions: vec![version] }),
        conflicts(&ConflictList { conflicts: vec![conflict] }),
        held(&HeldList { held: vec![change] }, None),
        restored(&half_restored),
        sync_report(&SyncReport { spaces: vec![bad.into()], peers_in_sync: 1, problems: 1 }, true),
    ];
    all.extend(what.map(|what| event(&Event { time_ms: 0, what })));
    for text in all {
        assert!(text.contains("x\\u{1b}[2J\\u{202e}\\n"), "{text:?}");
        assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
    }
}

#[test]
fn lists_stand_in_columns() {
    let entry = |name: &str, kind, size| ListingEntry {
        name: BytePath::from(name),
        kind,
        size,
        modified_ms: None,
        is_here: size != 2048,
        is_conflict: false,
    };
    let entries = vec![
        entry("2024", ItemKind::Directory, 0),
        entry("a.jpg", ItemKind::File, 2048),
        entry("l", ItemKind::Link, 3),
    ];
    let expected = "              2024/\n   2.0 KiB    a.jpg  (not here yet)\n      link    l\n";
    assert_eq!(listing(&Listing { entries }), expected);

    let member = |device: &str, name: &str, role, rank| Member {
        device: device.repeat(32),
        name: name.into(),
        person: "01".repeat(16),
        role,
        rank,
        is_this_device: rank == 1,
        is_recovery: rank == 0,
    };
    let table = vec![member("aa", "", Role::Owner, 0), member("bb", "laptop", Role::Owner, 1)];
    let expected = "\
DEVICE      NAME                  PERSON      ROLE   RANK
aaaaaaaaaa  (recovery words)      0101010101  owner  0
bbbbbbbbbb  laptop (this device)  0101010101  owner  1
";
    assert_eq!(members(&MemberList { members: table }), expected);
}

#[test]
fn words_stand_in_four_columns_by_column() {
    let words = (1..=24).map(|n| format!("word{n}")).collect();
    let shown = recovery_words(&RecoveryWords { words });
    let first = shown.lines().next().unwrap();
    assert_eq!(shown.lines().count(), 6);
    assert!(first.starts_with(" 1 word1 ") && first.contains(" 7 word7 ") && first.contains("19 word19"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn numbers_are_read_at_a_glance() {
    for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(count(number), text);
    }
    for (number, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_572_864, "1.5 MiB"),
        (u64::MAX, "15.9 EiB"),
        ((1 << 20) - 1, "1023.9 KiB"),
    ] {
        assert_eq!(bytes(number), text);
    }
}

#[test]
fn a_ticket_is_drawn_where_it_fits() {
    let ticket = format!("zc1{}", "abcdefg234567".repeat(32));
    let code = qr_code(&ticket, 80).unwrap();
    assert_eq!(code, qr_code(&ticket.to_uppercase(), 80).unwrap(), "a ticket is read in either case");
    let width = code.lines().next().unwrap().chars().count();
    assert!(width <= 80 && code.lines().all(|line| line.chars().count() == width));
    assert_eq!(qr_code(&ticket, width - 1), None);
    assert_eq!(qr_code(&"z".repeat(10_000), 1_000), None, "no code holds that much");
}

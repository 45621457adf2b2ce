//! What a person sees, at the width of a terminal and of half of one.

use super::super::fit::width_of;
use super::super::tests::{node, peer, space};
use super::*;
use crate::api::path::BytePath;

/// A node with all that makes lines long: names, paths, numbers, many devices, problems with advice.
fn busy() -> Status {
    let problem = |path: &str, reason: &str| Problem { path: BytePath::from(path), reason: reason.into() };
    let rtt = |name: &str, rtt_ms: f64, in_sync| PeerStatus { rtt_ms: Some(rtt_ms), ..peer(name, true, in_sync) };
    let mut peers = vec![
        peer("an old phone in a drawer", false, false),
        rtt("nas", 0.4, true),
        PeerStatus { path: PeerPath::Relay, ..rtt("the laptop that Anna takes along", 1234.5, false) },
        PeerStatus { congestion: Some(PeerCongestion::Bbr3), ..rtt("\u{7535}\u{8111}", 12.0, true) },
        peer("", true, false),
    ];
    peers.extend((1..=9).map(|n| peer(&format!("sensor {n}"), false, false)));
    let work = SpaceStatus {
        name: "Work".into(),
        dir: BytePath::from("/home/anna/Documents/customers/2024/contracts/Work"),
        state: State::Syncing,
        role: Role::Editor,
        files: 1_234_567,
        directories: 98_765,
        missing_chunks: 1_024,
        conflicts: 2,
        awaited: 3,
        awaited_paths: vec![BytePath::from("reports/2024/september/a report with a name that has no end.docx")],
        lost: 1,
        left_out: 12,
        problems: vec![
            problem("a.txt", "the disk is full; free some space"),
            problem(&format!("{}end.jpg", "long/".repeat(30)), "permission denied; check owner and mode"),
        ],
        peers,
        ..space()
    };
    let named = SpaceStatus {
        name: "Photos of all our journeys since we met".into(),
        state: State::Error,
        error: Some("the folder is gone; is its disk mounted? Mount it, or move the folder back here".into()),
        problems: (0..7).map(|n| problem(&format!("{n}"), "no room")).collect(),
        ..space()
    };
    let new = SpaceStatus { name: "New".into(), ..space() };
    let mut status = node(vec![work, named, new]);
    status
        .warnings
        .push("the system limits network buffers, which makes transfers slow; raise net.core.rmem_max".into());
    status
}

#[test]
fn at_80_columns() {
    let expected = "\
zerocloud 0.1.0 on device efefefefef
warning: the system limits network buffers, which makes transfers slow; raise
  net.core.rmem_max

Work  syncing, 1,024 chunks missing  /home/anna/Doc…ustomers/2024/contracts/Work
  1,234,567 files in 98,765 folders, 12.3 GiB; you are editor
  nas                       direct         0.4 ms  in sync
  the lap…Anna takes along  by relay    1234.5 ms  syncing
  电脑                      direct        12.0 ms  in sync, lossy path
  cdcdcdcdcd                direct         1.2 ms  syncing
  an old phone in a drawer  not connected
  sensor 1                  not connected
  sensor 2                  not connected
  sensor 3                  not connected
  sensor 4                  not connected
  sensor 5                  not connected
  sensor 6                  not connected
  sensor 7                  not connected
  and 2 more devices: zerocloud status --json
  2 conflict copies: zerocloud conflicts Work
  3 files are awaited from an old phone in a drawer, sensor 1, sensor 2 and 7
    others
    reports/2024/september/a report with a name that has no end.docx
  12 files are left out on this device: zerocloud select Work
  1 file has a newest version that is lost: zerocloud forget --help
  a.txt: the disk is full; free some space
  long/long/long/long/long/…ong/long/long/long/long/long/long/long/long/end.jpg:
    permission denied; check owner and mode

Photos of all our journeys since we met  stopped  /home/anna/Photos
  12,345 files in 1 folder, 12.3 GiB; you are owner
  no other device yet: zerocloud invite 'Photos of all our journeys since we
    met' --me
  stopped: the folder is gone; is its disk mounted? Mount it, or move the folder
    back here
  0: no room
  1: no room
  2: no room
  3: no room
  4: no room
  and 2 more: zerocloud status --json

New  up to date here  /home/anna/Photos
  12,345 files in 1 folder, 12.3 GiB; you are owner
  no other device yet: zerocloud invite New --me
";
    assert_eq!(status(&busy(), 80), expected);
}

#[test]
fn at_40_columns() {
    let expected = "\
zerocloud 0.1.0 on device efefefefef
warning: the system limits network
  buffers, which makes transfers slow;
  raise net.core.rmem_max

Work  syncing, 1,024 chunks missing
  /home/anna/D…omers/2024/contracts/Work
  1,234,567 files in 98,765 folders,
    12.3 GiB; you are editor
  nas                    0.4 ms  in sync
  the l…takes along   1234.5 ms  syncing
  电脑                  12.0 ms  in sync
  cdcdcdcdcd             1.2 ms  syncing
  an ol…in a drawer  not connected
  sensor 1           not connected
  sensor 2           not connected
  sensor 3           not connected
  sensor 4           not connected
  sensor 5           not connected
  sensor 6           not connected
  sensor 7           not connected
  and 2 more devices: zerocloud status
    --json
  2 conflict copies: zerocloud conflicts
    Work
  3 files are awaited from an old phone
    in a drawer, sensor 1, sensor 2 and
    7 others
    reports/202…ame that has no end.docx
  12 files are left out on this device:
    zerocloud select Work
  1 file has a newest version that is
    lost: zerocloud forget --help
  a.txt:
    the disk is full; free some space
  long/long/lo…g/long/long/long/end.jpg:
    permission denied; check owner and
      mode

Photos of all our journeys since we met
  stopped  /home/anna/Photos
  12,345 files in 1 folder, 12.3 GiB;
    you are owner
  no other device yet: zerocloud invite
    'Photos of all our journeys since we
    met' --me
  stopped: the folder is gone; is its
    disk mounted? Mount it, or move the
    folder back here
  0: no room
  1: no room
  2: no room
  3: no room
  4: no room
  and 2 more: zerocloud status --json

New  up to date here  /home/anna/Photos
  12,345 files in 1 folder, 12.3 GiB;
    you are owner
  no other device yet: zerocloud invite
    New --me
";
    assert_eq!(status(&busy(), 40), expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in WIDTH_MIN..=120 {
        let shown = status(&busy(), width);
        for line in shown.lines() {
            assert!(width_of(line) <= width, "{} of {width}: {line}", width_of(line));
        }
    }
    let whole = status(&busy(), usize::MAX);
    assert!(whole.contains("long/end.jpg: permission denied; check owner and mode\n"), "for programs: {whole}");
    assert_eq!(status(&busy(), 3), status(&busy(), WIDTH_MIN), "narrower, the terminal wraps");
}

#[test]
fn a_command_can_be_typed_whatever_the_space_is_called() {
    for (name, shown) in [("Photos", "Photos"), ("F\u{e9}ria_1.2", "F\u{e9}ria_1.2"), ("My $HOME", "'My $HOME'")] {
        assert_eq!(typed(name), shown);
    }
    assert_eq!(typed("Anna's"), "'Anna'\\''s'");
}

#[test]
fn a_stopped_space_says_why_and_a_held_one_how_to_go_on() {
    let stopped = SpaceStatus { state: State::Error, error: Some("the marker is gone".into()), ..space() };
    let shown = status(&node(vec![stopped]), 80);
    assert!(shown.contains("Photos  stopped  /home") && shown.contains("stopped: the marker is gone"), "{shown}");
    let held = SpaceStatus { state: State::Held, ..space() };
    assert!(status(&node(vec![held]), 80).contains("zerocloud held Photos"));
    assert!(status(&node(Vec::new()), 80).contains("No spaces."));
}

#[test]
fn what_is_awaited_is_told_with_who_may_have_it_and_what_is_lost_with_what_to_do() {
    let lacking = SpaceStatus {
        state: State::Syncing,
        missing_chunks: 1,
        awaited: 1,
        awaited_paths: vec![BytePath::from("a/b.txt")],
        lost: 2,
        left_out: 3,
        peers: vec![peer("nas", true, true), peer("phone", false, false)],
        ..space()
    };
    let shown = status(&node(vec![lacking]), 80);
    assert!(shown.contains("  1 file is awaited from phone\n    a/b.txt\n"), "{shown}");
    assert!(shown.contains("  3 files are left out on this device: zerocloud select Photos\n"), "{shown}");
    assert!(shown.contains("  2 files have a newest version that is lost: zerocloud forget --help\n"), "{shown}");
}

#[test]
fn connected_peers_that_lag_are_waited_for() {
    let lagging = SpaceStatus { peers: vec![peer("nas", true, true), peer("phone", true, false)], ..space() };
    assert!(status(&node(vec![lagging]), 80).contains("Photos  waiting for other devices"));
}

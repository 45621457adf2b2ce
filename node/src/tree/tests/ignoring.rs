//! Ignore rules in a scan.

use zerocloud_crdt::scan::Parent;

use super::*;
use crate::tree::ignoring::{Rules, RulesFile};
use crate::tree::scan::scan_under;

fn rules(content: &str) -> Rules {
    Rules::from_contents(vec![(FileId::ROOT, content.as_bytes().to_vec())])
}

impl Disk {
    fn look(&self, in_force: &Rules) -> Scanned {
        scan_under(&*self.volume, &self.ledger, SPACE, &Extent::Full, in_force, &crate::tree::scan::Doubt::default())
            .unwrap()
    }

    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    fn known(&self, name: &str) -> Option<RowKey> {
        self.ledger.base.all().keys().find(|key| key.local.as_bytes() == name.as_bytes()).cloned()
    }
}

/// Names of what a scan found, and of what it says is gone.
fn found(scanned: &Scanned) -> (Vec<String>, Vec<String>) {
    let text = |name: &Name| String::from_utf8(name.as_bytes().to_vec()).unwrap();
    let findings = &scanned.findings;
    let seen = findings.sightings.iter().map(|sighting| text(&sighting.local)).collect();
    (seen, findings.gone.iter().map(|key| text(&key.local)).collect())
}

#[test]
fn the_mass_of_an_ignored_directory_costs_no_walk() {
    let mut disk = Disk::new();
    disk.write("src/main.rs", "fn main() {}");
    disk.write("target/known", "1");
    disk.scan();
    for n in 0..50 {
        disk.write(&format!("target/d{n}/o"), "o");
        disk.write(&format!("other/target/d{n}/o"), "o");
    }
    disk.write(".zerocloudignore", "target/\n");
    let scanned = disk.look(&rules("target/\n"));
    // The root, `src`, `other`, and where things are parked: neither the target that base knows nor the other one.
    assert_eq!(scanned.left_out.len(), 4, "{:?}", scanned.left_out.keys());
    let left_out: Vec<_> = scanned.left_out.values().flatten().collect();
    assert_eq!(left_out, [&Name::parse(b"target").unwrap()]);
    let (mut seen, gone) = found(&scanned);
    seen.sort();
    assert_eq!((seen, gone), (vec![".zerocloudignore".to_owned(), "other".to_owned()], Vec::new()));
}

#[test]
fn a_rule_counts_at_once_for_what_base_does_not_know_and_later_for_what_it_does() {
    let mut disk = Disk::new();
    disk.write("known.log", "1");
    disk.write("removed.log", "2");
    disk.scan();
    disk.write(".zerocloudignore", "*.log\n");
    disk.write("new.log", "secret");
    disk.write("known.log", "edited before the rule");
    fs::remove_file(disk.path("removed.log")).unwrap();
    let scanned = disk.look(&Rules::default());
    let (mut seen, gone) = found(&scanned);
    seen.sort();
    assert_eq!(seen, [".zerocloudignore", "known.log"]);
    assert_eq!(gone, ["removed.log"]);
    let file = RulesFile::parse(b"*.log\n");
    assert_eq!(scanned.rules[&Parent::Known(FileId::ROOT)].as_deref(), Some(&file));
}

#[test]
fn what_slept_wakes_with_its_edit_and_without_a_deletion() {
    let mut disk = Disk::new();
    for (path, content) in [("edited.log", "1"), ("same.log", "2"), ("lost.log", "3"), ("d/below.log", "4")] {
        disk.write(path, content);
    }
    disk.write("moved.log", "5");
    disk.write("kind.log", "6");
    disk.scan();
    disk.write("edited.log", "edited asleep");
    fs::remove_file(disk.path("lost.log")).unwrap();
    fs::rename(disk.path("moved.log"), disk.path("elsewhere.log")).unwrap();
    fs::remove_file(disk.path("kind.log")).unwrap();
    fs::create_dir(disk.path("kind.log")).unwrap();
    fs::remove_dir_all(disk.path("d")).unwrap();
    let was = rules("*.log\n");
    disk.write(".zerocloudignore", "*.log\n");
    let (seen, gone) = found(&disk.look(&was));
    assert_eq!((seen, gone), (vec![".zerocloudignore".to_owned()], vec!["d".to_owned()]));
    fs::remove_file(disk.path(".zerocloudignore")).unwrap();
    let scanned = disk.look(&was);
    let (mut seen, mut gone) = found(&scanned);
    seen.sort();
    gone.sort();
    assert_eq!(seen, ["edited.log", "elsewhere.log", "kind.log"]);
    assert_eq!(gone, ["d", "kind.log"]);
    let mut left: Vec<_> = scanned.left.iter().map(|key| key.local.as_bytes()).collect();
    left.sort();
    assert_eq!(left, [&b"below.log"[..], b"lost.log"]);
    let moved = scanned.findings.sightings.iter().find(|sighting| sighting.local.as_bytes() == b"elsewhere.log");
    assert_eq!(moved.unwrap().from, disk.known("moved.log"));
}

#[test]
fn an_ignored_path_is_no_problem_whatever_stands_there() {
    let mut disk = Disk::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        disk.path("run.sock"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    disk.write(".zerocloudignore", "*.sock\n[z-a]\n");
    disk.scan();
    assert_eq!(disk.problem("run.sock"), None);
    assert!(matches!(disk.problem(".zerocloudignore"), Some(Reason::Rules(_))));
    // A link is no rules file, wherever it leads.
    fs::remove_file(disk.path(".zerocloudignore")).unwrap();
    disk.write("elsewhere", "*.sock\n");
    symlink("elsewhere", disk.path(".zerocloudignore")).unwrap();
    disk.scan();
    assert_eq!(disk.problem("run.sock"), Some(Reason::Special));
}

#[test]
fn a_move_into_an_ignored_place_is_a_deletion_and_out_of_one_a_new_file() {
    let mut disk = Disk::new();
    disk.write("a", "1");
    disk.write("in/b", "2");
    disk.scan();
    disk.write(".zerocloudignore", "in/\n");
    let in_force = rules("in/\n");
    fs::rename(disk.path("a"), disk.path("in/a")).unwrap();
    fs::rename(disk.path("in/b"), disk.path("b")).unwrap();
    let scanned = disk.look(&in_force);
    let (mut seen, gone) = found(&scanned);
    seen.sort();
    assert_eq!((seen, gone), (vec![".zerocloudignore".to_owned(), "b".to_owned()], vec!["a".to_owned()]));
    assert!(scanned.findings.sightings.iter().all(|sighting| sighting.from.is_none()));
    assert!(scanned.left.is_empty());
}

//! The conflict matrix: every pair of things that two users do at the same time, and what becomes of it.
//!
//! The page `docs/conflicts.md` is made from it, and is held against it: `ZEROCLOUD_UPDATE_DOCS=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use zerocloud_crdt::id::ActorId;
use zerocloud_crdt::index::Overlay;
use zerocloud_crdt::register::Kind;

use super::device::{Node, is_under, rename};
use super::{World, name};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conflicts.md");
const BEGIN: &str = "<!-- matrix -->\n";
const USERS: [&str; 2] = ["Anna", "Ben"];

/// What a user does, and how the page calls it.
struct Act {
    says: &'static str,
    does: fn(&mut World, usize),
}

const ACTS: [Act; 14] = [
    Act { says: "edits `desk/letter`", does: |world, at| world.edit(at, "desk/letter") },
    Act { says: "touches it", does: |world, at| world.touch(at, "desk/letter") },
    Act { says: "makes it executable", does: |world, at| world.make_executable(at, "desk/letter") },
    Act { says: "renames it to a name of their own", does: |world, at| world.rename_to_own(at, "desk/letter", "desk") },
    Act { says: "renames it to `desk/memo`", does: |world, at| world.rename(at, "desk/letter", "desk/memo") },
    Act { says: "moves it to `box`", does: |world, at| world.rename(at, "desk/letter", "box/letter") },
    Act { says: "deletes it", does: |world, at| world.delete(at, "desk/letter") },
    Act { says: "replaces it by a directory", does: World::replace_by_directory },
    Act { says: "makes a file `desk/memo`", does: |world, at| world.create(at, "desk/memo") },
    Act { says: "makes a directory `desk/memo`", does: World::make_directory },
    Act { says: "deletes `desk`", does: |world, at| world.delete(at, "desk") },
    Act { says: "renames `desk` to a name of their own", does: |world, at| world.rename_to_own(at, "desk", "") },
    Act { says: "moves `desk` into `box`", does: |world, at| world.rename(at, "desk", "box/desk") },
    Act { says: "moves `box` into `desk`", does: |world, at| world.rename(at, "box", "desk/box") },
];

impl World {
    /// Two devices with one tree: `desk` with two files, and `box`.
    fn of_two() -> Self {
        let mut world = (0..).map(Self::new).find(|world| world.devices.len() == USERS.len()).unwrap();
        for device in &mut world.devices {
            let mut overlay = Overlay::new(&device.index);
            for (n, user) in USERS.into_iter().enumerate() {
                overlay.put_label(ActorId([n as u8 + 1; 16]), name(user));
            }
            let changes = overlay.into_changes();
            device.index.commit(changes);
        }
        for directory in ["desk", "box"] {
            let node = world.node(Kind::Directory);
            world.devices[0].disk.insert(directory.to_owned(), node);
        }
        world.create(0, "desk/letter");
        world.create(0, "desk/list");
        world.quiesce();
        world
    }

    fn node(&mut self, kind: Kind) -> Node {
        self.clock += 1;
        Node { inode: self.inode(), kind, content: 0, mtime: self.clock, executable: false }
    }

    fn create(&mut self, at: usize, path: &str) {
        let mut node = self.node(Kind::File);
        self.contents += 1;
        node.content = self.contents;
        self.devices[at].ever.insert(node.content);
        self.devices[at].disk.insert(path.to_owned(), node);
    }

    fn edit(&mut self, at: usize, path: &str) {
        let old = self.devices[at].disk[path].clone();
        self.create(at, path);
        self.devices[at].disk.get_mut(path).unwrap().inode = old.inode;
        self.kill(at, old.content);
    }

    fn touch(&mut self, at: usize, path: &str) {
        self.clock += 1;
        self.devices[at].disk.get_mut(path).unwrap().mtime = self.clock;
    }

    fn make_executable(&mut self, at: usize, path: &str) {
        self.devices[at].disk.get_mut(path).unwrap().executable = true;
    }

    fn rename(&mut self, at: usize, from: &str, to: &str) {
        let disk = &mut self.devices[at].disk;
        self.handled
            .extend(disk.iter().filter(|(path, _)| *path == from || is_under(path, from)).map(|(_, n)| n.content));
        rename(disk, from, to);
    }

    fn rename_to_own(&mut self, at: usize, from: &str, directory: &str) {
        let own = format!("{}'s", USERS[at]);
        self.rename(at, from, &super::device::join(directory, &own));
    }

    /// Both act, and then hear of each other; gives whose each new content is.
    fn play(&mut self, acts: [&Act; 2]) -> BTreeMap<u32, &'static str> {
        let mut whose = BTreeMap::new();
        for (at, act) in acts.into_iter().enumerate() {
            let first = self.contents + 1;
            (act.does)(self, at);
            whose.extend((first..=self.contents).map(|content| (content, USERS[at])));
            self.scan(at, true);
        }
        self.quiesce();
        whose
    }

    fn make_directory(&mut self, at: usize) {
        let node = self.node(Kind::Directory);
        self.devices[at].disk.insert("desk/memo".to_owned(), node);
        self.create(at, &format!("desk/memo/{}'s", USERS[at]));
    }

    fn replace_by_directory(&mut self, at: usize) {
        self.delete(at, "desk/letter");
        let node = self.node(Kind::Directory);
        self.devices[at].disk.insert("desk/letter".to_owned(), node);
        self.create(at, "desk/letter/page");
    }
}

/// What both have afterwards, where it is not as before.
fn becomes(acts: [&Act; 2]) -> String {
    let mut world = World::of_two();
    let before = world.devices[0].tree();
    let first_of_both = world.contents;
    let whose = world.play(acts);
    let after = world.devices[0].tree();
    let mut lines = Vec::new();
    let mut names = BTreeSet::new();
    for (path, (kind, content, mtime, executable)) in &after {
        let old = before.values().find(|old| old.0 == Kind::File && *kind == Kind::File && old.1 == *content);
        if before.get(path).is_some_and(|old| old == &after[path]) {
            continue;
        }
        // A directory that came is told with what is in it.
        if *kind == Kind::Directory && after.keys().any(|other| is_under(other, path)) {
            continue;
        }
        let mut what = match (kind, whose.get(content)) {
            (Kind::Directory, _) => "a directory".to_owned(),
            (_, Some(user)) => format!("{user}'s"),
            _ if *content + 1 == first_of_both => "the letter".to_owned(),
            _ => "the list".to_owned(),
        };
        if *executable {
            what += ", executable";
        }
        if old.is_some_and(|old| old.2 != *mtime) {
            what += ", touched";
        }
        names.insert(path.clone());
        lines.push(format!("`{}`: {what}", shown(path)));
    }
    let is_gone = |path: &&String| {
        !after.contains_key(*path) && !before.keys().any(|above| is_under(path, above) && !after.contains_key(above))
    };
    let gone: Vec<String> = before.keys().filter(is_gone).map(|path| format!("`{path}`")).collect();
    if !gone.is_empty() {
        lines.push(format!("no {}", gone.join(", no ")));
    }
    if lines.is_empty() { "all as before".to_owned() } else { lines.join("; ") }
}

/// A path without the minute in which the test's clock stands.
fn shown(path: &str) -> String {
    path.replace(" 1970-01-01 00.00", " DATE")
}

fn matrix() -> String {
    let mut table = "| Anna | Ben | afterwards on both |\n|---|---|---|\n".to_owned();
    for (index, first) in ACTS.iter().enumerate() {
        for second in &ACTS[index..] {
            writeln!(table, "| {} | {} | {} |", first.says, second.says, becomes([first, second])).unwrap();
        }
    }
    table
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what the crate may not, its page's test may")]
fn the_page_on_conflicts_is_what_happens() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, _) = page.split_once(BEGIN).expect("the page has a place for the matrix");
    let made = format!("{before}{BEGIN}{}", matrix());
    if std::env::var_os("ZEROCLOUD_UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &made).unwrap();
    } else if page != made {
        let line = page.lines().zip(made.lines()).find(|(told, is)| told != is);
        panic!("docs/conflicts.md is not what happens; ZEROCLOUD_UPDATE_DOCS=1 writes it anew: {line:?}");
    }
}

/// Who is first in the order of ids decides which version keeps the name, and nothing else.
#[test]
fn the_other_way_round_the_same_contents_stay() {
    for first in &ACTS {
        for second in &ACTS {
            let contents = |acts: [&Act; 2]| {
                let mut world = World::of_two();
                world.play(acts);
                let mut files: Vec<(bool, i32)> = world.devices[0]
                    .tree()
                    .values()
                    .filter(|node| node.0 == Kind::File)
                    .map(|node| (node.3, i32::from(node.1 > 2)))
                    .collect();
                files.sort_unstable();
                files
            };
            assert_eq!(contents([first, second]), contents([second, first]), "{}, {}", first.says, second.says);
        }
    }
}

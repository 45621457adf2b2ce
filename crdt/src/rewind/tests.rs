//! What a user sees after a rewind. Random histories are rewound in `tests/view.rs`.

use super::*;
use crate::id::{ContentHash, EpochId, SpaceId};
use crate::index::MemoryIndex;
use crate::manifest::{Body, Class, Manifest, Profile};
use crate::register::{FileContent, FileTime};
use crate::view::file_id;

const SPACE: SpaceId = SpaceId([3; 32]);
const US: ActorId = ActorId([1; 16]);
const THEM: ActorId = ActorId([2; 16]);

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn file(text: &str) -> Content {
    Content::File(FileContent {
        mtime: FileTime { secs: 7, nanos: 0 },
        executable: false,
        hash: ContentHash::of(text.as_bytes()),
        manifest: Manifest {
            profile: Profile { chunker: 1, class: Class::Single, epoch: EpochId([0; 32]) },
            len: text.len() as u64,
            epochs: Vec::new(),
            body: Body::Inline(Vec::new()),
        },
    })
}

fn id(parent: FileId, text: &str, content: &Content) -> FileId {
    file_id(SPACE, parent, *content == Content::Directory, 0, text.as_bytes())
}

/// A tree that one device changes and others have rewound.
struct Tree {
    index: MemoryIndex,
    actor: ActorId,
}

impl Tree {
    fn new() -> Self {
        let mut index = MemoryIndex::new(SPACE);
        let mut overlay = Overlay::new(&index);
        overlay.put_label(US, name("laptop"));
        overlay.put_label(THEM, name("desk"));
        let changes = overlay.into_changes();
        index.commit(changes);
        Self { index, actor: US }
    }

    fn write(&mut self, item: FileId, write: Write, pred: Vec<OpId>) {
        let Ok(counter) = self.index.max_counter();
        let id = OpId { counter: counter + 1, actor: self.actor };
        self.index.apply([&Op { id, item, write, pred }]);
    }

    fn make(&mut self, parent: FileId, text: &str, content: Content) -> FileId {
        let id = id(parent, text, &content);
        let pred = self.index.items().get(&id).map(|item| item.place.keys().copied().collect()).unwrap_or_default();
        let place = Place { parent, name: name(text), previous: None, loser_of: None };
        self.write(id, Write::Place(place), pred);
        self.put(id, Some(content));
        id
    }

    fn put(&mut self, id: FileId, content: Option<Content>) {
        let pred = self.index.items().get(&id).map(|item| item.content.keys().copied().collect()).unwrap_or_default();
        self.write(id, Write::Content(content), pred);
    }

    fn rename(&mut self, id: FileId, parent: FileId, text: &str) {
        let item = &self.index.items()[&id];
        let pred = item.place.keys().copied().collect();
        let previous = item.winning_place().map(|(_, place)| place.parent);
        self.write(id, Write::Place(Place { parent, name: name(text), previous, loser_of: None }), pred);
    }

    /// Paths and hashes.
    fn shown(&self) -> BTreeMap<String, ContentHash> {
        let view = View::new(&self.index);
        let mut shown = BTreeMap::new();
        let mut open = vec![(FileId::ROOT, String::new())];
        while let Some((directory, path)) = open.pop() {
            let Ok(entries) = view.directory(directory);
            for entry in entries {
                let path = format!("{path}/{}", String::from_utf8_lossy(entry.name.as_bytes()));
                shown.insert(path.clone(), entry.hash);
                if entry.kind == Kind::Directory {
                    open.push((entry.id, path));
                }
            }
        }
        shown
    }

    fn paths(&self) -> Vec<String> {
        self.shown().into_keys().collect()
    }

    /// Has `top` stand as it stood in `then`; gives how many operations that took.
    fn rewind(&mut self, then: &MemoryIndex, top: FileId, extent: Extent) -> usize {
        let mut items: BTreeMap<FileId, Item> =
            self.index.items().keys().map(|id| (*id, then.items().get(id).cloned().unwrap_or_default())).collect();
        items.retain(|id, item| self.index.items().get(id) != Some(item));
        let mut overlay = Overlay::new(&self.index);
        let Ok(touched) = overlay.put_back(items);
        let Ok(changes) = compare(&overlay, &self.index, &touched, top, extent);
        let Ok(ops) = decide(&self.index, US, &changes);
        self.index.apply(&ops);
        ops.len()
    }
}

#[test]
fn deleted_edited_and_moved_files_stand_again_and_what_came_since_stays() {
    let mut tree = Tree::new();
    let d = tree.make(FileId::ROOT, "d", Content::Directory);
    let deleted = tree.make(d, "deleted", file("1"));
    let edited = tree.make(d, "edited", file("2"));
    let moved = tree.make(d, "moved", file("3"));
    let then = tree.index.clone();
    let was = tree.shown();
    tree.actor = THEM;
    tree.put(deleted, None);
    tree.put(edited, Some(file("changed")));
    tree.rename(moved, FileId::ROOT, "elsewhere");
    tree.make(d, "new", file("4"));
    assert_eq!(tree.rewind(&then, FileId::ROOT, Extent::Keep), 3, "a deletion, an edit and a move are taken back");
    let mut expected = was;
    expected.insert("/d/new".into(), ContentHash::of(b"4"));
    assert_eq!(tree.shown(), expected);
    assert_eq!(tree.rewind(&then, FileId::ROOT, Extent::Keep), 0, "it is as it was");
}

#[test]
fn an_exact_rewind_deletes_what_came_since() {
    let mut tree = Tree::new();
    let d = tree.make(FileId::ROOT, "d", Content::Directory);
    tree.make(d, "old", file("1"));
    let then = tree.index.clone();
    let was = tree.shown();
    let new = tree.make(d, "new", Content::Directory);
    tree.make(new, "file", file("2"));
    tree.rewind(&then, FileId::ROOT, Extent::Exact);
    assert_eq!(tree.shown(), was);
}

#[test]
fn a_directory_is_rewound_without_its_neighbours_and_with_what_it_stood_in() {
    let mut tree = Tree::new();
    let outer = tree.make(FileId::ROOT, "outer", Content::Directory);
    let d = tree.make(outer, "d", Content::Directory);
    let inside = tree.make(d, "inside", file("1"));
    let beside = tree.make(outer, "beside", file("2"));
    let then = tree.index.clone();
    for gone in [inside, beside, d, outer] {
        tree.put(gone, None);
    }
    tree.rewind(&then, d, Extent::Keep);
    assert_eq!(tree.paths(), ["/outer", "/outer/d", "/outer/d/inside"]);
    tree.put(inside, None);
    tree.put(d, None);
    assert_eq!(tree.paths(), ["/outer"], "the directory above stands for itself");
}

#[test]
fn what_came_to_a_name_since_makes_room_for_what_stood_there() {
    let mut tree = Tree::new();
    let old = tree.make(FileId::ROOT, "x", file("old"));
    let then = tree.index.clone();
    tree.rename(old, FileId::ROOT, "y");
    let new = tree.make(FileId::ROOT, "z", file("new"));
    tree.rename(new, FileId::ROOT, "x");
    tree.rewind(&then, FileId::ROOT, Extent::Keep);
    let shown = tree.shown();
    assert_eq!(shown["/x"], ContentHash::of(b"old"));
    assert_eq!(shown.len(), 2);
    assert!(shown.keys().any(|path| path.contains("conflict")), "{shown:?}");
}

#[test]
fn names_that_were_swapped_are_swapped_back() {
    let mut tree = Tree::new();
    let (a, b) = (tree.make(FileId::ROOT, "a", file("1")), tree.make(FileId::ROOT, "b", file("2")));
    let then = tree.index.clone();
    let was = tree.shown();
    tree.rename(a, FileId::ROOT, "between");
    tree.rename(b, FileId::ROOT, "a");
    tree.rename(a, FileId::ROOT, "b");
    assert_eq!(tree.rewind(&then, FileId::ROOT, Extent::Keep), 2);
    assert_eq!(tree.shown(), was);
}

#[test]
fn an_exact_rewind_of_a_directory_sends_home_what_was_moved_into_it() {
    let mut tree = Tree::new();
    let d = tree.make(FileId::ROOT, "d", Content::Directory);
    let guest = tree.make(FileId::ROOT, "guest", file("1"));
    let then = tree.index.clone();
    tree.rename(guest, d, "guest");
    tree.rewind(&then, d, Extent::Keep);
    assert_eq!(tree.paths(), ["/d", "/d/guest"]);
    tree.rewind(&then, d, Extent::Exact);
    assert_eq!(tree.paths(), ["/d", "/guest"]);
}

#[test]
fn what_is_given_up_ends_once_and_an_edit_of_meanwhile_stays() {
    let with_lost = || {
        let mut tree = Tree::new();
        let item = tree.make(FileId::ROOT, "a", file("first"));
        tree.put(item, Some(file("lost")));
        (tree, item)
    };
    let (mut tree, item) = with_lost();
    let Ok(shown) = View::new(&tree.index).entry(item, item);
    let shown = shown.unwrap();
    let instead = [Change::GivenUp { shown: shown.clone(), content: Some(file("first")) }];
    let nothing = [Change::GivenUp { shown, content: None }];

    // Two devices give it up at the same time, one with what it has and one with nothing: the file stays.
    let (Ok(by_us), Ok(by_them)) = (decide(&tree.index, US, &instead), decide(&tree.index, THEM, &nothing));
    tree.index.apply(by_us.iter().chain(&by_them));
    let Ok(entries) = View::new(&tree.index).entries(item);
    assert_eq!(entries.iter().map(|entry| entry.hash).collect::<Vec<_>>(), [file("first").hash()]);
    // Whoever does so later finds it done.
    assert_eq!(decide(&tree.index, US, &nothing), Ok(Vec::new()));

    // An edit by somebody who had the lost bytes is not touched.
    let (mut edited, item) = with_lost();
    edited.put(item, Some(file("edit")));
    assert_eq!(decide(&edited.index, US, &instead), Ok(Vec::new()));
}

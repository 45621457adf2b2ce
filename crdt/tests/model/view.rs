//! The view, read slowly: all registers at once, every rule in the order in which DESIGN.md §7 says it, without the
//! derived tables that the shipping code keeps. What the shipping view says must equal what this says.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::id::{ContentHash, FileId, OpId, SpaceId};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, FileTime, Item, Kind};
use zerocloud_crdt::view::conflict::conflict_name;
use zerocloud_crdt::view::{ViewEntry, lost_and_found, virtual_id};

type Group = Vec<OpId>;

struct Standing {
    id: FileId,
    source: FileId,
    group: Group,
    is_winner: bool,
}

/// Every entry of the view by id.
pub fn view(space: SpaceId, items: &BTreeMap<FileId, Item>, label: &Name) -> BTreeMap<FileId, ViewEntry> {
    let lost = lost_and_found(space);
    // Winning places; `Lost and found` has one even if nobody made it.
    let mut place: BTreeMap<FileId, (OpId, FileId, Name, Option<FileId>)> = BTreeMap::new();
    place.insert(lost, (OpId::ZERO, FileId::ROOT, Name::parse(b"Lost and found").unwrap(), None));
    for (id, item) in items {
        if let Some((op, p)) = item.place.iter().max_by_key(|(op, p)| (p.previous.is_some(), **op)) {
            place.insert(*id, (*op, p.parent, p.name.clone(), p.previous));
        }
    }
    let known = |id: &FileId| *id == FileId::ROOT || place.contains_key(id);
    let mut parent: BTreeMap<FileId, FileId> =
        place.iter().map(|(id, p)| (*id, if known(&p.1) { p.1 } else { lost })).collect();
    let mut fell = BTreeSet::new();
    loop {
        let mut cycles: BTreeSet<Vec<FileId>> = BTreeSet::new();
        for start in parent.keys() {
            let mut path = vec![*start];
            loop {
                let next = parent[path.last().unwrap()];
                if next == FileId::ROOT {
                    break;
                }
                if let Some(at) = path.iter().position(|id| *id == next) {
                    let mut cycle = path.split_off(at);
                    cycle.sort();
                    cycles.insert(cycle);
                    break;
                }
                path.push(next);
            }
        }
        if cycles.is_empty() {
            break;
        }
        for cycle in cycles {
            let again: Vec<_> = cycle.iter().filter(|id| fell.contains(*id)).copied().collect();
            let of = if again.is_empty() { &cycle } else { &again };
            let id = *of.iter().max_by_key(|id| (place[id].0, **id)).unwrap();
            if again.is_empty() {
                fell.insert(id);
                parent.insert(id, place[&id].3.filter(&known).unwrap_or(lost));
            } else if parent[&id] == lost || id == lost {
                parent.insert(lost, FileId::ROOT);
            } else {
                parent.insert(id, lost);
            }
        }
    }
    // What stands where: items with content, losers that have a place, losers beside their item.
    let (mut standing, mut losers) = (Vec::new(), Vec::new());
    for (id, item) in items.iter().filter(|(id, _)| place.contains_key(id)) {
        let mut groups: BTreeMap<(Kind, ContentHash), Group> = BTreeMap::new();
        for (op, content) in &item.content {
            groups.entry((content.kind(), content.hash())).or_default().push(*op);
        }
        let mut free = Vec::new();
        for ((_, hash), group) in groups {
            let stands = group
                .iter()
                .map(|op| virtual_id(space, *id, *op, hash))
                .find(|at| items.get(at).is_some_and(|at| !at.place.is_empty() && at.content.is_empty()));
            match stands {
                Some(at) => standing.push(Standing { id: at, source: *id, group, is_winner: false }),
                None => free.push((group, hash)),
            }
        }
        free.sort_by_key(|(group, _)| *group.last().unwrap());
        if let Some((group, _)) = free.pop() {
            standing.push(Standing { id: *id, source: *id, group, is_winner: true });
        }
        for (group, hash) in free {
            let virtual_id = virtual_id(space, *id, group[0], hash);
            losers.push(Standing { id: virtual_id, source: *id, group, is_winner: false });
        }
    }
    let mut shown: BTreeSet<FileId> = standing.iter().map(|s| s.id).collect();
    for id in shown.clone() {
        let mut above = parent[&id];
        while above != FileId::ROOT {
            if shown.insert(above) {
                standing.push(Standing { id: above, source: above, group: Vec::new(), is_winner: true });
            }
            above = parent[&above];
        }
    }
    // Names: items first, by place operation, then losers by lowest operation.
    standing.sort_by_key(|s| (place[&s.id].0, s.id));
    losers.sort_by_key(|s| (s.group[0], s.id));
    let mut taken: BTreeSet<(FileId, Name)> = BTreeSet::new();
    let (mut out, mut late) = (BTreeMap::new(), Vec::new());
    for s in standing {
        let at = (parent[&s.id], place[&s.id].2.clone());
        if taken.insert(at.clone()) {
            out.insert(s.id, entry(items, &s, at));
        } else {
            let by = s.group.last().copied();
            late.push((s, at, by));
        }
    }
    for s in losers {
        let at = (parent[&s.source], place[&s.source].2.clone());
        let by = s.group.first().copied();
        late.push((s, at, by));
    }
    for (s, at, by) in late {
        let content = by.and_then(|op| items[&s.source].content.get(&op));
        let mtime: Option<FileTime> = match content {
            Some(Content::File(file)) => Some(file.mtime),
            _ => None,
        };
        let name = (1..)
            .map(|k| conflict_name(&at.1, label.as_bytes(), mtime, k))
            .find(|name| !taken.contains(&(at.0, name.clone())))
            .unwrap();
        taken.insert((at.0, name.clone()));
        out.insert(s.id, entry(items, &s, (at.0, name)));
    }
    out
}

fn entry(items: &BTreeMap<FileId, Item>, s: &Standing, at: (FileId, Name)) -> ViewEntry {
    let empty = Item::default();
    let item = items.get(&s.source).unwrap_or(&empty);
    let content = s.group.last().map(|op| &item.content[op]);
    let mut entry = ViewEntry {
        id: s.id,
        source: s.source,
        kind: content.map_or(Kind::Directory, Content::kind),
        content_ops: s.group.iter().copied().collect(),
        meta_ops: BTreeSet::new(),
        hash: content.map_or(Content::Directory.hash(), Content::hash),
        len: 0,
        mtime: None,
        executable: false,
        parent: at.0,
        name: at.1,
    };
    match content {
        Some(Content::File(file)) => {
            entry.len = file.manifest.len;
            entry.mtime = Some(file.mtime);
            entry.executable = file.executable;
            for (op, meta) in item.meta.iter().filter(|(_, meta)| s.group.contains(&meta.about)) {
                entry.mtime = Some(meta.mtime);
                entry.meta_ops.insert(*op);
            }
            if s.is_winner {
                entry
                    .meta_ops
                    .extend(item.meta.iter().filter(|(_, m)| !item.content.contains_key(&m.about)).map(|(op, _)| *op));
            }
            for op in &entry.meta_ops {
                if item.meta[op].executable_differs {
                    entry.executable = item.meta[op].executable;
                }
            }
        }
        Some(Content::Symlink { target }) => entry.len = target.len() as u64,
        _ => {}
    }
    entry
}

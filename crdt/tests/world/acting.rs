//! Brings a disk to the view, action by action.

use std::collections::BTreeMap;

use zerocloud_crdt::base::{BaseRead, BaseRow, PARKED, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::plan::{Action, Situation, obstacle, plan, settles, unstick};
use zerocloud_crdt::register::Kind;
use zerocloud_crdt::view::ViewEntry;

use super::device::{Device, Node, Path, hash, is_under, print, rename, up};
use super::{World, name};

struct Ready;

impl Situation for Ready {
    fn has_content(&self, _: &ViewEntry) -> bool {
        true
    }
    fn is_held(&self, _: FileId) -> bool {
        false
    }
}

impl World {
    /// Brings a disk to the view; what was not scanned yet is in the way of an action and stops it.
    pub(super) fn materialise(&mut self, at: usize) {
        for round in 0.. {
            assert!(round < 100, "no end of plans");
            let device = &self.devices[at];
            let Ok(plan) = plan(&device.index, &device.base, device.pending.clone(), &Ready, 7);
            let mut actions = plan.actions;
            for source in &plan.settled {
                self.devices[at].pending.remove(source);
            }
            if actions.is_empty() {
                let Ok(aside) = unstick(&self.devices[at].base, &plan.waiting);
                actions = aside;
            }
            let mut is_stuck = true;
            for action in actions {
                let is_done = self.act(at, action.clone());
                if is_done && plan.single.contains(&action.source()) {
                    self.check_single(at, &action);
                }
                is_stuck &= !is_done;
            }
            if is_stuck {
                return;
            }
        }
    }

    /// What an action is said to settle, a plan finds settled.
    fn check_single(&mut self, at: usize, action: &Action) {
        let (device, source) = (&self.devices[at], action.source());
        let Ok(key) = device.base.find(action.id(), source);
        let row = key.and_then(|key| device.base.all().get(&key));
        if settles(action, row) {
            let Ok(again) = plan(&device.index, &device.base, [source], &Ready, 7);
            assert!(again.settled.contains(&source), "{action:?} left something to be done");
            self.devices[at].pending.remove(&source);
        }
    }

    /// Does one action; false if the disk is not as base has it.
    fn act(&mut self, at: usize, action: Action) -> bool {
        let inode = self.inode();
        let device = &mut self.devices[at];
        let as_base = |device: &Device, key: &RowKey, old: &BaseRow| -> Option<Path> {
            let path = device.path(key)?;
            device.disk.get(&path).filter(|node| node.kind == old.kind && print(node) == old.print).map(|_| path)
        };
        let node_of = |entry: &ViewEntry| Node {
            inode,
            kind: entry.kind,
            content: (0..10_000).find(|n| entry.kind == Kind::File && hash(*n) == entry.hash).unwrap_or(0),
            mtime: entry.mtime.map_or(0, |time| time.secs),
            executable: entry.executable,
        };
        let Ok(None) = obstacle(&device.base, &action) else { return false };
        let mut changes = BTreeMap::new();
        match action {
            Action::Note { key, row } => drop(changes.insert(key, Some(row))),
            Action::Create { key, entry } => {
                let Some(path) = device.path(&key) else { return false };
                let parent = up(&path);
                let is_free = !device.disk.contains_key(&path)
                    && (parent.is_empty() || device.disk.get(parent).is_some_and(|n| n.kind == Kind::Directory));
                if !is_free {
                    return false;
                }
                let node = node_of(&entry);
                changes.insert(key, Some(BaseRow::of_entry(&entry, print(&node))));
                if node.kind == Kind::File {
                    device.ever.insert(node.content);
                }
                device.disk.insert(path, node);
            }
            Action::Replace { key, old, entry } => {
                let Some(path) = as_base(device, &key, &old) else { return false };
                let node = node_of(&entry);
                let mut row = BaseRow::of_entry(&entry, print(&node));
                (row.view_parent, row.view_name) = (old.view_parent, old.view_name);
                changes.insert(key, Some(row));
                device.ever.insert(node.content);
                let old = device.disk.insert(path, node).unwrap();
                device.versions.insert(old.content);
            }
            Action::SetMeta { key, old, entry } => {
                let Some(path) = as_base(device, &key, &old) else { return false };
                let node = device.disk.get_mut(&path).unwrap();
                (node.mtime, node.executable) = (entry.mtime.unwrap().secs, entry.executable);
                let mut row = BaseRow::of_entry(&entry, print(node));
                (row.view_parent, row.view_name) = (old.view_parent, old.view_name);
                changes.insert(key, Some(row));
            }
            Action::Move { from, to, old, at } => {
                let (Some(source), Some(target)) = (device.path(&from), device.path(&to)) else { return false };
                let is_there = device.disk.get(&source).is_some_and(|node| node.kind == old.kind);
                let parent = up(&target);
                let is_free = parent.is_empty() || device.disk.get(parent).is_some_and(|n| n.kind == Kind::Directory);
                if !is_there || !is_free || device.disk.contains_key(&target) || is_under(&target, &source) {
                    return false;
                }
                rename(&mut device.disk, &source, &target);
                let mut row = old;
                (row.view_parent, row.view_name) = at;
                changes.insert(from, None);
                changes.insert(to, Some(row));
            }
            Action::Park { from, old } => {
                let Some(source) = device.path(&from) else { return false };
                let key = RowKey { parent: PARKED, local: name(&format!("parked-{}", old.id)) };
                let target = device.path(&key).unwrap();
                if device.disk.get(&source).is_none_or(|node| node.kind != old.kind) {
                    return false;
                }
                rename(&mut device.disk, &source, &target);
                changes.insert(from, None);
                changes.insert(key, Some(old));
            }
            Action::Delete { key, old } => {
                let Some(path) = as_base(device, &key, &old) else { return false };
                let old = device.disk.remove(&path).unwrap();
                device.versions.insert(old.content);
                changes.insert(key, None);
            }
            Action::RemoveDirectory { key, old } => {
                let Some(path) = device.path(&key) else { return false };
                let is_there = device.disk.get(&path).is_some_and(|node| node.kind == old.kind);
                if !is_there || device.disk.keys().any(|p| is_under(p, &path)) {
                    return false;
                }
                device.disk.remove(&path);
                changes.insert(key, None);
            }
        }
        device.base.commit(changes);
        true
    }
}

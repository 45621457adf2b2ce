//! What users do.

use zerocloud_crdt::register::Kind;

use super::device::{Node, Path, is_under, join, rename};
use super::{World, below, pick};

impl World {
    /// Deletes a path and all below it.
    pub(super) fn delete(&mut self, at: usize, path: &str) {
        let all: Vec<Path> =
            self.devices[at].disk.keys().filter(|p| **p == path || is_under(p, path)).cloned().collect();
        for path in all {
            let node = self.devices[at].disk.remove(&path).unwrap();
            if node.kind == Kind::File {
                self.kill(at, node.content);
            }
        }
    }

    /// One act of a user.
    pub(super) fn user(&mut self, at: usize) {
        self.clock += 1;
        let (inode, mtime) = (self.inode(), self.clock);
        self.contents += 1;
        let content = self.contents;
        let paths: Vec<Path> = self.devices[at].disk.keys().filter(|p| !p.starts_with(".tmp")).cloned().collect();
        let mut directories: Vec<Path> = paths
            .iter()
            .filter(|p| self.devices[at].disk[*p].kind == Kind::Directory && p.matches('/').count() < 2)
            .cloned()
            .collect();
        directories.push(String::new());
        let copies: Vec<Path> = paths.iter().filter(|p| p.contains("(conf")).cloned().collect();
        let verb = below(&mut self.rng, 16);
        let path = if !copies.is_empty() && below(&mut self.rng, 5) < 2 {
            Some(pick(&mut self.rng, &copies))
        } else if paths.is_empty() {
            None
        } else {
            Some(pick(&mut self.rng, &paths))
        };
        let directory = pick(&mut self.rng, &directories);
        let new = join(&directory, ["x.t", "y", "a", "b"][below(&mut self.rng, 4)]);
        if matches!(verb, 7 | 8 | 11..=14) {
            for handled in path.iter().chain([&new]) {
                let disk = self.devices[at].disk.iter();
                let under = disk.filter(|(p, _)| *p == handled || is_under(p, handled)).map(|(_, node)| node.content);
                self.handled.extend(under);
            }
        }
        let device = &mut self.devices[at];
        match (verb, path) {
            (0..=2, _) if !device.disk.contains_key(&new) => {
                device.disk.insert(new, Node { inode, kind: Kind::File, content, mtime, executable: false });
                device.ever.insert(content);
            }
            (3, _) if !device.disk.contains_key(&new) => {
                let node = Node { inode, kind: Kind::Directory, content: 0, mtime, executable: false };
                device.disk.insert(new, node);
            }
            (4..=6, Some(path)) if device.disk[&path].kind == Kind::File => {
                let node = device.disk.get_mut(&path).unwrap();
                let old = node.content;
                (node.content, node.mtime) = (content, mtime);
                if verb == 6 {
                    node.inode = inode; // Saved by rename.
                }
                device.ever.insert(content);
                self.kill(at, old);
            }
            (7, Some(path)) if device.disk[&path].kind == Kind::File => {
                device.disk.get_mut(&path).unwrap().mtime = mtime;
            }
            (8, Some(path)) if device.disk[&path].kind == Kind::File => {
                let node = device.disk.get_mut(&path).unwrap();
                node.executable = !node.executable;
            }
            (9 | 10, Some(path)) => self.delete(at, &path),
            (11..=13, Some(path)) if new != path && !is_under(&new, &path) && !device.disk.contains_key(&new) => {
                rename(&mut device.disk, &path, &new);
            }
            (14, Some(path))
                if new != path
                    && device.disk.contains_key(&new)
                    && !is_under(&new, &path)
                    && !is_under(&path, &new) =>
            {
                rename(&mut device.disk, &path, ".swap");
                rename(&mut device.disk, &new, &path);
                rename(&mut device.disk, ".swap", &new);
            }
            _ => {}
        }
    }
}

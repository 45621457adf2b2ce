//! In which order items are planned.

use std::collections::BTreeMap;

use super::Task;
use crate::id::FileId;
use crate::index::IndexRead;
use crate::register::Kind;
use crate::view::View;

/// What leaves goes from the bottom up, and before what comes, which goes from the top down.
pub(super) fn sort_by_depth<I: IndexRead>(view: &View<'_, I>, tasks: &mut [Task]) -> Result<(), I::Error> {
    let mut depths: BTreeMap<FileId, usize> = BTreeMap::from([(FileId::ROOT, 0)]);
    for task in tasks.iter_mut() {
        let (mut at, mut path) = (task.entry.as_ref().map_or(FileId::ROOT, |entry| entry.parent), Vec::new());
        while !depths.contains_key(&at) {
            path.push(at);
            let parent = view.entry(at, at)?.map_or(FileId::ROOT, |entry| entry.parent);
            at = if path.contains(&parent) { FileId::ROOT } else { parent };
        }
        let mut depth = depths.get(&at).copied().unwrap_or(0);
        for id in path.into_iter().rev() {
            depth += 1;
            depths.insert(id, depth);
        }
        task.depth = depth;
    }
    tasks.sort_by_key(|task| match (&task.entry, &task.row) {
        (None, Some((_, row))) if row.kind != Kind::Directory => (0, 0),
        (None, _) => (1, 0),
        (Some(_), _) => (2, task.depth),
    });
    Ok(())
}

//! What a scan writes beside what its user did, so that nothing else moves.

use std::collections::BTreeSet;

use super::Scan;
use crate::base::{BaseRead, BaseRow, RowKey};
use crate::id::{ContentHash, FileId, OpId};
use crate::index::{IndexChanges, IndexRead, Overlay};
use crate::name::Name;
use crate::register::{Content, FileContent, Kind, Write};
use crate::view::View;

impl<I: IndexRead, B: BaseRead<Error = I::Error>> Scan<'_, I, B> {
    /// An edit that gives an item the bytes of one of its virtual files in base: that file leaves the item and becomes
    /// one of its own, with its own bytes.
    pub(super) fn join_virtual_twins(&mut self) -> Result<(), I::Error> {
        let edits: Vec<(OpId, FileId, ContentHash)> = self
            .ops
            .iter()
            .filter_map(|op| match &op.write {
                Write::Content(Some(content @ Content::File(_))) => Some((op.id, op.item, content.hash())),
                _ => None,
            })
            .collect();
        let view = View::new(self.index);
        for (op, item, hash) in edits {
            for (id, key) in self.base.of_source(item)? {
                if id == item || self.gone.contains(&key) {
                    continue;
                }
                let Some((now_at, mut row)) = self.row_after(&key)? else { continue };
                if row.source != item || row.hash != hash || row.content_ops.contains(&op) {
                    continue;
                }
                let Some(content) = self.content_of(&row)? else { continue };
                let shown = view.entry(row.id, row.source)?;
                self.delete(&row);
                let has_place = self.index.item(row.id)?.is_some_and(|registers| !registers.place.is_empty());
                if !self.placed.contains_key(&row.id) && !has_place {
                    let (parent, name) = match shown {
                        Some(entry) => (entry.parent, entry.name),
                        None => (row.view_parent, row.view_name.clone()),
                    };
                    self.place(&row, parent, name, None)?;
                }
                row.source = row.id;
                row.content_ops = BTreeSet::from([self.op(row.id, Write::Content(Some(content)), [])]);
                row.meta_ops = BTreeSet::new();
                self.rows.insert(key, (now_at, row));
            }
        }
        Ok(())
    }

    /// The content value that a row stands for, with the times and bit that the row shows.
    fn content_of(&self, row: &BaseRow) -> Result<Option<Content>, I::Error> {
        let Some(op) = row.content_ops.last() else { return Ok(None) };
        let written = self.ops.iter().find(|written| written.id == *op).and_then(|op| match &op.write {
            Write::Content(content) => content.clone(),
            _ => None,
        });
        let content = match written {
            Some(content) => Some(content),
            None => self.index.item(row.source)?.and_then(|mut item| item.content.remove(op)),
        };
        Ok(content.map(|content| match (content, row.mtime) {
            (Content::File(file), Some(mtime)) => {
                Content::File(FileContent { mtime, executable: row.executable, ..file })
            }
            (content, _) => content,
        }))
    }

    /// *A scan moves nothing else*: a row that stays, and that the view showed at its place, must be shown there with
    /// the scan's operations, unless they supersede all that it shows. Gives what all operations change in the index.
    pub(super) fn move_nothing_else(&mut self) -> Result<Option<IndexChanges>, I::Error> {
        if self.ops.is_empty() {
            return Ok(None);
        }
        let before = View::new(self.index);
        let mut overlay = Overlay::new(self.index);
        let mut touched: BTreeSet<FileId> = BTreeSet::new();
        let mut done = 0;
        while done < self.ops.len() {
            touched.extend(overlay.apply(self.ops.iter().skip(done))?);
            done = self.ops.len();
            let after = View::new(&overlay);
            let mut wanted: Vec<Wanted> = Vec::new();
            for source in &touched {
                for (id, key) in self.base.of_source(*source)? {
                    if self.gone.contains(&key) || self.moved.contains(&key) {
                        continue;
                    }
                    let (Some(old), Some((_, row))) = (self.base.row(&key)?, self.row_after(&key)?) else { continue };
                    let Some(was) = before.entry(id, old.source)? else { continue };
                    if (was.parent, &was.name) != (old.view_parent, &old.view_name) {
                        continue;
                    }
                    let is = after.entry(id, row.source)?;
                    if is.as_ref().is_some_and(|is| (is.parent, &is.name) == (was.parent, &was.name)) {
                        continue;
                    }
                    let registers = overlay.item(was.source)?.unwrap_or_default();
                    let is_superseded = !was.content_ops.iter().any(|op| registers.content.contains_key(op));
                    if is.is_none() && row.kind != Kind::Directory && is_superseded {
                        continue;
                    }
                    let own = overlay.item(id)?.unwrap_or_default();
                    let stands_there = own
                        .winning_place()
                        .is_some_and(|(_, place)| (place.parent, &place.name) == (was.parent, &was.name));
                    let place = (!stands_there && !self.placed.contains_key(&id)).then_some((was.parent, was.name));
                    let is_bare = !own.content.values().any(|content| content.kind() == Kind::Directory);
                    let revive = row.kind == Kind::Directory && is.is_none() && is_bare;
                    if place.is_some() || revive {
                        wanted.push(Wanted { key, id, place, revive });
                    }
                }
            }
            for Wanted { key, id, place, revive } in wanted {
                let Some((now_at, mut row)) = self.row_after(&key)? else { continue };
                if let Some((parent, name)) = place {
                    self.place(&row, parent, name, None)?;
                }
                if revive {
                    let op = self.op(id, Write::Content(Some(Content::Directory)), []);
                    row.content_ops = BTreeSet::from([op]);
                    self.rows.insert(key, (now_at, row));
                }
            }
        }
        Ok(Some(overlay.into_changes()))
    }
}

/// What must be written so that a row stays where it is.
struct Wanted {
    key: RowKey,
    id: FileId,
    place: Option<(FileId, Name)>,
    /// Whether a directory needs content of its own.
    revive: bool,
}

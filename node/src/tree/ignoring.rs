//! Ignore rules: the files `.zerocloudignore`, and which paths they name.
//!
//! Syntax and meaning are gitignore's (`man gitignore`): a file counts for its own directory and what is below; of the
//! patterns that match, the last one of the deepest file decides; nothing in an ignored directory can be brought back.
//! Patterns are held against the names of the view. A rules file itself is ignored only with its whole directory.
//!
//! Here live the rules and the question whether a path is named by them. Reading rules files is the scan's work, what
//! follows from an ignored path is decided there and in `zerocloud_crdt::plan`, and when rules change in
//! `crate::folder`.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use zerocloud_crdt::base::{BaseRead, BaseRow, PARKED, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::limits::PATH_DEPTH_MAX;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::Kind;

/// What a rules file is called.
pub const RULES_NAME: &[u8] = b".zerocloudignore";
/// Bytes of one rules file that count: the largest collections of patterns for all languages have 30 KiB.
pub const RULES_LEN_MAX: usize = 64 << 10;
/// Patterns of one rules file that count: all of them are compiled into one automaton.
pub const RULE_COUNT_MAX: usize = 1_000;
/// Rules files of one space that count: each is asked about what is below it.
pub const RULES_FILE_COUNT_MAX: usize = 256;
/// Bytes of all of them together: compiled, in memory, they can become a hundred times as long.
pub const RULES_LEN_SUM_MAX: usize = 256 << 10;

/// Why not all of a rules file counts. What is left of it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesFault {
    /// The first line that is no pattern.
    #[error("line {line} is not a pattern of gitignore's syntax, the other lines count; mend it")]
    Malformed {
        /// From 1.
        line: usize,
    },
    /// The first line that does not count because something is above a bound.
    #[error("it is too long, so that line {line} and those after it don't count; shorten it")]
    TooLong {
        /// From 1.
        line: usize,
    },
    /// Together its patterns can't be compiled.
    #[error("its patterns are too complex together, so that none of them counts; use fewer wildcards")]
    TooComplex,
}

/// One rules file.
#[derive(Debug)]
pub struct RulesFile {
    content: Vec<u8>,
    matcher: Gitignore,
    fault: Option<RulesFault>,
    is_closed: bool,
}

impl RulesFile {
    /// The rules of a file with this content, of which up to [`RULES_LEN_MAX`] bytes count.
    pub fn parse(content: &[u8]) -> Self {
        let (mut builder, mut count, mut fault) = (GitignoreBuilder::new(""), 0, None);
        let (counted, is_cut) = match content.get(..RULES_LEN_MAX) {
            Some(begin) if content.len() > RULES_LEN_MAX => (begin, true),
            _ => (content, false),
        };
        // A line that is cut off would be another pattern.
        let end = counted.iter().rposition(|byte| *byte == b'\n');
        let counted = if is_cut { counted.get(..end.unwrap_or(0)).unwrap_or_default() } else { counted };
        let mut lines = 0;
        for (at, line) in counted.split(|byte| *byte == b'\n').enumerate() {
            lines = at + 1;
            let line = if at == 0 { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) } else { line };
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            if count == RULE_COUNT_MAX {
                fault.get_or_insert(RulesFault::TooLong { line: lines });
                break;
            }
            count += 1;
            if std::str::from_utf8(line).ok().and_then(|line| builder.add_line(None, line).ok()).is_none() {
                fault.get_or_insert(RulesFault::Malformed { line: lines });
            }
        }
        if is_cut {
            fault.get_or_insert(RulesFault::TooLong { line: lines + 1 });
        }
        let matcher = builder.build().unwrap_or_else(|_| {
            fault = Some(RulesFault::TooComplex);
            Gitignore::empty()
        });
        Self { content: counted.to_vec(), matcher, fault, is_closed: false }
    }

    /// Stands for a file that is there and can't be read: until it can, nothing beside or below it is published.
    pub fn closed() -> Self {
        Self { content: Vec::new(), matcher: Gitignore::empty(), fault: None, is_closed: true }
    }

    /// Why not all of it counts, if so.
    pub const fn fault(&self) -> Option<RulesFault> {
        self.fault
    }

    /// Whether it could not be read.
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Bytes of it that count.
    pub fn len(&self) -> usize {
        self.content.len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.matcher.is_empty() && !self.is_closed
    }

    /// Whether it was parsed from just these bytes, all of which count.
    pub fn has_content(&self, content: &[u8]) -> bool {
        self.content == content
    }

    /// What it says of a path relative to its directory; `None` if nothing.
    fn ignores(&self, path: &[u8], kind: Kind) -> Option<bool> {
        if self.is_closed {
            return Some(true);
        }
        match self.matcher.matched(Path::new(OsStr::from_bytes(path)), kind == Kind::Directory) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        }
    }
}

impl PartialEq for RulesFile {
    fn eq(&self, other: &Self) -> bool {
        (self.is_closed, &self.content) == (other.is_closed, &other.content)
    }
}

/// Whether `name` is that of a rules file.
pub fn is_rules_name(name: &Name) -> bool {
    name.as_bytes() == RULES_NAME
}

/// The rules files of a space, by the directory that each stands in, and what this device leaves out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    files: BTreeMap<FileId, Arc<RulesFile>>,
    /// Patterns of what does not come to this device, held against paths from the root.
    selection: Option<Arc<RulesFile>>,
}

impl Rules {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.selection.is_none()
    }

    /// The same with another selection; `None` leaves nothing out.
    #[must_use]
    pub fn with_selection(self, selection: Option<Arc<RulesFile>>) -> Self {
        Self { selection: selection.filter(|selection| !selection.is_empty()), ..self }
    }

    /// What does not come to this device.
    pub const fn selection(&self) -> Option<&Arc<RulesFile>> {
        self.selection.as_ref()
    }

    /// The rules file of a directory.
    pub fn of(&self, directory: FileId) -> Option<&Arc<RulesFile>> {
        self.files.get(&directory)
    }

    /// The directories that have one.
    pub fn directories(&self) -> impl Iterator<Item = FileId> {
        self.files.keys().copied()
    }

    /// Whether another one, of `len` bytes, would count.
    pub fn has_room(&self, len: usize) -> bool {
        let sum: usize = self.files.values().map(|file| file.content.len()).sum();
        self.files.len() < RULES_FILE_COUNT_MAX && sum + len <= RULES_LEN_SUM_MAX
    }

    /// Adds one, if it counts.
    pub fn add(&mut self, directory: FileId, file: Arc<RulesFile>) {
        let before = self.files.remove(&directory);
        if self.has_room(file.len()) {
            self.files.insert(directory, file);
        } else {
            self.files.extend(before.map(|before| (directory, before)));
        }
    }

    /// Adds the rules file that `others` have for a directory.
    pub fn extend_from(&mut self, others: &Self, directory: FileId) {
        if let Some(file) = others.of(directory) {
            self.add(directory, file.clone());
        }
    }

    /// Directories and contents, to be stored.
    pub fn contents(&self) -> Vec<(FileId, Vec<u8>)> {
        self.files.iter().map(|(directory, file)| (*directory, file.content.clone())).collect()
    }

    /// What was stored.
    pub fn from_contents(contents: Vec<(FileId, Vec<u8>)>) -> Self {
        let files = contents.into_iter().map(|(directory, content)| (directory, Arc::new(RulesFile::parse(&content))));
        Self { files: files.collect(), selection: None }
    }
}

/// What the rules say of what stands in one directory.
#[derive(Debug, Default)]
pub struct Scope {
    /// The names from the root, joined by `/`.
    path: Vec<u8>,
    /// From the root down, each with the length of the path up to its directory.
    files: Vec<(usize, Arc<RulesFile>)>,
    is_ignored: bool,
    selection: Option<Arc<RulesFile>>,
    is_left_out: bool,
    depth: usize,
}

impl Scope {
    /// The root's.
    pub fn root(file: Option<Arc<RulesFile>>) -> Self {
        Self { files: file.map(|file| (0, file)).into_iter().collect(), ..Self::default() }
    }

    /// The same under a selection: the root's.
    #[must_use]
    pub fn with_selection(self, selection: Option<Arc<RulesFile>>) -> Self {
        Self { selection, ..self }
    }

    /// That of the directory `name` in this one; `file` gives the rules file in it, and is not asked in an ignored
    /// directory.
    pub fn below(&self, name: &Name, file: impl FnOnce() -> Option<Arc<RulesFile>>) -> Self {
        // A walk goes no deeper, and what no walk sees is not ignored.
        if self.depth >= PATH_DEPTH_MAX {
            return Self { depth: self.depth, ..Self::default() };
        }
        if self.ignores(name, Kind::Directory) {
            return Self { is_ignored: true, depth: self.depth + 1, ..Self::default() };
        }
        let mut scope = Self {
            path: self.path_of(name),
            files: self.files.clone(),
            is_ignored: false,
            selection: self.selection.clone(),
            is_left_out: self.leaves_out(name, Kind::Directory),
            depth: self.depth + 1,
        };
        scope.files.extend(file().map(|file| (scope.path.len() + 1, file)));
        scope
    }

    /// Whether the directory itself is ignored, and all in it.
    pub const fn is_ignored(&self) -> bool {
        self.is_ignored
    }

    /// Whether `name` in this directory is ignored.
    pub fn ignores(&self, name: &Name, kind: Kind) -> bool {
        if self.is_ignored || self.files.is_empty() {
            return self.is_ignored;
        }
        if is_rules_name(name) {
            return false;
        }
        let path = self.path_of(name);
        let said = |(from, file): &(usize, Arc<RulesFile>)| file.ignores(path.get(*from..)?, kind);
        self.files.iter().rev().find_map(said).unwrap_or(false)
    }

    /// Whether `name` in this directory does not come to this device. Rules files come with their directory: without
    /// them what others ignore would be published here.
    pub fn leaves_out(&self, name: &Name, kind: Kind) -> bool {
        let Some(selection) = self.selection.as_ref().filter(|_| !self.is_left_out && !is_rules_name(name)) else {
            return self.is_left_out;
        };
        selection.ignores(&self.path_of(name), kind).unwrap_or(false)
    }

    fn path_of(&self, name: &Name) -> Vec<u8> {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        path
    }
}

/// The scopes of directories as one tree has them, be it base or the view: `above` gives directory and name of each.
pub struct Scopes<'r, F> {
    rules: &'r Rules,
    above: F,
    known: RefCell<BTreeMap<FileId, Rc<Scope>>>,
}

impl<'r, E, F: Fn(FileId) -> Result<Option<(FileId, Name)>, E>> Scopes<'r, F> {
    /// The scopes of a tree that does not change while this is used.
    pub fn new(rules: &'r Rules, above: F) -> Self {
        Self { rules, above, known: RefCell::default() }
    }

    /// The scope of a directory. In one that the tree does not have, nothing is ignored.
    ///
    /// # Errors
    /// Those of reading the tree.
    pub fn scope(&self, directory: FileId) -> Result<Rc<Scope>, E> {
        let (mut at, mut way) = (directory, Vec::new());
        let mut scope = loop {
            if let Some(scope) = self.known.borrow().get(&at) {
                break scope.clone();
            }
            if at == FileId::ROOT {
                let root = Scope::root(self.rules.of(at).cloned());
                break Rc::new(root.with_selection(self.rules.selection.clone()));
            }
            match (self.above)(at)? {
                Some((parent, name)) if way.len() <= PATH_DEPTH_MAX => {
                    way.push((at, name));
                    at = parent;
                }
                _ => break Rc::default(),
            }
        };
        let mut known = self.known.borrow_mut();
        known.insert(at, scope.clone());
        for (id, name) in way.into_iter().rev() {
            scope = Rc::new(scope.below(&name, || self.rules.of(id).cloned()));
            known.insert(id, scope.clone());
        }
        Ok(scope)
    }

    /// Whether `name` in a directory is ignored.
    ///
    /// # Errors
    /// Those of reading the tree.
    pub fn ignores(&self, directory: FileId, name: &Name, kind: Kind) -> Result<bool, E> {
        Ok(!self.rules.is_empty() && self.scope(directory)?.ignores(name, kind))
    }
}

/// Where base has a directory, by the names of the view; one that is under a temporary name, where it was before.
pub fn above_in_base<B: BaseRead>(base: &B, directory: FileId) -> Result<Option<(FileId, Name)>, B::Error> {
    if directory == PARKED {
        return Ok(None);
    }
    let Some(key) = base.find(directory, directory)? else { return Ok(None) };
    let parent = |row: &BaseRow| if key.parent == PARKED { row.view_parent } else { key.parent };
    Ok(base.row(&key)?.map(|row| (parent(&row), row.view_name)))
}

/// A row and all that stand below it.
pub fn with_all_below<B: BaseRead>(base: &B, key: &RowKey) -> Result<Vec<(RowKey, BaseRow)>, B::Error> {
    let (mut rows, mut at) = (Vec::new(), 0);
    rows.extend(base.row(key)?.map(|row| (key.clone(), row)));
    while let Some((_, row)) = rows.get(at) {
        at += 1;
        if row.kind == Kind::Directory {
            let parent = row.id;
            let below = base.rows(parent)?.into_iter();
            rows.extend(below.map(|(local, row)| (RowKey { parent, local }, row)));
        }
    }
    Ok(rows)
}

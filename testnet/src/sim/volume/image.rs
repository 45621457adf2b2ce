//! The bytes of a simulated disk: inodes and the names that lead to them. No faults, no handles, no durability.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zerocloud::volume::{FileTime, Kind, Stat, VolumeErrorKind};

/// Number of an inode; never used again.
pub(super) type Ino = u64;
/// The root's.
pub(super) const ROOT: Ino = 1;
/// The device number that every simulated disk reports.
const DEV: u64 = 42;
/// Bytes of a block; a hole is counted in these.
const BLOCK_LEN: usize = 4096;

type Outcome<T> = Result<T, VolumeErrorKind>;

/// What an inode holds.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Directory(BTreeMap<Box<[u8]>, Ino>),
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
}

/// One inode. A directory has at most one name.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) body: Body,
    pub(super) mode: u32,
    birth: FileTime,
    pub(super) mtime: FileTime,
    pub(super) ctime: FileTime,
    /// Its directories and its names there; none once removed, and for the root.
    pub(super) places: BTreeSet<(Ino, Box<[u8]>)>,
}

/// A whole disk. Cloning shares what does not change afterwards.
#[derive(Clone, Debug)]
pub(super) struct Image {
    inodes: BTreeMap<Ino, Arc<Inode>>,
    last: Ino,
    /// Bytes of all files and links.
    used: u64,
    pub(super) capacity: u64,
    /// Whether names that differ in the case of their letters, or in the Unicode form of these, are one name.
    pub(super) folds_names: bool,
    /// The permission bits that every file seems to have, where the file system keeps none.
    pub(super) fixed_mode: Option<u32>,
}

impl Image {
    pub(super) fn new(now: FileTime, capacity: u64) -> Self {
        let body = Body::Directory(BTreeMap::new());
        let root = Inode { body, mode: 0o755, birth: now, mtime: now, ctime: now, places: BTreeSet::new() };
        let inodes = BTreeMap::from([(ROOT, Arc::new(root))]);
        Self { inodes, last: ROOT, used: 0, capacity, folds_names: false, fixed_mode: None }
    }

    pub(super) const fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    pub(super) fn inode(&self, ino: Ino) -> Outcome<&Inode> {
        self.inodes.get(&ino).map(|inode| &**inode).ok_or(VolumeErrorKind::NotFound)
    }

    pub(super) fn inode_mut(&mut self, ino: Ino) -> Outcome<&mut Inode> {
        self.inodes.get_mut(&ino).map(Arc::make_mut).ok_or(VolumeErrorKind::NotFound)
    }

    /// The names of a directory; `NotADirectory` for anything else.
    pub(super) fn names(&self, directory: Ino) -> Outcome<&BTreeMap<Box<[u8]>, Ino>> {
        match &self.inode(directory)?.body {
            Body::Directory(names) => Ok(names),
            Body::File(_) | Body::Symlink(_) | Body::Fifo => Err(VolumeErrorKind::NotADirectory),
        }
    }

    fn names_mut(&mut self, directory: Ino, now: FileTime) -> Outcome<&mut BTreeMap<Box<[u8]>, Ino>> {
        let inode = self.inode_mut(directory)?;
        (inode.mtime, inode.ctime) = (now, now);
        match &mut inode.body {
            Body::Directory(names) => Ok(names),
            Body::File(_) | Body::Symlink(_) | Body::Fifo => Err(VolumeErrorKind::NotADirectory),
        }
    }

    /// The inode that a name leads to.
    pub(super) fn child(&self, directory: Ino, name: &[u8]) -> Outcome<Ino> {
        self.entry(directory, name).map(|(_, ino)| ino)
    }

    /// The name, as it was given, to which `name` leads, and its inode.
    fn entry(&self, directory: Ino, name: &[u8]) -> Outcome<(Box<[u8]>, Ino)> {
        let names = self.names(directory)?;
        if let Some((name, ino)) = names.get_key_value(name) {
            return Ok((name.clone(), *ino));
        }
        let key = if self.folds_names { folded(name) } else { return Err(VolumeErrorKind::NotFound) };
        let found = names.iter().find(|(name, _)| folded(name) == key);
        found.map(|(name, ino)| (name.clone(), *ino)).ok_or(VolumeErrorKind::NotFound)
    }

    /// Whether a directory still has a place; one that was removed takes no names.
    pub(super) fn is_placed(&self, ino: Ino) -> bool {
        ino == ROOT || self.inode(ino).is_ok_and(|inode| !inode.places.is_empty())
    }

    /// The names from the root to an inode; `None` if it was removed.
    pub(super) fn path(&self, ino: Ino) -> Option<Vec<Box<[u8]>>> {
        let mut path = Vec::new();
        let mut at = ino;
        while at != ROOT {
            let (parent, name) = self.inode(at).ok()?.places.first()?;
            path.push(name.clone());
            at = *parent;
        }
        path.reverse();
        Some(path)
    }

    /// The permission bits that an inode shows.
    pub(super) fn mode_of(&self, inode: &Inode) -> u32 {
        match (self.fixed_mode, &inode.body) {
            (Some(mode), Body::File(_)) => mode,
            _ => inode.mode,
        }
    }

    pub(super) fn stat(&self, ino: Ino) -> Outcome<Stat> {
        let inode = self.inode(ino)?;
        let (kind, size) = match &inode.body {
            Body::Directory(names) => (Kind::Directory, names.len()),
            Body::File(content) => (Kind::File, content.len()),
            Body::Symlink(target) => (Kind::Symlink, target.len()),
            Body::Fifo => (Kind::Other, 0),
        };
        let blocks = match &inode.body {
            Body::File(content) => content.chunks(BLOCK_LEN).filter(|block| block.iter().any(|&b| b != 0)).count(),
            Body::Directory(_) | Body::Symlink(_) | Body::Fifo => 0,
        };
        Ok(Stat {
            kind,
            ino,
            dev: DEV,
            birth: Some(inode.birth),
            size: size as u64,
            mtime: inode.mtime,
            ctime: inode.ctime,
            mode: self.mode_of(inode),
            link_count: if ino == ROOT { 1 } else { inode.places.len() as u64 },
            block_count: (blocks * BLOCK_LEN / 512) as u64,
        })
    }

    /// Makes an inode under a name that nothing has.
    pub(super) fn create(&mut self, directory: Ino, name: &[u8], body: Body, mode: u32, now: FileTime) -> Outcome<Ino> {
        self.check_free(directory, name)?;
        self.reserve(body_len(&body))?;
        self.last += 1;
        let ino = self.last;
        let places = BTreeSet::from([(directory, name.into())]);
        self.inodes.insert(ino, Arc::new(Inode { body, mode, birth: now, mtime: now, ctime: now, places }));
        self.names_mut(directory, now)?.insert(name.into(), ino);
        Ok(ino)
    }

    /// Gives a file one more name (a hard link), which nothing has.
    pub(super) fn link(&mut self, ino: Ino, to: (Ino, &[u8]), now: FileTime) -> Outcome<()> {
        if self.names(ino).is_ok() {
            return Err(VolumeErrorKind::WrongKind);
        }
        self.check_free(to.0, to.1)?;
        self.place(ino, to, now)
    }

    pub(super) fn has_hard_links(&self) -> bool {
        self.inodes.values().any(|inode| inode.places.len() > 1)
    }

    /// Whether a directory takes a name.
    fn check_free(&self, directory: Ino, name: &[u8]) -> Outcome<()> {
        match self.child(directory, name) {
            Ok(_) => Err(VolumeErrorKind::Exists),
            Err(VolumeErrorKind::NotFound) if self.is_placed(directory) => Ok(()),
            Err(kind) => Err(kind),
        }
    }

    /// Takes a name away. The inode stays for those who have it open.
    pub(super) fn unlink(&mut self, directory: Ino, name: &[u8], now: FileTime) -> Outcome<Ino> {
        let (name, ino) = self.entry(directory, name)?;
        if self.names(ino).is_ok_and(|names| !names.is_empty()) {
            return Err(VolumeErrorKind::NotEmpty);
        }
        self.names_mut(directory, now)?.remove(&name);
        let inode = self.inode_mut(ino)?;
        inode.places.remove(&(directory, name));
        inode.ctime = now;
        if inode.places.is_empty() {
            let len = body_len(&inode.body);
            self.used = self.used.saturating_sub(len);
        }
        Ok(ino)
    }

    /// Renames to a name that nothing has.
    pub(super) fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8]), now: FileTime) -> Outcome<Ino> {
        let ino = self.child(from.0, from.1)?;
        self.check_not_inside(to.0, ino)?;
        self.check_free(to.0, to.1)?;
        self.take_name(from, now)?;
        self.place(ino, to, now)?;
        Ok(ino)
    }

    /// Gives what a name leads to another spelling of that name, as a person does where both are one name.
    pub(super) fn respell(&mut self, directory: Ino, from: &[u8], to: &[u8], now: FileTime) -> Outcome<Ino> {
        let ino = self.take_name((directory, from), now)?;
        self.place(ino, (directory, to), now)?;
        Ok(ino)
    }

    fn take_name(&mut self, from: (Ino, &[u8]), now: FileTime) -> Outcome<Ino> {
        let (name, ino) = self.entry(from.0, from.1)?;
        self.names_mut(from.0, now)?.remove(&name);
        self.inode_mut(ino)?.places.remove(&(from.0, name));
        Ok(ino)
    }

    /// Swaps two names.
    pub(super) fn exchange(&mut self, a: (Ino, &[u8]), b: (Ino, &[u8]), now: FileTime) -> Outcome<()> {
        let ((name_a, first), (name_b, second)) = (self.entry(a.0, a.1)?, self.entry(b.0, b.1)?);
        self.check_not_inside(b.0, first)?;
        self.check_not_inside(a.0, second)?;
        self.take_name(a, now)?;
        self.take_name(b, now)?;
        self.place(first, (b.0, &name_b), now)?;
        self.place(second, (a.0, &name_a), now)
    }

    fn place(&mut self, ino: Ino, to: (Ino, &[u8]), now: FileTime) -> Outcome<()> {
        self.names_mut(to.0, now)?.insert(to.1.into(), ino);
        let inode = self.inode_mut(ino)?;
        inode.places.insert((to.0, to.1.into()));
        inode.ctime = now;
        Ok(())
    }

    fn check_not_inside(&self, directory: Ino, moved: Ino) -> Outcome<()> {
        let mut at = directory;
        loop {
            if at == moved {
                return Err(VolumeErrorKind::IntoItself);
            }
            match self.inode(at)?.places.first() {
                Some((parent, _)) => at = *parent,
                None => return Ok(()),
            }
        }
    }

    /// Changes a file's content.
    pub(super) fn edit(&mut self, ino: Ino, now: FileTime, edit: impl FnOnce(&mut Vec<u8>)) -> Outcome<()> {
        let free = self.free();
        let counts = self.is_placed(ino);
        let Body::File(content) = &mut self.inode_mut(ino)?.body else { return Err(VolumeErrorKind::WrongKind) };
        let mut edited = content.clone();
        edit(&mut edited);
        let (before, after) = (content.len() as u64, edited.len() as u64);
        if counts && after.saturating_sub(before) > free {
            return Err(VolumeErrorKind::NoSpace);
        }
        *content = edited;
        if counts {
            self.used = self.used.saturating_sub(before).saturating_add(after);
        }
        let inode = self.inode_mut(ino)?;
        (inode.mtime, inode.ctime) = (now, now);
        Ok(())
    }

    fn reserve(&mut self, len: u64) -> Outcome<()> {
        if len > self.free() {
            return Err(VolumeErrorKind::NoSpace);
        }
        self.used += len;
        Ok(())
    }

    /// Makes one inode here as it is in `live`: what fsync of a file does. Its name is not part of that.
    pub(super) fn copy_body(&mut self, live: &Self, ino: Ino) {
        if let Some(inode) = live.inodes.get(&ino) {
            let places = self.inodes.get(&ino).map(|inode| inode.places.clone()).unwrap_or_default();
            self.inodes.insert(ino, Arc::new(Inode { places, ..(**inode).clone() }));
        }
    }

    /// Makes all names here those of `live`: what a journal's commit does. A file that was never synced itself gets
    /// its name without its bytes, as delayed allocation has it.
    pub(super) fn copy_names(&mut self, live: &Self) {
        let mut inodes = live.inodes.clone();
        for (ino, inode) in &mut inodes {
            if let Body::File(content) = &inode.body {
                let durable = self.inodes.get(ino).map(|inode| inode.body.clone());
                let body = match durable {
                    Some(Body::File(content)) => Body::File(content),
                    _ => Body::File(vec![0; content.len()]),
                };
                *inode = Arc::new(Inode { body, ..(**inode).clone() });
            }
        }
        (self.inodes, self.last) = (inodes, live.last);
        self.collect();
    }

    /// Forgets inodes without a name and counts what is left: after a restart nobody has them open.
    pub(super) fn collect(&mut self) {
        let placed: Vec<Ino> = self.inodes.keys().copied().filter(|ino| self.is_placed(*ino)).collect();
        let mut kept = BTreeMap::new();
        for ino in placed {
            if let Some(inode) = self.inodes.get(&ino) {
                kept.insert(ino, inode.clone());
            }
        }
        self.inodes = kept;
        self.used = self.inodes.values().map(|inode| body_len(&inode.body)).sum();
    }

    /// The same files under the same names, each copied into an inode of its own.
    pub(super) fn copied(&self, now: FileTime) -> Self {
        let number = |ino: Ino| if ino == ROOT { ROOT } else { ino + self.last };
        let copy = |inode: &Inode| {
            let body = match &inode.body {
                Body::Directory(names) => {
                    Body::Directory(names.iter().map(|(name, ino)| (name.clone(), number(*ino))).collect())
                }
                body => body.clone(),
            };
            let places = inode.places.iter().map(|(directory, name)| (number(*directory), name.clone())).collect();
            Arc::new(Inode { body, places, birth: now, ctime: now, ..*inode })
        };
        let inodes = self.inodes.iter().map(|(ino, inode)| (number(*ino), copy(inode))).collect();
        Self { inodes, last: 2 * self.last, ..*self }
    }

    /// After a crash: no number is given out twice, so that a stale handle can't meet a new inode.
    pub(super) fn skip_numbers(&mut self, last: Ino) {
        self.last = self.last.max(last);
    }

    pub(super) const fn last_number(&self) -> Ino {
        self.last
    }
}

fn body_len(body: &Body) -> u64 {
    match body {
        Body::File(bytes) | Body::Symlink(bytes) => bytes.len() as u64,
        Body::Directory(_) | Body::Fifo => 0,
    }
}

/// What is the same of two names that are one where names fold: the letters in lower case, an accent in one piece with
/// its letter. As much of Unicode as the simulator's users write.
pub fn folded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase().replace("e\u{301}", "\u{e9}")
}

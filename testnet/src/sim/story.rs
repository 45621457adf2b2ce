//! What happened in a run, as lines that a person reads; two runs of one scenario tell the same.

use std::sync::{Arc, Mutex, PoisonError};

use super::volume::{Tree, TreeEntry};

/// The lines of a run, if they are wanted. Clones write into one story.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Held for one line.
    lines: Option<Arc<Mutex<Vec<String>>>>,
}

impl Story {
    /// One that is kept; the default one is not.
    pub fn kept() -> Self {
        Self { lines: Some(Arc::default()) }
    }

    /// Adds a line, which is not made where nobody wants it.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.lines {
            let line = line();
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.lines.as_ref().map(|lines| lines.lock().unwrap_or_else(PoisonError::into_inner).clone());
        lines.unwrap_or_default()
    }
}

/// A path, as text.
pub fn shown(path: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(path.as_ref()).into_owned()
}

/// What was at a path and what is there, as a line.
pub fn difference(before: &Tree, after: &Tree) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(
        before.iter().filter(|(p, e)| after.get(*p) != Some(e)).map(|(p, e)| format!("-{}={}", shown(p), text(e))),
    );
    parts.extend(
        after.iter().filter(|(p, e)| before.get(*p) != Some(e)).map(|(p, e)| format!("+{}={}", shown(p), text(e))),
    );
    parts.join(" ")
}

/// An entry, short.
fn text(entry: &TreeEntry) -> String {
    match entry {
        TreeEntry::Directory => "/".to_owned(),
        TreeEntry::File { content, executable } => {
            let start = content.get(..content.len().min(40)).unwrap_or_default();
            format!("{:?}{}", shown(start), if *executable { "*" } else { "" })
        }
        TreeEntry::Symlink(target) => format!("-> {}", shown(target)),
        TreeEntry::Other => "?".to_owned(),
    }
}

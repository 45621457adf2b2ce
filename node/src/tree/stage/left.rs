//! Which files were begun and are not complete, so that the directory is not read for each that is begun.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::GET;
use crate::volume::{VolumeDirectory, VolumeError};

/// In their order.
type Names = BTreeSet<Box<[u8]>>;

/// Names of files that nobody writes to; `None` until they were looked for.
#[derive(Clone, Default)]
pub(super) struct Left(Arc<Mutex<Option<Names>>>);

impl Left {
    /// Nobody writes to a file any more.
    pub(super) fn note(&self, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is looked for later is found in the directory.
        if let Some(names) = &mut *names {
            names.insert(name.as_bytes().into());
        }
    }

    /// Whose names begin with `prefix`, in their order. They stay noted.
    pub(super) fn with_prefix(&self, tmp: &dyn VolumeDirectory, prefix: &[u8]) -> Result<Vec<Box<[u8]>>, VolumeError> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.is_none() {
            let all = tmp.list()?.into_iter().map(|entry| entry.name);
            *names = Some(all.filter(|name| name.starts_with(GET.as_bytes())).collect());
        }
        let from = names.iter().flat_map(|names| names.range(Box::from(prefix)..));
        Ok(from.take_while(|name| name.starts_with(prefix)).cloned().collect())
    }

    /// A file is gone.
    pub(super) fn forget(&self, name: &[u8]) {
        if let Some(names) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            names.remove(name);
        }
    }
}

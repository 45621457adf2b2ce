//! Files that are on their way, for others who want the same: what has come of them is given on at once.
//!
//! A file is offered from its first chunk on until it stands in its place, where [`super::serve`] finds it as any other.
//! It is read by the handle by which it is written; nothing here opens or names anything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::limits::CHUNK_LEN_MAX;
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::seal::Named;

use crate::engine::fetch::Lack;
use crate::tree::Keyring;
use crate::tree::serve::read_up_to;
use crate::volume::VolumeFile;

/// The files of one folder that are on their way. Shared by who has them brought and who serves.
#[derive(Default)]
pub struct Arrivals(Mutex<State>);

#[derive(Default)]
struct State {
    offered: BTreeMap<ContentHash, Arc<Arrival>>,
    /// What is complete and may not be in its place yet.
    complete: Vec<Offer>,
}

/// What has come of one file.
struct Arrival {
    file: Arc<dyn VolumeFile>,
    /// Of each chunk, in the order of the file.
    is_here: Vec<AtomicBool>,
    /// Whether a member has given something of it, since it was last begun.
    has_come: AtomicBool,
}

/// A file that is offered, until this is dropped.
pub(crate) struct Offer {
    arrivals: Arc<Arrivals>,
    /// Under which id it is wanted.
    id: FileId,
    hash: ContentHash,
    arrival: Arc<Arrival>,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a file that is wanted under `id`, of which `is_here` says for each chunk whether it is there.
    pub(crate) fn offer(
        self: &Arc<Self>,
        id: FileId,
        hash: ContentHash,
        file: Arc<dyn VolumeFile>,
        is_here: &[bool],
    ) -> Offer {
        let is_here = is_here.iter().copied().map(AtomicBool::new).collect();
        let arrival = Arc::new(Arrival { file, is_here, has_come: AtomicBool::new(false) });
        self.lock().offered.insert(hash, arrival.clone());
        Offer { arrivals: self.clone(), id, hash, arrival }
    }

    /// Goes on offering a file that is complete, until [`Self::retain`] lets it go.
    pub(crate) fn keep(&self, offer: Offer) {
        self.lock().complete.push(offer);
    }

    /// Lets go of what is complete and not wanted under its id any more, as `is_wanted` says.
    pub(crate) fn retain(&self, is_wanted: impl Fn(FileId, ContentHash) -> bool) {
        let complete = std::mem::take(&mut self.lock().complete);
        // Without the lock: what is let go takes it.
        let mut kept: Vec<Offer> = complete.into_iter().filter(|offer| is_wanted(offer.id, offer.hash)).collect();
        self.lock().complete.append(&mut kept);
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().offered.is_empty()
    }

    /// A chunk of a content that is on its way, the one of this number and begin; none if nothing has come of it.
    ///
    /// That nothing has come is said as if it were not on its way, or two that wait for a third would have each other
    /// believe that there is hope.
    pub(crate) fn find<'k>(
        &self,
        hash: ContentHash,
        (ordinal, offset): (u64, u64),
        chunk: &Chunk,
        keyring: &'k Keyring,
    ) -> Option<Result<Named<'k>, Lack>> {
        let arrival = self.lock().offered.get(&hash).cloned()?;
        let len = chunk.len as usize;
        let keys = keyring.chunks(&chunk.epoch).filter(|_| len <= CHUNK_LEN_MAX)?;
        let is_here = usize::try_from(ordinal).ok().and_then(|ordinal| arrival.is_here.get(ordinal));
        if is_here.is_some_and(|is_here| is_here.load(Ordering::Acquire)) {
            let mut plaintext = vec![0; len];
            // Zeros at what is the end so far are left out.
            if read_up_to(&*arrival.file, &mut plaintext, offset).is_ok()
                && let Some(named) = keys.check(&chunk.id, plaintext)
            {
                return Some(Ok(named));
            }
        }
        arrival.has_come.load(Ordering::Acquire).then_some(Err(Lack::NotNow))
    }
}

impl Offer {
    /// Chunks at these places have come, the same from one member.
    pub(crate) fn note(&self, places: &[usize]) {
        for is_here in places.iter().filter_map(|at| self.arrival.is_here.get(*at)) {
            is_here.store(true, Ordering::Release);
        }
        self.arrival.has_come.store(true, Ordering::Release);
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let mut state = self.arrivals.lock();
        // The same content may be on its way a second time.
        if state.offered.get(&self.hash).is_some_and(|offered| Arc::ptr_eq(offered, &self.arrival)) {
            state.offered.remove(&self.hash);
        }
    }
}

#[cfg(test)]
mod tests;

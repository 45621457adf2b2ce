//! Where members may be reached, by their own signed words, as far as it is known here.
//!
//! Members pass these on, so that two devices that a third has let in find each other when it is off. Who is told what,
//! and whom is believed, is in `session::streams`; keeping records for the next start is the node's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use zerocloud_crdt::address::SignedAddresses;
use zerocloud_crdt::id::DeviceId;

/// The newest record of each device. Clones are handles to the same book.
#[derive(Clone, Debug)]
pub struct AddressBook {
    newest: Arc<Mutex<BTreeMap<DeviceId, SignedAddresses>>>,
    /// Counts what was learnt.
    changes: watch::Sender<u64>,
}

impl Default for AddressBook {
    fn default() -> Self {
        Self { newest: Arc::default(), changes: watch::Sender::new(0) }
    }
}

impl AddressBook {
    /// Takes a record, which must be of a member, if it is news.
    pub fn learn(&self, addresses: SignedAddresses) {
        let mut newest = self.lock();
        let device = addresses.record().device;
        if newest.get(&device).is_none_or(|known| addresses.record().replaces(known.record())) {
            newest.insert(device, addresses);
            drop(newest);
            self.changes.send_modify(|change_count| *change_count += 1);
        }
    }

    /// The records that are news to who has those with these counters.
    pub fn newer_than(&self, counters: &BTreeMap<DeviceId, u64>) -> Vec<SignedAddresses> {
        let newest = self.lock();
        let is_news = |known: &&SignedAddresses| {
            counters.get(&known.record().device).is_none_or(|counter| known.record().counter > *counter)
        };
        newest.values().filter(is_news).cloned().collect()
    }

    /// Counts up whenever something was learnt.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceId, SignedAddresses>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

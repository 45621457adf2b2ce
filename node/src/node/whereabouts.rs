//! Keeping where devices may be reached: what they say when they greet, and what members pass on of each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use zerocloud_crdt::address::{AddressRecord, SignedAddresses};
use zerocloud_crdt::id::DeviceId;

use super::meeting::Meeting;
use super::opened::{OpenSpace, records_of};
use super::status::others;
use super::{Shared, on_disk};
use crate::api::ApiError;
use crate::session::Greeting;
use crate::store::StoreError;

/// Time between two looks at what was learnt of where devices may be reached: each costs a write to the disk and a
/// dial, and a device may sign a new record whenever it likes.
const NOTING_PAUSE: Duration = Duration::from_secs(1);

/// Keeps what is learnt of where devices may be reached, and has them dialled there.
pub(super) fn note_what_is_learnt(shared: &Arc<Shared>) {
    let (mut learnt, mut changes) = (shared.sessions.addresses().changes(), shared.sessions.changes());
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        let mut noted: BTreeMap<DeviceId, u64> = BTreeMap::new();
        loop {
            let Some(shared) = weak.upgrade() else { return };
            let news = shared.sessions.addresses().newer_than(&noted);
            noted.extend(news.iter().map(|addresses| (addresses.record().device, addresses.record().counter)));
            let noting = shared.clone();
            if let Err(error) = on_disk(move || noting.note_addresses(&news)).await {
                tracing::warn!(%error, "where devices may be reached can't be kept");
            }
            if let Some(peers) = shared.meeting.as_ref().and_then(Meeting::peers) {
                peers.refresh();
            }
            drop(shared);
            tokio::time::sleep(NOTING_PAUSE).await;
            tokio::select! {
                Ok(()) = learnt.changed() => {}
                // Who is known from one space may be in another now.
                Ok(()) = changes.changed() => noted.clear(),
                else => return,
            }
        }
    });
}

impl Shared {
    /// Keeps what those said of themselves who greeted before there was a space to note it in.
    pub(super) fn note_greetings(&self) {
        let Some(peers) = self.meeting.as_ref().and_then(Meeting::peers) else { return };
        for peer in peers.list().into_iter().filter(|peer| peer.conn.is_some()) {
            let (device, Some(hello)) = (peer.device, peer.hello) else { continue };
            let addresses = AddressRecord::decode(&hello.addresses).ok().filter(|record| record.device == device);
            if let Err(error) = self.note_greeting(device, &Greeting { hello, addresses }) {
                tracing::warn!(%device, %error, "where a device was met can't be kept");
            }
        }
    }

    /// Keeps what a device said of itself.
    pub(super) fn note_greeting(&self, device: DeviceId, greeting: &Greeting) -> Result<(), StoreError> {
        let now = self.surroundings.clock.wall_time();
        let addresses = greeting.addresses.as_ref().filter(|record| !record.hints.is_empty());
        let addresses = addresses.and_then(|_| SignedAddresses::decode(&greeting.hello.addresses).ok());
        for space in self.all() {
            space.store.write::<_, StoreError>(|write| {
                let mut row = write.peer(device)?.unwrap_or_default();
                row.name = Some(greeting.hello.name.clone());
                row.last_seen = Some(now);
                if let Some(addresses) = &addresses {
                    row.take_addresses(addresses);
                }
                write.put_peer(device, &row)
            })?;
        }
        Ok(())
    }

    /// Keeps where devices may be reached, each in the spaces of which it is a member.
    fn note_addresses(&self, news: &[SignedAddresses]) -> Result<(), ApiError> {
        let us = self.surroundings.keys.id();
        for space in self.all() {
            let members = others(&records_of(&space.store.snapshot()?, space.id)?, us);
            let of_members = news.iter().filter(|addresses| members.contains(&addresses.record().device));
            for addresses in of_members {
                let device = addresses.record().device;
                let mut row = space.store.snapshot()?.peer(device)?.unwrap_or_default();
                if row.take_addresses(addresses) {
                    space.store.write::<_, StoreError>(|write| {
                        let mut row = write.peer(device)?.unwrap_or_default();
                        row.take_addresses(addresses);
                        write.put_peer(device, &row)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Knows from now on where the members of a space said that they may be reached.
    pub(super) fn recall_addresses(&self, space: &OpenSpace) -> Result<(), ApiError> {
        let snapshot = space.store.snapshot()?;
        let us = self.surroundings.keys.id();
        for device in others(&records_of(&snapshot, space.id)?, us) {
            if let Some(addresses) = snapshot.peer(device)?.and_then(|row| row.signed_addresses()) {
                self.sessions.addresses().learn(addresses);
            }
        }
        Ok(())
    }
}

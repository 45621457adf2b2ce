//! Keeping where devices may be reached: what they say when they greet, and what members pass on of each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use zerocloud_crdt::address::{self, AddressRecord, SignedAddresses};
use zerocloud_crdt::id::DeviceId;

use super::meeting::Meeting;
use super::opened::{OpenSpace, records_of};
use super::status::others;
use super::{Shared, on_disk};
use crate::api::ApiError;
use crate::config::Config;
use crate::link::AddressHint;
use crate::session::Greeting;
use crate::store::{PeerRow, StoreError};

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

    /// Keeps where this device can be found, for tickets that are made while no node runs.
    pub(super) fn note_own_addresses(&self, space: &OpenSpace, addresses: &[AddressHint]) -> Result<(), StoreError> {
        let us = self.surroundings.keys.id();
        let hints: Vec<address::AddressHint> = addresses.iter().filter_map(|hint| hint.try_into().ok()).collect();
        if hints.is_empty() || space.store.snapshot()?.peer(us)?.is_some_and(|row| row.hints == hints) {
            return Ok(());
        }
        space.store.write(|write| {
            let row = write.peer(us)?.unwrap_or_default();
            write.put_peer(us, &PeerRow { hints, ..row })
        })
    }

    /// Where a node that runs on this device would be found, as far as that is known while none does.
    pub(super) fn own_addresses(&self, space: &OpenSpace) -> Result<Vec<AddressHint>, StoreError> {
        let port = self.surroundings.home.last_port();
        let row = space.store.snapshot()?.peer(self.surroundings.keys.id())?.unwrap_or_default();
        let noted = row.hints.iter().map(AddressHint::from);
        Ok(addresses_by_settings(&self.surroundings.config, port, noted))
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

/// Where a node with these settings is found: its relays, and the address that it listens on, or, where it listens on
/// all, those that were `noted` when one last ran. `port`: the one of that time.
fn addresses_by_settings(
    config: &Config,
    port: Option<u16>,
    noted: impl Iterator<Item = AddressHint>,
) -> Vec<AddressHint> {
    let mut addresses: Vec<_> = config.relays.iter().map(|relay| AddressHint::Relay(relay.url.clone())).collect();
    if !config.direct {
        return addresses;
    }
    match config.listen {
        Some(listen) if !listen.ip().is_unspecified() => {
            let port = Some(listen.port()).filter(|port| *port != 0).or(port);
            addresses.extend(port.map(|port| AddressHint::Direct(SocketAddr::new(listen.ip(), port))));
        }
        _ => addresses.extend(noted.filter(|hint| matches!(hint, AddressHint::Direct(_)))),
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RelayAt;

    #[test]
    fn an_address_that_the_settings_name_counts_more_than_where_the_node_was_last() {
        let direct = |text: &str| AddressHint::Direct(text.parse().unwrap());
        let relay = AddressHint::Relay("https://relay.example/".into());
        let noted = || [relay.clone(), direct("192.0.2.7:5")].into_iter();
        let listening = |listen: &str| Config { listen: Some(listen.parse().unwrap()), ..Config::default() };
        let on = |listen: &str, port| addresses_by_settings(&listening(listen), port, noted());
        assert_eq!(on("192.0.2.1:9", Some(5)), [direct("192.0.2.1:9")]);
        assert_eq!(on("192.0.2.1:0", Some(5)), [direct("192.0.2.1:5")]);
        assert_eq!(on("192.0.2.1:0", None), []);
        assert_eq!(on("0.0.0.0:9", None), [direct("192.0.2.7:5")]);

        let any = Config { relays: vec![RelayAt::url("https://new.example/")], ..Config::default() };
        let new = AddressHint::Relay("https://new.example/".into());
        assert_eq!(addresses_by_settings(&any, None, noted()), [new.clone(), direct("192.0.2.7:5")]);
        assert_eq!(addresses_by_settings(&Config { direct: false, ..any }, None, noted()), [new]);
    }
}

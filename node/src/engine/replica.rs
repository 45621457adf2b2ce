//! One device's copy of a space: its log and index, and what it says to each peer about them.
//!
//! Feed it with `connect`, `handle_message`, `append` and `disconnect`; after each call drain
//! [`Replica::poll_action`]. Here lives the exchange of records, frontiers and entries; chunks, scanning and
//! materialising are other machines'.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zerocloud_crdt::id::{ContentHash, DeviceId, EpochId, FileId, LogId, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret};
use zerocloud_crdt::log::frontier::SignedFrontierError;
use zerocloud_crdt::log::{EntryError, Frontier, LogRead, SignedFrontier, Start, WaitingPool};
use zerocloud_crdt::membership::{InsertError, Records};
use zerocloud_crdt::mutated;
use zerocloud_crdt::wire;

use super::found::FoundWith;
use super::shelf::{Shelf, ShelfRead};

pub use admit::AdmitError;
pub use discrepancies::{Discrepancy, DiscrepancyKind, OWING_ROUND_COUNT};

/// Bytes of entries that are on their way to one peer before the driver has sent any of them.
const SENDING_LEN_MAX: usize = 8 << 20;
/// Room that one frame leaves for what stands around its entries.
const FRAME_RESERVE_LEN: usize = 4 << 10;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message on the log stream of this space to a peer; tell [`Replica::handle_sent`] when it left.
    Send {
        /// To whom.
        peer: DeviceId,
        /// What.
        message: wire::Log,
    },
    /// Close the stream to a peer: it is no member.
    Refuse {
        /// Whom.
        peer: DeviceId,
    },
    /// What these items show may have changed: plan them again.
    Plan(BTreeSet<FileId>),
    /// The space stopped; what it has stays as it is.
    Stopped,
    /// Whose word and deeds differ has changed: see [`Replica::discrepancies`].
    Discrepancies,
}

/// A peer broke the rules: close the connection and say so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message of one kind before it may come.
    #[error("the peer spoke out of turn")]
    OutOfTurn,
    /// A record that no honest device sends.
    #[error("the peer sent a record that is not valid: {0}")]
    Record(#[from] InsertError),
    /// A frontier that is not the peer's own, signed word.
    #[error("the peer sent a frontier that is not valid: {0}")]
    Frontier(#[from] SignedFrontierError),
    /// A frontier of somebody else.
    #[error("the peer sent the frontier of another device")]
    ForeignFrontier,
    /// An entry that no honest device sends.
    #[error("the peer sent a log entry that is not valid: {0}")]
    Entry(#[from] EntryError),
    /// More entries without their past than are kept.
    #[error("the peer sent too many log entries without their past")]
    TooManyWaiting,
}

/// Why a space stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stop {
    /// Something was written by a newer version.
    #[error("this space needs a newer version of ZeroCloud: update this device; what it has stays as it is")]
    NeedsNewerVersion,
}

/// Why an event could not be handled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError<E> {
    /// The peer's fault.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The store's; try again.
    #[error("the space's store failed: {0}")]
    Store(E),
    /// Nothing is written any more.
    #[error(transparent)]
    Stopped(Stop),
    /// Our own: an entry could not be written.
    #[error("a log entry could not be written: {0}")]
    Write(String),
}

/// What a replica is made of.
pub struct Identity {
    /// The device.
    pub keys: DeviceKeys,
    /// The log that it writes here.
    pub log: LogId,
    /// How the log begins, if it has not yet.
    pub start: Start,
    /// The secrets of the epochs that it may read.
    pub secrets: BTreeMap<EpochId, EpochSecret>,
}

/// One device's copy of a space. See the module.
pub struct Replica<S: Shelf> {
    shelf: S,
    records: Records,
    identity: Identity,
    peers: BTreeMap<DeviceId, Peer>,
    actions: VecDeque<Action>,
    stop: Option<Stop>,
    /// BLAKE3 of the frontier that the tree shows.
    materialised: Option<[u8; 32]>,
    /// Members whose word and deeds differ, also those that are not told of yet.
    discrepancies: BTreeMap<DeviceId, Discrepancy>,
    /// What members told others, by those: the furthest of each, for as long as it did not tell as much here.
    handed_on: BTreeMap<DeviceId, SignedFrontier>,
    /// For how many rounds members have owed something, also while they come and go.
    owing: BTreeMap<DeviceId, u32>,
}

/// What is known of a connected peer.
#[derive(Default)]
struct Peer {
    /// What it has: as it said, and what was sent to it or came from it since. `None` until it said so: before that no
    /// entry is sent.
    frontier: Option<Frontier>,
    /// The last of what it said, as it signed it.
    told: Option<SignedFrontier>,
    /// What came from it since it is connected.
    came: Frontier,
    /// Whether something came from it in this round.
    has_brought: bool,
    /// Whether our frontier was told to it.
    is_told: bool,
    /// The frontier (its BLAKE3) that its tree shows.
    materialised: Option<[u8; 32]>,
    /// What it sent before its past.
    waiting: WaitingPool,
    /// Bytes of entries that the driver has not sent yet.
    sending_len: usize,
}

impl<S: Shelf> Replica<S> {
    /// A replica over what `shelf` has. Writes the beginning of the device's log if it has none.
    ///
    /// # Errors
    /// Those of the store, and [`ReplicaError::Write`] if the device may not write.
    pub fn open(
        shelf: S,
        records: Records,
        identity: Identity,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Self, ReplicaError<S::Error>> {
        let discrepancies =
            shelf.snapshot().and_then(|snapshot| snapshot.discrepancies()).map_err(ReplicaError::Store)?;
        let mut replica = Self {
            shelf,
            records,
            identity,
            peers: BTreeMap::new(),
            actions: VecDeque::new(),
            stop: None,
            materialised: None,
            discrepancies,
            handed_on: BTreeMap::new(),
            owing: BTreeMap::new(),
        };
        let is_begun = replica.frontier()?.position(replica.identity.log);
        if is_begun.is_none() && replica.may_write() {
            replica.write_start(rng)?;
        }
        Ok(replica)
    }

    /// The space.
    pub fn space(&self) -> SpaceId {
        self.records.space()
    }

    /// Where state is kept.
    pub const fn shelf(&self) -> &S {
        &self.shelf
    }

    /// Who belongs to the space.
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// The log that this device writes.
    pub const fn log(&self) -> LogId {
        self.identity.log
    }

    /// Why the space stopped, if it did.
    pub const fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// The connected peers.
    pub fn peers(&self) -> BTreeSet<DeviceId> {
        self.peers.keys().copied().collect()
    }

    /// Whether a peer is connected.
    pub fn is_connected(&self, peer: DeviceId) -> bool {
        self.peers.contains_key(&peer)
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether a peer and this device have the same entries, and the peer's tree shows them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_in_sync(&self, peer: DeviceId) -> Result<bool, ReplicaError<S::Error>> {
        let ours = self.frontier()?;
        Ok(self.peers.get(&peer).is_some_and(|peer| {
            peer.frontier.as_ref() == Some(&ours) && peer.materialised.is_some() && peer.materialised == digest(&ours)
        }))
    }

    /// Whether this device's tree shows all entries that are here.
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_materialised(&self) -> Result<bool, ReplicaError<S::Error>> {
        Ok(self.materialised.is_some() && self.materialised == digest(&self.frontier()?))
    }

    /// A peer is there. Records are shown first: a device that was newly added is no member to the other side before.
    ///
    /// # Errors
    /// Those of the store.
    pub fn connect(&mut self, peer: DeviceId) -> Result<(), ReplicaError<S::Error>> {
        let known = self.peers.remove(&peer).filter(|_| mutated!(StaleCursor)).and_then(|peer| peer.frontier);
        self.peers.insert(peer, Peer { frontier: known, ..Peer::default() });
        if self.is_member(peer) {
            self.show_records(peer, &[]);
            self.tell_frontier(peer)?;
        }
        Ok(())
    }

    /// A peer is gone.
    pub fn disconnect(&mut self, peer: DeviceId) {
        if !mutated!(StaleCursor) {
            self.peers.remove(&peer);
        }
    }

    /// A message came from a peer.
    ///
    /// # Errors
    /// [`ReplicaError::Violation`] if the peer broke the rules; those of the store.
    pub fn handle_message(&mut self, peer: DeviceId, message: wire::Log) -> Result<(), ReplicaError<S::Error>> {
        if self.stop.is_some() || !self.peers.contains_key(&peer) {
            return Ok(());
        }
        if let wire::Log::Records { records, .. } = &message {
            return self.take_records(peer, records);
        }
        if !self.is_member(peer) {
            return Err(Violation::OutOfTurn.into());
        }
        match message {
            wire::Log::Records { .. } | wire::Log::Chunks(_) => Ok(()),
            wire::Log::Frontier(bytes) => self.take_frontier(peer, &bytes),
            wire::Log::Entries(entries) => self.take_entries(peer, entries),
            wire::Log::HandedOn(bytes) => self.take_handed_on(&bytes),
            wire::Log::Materialised(digest) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.materialised = Some(digest);
                }
                Ok(())
            }
        }
    }

    /// The driver has sent a message with this many bytes of entries in it ([`wire::Log::entries_len`]).
    ///
    /// # Errors
    /// Those of the store.
    pub fn handle_sent(&mut self, peer: DeviceId, entries_len: usize) -> Result<(), ReplicaError<S::Error>> {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.sending_len = peer.sending_len.saturating_sub(entries_len);
        }
        self.send_lacking(peer)
    }

    /// Writes what a folder found as one entry each, with its rows of base and its contents, and sends them on: all of it
    /// or nothing, and with one commit. Gives the id of each thing that was sighted.
    ///
    /// # Errors
    /// Those of the store; [`ReplicaError::Stopped`] and [`ReplicaError::Write`]. Nothing is written then.
    pub fn append(
        &mut self,
        all: Vec<FoundWith>,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Vec<Vec<FileId>>, ReplicaError<S::Error>> {
        if let Some(stop) = &self.stop {
            return Err(ReplicaError::Stopped(stop.clone()));
        }
        let ids = self.write_found(all, rng)?;
        self.send_lacking_to_all()?;
        Ok(ids)
    }

    /// Another device was added by this one: its record is kept, and shown to everyone.
    ///
    /// # Errors
    /// Those of the store.
    pub fn add_record(&mut self, bytes: &[u8]) -> Result<(), ReplicaError<S::Error>> {
        let kept = self.insert_record(bytes)?;
        self.announce_records(None, &kept)
    }

    /// The tree shows everything up to `shown`, or (`None`) not any more. Says nothing if the frontier has moved on
    /// since: then there is more to be shown.
    ///
    /// # Errors
    /// Those of the store.
    pub fn set_materialised(&mut self, shown: Option<&Frontier>) -> Result<(), ReplicaError<S::Error>> {
        let current = self.frontier()?;
        let shown = shown.filter(|shown| **shown == current).and_then(digest);
        if shown == self.materialised {
            return Ok(());
        }
        self.materialised = shown;
        if let Some(shown) = shown {
            let told: Vec<DeviceId> = self.peers.iter().filter(|(_, peer)| peer.is_told).map(|(id, _)| *id).collect();
            for peer in told {
                self.send(peer, wire::Log::Materialised(shown));
            }
        }
        Ok(())
    }

    fn send(&mut self, peer: DeviceId, message: wire::Log) {
        self.actions.push_back(Action::Send { peer, message });
    }

    fn stop_for(&mut self, stop: Stop) {
        self.stop = Some(stop);
        self.actions.push_back(Action::Stopped);
    }

    fn frontier(&self) -> Result<Frontier, ReplicaError<S::Error>> {
        let snapshot = self.shelf.snapshot().map_err(ReplicaError::Store)?;
        LogRead::frontier(&snapshot).map_err(ReplicaError::Store)
    }

    /// Whether a device may read the space, by the records that are here.
    pub fn is_member(&self, peer: DeviceId) -> bool {
        matches!(self.records.role_at(&self.records.heads(), peer), Ok(Some(role)) if role.can_read())
    }

    fn may_write(&self) -> bool {
        let author = self.identity.log.author;
        matches!(self.records.role_at(&self.records.heads(), author), Ok(Some(role)) if role.can_write())
    }
}

/// BLAKE3 of a frontier's bytes; `None` for one that nobody would read.
fn digest(frontier: &Frontier) -> Option<[u8; 32]> {
    frontier.encode().ok().map(|bytes| ContentHash::of(&bytes).0)
}

mod admit;
mod discrepancies;
mod entries;
mod forks;
mod kept;
mod records;
#[cfg(test)]
mod tests;

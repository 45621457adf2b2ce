//! Showing and taking records of membership.

use serde_bytes::ByteBuf;
use zerocloud_crdt::id::{DeviceId, RecordHash};
use zerocloud_crdt::limits::LOG_FRAME_LEN_MAX;
use zerocloud_crdt::membership::{InsertError, Inserted};
use zerocloud_crdt::wire;

use super::{Action, FRAME_RESERVE_LEN, Replica, ReplicaError, Stop, Violation};
use crate::engine::shelf::{Shelf, ShelfWrite};

impl<S: Shelf> Replica<S> {
    /// Shows the records that whoever has `known` lacks.
    pub(super) fn show_records(&mut self, peer: DeviceId, known: &[RecordHash]) {
        let heads = self.records.heads();
        let mut frame: Vec<ByteBuf> = Vec::new();
        let mut frames = Vec::new();
        let mut len = 0;
        for record in self.records.lacked_by(known) {
            if len + record.len() > LOG_FRAME_LEN_MAX - FRAME_RESERVE_LEN - heads.len() * RecordHash::LEN {
                frames.push(std::mem::take(&mut frame));
                len = 0;
            }
            len += record.len() + 8;
            frame.push(ByteBuf::from(record));
        }
        frames.push(frame);
        for records in frames {
            self.send(peer, wire::Log::Records { heads: heads.clone(), records });
        }
    }

    pub(super) fn insert_record(&mut self, bytes: &[u8]) -> Result<Vec<RecordHash>, ReplicaError<S::Error>> {
        let kept = match self.records.insert(bytes) {
            Ok(Inserted::Kept(kept)) => kept,
            Ok(Inserted::Known | Inserted::Waiting) => return Ok(Vec::new()),
            Err(InsertError::NeedsNewerVersion(_)) => {
                self.stop_for(Stop::NeedsNewerVersion);
                return Ok(Vec::new());
            }
            Err(error) => return Err(Violation::Record(error).into()),
        };
        self.shelf.write(ReplicaError::Store, |write| {
            for hash in &kept {
                if let Some(bytes) = self.records.bytes(*hash) {
                    write.put_record(*hash, bytes).map_err(ReplicaError::Store)?;
                }
            }
            Ok(())
        })?;
        if self.records.table().is_err() {
            self.stop_for(Stop::NeedsNewerVersion);
        }
        Ok(kept)
    }

    pub(super) fn take_records(&mut self, peer: DeviceId, records: &[ByteBuf]) -> Result<(), ReplicaError<S::Error>> {
        let was_member = self.is_member(peer);
        let mut kept = Vec::new();
        for record in records {
            kept.extend(self.insert_record(record)?);
        }
        if self.stop.is_some() {
            return Ok(());
        }
        if !self.is_member(peer) {
            self.actions.push_back(Action::Refuse { peer });
            return Ok(());
        }
        if !was_member {
            self.show_records(peer, &[]);
        }
        self.tell_frontier(peer)?;
        self.announce_records(Some(peer), &kept)
    }

    /// Shows new records to everyone but the one that they came from, and looks at what waited for them.
    pub(super) fn announce_records(
        &mut self,
        from: Option<DeviceId>,
        kept: &[RecordHash],
    ) -> Result<(), ReplicaError<S::Error>> {
        if kept.is_empty() {
            return Ok(());
        }
        let peers: Vec<DeviceId> = self.peers.keys().copied().collect();
        for peer in peers {
            if Some(peer) != from && self.is_member(peer) {
                let records = kept.iter().filter_map(|hash| self.records.bytes(*hash)).map(ByteBuf::from).collect();
                let heads = self.records.heads();
                self.send(peer, wire::Log::Records { heads, records });
                self.tell_frontier(peer)?;
            }
            let waited = self.peers.get_mut(&peer).map(|peer| peer.waiting.take_after_records()).unwrap_or_default();
            self.receive(peer, waited)?;
        }
        Ok(())
    }
}

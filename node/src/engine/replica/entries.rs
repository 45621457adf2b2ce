//! Telling frontiers, sending what a peer lacks, checking and applying what it sends, writing one's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ed25519_dalek::SigningKey;
use serde_bytes::ByteBuf;
use zerocloud_crdt::codec::DecodeError;
use zerocloud_crdt::id::{ActorId, ContentHash, DeviceId, FileId, LogId, RecordHash};
use zerocloud_crdt::index::{IndexRead, Overlay};
use zerocloud_crdt::keys::EpochSecret;
use zerocloud_crdt::limits::LOG_FRAME_LEN_MAX;
use zerocloud_crdt::log::check::{CheckError, check, current_heads};
use zerocloud_crdt::log::writer::WriteError;
use zerocloud_crdt::log::{
    Body, Checked, Draft, DraftOp, Entry, EntryError, EntryPoint, Lacking, LogRead, LogWriter, Outcome, Position,
    Setting, SignedFrontier, Verdict, Written,
};
use zerocloud_crdt::membership::Records;
use zerocloud_crdt::register::Op;
use zerocloud_crdt::scan::ScanOutcome;
use zerocloud_crdt::wire;

use super::{Action, FRAME_RESERVE_LEN, Identity, Peer, Replica, ReplicaError, SENDING_LEN_MAX, Stop, Violation};
use crate::engine::found::Found;
use crate::engine::shelf::{Contents, Shelf, ShelfRead, ShelfWrite};

impl<S: Shelf> Replica<S> {
    pub(super) fn tell_frontier(&mut self, peer: DeviceId) -> Result<(), ReplicaError<S::Error>> {
        if self.peers.get(&peer).is_none_or(|peer| peer.is_told) {
            return Ok(());
        }
        self.say_frontier(peer)?;
        if let Some(shown) = self.materialised {
            self.send(peer, wire::Log::Materialised(shown));
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.is_told = true;
        }
        Ok(())
    }

    pub(super) fn say_frontier(&mut self, peer: DeviceId) -> Result<(), ReplicaError<S::Error>> {
        let frontier = self.frontier()?;
        let signed = SignedFrontier::sign(&self.identity.keys.signing_key(), self.space(), frontier)
            .map_err(|error: DecodeError| ReplicaError::Write(error.to_string()))?;
        self.send(peer, wire::Log::Frontier(ByteBuf::from(signed.as_bytes())));
        Ok(())
    }

    pub(super) fn take_frontier(&mut self, peer: DeviceId, bytes: &[u8]) -> Result<(), ReplicaError<S::Error>> {
        let signed = SignedFrontier::decode(self.space(), bytes).map_err(Violation::Frontier)?;
        if signed.device != peer {
            return Err(Violation::ForeignFrontier.into());
        }
        let log = self.identity.log;
        let (fork, own) = self.shelf.write(ReplicaError::Store, |write| {
            let fork = signed.frontier.find_fork_with(write).map_err(ReplicaError::Store)?;
            let own = LogRead::frontier(write).map_err(ReplicaError::Store)?.number(log);
            write.put_peer_frontier(peer, bytes).map_err(ReplicaError::Store)?;
            Ok((fork, own))
        })?;
        if let Err(fork) = fork {
            self.stop_for(Stop::Fork(fork));
            return Ok(());
        }
        if signed.frontier.number(self.identity.log) > own {
            self.stop_for(Stop::OlderStore);
            return Ok(());
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            match &mut peer.frontier {
                // What was sent since it spoke is on its way.
                Some(known) => known.merge(&signed.frontier).map_err(Stop::Fork).map_err(ReplicaError::Stopped)?,
                None => peer.frontier = Some(signed.frontier),
            }
        }
        self.send_lacking(peer)
    }

    pub(super) fn send_lacking_to_all(&mut self) -> Result<(), ReplicaError<S::Error>> {
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.send_lacking(peer)?;
        }
        Ok(())
    }

    /// Sends a peer what it lacks, in causal order, as much as may be on its way.
    pub(super) fn send_lacking(&mut self, to: DeviceId) -> Result<(), ReplicaError<S::Error>> {
        if self.stop.is_some() || !self.is_member(to) {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(&to) else { return Ok(()) };
        let Some(theirs) = &mut peer.frontier else { return Ok(()) };
        let snapshot = self.shelf.snapshot().map_err(ReplicaError::Store)?;
        let mut lacking = Lacking::new(&snapshot, theirs).map_err(ReplicaError::Store)?;
        let (mut frames, mut frame, mut len) = (Vec::new(), Vec::new(), 0);
        while peer.sending_len < SENDING_LEN_MAX {
            let Some(point) = lacking.next_point().map_err(ReplicaError::Store)? else { break };
            let bytes = snapshot.entry_bytes(point).map_err(ReplicaError::Store)?;
            let meta = LogRead::entry(&snapshot, point).map_err(ReplicaError::Store)?;
            let (Some(bytes), Some(meta)) = (bytes, meta) else { break };
            if len + bytes.len() > LOG_FRAME_LEN_MAX - FRAME_RESERVE_LEN {
                frames.push(std::mem::take(&mut frame));
                len = 0;
            }
            len += bytes.len() + 8;
            peer.sending_len += bytes.len();
            theirs.advance(point.log, Position { number: point.number, hash: meta.hash });
            frame.push(ByteBuf::from(bytes));
        }
        if !frame.is_empty() {
            frames.push(frame);
        }
        for entries in frames {
            self.send(to, wire::Log::Entries(entries));
        }
        Ok(())
    }

    pub(super) fn take_entries(&mut self, peer: DeviceId, entries: Vec<ByteBuf>) -> Result<(), ReplicaError<S::Error>> {
        let space = self.space();
        let mut decoded = Vec::with_capacity(entries.len());
        for bytes in entries {
            match Entry::decode(space, bytes.into_vec()) {
                Ok(entry) => decoded.push(entry),
                // Signed by a member: a newer version wrote it. An unknown format byte alone could be anybody's.
                Err(EntryError::UnknownKind { .. }) => {
                    self.stop_for(Stop::NeedsNewerVersion);
                    return Ok(());
                }
                Err(error) => return Err(Violation::Entry(error).into()),
            }
        }
        self.receive(peer, decoded)
    }

    /// Checks and applies entries, all in one transaction, and then what waited for them.
    pub(super) fn receive(&mut self, from: DeviceId, entries: Vec<Entry>) -> Result<(), ReplicaError<S::Error>> {
        if entries.is_empty() {
            return Ok(());
        }
        let Received { applied, touched, stop } = self.check_and_apply(from, entries.into())?;
        if let Some(stop) = stop {
            self.stop_for(stop);
            return Ok(());
        }
        if applied.is_empty() {
            return Ok(());
        }
        if let Some(Peer { frontier: Some(theirs), .. }) = self.peers.get_mut(&from) {
            for (point, position) in &applied {
                if theirs.number(point.log) < point.number {
                    theirs.advance(point.log, *position);
                }
            }
        }
        self.materialised = None;
        self.actions.push_back(Action::Plan(touched));
        for peer in self.peers.iter().filter(|(_, peer)| peer.is_told).map(|(id, _)| *id).collect::<Vec<_>>() {
            self.say_frontier(peer)?;
        }
        self.send_lacking_to_all()
    }

    fn check_and_apply(
        &mut self,
        from: DeviceId,
        mut queue: VecDeque<Entry>,
    ) -> Result<Received, ReplicaError<S::Error>> {
        let Self { shelf, records, identity, peers, .. } = self;
        shelf.write(ReplicaError::Store, |write| {
            let mut received = Received { applied: Vec::new(), touched: BTreeSet::new(), stop: None };
            while let Some(entry) = queue.pop_front() {
                let (point, hash) = (entry.point(), entry.hash());
                let outcome = match check(&entry, write, records, |epoch| identity.secrets.get(&epoch)) {
                    Ok(outcome) => outcome,
                    Err(CheckError::Store(error)) => return Err(ReplicaError::Store(error)),
                    Err(_) => {
                        received.stop = Some(Stop::NeedsNewerVersion);
                        break;
                    }
                };
                match outcome {
                    Outcome::Known => received.applied.push((point, Position { number: point.number, hash })),
                    Outcome::Fork(fork) => {
                        received.stop = Some(Stop::Fork(fork));
                        break;
                    }
                    Outcome::Waits(missing) => {
                        if let Some(peer) = peers.get_mut(&from) {
                            peer.waiting.insert(entry, missing).map_err(|_| Violation::TooManyWaiting)?;
                        }
                    }
                    Outcome::Checked(checked) => {
                        received.touched.extend(apply(write, &entry, &checked).map_err(ReplicaError::Store)?);
                        received.applied.push((point, Position { number: point.number, hash }));
                        for peer in peers.values_mut() {
                            queue.extend(peer.waiting.take_after_entry(hash));
                        }
                    }
                }
            }
            Ok(received)
        })
    }

    /// Writes the beginning of the own log.
    pub(super) fn write_start(&mut self, rng: &mut impl rand_core::CryptoRng) -> Result<(), ReplicaError<S::Error>> {
        let Self { shelf, records, identity, .. } = self;
        let pen = Pen::of(records, identity)?;
        shelf.write(ReplicaError::Store, |write| {
            let written = pen.write(write, Draft::Start(identity.start.clone()), rng)?;
            apply(write, &written.entry, &written.checked).map_err(ReplicaError::Store)
        })?;
        Ok(())
    }

    /// Writes the next entry of the own log, with the rows of base and the contents that belong to it, in one
    /// transaction.
    pub(super) fn write_found(
        &mut self,
        found: Found,
        contents: &BTreeMap<ContentHash, Contents>,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Vec<FileId>, ReplicaError<S::Error>> {
        let Self { shelf, records, identity, .. } = self;
        let pen = Pen::of(records, identity)?;
        let actor = ActorId::of_log(records.space(), identity.log);
        let (is_entry, ids, touched) = shelf.write(ReplicaError::Store, |write| {
            let ScanOutcome { ops, base, ids, unsettled } = found.decide(write, actor).map_err(ReplicaError::Store)?;
            let mut touched = unsettled;
            if !ops.is_empty() {
                let draft = |op: &Op| DraftOp { item: op.item, write: op.write.clone(), pred: op.pred.clone() };
                let written = pen.write(write, Draft::Index(ops.iter().map(draft).collect()), rng)?;
                let is_as_found =
                    matches!(&written.checked.verdict, Verdict::Applies(Body::Index(change, _)) if change.ops == ops);
                if !is_as_found {
                    return Err(ReplicaError::Write("the entry does not say what the scan found".into()));
                }
                touched.extend(apply(write, &written.entry, &written.checked).map_err(ReplicaError::Store)?);
            }
            for (content, Contents { chunks, pages }) in contents {
                write.put_contents(*content, chunks, pages).map_err(ReplicaError::Store)?;
            }
            write.put_base(base).map_err(ReplicaError::Store)?;
            write.put_unsettled(touched.clone()).map_err(ReplicaError::Store)?;
            Ok((!ops.is_empty(), ids, touched))
        })?;
        if is_entry {
            self.materialised = None;
        }
        self.actions.push_back(Action::Plan(touched));
        Ok(ids)
    }
}

/// What writes entries of the own log.
struct Pen<'a> {
    records: &'a Records,
    log: LogId,
    key: SigningKey,
    membership: Vec<RecordHash>,
    secret: &'a EpochSecret,
}

impl<'a> Pen<'a> {
    fn of<E>(records: &'a Records, identity: &'a Identity) -> Result<Self, ReplicaError<E>> {
        let epoch = records.epoch().map_err(|_| ReplicaError::Stopped(Stop::NeedsNewerVersion))?;
        let Some(secret) = identity.secrets.get(&epoch) else {
            return Err(ReplicaError::Write("the secret of the current epoch is not here".into()));
        };
        let key = identity.keys.signing_key();
        Ok(Self { records, log: identity.log, key, membership: records.heads(), secret })
    }

    fn write<W: ShelfWrite>(
        &self,
        write: &W,
        draft: Draft,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Written, ReplicaError<W::Fault>> {
        let heads = current_heads(write, self.log).map_err(ReplicaError::Store)?;
        let setting = Setting { heads: &heads, membership: &self.membership, secret: self.secret };
        let writer = LogWriter::new(&self.key, self.records.space(), self.log.incarnation);
        match writer.write(write, self.records, &setting, draft, rng) {
            Ok(written) => Ok(written),
            Err(WriteError::Store(error)) => Err(ReplicaError::Store(error)),
            Err(error) => Err(ReplicaError::Write(error.to_string())),
        }
    }
}

/// Keeps a checked entry, and what it does to the index; gives the items whose view that may change.
fn apply<W: ShelfWrite>(write: &mut W, entry: &Entry, checked: &Checked) -> Result<BTreeSet<FileId>, W::Fault> {
    write.put_entry(entry, checked)?;
    let mut overlay = Overlay::new(write);
    match &checked.verdict {
        Verdict::Applies(Body::Index(change, _)) => drop(overlay.apply(&change.ops)?),
        Verdict::Applies(Body::Start(start)) => {
            let actor = ActorId::of_log(IndexRead::space(overlay.below()), entry.point().log);
            overlay.put_label(actor, start.label.clone());
        }
        Verdict::Applies(Body::Seen) | Verdict::Void(_) => return Ok(BTreeSet::new()),
    }
    let changes = overlay.into_changes();
    let touched = changes.touched.clone();
    write.put_index(changes)?;
    Ok(touched)
}

/// What became of some entries.
struct Received {
    /// Which are here now, new or known before.
    applied: Vec<(EntryPoint, Position)>,
    /// Items whose view may have changed.
    touched: BTreeSet<FileId>,
    /// Why the space stops.
    stop: Option<Stop>,
}

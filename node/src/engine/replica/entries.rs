//! Telling frontiers, sending what a peer lacks, checking and applying what it sends, writing one's own.

use std::collections::{BTreeSet, VecDeque};

use ed25519_dalek::SigningKey;
use serde_bytes::ByteBuf;
use zerocloud_crdt::codec::DecodeError;
use zerocloud_crdt::id::{ActorId, DeviceId, EntryHash, FileId, Incarnation, LogId, RecordHash};
use zerocloud_crdt::index::{IndexChanges, IndexRead, Overlay};
use zerocloud_crdt::keys::EpochSecret;
use zerocloud_crdt::limits::{ENTRY_HEADS_COUNT_MAX, INCARNATION_COUNT_MAX, LOG_FRAME_LEN_MAX};
use zerocloud_crdt::log::check::{CheckError, check};
use zerocloud_crdt::log::heads::current_heads;
use zerocloud_crdt::log::writer::WriteError;
use zerocloud_crdt::log::{
    Body, Checked, Draft, DraftOp, Entry, EntryError, EntryPoint, Head, Lacking, LogRead, LogWriter, Outcome, Position,
    Setting, SignedFrontier, Start, Verdict, Written,
};
use zerocloud_crdt::membership::Records;
use zerocloud_crdt::mutated;
use zerocloud_crdt::register::Op;
use zerocloud_crdt::scan::ScanOutcome;
use zerocloud_crdt::wire;

use super::forks::{forget_former_names, replay};
use super::{Action, FRAME_RESERVE_LEN, Identity, Replica, ReplicaError, SENDING_LEN_MAX, Stop, Violation};
use crate::engine::found::FoundWith;
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
        self.compare_words(&signed)?;
        let log = self.identity.log;
        let theirs = self.shelf.write(ReplicaError::Store, |write| {
            let told = signed.frontier.position(log);
            write.put_peer_frontier(peer, bytes).map_err(ReplicaError::Store)?;
            let branches = LogRead::branches(write).map_err(ReplicaError::Store)?;
            if let Some(Position { number, hash }) = told
                && branches.locate(write, EntryPoint { log, number }, hash).map_err(ReplicaError::Store)?.is_none()
            {
                write.begin_anew(peer).map_err(ReplicaError::Store)?;
            }
            branches.translate(write, &signed.frontier).map_err(ReplicaError::Store)
        })?;
        if self.peers.get(&peer).is_some_and(|peer| peer.frontier.is_none()) {
            // A folder that waits for a member's index looks how far this one's goes.
            self.actions.push_back(Action::Plan(BTreeSet::new()));
            self.hand_on(peer, &theirs)?;
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            match &mut peer.frontier {
                // What was sent since it spoke is on its way.
                Some(known) => theirs.iter().for_each(|(log, position)| known.advance(log, position)),
                None => peer.frontier = Some(theirs),
            }
            peer.told = Some(signed);
        }
        self.judge(peer)?;
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
        let own = self.identity.log;
        let Some(peer) = self.peers.get_mut(&to) else { return Ok(()) };
        let Some(theirs) = &mut peer.frontier else { return Ok(()) };
        let snapshot = self.shelf.snapshot().map_err(ReplicaError::Store)?;
        let mut lacking = Lacking::new(&snapshot, theirs).map_err(ReplicaError::Store)?;
        let (mut frames, mut frame, mut len) = (Vec::new(), Vec::new(), 0);
        while peer.sending_len < SENDING_LEN_MAX {
            let Some(point) = lacking.next_point().map_err(ReplicaError::Store)? else { break };
            if point.log != own && mutated!(UnpassedEntries) {
                continue;
            }
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
        let Received { applied, touched, is_replayed, stop } = self.check_and_apply(from, entries.into())?;
        if let Some(stop) = stop {
            self.stop_for(stop);
            return Ok(());
        }
        if applied.is_empty() {
            return Ok(());
        }
        let applied = self.places_of(applied)?;
        if is_replayed || self.is_told_of_others(&applied) {
            self.translate_frontiers()?;
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.has_brought = true;
            for (point, position) in &applied {
                peer.came.advance(point.log, *position);
                if let Some(theirs) = &mut peer.frontier {
                    theirs.advance(point.log, *position);
                }
            }
        }
        self.judge_all()?;
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
            let mut received = Received::default();
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
                    Outcome::Known => received.applied.push((point, hash)),
                    Outcome::Fork(_) if mutated!(DroppedBranch) => {}
                    Outcome::Fork(_) => {
                        received.touched.extend(replay(write, records, &identity.secrets, &entry)?);
                        received.is_replayed = true;
                        if point.log == identity.log {
                            write.begin_anew(from).map_err(ReplicaError::Store)?;
                        }
                        queue.push_front(entry);
                    }
                    Outcome::Waits(missing) => {
                        if let Some(peer) = peers.get_mut(&from) {
                            peer.waiting.insert(entry, missing).map_err(|_| Violation::TooManyWaiting)?;
                        }
                    }
                    Outcome::Checked(checked) => {
                        if point.log == identity.log {
                            write.begin_anew(from).map_err(ReplicaError::Store)?;
                        }
                        received.touched.extend(apply(write, &entry, &checked).map_err(ReplicaError::Store)?);
                        received.applied.push((point, hash));
                        for peer in peers.values_mut() {
                            queue.extend(peer.waiting.take_after_entry(hash));
                        }
                    }
                }
            }
            Ok(received)
        })
    }

    /// Whether a peer told of another entry at one of these places before it was known here that it is another: who counts
    /// numbers alone would leave out what stands there here.
    fn is_told_of_others(&self, entries: &[(EntryPoint, Position)]) -> bool {
        let frontiers = || self.peers.values().filter_map(|peer| peer.frontier.as_ref());
        entries.iter().any(|(point, here)| {
            let mut told = frontiers().filter_map(|theirs| theirs.position(point.log));
            told.any(|told| told.number == here.number && told.hash != here.hash)
        })
    }

    /// Where entries stand that are here, by the places in their headers.
    fn places_of(
        &self,
        entries: Vec<(EntryPoint, EntryHash)>,
    ) -> Result<Vec<(EntryPoint, Position)>, ReplicaError<S::Error>> {
        let snapshot = self.shelf.snapshot().map_err(ReplicaError::Store)?;
        let branches = LogRead::branches(&snapshot).map_err(ReplicaError::Store)?;
        let mut places = Vec::with_capacity(entries.len());
        for (point, hash) in entries {
            let place = if branches.is_empty() {
                Some(point)
            } else {
                branches.locate(&snapshot, point, hash).map_err(ReplicaError::Store)?.map(|(point, _)| point)
            };
            places.extend(place.map(|place| (place, Position { number: place.number, hash })));
        }
        Ok(places)
    }

    /// Writes the beginning of the own log.
    pub(super) fn write_start(&mut self, rng: &mut impl rand_core::CryptoRng) -> Result<(), ReplicaError<S::Error>> {
        let Self { shelf, records, identity, .. } = self;
        let pen = Pen::of(records, identity)?;
        shelf.write(ReplicaError::Store, |write| pen.begin(write, identity.start.clone(), rng))
    }

    /// Writes the next entries of the own log, one for each that was found, with the rows of base and the contents that
    /// belong to them, in one transaction.
    pub(super) fn write_found(
        &mut self,
        all: Vec<FoundWith>,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Vec<Vec<FileId>>, ReplicaError<S::Error>> {
        let Self { shelf, records, identity, .. } = self;
        let mut pen = Pen::of(records, identity)?;
        let mut fresh = Incarnation([0; 8]);
        rng.fill_bytes(&mut fresh.0);
        let (is_entry, ids, touched, begun) = shelf.write(ReplicaError::Store, |write| {
            let noted = write.incarnation().map_err(ReplicaError::Store)?;
            let begun = (noted != Some(identity.log.incarnation)).then_some(fresh);
            if let Some(incarnation) = begun {
                pen.log.incarnation = incarnation;
            }
            let actor = ActorId::of_log(records.space(), pen.log);
            let (mut is_entry, mut all_ids) = (false, Vec::with_capacity(all.len()));
            let (mut touched, mut unsettled) = (BTreeSet::new(), BTreeSet::new());
            for FoundWith { found, contents } in all {
                let mut decided = found.decide(write, actor).map_err(ReplicaError::Store)?;
                forget_former_names(write, &mut decided).map_err(ReplicaError::Store)?;
                let ScanOutcome { ops, base, ids, unsettled: left, changes } = decided;
                all_ids.push(ids);
                unsettled.extend(left);
                if !ops.is_empty() {
                    if begun.is_some() && !is_entry {
                        let earlier = earlier_of(write, identity.log).map_err(ReplicaError::Store)?;
                        pen.begin(write, Start { label: identity.start.label.clone(), earlier }, rng)?;
                    }
                    is_entry = true;
                    touched.extend(pen.write_ops(write, &ops, changes, rng)?);
                }
                for (content, Contents { chunks, pages }) in contents {
                    write.put_contents(content, &chunks, &pages).map_err(ReplicaError::Store)?;
                }
                write.put_base(base).map_err(ReplicaError::Store)?;
            }
            // What the index touched waits to be planned by that.
            unsettled.retain(|item| !touched.contains(item));
            write.put_unsettled(unsettled.clone()).map_err(ReplicaError::Store)?;
            touched.append(&mut unsettled);
            Ok((is_entry, all_ids, touched, begun))
        })?;
        if is_entry {
            self.identity.log.incarnation = begun.unwrap_or(self.identity.log.incarnation);
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

    /// Writes the beginning of the log, from which on it is the one that this device writes.
    fn begin<W: ShelfWrite>(
        &self,
        write: &mut W,
        start: Start,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<(), ReplicaError<W::Fault>> {
        let written = self.write(write, Draft::Start(start), rng)?;
        apply(write, &written.entry, &written.checked).map_err(ReplicaError::Store)?;
        write.put_incarnation(self.log.incarnation).map_err(ReplicaError::Store)
    }

    /// Writes operations as the next entry, and applies it; gives the items whose view may be another. `changes` are what
    /// they change in the index, if that is known.
    fn write_ops<W: ShelfWrite>(
        &self,
        write: &mut W,
        ops: &[Op],
        changes: Option<IndexChanges>,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<BTreeSet<FileId>, ReplicaError<W::Fault>> {
        let draft = |op: &Op| DraftOp { item: op.item, write: op.write.clone(), pred: op.pred.clone() };
        let written = self.write(write, Draft::Index(ops.iter().map(draft).collect()), rng)?;
        let is_as_found =
            matches!(&written.checked.verdict, Verdict::Applies(Body::Index(change, _)) if change.ops == ops);
        if !is_as_found {
            return Err(ReplicaError::Write("the entry does not say what the scan found".into()));
        }
        match changes {
            Some(changes) => {
                write.put_entry(&written.entry, &written.checked).map_err(ReplicaError::Store)?;
                put_index(write, changes).map_err(ReplicaError::Store)
            }
            None => apply(write, &written.entry, &written.checked).map_err(ReplicaError::Store),
        }
    }

    /// Writes the next entry, and before it those that name what it has no room to name. A start leaves them to its next.
    fn write<W: ShelfWrite>(
        &self,
        write: &mut W,
        draft: Draft,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Written, ReplicaError<W::Fault>> {
        let mut heads = current_heads(write, self.log).map_err(ReplicaError::Store)?;
        while heads.len() > ENTRY_HEADS_COUNT_MAX && !matches!(draft, Draft::Start(_)) {
            heads.truncate(ENTRY_HEADS_COUNT_MAX);
            let seen = self.compose(write, &heads, Draft::Seen, rng)?;
            apply(write, &seen.entry, &seen.checked).map_err(ReplicaError::Store)?;
            heads = current_heads(write, self.log).map_err(ReplicaError::Store)?;
        }
        heads.truncate(ENTRY_HEADS_COUNT_MAX);
        self.compose(write, &heads, draft, rng)
    }

    fn compose<W: ShelfWrite>(
        &self,
        write: &W,
        heads: &[Head],
        draft: Draft,
        rng: &mut impl rand_core::CryptoRng,
    ) -> Result<Written, ReplicaError<W::Fault>> {
        let setting = Setting { heads, membership: &self.membership, secret: self.secret };
        let writer = LogWriter::new(&self.key, self.records.space(), self.log.incarnation);
        match writer.write(write, self.records, &setting, draft, rng) {
            Ok(written) => Ok(written),
            Err(WriteError::Store(error)) => Err(ReplicaError::Store(error)),
            Err(error) => Err(ReplicaError::Write(error.to_string())),
        }
    }
}

/// The incarnations of the device that writes `log`, which is one of them, ascending.
fn earlier_of<R: LogRead>(log: &R, current: LogId) -> Result<Vec<Incarnation>, R::Error> {
    let frontier = log.frontier()?;
    let own = frontier.iter().map(|(log, _)| log).filter(|log| log.author == current.author);
    let mut earlier: BTreeSet<Incarnation> = own.map(|log| log.incarnation).collect();
    earlier.insert(current.incarnation);
    Ok(earlier.into_iter().take(INCARNATION_COUNT_MAX).collect())
}

/// Keeps a checked entry, and what it does to the index; gives the items whose view that may change.
pub(super) fn apply<W: ShelfWrite>(
    write: &mut W,
    entry: &Entry,
    checked: &Checked,
) -> Result<BTreeSet<FileId>, W::Fault> {
    write.put_entry(entry, checked)?;
    let mut overlay = Overlay::new(write);
    let space = IndexRead::space(overlay.below());
    let actor = ActorId::of_log(space, checked.point.log);
    if let Some(of) = checked.fork_of
        && let Some(label) = overlay.below().label(ActorId::of_log(space, of))?
    {
        overlay.put_label(actor, label);
    }
    match &checked.verdict {
        Verdict::Applies(Body::Index(change, _)) => drop(overlay.apply(&change.ops)?),
        Verdict::Applies(Body::Start(start)) => {
            overlay.put_label(actor, start.label.clone());
        }
        Verdict::Applies(Body::Seen) | Verdict::Void(_) if checked.fork_of.is_none() => return Ok(BTreeSet::new()),
        Verdict::Applies(Body::Seen) | Verdict::Void(_) => {}
    }
    let changes = overlay.into_changes();
    put_index(write, changes)
}

/// Keeps what operations change in the index; gives the items whose view that may change.
fn put_index<W: ShelfWrite>(write: &mut W, changes: IndexChanges) -> Result<BTreeSet<FileId>, W::Fault> {
    let touched = changes.touched.clone();
    write.put_index(changes)?;
    Ok(touched)
}

/// What became of some entries.
#[derive(Default)]
struct Received {
    /// Which are here now, new or known before, by the places in their headers.
    applied: Vec<(EntryPoint, EntryHash)>,
    /// Items whose view may have changed.
    touched: BTreeSet<FileId>,
    /// Whether all was applied anew.
    is_replayed: bool,
    /// Why the space stops.
    stop: Option<Stop>,
}

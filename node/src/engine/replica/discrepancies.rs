//! What does not fit in what a member says that it has: it goes back behind its own word, tells others another one, or
//! keeps back what it says is there.
//!
//! Frontiers only grow and are signed, so two of one device are either equal or one has all of the other. Each is held
//! against the one before it on every contact; what a member told others they hand on, where the other lacks something
//! of it. Nothing here changes what is applied: an old state has nothing that is not here, and what is withheld comes
//! from whoever else has it. A discrepancy ends when the member tells of all that it was known to have.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::limits::HANDED_ON_COUNT_MAX;
use zerocloud_crdt::log::{Frontier, LogRead, Missing, SignedFrontier, WaitingPool};
use zerocloud_crdt::mutated;
use zerocloud_crdt::wire;

use super::{Action, Replica, ReplicaError, Violation};
use crate::engine::shelf::{Shelf, ShelfRead, ShelfWrite};

/// Rounds ([`Replica::handle_round`]) in which a member owes something and brings nothing before it is named.
pub const OWING_ROUND_COUNT: u32 = 3;

/// How a member's word and what it does differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscrepancyKind {
    /// It says that it has less than it said before: it was put back to an older state, or it hides what it has.
    WentBack,
    /// It told different devices of states of which none follows the other.
    TwoViews,
    /// It says that it has entries, and does not bring them.
    Withholds,
}

/// What does not fit in what a member says that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discrepancy {
    /// In which way.
    pub kind: DiscrepancyKind,
    /// How many entries it does not show.
    pub entry_count: u64,
    /// Its signed frontiers that show it, as received: one that it does not keep to, and the one that it tells instead.
    pub proof: Vec<ByteBuf>,
    /// Whether it is told of. Not before all is here that the member says it has: of what is not, it can't be known
    /// whether it is what seems to be missing, in another branch of a forked log.
    pub is_named: bool,
}

/// The last word of a member: what it signed, and what came from it since.
struct Word {
    signed: SignedFrontier,
    came: Frontier,
}

impl<S: Shelf> Replica<S> {
    /// The members whose word and deeds differ.
    pub fn discrepancies(&self) -> BTreeMap<DeviceId, Discrepancy> {
        let named = self.discrepancies.iter().filter(|(_, discrepancy)| discrepancy.is_named);
        named.map(|(device, discrepancy)| (*device, discrepancy.clone())).collect()
    }

    /// A while has passed in which whoever owes something could have brought it. The driver says how long a round is.
    ///
    /// # Errors
    /// Those of the store.
    pub fn handle_round(&mut self) -> Result<(), ReplicaError<S::Error>> {
        if self.stop.is_some() {
            return Ok(());
        }
        for device in self.peers.keys().copied().collect::<Vec<_>>() {
            let owed = self.owed_by(device)?;
            let Some(peer) = self.peers.get_mut(&device) else { continue };
            let has_brought = std::mem::take(&mut peer.has_brought) && !has_gap(&peer.waiting);
            let rounds =
                if owed == 0 || has_brought { 0 } else { self.owing.get(&device).map_or(1, |rounds| rounds + 1) };
            match owed {
                0 => self.owing.remove(&device),
                _ => self.owing.insert(device, rounds),
            };
            if rounds >= OWING_ROUND_COUNT && !mutated!(UnnoticedGap) {
                self.name_withholding(device, owed)?;
            } else if owed == 0 && self.kind_of(device) == Some(DiscrepancyKind::Withholds) {
                self.put_discrepancy(device, None)?;
            }
        }
        Ok(())
    }

    /// Notes it if a peer's new word lacks something of the one before, which is forgotten next.
    pub(super) fn compare_words(&mut self, told: &SignedFrontier) -> Result<(), ReplicaError<S::Error>> {
        let device = told.device;
        let Some(Word { signed: earlier, .. }) = self.word_of(device)? else { return Ok(()) };
        let has_gone_back = !told.frontier.lost_since(&earlier.frontier).is_empty();
        // The first word that it does not keep to says the most.
        if !has_gone_back || self.kind_of(device).is_some_and(|kind| kind != DiscrepancyKind::Withholds) {
            return Ok(());
        }
        let discrepancy = Discrepancy {
            kind: DiscrepancyKind::WentBack,
            entry_count: 0,
            proof: vec![ByteBuf::from(earlier.as_bytes()), ByteBuf::from(told.as_bytes())],
            is_named: false,
        };
        self.put_discrepancy(device, Some(discrepancy))
    }

    /// Hands on to a peer, of which it is first known what it has, what others said they have and it lacks.
    pub(super) fn hand_on(&mut self, to: DeviceId, theirs: &Frontier) -> Result<(), ReplicaError<S::Error>> {
        let Ok(table) = self.records.table() else { return Ok(()) };
        let us = self.identity.log.author;
        let members: Vec<DeviceId> = table.rows().map(|row| row.identity.device).collect();
        let snapshot = self.shelf.snapshot().map_err(ReplicaError::Store)?;
        let branches = LogRead::branches(&snapshot).map_err(ReplicaError::Store)?;
        let mut handed_on = Vec::new();
        for device in members.into_iter().filter(|device| *device != us && *device != to) {
            let Some(Word { signed, .. }) = self.word_of(device)? else { continue };
            let said = branches.translate(&snapshot, &signed.frontier).map_err(ReplicaError::Store)?;
            if !said.lacked_by(theirs).is_empty() {
                handed_on.push(wire::Log::HandedOn(ByteBuf::from(signed.as_bytes())));
            }
            if handed_on.len() == HANDED_ON_COUNT_MAX {
                break;
            }
        }
        handed_on.into_iter().for_each(|message| self.send(to, message));
        Ok(())
    }

    /// Takes what another member told somebody else.
    pub(super) fn take_handed_on(&mut self, bytes: &[u8]) -> Result<(), ReplicaError<S::Error>> {
        let signed = SignedFrontier::decode(self.space(), bytes).map_err(Violation::Frontier)?;
        let device = signed.device;
        if device == self.identity.log.author || !self.is_member(device) {
            return Ok(());
        }
        match self.handed_on.get(&device) {
            Some(known) if signed.frontier.lacked_by(&known.frontier).is_empty() => return Ok(()),
            _ => self.handed_on.insert(device, signed),
        };
        self.judge(device)
    }

    /// Judges everyone of whom something is to be judged: more is here than before.
    pub(super) fn judge_all(&mut self) -> Result<(), ReplicaError<S::Error>> {
        let devices: BTreeSet<DeviceId> = self.discrepancies.keys().chain(self.handed_on.keys()).copied().collect();
        devices.into_iter().try_for_each(|device| self.judge(device))
    }

    /// Holds the last word of a member against what else is known of what it said.
    pub(super) fn judge(&mut self, device: DeviceId) -> Result<(), ReplicaError<S::Error>> {
        if !self.discrepancies.contains_key(&device) && !self.handed_on.contains_key(&device) {
            return Ok(());
        }
        let Some(Word { signed, came }) = self.word_of(device)? else { return Ok(()) };
        let snapshot = self.shelf.snapshot().map_err(ReplicaError::Store)?;
        let branches = LogRead::branches(&snapshot).map_err(ReplicaError::Store)?;
        let translate = |frontier: &Frontier| branches.translate(&snapshot, frontier).map_err(ReplicaError::Store);
        let told = translate(&signed.frontier)?;
        let ours = LogRead::frontier(&snapshot).map_err(ReplicaError::Store)?;
        if !told.lacked_by(&ours).is_empty() {
            return Ok(());
        }
        let mut shown = told.clone();
        came.iter().for_each(|(log, position)| shown.advance(log, position));

        let mut found = None;
        if let Some(handed_on) = self.handed_on.get(&device) {
            let elsewhere = translate(&handed_on.frontier)?;
            let is_apart = !told.lacked_by(&elsewhere).is_empty() && !mutated!(UnnoticedViews);
            let proof = [handed_on.as_bytes(), signed.as_bytes()].map(ByteBuf::from).to_vec();
            match count(&elsewhere, &shown) {
                0 => drop(self.handed_on.remove(&device)),
                entry_count if is_apart => {
                    found = Some(Discrepancy { kind: DiscrepancyKind::TwoViews, entry_count, proof, is_named: true });
                }
                _ => {}
            }
        }
        let known = self.discrepancies.get(&device);
        if found.is_none()
            && let Some(known) = known.filter(|known| known.kind != DiscrepancyKind::Withholds)
            && let Some(before) = known.proof.first().and_then(|bytes| SignedFrontier::decode(self.space(), bytes).ok())
        {
            let entry_count = count(&translate(&before.frontier)?, &shown);
            let is_named = known.is_named || !mutated!(UnnoticedRollback);
            found = (entry_count > 0).then(|| Discrepancy { entry_count, is_named, ..known.clone() });
        } else if found.is_none() {
            found = known.cloned();
        }
        self.put_discrepancy(device, found)
    }

    fn kind_of(&self, device: DeviceId) -> Option<DiscrepancyKind> {
        self.discrepancies.get(&device).map(|discrepancy| discrepancy.kind)
    }

    /// What a member said last: on its connection, or before.
    fn word_of(&self, device: DeviceId) -> Result<Option<Word>, ReplicaError<S::Error>> {
        if let Some(peer) = self.peers.get(&device)
            && let Some(signed) = &peer.told
        {
            return Ok(Some(Word { signed: signed.clone(), came: peer.came.clone() }));
        }
        let snapshot = self.shelf.snapshot().map_err(ReplicaError::Store)?;
        let stored = snapshot.peer_frontier(device).map_err(ReplicaError::Store)?;
        let signed = stored.and_then(|bytes| SignedFrontier::decode(self.space(), &bytes).ok());
        Ok(signed.map(|signed| Word { signed, came: Frontier::default() }))
    }

    /// How many entries a connected peer has by its own word and has not shown; 0 where something of ours is awaited
    /// first.
    fn owed_by(&self, device: DeviceId) -> Result<u64, ReplicaError<S::Error>> {
        let Some(peer) = self.peers.get(&device) else { return Ok(0) };
        let Some(signed) = &peer.told else { return Ok(0) };
        let missing = peer.waiting.missing();
        if missing.iter().any(|missing| !matches!(missing, Missing::Entry { .. })) {
            return Ok(0);
        }
        let snapshot = self.shelf.snapshot().map_err(ReplicaError::Store)?;
        let branches = LogRead::branches(&snapshot).map_err(ReplicaError::Store)?;
        let translate = |frontier: &Frontier| branches.translate(&snapshot, frontier).map_err(ReplicaError::Store);
        let mut shown = translate(&signed.frontier)?;
        let ours = LogRead::frontier(&snapshot).map_err(ReplicaError::Store)?;
        let unsent = count(&shown, &ours).max(missing.len() as u64);
        peer.came.iter().for_each(|(log, position)| shown.advance(log, position));
        let untold = match self.handed_on.get(&device) {
            Some(handed_on) => count(&translate(&handed_on.frontier)?, &shown),
            None => 0,
        };
        Ok(unsent.max(untold))
    }

    fn name_withholding(&mut self, device: DeviceId, entry_count: u64) -> Result<(), ReplicaError<S::Error>> {
        // What is provable says more.
        if self.kind_of(device).is_some_and(|kind| kind != DiscrepancyKind::Withholds) {
            return Ok(());
        }
        let signed = self.peers.get(&device).and_then(|peer| peer.told.as_ref());
        let proof = signed.into_iter().map(|signed| ByteBuf::from(signed.as_bytes())).collect();
        let found = Discrepancy { kind: DiscrepancyKind::Withholds, entry_count, proof, is_named: true };
        self.put_discrepancy(device, Some(found))
    }

    fn put_discrepancy(&mut self, device: DeviceId, found: Option<Discrepancy>) -> Result<(), ReplicaError<S::Error>> {
        if self.discrepancies.get(&device) == found.as_ref() {
            return Ok(());
        }
        let mut all = self.discrepancies.clone();
        match found {
            Some(found) => all.insert(device, found),
            None => all.remove(&device),
        };
        self.shelf.write(ReplicaError::Store, |write| write.put_discrepancies(&all).map_err(ReplicaError::Store))?;
        let before = self.discrepancies();
        self.discrepancies = all;
        if self.discrepancies() != before {
            self.actions.push_back(Action::Discrepancies);
        }
        Ok(())
    }
}

/// How many entries `theirs` has and `ours` lacks.
fn count(theirs: &Frontier, ours: &Frontier) -> u64 {
    theirs.lacked_by(ours).into_iter().map(|(_, numbers)| numbers.end() - numbers.start() + 1).sum()
}

/// Whether something waits for an entry that its sender did not send, though it sends each after all that it names.
fn has_gap(waiting: &WaitingPool) -> bool {
    waiting.missing().iter().any(|missing| matches!(missing, Missing::Entry { .. }))
}

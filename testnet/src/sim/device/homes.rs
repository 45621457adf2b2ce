//! Homes of devices: what is in them at the first start, and how they are copied, put back and lost.
#![allow(clippy::unwrap_used, reason = "a simulation ends where the world that it made is wrong")]

use std::sync::Arc;

use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use rand_core::{Rng, SeedableRng};
use zerocloud::clock::{Clock, WallTime};
use zerocloud::engine::replica::Identity;
use zerocloud::home::Fingerprint;
use zerocloud::store::{Awaited, PeerRow, SpaceStore, StoreError, Write, values};
use zerocloud::volume::Volume;
use zerocloud_crdt::id::LogId;
use zerocloud_crdt::log::{LogRead, SignedFrontier};
use zerocloud_crdt::name::CONTROL;

use super::{Device, Watching};
use crate::sim::clock::SimClock;
use crate::sim::disk::SimDisk;
use crate::sim::founding::Founding;
use crate::sim::volume::Crash;

/// How home and folder of a device are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// With their whole machine, a virtual one: nothing tells the copy from what was copied.
    Machine,
    /// With their disk, which is put into another machine.
    Disk,
    /// File by file, to another machine.
    Files,
}

impl Device {
    /// What the device writes as. The store of a device that starts for the first time gets what belongs in it.
    pub(super) fn identity_in(&self, store: &SpaceStore, seed: u64) -> Result<Identity, StoreError> {
        let identity = self.founding.identity(self.identity);
        let snapshot = store.snapshot()?;
        let logs = LogRead::frontier(&snapshot)?;
        let is_here = snapshot.value(values::HOME)? == Some(self.home);
        if let Some(incarnation) = snapshot.value(values::INCARNATION)?.filter(|_| is_here) {
            let log = LogId { incarnation, ..identity.log };
            if logs.position(log).is_some() {
                // Somebody may have joined while this device was off.
                if snapshot.records()?.len() < self.founding.known_records().len() {
                    store.write(|write| self.put_records(write))?;
                }
                return Ok(Identity { log, ..identity });
            }
        }
        let mut incarnation = identity.log.incarnation;
        if logs.position(identity.log).is_some() {
            ChaCha20Rng::seed_from_u64(!seed).fill_bytes(&mut incarnation.0);
        }
        let (log, start) = store.write::<_, StoreError>(|write| {
            self.put_records(write)?;
            write.take_up_log(identity.log.author, self.home, &identity.start.label, incarnation)
        })?;
        Ok(Identity { log, start, ..identity })
    }

    fn put_records(&self, write: &mut Write<'_>) -> Result<(), StoreError> {
        let mut records = self.founding.known_records().into_iter();
        records.try_for_each(|(hash, bytes)| write.put_record(*hash, bytes).map(drop))
    }

    /// The device hears who has joined, if it runs; else with its next start.
    pub fn hear_who_joined(&self) {
        if let Some(process) = &self.process {
            // Whose disk stopped for good hears it after the next start.
            let _ = process.store.write::<_, StoreError>(|write| self.put_records(write));
        }
    }

    /// What is made of this device when home and folder are copied, as they are, to begin with the next start.
    #[must_use]
    pub fn copy(&self, number: u8, how: Copying) -> Self {
        // Apart, so that no two disks give one time to two edits of a file.
        let clock = SimClock::new(WallTime(self.clock.wall_time().0.saturating_add(i64::from(number) * 1_000)));
        let volume = self.volume.copy(Arc::new(clock.clone()), how == Copying::Files);
        let machine = if how == Copying::Machine { self.home.machine } else { [number; 32] };
        Self {
            number,
            identity: self.identity,
            file_system: self.file_system,
            person: volume.person(),
            clock,
            founding: self.founding.clone(),
            home: Fingerprint { machine, ..self.home },
            disk: self.disk.copy_for(volume.clone()),
            volume,
            kept_home: None,
            lost_since: None,
            rng: ChaCha8Rng::seed_from_u64(self.rng.clone().next_u64() ^ u64::from(number)),
            process: None,
            boot_count: self.boot_count + (u64::from(how != Copying::Machine) << 32),
            last_failure: None,
            watching: Watching::Tells,
            coalesces: false,
            merges: self.merges,
        }
    }

    /// The home is gone, and with it store and keys. The folder stays, without our own directory, and joins as another
    /// device that `inviter` lets in, which says what it knows.
    pub fn join_anew(&mut self, inviter: &Self) {
        let Some(next) = self.founding.next_identity(self.identity) else { return };
        let founding = self.founding.clone();
        let Founding { space, keys, .. } = &*founding;
        let member = &keys[usize::from(inviter.identity)];
        let told = SignedFrontier::sign(&member.signing_key(), *space, inviter.frontier()).unwrap().as_bytes().to_vec();
        self.stop(Crash::Killed);
        self.identity = next;
        founding.let_in(next);
        let _ = self.person.remove_all(CONTROL.as_bytes());
        self.volume.sync_all().unwrap();
        let disk = SimDisk::new(self.volume.clone());
        let store = SpaceStore::with_backend(disk.clone(), *space).unwrap();
        store
            .write::<_, StoreError>(|write| {
                write.put_peer(member.id(), &PeerRow { frontier: told, ..PeerRow::default() })?;
                write.set(values::AWAITS_INDEX, &Awaited::Member(member.id()))
            })
            .unwrap();
        drop(store);
        self.disk = disk.restart(Crash::Killed, &mut self.rng);
    }

    /// Copies the home as it is.
    pub fn keep_home(&mut self) {
        self.kept_home = Some(self.disk.copy());
    }

    /// Puts the copy of the home in place of it, while the device is off.
    pub fn restore_home(&mut self) {
        if let Some(copy) = &self.kept_home {
            self.disk = copy.restart(Crash::Killed, &mut self.rng);
        }
    }
}

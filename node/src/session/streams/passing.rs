//! Passing on where members may be reached.
//!
//! A peer is told the newest record of each device with which it shares a space of ours, after the greeting and when a
//! newer one is learnt; it is never told of anybody else, nor believed. What it tells must be signed by the device that
//! it is about. A word of a device that we do not find in our tables is kept until they change: its record may be on its
//! way. However often a device signs a new record, one message goes out in each [`PASSING_PAUSE`], with the
//! newest.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_bytes::ByteBuf;
use zerocloud_crdt::address::SignedAddresses;
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::limits::PASSED_ADDRESSES_COUNT_MAX;
use zerocloud_crdt::wire::{Control, Message};

use super::{CONTROL_PAUSE, Done, Looking, Streams, next_control};
use crate::link::RecvStream;
use crate::session::SessionError;
use crate::wire::write_frame;

/// Time between two messages with records on one connection. Devices move between networks within seconds at best, and
/// a device that signs without end is not to be spread at its own pace.
const PASSING_PAUSE: Duration = Duration::from_secs(1);

/// Records that are kept of devices which are no members, as far as is known here: a person adds few devices at a time.
const UNMET_COUNT_MAX: usize = 64;

impl Streams {
    /// Finds out what the peer may be told that it has not been, one look after the other.
    pub(super) fn pass_addresses(&mut self) {
        match self.passing {
            Looking::No => {
                self.passing = Looking::Once;
                let peer = self.conn.peer();
                let mut news = self.spaces.addresses().newer_than(&self.passed);
                news.retain(|addresses| addresses.record().device != peer);
                let spaces = self.spaces.clone();
                self.tasks.spawn(async move {
                    if !news.is_empty() {
                        let met = spaces.met_by(peer, devices(&news)).await;
                        news.retain(|addresses| met.contains(&addresses.record().device));
                    }
                    Done::Passable(news)
                });
            }
            Looking::Once => self.passing = Looking::Again,
            Looking::Again => {}
        }
    }

    /// Tells what the peer may be told, as much as a message holds.
    pub(super) async fn pass(&mut self, mut news: Vec<SignedAddresses>) -> Result<(), SessionError> {
        if news.is_empty() {
            self.rested();
            return Ok(());
        }
        if news.len() > PASSED_ADDRESSES_COUNT_MAX {
            news.truncate(PASSED_ADDRESSES_COUNT_MAX);
            self.passing = Looking::Again;
        }
        self.passed.extend(news.iter().map(|addresses| (addresses.record().device, addresses.record().counter)));
        let records = news.iter().map(|addresses| ByteBuf::from(addresses.as_bytes())).collect();
        write_frame(&mut self.control, &Control::Addresses(records).to_bytes(), Control::LEN_MAX).await?;
        let conn = self.conn.clone();
        self.tasks.spawn(async move {
            // After the end nobody is to wait for the pause.
            let _ = tokio::time::timeout(PASSING_PAUSE, conn.closed()).await;
            Done::Rested
        });
        Ok(())
    }

    /// More may be told again.
    pub(super) fn rested(&mut self) {
        if std::mem::replace(&mut self.passing, Looking::No) == Looking::Again {
            self.pass_addresses();
        }
    }

    /// The peer passes records on: finds out which of them are of members of a space that we share with it.
    pub(super) fn hear_addresses(&mut self, records: &[ByteBuf], receive: RecvStream) -> Result<(), SessionError> {
        let heard = records.iter().map(|bytes| SignedAddresses::decode(bytes));
        let heard: Vec<SignedAddresses> = heard.collect::<Result<_, _>>()?;
        self.judge_heard(heard, Some(receive));
        Ok(())
    }

    /// The tables have changed: who was no member may be one now.
    pub(super) fn judge_unmet(&mut self) {
        let unmet = std::mem::take(&mut self.unmet);
        if !unmet.is_empty() {
            self.judge_heard(unmet, None);
        }
    }

    fn judge_heard(&mut self, heard: Vec<SignedAddresses>, receive: Option<RecvStream>) {
        let (spaces, peer) = (self.spaces.clone(), self.conn.peer());
        self.tasks.spawn(async move {
            let met = spaces.met_by(peer, devices(&heard)).await;
            let (heard, unmet) = heard.into_iter().partition(|addresses| met.contains(&addresses.record().device));
            Done::Heard { heard, unmet, receive }
        });
    }

    /// Takes over what was heard of members, and hears more.
    pub(super) fn take_heard(
        &mut self,
        heard: Vec<SignedAddresses>,
        unmet: Vec<SignedAddresses>,
        receive: Option<RecvStream>,
    ) {
        self.unmet.extend(unmet);
        let surplus = self.unmet.len().saturating_sub(UNMET_COUNT_MAX);
        self.unmet.drain(..surplus);
        for addresses in heard {
            let (device, counter) = (addresses.record().device, addresses.record().counter);
            // It is not told what it has said.
            let passed = self.passed.entry(device).or_default();
            *passed = counter.max(*passed);
            self.spaces.addresses().learn(addresses);
        }
        if let Some(receive) = receive {
            self.hear_more(receive);
        }
    }

    /// Reads the next message on the control stream, when its time has come.
    pub(super) fn hear_more(&mut self, receive: RecvStream) {
        let conn = self.conn.clone();
        self.tasks.spawn(async move {
            // After the end nobody is to wait for the pause.
            let _ = tokio::time::timeout(CONTROL_PAUSE, conn.closed()).await;
            next_control(receive).await
        });
    }

    /// Our own record is passed on like others': who did not know the peer as a member when it greeted has kept it back.
    pub(in crate::session) fn introduce(&mut self, own: SignedAddresses) {
        if !self.ours.is_empty() {
            self.passed.insert(own.record().device, own.record().counter);
        }
        self.spaces.addresses().learn(own);
    }

    /// The peer's own word counts as soon as it is a member of a space of ours.
    pub(super) fn learn_of_peer(&mut self) {
        if !self.ours.is_empty()
            && let Some(addresses) = self.peer_addresses.take()
        {
            self.spaces.addresses().learn(addresses);
        }
    }
}

fn devices(addresses: &[SignedAddresses]) -> BTreeSet<DeviceId> {
    addresses.iter().map(|addresses| addresses.record().device).collect()
}

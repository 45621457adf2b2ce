//! What the store notes of a home that was copied, restored, rolled back or lost: that its device's history goes on
//! under a new incarnation, that a member's index is read before anything is done to files, and what the user is told.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zerocloud_crdt::id::{DeviceId, Incarnation, LogId};
use zerocloud_crdt::log::{LogRead, Start};
use zerocloud_crdt::name::Name;

use super::{StoreError, Write, values};
use crate::home::Fingerprint;

/// Whose index is read before anything is scanned or materialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Awaited {
    /// That of the first member that tells its frontier.
    AnyMember,
    /// That of this one, as far as it told.
    Member(DeviceId),
    /// Nobody's: what is here is enough.
    Nobody,
}

/// Something that happened to home, store or folder, and that the user is told until the node is started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Notice {
    /// The home lies elsewhere than it did: it was copied, moved or restored.
    HomeMoved,
    /// The store is older than the folder.
    StoreOlder,
    /// A peer knew more of this device's own log than was here.
    PeerKnewMore,
    /// The folder is older than the store.
    FolderOlder,
    /// What was begun in the folder could not be judged.
    Unjudged,
}

impl Notice {
    /// What to tell the user.
    pub const fn text(self) -> &'static str {
        match self {
            Self::HomeMoved => {
                "this device's home was copied, moved or restored; it goes on as a new history of the same device, and \
                 nothing is to be done. Should the other copy be in use as well: let each have a home of its own (join \
                 with a ticket)"
            }
            Self::StoreOlder => {
                "this device's home is older than this folder: it was restored from a backup; what other members know \
                 of these files is no edit"
            }
            Self::PeerKnewMore => {
                "another device had changes of this one that were not here: this machine was put back to an older \
                 state; the changes were taken back from there"
            }
            Self::FolderOlder => {
                "this folder was put back from an older copy: what stands there now counts as edits; `zerocloud \
                 history` and `restore` have what was there before"
            }
            Self::Unjudged => {
                "folder and home were not left by one node: what was being written when it ended was not gone on with, \
                 and files of that moment are kept as versions"
            }
        }
    }
}

impl Write<'_> {
    /// Which log a device goes on with when it starts, and how that begins if it has not yet: the one that it wrote, where
    /// its `home` lies where it did; else, and where it is to begin anew, one of the incarnation `fresh`. What the user was
    /// told of earlier starts is over.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn take_up_log(
        &mut self,
        author: DeviceId,
        home: Fingerprint,
        label: &Name,
        fresh: Incarnation,
    ) -> Result<(LogId, Start), StoreError> {
        let is_same_home = self.value(values::HOME)?.is_none_or(|noted| noted == home);
        self.unset(values::NOTICES)?;
        if !is_same_home {
            self.put_notice(Notice::HomeMoved)?;
            // Its folders may have gone with it to another disk. They are known by their markers.
            self.unset(values::FILESYSTEM)?;
        }
        let noted = self.value(values::INCARNATION)?.filter(|_| is_same_home);
        let incarnation = noted.unwrap_or(fresh);
        let log = LogId { author, incarnation };
        let logs = LogRead::frontier(self)?;
        let earlier = logs.iter().map(|(log, _)| log).filter(|other| other.author == author && *other != log);
        let earlier = earlier.map(|other| other.incarnation).collect();
        let label = match noted {
            Some(_) => self.value(values::LABEL)?.unwrap_or_else(|| label.clone()),
            None => label.clone(),
        };
        self.set(values::INCARNATION, &incarnation)?;
        self.set(values::LABEL, &label)?;
        self.set(values::HOME, &home)?;
        Ok((log, Start { label, earlier }))
    }

    /// Has this device's history in the space go on under a new incarnation, which begins with its next entry.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin_anew(&mut self, notice: Notice, awaited: Awaited) -> Result<(), StoreError> {
        if zerocloud_crdt::mutated!(ReusedIncarnation) {
            return Ok(());
        }
        self.unset(values::INCARNATION)?;
        self.await_index(awaited)?;
        self.put_notice(notice)
    }

    /// Has the folder take over what the log knows before its next scan. Whoever waits for more than `awaited` already
    /// waits on.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn await_index(&mut self, awaited: Awaited) -> Result<(), StoreError> {
        match (self.value(values::AWAITS_INDEX)?, awaited) {
            (Some(_), Awaited::Nobody) => Ok(()),
            // It is connected, or was just now, and does not tell it once more.
            (_, Awaited::AnyMember) => {
                let awaited = self.heard.map_or(Awaited::AnyMember, Awaited::Member);
                self.set(values::AWAITS_INDEX, &awaited)
            }
            _ => self.set(values::AWAITS_INDEX, &awaited),
        }
    }

    /// Notes something to tell the user.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_notice(&mut self, notice: Notice) -> Result<(), StoreError> {
        let mut notices: BTreeSet<Notice> = self.value(values::NOTICES)?.unwrap_or_default();
        if notices.insert(notice) { self.set(values::NOTICES, &notices) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use zerocloud_crdt::id::SpaceId;

    use super::*;
    use crate::engine::shelf::ShelfWrite;
    use crate::store::SpaceStore;

    #[test]
    fn whoever_waits_for_any_member_waits_for_the_one_that_told_before_too() {
        let peer = DeviceId([9; 32]);
        for tells_first in [true, false] {
            let store = SpaceStore::with_backend(InMemoryBackend::new(), SpaceId([1; 32])).unwrap();
            let awaited = || store.snapshot().unwrap().value(values::AWAITS_INDEX).unwrap();
            let tell = || store.write(|write| ShelfWrite::put_peer_frontier(write, peer, b"frontier")).unwrap();
            if tells_first {
                tell();
                assert_eq!(awaited(), None);
            }
            store.write(|write| write.begin_anew(Notice::StoreOlder, Awaited::AnyMember)).unwrap();
            if !tells_first {
                assert_eq!(awaited(), Some(Awaited::AnyMember));
                tell();
            }
            assert_eq!(awaited(), Some(Awaited::Member(peer)));
        }
    }
}

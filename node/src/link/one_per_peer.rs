//! One connection between two devices, though both may dial at once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use zerocloud_crdt::id::DeviceId;

use super::{CloseCode, Conn, Side};

/// Which of two connections between the same two devices stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The one that we had.
    Held,
    /// The one that came.
    Fresh,
}

/// Which of two open connections between `us` and `peer` stays. Both ends compute the same: the connection that the
/// device with the lower id dialled stays. Of two that were dialled by the same device the fresh one stays, for its
/// dialler has given the other up.
pub fn keep_which(us: DeviceId, peer: DeviceId, held: Side, fresh: Side) -> Keep {
    let lower_dialled = if us < peer { Side::Dialled } else { Side::Accepted };
    if held == fresh || fresh == lower_dialled { Keep::Fresh } else { Keep::Held }
}

/// At most one open connection to each peer, after the rule of [`keep_which`].
#[derive(Debug)]
pub struct OnePerPeer {
    us: DeviceId,
    held: BTreeMap<DeviceId, Conn>,
}

/// What became of a connection that was offered to [`OnePerPeer::offer`].
#[derive(Debug)]
pub enum Offered {
    /// It is the only one.
    Kept,
    /// It replaces this one, which was closed with [`CloseCode::Surplus`] if it was still open.
    Replaced(Conn),
    /// It was closed with [`CloseCode::Surplus`]: the one that we had stays.
    Closed,
}

impl OnePerPeer {
    /// Holds no connection of the device `us` yet.
    pub const fn new(us: DeviceId) -> Self {
        Self { us, held: BTreeMap::new() }
    }

    /// Takes a connection in, and closes the surplus one if there are two. One that is closed already never stays.
    pub fn offer(&mut self, fresh: Conn) -> Offered {
        let us = self.us;
        match self.held.entry(fresh.peer()) {
            Entry::Vacant(vacant) => {
                vacant.insert(fresh);
                Offered::Kept
            }
            Entry::Occupied(mut occupied) => {
                let held = occupied.get_mut();
                let keep = match held.close_reason() {
                    Some(_) => Keep::Fresh,
                    None => keep_which(us, fresh.peer(), held.side(), fresh.side()),
                };
                match keep {
                    Keep::Held => {
                        fresh.close(CloseCode::Surplus, SURPLUS_REASON);
                        Offered::Closed
                    }
                    Keep::Fresh => {
                        let replaced = std::mem::replace(held, fresh);
                        replaced.close(CloseCode::Surplus, SURPLUS_REASON);
                        Offered::Replaced(replaced)
                    }
                }
            }
        }
    }

    /// Takes a connection in whatever the rule says, in place of the one that is held: for a peer that has lost that one
    /// and knows it before this side does, because its process was ended and begun again.
    pub fn replace(&mut self, fresh: Conn) -> Offered {
        match self.held.insert(fresh.peer(), fresh) {
            None => Offered::Kept,
            Some(replaced) => {
                replaced.close(CloseCode::Surplus, SURPLUS_REASON);
                Offered::Replaced(replaced)
            }
        }
    }

    /// The connection to `peer`, open or just closed.
    pub fn conn(&self, peer: DeviceId) -> Option<&Conn> {
        self.held.get(&peer)
    }

    /// Every connection, by peer.
    pub fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.held.values()
    }

    /// Forgets `conn` if it is the one that is held: to be called when it is closed. Says whether it was.
    pub fn forget(&mut self, conn: &Conn) -> bool {
        match self.held.entry(conn.peer()) {
            Entry::Occupied(occupied) if occupied.get().is_same(conn) => {
                occupied.remove();
                true
            }
            _ => false,
        }
    }
}

const SURPLUS_REASON: &str = "another connection stays";

//! Peers: one connection to every device of every space, while it can be had.
//!
//! Here lives what the rest of the node sees of them: [`Peers`], the [`PeerHooks`] by which it is told, and
//! [`open_link`]. When to dial whom is decided in [`backoff`]; accepting, dialling and running sessions is in
//! `driver`, what becomes of paths is told by `paths`; what is said over a connection is [`crate::session`]'s.

pub mod backoff;
mod driver;
mod open;
mod paths;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::keys::DeviceKeys;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::wire::Hello;

pub use self::open::open_link;
use crate::clock::Clock;
use crate::link::{AddressHint, BoxFuture, Conn, Link};
use crate::session::{Greeting, Spaces};

/// What peers are told of this device, and what the driver needs to speak for it.
pub struct Us {
    /// The program and its version, for others' `status`.
    pub agent: String,
    /// How the user calls this device.
    pub name: Name,
    /// Signs this device's addresses.
    pub keys: DeviceKeys,
    /// Times the dials; its civil time counts the address records.
    pub clock: Arc<dyn Clock>,
    /// Spreads the waits between dials, so that devices do not dial in step. Draw it from the system.
    pub seed: [u8; 32],
}

/// What the rest of the node gives to the peers, and hears from them. `connected` and `disconnected` are called by one
/// task, one after the other: for each device by turns, always for the connection that was connected last. They must
/// not block.
pub trait PeerHooks: Send + Sync + 'static {
    /// All devices of all spaces but this one, and where they may be found: what their signed records, the LAN and the
    /// user say. Asked whenever it may have changed, and before each round of dials.
    fn known(&self) -> BoxFuture<'_, Vec<(DeviceId, Vec<AddressHint>)>>;

    /// Speaks with a device that wants to be paired. Cut off when the node stops.
    fn pair(&self, conn: Conn) -> BoxFuture<'_, ()>;

    /// A device has greeted. `conn` carries its session; chunk streams may be opened on it. `greeting` has its own word
    /// of where it may be found, to be kept if it is newer than what is known.
    fn connected(&self, device: DeviceId, conn: &Conn, greeting: &Greeting);

    /// A connection of which [`Self::connected`] told is over. No space knows of it any more.
    fn disconnected(&self, device: DeviceId, conn: &Conn);
}

/// A device as it is at one moment.
#[derive(Clone, Debug)]
pub struct PeerNow {
    /// Which one.
    pub device: DeviceId,
    /// Its connection; `None` while there is none on which it has greeted.
    pub conn: Option<Conn>,
    /// How its user calls it, when it greeted last.
    pub name: Option<Name>,
    /// Why it was not reached, or its last connection ended; `None` while it is connected.
    pub last_error: Option<String>,
    /// What it said when it greeted last.
    pub hello: Option<Hello>,
}

impl PeerNow {
    const fn unheard(device: DeviceId) -> Self {
        Self { device, conn: None, name: None, last_error: None, hello: None }
    }
}

/// The connections to all devices. Clones are handles to the same.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

/// What handles and driver both hold.
#[derive(Default)]
struct Shared {
    /// Written by the driver alone. Never held across an await.
    table: Mutex<BTreeMap<DeviceId, PeerNow>>,
    /// What the driver has not seen yet of the wakes; `woken` tells it to look.
    wakes: Mutex<Wakes>,
    woken: Notify,
    ended: CancellationToken,
}

#[derive(Default)]
struct Wakes {
    everyone: bool,
    devices: BTreeSet<DeviceId>,
}

impl Peers {
    /// Begins to accept and to dial, until `shutdown` is cancelled or the link is closed; the link is closed then in
    /// any case. Must be called inside a tokio runtime.
    pub fn start(
        link: Arc<dyn Link>,
        spaces: Spaces,
        us: Us,
        hooks: Arc<dyn PeerHooks>,
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        tokio::spawn(driver::run(link, spaces, us, hooks, shared.clone(), shutdown));
        Self { shared }
    }

    /// Dials a device at once if it is not connected: it may be reachable again, or elsewhere.
    pub fn wake(&self, device: DeviceId) {
        lock(&self.shared.wakes).devices.insert(device);
        self.shared.woken.notify_one();
    }

    /// Dials every device at once that is not connected: the network changed, or somebody asks.
    pub fn wake_all(&self) {
        lock(&self.shared.wakes).everyone = true;
        self.shared.woken.notify_one();
    }

    /// Asks [`PeerHooks::known`] again. Devices that are new or have other addresses are dialled at once; the others
    /// when their time has come.
    pub fn refresh(&self) {
        self.shared.woken.notify_one();
    }

    /// Every device that is known or connected.
    pub fn list(&self) -> Vec<PeerNow> {
        lock(&self.shared.table).values().cloned().collect()
    }

    /// The connection to a device on which it has greeted.
    pub fn conn(&self, device: DeviceId) -> Option<Conn> {
        lock(&self.shared.table).get(&device)?.conn.clone()
    }

    /// Whether a device may be connected in a moment: since the node runs, no attempt to reach it has come to an end.
    pub fn is_sought(&self, device: DeviceId) -> bool {
        lock(&self.shared.table).get(&device).is_none_or(|now| now.conn.is_none() && now.last_error.is_none())
    }

    /// Waits until all connections are closed and all tasks have ended.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("list", &self.list()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

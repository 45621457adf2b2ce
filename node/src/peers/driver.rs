//! The task that accepts, dials and runs sessions, after what [`Backoff`] and [`OnePerPeer`] decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use zerocloud_crdt::address::{self, AddressRecord};
use zerocloud_crdt::id::DeviceId;

use super::backoff::{Backoff, Failure};
use super::paths::{self, PathLog};
use super::{PeerHooks, PeerNow, Shared, Us, lock};
use crate::clock::Moment;
use crate::link::{AddressHint, CloseCode, CloseReason, Conn, DialError, Link, Offered, OnePerPeer, Protocol};
use crate::session::{self, Greeting, Presence, SessionError, Spaces};

/// Tasks' news that wait for the driver, before the tasks wait, too.
const NEWS_COUNT_MAX: usize = 64;

/// Devices that are being paired at the same time. A person holds one ticket before one device.
const PAIRING_COUNT_MAX: usize = 8;

/// Sessions with devices that are members of no space of ours, as far as is known here. Whom a member has just added is
/// one until it has shown its record; the longest of such sessions makes room for the next, so that nobody who says
/// nothing keeps it out. A session may hold a connection's window of bytes.
pub(super) const STRANGER_COUNT_MAX: usize = 32;

/// How long sessions may take to end when the node stops; below [`crate::daemon::STOP_LIMIT`].
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// How long the link may then take to hear that its ends have arrived. They are sent before: who is not reached by one
/// finds out by our silence. A peer that does not answer, or a dial in progress, would have it wait for seconds
/// (RFC 9000, 10.2: three probe timeouts).
const LINK_CLOSE_LIMIT: Duration = Duration::from_millis(300);

/// What a task tells.
enum News {
    /// The devices that are known.
    Known(Vec<(DeviceId, Vec<AddressHint>)>),
    /// A dial has ended.
    Dialled(DeviceId, Result<Conn, DialError>),
    /// A peer has greeted.
    Greeted(Conn, Greeting),
    /// A session has ended.
    Ended(Conn, SessionError),
}

struct Driver {
    link: Arc<dyn Link>,
    spaces: Spaces,
    us: Us,
    hooks: Arc<dyn PeerHooks>,
    shared: Arc<Shared>,
    backoff: Backoff,
    held: OnePerPeer,
    /// The session of each device that has not ended yet. A connection that takes its place waits, so that the end of
    /// the one is told, and known to the spaces, before the beginning of the other.
    sessions: BTreeMap<DeviceId, Running>,
    /// Who is a member of a space of ours, as was last told.
    known: BTreeSet<DeviceId>,
    is_asking: bool,
    must_ask: bool,
    /// Our last address record, its counter, and the hints in it.
    record: Vec<u8>,
    record_counter: u64,
    record_hints: Vec<address::AddressHint>,
    news: mpsc::Sender<News>,
    tasks: JoinSet<()>,
    pairings: JoinSet<()>,
}

struct Running {
    conn: Conn,
    since: Moment,
    is_told: bool,
    next: Option<Conn>,
}

/// A peer that dials while it has had a connection for so long has lost it: two that dial at once do so within the
/// time of a handshake.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

pub(super) async fn run(
    link: Arc<dyn Link>,
    spaces: Spaces,
    us: Us,
    hooks: Arc<dyn PeerHooks>,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) {
    // Even if this task should fail, nobody waits for ever.
    let _ended = shared.ended.clone().drop_guard();
    let (news, mut told) = mpsc::channel(NEWS_COUNT_MAX);
    let mut driver = Driver {
        backoff: Backoff::new(ChaCha20Rng::from_seed(us.seed)),
        held: OnePerPeer::new(link.id()),
        link: link.clone(),
        spaces,
        us,
        hooks,
        shared: shared.clone(),
        sessions: BTreeMap::new(),
        known: BTreeSet::new(),
        is_asking: false,
        must_ask: false,
        record: Vec::new(),
        record_counter: 0,
        record_hints: Vec::new(),
        news,
        tasks: JoinSet::new(),
        pairings: JoinSet::new(),
    };
    let mut changes = driver.spaces.changes();
    let (mut looks, mut path_log) = (tokio::time::interval(paths::LOOK_INTERVAL), PathLog::default());
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    driver.ask();
    loop {
        driver.dial();
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = link.accept() => match accepted {
                Some(conn) => driver.accept(conn),
                None => break,
            },
            Some(news) = told.recv() => driver.handle(news),
            () = shared.woken.notified() => driver.wake(),
            Ok(()) = changes.changed() => driver.ask(),
            () = sleep_for(driver.wait()) => driver.ask(),
            _ = looks.tick(), if !driver.sessions.is_empty() => path_log.look(driver.told_conns()),
            Some(_) = driver.tasks.join_next() => {}
            Some(_) = driver.pairings.join_next() => {}
        }
    }
    driver.farewell(told).await;
}

/// Sleeps so long, or for ever.
async fn sleep_for(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    fn now(&self) -> Moment {
        self.us.clock.now()
    }

    /// The connections on which peers have greeted.
    fn told_conns(&self) -> impl Iterator<Item = &Conn> {
        self.sessions.values().filter(|running| running.is_told).map(|running| &running.conn)
    }

    fn wait(&self) -> Option<Duration> {
        self.backoff.poll_timeout().map(|due| due.since(self.now()))
    }

    /// Asks who is known: one question at a time.
    fn ask(&mut self) {
        self.must_ask = self.is_asking;
        if !std::mem::replace(&mut self.is_asking, true) {
            let (hooks, news) = (self.hooks.clone(), self.news.clone());
            self.tasks.spawn(async move { tell(&news, News::Known(hooks.known().await)).await });
        }
    }

    fn wake(&mut self) {
        let now = self.now();
        let wakes = std::mem::take(&mut *lock(&self.shared.wakes));
        if wakes.everyone {
            self.backoff.handle_wake_all(now);
        }
        for device in wakes.devices {
            self.backoff.handle_wake(now, device);
        }
        self.ask();
    }

    fn dial(&mut self) {
        while let Some((device, hints)) = self.backoff.poll_dial(self.now()) {
            let (link, news) = (self.link.clone(), self.news.clone());
            self.tasks.spawn(async move {
                let dialled = link.dial(device, Protocol::Sync, &hints).await;
                tell(&news, News::Dialled(device, dialled)).await;
            });
        }
    }

    fn accept(&mut self, conn: Conn) {
        match conn.protocol() {
            Protocol::Sync => self.offer(conn),
            Protocol::Pair if self.pairings.len() >= PAIRING_COUNT_MAX => {
                conn.close(CloseCode::Refused, "other devices are being paired; try again later");
            }
            Protocol::Pair => {
                let hooks = self.hooks.clone();
                self.pairings.spawn(async move { hooks.pair(conn).await });
            }
        }
    }

    fn handle(&mut self, news: News) {
        match news {
            News::Known(known) => {
                self.is_asking = false;
                if self.must_ask {
                    self.ask();
                }
                self.know(known);
            }
            News::Dialled(device, Ok(conn)) => {
                self.backoff.handle_dialled(self.now(), device);
                self.offer(conn);
            }
            News::Dialled(device, Err(error)) => {
                let failure = match &error {
                    DialError::OtherVersion { .. } => Failure::Refused,
                    DialError::Ended { reason, .. } => failure(reason),
                    _ => Failure::Lost,
                };
                self.report(device, failure, &error);
                self.backoff.handle_dial_failed(self.now(), device, failure);
            }
            News::Greeted(conn, greeting) => self.greeted(conn, greeting),
            News::Ended(conn, error) => self.ended(&conn, &error),
        }
    }

    fn know(&mut self, known: Vec<(DeviceId, Vec<AddressHint>)>) {
        let ourself = self.link.id();
        let known: Vec<_> = known.into_iter().filter(|(device, _)| *device != ourself).collect();
        let mut table = lock(&self.shared.table);
        for (device, _) in &known {
            table.entry(*device).or_insert_with(|| PeerNow::unheard(*device));
        }
        self.known = known.iter().map(|(device, _)| *device).collect();
        table.retain(|device, now| now.conn.is_some() || self.known.contains(device));
        drop(table);
        self.backoff.handle_known(self.us.clock.now(), known);
    }

    fn offer(&mut self, conn: Conn) {
        let device = conn.peer();
        let now = self.now();
        let is_settled = self
            .sessions
            .get(&device)
            .is_some_and(|running| running.next.is_none() && now.since(running.since) > SETTLED_AFTER);
        let offered = if is_settled { self.held.replace(conn.clone()) } else { self.held.offer(conn.clone()) };
        match offered {
            Offered::Closed => tracing::debug!(peer = %device, "a surplus connection is closed"),
            Offered::Kept | Offered::Replaced(_) => {
                self.backoff.handle_connected(self.now(), device);
                match self.sessions.get_mut(&device) {
                    Some(running) => running.next = Some(conn),
                    None => {
                        self.make_room_for(device);
                        self.begin(conn);
                    }
                }
            }
        }
    }

    /// Ends the longest session with a stranger if `device` is one too, and one too many.
    fn make_room_for(&self, device: DeviceId) {
        if self.known.contains(&device) {
            return;
        }
        let strangers = self.sessions.iter().filter(|(device, running)| {
            !self.known.contains(device) && running.next.is_none() && running.conn.close_reason().is_none()
        });
        let strangers: Vec<&Running> = strangers.map(|(_, running)| running).collect();
        if strangers.len() >= STRANGER_COUNT_MAX
            && let Some(longest) = strangers.iter().min_by_key(|running| running.since)
        {
            longest.conn.close(CloseCode::Done, "other devices that are not known here want to be heard");
        }
    }

    fn begin(&mut self, conn: Conn) {
        let presence =
            Presence { agent: self.us.agent.clone(), name: self.us.name.clone(), addresses: self.address_record() };
        self.sessions
            .insert(conn.peer(), Running { conn: conn.clone(), since: self.now(), is_told: false, next: None });
        let (spaces, news) = (self.spaces.clone(), self.news.clone());
        self.tasks.spawn(async move {
            let (greeted, greeting) = oneshot::channel();
            let telling = async {
                if let Ok(greeting) = greeting.await {
                    tell(&news, News::Greeted(conn.clone(), greeting)).await;
                }
            };
            let (ended, ()) = tokio::join!(session::run(conn.clone(), spaces, presence, greeted), telling);
            tell(&news, News::Ended(conn, ended)).await;
        });
    }

    /// Our signed addresses as they are now, or nothing if we can't be reached.
    fn address_record(&mut self) -> Vec<u8> {
        let hints: Vec<address::AddressHint> =
            self.link.addresses().iter().filter_map(|hint| hint.try_into().ok()).collect();
        if hints.is_empty() {
            return Vec::new();
        }
        // A new one is passed on to every member: only when it says something new.
        if hints == self.record_hints {
            return self.record.clone();
        }
        let milliseconds = u64::try_from(self.us.clock.wall_time().as_milliseconds()).unwrap_or(0);
        self.record_counter = milliseconds.max(self.record_counter + 1);
        self.record = AddressRecord::make(&self.us.keys, self.record_counter, hints.clone());
        self.record_hints = hints;
        self.record.clone()
    }

    fn greeted(&mut self, conn: Conn, greeting: Greeting) {
        let device = conn.peer();
        let Some(running) = self.sessions.get_mut(&device).filter(|running| running.conn.is_same(&conn)) else {
            return;
        };
        running.is_told = true;
        tracing::info!(peer = %device, agent = %greeting.hello.agent.escape_debug(), path = ?conn.path(), "connected");
        let now = PeerNow {
            device,
            conn: Some(conn.clone()),
            name: Some(greeting.hello.name.clone()),
            last_error: None,
            hello: Some(greeting.hello.clone()),
        };
        lock(&self.shared.table).insert(device, now);
        self.hooks.connected(device, &conn, &greeting);
    }

    fn ended(&mut self, conn: &Conn, error: &SessionError) {
        let device = conn.peer();
        let Some(running) = self.sessions.remove(&device) else { return };
        if running.is_told {
            tracing::info!(peer = %device, %error, "disconnected");
            if let Some(now) = lock(&self.shared.table).get_mut(&device) {
                now.conn = None;
            }
            self.hooks.disconnected(device, conn);
        }
        if self.held.forget(conn) {
            let failure = match error {
                SessionError::Closed(reason) => failure(reason),
                _ => Failure::Lost,
            };
            self.report(device, failure, error);
            self.backoff.handle_disconnected(self.now(), device, failure);
            // It may have been the last that kept a device which no space has any more.
            self.ask();
        }
        if let Some(next) = running.next {
            self.begin(next);
        }
    }

    /// Keeps why a device is not connected. A refusal is the user's to know; the rest is everyday.
    fn report(&self, device: DeviceId, failure: Failure, error: &dyn std::error::Error) {
        match failure {
            Failure::Refused => tracing::warn!(peer = %device, %error, "a device refuses us"),
            Failure::Lost => tracing::debug!(peer = %device, %error, "not connected"),
        }
        if let Some(now) = lock(&self.shared.table).get_mut(&device).filter(|now| now.conn.is_none()) {
            now.last_error = Some(error.to_string());
        }
    }

    /// Closes everything, and waits until the spaces and the hooks know.
    async fn farewell(mut self, mut told: mpsc::Receiver<News>) {
        for conn in self.held.iter() {
            conn.close(CloseCode::Shutdown, "the node stops");
        }
        for running in self.sessions.values_mut() {
            running.next = None;
        }
        let link = self.link.clone();
        let draining = async {
            while !self.sessions.is_empty() {
                match told.recv().await {
                    Some(News::Ended(conn, error)) => self.ended(&conn, &error),
                    Some(News::Known(_) | News::Dialled(..) | News::Greeted(..)) => {}
                    None => break,
                }
            }
        };
        let closing = tokio::time::timeout(LINK_CLOSE_LIMIT, link.close());
        let (closed, drained) = tokio::join!(closing, tokio::time::timeout(FAREWELL_LIMIT, draining));
        if drained.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        if closed.is_err() {
            tracing::debug!("not every device has said that it heard of the end");
        }
        self.pairings.shutdown().await;
        self.tasks.shutdown().await;
        for (device, running) in std::mem::take(&mut self.sessions) {
            if running.is_told {
                self.hooks.disconnected(device, &running.conn);
            }
        }
        for now in lock(&self.shared.table).values_mut() {
            now.conn = None;
        }
    }
}

fn failure(reason: &CloseReason) -> Failure {
    match reason {
        CloseReason::ByPeer { code: CloseCode::Refused | CloseCode::OtherVersion, .. } => Failure::Refused,
        _ => Failure::Lost,
    }
}

async fn tell(news: &mpsc::Sender<News>, what: News) {
    // The driver is gone when the node stops.
    let _ = news.send(what).await;
}

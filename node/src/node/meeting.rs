//! Who comes and goes: the link, the peers, tickets and joining.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use zerocloud_crdt::id::{DeviceId, RecordHash, SpaceId};
use zerocloud_crdt::keys::DeviceKeys;
use zerocloud_crdt::membership::{self, Record};
use zerocloud_crdt::ticket::{Ticket, TicketError};

use super::opened::{OpenSpace, Surroundings, records_of};
use super::spaces::{NewSpace, escaped};
use super::status::others;
use super::{Shared, failed, lock, on_disk, show, whereabouts};
use crate::answers;
use crate::api::path::BytePath;
use crate::api::types::*;
use crate::api::{ApiError, ErrorKind, Progress};
use crate::clock::Clock;
use crate::daemon::Mode;
use crate::folder::Message;
use crate::link::iroh::IrohLink;
use crate::link::{AddressHint, Admission, BoxFuture, Conn, Link, Protocol};
use crate::pairing::{self, Admitted, Compared, Host, Inviter, JoinError, MakeTicketError, Wanted};
use crate::peers::{PeerHooks, Peers, Us, open_link};
use crate::random::system_rng;
use crate::session::Greeting;
use crate::store::PeerRow;

/// What this program calls itself to others.
const AGENT: &str = concat!("zerocloud/", env!("CARGO_PKG_VERSION"));

/// How a node meets others.
pub(super) struct Meeting {
    link: Arc<IrohLink>,
    /// Set once, when the node is whole.
    peers: OnceLock<Peers>,
    /// Until when a ticket of ours is good, in milliseconds since 1970: strangers are let in to pair until then.
    pairing_until_ms: Arc<AtomicI64>,
    /// Who waits for the user to compare words.
    confirmations: Mutex<BTreeMap<DeviceId, oneshot::Sender<bool>>>,
}

impl Meeting {
    /// Opens the link. `None` where the settings leave the node alone.
    pub(super) async fn open(surroundings: &Surroundings) -> Result<Option<Self>, ApiError> {
        let pairing_until_ms = Arc::new(AtomicI64::new(i64::MIN));
        let (until, clock) = (pairing_until_ms.clone(), surroundings.clock.clone());
        let admission = Admission::new(move |protocol, _| match protocol {
            // Whom a member has just added is not yet known here: it shows its record first, and is told nothing before.
            Protocol::Sync => true,
            Protocol::Pair => clock.wall_time().as_milliseconds() < until.load(Ordering::Relaxed),
        });
        let port = surroundings.home.last_port();
        let link = open_link(&surroundings.keys, &surroundings.config, port, admission).await.map_err(failed)?;
        let Some(link) = link else { return Ok(None) };
        if let Some(bound) = link.bound().first()
            && Some(bound.port()) != port
        {
            // Without it others learn the next port when they meet.
            if let Err(error) = surroundings.home.keep_port(bound.port()) {
                tracing::warn!(%error, "the port can't be kept for the next start");
            }
        }
        Ok(Some(Self {
            link: Arc::new(link),
            peers: OnceLock::new(),
            pairing_until_ms,
            confirmations: Mutex::default(),
        }))
    }

    /// The connection to a device, if there is one.
    pub(super) fn conn(&self, device: DeviceId) -> Option<Conn> {
        self.peers.get()?.conn(device)
    }

    /// See [`Peers::is_sought`].
    pub(super) fn is_sought(&self, device: DeviceId) -> bool {
        self.peers.get().is_none_or(|peers| peers.is_sought(device))
    }

    /// The connections, once the node is whole.
    pub(super) fn peers(&self) -> Option<&Peers> {
        self.peers.get()
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.link.warnings().iter().map(ToString::to_string).collect()
    }

    fn expect_until(&self, ms: i64) {
        self.pairing_until_ms.fetch_max(ms, Ordering::Relaxed);
    }
}

/// Begins to meet others, once the node is whole.
pub(super) fn begin(shared: &Arc<Shared>) -> Result<(), ApiError> {
    let Some(meeting) = &shared.meeting else { return Ok(()) };
    for space in shared.all() {
        for (_, ticket) in space.store.snapshot()?.tickets()? {
            meeting.expect_until(ticket.expiry_ms);
        }
    }
    note_where_we_are(shared);
    let surroundings = &shared.surroundings;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(failed)?;
    let us = Us {
        agent: AGENT.to_owned(),
        name: surroundings.label.clone(),
        keys: surroundings.keys.clone(),
        clock: surroundings.clock.clone(),
        seed,
    };
    let hosting =
        Hosting { shared: Arc::downgrade(shared), keys: surroundings.keys.clone(), clock: surroundings.clock.clone() };
    let hooks = Arc::new(Hooks { shared: Arc::downgrade(shared), inviter: Inviter::new(hosting) });
    let link: Arc<dyn Link> = meeting.link.clone();
    let peers = Peers::start(link, shared.sessions.clone(), us, hooks, shared.shutdown.clone());
    // Set here alone.
    drop(meeting.peers.set(peers));
    whereabouts::note_what_is_learnt(shared);
    let mut changes = shared.sessions.changes();
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            let Some(shared) = weak.upgrade() else { return };
            shared.fetch_from_all().await;
            if let Some(peers) = shared.meeting.as_ref().and_then(|meeting| meeting.peers.get()) {
                peers.refresh();
            }
        }
    });
    Ok(())
}

/// Keeps where this device can be found, for the time when no node runs.
pub(super) fn note_where_we_are(shared: &Shared) {
    let Some(meeting) = &shared.meeting else { return };
    let addresses = meeting.link.addresses();
    for space in shared.all() {
        if let Err(error) = shared.note_own_addresses(&space, &addresses) {
            tracing::warn!(space = %space.id, %error, "where this device can be found can't be kept");
        }
    }
}

/// Waits until all connections are closed, after `shutdown` was cancelled.
pub(super) async fn end(shared: &Shared) {
    if let Some(peers) = shared.meeting.as_ref().and_then(|meeting| meeting.peers.get()) {
        peers.ended().await;
    }
}

impl Shared {
    /// Asks every connected member of every space for chunks.
    async fn fetch_from_all(&self) {
        let Some(peers) = self.meeting.as_ref().and_then(|meeting| meeting.peers.get()) else { return };
        for conn in peers.list().into_iter().filter_map(|peer| peer.conn) {
            self.fetch_from(&conn).await;
        }
    }

    async fn fetch_from(&self, conn: &Conn) {
        let device = conn.peer();
        let spaces = self.all();
        for space in &spaces {
            let Ok(running) = &space.running else { continue };
            if running.handle.look(move |facts| facts.is_member(device)).await == Ok(true)
                && running.fetcher.connect(conn.clone(), spaces.len())
            {
                running.folder.tell(Message::Connected);
            }
        }
    }

    /// Makes a ticket.
    pub(super) async fn invite(&self, request: &Invite) -> Result<Invitation, ApiError> {
        let (space, _) = self.resolve(&request.space)?;
        let config = &self.surroundings.config;
        if !config.direct && config.relays.is_empty() {
            return Err(ApiError::new(
                ErrorKind::Unreachable,
                "this node connects to nobody, so no ticket can be used",
                "set `direct = true` in its config.toml and start it again",
            ));
        }
        if self.mode == Mode::Node {
            space.running()?;
        }
        let (is_own, role, confirm) = match request.guest {
            Guest::Me { confirm } => (true, membership::Role::Owner, confirm),
            Guest::Person(role) => (false, role_to(role), false),
        };
        if role == membership::Role::Keeper {
            return Err(ApiError::new(
                ErrorKind::Invalid,
                "this version can't invite keepers yet",
                "choose another role",
            ));
        }
        let valid_for = Duration::from_secs(request.expires_secs);
        let wanted = Wanted { name: space.name.clone(), is_own, role, confirm, valid_for };
        let mut rng = system_rng().map_err(failed)?;
        let now = self.surroundings.clock.wall_time();
        let made = pairing::make_ticket(self.issuer(&space)?, wanted, now, &mut rng).await;
        let ticket = made.map_err(|error| match &error {
            MakeTicketError::NotMember | MakeTicketError::NotOwner => ApiError::of(ErrorKind::Denied, &error),
            _ => ApiError::of(ErrorKind::Failed, &error),
        })?;
        let expires_ms = i64::try_from(ticket.expiry_secs).unwrap_or(i64::MAX).saturating_mul(1_000);
        if let Some(meeting) = &self.meeting {
            meeting.expect_until(expires_ms);
        }
        let text = ticket.to_text().map_err(failed)?;
        Ok(Invitation {
            ticket: text.to_string(),
            space: show(&space.name),
            role: answers::members::role(ticket.role),
            expires_ms,
        })
    }

    /// This device as who makes a ticket.
    fn issuer(&self, space: &OpenSpace) -> Result<pairing::Issuer, ApiError> {
        let id = self.surroundings.keys.id();
        let addresses = match &self.meeting {
            Some(meeting) => {
                let addresses = meeting.link.addresses();
                self.note_own_addresses(space, &addresses)?;
                addresses
            }
            None => self.own_addresses(space)?,
        };
        let records = records_of(&space.store.snapshot()?, space.id)?;
        let role = records.role_at(&records.heads(), id).map_err(failed)?;
        Ok(pairing::Issuer { id, addresses, role, store: space.store.clone() })
    }

    /// Answers somebody who waits for the user to compare words.
    pub(super) fn confirm_pairing(&self, request: &ConfirmPairing) -> Result<Done, ApiError> {
        let nobody =
            || ApiError::new(ErrorKind::NotFound, "no device waits for these words", "join again with the ticket");
        let device = DeviceId::from_hex(&request.device).ok_or_else(nobody)?;
        let waiting = self.meeting.as_ref().and_then(|meeting| lock(&meeting.confirmations).remove(&device));
        let waiting = waiting.ok_or_else(nobody)?;
        waiting.send(request.accept).map_err(|_| nobody())?;
        Ok(Done {})
    }

    /// Joins a space by a ticket.
    pub(super) async fn join(self: &Arc<Self>, request: Join, progress: Progress) -> Result<Space, ApiError> {
        let no_ticket = |error: TicketError| ApiError::of(ErrorKind::NotFound, &error);
        let ticket = Ticket::parse(request.ticket.trim()).map_err(no_ticket)?;
        if let Some(space) = self.space(ticket.space) {
            let shown = BytePath::from(space.dir.as_path());
            let error = format!("this device has the space `{}` already, at {shown}", escaped(&space.name));
            return Err(ApiError::new(
                ErrorKind::Conflict,
                error,
                "use it there; to have it elsewhere, `zerocloud space rm` it first",
            ));
        }
        let Some(meeting) = &self.meeting else {
            return Err(ApiError::new(
                ErrorKind::Unreachable,
                "this node connects to nobody",
                "set `direct = true` in its config.toml and start it again",
            ));
        };
        let wanted = match &request.dir {
            Some(dir) => dir.to_path(),
            None => default_dir(&ticket)?,
        };
        let shared = self.clone();
        let joined = Some(ticket.space);
        let dir = on_disk(move || shared.make_folder(&wanted, joined)).await?;
        progress.report(Step::Waiting { what: "reaching the other device".into() });
        let mut rng = system_rng().map_err(failed)?;
        let words = progress.clone();
        let show_words = move |compared: zerocloud_crdt::pairing::ComparedWords| {
            words.report(Step::Words { words: compared.iter().map(|word| (*word).to_owned()).collect() });
        };
        let joined = pairing::join(&*meeting.link, &self.surroundings.keys, &ticket, show_words, &mut rng).await;
        let joined = joined.map_err(join_error)?;
        // The genesis is the first, and its hash is the space's id.
        let hashes = std::iter::once(RecordHash(ticket.space.0));
        let bytes: Vec<&[u8]> = joined.records.lacked_by(&[]).collect();
        let hashes = hashes.chain(bytes.iter().skip(1).map(|bytes| Record::hash_of(bytes)));
        let records: Vec<(RecordHash, Vec<u8>)> = hashes.zip(bytes.iter().map(|bytes| bytes.to_vec())).collect();
        let secrets = joined.secrets.iter().map(|secret| (secret.epoch, secret.secret().clone())).collect();
        let new = NewSpace { id: ticket.space, name: self.free_name(&ticket), dir, records, secrets };
        let (shared, inviter) = (self.clone(), ticket.inviter);
        let row = PeerRow { hints: ticket.hints.clone(), frontier: joined.frontier.clone(), ..PeerRow::default() };
        let described = on_disk(move || {
            let described = shared.store_new(new, Some((inviter, row)))?;
            shared.note_greetings();
            Ok(described)
        })
        .await?;
        if let Some(peers) = meeting.peers.get() {
            peers.wake(ticket.inviter);
        }
        Ok(described)
    }

    /// The ticket's name for the space, or the next one that no space here has.
    fn free_name(&self, ticket: &Ticket) -> zerocloud_crdt::name::Name {
        let taken: BTreeSet<_> = self.all().iter().map(|space| space.name.clone()).collect();
        let numbered = (2..u32::MAX).filter_map(|n| {
            let text = [ticket.name.as_bytes(), format!(" {n}").as_bytes()].concat();
            zerocloud_crdt::name::Name::parse(&text).ok()
        });
        std::iter::once(ticket.name.clone())
            .chain(numbered.take(taken.len() + 1))
            .find(|name| !taken.contains(name))
            .unwrap_or_else(|| ticket.name.clone())
    }
}

const fn role_to(role: Role) -> membership::Role {
    match role {
        Role::Owner => membership::Role::Owner,
        Role::Editor => membership::Role::Editor,
        Role::Viewer => membership::Role::Viewer,
        Role::Keeper => membership::Role::Keeper,
    }
}

fn default_dir(ticket: &Ticket) -> Result<PathBuf, ApiError> {
    let home = std::env::home_dir().ok_or_else(|| {
        ApiError::new(ErrorKind::Invalid, "HOME is not set", "say which folder: zerocloud join TICKET DIR")
    })?;
    let name = std::os::unix::ffi::OsStrExt::from_bytes(ticket.name.as_bytes());
    Ok(home.join(<std::ffi::OsStr as AsRef<std::ffi::OsStr>>::as_ref(name)))
}

fn join_error(error: JoinError) -> ApiError {
    let kind = match &error {
        JoinError::Dial(_) | JoinError::NoAnswer => ErrorKind::Unreachable,
        JoinError::Refused | JoinError::NotConfirmed => ErrorKind::Denied,
        _ => ErrorKind::Failed,
    };
    ApiError::of(kind, &error)
}

/// What the peers ask the node, and tell it.
struct Hooks {
    shared: Weak<Shared>,
    inviter: Inviter<Hosting>,
}

impl PeerHooks for Hooks {
    fn known(&self) -> BoxFuture<'_, Vec<(DeviceId, Vec<AddressHint>)>> {
        Box::pin(async move {
            let Some(shared) = self.shared.upgrade() else { return Vec::new() };
            let known = on_disk(move || {
                let us = shared.surroundings.keys.id();
                let mut known: BTreeMap<DeviceId, Vec<AddressHint>> = BTreeMap::new();
                for space in shared.all().iter().filter(|space| space.running.is_ok()) {
                    let snapshot = space.store.snapshot()?;
                    for device in others(&records_of(&snapshot, space.id)?, us) {
                        let hints = known.entry(device).or_default();
                        let row = snapshot.peer(device)?.unwrap_or_default();
                        // The device's own word first: a ticket may be old.
                        let signed = row.signed_addresses();
                        let signed = signed.iter().flat_map(|addresses| &addresses.record().hints);
                        for hint in signed.chain(&row.hints).map(AddressHint::from) {
                            if !hints.contains(&hint) {
                                hints.push(hint);
                            }
                        }
                    }
                }
                Ok(known.into_iter().collect())
            });
            known.await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the devices of the spaces can't be read");
                Vec::new()
            })
        })
    }

    fn pair(&self, conn: Conn) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // It tells in the log what came of it.
            drop(self.inviter.serve(conn).await);
        })
    }

    fn connected(&self, device: DeviceId, conn: &Conn, greeting: &Greeting) {
        let Some(shared) = self.shared.upgrade() else { return };
        let (conn, greeting) = (conn.clone(), greeting.clone());
        shared.tell(What::Peer { device: device.to_string(), name: show(&greeting.hello.name), connected: true });
        tokio::spawn(async move {
            shared.fetch_from(&conn).await;
            let noting = on_disk(move || Ok(shared.note_greeting(device, &greeting)?)).await;
            if let Err(error) = noting {
                tracing::warn!(%device, %error, "where a device was met can't be kept");
            }
        });
    }

    fn disconnected(&self, device: DeviceId, _: &Conn) {
        let Some(shared) = self.shared.upgrade() else { return };
        let peers = shared.meeting.as_ref().and_then(|meeting| meeting.peers.get());
        let name = peers.and_then(|peers| peers.list().into_iter().find(|peer| peer.device == device)?.name);
        let name = name.as_ref().map(show).unwrap_or_default();
        shared.tell(What::Peer { device: device.to_string(), name, connected: false });
    }
}

/// The node as pairing sees it.
struct Hosting {
    shared: Weak<Shared>,
    keys: DeviceKeys,
    clock: Arc<dyn Clock>,
}

impl Hosting {
    fn space(&self, id: SpaceId) -> Option<(Arc<Shared>, Arc<OpenSpace>)> {
        let shared = self.shared.upgrade()?;
        let space = shared.space(id)?;
        Some((shared, space))
    }
}

impl Host for Hosting {
    fn spaces(&self) -> Vec<pairing::OpenSpace> {
        let all = self.shared.upgrade().map(|shared| shared.all()).unwrap_or_default();
        let open = all.iter().filter_map(|space| {
            let running = space.running.as_ref().ok()?;
            Some(pairing::OpenSpace { store: space.store.clone(), space: running.handle.clone() })
        });
        open.collect()
    }

    fn keys(&self) -> &DeviceKeys {
        &self.keys
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn show_words(&self, compared: &Compared) {
        let Some((shared, space)) = self.space(compared.space) else { return };
        shared.tell(What::Pairing {
            space: show(&space.name),
            device: compared.joiner.to_string(),
            name: String::new(),
            words: compared.words.iter().map(|word| (*word).to_owned()).collect(),
            needs_confirmation: compared.needs_confirmation,
        });
    }

    fn confirm<'a>(&'a self, compared: &'a Compared) -> BoxFuture<'a, bool> {
        let (sender, receiver) = oneshot::channel();
        if let Some(meeting) = self.shared.upgrade().as_ref().and_then(|shared| shared.meeting.as_ref()) {
            lock(&meeting.confirmations).insert(compared.joiner, sender);
        }
        Box::pin(async move { receiver.await.unwrap_or(false) })
    }

    fn admitted(&self, admitted: Admitted) {
        let Some((shared, space)) = self.space(admitted.space) else { return };
        let device = admitted.device.to_string();
        shared.tell(What::Joined { space: show(&space.name), device, name: String::new() });
        if let Some(peers) = shared.meeting.as_ref().and_then(|meeting| meeting.peers.get()) {
            peers.refresh();
        }
    }
}

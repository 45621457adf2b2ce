//! Sessions: a peer, member or stranger, that says what it likes on all streams of a connection; and one that answers a
//! request for chunks as it likes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_bytes::ByteBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zerocloud::engine::fetch::Lack;
use zerocloud::engine::replica::{Identity, Replica};
use zerocloud::link::memory::{MemoryLink, MemoryNet};
use zerocloud::link::{Admission, CloseCode, Conn, Link, Protocol, SendStream, StreamKind};
use zerocloud::session::chunks::{ChunkSource, ChunkStream};
use zerocloud::session::{Presence, SessionError, Spaces};
use zerocloud::space::SpaceHandle;
use zerocloud::store::SpaceStore;
use zerocloud_crdt::id::{Incarnation, LogId, PersonId, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::limits::SEALED_CHUNK_LEN_MAX;
use zerocloud_crdt::log::Start;
use zerocloud_crdt::membership::{Genesis, Given, Identity as PublicIdentity, Introduction, Records, Role, Row};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::wire::{Ask, Control, Hello, Message, Opening, Request};

use super::{run, take_byte, take_part};

/// Longer than anything that a session waits for, and than a machine under load takes for one.
const PATIENCE: Duration = Duration::from_secs(30);
/// Streams of one peer.
const STREAM_COUNT_MAX: usize = 12;

/// A space with two members, as the first has it.
pub(super) struct Ground {
    pub(super) keys: [DeviceKeys; 3],
    pub(super) space: SpaceId,
    spaces: Spaces,
    handle: SpaceHandle,
}

/// Nobody is a member of this one.
pub(super) const NO_SPACE: SpaceId = SpaceId([0x77; 32]);

pub(super) static GROUND: LazyLock<Ground> = LazyLock::new(ground);

fn ground() -> Ground {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let keys = [1, 2, 3].map(|n| DeviceKeys::from_seed(Secret::new([n; 32])));
    let recovery = PublicIdentity::of(&DeviceKeys::from_seed(Secret::new([0xee; 32])));
    let secret = Secret::draw(&mut rng);
    let genesis = Genesis::make(&keys[0], recovery, &secret, &mut rng);
    let space = genesis.space();
    let mut records = Records::begin(genesis);
    let given = Given { person: PersonId([1; 16]), rank: 2, role: Role::Editor };
    let introduction = Introduction::make(&keys[1], keys[0].id(), space);
    records.add(&keys[0].signing_key(), Row { introduction, given }).unwrap();
    let secret = EpochSecret::new(space, space.first_epoch(), secret);
    let identity = Identity {
        keys: keys[0].clone(),
        log: LogId { author: keys[0].id(), incarnation: Incarnation([1; 8]) },
        start: Start { label: Name::parse(b"laptop").unwrap(), earlier: Vec::new() },
        secrets: BTreeMap::from([(secret.epoch, secret)]),
    };
    let store = Arc::new(SpaceStore::with_backend(redb::backends::InMemoryBackend::new(), space).unwrap());
    let make = move || (Replica::open(store, records, identity, &mut rng.clone()).unwrap(), rng);
    let handle = SpaceHandle::start(space, make, Arc::new(Some300), |_| {}).unwrap();
    let spaces = Spaces::default();
    spaces.insert(handle.clone());
    Ground { keys, space, spaces, handle }
}

/// Has of every other chunk 300 bytes.
struct Some300;

impl ChunkSource for Some300 {
    fn seal(&self, asks: &[Ask], give: &mut dyn FnMut(Result<Vec<u8>, Lack>) -> ControlFlow<()>) {
        let answer =
            |ask: &Ask| if ask.id.0[0].is_multiple_of(2) { Ok(vec![ask.id.0[0]; 300]) } else { Err(Lack::Missing) };
        let _ = asks.iter().try_for_each(|ask| give(answer(ask)));
    }
}

/// Two ends of one connection, the dialler's first, and the links that hold it open.
async fn connect(dialler: &DeviceKeys, acceptor: &DeviceKeys) -> (Conn, Conn, [MemoryLink; 2]) {
    let (net, everyone) = (MemoryNet::new(), || Admission::new(|_, _| true));
    let (from, to) = (net.join(dialler.id(), everyone()), net.join(acceptor.id(), everyone()));
    let conn = from.dial(acceptor.id(), Protocol::Sync, &to.addresses()).await.unwrap();
    (conn, to.accept().await.unwrap(), [from, to])
}

/// Lets everything go as far as it can.
async fn settle(ground: &Ground) {
    for _ in 0..3 {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        // What the space was told before has been handled when it answers.
        ground.handle.look(|_| ()).await.unwrap();
    }
}

/// A byte of flags (who the peer is, who dials, whether it greets as it should), then for each stream a byte that says
/// which, and a part that it says there.
pub fn session(mut data: &[u8]) -> bool {
    let flags = take_byte(&mut data);
    if flags & 8 != 0 {
        return answers(data);
    }
    let ground = &*GROUND;
    let peer = if flags & 1 == 0 { &ground.keys[1] } else { &ground.keys[2] };
    run(async {
        let (ours, theirs, _links) = if flags & 2 == 0 {
            let (theirs, ours, links) = connect(peer, &ground.keys[0]).await;
            (ours, theirs, links)
        } else {
            connect(&ground.keys[0], peer).await
        };
        let us = Presence { agent: "zerocloud".into(), name: Name::parse(b"laptop").unwrap(), addresses: Vec::new() };
        let (greeted, _) = tokio::sync::oneshot::channel();
        let session = tokio::spawn(zerocloud::session::run(ours, ground.spaces.clone(), us, greeted));
        speak(ground, &theirs, flags, data).await;
        settle(ground).await;
        theirs.close(CloseCode::Done, "");
        let ended = tokio::time::timeout(PATIENCE, session).await.expect("the session does not end");
        // The space is there for others, whatever this one said.
        settle(ground).await;
        let is_member = ground.handle.look({
            let peer = ground.keys[1].id();
            move |facts| facts.is_member(peer)
        });
        assert_eq!(is_member.await, Ok(true), "the space forgot its members");
        matches!(ended.expect("the session panicked"), SessionError::Closed(_))
    })
}

/// The peer's part. The device may have closed the connection at any point.
async fn speak(ground: &Ground, conn: &Conn, flags: u8, mut data: &[u8]) -> Option<()> {
    let mut streams: Vec<SendStream> = Vec::new();
    let mut receiving = Vec::new();
    let is_dialler = flags & 2 == 0;
    let (mut control, receive) = match is_dialler {
        true => conn.open_bi(StreamKind::Control).await.ok()?,
        false => conn.accept_bi().await.ok()?,
    };
    receiving.push(receive);
    if flags & 4 == 0 {
        if is_dialler {
            control.write_all(&framed(&Opening::Control.to_bytes())).await.ok()?;
        }
        let name = Name::parse(b"peer").unwrap();
        let spaces = vec![ground.space, NO_SPACE];
        let hello = Hello { agent: "peer".into(), name, spaces, addresses: ByteBuf::new() };
        control.write_all(&framed(&Control::Hello(hello).to_bytes())).await.ok()?;
        control.flush().await.ok()?;
        settle(ground).await;
    }
    while !data.is_empty() && streams.len() < STREAM_COUNT_MAX {
        let kind = take_byte(&mut data);
        let said = take_part(&mut data);
        let said = if kind & 8 == 0 { framed(said) } else { said.to_vec() };
        let opening = match kind % 8 {
            0 | 1 => {
                control.write_all(&said).await.ok()?;
                control.flush().await.ok()?;
                continue;
            }
            2 => None,
            3 => Some(Opening::Log { space: NO_SPACE }),
            4 => Some(Opening::Chunks { space: ground.space }),
            // More of the same stream.
            5 => {
                if let Some(stream) = streams.last_mut() {
                    let _ = stream.write_all(&said).await;
                    let _ = stream.flush().await;
                }
                settle(ground).await;
                continue;
            }
            _ => Some(Opening::Log { space: ground.space }),
        };
        let (mut send, receive) = conn.open_bi(StreamKind::Log).await.ok()?;
        let opening = opening.map(|opening| framed(&opening.to_bytes())).unwrap_or_default();
        // A stream that the device has no use for is gone already.
        let _ = send.write_all(&[opening, said].concat()).await;
        let _ = send.flush().await;
        if kind & 16 != 0 {
            let _ = send.shutdown().await;
        }
        if kind & 32 == 0 {
            settle(ground).await;
        }
        streams.push(send);
        receiving.push(receive);
    }
    let _ = control.shutdown().await;
    settle(ground).await;
    // Whatever the device said is read, so that it is never kept waiting.
    for mut receive in receiving {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(Duration::ZERO, receive.read(&mut buffer)).await;
        assert!(read.is_err() || read.is_ok_and(|read| read.is_err() || read.is_ok_and(|len| len <= 4096)));
    }
    Some(())
}

pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], body].concat()
}

/// A peer answers a request of ours: a byte that says how it is framed, then parts.
fn answers(mut data: &[u8]) -> bool {
    let ground = &*GROUND;
    run(async {
        let (ours, theirs, _links) = connect(&ground.keys[0], &ground.keys[1]).await;
        let mut asking = ChunkStream::open(&ours, ground.space).await.unwrap();
        let request = Request { first: 1, asks: Vec::new() };
        asking.ask(request).await.unwrap();
        let (mut send, _receive) = theirs.accept_bi().await.unwrap();
        let saying = async {
            while !data.is_empty() {
                let kind = take_byte(&mut data);
                let said = take_part(&mut data);
                let said = if kind.is_multiple_of(2) { framed(said) } else { said.to_vec() };
                if send.write_all(&said).await.is_err() || send.flush().await.is_err() {
                    break;
                }
            }
            let _ = send.shutdown().await;
        };
        let hearing = async {
            let mut heard_count = 0;
            while let Some(answer) = asking.answer().await {
                assert!(answer.sealed.map_or(0, |sealed| sealed.len()) <= SEALED_CHUNK_LEN_MAX);
                heard_count += 1;
            }
            heard_count
        };
        let both = async { tokio::join!(saying, hearing) };
        let ((), heard_count) = tokio::time::timeout(PATIENCE, both).await.expect("the stream does not end");
        heard_count > 0
    })
}

//! Streams with gaps: a peer leaves bytes out, so that nothing behind them can be read and all of it waits.
//!
//! No QUIC sends so by itself. Between the peer and the device stands a relay of packets that loses some of the peer's,
//! and all acknowledgements, so that the peer never learns what is to be sent again; and the peer heeds no congestion.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, QuicTransportConfig, presets};
use iroh::{Endpoint, EndpointAddr, PublicKey, RelayMode, SecretKey, TransportAddr};
use noq_proto::congestion::CubicConfig;
use tokio::io::AsyncReadExt;
use tokio::net::UdpSocket;
use zerocloud::link::iroh::{Bind, IrohLink, IrohSettings};
use zerocloud::link::{Admission, Conn, Link, Protocol, StreamKind};
use zerocloud::wire::{read_frame, write_frame};
use zerocloud_crdt::keys::{DeviceKeys, Secret};
use zerocloud_crdt::limits::CONN_WINDOW_LEN_MAX;

use super::{NOW, PEAK, turn};

/// Of a peer's packets one in so many is lost. No stream's turn comes as often, so each is hit.
const LOST_PART: usize = 7;
/// Streams that the peer opens, and bytes that it has for each: four times what a device lets wait.
const STREAM_COUNT: usize = 64;
const STREAM_LEN: usize = 1 << 20;
/// Bytes that it writes at once.
const PIECE_LEN: usize = 1 << 10;
/// What both sides may set aside: the device for its window and the packets that hold it, and the peer, which is in the
/// same process, to know what it has sent.
const SET_ASIDE_MAX: usize = 4 * CONN_WINDOW_LEN_MAX as usize;
/// After which a state that is waited for has not come.
const PATIENCE: Duration = Duration::from_secs(100);

fn keys(device: u8) -> DeviceKeys {
    DeviceKeys::from_seed(Secret::new([device; 32]))
}

async fn open(device: u8) -> IrohLink {
    let bind = Bind::Address("127.0.0.1:0".parse().unwrap());
    let settings = IrohSettings { bind, relays: Vec::new(), lan: false };
    IrohLink::open(&keys(device), settings, Admission::new(|_, _| true)).await.unwrap()
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it did not come");
}

/// A way for packets from `::1` to an address of IPv4. As neither end has a socket of the other's kind, they find no
/// other way.
struct Way {
    address: SocketAddr,
    /// Of the peer's packets one in so many is lost, and every packet to it; 0 if none is.
    lost_part: Arc<AtomicUsize>,
    /// Packets that came from the peer.
    came_count: Arc<AtomicUsize>,
}

impl Way {
    async fn to(device: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind("[::1]:0").await.unwrap());
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        far.connect(device).await.unwrap();
        let (lost_part, came_count) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let way = Self { address: near.local_addr().unwrap(), lost_part, came_count };
        let (lost_part, came_count) = (way.lost_part.clone(), way.came_count.clone());
        tokio::spawn(async move {
            let (mut packet, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
            let (mut peer, mut count) = (None, 0_usize);
            loop {
                tokio::select! {
                    Ok((len, from)) = near.recv_from(&mut packet) => {
                        peer = Some(from);
                        count += 1;
                        came_count.fetch_add(1, Ordering::SeqCst);
                        let lost_part = lost_part.load(Ordering::SeqCst);
                        if lost_part == 0 || !count.is_multiple_of(lost_part) {
                            let _ = far.send(&packet[..len]).await;
                        }
                    }
                    Ok(len) = far.recv(&mut answer) => {
                        if let Some(peer) = peer && lost_part.load(Ordering::SeqCst) == 0 {
                            let _ = near.send_to(&answer[..len], peer).await;
                        }
                    }
                }
            }
        });
        way
    }
}

/// The peer: it sends as fast as it is let, whatever is lost.
async fn peer(device: u8) -> Endpoint {
    let mut heedless = CubicConfig::default();
    heedless.initial_window(1 << 30);
    let transport = QuicTransportConfig::builder()
        .congestion_controller_factory(Arc::new(heedless))
        .send_window(1 << 30)
        .enable_segmentation_offload(false)
        .build();
    Endpoint::builder(presets::Empty)
        .crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .secret_key(SecretKey::from_bytes(keys(device).identity_seed().expose()))
        .transport_config(transport)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("[::1]:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

/// A device, a peer that is connected with it, and the way between them.
struct Scene {
    device: Arc<IrohLink>,
    way: Way,
    connection: Connection,
    conn: Conn,
    _peer: Endpoint,
}

impl Scene {
    async fn new() -> Self {
        let device = Arc::new(open(1).await);
        let way = Way::to(device.bound()[0]).await;
        let peer = peer(2).await;
        let key = PublicKey::from_bytes(device.id().as_bytes()).unwrap();
        let address = EndpointAddr::from_parts(key, [TransportAddr::Ip(way.address)]);
        let (connection, conn) = tokio::join!(peer.connect(address, Protocol::Sync.alpn()), device.accept());
        let (connection, conn) = (connection.unwrap(), conn.unwrap());
        // Something goes there and back: the handshake is over on both sides.
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        write_frame(&mut send, b"first", 100).await.unwrap();
        let (mut answer, mut asked) = conn.accept_bi().await.unwrap();
        assert_eq!(read_frame(&mut asked, 100).await.unwrap().unwrap(), b"first");
        write_frame(&mut answer, b"second", 100).await.unwrap();
        assert_eq!(read_frame(&mut receive, 100).await.unwrap().unwrap(), b"second");
        Self { device, way, connection, conn, _peer: peer }
    }

    /// What can be read is read, on all streams that come.
    fn read_all(&self) {
        let conn = self.conn.clone();
        tokio::spawn(async move {
            while let Ok((_send, mut receive)) = conn.accept_bi().await {
                tokio::spawn(async move {
                    let mut some = vec![0; 4_096];
                    while receive.read(&mut some).await.is_ok_and(|len| len > 0) {}
                });
            }
        });
    }

    /// Another device connects, and is heard.
    async fn assert_others_are_heard(&self, device: u8) {
        let friend = open(device).await;
        let hints = self.device.addresses();
        let (ours, theirs) = tokio::join!(friend.dial(self.device.id(), Protocol::Sync, &hints), self.device.accept());
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(theirs.peer(), friend.id());
        let (mut send, _receive) = ours.open_bi(StreamKind::Control).await.unwrap();
        for _ in 0..100 {
            write_frame(&mut send, &[7; 10_000], 10_000).await.unwrap();
        }
        let (_send, mut receive) = theirs.accept_bi().await.unwrap();
        for _ in 0..100 {
            assert_eq!(read_frame(&mut receive, 10_000).await.unwrap().unwrap(), [7; 10_000]);
        }
    }
}

/// The peer writes on all its streams in turn, no faster than packets pass, until it is let no further; gives whether it
/// got so far before it took the silence for the end.
async fn flood(scene: &Scene, written_len: &Arc<AtomicUsize>) -> bool {
    // One piece of memory for all streams: what counts is set aside for what is on its way.
    let piece = Bytes::from(vec![7; PIECE_LEN]);
    let mut streams = Vec::new();
    for _ in 0..STREAM_COUNT {
        streams.push(scene.connection.open_bi().await.unwrap());
    }
    scene.way.lost_part.store(LOST_PART, Ordering::SeqCst);
    let (connection, came_count, written) =
        (scene.connection.clone(), scene.way.came_count.clone(), written_len.clone());
    tokio::spawn(async move {
        for _ in (0..STREAM_LEN).step_by(PIECE_LEN) {
            for (send, _receive) in &mut streams {
                if send.write_chunk(piece.clone()).await.is_err() {
                    return;
                }
                written.fetch_add(PIECE_LEN, Ordering::SeqCst);
            }
            while came_count.load(Ordering::SeqCst) + 100 < connection.stats().udp_tx.datagrams as usize {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        // Kept open: what was written is to be sent.
        connection.closed().await;
    });
    let is_full = || written_len.load(Ordering::SeqCst) + PIECE_LEN * STREAM_COUNT >= CONN_WINDOW_LEN_MAX as usize;
    until(|| is_full() || scene.connection.close_reason().is_some()).await;
    is_full()
}

#[test]
fn threat_46_what_waits_behind_gaps_is_bounded_and_others_are_heard() {
    let _turn = turn();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(flood_behind_gaps());
}

async fn flood_behind_gaps() {
    // On a machine that is busy with other things the peer may give up first.
    for _ in 0..10 {
        let scene = Scene::new().await;
        scene.read_all();
        let before = NOW.load(Ordering::SeqCst);
        PEAK.store(before, Ordering::SeqCst);
        let written_len = Arc::<AtomicUsize>::default();
        let is_full = flood(&scene, &written_len).await;
        for device in 3..8 {
            scene.assert_others_are_heard(device).await;
        }
        let (written_len, peak) = (written_len.load(Ordering::SeqCst), PEAK.load(Ordering::SeqCst) - before);
        println!("at most {peak} bytes for {written_len} that were sent");
        assert!(written_len <= CONN_WINDOW_LEN_MAX as usize, "{written_len} bytes are let wait behind gaps");
        assert!(peak < SET_ASIDE_MAX, "{peak} bytes are set aside");
        if is_full {
            assert!(peak > CONN_WINDOW_LEN_MAX as usize / 2, "{peak} bytes: what waits is counted");
            return;
        }
    }
    panic!("the peer was never let so far");
}

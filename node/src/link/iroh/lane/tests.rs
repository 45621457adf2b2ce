use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::link::conformance::{connect, everyone, keys};
use crate::link::iroh::{Bind, IrohLink, IrohSettings};
use crate::link::{Conn, Link, RecvStream, SendStream, StreamKind};

async fn open_at(device: u8, address: SocketAddr) -> Arc<IrohLink> {
    let settings = IrohSettings { bind: Bind::Address(address), relays: Vec::new(), lan: false };
    Arc::new(IrohLink::open(&keys(device), settings, everyone()).await.unwrap())
}

async fn open(device: u8) -> Arc<IrohLink> {
    open_at(device, SocketAddr::from(([127, 0, 0, 1], 0))).await
}

/// Both ends of a connection that the first dialled.
async fn connected(one: &Arc<IrohLink>, two: &Arc<IrohLink>) -> (Conn, Conn) {
    let (one, two): (Arc<dyn Link>, Arc<dyn Link>) = (one.clone(), two.clone());
    connect(&one, &two).await
}

/// A stream of chunks through which a byte has gone.
async fn chunk_stream(opener: &Conn, acceptor: &Conn) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    let (mut send, recv) = opener.open_bi(StreamKind::Chunk).await.unwrap();
    send.write_all(&[7]).await.unwrap();
    send.flush().await.unwrap();
    let (far_send, mut far_recv) = acceptor.accept_bi().await.unwrap();
    assert_eq!(far_recv.read_u8().await.unwrap(), 7);
    ((send, recv), (far_send, far_recv))
}

/// A lane through which a byte has gone. On a machine that is busy with other tests the first try may be too slow.
async fn lane(link: &IrohLink, opener: &Conn, acceptor: &Conn) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    let before = opened_count(link);
    for _ in 0..100 {
        let streams = chunk_stream(opener, acceptor).await;
        if opened_count(link) > before {
            return streams;
        }
        forget_avoided(link);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no lane was opened");
}

fn forget_avoided(link: &IrohLink) {
    for conn in lock(&link.open.lanes.conns).iter().filter_map(Weak::upgrade) {
        *lock(&conn.avoided) = None;
    }
}

/// The lanes that a link's connections have opened.
fn opened_count(link: &IrohLink) -> usize {
    let conns: Vec<_> = lock(&link.open.lanes.conns).iter().filter_map(Weak::upgrade).collect();
    conns.iter().map(|conn| LANE_COUNT_MAX - conn.opened.available_permits()).sum()
}

#[tokio::test]
async fn chunks_have_a_lane_and_nothing_else_has() {
    let (one, two) = (open(1).await, open(2).await);
    let (dialled, accepted) = connected(&one, &two).await;
    let streams = lane(&one, &dialled, &accepted).await;
    let others = lane(&two, &accepted, &dialled).await;
    assert_eq!((opened_count(&one), opened_count(&two)), (1, 1));
    drop((streams, others));
    assert_eq!((opened_count(&one), opened_count(&two)), (0, 0));
    for kind in [StreamKind::Control, StreamKind::Log] {
        let _streams = dialled.open_bi(kind).await.unwrap();
        assert_eq!(opened_count(&one), 0);
    }
}

#[tokio::test]
async fn streams_above_the_bound_take_quic() {
    let (one, two) = (open(1).await, open(2).await);
    let (dialled, accepted) = connected(&one, &two).await;
    let mut streams = Vec::new();
    for _ in 0..LANE_COUNT_MAX {
        streams.push(lane(&one, &dialled, &accepted).await);
    }
    for _ in 0..2 {
        streams.push(chunk_stream(&dialled, &accepted).await);
    }
    assert_eq!(opened_count(&one), LANE_COUNT_MAX);
}

#[tokio::test]
async fn a_far_path_has_no_lane() {
    let (one, two) = (open(1).await, open(2).await);
    let (dialled, accepted) = connected(&one, &two).await;
    let lanes = lock(&one.open.lanes.conns)[0].upgrade().unwrap();
    let near = dialled.path().unwrap();
    let far = Path { round_trip: Duration::from_millis(80), ..near.clone() };
    let relayed = Path { route: Route::Relay("https://relay.invalid".to_owned()), ..near };
    for path in [None, Some(far), Some(relayed)] {
        assert!(lanes.open(path).await.is_none());
    }
    assert_eq!(opened_count(&one), 0);
    let _streams = lane(&one, &dialled, &accepted).await;
}

/// A link whose TCP port somebody else has; how often that one was dialled.
async fn with_taken_port(device: u8, answer: &'static [u8]) -> (Arc<IrohLink>, Arc<AtomicUsize>) {
    let squatter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = open_at(device, squatter.local_addr().unwrap()).await;
    let dialled_count = Arc::new(AtomicUsize::new(0));
    let counting = dialled_count.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = squatter.accept().await {
            counting.fetch_add(1, Ordering::SeqCst);
            let _ = socket.write_all(answer).await;
            // Says nothing more, and ends nothing.
            held.push(socket);
        }
    });
    (link, dialled_count)
}

#[tokio::test]
async fn where_tcp_leads_nowhere_chunks_take_quic_and_do_not_try_again() {
    for answer in [&b""[..], b"SSH-2.0-OpenSSH_9.2p1\r\n", &[0x15, 3, 3, 0, 2, 2, 40]] {
        let one = open(1).await;
        let (two, dialled_count) = with_taken_port(2, answer).await;
        let (dialled, accepted) = connected(&one, &two).await;
        for _ in 0..3 {
            let _streams = chunk_stream(&dialled, &accepted).await;
        }
        assert_eq!((opened_count(&one), dialled_count.load(Ordering::SeqCst)), (0, 1));
    }
}

#[tokio::test]
async fn threat_31_a_listener_with_another_key_gets_no_lane() {
    let (one, two, third) = (open(1).await, open(2).await, open(3).await);
    let (dialled, _accepted) = connected(&one, &two).await;
    let lanes = lock(&one.open.lanes.conns)[0].upgrade().unwrap();
    let error = lanes.dial(third.bound()[0]).await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    let led_astray = Path { route: Route::Direct(third.bound()[0]), ..dialled.path().unwrap() };
    assert!(lanes.open(Some(led_astray)).await.is_none());
}

/// Speaks TLS with `link`, shows `token`, and waits for the word that it is taken.
async fn show(link: &IrohLink, token: &[u8]) -> io::Result<u8> {
    let socket = TcpStream::connect(link.bound()[0]).await?;
    let config = tls::client_config(link.id()).map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(config).connect(link.bound()[0].ip().into(), socket).await?;
    stream.write_all(token).await?;
    stream.flush().await?;
    stream.read_u8().await
}

#[tokio::test]
async fn threat_31_a_stranger_on_the_tcp_port_reads_and_writes_nothing() {
    let (one, two) = (open(1).await, open(2).await);
    let (dialled, accepted) = connected(&one, &two).await;
    let lanes = lock(&two.open.lanes.conns)[0].upgrade().unwrap();
    let mut almost = *lanes.token;
    almost[31] ^= 1;
    for token in [[0; TOKEN_LEN], almost] {
        show(&two, &token).await.unwrap_err();
    }
    assert_eq!(show(&two, &*lanes.token).await.unwrap(), TAKEN);
    // The token of a connection that is closed is nobody's.
    let token = *lanes.token;
    drop(lanes);
    dialled.close(crate::link::CloseCode::Done, "");
    accepted.closed().await;
    drop((dialled, accepted));
    show(&two, &token).await.unwrap_err();
}

#[tokio::test]
async fn threat_46_garbage_and_silence_on_the_tcp_port_hold_up_nobody_for_long() {
    let (one, two) = (open(1).await, open(2).await);
    let mut silent = Vec::new();
    for index in 0..HANDSHAKE_COUNT_MAX + 8 {
        let mut socket = TcpStream::connect(two.bound()[0]).await.unwrap();
        if index % 2 == 0 {
            let _ = socket.write_all(&[index as u8; 100]).await;
        }
        silent.push(socket);
    }
    // With a lane or without: chunks go through.
    let (dialled, accepted) = connected(&one, &two).await;
    let _streams = chunk_stream(&dialled, &accepted).await;
    drop(silent);
    drop((dialled, accepted));
    let (dialled, accepted) = connected(&one, &two).await;
    let _streams = lane(&one, &dialled, &accepted).await;
}

#[tokio::test]
async fn a_lane_ends_with_its_connection() {
    let (one, two) = (open(1).await, open(2).await);
    for by_dialler in [true, false] {
        let (dialled, accepted) = connected(&one, &two).await;
        let ((mut send, mut recv), (mut far_send, mut far_recv)) = lane(&one, &dialled, &accepted).await;
        let closer = if by_dialler { &dialled } else { &accepted };
        closer.close(crate::link::CloseCode::Surplus, "");
        for recv in [&mut recv, &mut far_recv] {
            recv.read_u8().await.unwrap_err();
        }
        for send in [&mut send, &mut far_send] {
            let bytes = vec![0; 1 << 20];
            while send.write_all(&bytes).await.is_ok() {}
        }
    }
}

#[tokio::test]
async fn a_lane_holds_its_connection_open() {
    let (one, two) = (open(1).await, open(2).await);
    let (dialled, accepted) = connected(&one, &two).await;
    let ((mut send, recv), (_far_send, mut far_recv)) = lane(&one, &dialled, &accepted).await;
    drop(dialled);
    send.write_all(&[8]).await.unwrap();
    send.flush().await.unwrap();
    assert_eq!(far_recv.read_u8().await.unwrap(), 8);
    assert_eq!(accepted.close_reason(), None);
    drop((send, recv));
    accepted.closed().await;
}

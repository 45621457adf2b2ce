//! What every back end must do. [`conformance!`] makes one test of each claim, for the links of one maker.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::keys::{DeviceKeys, Secret};

use super::{
    AddressHint, Admission, BoxFuture, CloseCode, CloseReason, Conn, DialError, Link, Protocol, RecvStream, SendStream,
    Side, StreamKind,
};

/// Makes links that can reach each other, for the devices of [`keys`].
pub(super) trait Maker {
    fn link(&self, device: u8, admission: Admission) -> BoxFuture<'_, Arc<dyn Link>>;

    /// The kind of the streams of which nothing else is claimed.
    fn kind(&self) -> StreamKind {
        StreamKind::Log
    }
}

macro_rules! conformance {
    ($maker:expr) => {
        crate::link::conformance::conformance! { $maker;
            the_peer_of_a_connection_is_proven_at_both_ends,
            a_dial_with_the_wrong_key_fails,
            a_dial_without_hints_fails,
            a_dial_of_ourself_fails,
            a_refused_stranger_gets_no_connection,
            a_stranger_may_pair_and_not_sync,
            both_open_streams_at_once,
            a_stalled_stream_pushes_back_and_holds_up_no_other,
            an_ended_half_leaves_the_other_open,
            a_dropped_half_is_not_an_end,
            a_dropped_receiver_stops_the_sender,
            the_reason_of_a_close_arrives,
            a_reason_is_cut_and_made_fit_for_a_terminal,
            dropping_the_last_handle_closes,
            a_closed_link_closes_its_connections_and_accepts_no_more,
            sixty_four_mebibytes_arrive_whole,
            two_hundred_streams_are_open_at_once,
            a_path_is_direct,
            two_dials_at_once_leave_one_connection,
        }
    };
    ($maker:expr; $($claim:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                crate::link::conformance::$claim(&$maker).await;
            }
        )+
    };
}
pub(super) use conformance;

pub(super) fn keys(device: u8) -> DeviceKeys {
    DeviceKeys::from_seed(Secret::new([device; 32]))
}

pub(super) fn everyone() -> Admission {
    Admission::new(|_, _| true)
}

async fn pair(maker: &impl Maker) -> (Arc<dyn Link>, Arc<dyn Link>) {
    (maker.link(1, everyone()).await, maker.link(2, everyone()).await)
}

/// Both ends of a connection that `from` dialled.
pub(super) async fn connect(from: &Arc<dyn Link>, to: &Arc<dyn Link>) -> (Conn, Conn) {
    let hints = to.addresses();
    let (dialled, accepted) = tokio::join!(from.dial(to.id(), Protocol::Sync, &hints), to.accept());
    (dialled.unwrap(), accepted.unwrap())
}

/// A stream with its two ends: the opener's and the acceptor's. One byte has gone through.
async fn stream(
    maker: &impl Maker,
    opener: &Conn,
    acceptor: &Conn,
) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    let (mut send, recv) = opener.open_bi(maker.kind()).await.unwrap();
    send.write_all(&[9]).await.unwrap();
    send.flush().await.unwrap();
    let (far_send, mut far_recv) = acceptor.accept_bi().await.unwrap();
    assert_eq!(far_recv.read_u8().await.unwrap(), 9);
    ((send, recv), (far_send, far_recv))
}

pub(super) async fn the_peer_of_a_connection_is_proven_at_both_ends(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    assert_eq!((one.id(), two.id()), (keys(1).id(), keys(2).id()));
    let (dialled, accepted) = connect(&one, &two).await;
    assert_eq!((dialled.peer(), dialled.side(), dialled.protocol()), (two.id(), Side::Dialled, Protocol::Sync));
    assert_eq!((accepted.peer(), accepted.side(), accepted.protocol()), (one.id(), Side::Accepted, Protocol::Sync));
}

pub(super) async fn a_dial_with_the_wrong_key_fails(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let peer = keys(3).id();
    let error = one.dial(peer, Protocol::Sync, &two.addresses()).await.unwrap_err();
    assert_eq!(error, DialError::NotProven { peer });
}

pub(super) async fn a_dial_without_hints_fails(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let error = one.dial(two.id(), Protocol::Sync, &[]).await.unwrap_err();
    assert_eq!(error, DialError::NoAddress { peer: two.id() });
    let relay = [AddressHint::Relay("https://relay.invalid".to_owned())];
    let error = one.dial(two.id(), Protocol::Sync, &relay).await.unwrap_err();
    assert_eq!(error, DialError::NoAddress { peer: two.id() });
}

pub(super) async fn a_dial_of_ourself_fails(maker: &impl Maker) {
    let one = maker.link(1, everyone()).await;
    let error = one.dial(one.id(), Protocol::Sync, &one.addresses()).await.unwrap_err();
    assert_eq!(error, DialError::OurselfDialled);
}

/// Whether the far side refused, at the dial or right after it.
pub(super) async fn is_refused(dialled: Result<Conn, DialError>) -> bool {
    let reason = match dialled {
        Ok(conn) => conn.closed().await,
        Err(DialError::Ended { reason, .. }) => reason,
        Err(_) => return false,
    };
    matches!(reason, CloseReason::ByPeer { code: CloseCode::Refused, .. })
}

pub(super) async fn a_refused_stranger_gets_no_connection(maker: &impl Maker) {
    let friend = keys(1).id();
    let two = maker.link(2, Admission::new(move |_, peer| peer == friend)).await;
    let stranger = maker.link(3, everyone()).await;
    assert!(is_refused(stranger.dial(two.id(), Protocol::Sync, &two.addresses()).await).await);
    // Of both, only the friend was accepted.
    let one = maker.link(1, everyone()).await;
    let (_dialled, accepted) = connect(&one, &two).await;
    assert_eq!(accepted.peer(), friend);
}

pub(super) async fn a_stranger_may_pair_and_not_sync(maker: &impl Maker) {
    let two = maker.link(2, Admission::new(|protocol, _| protocol == Protocol::Pair)).await;
    let stranger = maker.link(3, everyone()).await;
    let hints = two.addresses();
    assert!(is_refused(stranger.dial(two.id(), Protocol::Sync, &hints).await).await);
    let (dialled, accepted) = tokio::join!(stranger.dial(two.id(), Protocol::Pair, &hints), two.accept());
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!((dialled.protocol(), accepted.protocol()), (Protocol::Pair, Protocol::Pair));
}

pub(super) async fn both_open_streams_at_once(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    async fn ask_and_answer(conn: &Conn, kind: StreamKind) {
        let ask = async {
            let (mut send, mut recv) = conn.open_bi(kind).await.unwrap();
            send.write_all(b"ping").await.unwrap();
            send.shutdown().await.unwrap();
            let mut answer = Vec::new();
            recv.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"pong");
        };
        let answer = async {
            let (mut send, mut recv) = conn.accept_bi().await.unwrap();
            send.set_kind(kind);
            let mut question = Vec::new();
            recv.read_to_end(&mut question).await.unwrap();
            assert_eq!(question, b"ping");
            send.write_all(b"pong").await.unwrap();
            send.shutdown().await.unwrap();
        };
        tokio::join!(ask, answer);
    }
    tokio::join!(ask_and_answer(&dialled, maker.kind()), ask_and_answer(&accepted, maker.kind()));
}

pub(super) async fn a_stalled_stream_pushes_back_and_holds_up_no_other(maker: &impl Maker) {
    const LEN: usize = 64 << 20;
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    let ((mut bulk, _recv), (_far_send, mut far_bulk)) = stream(maker, &dialled, &accepted).await;
    let ((mut ping, mut pong), (mut far_pong, mut far_ping)) = stream(maker, &dialled, &accepted).await;
    let bytes = vec![5_u8; LEN];
    let write = async {
        bulk.write_all(&bytes).await.unwrap();
        bulk.shutdown().await.unwrap();
    };
    tokio::pin!(write);
    for count in 0..100 {
        let round = async {
            ping.write_u8(count).await.unwrap();
            ping.flush().await.unwrap();
            assert_eq!(far_ping.read_u8().await.unwrap(), count);
            far_pong.write_u8(count).await.unwrap();
            far_pong.flush().await.unwrap();
            assert_eq!(pong.read_u8().await.unwrap(), count);
        };
        tokio::select! {
            biased;
            () = &mut write => panic!("nobody read, and all was written"),
            () = round => {}
        }
    }
    let read = async {
        let mut read_len = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match far_bulk.read(&mut buffer).await.unwrap() {
                0 => return read_len,
                len => read_len += len,
            }
        }
    };
    let ((), read_len) = tokio::join!(write, read);
    assert_eq!(read_len, LEN);
}

pub(super) async fn an_ended_half_leaves_the_other_open(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    let ((mut send, mut recv), (mut far_send, mut far_recv)) = stream(maker, &dialled, &accepted).await;
    send.write_all(b"all").await.unwrap();
    send.shutdown().await.unwrap();
    drop(send);
    let mut bytes = Vec::new();
    far_recv.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"all");
    far_send.write_all(b"still here").await.unwrap();
    far_send.shutdown().await.unwrap();
    bytes.clear();
    recv.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"still here");
}

pub(super) async fn a_dropped_half_is_not_an_end(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    let ((send, _recv), (_far_send, mut far_recv)) = stream(maker, &dialled, &accepted).await;
    drop(send);
    let error = far_recv.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

pub(super) async fn a_dropped_receiver_stops_the_sender(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    let ((mut send, _recv), (_far_send, far_recv)) = stream(maker, &dialled, &accepted).await;
    drop(far_recv);
    let bytes = vec![0; 1 << 20];
    while send.write_all(&bytes).await.is_ok() {}
    assert_eq!(dialled.close_reason(), None);
}

pub(super) async fn the_reason_of_a_close_arrives(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    let ((mut send, _recv), (_far_send, mut far_recv)) = stream(maker, &dialled, &accepted).await;
    assert_eq!((dialled.close_reason(), accepted.close_reason()), (None, None));
    dialled.close(CloseCode::Violation, "a lie");
    assert_eq!(dialled.closed().await, CloseReason::ByUs);
    let theirs = CloseReason::ByPeer { code: CloseCode::Violation, reason: "a lie".to_owned() };
    assert_eq!(accepted.closed().await, theirs);
    assert_eq!(accepted.close_reason(), Some(theirs.clone()));
    assert_eq!(accepted.open_bi(StreamKind::Log).await.unwrap_err(), theirs);
    assert_eq!(accepted.accept_bi().await.unwrap_err(), theirs);
    assert_eq!(dialled.open_bi(StreamKind::Log).await.unwrap_err(), CloseReason::ByUs);
    assert!(send.write_all(&[1]).await.is_err());
    assert!(far_recv.read_u8().await.is_err());
}

pub(super) async fn a_reason_is_cut_and_made_fit_for_a_terminal(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    dialled.close(CloseCode::Other(77), &format!("\u{1b}[2J{}", "ä".repeat(1000)));
    let CloseReason::ByPeer { code, reason } = accepted.closed().await else { panic!("not by the peer") };
    assert_eq!(code, CloseCode::Other(77));
    assert!(reason.starts_with(r"\u{1b}[2Jää"), "{reason}");
    assert!(reason.chars().all(|letter| !letter.is_control() && letter != '\u{fffd}'), "{reason}");
    assert!(reason.len() < 300);
}

pub(super) async fn dropping_the_last_handle_closes(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    drop(dialled.clone());
    assert_eq!(dialled.close_reason(), None);
    drop(dialled);
    assert!(matches!(accepted.closed().await, CloseReason::ByPeer { code: CloseCode::Done, .. }));
}

pub(super) async fn a_closed_link_closes_its_connections_and_accepts_no_more(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, _accepted) = connect(&one, &two).await;
    two.close().await;
    assert!(matches!(dialled.closed().await, CloseReason::ByPeer { code: CloseCode::Shutdown, .. }));
    assert!(two.accept().await.is_none());
    assert_eq!(two.dial(one.id(), Protocol::Sync, &one.addresses()).await.unwrap_err(), DialError::LinkClosed);
}

pub(super) async fn sixty_four_mebibytes_arrive_whole(maker: &impl Maker) {
    const LEN: usize = 64 << 20;
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    let ((mut send, _recv), (_far_send, mut far_recv)) = stream(maker, &dialled, &accepted).await;
    let mut bytes = vec![0; LEN];
    zerocloud_crdt::id::ContentHash::of(b"seed")
        .as_bytes()
        .iter()
        .cycle()
        .zip(&mut bytes)
        .enumerate()
        .for_each(|(index, (seed, byte))| *byte = seed.wrapping_mul(index as u8) ^ (index >> 8) as u8);
    let sent = zerocloud_crdt::id::ContentHash::of(&bytes);
    let write = async {
        send.write_all(&bytes).await.unwrap();
        send.shutdown().await.unwrap();
    };
    let mut read = Vec::with_capacity(LEN);
    let (_, ()) = tokio::join!(far_recv.read_to_end(&mut read), write);
    assert_eq!(read.len(), LEN);
    assert_eq!(zerocloud_crdt::id::ContentHash::of(&read), sent);
}

pub(super) async fn two_hundred_streams_are_open_at_once(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(stream(maker, &dialled, &accepted).await);
    }
    for (index, ((send, _), (_, far_recv))) in (0_u8..).zip(&mut streams) {
        send.write_u8(index).await.unwrap();
        send.flush().await.unwrap();
        assert_eq!(far_recv.read_u8().await.unwrap(), index);
    }
}

pub(super) async fn a_path_is_direct(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (dialled, accepted) = connect(&one, &two).await;
    let path = dialled.path().unwrap();
    let super::Route::Direct(address) = path.route else { panic!("{path:?}") };
    assert!(two.addresses().contains(&AddressHint::Direct(address)));
    assert!((0.0..0.5).contains(&path.loss()));
    assert!(matches!(accepted.path().unwrap().route, super::Route::Direct(_)));
}

pub(super) async fn two_dials_at_once_leave_one_connection(maker: &impl Maker) {
    let (one, two) = pair(maker).await;
    let (hints_one, hints_two) = (one.addresses(), two.addresses());
    let (of_one, of_two, at_one, at_two) = tokio::join!(
        one.dial(two.id(), Protocol::Sync, &hints_two),
        two.dial(one.id(), Protocol::Sync, &hints_one),
        one.accept(),
        two.accept(),
    );
    let (of_one, of_two, at_one, at_two) = (of_one.unwrap(), of_two.unwrap(), at_one.unwrap(), at_two.unwrap());
    let (mut held_one, mut held_two) = (super::OnePerPeer::new(one.id()), super::OnePerPeer::new(two.id()));
    // Each sees the two in another order.
    for (held, conns) in [(&mut held_one, [of_one, at_one]), (&mut held_two, [at_two, of_two])] {
        for conn in conns {
            held.offer(conn);
        }
    }
    let (kept_one, kept_two) = (kept(&held_one, two.id()), kept(&held_two, one.id()));
    assert_ne!(kept_one.side(), kept_two.side());
    let _streams = stream(maker, &kept_one, &kept_two).await;
}

fn kept(held: &super::OnePerPeer, peer: DeviceId) -> Conn {
    assert_eq!(held.iter().count(), 1);
    held.conn(peer).unwrap().clone()
}

use std::net::UdpSocket;

use iroh::endpoint::{ConnectOptions, ConnectingError, ConnectionError, VarInt, presets};
use iroh::{RelayMode, SecretKey};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::link::conformance::{everyone, is_refused, keys};
use crate::link::{CloseReason, StreamKind};
use crate::wire::{read_frame, write_frame};

fn loopback() -> IrohSettings {
    IrohSettings { bind: Bind::Address("127.0.0.1:0".parse().unwrap()), relays: Vec::new(), lan: false }
}

async fn open(device: u8) -> IrohLink {
    IrohLink::open(&keys(device), loopback(), everyone()).await.unwrap()
}

/// An endpoint of another program, or of another version of ours.
async fn foreign(device: u8, alpns: &[&[u8]]) -> Endpoint {
    Endpoint::builder(presets::Empty)
        .crypto_provider(Arc::new(settings::crypto_provider()))
        .secret_key(SecretKey::from_bytes(keys(device).identity_seed().expose()))
        .alpns(alpns.iter().map(|alpn| alpn.to_vec()).collect())
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

#[tokio::test]
async fn threat_09_another_version_is_told_so_by_either_side() {
    let ours = open(1).await;
    let newer = foreign(2, &[b"zerocloud/2", ANY_VERSION_ALPN]).await;
    let hints: Vec<AddressHint> = newer.bound_sockets().into_iter().map(AddressHint::Direct).collect();
    let peer = DeviceId(*newer.id().as_bytes());
    let accept = async { newer.accept().await.unwrap().await };
    let (dialled, accepted) = tokio::join!(ours.dial(peer, Protocol::Sync, &hints), accept);
    assert_eq!(dialled.unwrap_err(), DialError::OtherVersion { peer });
    drop(accepted);

    let options = ConnectOptions::new().with_additional_alpns(vec![ANY_VERSION_ALPN.to_vec()]);
    let connecting = newer.connect_with_opts(ours.endpoint.addr(), b"zerocloud/2", options).await.unwrap();
    let error = match connecting.await {
        Ok(connection) => connection.closed().await,
        Err(ConnectingError::ConnectionError { source, .. }) => source,
        Err(error) => panic!("{error}"),
    };
    let ConnectionError::ApplicationClosed(close) = error else { panic!("{error}") };
    assert_eq!(close.error_code, close_varint(CloseCode::OtherVersion));
}

#[tokio::test]
async fn threat_09_a_foreign_protocol_gets_no_connection() {
    let ours = open(1).await;
    let theirs = foreign(2, &[]).await;
    let foreign_dial = theirs.connect(ours.endpoint.addr(), b"other/0");
    tokio::pin!(foreign_dial);
    for _ in 0..20 {
        let friend = open(3).await;
        let hints = ours.addresses();
        let friendly_dial = async {
            let (dialled, accepted) = tokio::join!(friend.dial(ours.id(), Protocol::Sync, &hints), ours.accept());
            dialled.unwrap();
            assert_eq!(accepted.unwrap().peer(), friend.id());
        };
        tokio::select! {
            biased;
            connected = &mut foreign_dial => {
                assert!(connected.is_err());
                return;
            }
            () = friendly_dial => {}
        }
    }
}

#[test]
fn threat_09_the_first_algorithms_are_the_strongest() {
    let provider = settings::crypto_provider();
    assert_eq!(provider.kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(provider.cipher_suites[0].suite(), rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    assert!(provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()));
}

#[tokio::test]
async fn threat_31_a_stranger_reads_and_writes_nothing() {
    let friend = keys(1).id();
    let ours = IrohLink::open(&keys(2), loopback(), Admission::new(move |_, peer| peer == friend)).await.unwrap();
    let stranger = open(3).await;
    for _ in 0..3 {
        let dialled = stranger.dial(ours.id(), Protocol::Sync, &ours.addresses()).await;
        if let Ok(conn) = &dialled
            && let Ok((mut send, mut recv)) = conn.open_bi(StreamKind::Chunk).await
        {
            let _ = send.write_all(b"the chunk of this id").await;
            assert!(read_frame(&mut recv, 1000).await.is_err());
        }
        assert!(is_refused(dialled).await);
    }
    let known = open(1).await;
    known.dial(ours.id(), Protocol::Sync, &ours.addresses()).await.unwrap();
    assert_eq!(ours.accept().await.unwrap().peer(), friend);
}

#[tokio::test]
async fn threat_46_garbage_ends_a_connection_and_nothing_else() {
    let ours = open(1).await;
    let address = ours.bound()[0];
    let theirs = foreign(2, &[]).await;
    let connection = theirs.connect(ours.endpoint.addr(), b"zerocloud/1").await.unwrap();
    let conn = ours.accept().await.unwrap();

    // On the socket.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for len in 0..300 {
        let noise: Vec<u8> = (0..len).map(|index: usize| (index * 89 + len * 31) as u8).collect();
        socket.send_to(&noise, address).unwrap();
        socket.send_to(&[&[0xc0, 0, 0, 0, 1], &noise[..]].concat(), address).unwrap();
    }
    // On streams: a length above the limit, an unfinished frame, a reset.
    for garbage in [&[0xff_u8; 64][..], &[5, 0, 0, 0, 1], &[1, 0]] {
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(garbage).await.unwrap();
        send.finish().unwrap();
        let (_send, mut recv) = conn.accept_bi().await.unwrap();
        assert!(read_frame(&mut recv, 100).await.is_err());
    }
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&[5, 0, 0, 0, 1]).await.unwrap();
    let (_send, mut recv) = conn.accept_bi().await.unwrap();
    send.reset(VarInt::from_u32(99)).unwrap();
    assert!(read_frame(&mut recv, 100).await.is_err());
    // What we do not take: datagrams and streams in one direction.
    assert_eq!(connection.max_datagram_size(), None);
    assert!(timeout(Duration::ZERO, connection.open_uni()).await.is_err());
    // A close with bytes that no terminal should see, under a code that no version has.
    connection.close(VarInt::MAX, b"\x1b[2J\xff");
    let CloseReason::ByPeer { code, reason } = conn.closed().await else { panic!("not by the peer") };
    assert_eq!((code, reason.as_str()), (CloseCode::Other(u32::MAX), "\\u{1b}[2J\u{fffd}"));

    let friend = open(3).await;
    let conn = friend.dial(ours.id(), Protocol::Sync, &ours.addresses()).await.unwrap();
    let accepted = ours.accept().await.unwrap();
    let (mut send, _recv) = conn.open_bi(StreamKind::Control).await.unwrap();
    write_frame(&mut send, b"hello", 100).await.unwrap();
    let (_send, mut recv) = accepted.accept_bi().await.unwrap();
    assert_eq!(read_frame(&mut recv, 100).await.unwrap().unwrap(), b"hello");
}

#[tokio::test]
async fn a_dial_finds_what_was_learnt() {
    let (one, two) = (open(1).await, open(2).await);
    one.learn(two.id(), &two.addresses());
    one.dial(two.id(), Protocol::Sync, &[]).await.unwrap();
}

#[tokio::test]
async fn a_dial_of_no_key_fails() {
    // Not the y coordinate of a point on the curve.
    let peer = DeviceId([2; 32]);
    assert!(PublicKey::from_bytes(peer.as_bytes()).is_err());
    let error = open(1).await.dial(peer, Protocol::Sync, &[]).await.unwrap_err();
    assert_eq!(error, DialError::NotAKey { peer });
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let settings = IrohSettings { bind: Bind::Address(taken), ..loopback() };
    let error = IrohLink::open(&keys(2), settings, everyone()).await.unwrap_err();
    assert!(matches!(error, OpenLinkError::Bind { bind: Bind::Address(address), .. } if address == taken), "{error:?}");
}

#[tokio::test]
async fn every_interface_shares_one_port() {
    let settings = IrohSettings { bind: Bind::EveryInterface { port: 0 }, ..loopback() };
    let link = IrohLink::open(&keys(1), settings, everyone()).await.unwrap();
    let ports: Vec<u16> = link.bound().iter().map(SocketAddr::port).collect();
    assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    for hint in link.addresses() {
        let AddressHint::Direct(address) = hint else { panic!("no relay is configured") };
        assert!(address.port() == ports[0] && is_reachable(address.ip()), "{address}");
    }
}

#[tokio::test]
async fn a_link_bound_to_one_address_tells_only_that() {
    let link = open(1).await;
    assert_eq!(link.addresses(), [AddressHint::Direct(link.bound()[0])]);
}

#[tokio::test]
async fn a_relay_needs_a_url() {
    let relays = vec![Relay::at("no url")];
    let error = IrohLink::open(&keys(1), IrohSettings { relays, ..loopback() }, everyone()).await.unwrap_err();
    assert!(matches!(error, OpenLinkError::RelayUrl { .. }));
}

#[tokio::test]
async fn a_relay_is_told_from_the_start_and_one_that_a_peer_names_is_used_by_who_has_relays_alone() {
    let relays = vec![Relay::at("https://relay.invalid")];
    let with = IrohLink::open(&keys(1), IrohSettings { relays, ..loopback() }, everyone()).await.unwrap();
    assert_eq!(with.addresses()[0], AddressHint::Relay("https://relay.invalid/".to_owned()));
    let key = PublicKey::from_bytes(keys(2).id().as_bytes()).unwrap();
    let hints = [AddressHint::Relay("https://other.invalid/".to_owned())];
    assert_eq!(with.endpoint_addr(key, &hints).addrs.len(), 1);
    assert!(open(1).await.endpoint_addr(key, &hints).is_empty());
}

#[test]
fn the_lan_is_told_first_and_link_local_not_at_all() {
    let mut ips: Vec<IpAddr> = ["127.0.0.1", "169.254.3.4", "2001:db8::1", "fe80::1", "10.0.0.7", "0.0.0.0"]
        .map(|ip| ip.parse().unwrap())
        .into();
    ips.retain(|ip| is_reachable(*ip));
    ips.sort_by_key(|ip| nearness(*ip));
    let texts: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    assert_eq!(texts, ["10.0.0.7", "2001:db8::1", "169.254.3.4", "127.0.0.1"]);
}

/// Packets that a dial may send to an address: a first flight, and its repetitions until the dial is given up.
const PROBE_COUNT_MAX: usize = 40;

#[tokio::test]
async fn threat_47_addresses_of_somebody_else_get_few_small_packets() {
    let ours = open(1).await;
    let bystander = UdpSocket::bind("127.0.0.1:0").unwrap();
    bystander.set_nonblocking(true).unwrap();
    // As many hints as a record has, all of which lead to who never asked.
    let hint = AddressHint::Direct(bystander.local_addr().unwrap());
    let hints = vec![hint; ADDRESS_HINT_COUNT_MAX];
    ours.dial(keys(2).id(), Protocol::Sync, &hints).await.unwrap_err();
    let (mut packet_count, mut len, mut buffer) = (0, 0, [0; 2_000]);
    while let Ok(packet_len) = bystander.recv(&mut buffer) {
        assert!(packet_len <= 1_500, "a packet of {packet_len} bytes");
        packet_count += 1;
        len += packet_len;
    }
    assert!((1..=PROBE_COUNT_MAX).contains(&packet_count), "{packet_count} packets of {len} bytes in all");
}

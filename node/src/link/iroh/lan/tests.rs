use tokio_stream::StreamExt;

use super::*;
use crate::link::conformance::keys;

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

async fn open(device: u8, port: u16) -> (Lan, DeviceId, AbortOnDropHandle<()>) {
    let id = keys(device).id();
    let (lan, hearing) = Lan::open(id, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).unwrap();
    (lan, id, hearing)
}

fn key(device: DeviceId) -> PublicKey {
    PublicKey::from_bytes(device.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_device_is_found_by_its_key_and_others_stay_silent() {
    let (here, _, _hearing) = open(101, 4001).await;
    let (_there, sought, _hearing) = open(102, 4002).await;
    let (_other, _, _hearing) = open(103, 4003).await;
    let item = here.resolve(key(sought)).unwrap().next().await.unwrap().unwrap();
    let address = iroh::TransportAddr::Ip("127.0.0.1:4002".parse().unwrap());
    assert_eq!(item.endpoint_id(), key(sought));
    assert_eq!(item.to_endpoint_addr().addrs.into_iter().collect::<Vec<_>>(), [address]);
}

#[tokio::test(start_paused = true)]
async fn a_search_ends_and_leaves_nothing() {
    let (here, _, _hearing) = open(104, 4004).await;
    let mut items = here.resolve(key(keys(105).id())).unwrap();
    assert_eq!(here.searches().len(), 1);
    assert!(items.next().await.is_none(), "nobody is there, and the dial is to go on");
    assert!(here.searches().is_empty());

    let abandoned = here.resolve(key(keys(105).id())).unwrap();
    drop(abandoned);
    assert!(here.searches().is_empty(), "nobody waits for it any more");
}

#[tokio::test]
async fn searches_have_a_bound() {
    let (here, _, _hearing) = open(106, 4006).await;
    let sought = key(keys(107).id());
    let searches: Vec<_> = (0..LAN_SEARCH_COUNT_MAX).map(|_| here.resolve(sought).unwrap()).collect();
    assert!(here.resolve(sought).is_none());
    drop(searches);
    assert!(here.resolve(sought).is_some());
}

#[tokio::test]
async fn answers_that_nobody_asked_for_are_kept_nowhere() {
    let (here, _, _hearing) = open(108, 4008).await;
    let (sought, other) = (keys(109).id(), keys(110).id());
    let mut items = here.resolve(key(sought)).unwrap();
    let liar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mouth = here.0.mouth.local_addr().unwrap();
    let answer = |device, port| Word::Answer { device, port: NonZeroU16::new(port).unwrap() }.to_bytes();
    for bytes in [answer(other, 1), b"zc-lan".to_vec(), vec![0; 60_000], answer(sought, 2)] {
        liar.send_to(&bytes, mouth).await.unwrap();
    }
    let item = items.next().await.unwrap().unwrap();
    // By the time that the last was heard, all were.
    assert_eq!(item.to_endpoint_addr().ip_addrs().next().unwrap().port(), 2);
    assert_eq!(here.searches().len(), 1);
}

#[tokio::test]
async fn however_many_answer_few_addresses_are_kept_of_a_device() {
    let (here, _, _hearing) = open(111, 4011).await;
    let sought = keys(112).id();
    let items = here.resolve(key(sought)).unwrap();
    for port in 1..1_000 {
        here.find(sought, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    }
    here.0.searches.lock().unwrap().clear();
    let kept: Vec<_> = tokio::time::timeout(SEARCH * 2, items.collect()).await.unwrap();
    assert_eq!(kept.len(), ADDRESS_HINT_COUNT_MAX);
}

#[test]
fn a_network_is_asked_at_its_broadcast_address_and_no_host_elsewhere_is_believed() {
    let home = Network::of(v4("192.168.7.9"), 24).unwrap();
    assert_eq!(home.broadcast, v4("192.168.7.255"));
    assert!(home.has(v4("192.168.7.1")));
    for foreign in ["192.168.8.1", "8.8.8.8", "192.168.7.255", "0.0.0.0"] {
        assert!(!home.has(v4(foreign)), "{foreign}");
    }
    assert_eq!(Network::of(v4("10.1.2.3"), 9).unwrap().broadcast, v4("10.127.255.255"));
    for prefix_len in [0, 31, 32, 33, 255] {
        assert_eq!(Network::of(v4("192.168.7.9"), prefix_len), None, "/{prefix_len}");
    }
}

#[test]
fn who_is_bound_to_one_address_speaks_to_its_network_alone() {
    let [home, work, own] = [("192.168.7.9", 24), ("10.0.0.9", 8), ("127.0.0.1", 8)]
        .map(|(address, prefix_len)| Network::of(v4(address), prefix_len).unwrap());
    let spoken_to = |bound: &str| [home, work, own].map(|network| network.is_spoken_to_from(v4(bound)));
    assert_eq!(spoken_to("0.0.0.0"), [true, true, false]);
    assert_eq!(spoken_to("10.0.0.9"), [false, true, false]);
    assert_eq!(spoken_to("127.0.0.1"), [false, false, true]);
}

#[test]
fn answers_have_a_rate() {
    let (mut allowance, begun) = (Allowance::default(), Instant::now());
    let taken = |allowance: &mut Allowance, at| (0..1_000).filter(|_| allowance.take(begun + at)).count();
    assert_eq!(taken(&mut allowance, Duration::ZERO), LAN_ANSWER_COUNT_MAX);
    assert_eq!(taken(&mut allowance, ANSWER_PERIOD / 2), 0);
    assert_eq!(taken(&mut allowance, ANSWER_PERIOD), LAN_ANSWER_COUNT_MAX);
}

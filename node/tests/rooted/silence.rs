//! Where packets go: nowhere but to whom the user named.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::harness::{Lab, agree, until};
use super::network::{Cable, Packet};
use super::{PROGRAM, rights};

/// How long nothing may be sent. Longer than what a node does at its start: a lookup, a report, a first beacon.
const SILENCE: Duration = Duration::from_secs(12);
/// How long a node that has lost its peer is watched while it looks for it.
const SEARCH: Duration = Duration::from_secs(6);

/// Whom multicast DNS asks (RFC 6762).
const MULTICAST_DNS: &str = "224.0.0.251";

/// All but what a kernel says of itself.
fn sent(packets: Vec<Packet>) -> Vec<Packet> {
    packets.into_iter().filter(|packet| !packet.is_membership()).collect()
}

/// Fails as soon as something is sent.
fn assert_silent(seen: impl Fn() -> Vec<Packet>, what: &str) {
    let begun = Instant::now();
    while begun.elapsed() < SILENCE {
        let sent = sent(seen());
        assert!(sent.is_empty(), "{what} sent {sent:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn without_lan_and_relay_packets_go_to_no_address_but_a_peers() {
    if !rights::is_root() {
        return;
    }
    let lab = Lab::new(PROGRAM);
    let cable = Cable::new();
    let [here, there] = &cable.ends;
    let capture = here.capture();
    let a = lab.device_in(here.place(), "laptop");
    a.write("file", "content");
    a.add_space();
    let ticket = a.invite(&["--me"]);
    assert_silent(|| capture.packets(), "a node that knows no peer");

    let mut b = lab.device_in(there.place(), "desk");
    b.join(&ticket);
    agree(&[&a, &b]);
    b.kill();
    let begun = Instant::now();
    while begun.elapsed() < SEARCH {
        std::thread::sleep(Duration::from_millis(100));
    }
    let packets = sent(capture.packets());
    let known = [here.address(), there.address()];
    let is_to_others = |packet: &&Packet| packet.ends().is_some_and(|ends| !ends.iter().all(|end| known.contains(end)));
    let others: Vec<_> = packets.iter().filter(is_to_others).collect();
    assert!(others.is_empty(), "there were packets of others than {known:?}: {others:?}");
    assert!(packets.iter().any(|packet| packet.ends().is_some()), "the two spoke, and it was not seen");

    // What a node might send would have been seen: to a server far away, and to the neighbours.
    for address in ["192.0.2.1:53", "224.0.0.251:5353"] {
        here.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", address).unwrap());
    }
    let others = |packets: Vec<Packet>| sent(packets).iter().filter(is_to_others).count();
    until("two datagrams are seen", || others(capture.packets()) >= 2);
}

#[test]
fn with_lan_on_a_node_is_heard_by_its_neighbours() {
    if !rights::is_root() {
        return;
    }
    let lab = Lab::new(PROGRAM);
    let cable = Cable::new();
    let home = lab.path().join("laptop.home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("config.toml"), "lan = true\n").unwrap();
    let capture = cable.ends[1].capture();
    let a = lab.device_in(cable.ends[0].place(), "laptop");
    a.add_space();
    let asked = Some(MULTICAST_DNS.parse().unwrap());
    until("a query is heard", || capture.packets().iter().any(|packet| packet.ends().map(|[_, to]| to) == asked));
}

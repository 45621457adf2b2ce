//! Real nodes at the ends of long, narrow and lossy paths. Files arrive whole, whatever the path; how fast they do is
//! nobody's claim here: `cargo run -p zerocloud-testnet -- path measure` tells, and docs/far.md.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use zerocloud_testnet::far::{Conditions, Far, Measured, Sent, reroute, transfer};

use super::are_networks as are_paths;
use super::program::program;

fn sent(there_mib: usize, back_mib: usize) -> Sent {
    Sent { there_len: there_mib << 20, back_len: back_mib << 20, program: Some(program()) }
}

/// Sends files over a path, if there can be one.
fn send(conditions: Conditions, there_mib: usize, back_mib: usize) -> Option<Measured> {
    are_paths().then(|| transfer(&conditions, &sent(there_mib, back_mib)).unwrap())
}

#[test]
fn a_path_is_as_long_and_as_lossy_as_asked() {
    // As many as a socket keeps until they are read.
    const COUNT: usize = 100;
    if !are_paths() {
        return;
    }
    let far = Far::new(&[Conditions::sound(80.0, 100.0).with_loss(10.0)]).unwrap();
    let [near, distant] =
        [0, 1].map(|end| far.inside(end, || UdpSocket::bind((Far::address(end, 0), 0))).unwrap().unwrap());
    distant.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (sent, to) = (Instant::now(), distant.local_addr().unwrap());
    for n in 0..COUNT {
        near.send_to(&n.to_le_bytes(), to).unwrap();
    }
    let mut packet = [0; 8];
    distant.recv(&mut packet).unwrap();
    assert!(sent.elapsed() >= Duration::from_millis(40), "half a round trip took {:?}", sent.elapsed());
    let known_count = || far.tallies(0)[0].arrived_count + far.tallies(0)[0].lost_count;
    while known_count() < COUNT as u64 {
        assert!(sent.elapsed() < Duration::from_secs(60), "{:?}", far.tallies(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    let [there, back] = far.tallies(0);
    assert!((2..=30).contains(&there.lost_count), "one in ten was to be lost: {there:?}");
    assert_eq!((there.arrived_count + there.lost_count, there.dropped_count), (COUNT as u64, 0));
    assert_eq!(back.arrived_count, 0);
    for _ in 1..there.arrived_count {
        distant.recv(&mut packet).unwrap();
    }
}

#[test]
fn a_file_arrives_over_a_long_path_and_cubic_stays() {
    let Some(Measured { there, back }) = send(Conditions::sound(50.0, 100.0), 24, 8) else { return };
    assert_eq!((there.congestion, back.unwrap().congestion), ("cubic".into(), "cubic".into()));
    assert_eq!(there.tally.lost_count, 0);
}

#[test]
fn a_file_arrives_over_a_long_path_that_loses_few_packets() {
    let Some(Measured { there, .. }) = send(Conditions::sound(50.0, 100.0).with_loss(0.1), 8, 0) else { return };
    assert!(there.tally.lost_count > 0, "nothing was lost");
}

#[test]
fn on_a_path_that_loses_many_packets_both_ends_come_to_bbr3() {
    let Some(Measured { there, back }) = send(Conditions::sound(50.0, 100.0).with_loss(1.0), 4, 4) else { return };
    for direction in [there, back.unwrap()] {
        assert!(direction.tally.lost_count > 0, "nothing was lost");
        assert_eq!(direction.congestion, "bbr3", "{direction:?}");
    }
}

#[test]
fn a_file_arrives_from_the_other_side_of_the_world() {
    let Some(Measured { there, .. }) = send(Conditions::sound(200.0, 100.0).with_loss(0.1), 4, 0) else { return };
    assert!(there.tally.lost_count > 0, "nothing was lost");
}

#[test]
fn a_file_arrives_over_a_narrow_path() {
    let Some(Measured { there, .. }) = send(Conditions::sound(50.0, 2.0), 2, 0) else { return };
    assert!(there.elapsed.as_secs_f64() > (2 << 20) as f64 * 8.0 / 2e6, "faster than the path: {:?}", there.elapsed);
}

/// Takes one of two paths away in the middle of a file.
fn take_away(conditions: &Conditions, mib: usize) {
    if !are_paths() {
        return;
    }
    let rerouted = reroute(conditions, &sent(mib, 0)).unwrap();
    assert!(rerouted.are_same_processes, "a node ended");
    assert!(rerouted.arrived_len.iter().all(|len| *len >= 1 << 20), "one path carried nothing: {rerouted:?}");
}

#[test]
fn a_file_arrives_though_its_path_goes_away_in_the_middle() {
    take_away(&Conditions::sound(30.0, 8.0), 6);
}

#[test]
fn a_file_that_comes_over_tcp_arrives_though_its_path_goes_away_in_the_middle() {
    take_away(&Conditions::sound(2.0, 16.0), 8);
}

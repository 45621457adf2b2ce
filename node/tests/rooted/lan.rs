//! Devices that find each other on a network where multicast DNS can't work.

use std::net::{IpAddr, Ipv4Addr};

use super::harness::{Lab, agree, until};
use super::network::Cable;
use super::{PROGRAM, rights};

/// Whom multicast DNS asks (RFC 6762).
const MULTICAST_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251));
/// The broadcast address of the cable.
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 255));

#[test]
fn without_multicast_a_device_is_found_by_its_key_wherever_it_is() {
    if !rights::is_root() {
        return;
    }
    let lab = Lab::new(PROGRAM);
    let cable = Cable::bare();
    let [here, there] = &cable.ends;
    for name in ["laptop", "desk"] {
        let home = lab.path().join(format!("{name}.home"));
        std::fs::create_dir(&home).unwrap();
        std::fs::write(home.join("config.toml"), format!("lan = true\nname = \"{name}\"\n")).unwrap();
    }
    let mut a = lab.device_in(here.place_anywhere(), "laptop");
    a.write("file", "content");
    a.add_space();
    let ticket = a.invite(&["--me"]);
    // What the ticket says of where the device is holds no longer.
    a.stop();
    here.take_address(Ipv4Addr::new(10, 77, 0, 101));
    let capture = there.capture();
    a.start();

    let mut b = lab.device_in(there.place_anywhere(), "desk");
    b.join(&ticket);
    agree(&[&a, &b]);
    assert_eq!(b.read("file"), "content");

    // Both move, so that nothing holds that either knows of the other.
    let was_met = |device: &super::harness::Device| device.connected_count() == 1;
    a.stop();
    b.stop();
    here.take_address(Ipv4Addr::new(10, 77, 0, 102));
    there.take_address(Ipv4Addr::new(10, 77, 0, 103));
    b.start();
    a.start();
    until("they meet again", || was_met(&a) && was_met(&b));
    a.write("other", "content, too");
    agree(&[&a, &b]);

    let to = |address: IpAddr| {
        capture.packets().iter().filter(|packet| packet.ends().map(|[_, to]| to) == Some(address)).count()
    };
    assert!(to(EVERYBODY) > 0, "nobody was asked by broadcast");
    assert_eq!(to(MULTICAST_DNS), 0, "multicast DNS works here, so this shows nothing");
}

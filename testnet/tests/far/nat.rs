//! Nodes behind routers that let nobody in, and a relay that both reach.

use std::time::{Duration, Instant};

use super::are_networks;
use super::harness::{Device, Lab, agree, until};
use super::internet::{Internet, Nat};
use super::program::program;
use super::relay::{Identity, Relay};

/// Where relays tell addresses unless they are set up otherwise.
const DISCOVERY_PORT: u16 = 7842;
/// Another place for that.
const OTHER_DISCOVERY_PORT: u16 = 3478;
/// How long two nodes that can't reach each other are watched. A direct path is there after a few round trips, if at all.
const WATCH: Duration = Duration::from_secs(10);

/// Two homes, a relay, and what two devices in them need to know of it.
struct World {
    // Before the relay, and that before the internet.
    lab: Lab,
    relay: Relay,
    internet: Internet,
}

impl World {
    fn new(nats: [Nat; 2], discovery: u16) -> Self {
        let (internet, lab) = (Internet::new(&nats), Lab::new(program()));
        let identity = Identity::new(Internet::server_address());
        identity.write_certificate(&lab.path().join("relay.pem"));
        let relay = Relay::start(internet.server_network(), Internet::server_address(), discovery, &identity);
        Self { lab, relay, internet }
    }

    /// A device in a home, which knows the relay by the certificate in the lab's `relay.pem`.
    fn device(&self, home: usize, name: &str, more: &str) -> Device {
        let directory = self.lab.path().join(format!("{name}.home"));
        std::fs::create_dir(&directory).unwrap();
        // Beside config.toml, so that a path that is not absolute is tried.
        std::fs::copy(self.lab.path().join("relay.pem"), directory.join("relay.pem")).unwrap();
        let settings = format!(
            "lan = false\nname = \"{name}\"\nrelays = [{{ url = \"{}\", certificate = \"relay.pem\"{more} }}]\n",
            self.relay.url()
        );
        std::fs::write(directory.join("config.toml"), settings).unwrap();
        self.lab.device_in(self.internet.place(home), name)
    }

    /// Two devices that share a space, each in a home.
    fn pair(&self, more: &str) -> [Device; 2] {
        let devices = [self.device(0, "laptop", more), self.device(1, "desk", more)];
        devices[0].write("first", "content");
        devices[0].add_space();
        devices[1].join(&devices[0].invite(&["--me"]));
        agree(&[&devices[0], &devices[1]]);
        devices
    }
}

/// How a device reaches its only peer, as it says.
fn path(device: &Device) -> String {
    device.space_status()["peers"][0]["path"].as_str().unwrap().to_owned()
}

/// Has each of two devices write a file, and waits until both have both.
fn exchange([one, other]: &[Device; 2], name: &str) {
    one.write(&format!("{name}-there"), vec![b'a'; 300_000]);
    other.write(&format!("{name}-back"), vec![b'b'; 300_000]);
    agree(&[one, other]);
    assert!(one.tree().has(format!("{name}-back")) && other.tree().has(format!("{name}-there")));
}

#[test]
fn behind_two_easy_routers_nodes_meet_on_the_relay_and_go_direct() {
    if !are_networks() {
        return;
    }
    let world = World::new([Nat::Easy; 2], DISCOVERY_PORT);
    let devices = world.pair("");
    until("both have a direct path", || devices.iter().all(|device| path(device) == "direct"));
    exchange(&devices, "direct");

    // From here on the relay is nobody's need.
    let World { lab: _lab, relay, internet: _internet } = world;
    drop(relay);
    exchange(&devices, "without-a-relay");
    for device in &devices {
        assert_eq!(path(device), "direct");
        assert!(!device.log().contains("disconnected"), "the connection did not live through it: {}", device.log());
    }
    until("it is told that the relay is gone", || {
        let warnings = devices[0].ask(&["status"])["warnings"].to_string();
        warnings.contains("none of the relays answers (https://198.18.0.1/)")
    });
}

#[test]
fn a_symmetric_router_against_one_that_filters_ports_leaves_the_relay_in_between() {
    if !are_networks() {
        return;
    }
    let world = World::new([Nat::Symmetric, Nat::Easy], OTHER_DISCOVERY_PORT);
    let devices = world.pair(&format!(", discovery_port = {OTHER_DISCOVERY_PORT}"));
    exchange(&devices, "relayed");
    let begun = Instant::now();
    while begun.elapsed() < WATCH {
        devices.iter().for_each(|device| assert_eq!(path(device), "relay"));
        std::thread::sleep(Duration::from_millis(200));
    }
    exchange(&devices, "still-relayed");
}

#[test]
fn a_relay_with_another_certificate_is_not_used_and_that_is_told() {
    if !are_networks() {
        return;
    }
    let world = World::new([Nat::Easy; 2], DISCOVERY_PORT);
    Identity::new(Internet::server_address()).write_certificate(&world.lab.path().join("relay.pem"));
    let device = world.device(0, "laptop", "");
    until("it is told", || {
        let warnings = device.ask(&["status"])["warnings"].to_string();
        warnings.contains("the relay https://198.18.0.1/ shows another certificate than the one in")
            && warnings.contains("laptop.home/relay.pem")
    });
}

//! Members that lie about what they have: a device of the space ends, and the test speaks in its place, with its keys.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_bytes::ByteBuf;
use tokio::runtime::Runtime;
use zerocloud::home::Home;
use zerocloud::link::iroh::{Bind, IrohLink, IrohSettings};
use zerocloud::link::{AddressHint, Admission, Conn, Link, Protocol, RecvStream, SendStream, StreamKind};
use zerocloud::wire::{read_frame, write_frame};
use zerocloud_crdt::id::{ContentHash, EntryHash, SpaceId};
use zerocloud_crdt::keys::DeviceKeys;
use zerocloud_crdt::log::{Frontier, Position, SignedFrontier};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::wire::{Control, Hello, Log, Message, Opening};

use super::harness::{Device, Lab, PATIENCE, agree, agree_through, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// Who speaks in a device's place.
struct Liar {
    runtime: Runtime,
    keys: DeviceKeys,
    name: Name,
    space: SpaceId,
    link: IrohLink,
}

/// What it said and heard, while the connection is held.
struct Said {
    /// What the node said that it has.
    heard: Frontier,
    _held: (Conn, [(SendStream, RecvStream); 2]),
}

impl Liar {
    /// In the place of a device that runs no more.
    fn of(device: &Device) -> Self {
        let home = Home::open(device.home()).unwrap();
        let name = Name::parse(device.name().as_bytes()).unwrap();
        let keys = home.load_secrets().unwrap().unwrap().device_keys();
        let space = home.stored_spaces().unwrap()[0];
        let runtime = Runtime::new().unwrap();
        let settings = IrohSettings { bind: Bind::Address(address(0)), relays: Vec::new(), lan: false };
        let link = runtime.block_on(IrohLink::open(&keys, settings, Admission::new(|_, _| true))).unwrap();
        Self { runtime, keys, name, space, link }
    }

    /// Connects with a node, hears what it has, and says what `told` makes of that.
    fn tell(&self, device: &Device, told: impl FnOnce(Frontier) -> Frontier) -> Said {
        let home = Home::open(device.home()).unwrap();
        let peer = home.load_secrets().unwrap().unwrap().device_keys().id();
        let hint = AddressHint::Direct(address(home.last_port().unwrap()));
        let talk = async {
            let conn = self.link.dial(peer, Protocol::Sync, &[hint]).await.unwrap();
            let mut control = conn.open_bi(StreamKind::Control).await.unwrap();
            say(&mut control.0, &Opening::Control).await;
            let name = self.name.clone();
            let hello = Hello { agent: "liar".to_owned(), name, spaces: vec![self.space], addresses: ByteBuf::new() };
            say(&mut control.0, &Control::Hello(hello)).await;
            let mut log = conn.open_bi(StreamKind::Log).await.unwrap();
            say(&mut log.0, &Opening::Log { space: self.space }).await;
            say(&mut log.0, &Log::Records { heads: Vec::new(), records: Vec::new() }).await;
            let heard = loop {
                let frame = read_frame(&mut log.1, Log::LEN_MAX).await.unwrap().expect("it says what it has");
                if let Log::Frontier(bytes) = Log::from_bytes(&frame).unwrap() {
                    break SignedFrontier::decode(self.space, &bytes).unwrap().frontier;
                }
            };
            let told = told(heard.clone());
            let shown = ContentHash::of(&told.encode().unwrap()).0;
            let signed = SignedFrontier::sign(&self.keys.signing_key(), self.space, told).unwrap();
            say(&mut log.0, &Log::Frontier(ByteBuf::from(signed.as_bytes()))).await;
            say(&mut log.0, &Log::Materialised(shown)).await;
            Said { heard, _held: (conn, [control, log]) }
        };
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, talk).await.expect("the node does not answer") })
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        // Its connections end at once.
        self.runtime.block_on(self.link.close());
    }
}

const fn address(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

async fn say<'b, M: Message<'b>>(send: &mut SendStream, message: &M) {
    write_frame(send, &message.to_bytes(), M::LEN_MAX).await.unwrap();
}

fn warnings(device: &Device) -> String {
    device.ask(&["status"])["warnings"].to_string()
}

fn is_in_sync_with_one(device: &Device) -> bool {
    let status = device.space_status();
    let is_so = |peer: &serde_json::Value| peer["connected"] == true && peer["in_sync"] == true;
    status["peers"].as_array().unwrap().iter().any(is_so)
}

#[test]
fn threat_17_a_member_that_tells_of_an_older_state_is_named_and_nothing_goes_back() {
    let lab = Lab::new(PROGRAM);
    let (laptop, mut desk) = lab.pair();
    laptop.write("one", "by the laptop");
    desk.write("two", "by the desk");
    agree(&[&laptop, &desk]);
    let before = laptop.tree();
    assert!(!warnings(&laptop).contains("desk"), "{}", warnings(&laptop));
    desk.stop();

    let liar = Liar::of(&desk);
    let said = liar.tell(&laptop, |_| Frontier::default());
    assert!(!said.heard.is_empty());
    until("the laptop names it", || warnings(&laptop).contains("desk went back behind what it had"));
    laptop.tree().assert_same("the laptop now", &before, "the laptop before");
    drop((said, liar));

    // Nobody else is held for it, and the device that comes again with all that it had is believed.
    desk.start();
    desk.write("three", "by the desk");
    agree(&[&laptop, &desk]);
    until("the laptop believes it", || !warnings(&laptop).contains("desk went back"));
}

#[test]
fn threat_19_a_member_that_tells_two_devices_of_two_states_is_named_when_they_meet() {
    let lab = Lab::new(PROGRAM);
    let (mut laptop, mut desk) = lab.pair();
    let mut phone = lab.device("phone");
    phone.join(&laptop.invite(&["--me"]));
    agree_through(&laptop, &[&desk, &phone]);
    phone.stop();
    desk.stop();

    // To each it says that it has what that one has, and not what the other has.
    let liar = Liar::of(&phone);
    let echo_to = |device: &Device, file: &str| {
        device.write(file, device.name());
        until("it is in the log", || device.ask(&["ls", "Photos"]).to_string().contains(file));
        let said = liar.tell(device, |heard| heard);
        until("it is believed", || is_in_sync_with_one(device));
        said.heard
    };
    let to_laptop = echo_to(&laptop, "one");
    laptop.stop();
    desk.start();
    let to_desk = echo_to(&desk, "two");
    assert!(!to_laptop.lacked_by(&to_desk).is_empty() && !to_desk.lacked_by(&to_laptop).is_empty());
    assert!(!warnings(&desk).contains("phone"), "it knows no better yet: {}", warnings(&desk));
    drop(liar);

    laptop.start();
    agree(&[&laptop, &desk]);
    for device in [&laptop, &desk] {
        until("it names the phone", || warnings(device).contains("phone showed different states"));
        assert!(!warnings(device).contains("laptop") && !warnings(device).contains("desk"), "{}", warnings(device));
    }
    phone.start();
    agree_through(&laptop, &[&desk, &phone]);
    for device in [&laptop, &desk] {
        until("it believes the phone", || !warnings(device).contains("phone"));
    }
}

#[test]
fn threat_20_a_member_that_does_not_bring_what_it_says_it_has_is_named_and_holds_nobody_up() {
    let lab = Lab::new(PROGRAM);
    let (laptop, desk) = lab.pair();
    let mut phone = lab.device("phone");
    phone.join(&laptop.invite(&["--me"]));
    agree_through(&laptop, &[&desk, &phone]);
    phone.write("three", "by the phone");
    agree_through(&laptop, &[&desk, &phone]);
    phone.stop();

    let liar = Liar::of(&phone);
    let own = liar.keys.id();
    let said = liar.tell(&laptop, |mut heard| {
        let (log, last) = heard.iter().find(|(log, _)| log.author == own).unwrap();
        heard.advance(log, Position { number: last.number + 5, hash: EntryHash([7; 32]) });
        heard
    });
    // It has three rounds of 20 seconds to bring it; meanwhile others sync, though it never answers when it is asked for
    // what they wrote.
    let begun = Instant::now();
    let mut round = 0;
    while !warnings(&laptop).contains("phone holds back 5 entries") {
        assert!(begun.elapsed() < 3 * PATIENCE, "{}", warnings(&laptop));
        round += 1;
        desk.write("two", format!("{round}"));
        until("the laptop has it", || laptop.at("two").exists() && laptop.read("two") == format!("{round}"));
        // It does not read what it is told either: of thousands of words its end of the connection would break.
        std::thread::sleep(Duration::from_millis(100));
    }
    drop((said, liar));
    phone.start();
    agree_through(&laptop, &[&desk, &phone]);
}

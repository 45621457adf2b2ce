//! Members' addresses that are passed on.

use super::*;
use zerocloud_crdt::address::{DirectAddress, SignedAddresses};
use zerocloud_crdt::keys::{DeviceKeys, Secret};

fn record(keys: &DeviceKeys, counter: u64) -> ByteBuf {
    let address = DirectAddress::new([192, 0, 2, 7].into(), 4433).unwrap();
    ByteBuf::from(AddressRecord::make(keys, counter, vec![SignedHint::Direct(address)]))
}

fn signed(bytes: &[u8]) -> SignedAddresses {
    SignedAddresses::decode(bytes).unwrap()
}

/// What a device knows of where others are: of whom, and the counter.
fn book(device: &Device) -> BTreeMap<DeviceId, u64> {
    let known = device.spaces.addresses().newer_than(&BTreeMap::new());
    known.iter().map(|addresses| (addresses.record().device, addresses.record().counter)).collect()
}

/// The first device of a space, and the second one as its test speaks for it.
struct Spoken {
    founding: Founding,
    a: Device,
    /// Whose end would end the connection.
    _link: Arc<dyn Link>,
    conn: Conn,
    send: SendStream,
    receive: RecvStream,
}

impl Spoken {
    /// `known`: what the first device knows before. `own`: what the second says of itself.
    async fn begin(seed: u64, known: &[&[u8]], own: impl FnOnce(&Founding) -> ByteBuf) -> Self {
        let founding = founding(3, seed);
        let net = MemoryNet::new();
        let a = Device::start(&founding, 0, Arc::new(net.join(founding.keys[0].id(), everyone())));
        for bytes in known {
            a.spaces.addresses().learn(signed(bytes));
        }
        let b: Arc<dyn Link> = Arc::new(net.join(founding.keys[1].id(), everyone()));
        let conn = b.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
        let (mut send, mut receive) = conn.open_bi(StreamKind::Control).await.unwrap();
        write_frame(&mut send, &Opening::Control.to_bytes(), Opening::LEN_MAX).await.unwrap();
        let (name, spaces) = (Name::parse(b"b").unwrap(), vec![founding.space]);
        let hello = Hello { agent: "test".into(), name, spaces, addresses: own(&founding) };
        write_frame(&mut send, &Control::Hello(hello).to_bytes(), Control::LEN_MAX).await.unwrap();
        assert!(matches!(read::<Control>(&mut receive).await, Ok(Some(Control::Hello(_)))));
        Self { founding, a, _link: b, conn, send, receive }
    }

    async fn say(&mut self, records: Vec<ByteBuf>) {
        write_frame(&mut self.send, &Control::Addresses(records).to_bytes(), Control::LEN_MAX).await.unwrap();
    }

    async fn hear(&mut self) -> Control {
        read::<Control>(&mut self.receive).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn threat_47_members_alone_are_told_of_and_believed_of() {
    let keys = founding(3, 51).keys;
    let stranger = |seed: u8| DeviceKeys::from_seed(Secret::new([seed; 32]));
    let (another, stranger, member) = (stranger(201), stranger(202), &keys[2]);
    // The first device knows of both: the stranger is a member of another space of its.
    let known = [record(&stranger, 1), record(member, 1)];
    let mut spoken = Spoken::begin(51, &[&known[0], &known[1]], |_| ByteBuf::new()).await;
    assert_eq!(spoken.hear().await, Control::Addresses(vec![known[1].clone()]));

    spoken.say(vec![record(&another, 1), record(&stranger, 2), record(member, 2), record(member, 1)]).await;
    until(|| book(&spoken.a)[&member.id()] == 2).await;
    // A message that is understood after it: an older record is a replay.
    spoken.say(vec![record(member, 1)]).await;
    spoken.say(vec![record(&spoken.founding.keys[1], 5)]).await;
    until(|| book(&spoken.a).contains_key(&keys[1].id())).await;
    let expected = [(stranger.id(), 1), (member.id(), 2), (keys[1].id(), 5)].into_iter().collect();
    assert_eq!(book(&spoken.a), expected);
    assert!(spoken.conn.close_reason().is_none());
}

#[tokio::test]
async fn a_newer_record_is_passed_on_while_the_connection_lasts_and_not_to_whom_it_came_from() {
    let keys = founding(3, 54).keys;
    let mut spoken = Spoken::begin(54, &[], |founding| record(&founding.keys[1], 3)).await;
    until(|| book(&spoken.a).get(&keys[1].id()) == Some(&3)).await;
    spoken.say(vec![record(&keys[2], 1)]).await;
    until(|| book(&spoken.a).contains_key(&keys[2].id())).await;
    spoken.a.spaces.addresses().learn(signed(&record(&keys[2], 2)));
    assert_eq!(spoken.hear().await, Control::Addresses(vec![record(&keys[2], 2)]));
}

#[tokio::test]
async fn threat_47_what_the_device_did_not_sign_ends_the_session() {
    let keys = founding(3, 55).keys;
    let mut spoken = Spoken::begin(55, &[], |_| ByteBuf::new()).await;
    let mut forged = record(&keys[2], 1);
    *forged.last_mut().unwrap() ^= 1;
    spoken.say(vec![forged]).await;
    let reason = spoken.conn.closed().await;
    assert!(matches!(reason, CloseReason::ByPeer { code: CloseCode::Violation, .. }), "{reason:?}");
    assert_eq!(book(&spoken.a), BTreeMap::new());
}

use std::sync::Arc;

use proptest::prelude::*;

use super::conformance::{Maker, connect, everyone, keys};
use super::iroh::{Bind, IrohLink, IrohSettings};
use super::memory::MemoryNet;
use super::*;

impl Maker for MemoryNet {
    fn link(&self, device: u8, admission: Admission) -> BoxFuture<'_, Arc<dyn Link>> {
        Box::pin(async move { Arc::new(self.join(keys(device).id(), admission)) as Arc<dyn Link> })
    }
}

/// iroh over loopback, and nothing else; with streams of one kind.
struct Loopback(StreamKind);

impl Maker for Loopback {
    fn kind(&self) -> StreamKind {
        self.0
    }

    fn link(&self, device: u8, admission: Admission) -> BoxFuture<'_, Arc<dyn Link>> {
        let bind = Bind::Address("127.0.0.1:0".parse().unwrap());
        let settings = IrohSettings { bind, relays: Vec::new(), lan: false };
        Box::pin(
            async move { Arc::new(IrohLink::open(&keys(device), settings, admission).await.unwrap()) as Arc<dyn Link> },
        )
    }
}

mod memory_conforms {
    use super::MemoryNet;
    crate::link::conformance::conformance!(MemoryNet::new());
}

mod iroh_conforms {
    use super::{Loopback, StreamKind};
    crate::link::conformance::conformance!(Loopback(StreamKind::Log));
}

mod lanes_conform {
    use super::{Loopback, StreamKind};
    crate::link::conformance::conformance!(Loopback(StreamKind::Chunk));
}

#[tokio::test]
async fn a_cut_pair_falls_silent_and_a_healed_one_talks() {
    let net = MemoryNet::new();
    let (one, two) = (net.link(1, everyone()).await, net.link(2, everyone()).await);
    let three = net.link(3, everyone()).await;
    let (dialled, accepted) = connect(&one, &two).await;
    let (other, _other_end) = connect(&one, &three).await;
    net.cut(two.id(), one.id());
    assert_eq!(dialled.closed().await, CloseReason::Silent);
    assert_eq!(accepted.closed().await, CloseReason::Silent);
    assert_eq!(other.close_reason(), None);
    let error = one.dial(two.id(), Protocol::Sync, &two.addresses()).await.unwrap_err();
    assert_eq!(error, DialError::NoAnswer { peer: two.id() });
    net.heal(one.id(), two.id());
    let (again, _end) = connect(&one, &two).await;
    net.drop_connections(one.id(), two.id());
    assert_eq!(again.closed().await, CloseReason::Silent);
    connect(&two, &one).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_already_does_not_stay() {
    let net = MemoryNet::new();
    // The rule alone keeps what the lower id dialled.
    let (lower, upper) = if keys(1).id() < keys(2).id() { (1, 2) } else { (2, 1) };
    let (lower, upper) = (net.link(lower, everyone()).await, net.link(upper, everyone()).await);
    let mut held = OnePerPeer::new(upper.id());
    let (of_lower, at_upper) = connect(&lower, &upper).await;
    assert!(matches!(held.offer(at_upper.clone()), Offered::Kept));
    let (of_upper, _at_lower) = connect(&upper, &lower).await;
    assert!(matches!(held.offer(of_upper.clone()), Offered::Closed));
    assert_eq!(of_upper.close_reason(), Some(CloseReason::ByUs));
    of_lower.close(CloseCode::Done, "");
    let (of_upper, _at_lower) = connect(&upper, &lower).await;
    assert!(matches!(held.offer(of_upper.clone()), Offered::Replaced(old) if old.is_same(&at_upper)));
    assert!(!held.forget(&at_upper));
    assert!(held.forget(&of_upper));
    assert!(held.conn(lower.id()).is_none());
}

proptest! {
    #[test]
    fn both_ends_keep_the_same_connection(one in any::<[u8; 32]>(), two in any::<[u8; 32]>(), one_first in any::<bool>(), two_first in any::<bool>()) {
        prop_assume!(one != two);
        let (one, two) = (DeviceId(one), DeviceId(two));
        // What each keeps of the two connections, when it saw its own first or second: who dialled it.
        let kept = |us: DeviceId, peer: DeviceId, own_first: bool| {
            let (held, fresh) = if own_first { (Side::Dialled, Side::Accepted) } else { (Side::Accepted, Side::Dialled) };
            let side = match keep_which(us, peer, held, fresh) { Keep::Held => held, Keep::Fresh => fresh };
            if side == Side::Dialled { us } else { peer }
        };
        prop_assert_eq!(kept(one, two, one_first), one.min(two));
        prop_assert_eq!(kept(two, one, two_first), one.min(two));
    }

    #[test]
    fn close_codes_survive_the_wire(number in any::<u32>()) {
        prop_assert_eq!(CloseCode::from_number(number).to_number(), number);
    }

    #[test]
    fn any_reason_of_a_peer_is_a_bounded_line_that_can_be_shown(bytes: Vec<u8>, byte in any::<u8>(), count in 0_usize..9_000) {
        for reason in [peer_reason(&bytes), peer_reason(&vec![byte; count])] {
            prop_assert!(!reason.contains(char::is_control));
            // Escapes take up to ten letters for one byte.
            prop_assert!(reason.len() <= 10 * CLOSE_REASON_LEN_MAX);
        }
    }

    #[test]
    fn a_cut_text_is_whole_letters(text in ".{0,200}", len_max in 0_usize..300) {
        let len = floor_char_boundary(&text, len_max);
        prop_assert!(len <= len_max && text.is_char_boundary(len) && len + 4 > len_max.min(text.len()));
    }
}

#[test]
fn of_two_that_one_side_dialled_the_fresh_one_stays() {
    for side in [Side::Dialled, Side::Accepted] {
        assert_eq!(keep_which(DeviceId([1; 32]), DeviceId([2; 32]), side, side), Keep::Fresh);
        assert_eq!(keep_which(DeviceId([2; 32]), DeviceId([1; 32]), side, side), Keep::Fresh);
    }
}

//! A peer that reads nothing.

use serde_bytes::ByteBuf;

use super::*;
use crate::engine::founding::founding;
use crate::link::memory::MemoryNet;
use crate::link::{CloseReason, Link, Protocol};
use crate::session::tests::{Device, everyone};

#[tokio::test]
async fn threat_44_a_peer_that_reads_nothing_is_given_up_and_others_are_not() {
    let founding = founding(3, 92);
    let net = MemoryNet::new();
    let [ours, deaf, other] = [0, 1, 2].map(|n| Arc::new(net.join(founding.keys[n].id(), everyone())) as Arc<dyn Link>);
    let space = Device::with_records(&founding, 0, founding.records.clone(), ours.clone()).space;
    let mut conns = Vec::new();
    for link in [&deaf, &other] {
        let theirs = link.dial(ours.id(), Protocol::Sync, &ours.addresses()).await.unwrap();
        conns.push((ours.accept().await.unwrap(), theirs));
    }
    let (full, _unread) = outgoing();
    let (empty, mut read) = outgoing();
    for message in [wire::Log::Frontier(ByteBuf::from(vec![1; 60 << 10])), wire::Log::Materialised([1; 32])] {
        while full.send(message.clone()).is_ok() {}
    }
    for (n, (outgoing, (conn, _))) in [full, empty].into_iter().zip(&conns).enumerate() {
        let opened = Event::Opened { session: SessionId(n as u64), conn: conn.clone(), outgoing };
        space.tell(opened).await.unwrap();
    }
    let CloseReason::ByPeer { code, reason } = conns[0].1.closed().await else { panic!("not by the peer") };
    assert_eq!((code, reason.as_str()), (CloseCode::Done, "the peer does not read what it is sent"));
    assert!(matches!(read.recv().await, Some(wire::Log::Records { .. })));
    let (deaf, other) = (deaf.id(), other.id());
    let shared = space.look(move |facts| (facts.is_shared(deaf), facts.is_shared(other))).await.unwrap();
    assert_eq!(shared, (false, true));
    assert!(conns[1].1.close_reason().is_none());
}

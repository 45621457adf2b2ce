//! A member that writes without end, or sends without end what can't be read yet.

use serde_bytes::Bytes;
use zerocloud_crdt::codec::encode;
use zerocloud_crdt::id::EntryHash;
use zerocloud_crdt::limits::WAITING_ENTRY_COUNT_MAX;
use zerocloud_crdt::log::EntryPoint;
use zerocloud_crdt::log::entry::{Entry, Header};
use zerocloud_crdt::scan::ScanOutcome;
use zerocloud_crdt::sign::Signed;

use super::hostile::Intruder;
use super::*;

/// Operations that the member writes; set `ZEROCLOUD_BOMB_OPS` for more.
const OP_COUNT: usize = 12_000;
/// In one entry: a directory is two.
const ENTRY_OP_COUNT: usize = 500;

/// Entries without their past that the member sends in all; set `ZEROCLOUD_ORPHANS` for more.
const ORPHAN_COUNT: usize = 100_000;
/// In one message.
const MESSAGE_ORPHAN_COUNT: usize = 500;

/// One entry of so many tiny operations.
fn burst(device: &Device, round: usize) -> ScanOutcome {
    let snapshot = device.snapshot();
    let mut all = ScanOutcome::default();
    for n in 0..ENTRY_OP_COUNT / 2 {
        let ScanOutcome { mut ops, .. } = creation(&snapshot, device.log, &format!("{round}-{n}"));
        ops.iter_mut().for_each(|op| op.id.counter += 2 * n as u32);
        all.ops.extend(ops);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_45_a_member_that_writes_without_end_takes_its_turns_and_others_theirs() {
    let ops = std::env::var("ZEROCLOUD_BOMB_OPS").ok().and_then(|text| text.parse().ok()).unwrap_or(OP_COUNT);
    let (founding, net) = (founding(3, 45), MemoryNet::new());
    let link = |n: usize| Arc::new(net.join(founding.keys[n].id(), everyone())) as Arc<dyn Link>;
    let (a, honest) = (Device::start(&founding, 0, link(0)), Device::start(&founding, 1, link(1)));
    let bomber = Device::with_records(&founding, 2, founding.records.clone(), link(2));
    for round in 0..ops / ENTRY_OP_COUNT {
        bomber.space.append(vec![Found::Decided(burst(&bomber, round)).into()]).await.unwrap();
    }
    let total = bomber.frontier().number(bomber.log);

    let _session = honest.dial(&a).await;
    honest.make("first").await;
    until(|| a.frontier() == honest.frontier()).await;
    let intruder = Intruder::greet(&bomber.link, &a, vec![founding.space]).await;
    let (mut send, _receive) = intruder.open(Opening::Log { space: founding.space }).await;
    let bomb = bomber.link.id();
    while !a.space.look(move |facts| facts.is_shared(bomb)).await.unwrap() {
        tokio::task::yield_now().await;
    }
    // The space is busy, while both say what they have to.
    let (go_on, busy) = std::sync::mpsc::channel::<()>();
    let handle = a.space.clone();
    let look = tokio::spawn(async move { handle.look(move |_| busy.recv().is_ok()).await });
    until(|| a.space.waiting_count() == 0).await;
    let entries: Vec<ByteBuf> = (1..=total)
        .map(|number| bomber.snapshot().entry_bytes(EntryPoint { log: bomber.log, number }).unwrap().unwrap())
        .map(ByteBuf::from)
        .collect();
    let sending = tokio::spawn(async move {
        for entry in entries {
            if write_frame(&mut send, &Log::Entries(vec![entry]).to_bytes(), Log::LEN_MAX).await.is_err() {
                return;
            }
        }
        // Kept open: what was sent is to be handled.
        std::future::pending::<()>().await;
    });
    until(|| a.space.waiting_count() >= streams::AHEAD_MESSAGE_COUNT).await;
    let ahead = a.space.waiting_count();
    honest.make("second").await;
    until(|| a.space.waiting_count() > ahead).await;
    let waiting = a.space.waiting_count();
    assert!(waiting <= 2 * streams::AHEAD_MESSAGE_COUNT, "{waiting} messages wait: the honest one behind them all");
    go_on.send(()).unwrap();
    look.await.unwrap().unwrap();

    // Every entry is within its bounds, so all counts, and both go on.
    until(|| a.frontier().number(honest.log) == honest.frontier().number(honest.log)).await;
    until(|| a.frontier().number(bomber.log) == total).await;
    assert!(intruder.conn.close_reason().is_none());
    sending.abort();
}

/// Entries by a device, as many as one session takes and some more, of which nothing before them is there.
fn orphans(device: &Device, key: &ed25519_dalek::SigningKey) -> Vec<ByteBuf> {
    let last = EntryPoint { log: device.log, number: 2 };
    let bytes = device.snapshot().entry_bytes(last).unwrap().unwrap();
    let entry = Entry::decode(device.space.id(), bytes).unwrap();
    let orphan = |number| {
        let header = Header { number, previous: Some(EntryHash([9; 32])), ..entry.header().clone() }.encode();
        let mut bytes = vec![zerocloud_crdt::FORMAT];
        bytes.extend(encode(&Bytes::new(&header)));
        // Nobody can open it before what it follows is there.
        bytes.extend(encode(&Bytes::new(&[7; 200])));
        let signature = zerocloud_crdt::sign::sign(key, Signed::Entry, device.space.id(), &bytes);
        bytes.extend(encode(&signature));
        ByteBuf::from(bytes)
    };
    (0..(WAITING_ENTRY_COUNT_MAX + MESSAGE_ORPHAN_COUNT) as u64).map(|n| orphan(n + 10)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_44_a_member_that_sends_orphans_without_end_is_given_up_and_leaves_nothing_behind() {
    let wanted = std::env::var("ZEROCLOUD_ORPHANS").ok().and_then(|text| text.parse().ok()).unwrap_or(ORPHAN_COUNT);
    let (founding, net) = (founding(3, 44), MemoryNet::new());
    let link = |n: usize| Arc::new(net.join(founding.keys[n].id(), everyone())) as Arc<dyn Link>;
    let (a, honest) = (Device::start(&founding, 0, link(0)), Device::start(&founding, 1, link(1)));
    let bomber = Device::with_records(&founding, 2, founding.records.clone(), link(2));
    bomber.make("whatever").await;
    let orphans = orphans(&bomber, &founding.keys[2].signing_key());
    let messages: Vec<Vec<u8>> =
        orphans.chunks(MESSAGE_ORPHAN_COUNT).map(|some| Log::Entries(some.to_vec()).to_bytes()).collect();
    let _session = honest.dial(&a).await;
    let (bomb, mut sent_count, mut round) = (bomber.link.id(), 0, 0);
    while sent_count < wanted {
        let intruder = Intruder::greet(&bomber.link, &a, vec![founding.space]).await;
        let (mut send, _receive) = intruder.open(Opening::Log { space: founding.space }).await;
        while !a.space.look(move |facts| facts.is_shared(bomb)).await.unwrap() {
            tokio::task::yield_now().await;
        }
        for message in &messages {
            // It may be given up with the last of them on their way.
            if write_frame(&mut send, message, Log::LEN_MAX).await.is_err() {
                break;
            }
            sent_count += MESSAGE_ORPHAN_COUNT;
        }
        // All of it was handled when it is answered: more of one peer than a bound are not kept.
        let reason = intruder.conn.closed();
        let reason = tokio::time::timeout(Duration::from_secs(40), reason).await.expect("it may send without end");
        assert!(matches!(reason, CloseReason::ByPeer { code: CloseCode::Violation, .. }), "{reason:?}");
        while a.space.look(move |facts| facts.is_shared(bomb)).await.unwrap() {
            tokio::task::yield_now().await;
        }
        // Others are served all the same, and nothing of it counts.
        round += 1;
        honest.make(&format!("honest {round}")).await;
        until(|| a.frontier() == honest.frontier()).await;
        assert_eq!(a.frontier().number(bomber.log), 0);
    }
    assert!(round >= wanted / orphans.len());
}

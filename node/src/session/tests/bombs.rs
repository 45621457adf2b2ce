//! A member that writes without end.

use zerocloud_crdt::log::EntryPoint;
use zerocloud_crdt::scan::ScanOutcome;

use super::hostile::Intruder;
use super::*;

/// Operations that the member writes; set `ZEROCLOUD_BOMB_OPS` for more.
const OP_COUNT: usize = 12_000;
/// In one entry: a directory is two.
const ENTRY_OP_COUNT: usize = 500;

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
        bomber.space.append(Found::Decided(burst(&bomber, round)), BTreeMap::new()).await.unwrap();
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

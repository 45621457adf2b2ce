//! Random histories of several devices, some of them liars: what came in which order decides nothing.

use proptest::prelude::*;
use rand_chacha::rand_core::Rng;

use super::*;
use crate::log::lacking::Lacking;

fn below(rng: &mut ChaCha20Rng, bound: u32) -> u32 {
    rng.next_u32() % bound
}

/// What a device does next: an index entry over what it sees, at times one with a fault in it.
fn act(lab: &mut Lab, index: usize, rng: &mut ChaCha20Rng) {
    let mut drafts = Vec::new();
    for _ in 0..=below(rng, 2) {
        let byte = 10 + below(rng, 4) as u8;
        let item = lab.devices[index].log.items().get(&file(byte)).cloned().unwrap_or_default();
        let live: Vec<OpId> = item.content.keys().copied().filter(|_| below(rng, 3) > 0).collect();
        match below(rng, 3) {
            0 if !live.is_empty() => {
                drafts.push(DraftOp { item: file(byte), write: Write::Content(None), pred: live });
            }
            1 => drafts.push(place(byte, "name", &item.place.keys().copied().collect::<Vec<_>>())),
            _ => drafts.push(put(byte, &[b'a' + below(rng, 20) as u8], &live)),
        }
    }
    let device = &lab.devices[index];
    let heads = current_heads(&device.log, device.id()).unwrap();
    let setting = Setting { heads: &heads, membership: &[GENESIS], secret: &lab.secret };
    let draft = if below(rng, 5) == 0 { Draft::Seen } else { Draft::Index(drafts) };
    let written = device.writer().write(&device.log, &lab.told, &setting, draft, &mut lab.rng);
    let Ok(written) = written else { return };
    let mut entry = written.entry;
    if below(rng, 12) == 0
        && let Verdict::Applies(Body::Index(mut change, _)) = written.checked.verdict
    {
        match below(rng, 3) {
            0 => change.seq += 1,
            1 => change.deps.clear(),
            _ => change.ops[0].pred = vec![OpId { counter: 1, actor: crate::id::ActorId([1; 16]) }],
        }
        let header = entry.header().clone();
        entry = lab.forge(index, header, &change.encode().unwrap().bytes);
    }
    assert!(matches!(lab.receive(index, entry), Outcome::Checked(_)));
}

/// All entries that any device has, as a device that was away would get them from one that has them all.
fn gathered(lab: &mut Lab) -> Vec<Entry> {
    for index in 1..lab.devices.len() {
        lab.sync(index, 0);
    }
    lab.devices[0].log.lacked_by(&Frontier::default()).into_iter().cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_delivery_changes_no_verdict_and_no_register(seed in any::<u64>()) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut lab = Lab::new(3);
        for _ in 0..25 {
            let index = below(&mut rng, 3) as usize;
            if below(&mut rng, 3) == 0 {
                lab.sync(index, (index + 1) % 3);
            } else {
                act(&mut lab, index, &mut rng);
            }
        }
        let entries = gathered(&mut lab);
        // Another device gets them shuffled, through the pool.
        let mut shuffled = entries.clone();
        for index in (1..shuffled.len()).rev() {
            shuffled.swap(index, below(&mut rng, index as u32 + 1) as usize);
        }
        let (mut other, mut pool) = (Device::new(9).log, WaitingPool::default());
        let mut queue = shuffled;
        while let Some(entry) = queue.pop() {
            let hash = entry.hash();
            match other.receive(entry.clone(), &lab.told, |_| Some(&lab.secret)).unwrap() {
                Outcome::Checked(_) => queue.extend(pool.take_after_entry(hash)),
                Outcome::Waits(missing) => pool.insert(entry, missing).unwrap(),
                outcome => prop_assert!(false, "{:?}", outcome),
            }
        }
        prop_assert_eq!(pool.count(), 0);
        let log = &lab.devices[0].log;
        prop_assert_eq!(other.items(), log.items());
        prop_assert_eq!(other.frontier().unwrap(), log.frontier().unwrap());
        for entry in &entries {
            prop_assert_eq!(other.entry(entry.point()).unwrap(), log.entry(entry.point()).unwrap());
        }
    }

    #[test]
    fn what_a_peer_lacks_comes_in_causal_order_and_once(seed in any::<u64>()) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut lab = Lab::new(3);
        for _ in 0..20 {
            let index = below(&mut rng, 3) as usize;
            if below(&mut rng, 2) == 0 {
                lab.sync(index, (index + 1) % 3);
            } else {
                act(&mut lab, index, &mut rng);
            }
        }
        let theirs = lab.devices[2].log.frontier().unwrap();
        let ours = lab.devices[0].log.frontier().unwrap();
        let log = &lab.devices[0].log;
        let mut has = Clock::default();
        theirs.iter().for_each(|(log, position)| has.include(EntryPoint { log, number: position.number }));
        let mut count = 0;
        let Ok(lacking) = Lacking::new(log, &theirs);
        for point in lacking {
            let Ok(point) = point;
            let meta = log.entry(point).unwrap().unwrap();
            prop_assert!(meta.clock.ends().all(|end| end == point || has.includes(end)));
            prop_assert!(!has.includes(point));
            has.include(point);
            count += 1;
        }
        let expected: u64 = ours.lacked_by(&theirs).iter().map(|(_, range)| range.end() - range.start() + 1).sum();
        prop_assert_eq!(count, expected);
    }
}

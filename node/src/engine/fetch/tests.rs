//! The policy against peers that have some chunks, lose some, and leave.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use zerocloud_crdt::id::{FileId, OpId};

use super::*;

fn want(n: u16, ordinal: u64, len: u32) -> Want {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    let at = Whereabouts { file: FileId([1; 16]), op: OpId::ZERO, ordinal, offset: 0, len };
    Want { what: What::Chunk, epoch: EpochId([0; 32]), id: ChunkId(id), at }
}

fn peer(n: u8) -> DeviceId {
    DeviceId([n; 32])
}

#[test]
fn the_smallest_job_is_asked_for_first() {
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), (0..4).map(|n| want(n, u64::from(n), 1 << 20)).collect());
    fetch.add_job(JobId(2), vec![want(9, 0, 10)]);
    fetch.connect(peer(1));
    let (_, request) = fetch.poll_request().unwrap();
    assert_eq!(request.asks[0].id, want(9, 0, 10).id);
    assert_eq!(request.asks.len(), 5);
    assert_eq!(fetch.poll_request(), None, "nothing is asked for twice");
}

#[test]
fn a_chunk_that_two_files_want_is_fetched_once() {
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), vec![want(1, 0, 10)]);
    fetch.add_job(JobId(2), vec![want(1, 0, 10), want(2, 1, 10)]);
    fetch.connect(peer(1));
    let (_, request) = fetch.poll_request().unwrap();
    assert_eq!(request.asks.len(), 2);
    let answered = fetch.handle_chunk(peer(1), request.first).unwrap();
    assert_eq!(answered.jobs, [JobId(1), JobId(2)]);
    assert!(fetch.is_complete(JobId(1)) && !fetch.is_complete(JobId(2)));
}

#[test]
fn what_a_peer_may_have_on_its_way_is_bounded_by_bytes() {
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), (0..100).map(|n| want(n, u64::from(n), 1 << 20)).collect());
    fetch.connect(peer(1));
    let (_, first) = fetch.poll_request().unwrap();
    assert_eq!(first.asks.len(), 16);
    assert_eq!(fetch.poll_request(), None);
    fetch.handle_chunk(peer(1), first.first).unwrap();
    let (_, next) = fetch.poll_request().unwrap();
    assert_eq!((next.first, next.asks.len()), (16, 1));
}

#[test]
fn several_peers_are_asked_at_once() {
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), (0..40).map(|n| want(n, u64::from(n), 1 << 20)).collect());
    fetch.connect(peer(1));
    fetch.connect(peer(2));
    let asked: BTreeSet<DeviceId> = std::iter::from_fn(|| fetch.poll_request()).map(|(peer, _)| peer).collect();
    assert_eq!(asked.len(), 2);
}

#[test]
fn threat_44_an_answer_that_was_not_asked_for_is_refused() {
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), vec![want(1, 0, 10)]);
    fetch.connect(peer(1));
    fetch.connect(peer(2));
    assert_eq!(fetch.handle_chunk(peer(1), 0), Err(NotAsked), "not yet");
    let (asked, request) = fetch.poll_request().unwrap();
    let other = if asked == peer(1) { peer(2) } else { peer(1) };
    assert_eq!(fetch.handle_chunk(other, request.first), Err(NotAsked), "another was asked");
    assert_eq!(fetch.handle_missing(asked, request.first + 1, Lack::Missing), Err(NotAsked));
    fetch.handle_chunk(asked, request.first).unwrap();
    assert_eq!(fetch.handle_chunk(asked, request.first), Err(NotAsked), "twice");
}

#[test]
fn what_nobody_has_starves_its_job_until_somebody_comes() {
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), vec![want(1, 0, 10)]);
    fetch.connect(peer(1));
    let (_, request) = fetch.poll_request().unwrap();
    fetch.handle_missing(peer(1), request.first, Lack::Missing).unwrap();
    assert_eq!(fetch.starved(), &BTreeSet::from([JobId(1)]));
    assert_eq!(fetch.poll_request(), None, "it is not asked again of who lacks it");
    fetch.connect(peer(2));
    assert!(fetch.starved().is_empty());
    assert_eq!(fetch.poll_request().unwrap().0, peer(2));
}

#[test]
fn who_can_not_read_something_now_does_not_deny_that_it_has_it() {
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), vec![want(1, 0, 10), want(2, 1, 10)]);
    fetch.connect(peer(1));
    fetch.connect(peer(2));
    let mut lacks = BTreeMap::from([(peer(1), Lack::Missing), (peer(2), Lack::NotNow)]);
    while let Some((peer, request)) = fetch.poll_request() {
        for ask in request.first..request.first + request.asks.len() as u64 {
            let lack = lacks.insert(peer, Lack::Missing).unwrap();
            fetch.handle_missing(peer, ask, lack).unwrap();
        }
    }
    assert_eq!(fetch.starved(), &BTreeSet::from([JobId(1)]));
    assert_eq!(fetch.deniers(JobId(1)), BTreeSet::from([peer(1)]));
}

#[test]
fn a_chunk_that_was_found_here_is_not_waited_for() {
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), vec![want(1, 0, 10), want(2, 1, 10)]);
    let found = fetch.handle_found(want(1, 0, 10).epoch, want(1, 0, 10).id).unwrap();
    assert_eq!(found.jobs, [JobId(1)]);
    fetch.connect(peer(1));
    let (_, request) = fetch.poll_request().unwrap();
    assert_eq!(request.asks.len(), 1);
    // It comes unasked while it is on its way: the answer is accepted and means nothing.
    fetch.handle_found(want(2, 1, 10).epoch, want(2, 1, 10).id).unwrap();
    assert!(fetch.is_complete(JobId(1)));
    assert!(fetch.handle_chunk(peer(1), request.first).unwrap().jobs.is_empty());
    assert_eq!(fetch.missing_count(), 0);
}

#[test]
fn everything_comes_as_long_as_somebody_has_it_and_stays() {
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut fetch = Fetch::new(peer(0));
        let mut next = |n: u32| rng.next_u32() % n;
        for job in 0..6 {
            let wants = (0..=next(12)).map(|n| want(next(40) as u16, u64::from(n), next(3 << 20))).collect();
            fetch.add_job(JobId(job), wants);
        }
        // Peer 1 has everything and stays; the others lose chunks and leave.
        fetch.connect(peer(1));
        let mut asked: Vec<(DeviceId, u64)> = Vec::new();
        for step in 0..4_000 {
            while let Some((peer, request)) = fetch.poll_request() {
                asked.extend((0..request.asks.len() as u64).map(|n| (peer, request.first + n)));
            }
            match next(10) {
                0 if step < 500 => fetch.connect(peer(2 + next(2) as u8)),
                1 => {
                    let gone = peer(2 + next(2) as u8);
                    fetch.disconnect(gone);
                    asked.retain(|(peer, _)| *peer != gone);
                }
                _ if !asked.is_empty() => {
                    let (from, ask) = asked.swap_remove(next(asked.len() as u32) as usize);
                    if from != peer(1) && next(2) == 0 {
                        fetch.handle_missing(from, ask, Lack::Missing).unwrap();
                    } else {
                        fetch.handle_chunk(from, ask).unwrap();
                    }
                }
                _ => {}
            }
        }
        assert_eq!(fetch.missing_count(), 0, "seed {seed}");
        assert!((0..6).all(|job| fetch.is_complete(JobId(job))), "seed {seed}");
        assert!(fetch.queue.is_empty() && fetch.wants.is_empty(), "seed {seed}: nothing is left behind");
    }
}

#[test]
fn what_all_who_stay_lack_starves_when_the_last_that_could_have_it_goes() {
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), vec![want(1, 0, 10)]);
    fetch.connect(peer(1));
    let (_, request) = fetch.poll_request().unwrap();
    fetch.connect(peer(2));
    fetch.handle_missing(peer(1), request.first, Lack::Missing).unwrap();
    assert_eq!(fetch.take_starved(), [], "another may have it");
    fetch.disconnect(peer(2));
    assert_eq!(fetch.take_starved(), [(JobId(1), BTreeSet::from([peer(1)]))]);
}

#[test]
fn what_several_files_have_is_asked_for_where_each_of_them_has_it() {
    let of = |file: u8| {
        let mut want = want(1, 0, 10);
        want.at.file = FileId([file; 16]);
        want
    };
    let asked_for = |request: &Request| request.asks[0].at.unwrap().file;
    let mut fetch = Fetch::new(peer(0));
    fetch.add_job(JobId(1), vec![of(1)]);
    fetch.add_job(JobId(2), vec![of(2)]);
    fetch.connect(peer(1));
    fetch.connect(peer(2));
    // The version of the first file was replaced where it stood, and only the second still has these bytes.
    for n in 0..2 {
        let (peer, request) = fetch.poll_request().unwrap();
        assert_eq!(asked_for(&request), FileId([1; 16]), "peer {n}");
        assert!(fetch.starved().is_empty());
        fetch.handle_missing(peer, request.first, Lack::Missing).unwrap();
    }
    assert_eq!(fetch.starved(), &BTreeSet::from([JobId(1)]), "the other file was asked of nobody");
    let (asked, request) = fetch.poll_request().unwrap();
    assert_eq!(asked_for(&request), FileId([2; 16]));
    let answered = fetch.handle_chunk(asked, request.first).unwrap();
    assert_eq!(answered.jobs, [JobId(1), JobId(2)]);
}

mod swarm;

//! Spaces that come and go while a connection is open.

use super::*;

/// Two connected devices that share one space, and a second space of both that they do not share yet.
struct Pair {
    one: [Device; 2],
    two: [Device; 2],
    conn: Conn,
    sessions: Vec<tokio::task::JoinHandle<SessionError>>,
}

impl Pair {
    /// The `dialler`-th dials. `known`: the records of the second space that each device has.
    async fn connect(dialler: usize, first: &Founding, second: &Founding, known: [Records; 2]) -> Self {
        let net = MemoryNet::new();
        let links: [Arc<dyn Link>; 2] =
            std::array::from_fn(|n| -> Arc<dyn Link> { Arc::new(net.join(first.keys[n].id(), everyone())) });
        let mut known = known.into_iter();
        let one = std::array::from_fn(|n| Device::with_records(first, n, first.records.clone(), links[n].clone()));
        let two = std::array::from_fn(|n| Device::with_records(second, n, known.next().unwrap(), links[n].clone()));
        for device in &one {
            device.spaces.insert(device.space.clone());
        }
        let accepter = 1 - dialler;
        let conn =
            links[dialler].dial(links[accepter].id(), Protocol::Sync, &links[accepter].addresses()).await.unwrap();
        let accepted = links[accepter].accept().await.unwrap();
        let mut sessions = Vec::new();
        for (conn, n) in [(conn.clone(), dialler), (accepted, accepter)] {
            let (greeted, _) = oneshot::channel();
            sessions.push(tokio::spawn(run(conn, one[n].spaces.clone(), presence("one of two"), greeted)));
        }
        let pair = Self { one, two, conn, sessions };
        in_sync(&pair.one).await;
        pair
    }

    fn share_second(&self, n: usize) {
        self.one[n].spaces.insert(self.two[n].space.clone());
    }

    fn is_open(&self) -> bool {
        self.conn.close_reason().is_none() && self.sessions.iter().all(|session| !session.is_finished())
    }
}

async fn is_in_sync(devices: &[Device; 2], n: usize) -> bool {
    let peer = devices[1 - n].link.id();
    devices[n].space.look(move |facts| facts.is_in_sync(peer)).await.unwrap()
}

/// Writes at both ends and waits until both say that the other has it.
async fn in_sync(devices: &[Device; 2]) {
    for device in devices {
        device.space.set_materialised(false).await.unwrap();
        let text = format!("{}", device.frontier().count() + device.snapshot().items_after(None, 999).unwrap().len());
        device.make(&text).await;
    }
    until(|| devices[0].frontier() == devices[1].frontier()).await;
    for device in devices {
        device.space.set_materialised(true).await.unwrap();
    }
    for n in 0..2 {
        while !is_in_sync(devices, n).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_space_that_both_come_to_share_is_exchanged_without_a_reconnect() {
    let (first, second) = (founding(2, 41), founding(2, 42));
    for (dialler, earlier) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let known = [second.records.clone(), second.records.clone()];
        let pair = Pair::connect(dialler, &first, &second, known).await;
        pair.share_second(earlier);
        // The other may or may not have heard of it by now: both must do.
        in_sync(&pair.one).await;
        pair.share_second(1 - earlier);
        in_sync(&pair.two).await;
        assert!(pair.is_open());
    }
}

#[tokio::test]
async fn a_space_that_both_open_at_the_same_moment_is_exchanged() {
    let (first, second) = (founding(2, 43), founding(2, 44));
    for round in 0..20 {
        let known = [second.records.clone(), second.records.clone()];
        let pair = Pair::connect(round % 2, &first, &second, known).await;
        pair.share_second(0);
        pair.share_second(1);
        in_sync(&pair.two).await;
        in_sync(&pair.one).await;
        assert!(pair.is_open());
    }
}

#[tokio::test]
async fn a_member_that_is_new_to_one_side_is_known_there_without_a_reconnect() {
    let (first, second) = (founding(2, 45), founding(2, 46));
    for (dialler, earlier) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        // The founder has not heard yet that the other is a member.
        let known = [Records::begin(second.genesis.clone()), second.records.clone()];
        let pair = Pair::connect(dialler, &first, &second, known).await;
        pair.share_second(earlier);
        in_sync(&pair.one).await;
        pair.share_second(1 - earlier);
        in_sync(&pair.two).await;
        assert!(pair.is_open());
    }
}

#[tokio::test]
async fn a_space_that_is_taken_out_ends_its_streams_alone_and_may_come_back() {
    let (first, second) = (founding(2, 47), founding(2, 48));
    for (dialler, leaver) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let known = [second.records.clone(), second.records.clone()];
        let pair = Pair::connect(dialler, &first, &second, known).await;
        pair.share_second(0);
        pair.share_second(1);
        in_sync(&pair.two).await;
        pair.one[leaver].spaces.remove(second.space).unwrap();
        while is_in_sync(&pair.two, 0).await || is_in_sync(&pair.two, 1).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        in_sync(&pair.one).await;
        pair.share_second(leaver);
        in_sync(&pair.two).await;
        // Out and in at once: nobody may have seen it gone.
        pair.one[leaver].spaces.remove(second.space).unwrap();
        pair.share_second(leaver);
        in_sync(&pair.two).await;
        assert!(pair.is_open());
    }
}

#[tokio::test]
async fn no_space_knows_of_a_session_that_has_ended() {
    let (first, second) = (founding(2, 49), founding(2, 50));
    let known = [second.records.clone(), second.records.clone()];
    let pair = Pair::connect(0, &first, &second, known).await;
    pair.conn.close(CloseCode::Done, "");
    for session in pair.sessions {
        session.await.unwrap();
    }
    assert!(!is_in_sync(&pair.one, 0).await && !is_in_sync(&pair.one, 1).await);
}

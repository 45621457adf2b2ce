//! A peer, member or stranger, that sends what it likes and leaves when it likes. After each of its doings an honest
//! member syncs with the same device.

use super::*;
use crate::link::cutting::{Cut, CuttingLink, How};
use tokio::io::AsyncWriteExt;
use zerocloud_crdt::limits::REQUEST_COUNT_MAX;

/// Somebody who has greeted a device and speaks for itself from then on.
pub(crate) struct Intruder {
    pub(crate) conn: Conn,
    send: SendStream,
    receive: RecvStream,
    pub(crate) told: Hello,
}

impl Intruder {
    pub(crate) async fn greet(link: &Arc<dyn Link>, a: &Device, named: Vec<SpaceId>) -> Self {
        let conn = link.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
        let (mut send, mut receive) = conn.open_bi(StreamKind::Control).await.unwrap();
        write_frame(&mut send, &Opening::Control.to_bytes(), Opening::LEN_MAX).await.unwrap();
        let (name, addresses) = (Name::parse(b"evil").unwrap(), ByteBuf::new());
        let hello = Hello { agent: "evil".into(), name, spaces: named, addresses };
        write_frame(&mut send, &Control::Hello(hello).to_bytes(), Control::LEN_MAX).await.unwrap();
        let Some(Control::Hello(told)) = read::<Control>(&mut receive).await.unwrap() else { panic!("no greeting") };
        Self { conn, send, receive, told }
    }

    pub(crate) async fn open(&self, opening: Opening) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.conn.open_bi(StreamKind::Log).await.unwrap();
        // The device may have closed the connection by now.
        let _ = write_frame(&mut send, &opening.to_bytes(), Opening::LEN_MAX).await;
        (send, receive)
    }
}

/// Where an intruder speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Control,
    NewStream,
    Log,
    Chunks,
}

const EVERYWHERE: [On; 4] = [On::Control, On::NewStream, On::Log, On::Chunks];

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], body].concat()
}

/// What is no message on any stream.
fn garbage() -> Vec<Vec<u8>> {
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let mut noise = |len: usize| {
        let mut bytes = vec![0; len];
        rand_core::Rng::fill_bytes(&mut rng, &mut bytes);
        bytes
    };
    let mut all = vec![
        // Lengths that no frame may have, with nothing behind them.
        u32::MAX.to_le_bytes().to_vec(),
        ((Log::LEN_MAX + 1) as u32).to_le_bytes().to_vec(),
        // No message at all, and half a frame.
        framed(b""),
        framed(&noise(300))[..100].to_vec(),
    ];
    all.extend([1, 33, 60, 3_000, 60_000].map(|len| framed(&noise(len))));
    // Every kind of message, with a list or text that claims to have 2^32 - 1, or 2^63, elements.
    for tag in 0..6 {
        all.push(framed(&[tag, 0xff, 0xff, 0xff, 0xff, 0x0f]));
        all.push(framed(&[&[tag][..], &[0xff; 9], &[0x7f]].concat()));
    }
    all
}

/// A device, an honest member, and two that are not.
struct Scene {
    founding: Founding,
    a: Device,
    honest: Device,
    member: Arc<dyn Link>,
    stranger: Arc<dyn Link>,
    round: usize,
}

impl Scene {
    fn new(seed: u64) -> (Self, MemoryNet) {
        let net = MemoryNet::new();
        let links = Self::keys(seed).map(|keys| Arc::new(net.join(keys.id(), everyone())) as Arc<dyn Link>);
        (Self::over(seed, links), net)
    }

    fn keys(seed: u64) -> [zerocloud_crdt::keys::DeviceKeys; 4] {
        let founding = founding(4, seed);
        [0, 1, 2, 3].map(|n| founding.keys[n].clone())
    }

    /// The fourth has no place in the space.
    fn over(seed: u64, [a, honest, member, stranger]: [Arc<dyn Link>; 4]) -> Self {
        let founding = founding(3, seed);
        let (a, honest) = (Device::start(&founding, 0, a), Device::start(&founding, 1, honest));
        Self { founding, a, honest, member, stranger, round: 0 }
    }

    /// Both sides write something and come to agree, on a new connection.
    async fn assert_honest_sync(&mut self) {
        self.round += 1;
        let Self { a, honest, round, .. } = self;
        a.make(&format!("a{round}")).await;
        honest.make(&format!("b{round}")).await;
        let conn = honest.link.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
        let (greeted, _) = oneshot::channel();
        let session = tokio::spawn(run(conn.clone(), honest.spaces.clone(), presence("honest"), greeted));
        until(|| a.frontier() == honest.frontier()).await;
        conn.close(CloseCode::Done, "");
        session.await.unwrap();
    }

    async fn sends_garbage(&mut self, link: &Arc<dyn Link>, on: On, garbage: &[u8]) {
        let space = self.founding.space;
        let mut intruder = Intruder::greet(link, &self.a, vec![space]).await;
        let mut other = match on {
            On::Control => None,
            On::NewStream => Some(intruder.conn.open_bi(StreamKind::Log).await.unwrap()),
            On::Log => Some(intruder.open(Opening::Log { space }).await),
            On::Chunks => Some(intruder.open(Opening::Chunks { space }).await),
        };
        let send = other.as_mut().map_or(&mut intruder.send, |(send, _)| send);
        // Whoever is no member has lost the stream already.
        let _ = send.write_all(garbage).await;
        let _ = send.shutdown().await;
        // A stranger's chunk streams are not even read.
        if on != On::Chunks || link.id() == self.member.id() {
            let reason = intruder.conn.closed().await;
            let is_told = matches!(reason, CloseReason::ByPeer { code: CloseCode::Violation, .. });
            assert!(is_told, "{on:?} {:?}: {reason:?}", &garbage[..garbage.len().min(20)]);
        }
        self.assert_honest_sync().await;
    }
}

#[tokio::test]
async fn threat_46_garbage_on_any_stream_of_anybody_ends_its_session_and_nothing_else() {
    let (mut scene, _net) = Scene::new(71);
    for link in [scene.member.clone(), scene.stranger.clone()] {
        for on in EVERYWHERE {
            for garbage in garbage() {
                scene.sends_garbage(&link, on, &garbage).await;
            }
        }
    }
    assert_eq!(scene.a.asked_count.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_46_the_same_over_iroh() {
    let mut links = Vec::new();
    for keys in Scene::keys(72) {
        let bind = Bind::Address("127.0.0.1:0".parse().unwrap());
        let settings = IrohSettings { bind, relays: Vec::new(), lan: false };
        links.push(Arc::new(IrohLink::open(&keys, settings, everyone()).await.unwrap()) as Arc<dyn Link>);
    }
    let Ok(links) = links.try_into() else { panic!("four links") };
    let mut scene = Scene::over(72, links);
    for link in [scene.member.clone(), scene.stranger.clone()] {
        for on in EVERYWHERE {
            for garbage in garbage().iter().step_by(5) {
                scene.sends_garbage(&link, on, garbage).await;
            }
        }
    }
}

#[tokio::test]
async fn threat_46_whoever_is_dialled_may_answer_with_garbage() {
    let (mut scene, _net) = Scene::new(73);
    let evil = scene.member.clone();
    for garbage in garbage() {
        // In place of a greeting, and in place of chunks.
        for on in [On::Control, On::Chunks] {
            let conn = scene.a.link.dial(evil.id(), Protocol::Sync, &evil.addresses()).await.unwrap();
            let theirs = evil.accept().await.unwrap();
            let (greeted, _) = oneshot::channel();
            let session = match on {
                On::Chunks => None,
                _ => Some(tokio::spawn(run(conn.clone(), scene.a.spaces.clone(), presence("a"), greeted))),
            };
            let mut stream = match on {
                On::Chunks => Some(ChunkStream::open(&conn, scene.founding.space).await.unwrap()),
                _ => None,
            };
            let (mut send, _receive) = theirs.accept_bi().await.unwrap();
            let _ = send.write_all(&garbage).await;
            let _ = send.shutdown().await;
            let reason = theirs.closed().await;
            assert!(matches!(reason, CloseReason::ByPeer { code: CloseCode::Violation, .. }), "{on:?} {reason:?}");
            if let Some(stream) = &mut stream {
                assert_eq!(stream.answer().await, None);
            }
            if let Some(session) = session {
                session.await.unwrap();
            }
        }
    }
    scene.assert_honest_sync().await;
}

#[tokio::test]
async fn threat_44_of_endless_messages_few_are_held_while_the_space_is_busy() {
    let (mut scene, _net) = Scene::new(74);
    let intruder = Intruder::greet(&scene.member, &scene.a, vec![scene.founding.space]).await;
    let (mut send, _receive) = intruder.open(Opening::Log { space: scene.founding.space }).await;
    let member = scene.member.id();
    while !scene.a.space.look(move |facts| facts.is_shared(member)).await.unwrap() {
        tokio::task::yield_now().await;
    }
    // The space does something else, until it is told to go on.
    let (go_on, busy) = std::sync::mpsc::channel::<()>();
    let handle = scene.a.space.clone();
    let look = tokio::spawn(async move { handle.look(move |_| busy.recv().is_ok()).await });
    until(|| scene.a.space.waiting_count() == 0).await;
    let sent_count = Arc::<AtomicUsize>::default();
    let counter = sent_count.clone();
    let message = Log::Materialised([7; 32]).to_bytes();
    let sending = tokio::spawn(async move {
        while write_frame(&mut send, &message, Log::LEN_MAX).await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    until(|| scene.a.space.waiting_count() > 0).await;
    // All tasks of this test share one thread: after these turns whoever could do more has done it.
    let mut before = usize::MAX;
    while before != sent_count.load(Ordering::SeqCst) {
        before = sent_count.load(Ordering::SeqCst);
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(scene.a.space.waiting_count(), streams::AHEAD_MESSAGE_COUNT);
    sending.abort();
    go_on.send(()).unwrap();
    look.await.unwrap().unwrap();
    scene.assert_honest_sync().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_44_who_reads_no_answers_is_served_a_few_requests_and_others_all() {
    let (mut scene, _net) = Scene::new(75);
    let intruder = Intruder::greet(&scene.member, &scene.a, vec![scene.founding.space]).await;
    let place_count = streams::SERVING_COUNT_MAX;
    let mut streams = Vec::new();
    for n in 0..3 * place_count as u8 {
        let (mut send, receive) = intruder.open(Opening::Chunks { space: scene.founding.space }).await;
        // More than a stream holds on its way.
        let ask = Ask { what: What::Chunk, epoch: EpochId([0; 32]), id: ChunkId([200 - n; 32]), at: None };
        let request = Request { first: 0, asks: vec![ask] };
        write_frame(&mut send, &request.to_bytes(), Request::LEN_MAX).await.unwrap();
        streams.push((send, receive));
    }
    let asked_count = || scene.a.asked_count.load(Ordering::SeqCst);
    until(|| asked_count() >= place_count).await;
    let ids: Vec<[u8; 32]> = (1..100).map(|n| [n; 32]).collect();
    assert_eq!(asked(&scene.a, &scene.honest, &ids).await.len(), ids.len());
    assert_eq!(asked_count(), place_count + ids.len(), "what nobody reads is not sealed");
    // Whoever gives up makes room for the next.
    drop(streams);
    until(|| asked_count() > place_count + ids.len()).await;
    drop(intruder);
    scene.assert_honest_sync().await;
}

#[tokio::test]
async fn threat_44_streams_that_never_say_what_for_are_bounded_and_disturb_nobody() {
    let (mut scene, _net) = Scene::new(76);
    for link in [scene.member.clone(), scene.stranger.clone()] {
        let intruder = Intruder::greet(&link, &scene.a, Vec::new()).await;
        let mut streams = Vec::new();
        for _ in 0..LOG_STREAM_COUNT_MAX + OTHER_STREAM_COUNT_MAX - 1 {
            let (mut send, receive) = intruder.conn.open_bi(StreamKind::Log).await.unwrap();
            send.write_all(&[1]).await.unwrap();
            streams.push((send, receive));
        }
        tokio::select! {
            biased;
            _ = intruder.conn.open_bi(StreamKind::Log) => panic!("one more stream"),
            () = async { for _ in 0..100 { tokio::task::yield_now().await } } => {}
        }
        scene.assert_honest_sync().await;
        assert!(intruder.conn.close_reason().is_none());
        drop(streams);
        scene.assert_honest_sync().await;
    }
}

/// Asks for some chunks; gives how many answers came.
async fn ask_some(a: &Device, b: &Device) -> usize {
    let conn = b.link.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
    let (greeted, hello) = oneshot::channel();
    let session = tokio::spawn(run(conn.clone(), b.spaces.clone(), presence("asker"), greeted));
    let mut answer_count = 0;
    if hello.await.is_ok()
        && let Ok(mut stream) = ChunkStream::open(&conn, a.space.id()).await
    {
        let ask = |n: u8| Ask { what: What::Chunk, epoch: EpochId([0; 32]), id: ChunkId([n; 32]), at: None };
        for first in [0, 8] {
            let _ = stream.ask(Request { first, asks: (0..8).map(ask).collect() }).await;
        }
        while answer_count < 16 && stream.answer().await.is_some() {
            answer_count += 1;
        }
    }
    conn.close(CloseCode::Done, "");
    session.await.unwrap();
    answer_count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_46_a_peer_may_leave_between_any_two_messages() {
    for how in [How::Close, How::Reset] {
        let (mut scene, net) = Scene::new(77);
        let cut = Cut::new(how);
        let link = CuttingLink { inner: scene.member.clone(), cut: cut.clone() };
        let leaver = Device::start(&scene.founding, 2, Arc::new(link));
        let mut border_counts = Vec::new();
        for is_about_chunks in [false, true] {
            for border in 1.. {
                leaver.make(&format!("{border} {is_about_chunks}")).await;
                cut.arm(border);
                let is_whole = if is_about_chunks {
                    ask_some(&scene.a, &leaver).await == 16
                } else {
                    let session = leaver.dial(&scene.a).await;
                    until(|| cut.is_done() || scene.a.frontier() == leaver.frontier()).await;
                    net.drop_connections(scene.a.link.id(), leaver.link.id());
                    session.await.unwrap();
                    !cut.is_done()
                };
                cut.arm(usize::MAX);
                scene.assert_honest_sync().await;
                if is_whole {
                    border_counts.push(border);
                    break;
                }
            }
        }
        assert!(border_counts.iter().all(|count| *count > 8), "{border_counts:?}");
        let _session = leaver.dial(&scene.a).await;
        until(|| scene.a.frontier() == leaver.frontier()).await;
    }
}

#[tokio::test]
async fn threat_32_a_member_of_one_space_learns_nothing_of_another() {
    let (mut scene, _net) = Scene::new(78);
    // The same device has a space of its own; the member of the first knows even its id.
    let secret = founding(1, 79);
    let own = Device::with_records(&secret, 0, secret.records.clone(), scene.a.link.clone());
    scene.a.spaces.insert(own.space.clone());
    own.make("secret").await;
    let before = own.frontier();
    let ask = |n: u8| Ask { what: What::Chunk, epoch: EpochId([0; 32]), id: ChunkId([n; 32]), at: None };
    let request = Request { first: 0, asks: (0..REQUEST_COUNT_MAX as u64).map(|n| ask(n as u8)).collect() };

    let mut intruder = Intruder::greet(&scene.member, &scene.a, vec![scene.founding.space]).await;
    assert_eq!(intruder.told.spaces, [scene.founding.space], "it is told of what it shares");
    // Chunks of the other space: no answer, and nothing is looked for.
    let mut chunks = ChunkStream::open(&intruder.conn, secret.space).await.unwrap();
    let _ = chunks.ask(request.clone()).await;
    assert_eq!(chunks.answer().await, None);
    // On a stream of the shared space only the shared space is asked, whatever is asked for.
    let mut chunks = ChunkStream::open(&intruder.conn, scene.founding.space).await.unwrap();
    chunks.ask(request.clone()).await.unwrap();
    for _ in 0..request.asks.len() {
        chunks.answer().await.unwrap();
    }
    assert_eq!(scene.a.asked_count.load(Ordering::SeqCst), request.asks.len());
    assert_eq!(own.asked_count.load(Ordering::SeqCst), 0);
    // Its log: an end, and no word.
    let signed = zerocloud_crdt::log::SignedFrontier::sign(
        &scene.founding.keys[2].signing_key(),
        secret.space,
        Frontier::default(),
    );
    let frontier = Log::Frontier(ByteBuf::from(signed.unwrap().as_bytes()));
    for message in [Log::Records { heads: Vec::new(), records: Vec::new() }, frontier] {
        let other = Intruder::greet(&scene.member, &scene.a, vec![secret.space]).await;
        assert_eq!(other.told.spaces, [scene.founding.space]);
        let (mut send, mut receive) = other.open(Opening::Log { space: secret.space }).await;
        write_frame(&mut send, &message.to_bytes(), Log::LEN_MAX).await.unwrap();
        assert!(!matches!(read::<Log>(&mut receive).await, Ok(Some(_))), "no message, only an end");
    }
    assert_eq!(own.frontier(), before);
    // Of all that happened on the first connection, not one word was about the other space.
    intruder.conn.close(CloseCode::Done, "");
    while let Ok(Some(word)) = read::<Control>(&mut intruder.receive).await {
        assert!(!matches!(word, Control::Share { space } if space == secret.space), "{word:?}");
    }
    scene.assert_honest_sync().await;
}

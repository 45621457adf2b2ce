//! Who does not get in, and what it is told.

use super::*;

#[tokio::test]
async fn threat_01_a_used_ticket_lets_no_other_device_in() {
    let founding = founding(1, 44);
    let net = MemoryNet::new();
    let node = Node::inviter(&founding, &net);
    for is_own in [false, true] {
        let ticket = node.ticket(Role::Editor, is_own, false).await;
        let mut guest = Guest::new(100 + u8::from(is_own), &net);
        guest.join(&ticket).await.unwrap();
        let mut thief = Guest::new(200, &net);
        assert!(matches!(thief.join(&ticket).await, Err(JoinError::Refused)));
        assert_eq!(thief.words, None);
        assert_eq!(node.joiner_of(&ticket), Some(guest.keys.id()));
        assert_eq!(node.role(thief.keys.id()).await, None);
    }
}

#[tokio::test]
async fn threat_01_nobody_joins_in_the_name_of_another_device() {
    let founding = founding(1, 45);
    let net = MemoryNet::new();
    let node = Node::inviter(&founding, &net);
    let ticket = node.ticket(Role::Editor, false, false).await;
    let (mut guest, mut thief) = (Guest::new(100, &net), Guest::new(200, &net));
    let request = make_t1(&ticket, &guest.keys, &mut guest.rng);
    assert_eq!(thief.refusal(&ticket, request.message()).await, refused());
    assert_eq!(node.joiner_of(&ticket), None);
    guest.join(&ticket).await.unwrap();
}

#[tokio::test]
async fn threat_12_every_refused_request_is_answered_alike() {
    let founding = founding(1, 46);
    let net = MemoryNet::new();
    let node = Node::inviter(&founding, &net);
    let (mut thief, mut guest) = (Guest::new(200, &net), Guest::new(100, &net));

    let used = node.ticket(Role::Editor, false, false).await;
    guest.join(&used).await.unwrap();
    let good = node.ticket(Role::Editor, true, false).await;
    let unknown = Ticket { secret: TicketSecret::new([9; 16]), ..good.clone() };
    let elsewhere = Ticket { space: SpaceId([9; 32]), ..good.clone() };
    let withdrawn = node.ticket(Role::Editor, false, false).await;
    node.open.store.write(|write| write.remove_ticket(withdrawn.secret.id())).unwrap();
    for ticket in [used, unknown, elsewhere, withdrawn] {
        let request = make_t1(&ticket, &thief.keys, &mut thief.rng);
        assert_eq!(thief.refusal(&ticket, request.message()).await, refused());
    }
    let request = make_t1(&good, &thief.keys, &mut thief.rng);
    let mut damaged = request.message().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(thief.refusal(&good, &damaged).await, refused());

    node.told.clock.0.fetch_add(60_000, Ordering::SeqCst);
    assert_eq!(thief.refusal(&good, request.message()).await, refused(), "expired");
    assert_eq!(node.joiner_of(&good), None);
    assert_eq!(node.role(thief.keys.id()).await, None);
    assert!(node.told.shown.lock().unwrap().is_empty(), "no words for who is refused");
    node.ticket(Role::Editor, false, false).await;
    assert!(node.row(&good).is_none(), "an expired ticket is forgotten");
}

#[tokio::test]
async fn threat_46_garbage_silence_and_ends_cost_nothing_and_bind_nothing() {
    let founding = founding(1, 51);
    let net = MemoryNet::new();
    let patience = Patience { request: Duration::from_millis(50), ..Patience::USUAL };
    let mut node = Node::patient(&founding, &net, patience);
    let ticket = node.ticket(Role::Owner, false, false).await;
    let mut guest = Guest::new(100, &net);
    let request = make_t1(&ticket, &guest.keys, &mut guest.rng);
    let half = [&(request.message().len() as u32).to_le_bytes()[..], &request.message()[..40]].concat();
    for (bytes, is_ended) in [
        (&b""[..], true),
        (b"\xff\xff\xff\xff", false),
        (b"\x04\0\0\0abcd", true),
        (b"\0\0\0\0", false),
        (&half, true),
        (&half, false),
    ] {
        let conn = guest.dial(&ticket).await;
        let (mut send, _receive) = conn.open_bi(StreamKind::Control).await.unwrap();
        send.write_all(bytes).await.unwrap();
        if is_ended {
            send.shutdown().await.unwrap();
        }
        assert_eq!(conn.closed().await, refused(), "{bytes:?}");
        node.served.recv().await.unwrap().unwrap_err();
    }
    // Nothing at all, and an end without a stream.
    let conn = guest.dial(&ticket).await;
    assert_eq!(conn.closed().await, refused());
    assert!(matches!(node.served.recv().await, Some(Err(ServeError::Silent))));
    drop(guest.dial(&ticket).await);
    assert!(matches!(node.served.recv().await, Some(Err(ServeError::Closed(_)))));

    assert_eq!(node.joiner_of(&ticket), None);
    assert_eq!(node.role(guest.keys.id()).await, None);
}

#[tokio::test]
async fn threat_46_only_so_many_strangers_are_listened_to_at_a_time() {
    let founding = founding(1, 52);
    let net = MemoryNet::new();
    let mut node = Node::inviter(&founding, &net);
    let ticket = node.ticket(Role::Owner, false, false).await;
    let (mut guest, stranger) = (Guest::new(100, &net), Guest::new(200, &net));
    let mut silent = Vec::new();
    for _ in 0..STRANGER_COUNT_MAX {
        silent.push(stranger.dial(&ticket).await);
        tokio::task::yield_now().await;
    }
    assert!(matches!(guest.join(&ticket).await, Err(JoinError::Refused)));
    assert!(matches!(node.served.recv().await, Some(Err(ServeError::Busy))));
    drop(silent);
    for _ in 0..STRANGER_COUNT_MAX {
        node.served.recv().await.unwrap().unwrap_err();
    }
    guest.join(&ticket).await.unwrap();
}

/// An inviter that sends something else than it should.
async fn answered(say: &[u8]) -> JoinError {
    let net = MemoryNet::new();
    let founding = founding(1, 53);
    let liar = net.join(founding.keys[0].id(), everyone());
    let mut guest = Guest::new(100, &net);
    let hint = (&liar.addresses().remove(0)).try_into().unwrap();
    let ticket = Ticket {
        inviter: liar.id(),
        space: founding.space,
        secret: TicketSecret::new([3; 16]),
        hints: vec![hint],
        name: name("Photos"),
        role: Role::Editor,
        expiry_secs: 0,
        own_device: Some([1; 32]),
    };
    let lying = async {
        let conn = liar.accept().await.unwrap();
        let (mut send, mut receive) = conn.accept_bi().await.unwrap();
        read_frame(&mut receive, PAIRING_REQUEST_LEN_MAX).await.unwrap();
        send.write_all(say).await.unwrap();
        send.shutdown().await.unwrap();
        let _ = read_frame(&mut receive, 1).await;
        conn.close(CloseCode::Shutdown, "");
    };
    tokio::join!(guest.join(&ticket), lying).0.unwrap_err()
}

#[tokio::test]
async fn a_joiner_says_what_is_wrong_with_the_other_side() {
    assert!(matches!(answered(b"\xff\xff\xff\xff").await, JoinError::Frame(FrameError::TooLong { .. })));
    assert!(matches!(answered(b"\x01\0\0\0a").await, JoinError::Nonce(_)));
    let nonce = make_nonce(&[5; 32]);
    let framed = [&(nonce.len() as u32).to_le_bytes()[..], &nonce].concat();
    assert!(matches!(answered(&framed).await, JoinError::Nonce(zerocloud_crdt::pairing::NonceError::Wrong)));
}

#[tokio::test]
async fn a_joiner_dials_exactly_the_device_that_made_the_ticket() {
    let founding = founding(1, 54);
    let net = MemoryNet::new();
    let node = Node::inviter(&founding, &net);
    let ticket = node.ticket(Role::Editor, false, false).await;
    let mut guest = Guest::new(100, &net);
    let other = Ticket { inviter: Guest::new(101, &net).keys.id(), ..ticket.clone() };
    assert!(matches!(guest.join(&other).await, Err(JoinError::Dial(crate::link::DialError::NotProven { .. }))));
    net.cut(guest.keys.id(), node.link.id());
    assert!(matches!(guest.join(&ticket).await, Err(JoinError::Dial(crate::link::DialError::NoAnswer { .. }))));
}

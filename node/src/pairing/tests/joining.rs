//! Who joins, and with what.

use super::*;

#[tokio::test]
async fn a_ticket_makes_a_member_of_any_role_with_what_it_needs() {
    let founding = founding(1, 41);
    let net = MemoryNet::new();
    let node = Node::inviter(&founding, &net);
    let us = founding.keys[0].id();
    for (seed, (role, is_own)) in (100..).zip(Role::ALL.into_iter().flat_map(|role| [(role, false), (role, true)])) {
        let ticket = node.ticket(role, is_own, false).await;
        let mut guest = Guest::new(seed, &net);
        let joined = guest.join(&ticket).await.unwrap();
        let row = |device| joined.table.row(device).unwrap().given;
        let given = row(guest.keys.id());
        assert_eq!((given.role, given.person == row(us).person), (role, is_own));
        assert!(given.rank > row(us).rank);
        let secrets: Vec<_> = joined.secrets.iter().map(|secret| (secret.epoch, *secret.secret().expose())).collect();
        let granted = (founding.secret.epoch, *founding.secret.secret().expose());
        assert_eq!(secrets, if role.can_read() { vec![granted] } else { Vec::new() });
        assert_eq!(guest.words.is_some(), is_own);
        let kept = node.open.store.snapshot().unwrap().records().unwrap();
        let last = joined.records.heads()[0];
        assert!(kept.iter().any(|(hash, _)| *hash == last), "the record is durable");
        assert_eq!(node.role(guest.keys.id()).await, Some(role));
        let admitted = Admitted { space: founding.space, device: guest.keys.id() };
        assert_eq!(node.told.admitted.lock().unwrap().pop(), Some(admitted));
    }
}

#[tokio::test]
async fn threat_18_the_answer_holds_the_inviters_signed_frontier() {
    let founding = founding(1, 42);
    let net = MemoryNet::new();
    let node = Node::inviter(&founding, &net);
    let log = founding.identity(0).log;
    let outcome = creation(&node.open.store.snapshot().unwrap(), log, "newest");
    node.open.space.append(vec![crate::engine::found::Found::Decided(outcome).into()]).await.unwrap();
    let ticket = node.ticket(Role::Viewer, false, false).await;
    let joined = Guest::new(100, &net).join(&ticket).await.unwrap();
    let signed = SignedFrontier::decode(founding.space, &joined.frontier).unwrap();
    assert_eq!((signed.device, signed.frontier.number(log)), (founding.keys[0].id(), 2));
    assert_eq!(signed.frontier, node.frontier());
}

#[tokio::test]
async fn the_same_device_may_ask_again_however_far_it_came() {
    let founding = founding(1, 43);
    let net = MemoryNet::new();
    let mut node = Node::inviter(&founding, &net);
    let ticket = node.ticket(Role::Editor, false, false).await;
    let mut guest = Guest::new(100, &net);

    // It closes before it can be answered.
    let conn = guest.dial(&ticket).await;
    let (mut send, _receive) = conn.open_bi(StreamKind::Control).await.unwrap();
    let request = make_t1(&ticket, &guest.keys, &mut guest.rng);
    write_frame(&mut send, request.message(), PAIRING_REQUEST_LEN_MAX).await.unwrap();
    net.drop_connections(guest.keys.id(), node.link.id());
    node.served.recv().await.unwrap().unwrap_err();

    let first = guest.join(&ticket).await.unwrap();
    let again = guest.join(&ticket).await.unwrap();
    assert_eq!(first.table, again.table, "it is let in once");
    assert_eq!(first.records.count(), 2);
    assert_eq!(node.joiner_of(&ticket), Some(guest.keys.id()));

    // The inviter stopped between the binding and the record.
    let ticket = node.ticket(Role::Editor, false, false).await;
    let mut other = Guest::new(101, &net);
    let (id, device, now) = (ticket.secret.id(), other.keys.id(), node.told.clock.wall_time());
    assert!(node.open.store.write(|write| write.bind_ticket(id, device, now)).unwrap());
    assert!(matches!(guest.join(&ticket).await, Err(JoinError::Refused)));
    assert_eq!(other.join(&ticket).await.unwrap().records.count(), 3);
}

#[tokio::test]
async fn a_device_that_one_member_lets_in_is_accepted_by_the_others() {
    let founding = founding(2, 47);
    let net = MemoryNet::new();
    let a = Node::inviter(&founding, &net);
    let keys = founding.keys[1].clone();
    let link = Arc::new(net.join(keys.id(), everyone()));
    let b = Node::start(keys, open_space(founding.identity(1), founding.records.clone()), link, Patience::USUAL);
    b.sync_with(&a).await;
    b.until_in_sync(&a).await;

    let mut guest = Guest::new(100, &net);
    let joined = guest.join(&a.ticket(Role::Editor, false, false).await).await.unwrap();
    let device = guest.keys.id();
    while b.role(device).await.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let c = settle_in(guest, joined);
    c.sync_with(&b).await;
    c.until_in_sync(&b).await;
    a.until_in_sync(&c).await;
    assert_eq!(a.frontier().count(), 3, "each of the three has begun a log");
}

#[tokio::test]
async fn an_editor_invites_own_devices_and_nobody_else() {
    let founding = founding(2, 48);
    let net = MemoryNet::new();
    let keys = founding.keys[1].clone();
    let link = Arc::new(net.join(keys.id(), everyone()));
    let node = Node::start(keys, open_space(founding.identity(1), founding.records.clone()), link, Patience::USUAL);
    let ticket = node.ticket(Role::Owner, true, false).await;
    assert_eq!(ticket.role, Role::Editor, "no more than the inviter has");
    let joined = Guest::new(100, &net).join(&ticket).await.unwrap();
    assert_eq!(joined.table.rows().filter(|row| row.given.role == Role::Owner).count(), 2);

    let wanted = Wanted {
        name: name("Photos"),
        is_own: false,
        role: Role::Viewer,
        confirm: false,
        valid_for: Duration::from_secs(60),
    };
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let made = make_ticket(node.issuer().await, wanted, WallTime(0), &mut rng).await;
    assert!(matches!(made, Err(MakeTicketError::NotOwner)));
}

#[tokio::test]
async fn a_device_is_let_in_only_after_the_words_are_confirmed() {
    let founding = founding(1, 49);
    let net = MemoryNet::new();
    let mut node = Node::inviter(&founding, &net);
    let ticket = node.ticket(Role::Owner, true, true).await;
    let mut guest = Guest::new(100, &net);

    let differ = |_| node.say.send(false).unwrap();
    let refused = join(&*guest.link, &guest.keys, &ticket, differ, &mut guest.rng).await;
    assert!(matches!(refused, Err(JoinError::NotConfirmed)));
    assert!(matches!(node.served.recv().await, Some(Err(ServeError::NotConfirmed))));
    assert_eq!(node.joiner_of(&ticket), None, "the ticket can still be used");
    assert_eq!(node.role(guest.keys.id()).await, None);

    node.say.send(true).unwrap();
    guest.join(&ticket).await.unwrap();
    node.served.recv().await.unwrap().unwrap();
    assert_eq!(node.joiner_of(&ticket), Some(guest.keys.id()));
    let shown = node.told.shown.lock().unwrap().pop().unwrap();
    assert_eq!((Some(shown.words), shown.joiner, shown.needs_confirmation), (guest.words, guest.keys.id(), true));

    // Nobody is asked twice about the same device.
    guest.join(&ticket).await.unwrap();
    let shown = node.told.shown.lock().unwrap().pop().unwrap();
    assert_eq!((Some(shown.words), shown.needs_confirmation), (guest.words, false));
}

#[tokio::test]
async fn a_joiner_that_goes_while_the_user_compares_leaves_the_ticket_unused() {
    let founding = founding(1, 50);
    let net = MemoryNet::new();
    let mut node = Node::inviter(&founding, &net);
    let ticket = node.ticket(Role::Owner, true, true).await;
    let mut guest = Guest::new(100, &net);
    let conn = guest.dial(&ticket).await;
    let (mut send, mut receive) = conn.open_bi(StreamKind::Control).await.unwrap();
    let request = make_t1(&ticket, &guest.keys, &mut guest.rng);
    write_frame(&mut send, request.message(), PAIRING_REQUEST_LEN_MAX).await.unwrap();
    let nonce = read_frame(&mut receive, NONCE_LEN).await.unwrap().unwrap();
    assert!(request.check_nonce(&nonce).is_ok());
    conn.close(CloseCode::Done, "");
    assert!(matches!(node.served.recv().await, Some(Err(ServeError::Closed(_)))));
    assert_eq!(node.joiner_of(&ticket), None);
    node.say.send(true).unwrap();
    guest.join(&ticket).await.unwrap();
}

async fn iroh(keys: &DeviceKeys) -> Arc<dyn Link> {
    let bind = Bind::Address("127.0.0.1:0".parse().unwrap());
    let settings = IrohSettings { bind, relays: Vec::new(), lan: false };
    Arc::new(IrohLink::open(keys, settings, everyone()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_joins_over_iroh() {
    let founding = founding(1, 55);
    let keys = founding.keys[0].clone();
    let open = open_space(founding.identity(0), founding.records.clone());
    let mut node = Node::start(keys.clone(), open, iroh(&keys).await, Patience::USUAL);
    let ticket = node.ticket(Role::Owner, true, true).await;
    let guest = |seed| DeviceKeys::from_seed(Secret::new([seed; 32]));
    let (keys, other) = (guest(100), guest(101));
    let mut guest = Guest { link: iroh(&keys).await, keys, rng: ChaCha20Rng::seed_from_u64(1), words: None };
    node.say.send(true).unwrap();
    let joined = guest.join(&ticket).await.unwrap();
    node.served.recv().await.unwrap().unwrap();
    assert_eq!(joined.table.role(guest.keys.id()), Some(Role::Owner));
    assert_eq!(guest.words, node.told.shown.lock().unwrap().first().map(|shown| shown.words));
    let mut thief = Guest { link: iroh(&other).await, keys: other, rng: ChaCha20Rng::seed_from_u64(2), words: None };
    assert!(matches!(thief.join(&ticket).await, Err(JoinError::Refused)));
}

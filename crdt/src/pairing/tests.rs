//! Both sides of a pairing, and who does not get in.

use proptest::prelude::*;

use super::*;
use crate::grant::OpenGrantError;
use crate::id::PersonId;
use crate::membership::tests::lab::{Lab, device, person};
use crate::membership::{AddRefusal, GenesisError, Given, InsertError, RecordError, Row};
use crate::name::Name;

const NONCE: [u8; 32] = [0x5a; 32];

/// Device 1 invites device 5.
struct Pair {
    lab: Lab,
    ticket: Ticket,
    joiner: DeviceKeys,
    joining: Joining,
}

impl Pair {
    fn new(role: Role, is_own: bool) -> Self {
        let mut lab = Lab::new(1);
        let ticket = Ticket {
            inviter: lab.creator.id(),
            space: lab.space(),
            secret: TicketSecret::draw(&mut lab.rng),
            hints: vec![],
            name: Name::parse(b"Photos").unwrap(),
            role,
            expiry_secs: 1_900_000_000,
            own_device: is_own.then(|| nonce_hash(&NONCE)),
        };
        let joiner = device(5);
        let joining = make_t1(&ticket, &joiner, &mut lab.rng);
        Self { lab, ticket, joiner, joining }
    }

    fn invitation(&self) -> Invitation {
        Invitation { space: self.ticket.space, secret: self.ticket.secret.clone(), role: self.ticket.role }
    }

    fn check_t1(&self, bytes: &[u8]) -> Result<Request, T1Error> {
        let find = |id| (id == self.ticket.secret.id()).then(|| self.invitation());
        check_t1(bytes, self.ticket.inviter, Some(self.joiner.id()), find)
    }

    fn person(&self) -> PersonId {
        if self.ticket.own_device.is_some() { self.lab.creator_person() } else { person(5) }
    }

    /// What an honest inviter hands over.
    fn welcome(&mut self, request: &Request) -> Welcome {
        let given = Given { person: self.person(), rank: 2, role: self.ticket.role };
        let row = Row { introduction: request.introduction.clone(), given };
        self.lab.records.add(&self.lab.creator.signing_key(), row).unwrap();
        let records = self.lab.records.lacked_by(&[]).map(<[u8]>::to_vec).collect();
        let grants = if self.ticket.role.can_read() { vec![self.grant()] } else { vec![] };
        Welcome { records, grants, frontier: b"frontier".to_vec(), snapshot: Some([3; 32]) }
    }

    fn grant(&mut self) -> Vec<u8> {
        let identity = crate::membership::Identity::of(&self.joiner);
        let secret = self.lab.epoch_secret();
        grant::seal(&self.lab.creator.signing_key(), &secret, &identity, &mut self.lab.rng).unwrap()
    }

    fn request(&self) -> Request {
        self.check_t1(self.joining.message()).unwrap()
    }

    fn answer(&self, request: &Request, welcome: Welcome) -> Vec<u8> {
        make_t2(&self.lab.creator, &self.ticket.secret, request, welcome).unwrap()
    }

    fn check_t2(&self, bytes: &[u8]) -> Result<Joined, T2Error> {
        check_t2(&self.joining, &self.joiner, bytes)
    }
}

#[test]
fn a_ticket_becomes_a_row_for_every_role_and_person() {
    for role in Role::ALL {
        for is_own in [false, true] {
            let mut pair = Pair::new(role, is_own);
            let request = pair.request();
            assert_eq!(request.joiner(), pair.joiner.id());
            let welcome = pair.welcome(&request);
            let joined = pair.check_t2(&pair.answer(&request, welcome)).unwrap();
            let given = joined.table.row(pair.joiner.id()).unwrap().given;
            assert_eq!(given, Given { person: pair.person(), rank: 2, role });
            assert_eq!(joined.table, pair.lab.records.table().unwrap());
            assert_eq!(joined.records.heads(), pair.lab.records.heads());
            assert_eq!((joined.frontier.as_slice(), joined.snapshot), (&b"frontier"[..], Some([3; 32])));
            let secrets: Vec<_> = joined.secrets.iter().map(|secret| *secret.secret().expose()).collect();
            let expected = if role.can_read() { vec![*pair.lab.secret.expose()] } else { vec![] };
            assert_eq!(secrets, expected);
        }
    }
}

#[test]
fn both_screens_show_the_same_six_words() {
    let pair = Pair::new(Role::Owner, true);
    let request = pair.request();
    let words = pair.joining.check_nonce(&make_nonce(&NONCE)).unwrap();
    assert_eq!(words, request.compared_words(&NONCE));

    // Who stands in between and holds the ticket, too, is another device and makes another T1.
    let other = make_t1(&pair.ticket, &device(6), &mut Lab::new(9).rng);
    let find = |_| Some(pair.invitation());
    let request = check_t1(other.message(), pair.ticket.inviter, None, find).unwrap();
    assert_ne!(words, request.compared_words(&NONCE));

    assert_eq!(pair.joining.check_nonce(&make_nonce(&[0; 32])), Err(NonceError::Wrong));
    let unexpected = Pair::new(Role::Owner, false).joining.check_nonce(&make_nonce(&NONCE));
    assert_eq!(unexpected, Err(NonceError::NotExpected));
    for bit in 0..NONCE_LEN * 8 {
        let mut bytes = make_nonce(&NONCE);
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(pair.joining.check_nonce(&bytes).is_err());
    }
}

#[test]
fn a_device_that_asks_again_is_the_same_request() {
    let mut pair = Pair::new(Role::Editor, false);
    let first = pair.request();
    let again = make_t1(&pair.ticket, &pair.joiner, &mut pair.lab.rng);
    let second = pair.check_t1(again.message()).unwrap();
    assert_eq!(first.introduction, second.introduction, "what is added is the same row");
    assert_ne!(first, second, "but each T1 has a nonce and an answer of its own");
    let welcome = pair.welcome(&first);
    let old = pair.answer(&first, welcome.clone());
    assert!(matches!(check_t2(&again, &pair.joiner, &old), Err(T2Error::NotAuthentic)));
    assert!(check_t2(&again, &pair.joiner, &pair.answer(&second, welcome)).is_ok());
}

#[test]
fn who_does_not_hold_the_ticket_is_refused_as_an_unknown_ticket_is() {
    let mut pair = Pair::new(Role::Editor, false);
    assert_eq!(
        check_t1(pair.joining.message(), pair.ticket.inviter, None, |_| None).unwrap_err(),
        T1Error::Refused,
        "unknown, used or expired"
    );
    // The id travels in the clear: who saw it makes a T1 with it, without the secret.
    let secret = TicketSecret::new([9; 16]);
    let guess = Ticket { secret: secret.clone(), ..pair.ticket.clone() };
    let guessed = make_t1(&guess, &pair.joiner, &mut pair.lab.rng);
    let mut body: T1Body = decode(&guessed.body, 4096).unwrap();
    body.ticket = pair.ticket.secret.id();
    let bytes = Message::seal(&pair.joiner, &secret, Side::Joiner, pair.ticket.space, encode(&body));
    assert_eq!(pair.check_t1(&bytes), Err(T1Error::Refused));
    // Even a lookup that answers with another ticket than was asked for admits nobody.
    let found = check_t1(guessed.message(), pair.ticket.inviter, None, |_| Some(pair.invitation()));
    assert_eq!(found, Err(T1Error::Refused));
}

#[test]
fn a_t1_is_for_one_inviter_one_space_and_the_connections_device() {
    let pair = Pair::new(Role::Editor, false);
    let find = |_| Some(pair.invitation());
    let bytes = pair.joining.message();
    assert_eq!(check_t1(bytes, device(9).id(), None, find), Err(T1Error::WrongInviter));
    assert_eq!(check_t1(bytes, pair.ticket.inviter, Some(device(9).id()), find), Err(T1Error::WrongPeer));
    let elsewhere = Invitation { space: SpaceId([9; 32]), ..pair.invitation() };
    assert_eq!(check_t1(bytes, pair.ticket.inviter, None, |_| Some(elsewhere)), Err(T1Error::Refused));

    // Signed by the joiner, but with an introduction that a third device made for this inviter.
    let mut body: T1Body = decode(&pair.joining.body, 4096).unwrap();
    body.introduction = Introduction::make(&device(6), pair.ticket.inviter, pair.ticket.space);
    let stolen = Message::seal(&pair.joiner, &pair.ticket.secret, Side::Joiner, pair.ticket.space, encode(&body));
    assert_eq!(pair.check_t1(&stolen), Err(T1Error::Refused));
    // The joiner's own, but signed for another space.
    body.introduction = Introduction::make(&pair.joiner, pair.ticket.inviter, SpaceId([9; 32]));
    let other = Message::seal(&pair.joiner, &pair.ticket.secret, Side::Joiner, pair.ticket.space, encode(&body));
    assert_eq!(pair.check_t1(&other), Err(T1Error::Row(RowError::BadSignature)));
    // The joiner's own, but for another inviter.
    body.introduction = Introduction::make(&pair.joiner, device(6).id(), pair.ticket.space);
    let other = Message::seal(&pair.joiner, &pair.ticket.secret, Side::Joiner, pair.ticket.space, encode(&body));
    assert_eq!(pair.check_t1(&other), Err(T1Error::Refused));
}

#[test]
fn a_reader_without_a_key_is_refused_and_a_keeper_needs_none() {
    for (role, expected) in [(Role::Viewer, Some(T1Error::NoKey)), (Role::Keeper, None)] {
        let pair = Pair::new(role, false);
        let mut body: T1Body = decode(&pair.joining.body, 4096).unwrap();
        body.introduction.identity.keys.clear();
        let signed = encode(&(&body.introduction.identity, pair.ticket.inviter));
        body.introduction.signature = sign(&pair.joiner.signing_key(), Signed::Row, pair.ticket.space, &signed);
        let bytes = Message::seal(&pair.joiner, &pair.ticket.secret, Side::Joiner, pair.ticket.space, encode(&body));
        assert_eq!(pair.check_t1(&bytes).err(), expected);
    }
}

#[test]
fn an_answer_must_be_whole() {
    let mut pair = Pair::new(Role::Editor, false);
    let request = pair.request();
    let good = pair.welcome(&request);
    let answer = |pair: &Pair, welcome| pair.check_t2(&pair.answer(&request, welcome)).map(drop);
    let with_records = |records| Welcome { records, ..good.clone() };
    let [genesis, add] = [0, 1].map(|index| good.records[index].clone());

    assert_eq!(answer(&pair, with_records(vec![])), Err(T2Error::Shape));
    assert_eq!(answer(&pair, with_records(vec![genesis.clone()])), Err(T2Error::NotAdmitted));
    let reversed = with_records(vec![add.clone(), genesis.clone()]);
    assert_eq!(answer(&pair, reversed), Err(T2Error::Genesis(GenesisError::WrongSpace)));
    let repeated = with_records(vec![genesis.clone(), add.clone(), add.clone()]);
    assert_eq!(answer(&pair, repeated), Err(T2Error::OutOfOrder));

    // A stranger's record, or one of another space, in the chain.
    let row = pair.lab.row(device(9).id(), &device(8), person(9), 5, Role::Owner);
    let stranger = pair.lab.add_on(&pair.lab.records.heads(), &device(9), row).bytes().to_vec();
    let refused = Err(T2Error::Record(InsertError::NoRight(AddRefusal::NotMember)));
    assert_eq!(answer(&pair, with_records(vec![genesis.clone(), add.clone(), stranger])), refused);
    let mut other = Lab::new(2);
    let creator = other.creator.clone();
    let foreign = other.add(&creator, &device(8), person(8), 2, Role::Owner).bytes().to_vec();
    let refused = Err(T2Error::Record(InsertError::Record(RecordError::WrongSpace)));
    assert_eq!(answer(&pair, with_records(vec![genesis.clone(), add.clone(), foreign])), refused);
    let genesis_elsewhere = other.records.genesis().bytes().to_vec();
    let refused = Err(T2Error::Genesis(GenesisError::WrongSpace));
    assert_eq!(answer(&pair, with_records(vec![genesis_elsewhere, add])), refused);

    assert_eq!(answer(&pair, Welcome { grants: vec![], ..good.clone() }), Err(T2Error::MissingSecret));
    let grants = vec![pair.grant(), b"none".to_vec()];
    assert!(matches!(
        answer(&pair, Welcome { grants, ..good.clone() }),
        Err(T2Error::Grant(OpenGrantError::Decode(_)))
    ));
    assert_eq!(answer(&pair, good), Ok(()));
}

#[test]
fn threat_03_another_secret_than_the_records_is_refused() {
    let mut pair = Pair::new(Role::Editor, false);
    let request = pair.request();
    let good = pair.welcome(&request);
    pair.lab.secret = crate::keys::Secret::new([9; 32]);
    let grants = vec![pair.grant()];
    let answer = pair.answer(&request, Welcome { grants, ..good });
    assert_eq!(pair.check_t2(&answer).map(drop), Err(T2Error::Grant(OpenGrantError::WrongSecret)));
}

#[test]
fn the_ticket_says_which_role_and_whose_person() {
    for (role, is_own) in [(Role::Viewer, false), (Role::Editor, true)] {
        let mut pair = Pair::new(Role::Editor, false);
        let request = pair.request();
        let said = pair.ticket.clone();
        pair.ticket.role = role;
        pair.ticket.own_device = is_own.then_some([0; 32]);
        let welcome = pair.welcome(&request);
        pair.ticket = said;
        assert_eq!(pair.check_t2(&pair.answer(&request, welcome)).map(drop), Err(T2Error::NotAdmitted));
    }
}

#[test]
fn only_the_inviter_answers() {
    let mut pair = Pair::new(Role::Editor, false);
    let request = pair.request();
    let welcome = pair.welcome(&request);
    let by = |keys: &DeviceKeys, secret: &TicketSecret| make_t2(keys, secret, &request, welcome.clone()).unwrap();
    for bytes in [by(&device(9), &pair.ticket.secret), by(&pair.lab.creator, &TicketSecret::new([9; 16]))] {
        assert!(matches!(pair.check_t2(&bytes), Err(T2Error::NotAuthentic)));
    }
    // T1 sent back, and a T2 whose proof is the joiner's.
    assert!(pair.check_t2(pair.joining.message()).is_err());
    let body = decode_message(&by(&pair.lab.creator, &pair.ticket.secret)).unwrap().body;
    let secret = &pair.ticket.secret;
    let bytes = Message::seal(&pair.lab.creator, secret, Side::Joiner, pair.ticket.space, body);
    assert!(matches!(pair.check_t2(&bytes), Err(T2Error::NotAuthentic)));
}

#[test]
fn threat_10_each_flipped_bit_and_truncation_of_t1_and_t2_is_refused() {
    let mut pair = Pair::new(Role::Editor, false);
    let t1 = pair.joining.message().to_vec();
    let request = pair.request();
    let welcome = pair.welcome(&request);
    let t2 = pair.answer(&request, welcome);
    let flipped = |bytes: &[u8], bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    };
    for bit in 0..t1.len() * 8 {
        assert!(pair.check_t1(&flipped(&t1, bit)).is_err(), "bit {bit} of T1");
    }
    for bit in 0..t2.len() * 8 {
        assert!(pair.check_t2(&flipped(&t2, bit)).is_err(), "bit {bit} of T2");
    }
    (0..t1.len()).for_each(|len| assert!(pair.check_t1(&t1[..len]).is_err(), "{len} bytes of T1"));
    (0..t2.len()).for_each(|len| assert!(pair.check_t2(&t2[..len]).is_err(), "{len} bytes of T2"));
}

#[test]
fn threat_44_an_answer_is_bounded_on_both_sides() {
    let pair = Pair::new(Role::Editor, false);
    let request = pair.request();
    let many = Welcome { grants: vec![vec![]; 65], ..Welcome::default() };
    let long = Welcome { frontier: vec![0; (1 << 20) + 1], ..Welcome::default() };
    let heavy = Welcome { records: vec![vec![0; 60_000]; 100], ..Welcome::default() };
    for welcome in [many, long, heavy] {
        assert_eq!(make_t2(&pair.lab.creator, &pair.ticket.secret, &request, welcome), Err(WelcomeTooLong));
    }
    let too_long = DecodeError::TooLong { len: PAIRING_LEN_MAX + 1, limit: PAIRING_LEN_MAX };
    assert_eq!(pair.check_t2(&vec![0; PAIRING_LEN_MAX + 1]).map(drop), Err(T2Error::Decode(too_long)));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_by_both_sides(bytes: Vec<u8>) {
        let pair = Pair::new(Role::Editor, true);
        prop_assert!(pair.check_t1(&bytes).is_err());
        prop_assert!(pair.check_t2(&bytes).is_err());
        prop_assert!(pair.joining.check_nonce(&bytes).is_err());
        // By who holds the ticket and signs anything.
        let secret = &pair.ticket.secret;
        let t1 = Message::seal(&pair.joiner, secret, Side::Joiner, pair.ticket.space, bytes.clone());
        prop_assert!(pair.check_t1(&t1).is_err());
        let t2 = Message::seal(&pair.lab.creator, secret, Side::Inviter, pair.ticket.space, bytes);
        prop_assert!(pair.check_t2(&t2).is_err());
    }
}

//! The table against a plain model, under every order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::lab::{Lab, device, person};
use crate::id::{DeviceId, PersonId, RecordHash};
use crate::membership::{Given, Inserted, Operation, Record, Records, Role, Row};

/// The model: sets instead of indices, everything computed anew each time.
struct RefTable<'a> {
    lab: &'a Lab,
    records: BTreeMap<RecordHash, Record>,
}

type Rows = BTreeMap<DeviceId, Given>;

impl RefTable<'_> {
    fn genesis(&self) -> RecordHash {
        self.lab.space().genesis_record()
    }

    /// What `hash` follows, itself not included. `None` if something is missing.
    fn past(&self, hash: RecordHash) -> Option<BTreeSet<RecordHash>> {
        let mut past = BTreeSet::new();
        if hash == self.genesis() {
            return Some(past);
        }
        for previous in &self.records.get(&hash)?.head().previous {
            past.insert(*previous);
            past.extend(self.past(*previous)?);
        }
        Some(past)
    }

    fn counts(&self, hash: RecordHash) -> bool {
        let (Some(past), Some(record)) = (self.past(hash), self.records.get(&hash)) else {
            return hash == self.genesis();
        };
        let Ok(Operation::Add(row)) = record.operation() else { return false };
        if !record.head().previous.iter().all(|previous| self.counts(*previous)) {
            return false;
        }
        let rows = self.rows(&past);
        let Some(author) = rows.get(&record.head().author) else { return false };
        let is_present = rows.get(&row.introduction.identity.device);
        let is_own = row.given.person == author.person;
        let may_act = is_present.is_none_or(|row| row.rank > author.rank);
        let keeps_person = is_present.is_none_or(|present| present.person == row.given.person);
        let is_new_person = !rows.values().any(|other| other.person == row.given.person);
        let may_give = if is_own {
            row.given.role <= author.role
        } else {
            author.role == Role::Owner && (is_new_person || is_present.is_some())
        };
        row.given.rank > author.rank && may_act && keeps_person && may_give
    }

    /// The table of a set of records that count.
    fn rows(&self, set: &BTreeSet<RecordHash>) -> Rows {
        let first = |rank| Given { person: self.lab.creator_person(), rank, role: Role::Owner };
        let mut adds: BTreeMap<DeviceId, Vec<(RecordHash, u32, Given)>> = BTreeMap::new();
        adds.entry(self.lab.creator.id()).or_default().push((self.genesis(), 0, first(1)));
        adds.entry(self.lab.recovery.id()).or_default().push((self.genesis(), 0, first(0)));
        for hash in set.iter().filter(|hash| **hash != self.genesis()) {
            let record = &self.records[hash];
            let Ok(Operation::Add(row)) = record.operation() else { continue };
            let author = self.rows(&self.past(*hash).unwrap())[&record.head().author];
            adds.entry(row.introduction.identity.device).or_default().push((*hash, author.rank, row.given));
        }
        let row = |adds: Vec<(RecordHash, u32, Given)>| {
            let is_followed = |hash| adds.iter().any(|(other, ..)| self.past(*other).unwrap().contains(&hash));
            let latest: Vec<_> = adds.iter().filter(|(hash, ..)| !is_followed(*hash)).collect();
            let (_, _, chosen) = latest.iter().min_by_key(|(hash, rank, _)| (*rank, *hash)).unwrap();
            Given {
                person: chosen.person,
                rank: adds.iter().map(|(.., given)| given.rank).min().unwrap(),
                role: latest.iter().map(|(.., given)| given.role).min().unwrap(),
            }
        };
        adds.into_iter().map(|(device, adds)| (device, row(adds))).collect()
    }

    fn table(&self) -> Rows {
        self.rows(&self.records.keys().copied().filter(|hash| self.counts(*hash)).collect())
    }
}

/// One `add`, right or wrong: who adds whom, as what, on which of the records before it.
#[derive(Clone, Debug)]
struct Step {
    author: u8,
    joiner: u8,
    person: u8,
    rank: u32,
    role: usize,
    previous: [prop::sample::Index; 2],
    is_on_last: bool,
}

/// Few devices, so that most are added more than once; mostly with what an honest inviter would give.
fn step() -> impl Strategy<Value = Step> {
    let author = prop_oneof![4 => Just(1u8), 2 => Just(0u8), 3 => 2u8..5];
    let joiner = prop_oneof![6 => 2u8..5, 1 => 0u8..2];
    let person = prop_oneof![4 => Just(None), 2 => (0u8..4).prop_map(Some)];
    let role = prop_oneof![3 => Just(3usize), 2 => 0usize..4];
    let previous = (any::<[prop::sample::Index; 2]>(), prop::bool::weighted(0.5));
    (author, joiner, person, 1u32..12, role, previous).prop_map(
        |(author, joiner, person, rank, role, (previous, is_on_last))| {
            let person = person.unwrap_or(joiner);
            Step { author, joiner, person, rank, role, previous, is_on_last }
        },
    )
}

fn made(lab: &Lab, steps: &[Step]) -> Vec<Record> {
    let mut names = vec![lab.space().genesis_record()];
    let mut made = Vec::new();
    for step in steps {
        let author = device(step.author);
        let owner: PersonId = if step.person == 0 { lab.creator_person() } else { person(step.person) };
        let row = lab.row(author.id(), &device(step.joiner), owner, step.rank, Role::ALL[step.role]);
        let mut previous: Vec<_> = step.previous.iter().map(|index| *index.get(&names)).collect();
        if step.is_on_last {
            previous.extend(names.last());
        }
        previous.sort_unstable();
        previous.dedup();
        let record = lab.add_on(&previous, &author, row);
        // The same step on the same records is the same record.
        if !names.contains(&record.hash()) {
            names.push(record.hash());
            made.push(record);
        }
    }
    made
}

fn rows_of(records: &Records) -> Rows {
    records.table().unwrap().rows().map(|row| (row.identity.device, row.given)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_table_is_the_models_under_every_order_of_arrival(
        (steps, order) in prop::collection::vec(step(), 1..12)
            .prop_flat_map(|steps| {
                let order: Vec<usize> = (0..steps.len()).collect();
                (Just(steps), Just(order).prop_shuffle())
            })
    ) {
        let lab = Lab::new(1);
        let made = made(&lab, &steps);
        let model = RefTable { lab: &lab, records: made.iter().map(|record| (record.hash(), record.clone())).collect() };

        let mut in_order = lab.records.clone();
        for record in &made {
            let counts = model.counts(record.hash());
            let inserted = in_order.insert(record.bytes());
            let kept = matches!(inserted, Ok(Inserted::Kept(_)));
            prop_assert_eq!(kept, counts, "{:?}", inserted);
        }
        let mut shuffled = lab.records.clone();
        for index in order.into_iter().filter(|index| *index < made.len()) {
            let _ = shuffled.insert(made[index].bytes());
        }

        prop_assert_eq!(rows_of(&in_order), model.table());
        prop_assert_eq!(in_order.table().unwrap(), shuffled.table().unwrap());
        prop_assert_eq!(in_order.heads(), shuffled.heads());
        prop_assert_eq!(in_order.count(), shuffled.count());
        for record in made.iter().filter(|record| in_order.contains(record.hash())) {
            let at = [record.hash()];
            prop_assert_eq!(in_order.table_at(&at).unwrap(), shuffled.table_at(&at).unwrap());
            for number in 0..5 {
                let role = in_order.table_at(&at).unwrap().role(device(number).id());
                prop_assert_eq!(shuffled.role_at(&at, device(number).id()), Ok(role));
            }
            let mut past = model.past(record.hash()).unwrap();
            prop_assert!(past.iter().all(|earlier| in_order.follows(&at, &[*earlier]).unwrap()));
            past.insert(record.hash());
            let rows: Rows = in_order.table_at(&at).unwrap().rows().map(|row| (row.identity.device, row.given)).collect();
            prop_assert_eq!(rows, model.rows(&past));
        }

        // What is sent is enough, in an order in which nothing waits.
        let mut sent = shuffled.lacked_by(&[]);
        let mut copy = Records::new(lab.space(), sent.next().unwrap()).unwrap();
        for bytes in sent {
            prop_assert!(matches!(copy.insert(bytes), Ok(Inserted::Kept(_))));
        }
        prop_assert_eq!(copy.table().unwrap(), in_order.table().unwrap());
    }

    #[test]
    fn an_author_without_the_right_changes_nothing(steps in prop::collection::vec(step(), 1..10)) {
        let mut lab = Lab::new(2);
        let editor = device(20);
        let creator = lab.creator.clone();
        lab.add(&creator, &editor, person(9), 2, Role::Editor);
        let before = lab.records.table().unwrap();
        let stranger = device(30);
        for step in steps {
            let heads = lab.records.heads();
            let joiner = device(step.joiner + 40);
            let role = Role::ALL[step.role];
            // Nobody of this space; and a member that is no owner, who adds another person.
            for author in [&stranger, &editor] {
                let row = lab.row(author.id(), &joiner, person(step.person), step.rank + 2, role);
                let record = lab.add_on(&heads, author, row);
                prop_assert!(lab.records.insert(record.bytes()).is_err());
            }
            prop_assert_eq!(lab.records.heads(), heads);
        }
        prop_assert_eq!(lab.records.table().unwrap(), before);
    }
}

/// That a row of `Row`s is compared at all: the model must be able to fail.
#[test]
fn the_model_tells_right_from_wrong() {
    let lab = Lab::new(3);
    let genesis = [lab.space().genesis_record()];
    let row = |rank| -> Row { lab.row(lab.creator.id(), &device(7), person(7), rank, Role::Editor) };
    let (good, bad) = (lab.add_on(&genesis, &lab.creator, row(2)), lab.add_on(&genesis, &lab.creator, row(1)));
    let records = [good.clone(), bad.clone()].map(|record| (record.hash(), record)).into();
    let model = RefTable { lab: &lab, records };
    assert!(model.counts(good.hash()));
    assert!(!model.counts(bad.hash()));
    assert_eq!(model.table()[&device(7).id()].rank, 2);
}

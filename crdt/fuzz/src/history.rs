//! Whole histories: logs of three devices that write what they should, and now and then what no honest program would.
//! All that was written is applied in two orders, which must come to the same.

use arbitrary::{Result, Unstructured};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zerocloud_crdt::change::Change;
use zerocloud_crdt::id::{ActorId, DeviceId, EpochId, FileId, Incarnation, LogId, OpId, RecordHash};
use zerocloud_crdt::log::heads::current_heads;
use zerocloud_crdt::log::{
    Body, Branches, Draft, DraftOp, Entry, Frontier, Head, Header, Kind, Link, LogRead, LogWriter, Membership,
    MemoryLog, Outcome, Setting, Start,
};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, Place, Write};

use super::log::{framed, plain_of, seal};
use super::proofs::{DEVICES, LOG_SECRET, LOG_SPACE};

const GENESIS: RecordHash = RecordHash(LOG_SPACE.0);
/// A record that comes after the genesis.
const LATER: RecordHash = RecordHash([0xee; 32]);
/// A record that nobody has.
const UNKNOWN: RecordHash = RecordHash([0xff; 32]);
const STEP_COUNT_MAX: usize = 30;
const DEVICE_COUNT: usize = 3;

/// Two records; the last device is in the table of the later one alone.
struct Members;

impl Membership for Members {
    fn knows(&self, heads: &[RecordHash]) -> bool {
        !heads.contains(&UNKNOWN)
    }

    fn may_write(&self, heads: &[RecordHash], author: DeviceId) -> bool {
        author != DEVICES[DEVICE_COUNT].0.id() || heads.contains(&LATER)
    }

    fn follows(&self, later: &[RecordHash], earlier: &[RecordHash]) -> bool {
        later.contains(&LATER) || !earlier.contains(&LATER)
    }
}

/// A history from any bytes; whether something in it counted.
pub fn history(data: &[u8]) -> bool {
    let Ok(entries) = write(&mut Unstructured::new(data)) else { return false };
    let forward = apply(&entries, false);
    let backward = apply(&entries, true);
    assert_eq!(forward.frontier(), backward.frontier());
    assert_eq!(forward.items(), backward.items(), "the same entries in another order");
    // What is handed on is applied by who begins with nothing.
    let handed: Vec<Entry> = forward.lacked_by(&Frontier::default()).into_iter().cloned().collect();
    assert_eq!(apply(&handed, false).items(), forward.items());
    !forward.items().is_empty()
}

/// Applies all that can be, and all anew when a fork shows, as a device does.
fn apply(entries: &[Entry], is_reversed: bool) -> MemoryLog {
    let mut log = MemoryLog::default();
    let mut open: Vec<&Entry> = entries.iter().collect();
    if is_reversed {
        open.reverse();
    }
    loop {
        let count = open.len();
        open.retain(|entry| match receive(&mut log, entry) {
            Some(Outcome::Waits(_)) => true,
            Some(Outcome::Fork(_)) => {
                let mut anew = replay(&log, entry);
                match receive(&mut anew, entry) {
                    Some(Outcome::Checked(_)) => log = anew,
                    // A newer version wrote it: nothing has happened.
                    None => {}
                    outcome => panic!("{entry:?} has no branch: {outcome:?}"),
                }
                false
            }
            Some(Outcome::Known | Outcome::Checked(_)) | None => false,
        });
        if open.len() == count {
            return log;
        }
    }
}

/// What becomes of an entry; `None` if a newer version wrote it.
fn receive(log: &mut MemoryLog, entry: &Entry) -> Option<Outcome> {
    let secret = |epoch| (epoch == LOG_SECRET.epoch).then_some(&*LOG_SECRET);
    log.receive(entry.clone(), &Members, secret).ok()
}

/// The same entries in their branches, of which `next` begins one.
fn replay(log: &MemoryLog, next: &Entry) -> MemoryLog {
    let applied = log.lacked_by(&Frontier::default());
    let (branches, _) = Branches::of(applied.iter().copied().chain([next]).map(Link::of));
    let mut anew = MemoryLog::with_branches(branches);
    for entry in applied {
        let outcome = receive(&mut anew, entry);
        assert!(matches!(outcome, Some(Outcome::Checked(_))), "{entry:?} can't be applied a second time: {outcome:?}");
    }
    anew
}

/// A device with the log that it has applied, which knows of no fork.
struct Device {
    number: usize,
    log: MemoryLog,
}

fn write(input: &mut Unstructured<'_>) -> Result<Vec<Entry>> {
    let mut devices: Vec<Device> =
        (1..=DEVICE_COUNT).map(|number| Device { number, log: MemoryLog::default() }).collect();
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..STEP_COUNT_MAX {
        if input.is_empty() {
            break;
        }
        let who = input.choose_index(DEVICE_COUNT)?;
        let device = &mut devices[who];
        let step: u8 = input.arbitrary()?;
        match step % 4 {
            0 | 1 => entries.extend(write_rightly(input, device)?),
            2 if !entries.is_empty() => {
                let entry = entries[input.choose_index(entries.len())?].clone();
                // Whatever becomes of it: a device goes on.
                drop(device.log.receive(entry, &Members, |_| Some(&*LOG_SECRET)));
            }
            _ => entries.extend(write_wrongly(input, device, &entries)?),
        }
    }
    entries.sort_by_key(Entry::hash);
    entries.dedup_by_key(|entry| entry.hash());
    Ok(entries)
}

/// What the program writes.
fn write_rightly(input: &mut Unstructured<'_>, device: &mut Device) -> Result<Option<Entry>> {
    let key = &DEVICES[device.number].1;
    let incarnation = Incarnation([input.arbitrary::<u8>()? % 2; 8]);
    let writer = LogWriter::new(key, LOG_SPACE, incarnation);
    let Ok(frontier) = LogRead::frontier(&device.log);
    let draft = match input.arbitrary::<u8>()? % 8 {
        _ if frontier.number(writer.log()) == 0 => Draft::Start(start()),
        0 => Draft::Seen,
        _ => {
            let mut ops = Vec::new();
            for _ in 0..=input.arbitrary::<u8>()? % 3 {
                ops.push(draw_op(input, &device.log)?);
            }
            Draft::Index(ops)
        }
    };
    let membership = if input.arbitrary()? { [GENESIS] } else { [LATER] };
    let Ok(heads) = current_heads(&device.log, writer.log());
    let setting = Setting { heads: &heads, membership: &membership, secret: &LOG_SECRET };
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let Ok(written) = writer.write(&device.log, &Members, &setting, draft, &mut rng) else { return Ok(None) };
    assert_eq!(Entry::decode(LOG_SPACE, written.entry.as_bytes().to_vec()).as_ref(), Ok(&written.entry));
    device.log.apply(written.entry.clone(), &written.checked);
    Ok(Some(written.entry))
}

fn start() -> Start {
    Start { label: Name::parse(b"device").unwrap(), earlier: Vec::new() }
}

fn draw_op(input: &mut Unstructured<'_>, log: &MemoryLog) -> Result<DraftOp> {
    let byte: u8 = input.arbitrary()?;
    let item = FileId([byte % 4 + 1; 16]);
    let live = log.items().get(&item).cloned().unwrap_or_default();
    let is_place = byte & 0x80 > 0;
    let mut pred: Vec<OpId> =
        if is_place { live.place.into_keys().collect() } else { live.content.into_keys().collect() };
    let write = match byte >> 4 {
        8.. => Write::Place(Place {
            parent: FileId([byte >> 2 & 3; 16]),
            name: Name::parse(&[b'a' + (byte & 1)]).unwrap(),
            previous: None,
            loser_of: None,
        }),
        0 if !pred.is_empty() => Write::Content(None),
        1..=3 => Write::Content(Some(Content::Directory)),
        _ => Write::Content(Some(Content::Symlink { target: vec![byte | 1] })),
    };
    if !write.is_delete() && input.arbitrary()? {
        pred.clear();
    }
    Ok(DraftOp { item, write, pred })
}

/// What a member could write that is no honest program: any header, and a payload that fits or does not.
fn write_wrongly(input: &mut Unstructured<'_>, device: &Device, entries: &[Entry]) -> Result<Option<Entry>> {
    let author = &DEVICES[device.number];
    let model = if entries.is_empty() { None } else { Some(&entries[input.choose_index(entries.len())?]) };
    let number = match model {
        Some(model) if input.arbitrary()? => model.header().number + u64::from(input.arbitrary::<bool>()?),
        _ => u64::from(input.arbitrary::<u8>()? % 4) + 1,
    };
    let log = LogId { author: author.0.id(), incarnation: Incarnation([input.arbitrary::<u8>()? % 2; 8]) };
    let before = entries.iter().filter(|entry| entry.header().log == log && entry.header().number + 1 == number);
    let before: Vec<_> = before.map(Entry::hash).collect();
    let previous = match (number, before.is_empty()) {
        (1, _) => None,
        (_, false) => Some(before[input.choose_index(before.len())?]),
        (_, true) => model.map(Entry::hash),
    };
    let mut heads: Vec<Head> = Vec::new();
    for _ in 0..input.arbitrary::<u8>()? % 3 {
        if let Some(model) = model
            && let other = &entries[input.choose_index(entries.len())?]
        {
            heads.push(Head {
                point: other.point(),
                hash: if input.ratio(7, 8)? { other.hash() } else { model.hash() },
            });
        }
    }
    heads.retain(|head| head.point.log != log);
    heads.sort_unstable();
    heads.dedup();
    let membership = match input.arbitrary::<u8>()? % 8 {
        0 => vec![UNKNOWN],
        1 => vec![GENESIS, LATER],
        2 | 3 => vec![LATER],
        4 | 5 if number > 1 => Vec::new(),
        _ => vec![GENESIS],
    };
    let kind = [Kind::Start, Kind::Index, Kind::Seen][input.choose_index(3)?];
    let epoch = if input.ratio(15, 16)? { LOG_SECRET.epoch } else { EpochId([9; 32]) };
    let header = Header { space: LOG_SPACE, log, number, previous, heads, membership, epoch, kind };
    let body = match (kind, model.and_then(|model| model.open(&LOG_SECRET).ok())) {
        (Kind::Start, _) => zerocloud_crdt::codec::encode(&start()),
        (Kind::Index, Some(Body::Index(change, _))) => {
            tamper(input, change, log)?.encode().map(|encoded| encoded.bytes).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let header = header.encode();
    let bytes = framed(Some(&author.1), &header, &seal(&LOG_SECRET, &header, &plain_of(&body)));
    Ok(Entry::decode(LOG_SPACE, bytes).ok())
}

/// Another's change as one's own, with numbers that may fit.
fn tamper(input: &mut Unstructured<'_>, mut change: Change, log: LogId) -> Result<Change> {
    if input.ratio(7, 8)? {
        change.actor = ActorId::of_log(LOG_SPACE, log);
    }
    change.seq = change.seq.wrapping_add_signed(i64::from(input.arbitrary::<u8>()? % 3) - 1);
    change.start_op = match input.arbitrary::<u8>()? {
        0 => u32::MAX - 1,
        byte => change.start_op.wrapping_add_signed(i32::from(byte % 5) - 2),
    };
    if input.arbitrary()? {
        change.deps.clear();
    }
    for (counter, op) in (0..).zip(&mut change.ops) {
        op.id = OpId { counter: change.start_op.wrapping_add(counter), actor: change.actor };
        if input.arbitrary()? {
            op.pred.clear();
        }
    }
    Ok(change)
}

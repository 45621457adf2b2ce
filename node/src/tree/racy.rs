//! Whether a fingerprint is sure to tell of the next edit.
//!
//! An edit gives a file the time that it is, rounded down to what the file system can tell: ext4 takes the kernel's tick
//! of 1 to 10 ms, HFS and old ext3 a second, FAT two. An edit to the same length in the tick of the edit before is seen by
//! nothing. So a file that was read in the tick in which it was edited may be edited once more and look as it did; git
//! calls that "racily clean". What was read later can't be: every edit from then on has another time.
//!
//! Which tick a file system has is not asked but seen: a time with a part of a second does not come from one that knows
//! whole seconds. Only times without one (FAT, HFS, what an archive had) wait for two seconds.
//!
//! What counts is the time of the content. Whoever sets that to a time other than now (archives, `cp -p`, our own
//! writing) leaves a ctime that is not near it, and an edit changes both: where they lie apart nothing is hidden. So a tree
//! that was just unpacked or brought from elsewhere is not read twice.
//!
//! Not covered: a network file system whose server's clock goes more than a tick before or behind this device's.

use std::time::Duration;

use zerocloud_crdt::base::Fingerprint;
use zerocloud_crdt::register::FileTime;
use zerocloud_crdt::scan::{Seen, Sighting};

use crate::clock::WallTime;

/// The coarsest tick of a clock that tells parts of a second (`CONFIG_HZ=100`; exFAT), in nanoseconds.
const TICK_NS: i64 = 10_000_000;
/// The coarsest step of times in whole seconds (FAT), in nanoseconds.
const WHOLE_SECONDS_NS: i64 = 2_000_000_000;

/// Whether a file that was read, or put in place, between `begun` and `ended` can be edited after that and look as it
/// does. A time after `ended` was set, or the clock was set back since: that an edit meets it again is a matter of a
/// clock's jump to the very tick, and not waited for.
pub fn is_racy(print: &Fingerprint, begun: WallTime, ended: WallTime) -> bool {
    let (mtime, step) = (in_nanoseconds(print.mtime), step_of(print.mtime));
    let is_recent = mtime.saturating_add(step) > begun.0 && mtime <= ended.0.saturating_add(step);
    is_recent && mtime <= in_nanoseconds(print.ctime).saturating_add(step) && !zerocloud_crdt::mutated!(TrustedTick)
}

/// Marks what was read between `begun` and `ended` and can be edited so, and gives the places of these sightings, with the
/// fingerprints.
pub fn unsettle(sightings: &mut [Sighting], begun: WallTime, ended: WallTime) -> Vec<(usize, Fingerprint)> {
    let mut racy = Vec::new();
    for (at, sighting) in sightings.iter_mut().enumerate() {
        let is_read = matches!(sighting.seen, Seen::File { .. } | Seen::Symlink { .. });
        if is_read && is_racy(&sighting.print, begun, ended) {
            sighting.print = sighting.print.unsettled();
            racy.push((at, sighting.print));
        }
    }
    racy
}

/// How long it is, at `now`, until no edit can give a file the time that it has.
pub fn settles_in(print: &Fingerprint, now: WallTime) -> Duration {
    let step = step_of(print.mtime);
    let left = in_nanoseconds(print.mtime).saturating_add(step).saturating_sub(now.0);
    Duration::from_nanos(u64::try_from(left.clamp(0, step)).unwrap_or(0))
}

const fn step_of(time: FileTime) -> i64 {
    if time.nanos == 0 { WHOLE_SECONDS_NS } else { TICK_NS }
}

const fn in_nanoseconds(time: FileTime) -> i64 {
    time.secs.saturating_mul(1_000_000_000).saturating_add(time.nanos as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    const fn time(at: i64) -> FileTime {
        FileTime { secs: at.div_euclid(S), nanos: at.rem_euclid(S) as u32 }
    }

    fn print(mtime: i64, ctime: i64) -> Fingerprint {
        Fingerprint { inode: 7, birth: None, len: 3, mtime: time(mtime), ctime: time(ctime), mode: 0o644 }
    }

    fn is_racy_at(mtime: i64, ctime: i64, read: i64) -> bool {
        is_racy(&print(mtime, ctime), WallTime(read), WallTime(read))
    }

    #[test]
    fn what_was_read_in_the_tick_of_its_edit_is_racy() {
        let fine = 10 * S + 4_000_000;
        assert!(is_racy_at(fine, fine, fine), "on a clock of ticks");
        assert!(is_racy_at(fine, fine, fine + TICK_NS - 1));
        assert!(!is_racy_at(fine, fine, fine + TICK_NS), "the next edit has another tick");
        assert!(is_racy_at(10 * S, 10 * S, 12 * S - 1), "in whole seconds");
        assert!(!is_racy_at(10 * S, 10 * S, 12 * S));
    }

    #[test]
    fn a_time_that_was_set_is_not_racy_where_the_ctime_lies_apart() {
        assert!(!is_racy_at(4 * S, 10 * S, 10 * S), "an old time");
        assert!(!is_racy_at(12 * S + 1, 10 * S, 12 * S + 1), "a time that was to come");
        assert!(!is_racy_at(99 * S, 99 * S, 10 * S), "the clock was set back");
    }

    #[test]
    fn what_is_written_while_a_batch_is_read_is_racy() {
        let print = print(20 * S + 1, 20 * S + 1);
        assert!(is_racy(&print, WallTime(10 * S), WallTime(30 * S)));
    }

    #[test]
    fn what_is_racy_is_not_once_it_has_settled() {
        for mtime in [10 * S, 10 * S + 4_000_000, -3 * S, -3 * S + 1] {
            let print = print(mtime, mtime);
            let now = mtime + 1;
            let then = now + i64::try_from(settles_in(&print, WallTime(now)).as_nanos()).unwrap();
            assert!(is_racy(&print, WallTime(now), WallTime(now)));
            assert!(!is_racy(&print, WallTime(then), WallTime(then)));
        }
    }
}

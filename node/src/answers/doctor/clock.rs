//! Whether this device's clock can be right. Nobody is asked for the time: the clock is compared with what is here
//! already, and with what members said of themselves when they connected.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::check;
use crate::api::types::{Check, Level};
use crate::clock::WallTime;
use crate::volume::{Volume, VolumeError};

/// 2024-01-01: this program was written after it.
pub(super) const CLOCK_MIN: WallTime = WallTime(1_704_067_200_000_000_000);
/// Two clocks that differ by less agree: file systems round times, and a clock is corrected now and then.
pub(super) const SKEW_MAX: Duration = Duration::from_secs(120);

const NAME: &str = "clock";
/// What is written to see which time a file gets.
const PROBE: &str = "clock.probe";

/// What is known of the time beside this device's clock.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Files that were written just now: on which disk, what the clock said before, and their time of change.
    pub written: Vec<(String, WallTime, WallTime)>,
    /// The latest time that this device noted by its own clock, with the space of which it did.
    pub noted: Vec<(String, WallTime)>,
    /// What the clocks of members said at a moment that is past.
    pub told: Vec<(String, WallTime)>,
}

/// Whether the clock can be right: times of files are compared with it, and tickets expire by it.
pub fn clock_check(now: WallTime, evidence: &Evidence) -> Check {
    if now < CLOCK_MIN {
        return check(NAME, Level::Error, "this device's clock is before 2024".to_owned()).advise(set_it());
    }
    if let Some((whose, before, mtime)) =
        evidence.written.iter().find(|(_, before, mtime)| apart(*before, *mtime) > SKEW_MAX)
    {
        let (by, which) = difference(*before, *mtime);
        let found = format!(
            "a file that was written to the disk of {whose} just now has a time that is {by} {which} this device's \
             clock: edits may be taken for older or newer than they are"
        );
        return check(NAME, Level::Warning, found).advise(
            "set the clocks of this device and of the machine that serves this disk (`timedatectl set-ntp true`)",
        );
    }
    if let Some((space, noted)) = evidence.noted.iter().find(|(_, noted)| is_after(*noted, now)) {
        let (by, _) = difference(now, *noted);
        let found = format!(
            "the clock was set back, or was ahead before: what came to the space {space} last came {by} from now; \
             `restore --at` and the age of versions are off by that"
        );
        return check(NAME, Level::Warning, found).advise(set_it());
    }
    if let Some((member, told)) = evidence.told.iter().find(|(_, told)| is_after(*told, now)) {
        let (by, _) = difference(now, *told);
        let found = format!(
            "the clock of {member} was {by} ahead of this one when it last said where it is; tickets between the two \
             expire too early or too late"
        );
        return check(NAME, Level::Warning, found)
            .advise("set the clock that is wrong, on this device or on that one (`timedatectl set-ntp true`)");
    }
    let compared = [
        (evidence.written.len(), "files written now"),
        (evidence.noted.len(), "times noted before"),
        (evidence.told.len(), "what members said"),
    ];
    let compared: Vec<&str> = compared.iter().filter(|(count, _)| *count > 0).map(|(_, what)| *what).collect();
    let with = if compared.is_empty() { "the year alone".to_owned() } else { compared.join(", ") };
    check(NAME, Level::Ok, format!("plausible (compared with {with})"))
}

fn set_it() -> &'static str {
    "set it: conflict names, ages of versions and tickets' ends come from it (`timedatectl set-ntp true`)"
}

const fn apart(a: WallTime, b: WallTime) -> Duration {
    Duration::from_nanos(a.0.abs_diff(b.0))
}

fn is_after(time: WallTime, now: WallTime) -> bool {
    time > now && apart(time, now) > SKEW_MAX
}

/// How far `there` is from `here`, and in which direction.
fn difference(here: WallTime, there: WallTime) -> (String, &'static str) {
    let by = crate::duration::show(Duration::from_secs(apart(here, there).as_secs()));
    (by, if there > here { "ahead of" } else { "behind" })
}

/// Which time a file gets that is written into a directory of ours now. The file goes again.
///
/// # Errors
/// Those of the file system.
pub fn time_of_file_in(dir: &Path) -> std::io::Result<WallTime> {
    let path = dir.join(PROBE);
    let time = std::fs::write(&path, b"?").and_then(|()| std::fs::metadata(&path)?.modified());
    // What a doctor that was cut has left is written over the next time.
    let _ = std::fs::remove_file(&path);
    let since = time?.duration_since(UNIX_EPOCH).map_err(std::io::Error::other)?;
    Ok(WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)))
}

/// Which time a file gets that is written into a folder's directory of temporary files now. The file goes again.
///
/// # Errors
/// [`VolumeError`]s of making and removing a file there.
pub fn time_of_file_on(volume: &dyn Volume) -> Result<WallTime, VolumeError> {
    let tmp = volume.control()?.tmp;
    crate::tree::found(tmp.remove_file(PROBE.as_bytes()))?;
    let stat = tmp.create_file(PROBE.as_bytes()).and_then(|file| {
        file.write_at(b"?", 0)?;
        tmp.stat(PROBE.as_bytes())
    });
    crate::tree::found(tmp.remove_file(PROBE.as_bytes()))?;
    let mtime = stat?.mtime;
    Ok(WallTime(mtime.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(mtime.nanoseconds))))
}

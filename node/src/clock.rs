//! Time as the node sees it: a monotonic [`Moment`], a [`WallTime`], and the [`Clock`] that gives both.
//!
//! Decisions take a `Moment` as an argument; only drivers ask a clock. The simulated clock is in the test network.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment of a clock that never goes back: nanoseconds since a start that means nothing outside this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// Civil time: nanoseconds since 1970-01-01T00:00:00Z, negative before it. It may jump in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(pub i64);

/// Where moments and civil time come from.
pub trait Clock: Send + Sync {
    /// The moment that it is. Never before an earlier answer.
    fn now(&self) -> Moment;

    /// The civil time that it is, as far as this device knows.
    fn wall_time(&self) -> WallTime;
}

/// The clock of the operating system. Its moments begin when it is made.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Moment {
    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// The moment that is `delay` later; the last moment there is, after 584 years.
    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    /// The moment that is `delay` earlier, not before the clock's start.
    fn sub(self, delay: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl WallTime {
    /// Whole milliseconds since 1970, rounded down.
    pub const fn as_milliseconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl SystemClock {
    /// A clock whose moments begin here.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment::default() + self.started.elapsed()
    }

    fn wall_time(&self) -> WallTime {
        let nanoseconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds),
        };
        WallTime(nanoseconds)
    }
}

/// Which boot of the system this is, by a number that each has for itself; empty where the system does not say.
pub fn boot_id() -> Vec<u8> {
    std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate_instead_of_wrapping() {
        let second = Duration::from_secs(1);
        assert_eq!(Moment(u64::MAX) + second, Moment(u64::MAX));
        assert_eq!(Moment(5) - second, Moment(0));
        assert_eq!(Moment(5).since(Moment(7)), Duration::ZERO);
        assert_eq!((Moment(5) + second).since(Moment(5)), second);
    }

    #[test]
    fn milliseconds_are_rounded_down_before_1970_too() {
        assert_eq!(WallTime(1_999_999).as_milliseconds(), 1);
        assert_eq!(WallTime(-1).as_milliseconds(), -1);
    }

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = SystemClock::new();
        let first = clock.now();
        assert!(clock.now() >= first);
        // 2024-01-01: this code was written after it, and a clock before it would make every mtime look new.
        assert!(clock.wall_time() > WallTime(1_704_067_200_000_000_000));
    }
}

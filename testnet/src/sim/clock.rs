//! Simulated time: it stands still until the scenario moves it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zerocloud::clock::{Clock, Moment, WallTime};

/// A clock that one scenario moves and many devices read; clones show the same time.
#[derive(Clone, Debug)]
pub struct SimClock {
    /// Held for one reading or one step; shared with all clones.
    times: Arc<Mutex<(Moment, WallTime)>>,
}

impl SimClock {
    /// A clock at moment zero, with this civil time.
    pub fn new(wall_time: WallTime) -> Self {
        Self { times: Arc::new(Mutex::new((Moment::default(), wall_time))) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.change(|(moment, wall)| {
            *moment = *moment + by;
            wall.0 = wall.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX));
        });
    }

    /// Sets the civil time, forwards or back, as a user or a time server does. Moments go on.
    pub fn set_wall_time(&self, to: WallTime) {
        self.change(|(_, wall)| *wall = to);
    }

    fn change<T>(&self, change: impl FnOnce(&mut (Moment, WallTime)) -> T) -> T {
        change(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Moment {
        self.change(|(moment, _)| *moment)
    }

    fn wall_time(&self) -> WallTime {
        self.change(|(_, wall)| *wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_civil_time_back_does_not_move_moments() {
        let clock = SimClock::new(WallTime(1_000));
        let twin = clock.clone();
        clock.advance(Duration::from_nanos(5));
        clock.set_wall_time(WallTime(3));
        assert_eq!((twin.now(), twin.wall_time()), (Moment(5), WallTime(3)));
    }
}

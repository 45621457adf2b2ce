//! When a path changes its congestion controller: packets in, a choice out. No clock, no socket.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::link::Congestion;

/// From this round trip on, to the far side and back on an empty path, BBR3 is worth what it costs. Below it Cubic finds
/// its speed again before a loss is felt, and the processor is the bound.
const FAR_ROUND_TRIP: Duration = Duration::from_millis(20);
/// Below this round trip a path is near again.
const NEAR_ROUND_TRIP: Duration = Duration::from_millis(15);
/// From this share of losses on a path is lossy: at 50 ms it leaves Cubic a third of what BBR3 has there
/// (docs/far.md). Cubic loses as much by itself only where some fifty packets fill the path and its queue.
const LOSSY_SHARE: f64 = 0.001;
/// Below this share of losses a path is sound again.
const SOUND_SHARE: f64 = 0.0003;
/// So many losses in a row must have come at that rate: what comes now and then is no rate.
const LOSS_COUNT: usize = 5;
/// So many packets show that a path is sound.
const SOUND_COUNT: u64 = 10_000;
/// So long BBR3 stays at least. Doubled each time that a path which was taken for sound is lossy again.
const STAY_MIN: Duration = Duration::from_secs(60);
const STAY_MAX: Duration = Duration::from_secs(3600);

/// What a path's round trip is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoundTrip {
    /// As it is, smoothed.
    pub(super) smoothed: Duration,
    /// The shortest that was seen: that of an empty path.
    pub(super) shortest: Duration,
}

impl RoundTrip {
    /// Whether packets wait for others on the way. Losses then are what a full queue drops, and both controllers are
    /// right to send less.
    fn is_queued(self) -> bool {
        self.smoothed > self.shortest + self.shortest / 2
    }
}

/// Decides for one path. Tell it of each packet by `handle_*`, then ask [`Self::choose`].
///
/// Losses within one round trip count once while Cubic sends: it answers them once, and what it brings about itself when
/// it finds the end of a queue comes in one burst.
#[derive(Clone, Debug)]
pub(super) struct LossRule {
    chosen: Congestion,
    /// Packets of which it is known what became of them, since the last choice.
    known_count: u64,
    /// Of these, the lost ones.
    lost_count: u64,
    /// What `known_count` was at each of the last losses under Cubic.
    losses: VecDeque<u64>,
    /// Until then further losses belong to the last one.
    loss_end: Option<Instant>,
    /// Since when BBR3 is on trial.
    since: Option<Instant>,
    stay: Duration,
}

impl LossRule {
    /// For a path of which nothing is known. It begins with Cubic.
    pub(super) fn new() -> Self {
        Self {
            chosen: Congestion::Cubic,
            known_count: 0,
            lost_count: 0,
            losses: VecDeque::with_capacity(LOSS_COUNT + 1),
            loss_end: None,
            since: None,
            stay: STAY_MIN,
        }
    }

    /// What the path has.
    pub(super) const fn chosen(&self) -> Congestion {
        self.chosen
    }

    /// A packet has arrived.
    pub(super) const fn handle_acked(&mut self) {
        self.known_count += 1;
    }

    /// A packet is taken for lost.
    pub(super) fn handle_lost(&mut self, now: Instant, round_trip: RoundTrip) {
        self.known_count += 1;
        self.lost_count += 1;
        if self.chosen == Congestion::Cubic && self.loss_end.is_none_or(|end| now >= end) {
            self.loss_end = Some(now + round_trip.smoothed);
            if !round_trip.is_queued() {
                self.losses.push_back(self.known_count);
                if self.losses.len() > LOSS_COUNT {
                    self.losses.pop_front();
                }
            }
        }
    }

    /// What the path is to have from now on, if that is not what it has.
    pub(super) fn choose(&mut self, now: Instant, round_trip: RoundTrip) -> Option<Congestion> {
        let chosen = match self.chosen {
            Congestion::Cubic => (self.is_lossy() && round_trip.shortest >= FAR_ROUND_TRIP).then_some(Congestion::Bbr3),
            Congestion::Bbr3 => self.is_over(now, round_trip).then_some(Congestion::Cubic),
        }?;
        if chosen == Congestion::Cubic {
            self.stay = (self.stay * 2).min(STAY_MAX);
        }
        self.chosen = chosen;
        self.begin(now);
        Some(chosen)
    }

    fn is_lossy(&self) -> bool {
        let (Some(first), Some(last)) = (self.losses.front(), self.losses.back()) else { return false };
        self.losses.len() == LOSS_COUNT && (last - first) as f64 * LOSSY_SHARE <= (LOSS_COUNT - 1) as f64
    }

    fn is_over(&mut self, now: Instant, round_trip: RoundTrip) -> bool {
        if self.since.is_some_and(|since| now.saturating_duration_since(since) < self.stay) {
            return false;
        }
        if round_trip.smoothed < NEAR_ROUND_TRIP {
            return true;
        }
        if self.known_count < SOUND_COUNT {
            return false;
        }
        let is_sound = (self.lost_count as f64) < self.known_count as f64 * SOUND_SHARE;
        if !is_sound {
            self.begin(now);
        }
        is_sound
    }

    fn begin(&mut self, now: Instant) {
        (self.known_count, self.lost_count) = (0, 0);
        self.losses.clear();
        self.loss_end = None;
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: RoundTrip = round_trip(52, 50);

    const fn round_trip(smoothed_ms: u64, shortest_ms: u64) -> RoundTrip {
        RoundTrip { smoothed: Duration::from_millis(smoothed_ms), shortest: Duration::from_millis(shortest_ms) }
    }

    /// A rule, and the time of its path.
    struct Path {
        rule: LossRule,
        now: Instant,
        round_trip: RoundTrip,
    }

    impl Path {
        fn new(round_trip: RoundTrip) -> Self {
            Self { rule: LossRule::new(), now: Instant::now(), round_trip }
        }

        /// Sends packets, a hundred in each round trip, of which every `of`th is lost; gives the last choice.
        fn send(&mut self, count: u64, of: Option<u64>) -> Option<Congestion> {
            let mut chosen = None;
            for n in 1..=count {
                self.now += self.round_trip.smoothed / 100;
                match of {
                    Some(of) if n % of == 0 => self.rule.handle_lost(self.now, self.round_trip),
                    _ => self.rule.handle_acked(),
                }
                chosen = self.rule.choose(self.now, self.round_trip).or(chosen);
            }
            chosen
        }
    }

    #[test]
    fn a_far_path_that_loses_one_in_a_hundred_gets_bbr3() {
        let mut path = Path::new(FAR);
        assert_eq!(path.send(400, Some(100)), None, "four losses are no rate");
        assert_eq!(path.send(100, Some(100)), Some(Congestion::Bbr3));
        assert_eq!(path.rule.chosen(), Congestion::Bbr3);
    }

    #[test]
    fn a_path_that_is_sound_near_or_full_keeps_cubic() {
        for (round_trip, of) in [
            (FAR, None),
            (FAR, Some(1_500)),
            (round_trip(4, 2), Some(50)),
            (round_trip(60, 19), Some(50)),
            (round_trip(90, 50), Some(50)),
        ] {
            assert_eq!(Path::new(round_trip).send(100_000, of), None, "{round_trip:?}, one of {of:?}");
        }
    }

    #[test]
    fn a_burst_counts_once() {
        let mut path = Path::new(FAR);
        for _ in 0..50 {
            path.send(3_000, None);
            for _ in 0..60 {
                path.rule.handle_lost(path.now, FAR);
            }
            assert_eq!(path.rule.choose(path.now, FAR), None);
        }
        assert_eq!(path.rule.chosen(), Congestion::Cubic);
    }

    #[test]
    fn bbr3_stays_while_there_are_losses_and_a_minute_at_least() {
        let mut path = Path::new(FAR);
        path.send(1_000, Some(100));
        // A hundred packets each 52 ms: this is an hour.
        assert_eq!(path.send(7_000_000, Some(300)), None);
        let begun = path.now;
        while path.send(100, None).is_none() {
            assert!(path.now - begun < 2 * STAY_MIN + Duration::from_secs(1), "a sound path keeps BBR3");
        }
        assert_eq!(path.rule.chosen(), Congestion::Cubic);

        let mut path = Path::new(FAR);
        path.send(1_000, Some(100));
        let begun = path.now;
        while path.send(100, None).is_none() {}
        assert!(path.now - begun >= STAY_MIN - Duration::from_secs(1), "BBR3 stayed {:?}", path.now - begun);
    }

    #[test]
    fn who_was_wrong_about_a_path_waits_longer_each_time() {
        let mut path = Path::new(FAR);
        let mut stays = Vec::new();
        for _ in 0..9 {
            assert_eq!(path.send(1_000, Some(100)), Some(Congestion::Bbr3));
            let begun = path.now;
            while path.send(1_000, None).is_none() {}
            stays.push(path.now - begun);
        }
        assert!(stays.windows(2).take(5).all(|pair| pair[1] > pair[0] * 3 / 2), "{stays:?}");
        assert!(stays.iter().all(|stay| *stay < STAY_MAX + Duration::from_secs(10)), "{stays:?}");
    }

    #[test]
    fn a_path_that_has_become_near_gets_cubic_back() {
        let mut path = Path::new(FAR);
        path.send(1_000, Some(100));
        path.round_trip = round_trip(3, 2);
        path.now += STAY_MIN;
        assert_eq!(path.send(1, None), Some(Congestion::Cubic));
        assert_eq!(path.send(10_000, Some(100)), None, "losses of a near path");
    }
}

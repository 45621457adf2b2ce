//! One direction of a path: what becomes of each packet. Packets and the time in, packets out; no clock, no device.

use std::collections::VecDeque;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::Conditions;

/// Counts of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets that arrived.
    pub arrived_count: u64,
    /// Bytes of these, with their IP headers.
    pub arrived_len: u64,
    /// Packets that were lost by chance.
    pub lost_count: u64,
    /// Packets for which the queue had no room.
    pub dropped_count: u64,
}

impl Tally {
    /// What came after an earlier one.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            arrived_count: self.arrived_count - before.arrived_count,
            arrived_len: self.arrived_len - before.arrived_len,
            lost_count: self.lost_count - before.lost_count,
            dropped_count: self.dropped_count - before.dropped_count,
        }
    }
}

/// A sender's line to a receiver. A packet waits until those before it have been sent, at the rate of the line; then it is
/// lost by chance, or arrives after the delay. A packet that would have to wait longer than the queue is long is dropped.
///
/// Times are since any moment, and never go back.
pub(super) struct Line {
    delay: Duration,
    loss: f64,
    /// How long a byte takes.
    byte_time: f64,
    queue: Duration,
    rng: ChaCha8Rng,
    /// When all that was taken has been sent.
    free_at: Duration,
    /// What is on its way, and when it arrives.
    under_way: VecDeque<(Duration, Vec<u8>)>,
    tally: Tally,
}

impl Line {
    /// A line on which nothing is.
    pub(super) fn new(conditions: &Conditions, rng: ChaCha8Rng) -> Self {
        Self {
            delay: conditions.round_trip() / 2,
            loss: conditions.loss_percent / 100.0,
            byte_time: 8.0 / (conditions.rate_mbit * 1e6),
            queue: Duration::from_secs_f64(conditions.queue_ms / 1e3),
            rng,
            free_at: Duration::ZERO,
            under_way: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// A packet was sent.
    pub(super) fn take(&mut self, now: Duration, packet: &[u8]) {
        let begin = self.free_at.max(now);
        if begin - now > self.queue {
            self.tally.dropped_count += 1;
            return;
        }
        self.free_at = begin + Duration::from_secs_f64(packet.len() as f64 * self.byte_time);
        // Drawn for each packet, so that what becomes of the n-th depends on the seed alone.
        let drawn = f64::from(self.rng.next_u32()) / (f64::from(u32::MAX) + 1.0);
        if drawn < self.loss {
            self.tally.lost_count += 1;
        } else {
            self.under_way.push_back((self.free_at + self.delay, packet.to_vec()));
        }
    }

    /// The next packet that has arrived.
    pub(super) fn give(&mut self, now: Duration) -> Option<Vec<u8>> {
        let (_, packet) = self.under_way.pop_front_if(|(due, _)| *due <= now)?;
        self.tally.arrived_count += 1;
        self.tally.arrived_len += packet.len() as u64;
        Some(packet)
    }

    /// When the next packet arrives.
    pub(super) fn due(&self) -> Option<Duration> {
        self.under_way.front().map(|(due, _)| *due)
    }

    /// What became of all packets.
    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    /// 8 Mbit/s: a byte takes a microsecond.
    const CONDITIONS: Conditions =
        Conditions { rtt_ms: 50.0, loss_percent: 0.0, rate_mbit: 8.0, queue_ms: 10.0, seed: 1 };

    fn line(conditions: &Conditions) -> Line {
        Line::new(conditions, ChaCha8Rng::seed_from_u64(conditions.seed))
    }

    const fn at(microseconds: u64) -> Duration {
        Duration::from_micros(microseconds)
    }

    #[test]
    fn a_packet_arrives_after_its_own_time_and_half_a_round_trip() {
        let mut line = line(&CONDITIONS);
        line.take(at(100), &[7; 1_000]);
        assert_eq!(line.due(), Some(at(26_100)));
        assert_eq!(line.give(at(26_099)), None);
        assert_eq!(line.give(at(26_100)), Some(vec![7; 1_000]));
        assert_eq!((line.due(), line.give(at(99_000))), (None, None));
        assert_eq!(line.tally(), Tally { arrived_count: 1, arrived_len: 1_000, ..Tally::default() });
    }

    #[test]
    fn packets_wait_for_each_other_and_are_dropped_where_the_queue_ends() {
        let mut line = line(&CONDITIONS);
        for n in 0..20 {
            line.take(at(0), &[n; 1_000]);
        }
        // Ten that wait up to 10 ms, and the one that is being sent.
        assert_eq!(line.tally().dropped_count, 9);
        for n in 0..11 {
            let due = line.due().unwrap();
            assert_eq!(due, at(25_000 + 1_000 * (u64::from(n) + 1)));
            assert_eq!(line.give(due), Some(vec![n; 1_000]));
        }
        // What came later finds the queue as far as it has been emptied.
        line.take(at(5_000), &[1; 1_000]);
        assert_eq!(line.due(), Some(at(37_000)));
    }

    #[test]
    fn as_many_are_lost_as_asked_for_and_the_same_ones_each_time() {
        let lossy = Conditions { loss_percent: 1.0, rate_mbit: 1e6, ..CONDITIONS };
        let lost = |conditions: &Conditions| {
            let mut line = line(conditions);
            (0..100_000_u64).for_each(|n| line.take(at(n), &n.to_le_bytes()));
            let mut arrived = Vec::new();
            while let Some(packet) = line.give(Duration::MAX) {
                arrived.push(packet);
            }
            assert_eq!(line.tally().lost_count + line.tally().arrived_count, 100_000);
            assert!(arrived.is_sorted_by_key(|packet| u64::from_le_bytes(packet[..].try_into().unwrap())));
            (line.tally().lost_count, arrived)
        };
        let (count, arrived) = lost(&lossy);
        assert!((900..1_100).contains(&count), "{count} of 100,000");
        assert!(lost(&lossy) == (count, arrived.clone()), "a seed gives one run");
        assert!(lost(&Conditions { seed: 2, ..lossy }).1 != arrived, "another seed another one");
        assert_eq!(lost(&Conditions { loss_percent: 0.0, ..lossy }).0, 0);
    }
}

//! When to dial whom: events in, the next dial and the next timeout out. No clock, no socket.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use zerocloud_crdt::id::DeviceId;

use crate::clock::Moment;
use crate::link::AddressHint;

/// The wait after the first failure: between half of it and the whole. It doubles with each further one.
pub const DELAY_FIRST: Duration = Duration::from_secs(2);

/// The longest wait: a device that comes back is found within a minute.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

/// A connection that lasted this long was a success; a shorter one counts like a dial that failed, or two devices that
/// do not get along would connect without end.
pub const SUCCESS_MIN: Duration = Duration::from_secs(30);

/// Dials at the same time: each unanswered one costs a handshake's time and some packets.
pub const DIAL_COUNT_MAX: usize = 4;

/// Failures after which the wait no longer grows: 2 s doubled five times is above [`DELAY_MAX`].
const FAILURE_COUNT_MAX: u32 = 6;

/// What a dial or a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered, or the connection was lost.
    Lost,
    /// The peer does not want us, or speaks another version: asking again soon changes nothing.
    Refused,
}

/// Decides when to dial whom. Tell it what happens by `handle_*`; then drain [`Self::poll_dial`] and arm a timer for
/// [`Self::poll_timeout`]. `now` never goes back.
#[derive(Debug)]
pub struct Backoff {
    devices: BTreeMap<DeviceId, Device>,
    rng: ChaCha20Rng,
}

#[derive(Debug, Default)]
struct Device {
    /// Where to dial; `None` for a device that is not, or no longer, to be dialled.
    hints: Option<Vec<AddressHint>>,
    failure_count: u32,
    /// When to dial, if nothing else stands against it.
    due: Moment,
    is_dialling: bool,
    /// Somebody woke it since the dial began.
    is_woken: bool,
    connected: Option<Moment>,
}

impl Device {
    fn is_free(&self) -> bool {
        self.hints.is_some() && !self.is_dialling && self.connected.is_none()
    }

    fn wake(&mut self, now: Moment) {
        self.failure_count = 0;
        self.due = now;
        self.is_woken = self.is_dialling;
    }

    fn fail(&mut self, now: Moment, failure: Failure, rng: &mut ChaCha20Rng) {
        if std::mem::take(&mut self.is_woken) {
            self.due = now;
            return;
        }
        self.failure_count = match failure {
            Failure::Lost => (self.failure_count + 1).min(FAILURE_COUNT_MAX),
            Failure::Refused => FAILURE_COUNT_MAX,
        };
        let longest = (DELAY_FIRST * (1 << (self.failure_count - 1))).min(DELAY_MAX);
        // Two devices that lost each other at the same moment should not dial each other at the same moment.
        let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        self.due = now + longest.mul_f64(0.5 + share / 2.0);
    }
}

impl Backoff {
    /// Knows no device yet. `rng`: where the spread of the waits comes from.
    pub const fn new(rng: ChaCha20Rng) -> Self {
        Self { devices: BTreeMap::new(), rng }
    }

    /// These are the devices to be dialled, and where. One that is new, or whose addresses are others, is due at once.
    pub fn handle_known(&mut self, now: Moment, known: Vec<(DeviceId, Vec<AddressHint>)>) {
        let mut known: BTreeMap<DeviceId, Vec<AddressHint>> = known.into_iter().collect();
        for (id, device) in &mut self.devices {
            let hints = known.remove(id);
            match (&device.hints, &hints) {
                (Some(before), Some(after)) if is_same(before, after) => {}
                (_, Some(_)) => device.wake(now),
                (_, None) => {}
            }
            device.hints = hints;
        }
        for (id, hints) in known {
            self.devices.insert(id, Device { hints: Some(hints), due: now, ..Device::default() });
        }
        self.forget();
    }

    /// The dial of a device has ended with a connection, which may or may not stay.
    pub fn handle_dialled(&mut self, now: Moment, device: DeviceId) {
        if let Some(device) = self.devices.get_mut(&device) {
            device.is_dialling = false;
            device.is_woken = false;
            // If it does not stay, the one that stays is about to come.
            device.due = now + DELAY_FIRST;
        }
        self.forget();
    }

    /// The dial of a device has failed.
    pub fn handle_dial_failed(&mut self, now: Moment, device: DeviceId, failure: Failure) {
        if let Some(device) = self.devices.get_mut(&device) {
            device.is_dialling = false;
            device.fail(now, failure, &mut self.rng);
        }
        self.forget();
    }

    /// A connection to a device is held, whoever dialled.
    pub fn handle_connected(&mut self, now: Moment, device: DeviceId) {
        self.devices.entry(device).or_default().connected = Some(now);
    }

    /// No connection to a device is held any more.
    pub fn handle_disconnected(&mut self, now: Moment, device: DeviceId, failure: Failure) {
        if let Some(device) = self.devices.get_mut(&device) {
            if device.connected.take().is_some_and(|since| now.since(since) >= SUCCESS_MIN) {
                device.failure_count = 0;
            }
            // A wake during a connection was about that one.
            device.is_woken &= device.is_dialling;
            if !device.is_dialling {
                device.fail(now, failure, &mut self.rng);
            }
        }
        self.forget();
    }

    /// A device may be reachable again: it is dialled at once if it is not connected.
    pub fn handle_wake(&mut self, now: Moment, device: DeviceId) {
        if let Some(device) = self.devices.get_mut(&device) {
            device.wake(now);
        }
    }

    /// Every device may be reachable again: the network changed.
    pub fn handle_wake_all(&mut self, now: Moment) {
        for device in self.devices.values_mut() {
            device.wake(now);
        }
    }

    /// Whom to dial now, and where; it counts as dialled until a `handle_dial*` tells otherwise.
    pub fn poll_dial(&mut self, now: Moment) -> Option<(DeviceId, Vec<AddressHint>)> {
        if self.dial_count() >= DIAL_COUNT_MAX {
            return None;
        }
        let due = self.devices.iter_mut().filter(|(_, device)| device.is_free() && device.due <= now);
        let (id, device) = due.min_by_key(|(_, device)| device.due)?;
        device.is_dialling = true;
        Some((*id, device.hints.clone()?))
    }

    /// When to ask [`Self::poll_dial`] again if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Moment> {
        if self.dial_count() >= DIAL_COUNT_MAX {
            return None;
        }
        self.devices.values().filter(|device| device.is_free()).map(|device| device.due).min()
    }

    fn dial_count(&self) -> usize {
        self.devices.values().filter(|device| device.is_dialling).count()
    }

    /// Forgets devices of which nothing is to be known any more.
    fn forget(&mut self) {
        self.devices.retain(|_, device| device.hints.is_some() || device.is_dialling || device.connected.is_some());
    }
}

/// Whether two lists name the same places, in whatever order.
fn is_same(one: &[AddressHint], other: &[AddressHint]) -> bool {
    let sorted = |hints: &[AddressHint]| {
        let mut hints = hints.to_vec();
        hints.sort();
        hints
    };
    sorted(one) == sorted(other)
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    const ONE: DeviceId = DeviceId([1; 32]);

    fn hint(port: u16) -> AddressHint {
        AddressHint::Direct(([192, 0, 2, 1], port).into())
    }

    fn knowing(count: u8) -> Backoff {
        let mut backoff = Backoff::new(ChaCha20Rng::seed_from_u64(7));
        backoff.handle_known(at(0), (1..=count).map(|n| (DeviceId([n; 32]), vec![hint(1)])).collect());
        backoff
    }

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    /// Dials the one device and lets it fail; says how long the next wait is.
    fn fail(backoff: &mut Backoff, failure: Failure) -> Duration {
        let now = backoff.poll_timeout().unwrap();
        assert_eq!(backoff.poll_dial(now).unwrap().0, ONE);
        assert_eq!(backoff.poll_timeout(), None);
        backoff.handle_dial_failed(now, ONE, failure);
        backoff.poll_timeout().unwrap().since(now)
    }

    #[test]
    fn the_first_try_is_at_once_and_waits_double_up_to_a_minute() {
        let mut backoff = knowing(1);
        assert_eq!(backoff.poll_timeout(), Some(at(0)));
        for longest in [2, 4, 8, 16, 32, 60, 60, 60] {
            let longest = Duration::from_secs(longest);
            let wait = fail(&mut backoff, Failure::Lost);
            assert!(wait >= longest / 2 && wait <= longest, "{wait:?} of {longest:?}");
        }
        let mut other = Backoff::new(ChaCha20Rng::seed_from_u64(8));
        other.handle_known(at(0), vec![(ONE, vec![hint(1)])]);
        assert_ne!(fail(&mut other, Failure::Lost), fail(&mut knowing(1), Failure::Lost), "waits are spread");
    }

    #[test]
    fn nobody_is_dialled_before_the_wait_is_over() {
        let mut backoff = knowing(1);
        fail(&mut backoff, Failure::Lost);
        let due = backoff.poll_timeout().unwrap();
        assert_eq!(backoff.poll_dial(due - Duration::from_nanos(1)), None);
        assert!(backoff.poll_dial(due).is_some());
    }

    #[test]
    fn a_refusal_waits_the_longest_at_once() {
        let mut backoff = knowing(1);
        assert!(fail(&mut backoff, Failure::Refused) >= DELAY_MAX / 2);
        let mut backoff = knowing(1);
        backoff.handle_connected(at(0), ONE);
        backoff.handle_disconnected(at(100), ONE, Failure::Refused);
        assert!(backoff.poll_timeout().unwrap().since(at(100)) >= DELAY_MAX / 2);
    }

    #[test]
    fn a_wake_dials_at_once_and_begins_anew() {
        let mut backoff = knowing(2);
        for _ in 0..2 {
            let (device, _) = backoff.poll_dial(at(0)).unwrap();
            backoff.handle_dial_failed(at(0), device, Failure::Refused);
        }
        assert_eq!(backoff.poll_dial(at(1)), None);
        backoff.handle_wake(at(1), ONE);
        assert_eq!(backoff.poll_dial(at(1)).unwrap().0, ONE);
        assert_eq!(backoff.poll_dial(at(1)), None);
        backoff.handle_dial_failed(at(1), ONE, Failure::Lost);
        backoff.handle_wake_all(at(1));
        assert!(backoff.poll_dial(at(1)).is_some() && backoff.poll_dial(at(1)).is_some());
    }

    #[test]
    fn a_wake_during_a_dial_dials_once_more_when_that_has_failed() {
        let mut backoff = knowing(1);
        backoff.poll_dial(at(0)).unwrap();
        backoff.handle_wake(at(1), ONE);
        backoff.handle_dial_failed(at(10), ONE, Failure::Lost);
        assert!(backoff.poll_dial(at(10)).is_some());
        backoff.handle_dial_failed(at(20), ONE, Failure::Lost);
        assert_eq!(backoff.poll_dial(at(20)), None);
    }

    #[test]
    fn another_address_is_tried_at_once_and_another_order_is_no_other_address() {
        let mut backoff = knowing(1);
        backoff.handle_known(at(0), vec![(ONE, vec![hint(1), hint(2)])]);
        fail(&mut backoff, Failure::Refused);
        backoff.handle_known(at(1), vec![(ONE, vec![hint(2), hint(1)])]);
        assert_eq!(backoff.poll_dial(at(1)), None);
        backoff.handle_known(at(1), vec![(ONE, vec![hint(3)])]);
        assert_eq!(backoff.poll_dial(at(1)), Some((ONE, vec![hint(3)])));
    }

    #[test]
    fn a_connected_device_is_not_dialled_and_a_lost_one_is_soon() {
        let mut backoff = knowing(1);
        backoff.handle_connected(at(0), ONE);
        backoff.handle_wake_all(at(1));
        assert_eq!((backoff.poll_dial(at(50)), backoff.poll_timeout()), (None, None));
        backoff.handle_disconnected(at(50), ONE, Failure::Lost);
        assert!(backoff.poll_timeout().unwrap().since(at(50)) <= DELAY_FIRST);
    }

    #[test]
    fn short_connections_count_like_failures() {
        let mut backoff = knowing(1);
        let mut now = at(0);
        for _ in 0..6 {
            backoff.handle_connected(now, ONE);
            now = now + (SUCCESS_MIN - Duration::from_secs(1));
            backoff.handle_disconnected(now, ONE, Failure::Lost);
            now = backoff.poll_timeout().unwrap();
        }
        backoff.handle_connected(now, ONE);
        backoff.handle_disconnected(now, ONE, Failure::Lost);
        assert!(backoff.poll_timeout().unwrap().since(now) >= DELAY_MAX / 2);
    }

    #[test]
    fn few_are_dialled_at_a_time_and_the_longest_due_first() {
        let mut backoff = knowing(10);
        for _ in 0..DIAL_COUNT_MAX {
            let (device, _) = backoff.poll_dial(at(0)).unwrap();
            assert!(device.0[0] as usize <= DIAL_COUNT_MAX);
        }
        assert_eq!((backoff.poll_dial(at(9)), backoff.poll_timeout()), (None, None));
        backoff.handle_dial_failed(at(9), ONE, Failure::Lost);
        assert_eq!(backoff.poll_timeout(), Some(at(0)));
        assert_eq!(backoff.poll_dial(at(99)).unwrap().0.0[0] as usize, DIAL_COUNT_MAX + 1);
    }

    #[test]
    fn a_removed_device_is_not_dialled_again_and_is_forgotten() {
        let mut backoff = knowing(2);
        backoff.poll_dial(at(0)).unwrap();
        backoff.handle_known(at(1), Vec::new());
        assert_eq!(backoff.devices.len(), 1, "the one that is being dialled");
        backoff.handle_dial_failed(at(1), ONE, Failure::Lost);
        assert_eq!((backoff.devices.len(), backoff.poll_timeout()), (0, None));
    }

    #[test]
    fn a_device_that_is_not_known_may_be_connected() {
        let mut backoff = knowing(0);
        backoff.handle_connected(at(0), ONE);
        backoff.handle_disconnected(at(1), ONE, Failure::Lost);
        assert_eq!((backoff.poll_dial(at(99)), backoff.poll_timeout()), (None, None));
        assert!(backoff.devices.is_empty());
    }
}

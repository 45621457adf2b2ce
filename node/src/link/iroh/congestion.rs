//! Which congestion controller sends on a path: Cubic, or BBR3 where packets are lost that no queue dropped.
//!
//! Cubic takes each loss for a full queue: on a far path 1 % of losses leaves it some ten packets a round trip, whatever
//! the path could carry. BBR3 goes by how fast packets arrive, and costs more of the processor; noq calls it
//! experimental. So every path begins with Cubic, and [`rule`] says when that changes.
//!
//! Each end decides for what it sends, for each path by itself, and within the connection: what is on its way stays
//! there, and no stream notices. A controller is told of those packets only that it saw being sent, so one that comes in
//! the middle sees a path that begins.

mod rule;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iroh::endpoint::{Controller, ControllerFactory, ControllerMetrics, RttEstimator};
use noq_proto::congestion::{Bbr3Config, CubicConfig};

use self::rule::{LossRule, RoundTrip};
use crate::link::Congestion;

/// Makes the [`Chooser`] of each path.
#[derive(Debug)]
pub(super) struct Choosing;

impl ControllerFactory for Choosing {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Chooser::new(now, current_mtu))
    }
}

/// What the congestion controller of a path is, if it is one of ours.
pub(super) fn chosen(controller: Box<dyn Controller>) -> Option<Congestion> {
    controller.into_any().downcast::<Chooser>().ok().map(|chooser| chooser.rule.chosen())
}

/// The congestion controller of a path: the one of the two that is chosen.
#[derive(Debug)]
struct Chooser {
    controller: Box<dyn Controller>,
    rule: LossRule,
    /// As it was when a packet arrived last.
    round_trip: Option<RoundTrip>,
    mtu: u16,
    ack_frequency: Option<(u64, Duration)>,
    /// The highest number of a packet that was sent.
    last_number: u64,
    /// The lowest number of a packet that `controller` saw being sent.
    first_number: u64,
}

impl Chooser {
    fn new(now: Instant, mtu: u16) -> Self {
        Self {
            controller: Arc::new(CubicConfig::default()).build(now, mtu),
            rule: LossRule::new(),
            round_trip: None,
            mtu,
            ack_frequency: None,
            last_number: 0,
            first_number: 0,
        }
    }

    fn is_known(&self, number: u64) -> bool {
        number >= self.first_number
    }

    /// Asks the rule, and changes the controller if it says so.
    fn choose(&mut self, now: Instant) {
        let Some(round_trip) = self.round_trip else { return };
        let Some(chosen) = self.rule.choose(now, round_trip) else { return };
        tracing::debug!(?chosen, ?round_trip, "a path changes its congestion controller");
        self.controller = match chosen {
            Congestion::Cubic => {
                let mut config = CubicConfig::default();
                // What is on its way is what the path is known to bear.
                config.initial_window(self.controller.window().max(self.controller.initial_window()));
                Arc::new(config).build(now, self.mtu)
            }
            Congestion::Bbr3 => Arc::new(Bbr3Config::default()).build(now, self.mtu),
        };
        if let Some((threshold, delay)) = self.ack_frequency {
            self.controller.on_ack_frequency_update(threshold, delay);
        }
        self.first_number = self.last_number + 1;
    }
}

impl Controller for Chooser {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.controller.on_sent(now, bytes, largest_pn);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        self.last_number = self.last_number.max(pn);
        self.controller.on_packet_sent(now, bytes, pn);
    }

    fn on_cwnd_limited(&mut self) {
        self.controller.on_cwnd_limited();
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, pn: u64, app_limited: bool, rtt: &RttEstimator) {
        self.rule.handle_acked();
        self.round_trip = Some(RoundTrip { smoothed: rtt.get(), shortest: rtt.min() });
        if self.is_known(pn) {
            self.controller.on_ack(now, sent, bytes, pn, app_limited, rtt);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.controller.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        // Not in the middle of what one acknowledgement says.
        self.choose(now);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        is_ecn: bool,
        lost_bytes: u64,
        largest_lost_pn: u64,
    ) {
        if self.is_known(largest_lost_pn) {
            self.controller.on_congestion_event(
                now,
                sent,
                is_persistent_congestion,
                is_ecn,
                lost_bytes,
                largest_lost_pn,
            );
        }
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, pn: u64, now: Instant) {
        if let Some(round_trip) = self.round_trip {
            self.rule.handle_lost(now, round_trip);
        }
        if self.is_known(pn) {
            self.controller.on_packet_lost(lost_bytes, pn, now);
        }
    }

    fn on_spurious_congestion_event(&mut self) {
        self.controller.on_spurious_congestion_event();
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.controller.on_mtu_update(new_mtu);
    }

    fn on_ack_frequency_update(&mut self, ack_eliciting_threshold: u64, requested_max_ack_delay: Duration) {
        self.ack_frequency = Some((ack_eliciting_threshold, requested_max_ack_delay));
        self.controller.on_ack_frequency_update(ack_eliciting_threshold, requested_max_ack_delay);
    }

    fn window(&self) -> u64 {
        self.controller.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            controller: self.controller.clone_box(),
            rule: self.rule.clone(),
            round_trip: self.round_trip,
            mtu: self.mtu,
            ack_frequency: self.ack_frequency,
            last_number: self.last_number,
            first_number: self.first_number,
        })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1_400;
    const FAR: RoundTrip = RoundTrip { smoothed: Duration::from_millis(52), shortest: Duration::from_millis(50) };

    /// Has a path lose packets until its controller changes; gives the number of the last packet.
    fn lose(chooser: &mut Chooser, now: &mut Instant) -> u64 {
        chooser.round_trip = Some(FAR);
        for number in 0..2_000 {
            *now += FAR.smoothed / 10;
            chooser.on_packet_sent(*now, MTU, number);
            if number % 100 == 99 {
                chooser.on_packet_lost(MTU, number, *now);
                chooser.on_congestion_event(*now, *now, false, false, MTU.into(), number);
            } else {
                chooser.rule.handle_acked();
            }
            chooser.on_end_acks(*now, 0, false, Some(number));
            if chooser.rule.chosen() == Congestion::Bbr3 {
                return number;
            }
        }
        panic!("2,000 packets of which one in a hundred was lost, and it is {:?} still", chooser.rule.chosen());
    }

    #[test]
    fn a_lossy_path_gets_bbr3_which_begins_afresh_and_hears_of_its_own_packets_only() {
        let mut now = Instant::now();
        let mut chooser = Chooser::new(now, MTU);
        chooser.on_ack_frequency_update(7, Duration::from_millis(30));
        let last = lose(&mut chooser, &mut now);
        assert!(chooser.window() >= chooser.initial_window(), "the window that Cubic had is not kept");
        assert!(chooser.metrics().pacing_rate.is_some(), "Cubic names no rate, BBR3 does");
        assert!(!chooser.is_known(last) && chooser.is_known(last + 1));

        // To have lost all that Cubic sent is nothing to it.
        let window = chooser.window();
        chooser.on_congestion_event(now, now, true, false, MTU.into(), last);
        assert_eq!(chooser.window(), window);
        chooser.on_congestion_event(now, now, true, false, MTU.into(), last + 1);
        assert!(chooser.window() < window);
        assert_eq!(chosen(chooser.clone_box()), Some(Congestion::Bbr3));
    }

    #[test]
    fn a_path_that_is_near_again_goes_on_with_cubic_as_fast_as_it_was() {
        let mut now = Instant::now();
        let mut chooser = Chooser::new(now, MTU);
        lose(&mut chooser, &mut now);
        let window = chooser.window();
        chooser.round_trip = Some(RoundTrip { smoothed: Duration::from_millis(2), ..FAR });
        now += Duration::from_secs(61);
        chooser.on_end_acks(now, 0, false, Some(1));
        assert_eq!(chosen(chooser.clone_box()), Some(Congestion::Cubic));
        assert_eq!((chooser.window(), chooser.metrics().pacing_rate), (window, None));
    }

    #[test]
    fn a_controller_of_another_kind_is_none_of_ours() {
        assert_eq!(chosen(Arc::new(CubicConfig::default()).build(Instant::now(), MTU)), None);
    }
}

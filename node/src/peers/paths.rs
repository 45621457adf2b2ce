//! What becomes of the paths of connections, for the log. Nothing hangs on it.

use std::collections::BTreeMap;
use std::time::Duration;

use zerocloud_crdt::id::DeviceId;

use crate::link::{Congestion, Conn, Path, Route};

/// How long between two looks at the paths.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Tells when a connection goes another way, or is sent on in another manner.
#[derive(Debug, Default)]
pub(super) struct PathLog {
    seen: BTreeMap<DeviceId, (Route, Option<Congestion>)>,
}

impl PathLog {
    /// Looks at all connections.
    pub(super) fn look<'a>(&mut self, conns: impl Iterator<Item = &'a Conn>) {
        let now = conns.filter_map(|conn| Some((conn.peer(), conn.path()?)));
        for line in self.compare(now.collect()) {
            line.tell();
        }
    }

    /// What is other than before; of what is seen for the first time nothing is told.
    fn compare(&mut self, now: BTreeMap<DeviceId, Path>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (device, path) in &now {
            let Some((route, congestion)) = self.seen.get(device) else { continue };
            let (is_rerouted, is_other) = (*route != path.route, *congestion != path.congestion);
            if is_rerouted || is_other {
                changes.push(Change { device: *device, path: path.clone(), is_rerouted });
            }
        }
        self.seen = now.into_iter().map(|(device, path)| (device, (path.route, path.congestion))).collect();
        changes
    }
}

/// A path that is other than it was.
#[derive(Debug, PartialEq)]
struct Change {
    device: DeviceId,
    path: Path,
    is_rerouted: bool,
}

impl Change {
    fn tell(&self) {
        let Self { device, path: Path { route, round_trip, congestion, .. }, is_rerouted } = self;
        let loss = self.path.loss();
        match (is_rerouted, congestion) {
            (true, _) => {
                tracing::info!(peer = %device, ?route, ?round_trip, ?congestion, "the connection takes another path")
            }
            (false, Some(Congestion::Bbr3)) => {
                tracing::info!(peer = %device, ?route, ?round_trip, loss, "the path loses packets: BBR3 sends from now on");
            }
            (false, _) => {
                tracing::info!(peer = %device, ?route, ?round_trip, loss, ?congestion, "the path is sound: sending as usual");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: DeviceId = DeviceId([1; 32]);

    fn path(port: u16, congestion: Congestion) -> Path {
        Path {
            route: Route::Direct(([192, 0, 2, 1], port).into()),
            round_trip: Duration::from_millis(50),
            sent_count: 100,
            lost_count: 1,
            congestion: Some(congestion),
        }
    }

    #[test]
    fn what_is_other_than_before_is_told_once() {
        let mut log = PathLog::default();
        let mut look = |path: &Path| log.compare(BTreeMap::from([(ONE, path.clone())]));
        let (one, lossy) = (path(1, Congestion::Cubic), path(1, Congestion::Bbr3));
        let other = path(2, Congestion::Cubic);
        assert_eq!(look(&one), []);
        assert_eq!(look(&Path { round_trip: Duration::ZERO, lost_count: 2, ..one.clone() }), []);
        assert_eq!(look(&lossy), [Change { device: ONE, path: lossy.clone(), is_rerouted: false }]);
        assert_eq!(look(&lossy), []);
        assert_eq!(look(&other), [Change { device: ONE, path: other.clone(), is_rerouted: true }]);
        assert_eq!(log.compare(BTreeMap::new()), []);
        assert_eq!(log.compare(BTreeMap::from([(ONE, one)])), [], "another connection is told of by its greeting");
    }
}

//! Far: long, narrow and lossy paths between real nodes.
//!
//! Two networks of this machine are joined by one or more *paths*: a TUN device at each end, and between them a thread
//! that carries packets with a delay, a rate, a queue and losses ([`Conditions`]). It stands in for the kernel's `netem`,
//! which not every kernel has. `line` says what becomes of a packet, `carrier` moves them, `tun` makes devices; [`transfer`]
//! has nodes sync over it and [`Measured`] tells how that went. `docs/far.md` tells what was measured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a tool of developers ends at its mistakes")]
#![allow(clippy::print_stderr, reason = "this is what a tool of developers says")]

mod carrier;
mod line;
mod transfer;
mod tun;

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use self::carrier::Carrier;
pub use self::line::Tally;
pub use self::transfer::{Direction, Measured, Rerouted, Sent, reroute, transfer};
pub use crate::nodes::namespace::CommandError;
use crate::nodes::namespace::Namespace;

/// Packets that may wait in the kernel for the thread that carries: more than any queue here holds, so that nothing is
/// lost but by the conditions.
const DEVICE_QUEUE_COUNT: &str = "20000";

/// What a path does to packets, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args)]
pub struct Conditions {
    /// The time to the other end and back, in milliseconds.
    #[arg(long, default_value_t = 50.0)]
    pub rtt_ms: f64,
    /// The share of packets that are lost by chance, in percent.
    #[arg(long, default_value_t = 0.0)]
    pub loss_percent: f64,
    /// How much the path carries, in Mbit/s.
    #[arg(long, default_value_t = 200.0)]
    pub rate_mbit: f64,
    /// How long a packet may wait for others; one that would have to wait longer is dropped. In milliseconds.
    #[arg(long, default_value_t = 50.0)]
    pub queue_ms: f64,
    /// What the losses are drawn from.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl Conditions {
    /// A path with a queue of 50 ms, which loses nothing but what its queue drops.
    pub const fn sound(rtt_ms: f64, rate_mbit: f64) -> Self {
        Self { rtt_ms, loss_percent: 0.0, rate_mbit, queue_ms: 50.0, seed: 0 }
    }

    /// The same path with losses by chance.
    #[must_use]
    pub const fn with_loss(self, loss_percent: f64) -> Self {
        Self { loss_percent, ..self }
    }

    fn round_trip(&self) -> Duration {
        Duration::from_secs_f64(self.rtt_ms / 1e3)
    }
}

impl std::fmt::Display for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms, {} % loss, {} Mbit/s", self.rtt_ms, self.loss_percent, self.rate_mbit)
    }
}

/// Round trip in milliseconds, losses in percent and rate in Mbit/s, with commas between them.
impl FromStr for Conditions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[rtt_ms, loss_percent, rate_mbit])
                if rtt_ms >= 0.0 && (0.0..=100.0).contains(&loss_percent) && rate_mbit > 0.0 =>
            {
                Ok(Self::sound(rtt_ms, rate_mbit).with_loss(loss_percent))
            }
            _ => Err(format!("{text}: write RTT,LOSS,RATE in ms, percent and Mbit/s, such as 50,1,100")),
        }
    }
}

/// The paths of the table in docs/far.md.
pub const MEASURED: [Conditions; 8] = [
    Conditions::sound(50.0, 200.0),
    Conditions::sound(50.0, 200.0).with_loss(0.1),
    Conditions::sound(50.0, 200.0).with_loss(0.3),
    Conditions::sound(50.0, 200.0).with_loss(1.0),
    Conditions::sound(200.0, 200.0),
    Conditions::sound(200.0, 200.0).with_loss(0.1),
    Conditions::sound(200.0, 200.0).with_loss(1.0),
    Conditions::sound(50.0, 2.0),
];

/// Why there are no such paths on this machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FarError {
    /// A network could not be made.
    #[error("{0}; run this as root, with iproute2 installed")]
    Network(#[from] CommandError),
    /// A network could not be entered.
    #[error("a network namespace can't be entered ({0}); run this as root")]
    Entering(#[source] std::io::Error),
    /// A device could not be made.
    #[error("a TUN device can't be made ({0}); run this as root, where there is a /dev/net/tun")]
    Device(#[source] std::io::Error),
}

/// Two networks and the paths between them, until this is dropped.
pub struct Far {
    // Devices end before the networks that they are in.
    carriers: Vec<Carrier>,
    ends: [Namespace; 2],
}

impl Far {
    /// Joins two new networks by a path for each of the conditions.
    ///
    /// # Errors
    /// See [`FarError`].
    pub fn new(paths: &[Conditions]) -> Result<Self, FarError> {
        let mut far = Self { carriers: Vec::new(), ends: [Namespace::new()?, Namespace::new()?] };
        for (path, conditions) in paths.iter().enumerate() {
            let [one, other] = [far.device(0, path)?, far.device(1, path)?];
            far.carriers.push(Carrier::start(conditions, [one, other]));
        }
        Ok(far)
    }

    /// Whether this process may make such paths here.
    ///
    /// # Errors
    /// Why it may not.
    pub fn try_out() -> Result<(), FarError> {
        Self::new(&[Conditions::sound(0.0, 1.0)]).map(drop)
    }

    fn device(&self, end: usize, path: usize) -> Result<std::fs::File, FarError> {
        let (namespace, name) = (&self.ends[end], device_name(path));
        let device = namespace.inside(|| tun::make(&name)).map_err(FarError::Entering)?.map_err(FarError::Device)?;
        // Without a link-local address the kernel looks for no router.
        namespace.ip(&["link", "set", &name, "addrgenmode", "none", "txqueuelen", DEVICE_QUEUE_COUNT])?;
        namespace.ip(&["address", "add", &format!("{}/24", Self::address(end, path)), "dev", &name])?;
        namespace.ip(&["link", "set", &name, "up"])?;
        Ok(device)
    }

    /// The address of one end of a path.
    pub fn address(end: usize, path: usize) -> IpAddr {
        let number = |index: usize| u8::try_from(index).expect("so many paths and ends have no address");
        Ipv4Addr::new(10, 78, number(path), number(end) + 1).into()
    }

    /// The command that runs a program at an end, which follows.
    pub fn within(&self, end: usize) -> Vec<String> {
        self.ends[end].within()
    }

    /// Does something as a program at an end would.
    ///
    /// # Errors
    /// If the network can't be entered.
    pub fn inside<T: Send>(&self, end: usize, act: impl FnOnce() -> T + Send) -> Result<T, FarError> {
        self.ends[end].inside(act).map_err(FarError::Entering)
    }

    /// Takes the device of a path away from an end, as when a cable is pulled: its address is gone with it, and nothing
    /// comes or goes by this path any more.
    ///
    /// # Errors
    /// If the system does not do it.
    pub fn pull(&self, end: usize, path: usize) -> Result<(), CommandError> {
        let name = device_name(path);
        self.ends[end].ip(&["address", "flush", "dev", &name])?;
        self.ends[end].ip(&["link", "set", &name, "down"])
    }

    /// What became of packets on a path, from the first end to the second and back.
    pub fn tallies(&self, path: usize) -> [Tally; 2] {
        self.carriers[path].tallies()
    }
}

fn device_name(path: usize) -> String {
    format!("far{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_three_numbers() {
        let lossy = Conditions::sound(50.0, 200.0).with_loss(0.1);
        assert_eq!("50,0.1,200".parse(), Ok(lossy));
        assert_eq!(lossy.to_string(), "50 ms, 0.1 % loss, 200 Mbit/s");
        for wrong in ["", "50", "50,1", "50,101,1", "50,1,0", "-1,1,1", "50,1,x", "1,2,3,4", "NaN,1,1"] {
            assert!(wrong.parse::<Conditions>().is_err(), "{wrong}");
        }
    }
}

//! Opening the link that the settings ask for.

use std::net::SocketAddr;

use zerocloud_crdt::keys::DeviceKeys;

use crate::config::{Config, RelayAt};
use crate::link::Admission;
use crate::link::iroh::{Bind, IrohLink, IrohSettings, OpenLinkError, Relay};

/// Opens the link, or none where the settings leave the node alone: `direct` off and no relay.
///
/// `port_of_last_time`: what [`IrohLink::bound`] said then. It is taken again where the settings name no port, so that
/// what others know of this device stays true; if another program has it, the system chooses one.
///
/// # Errors
/// See [`OpenLinkError`]; a port that the settings name is not replaced by another.
pub async fn open_link(
    keys: &DeviceKeys,
    config: &Config,
    port_of_last_time: Option<u16>,
    admission: Admission,
) -> Result<Option<IrohLink>, OpenLinkError> {
    if !config.direct && config.relays.is_empty() {
        return Ok(None);
    }
    let last = port_of_last_time.unwrap_or(0);
    let open = async |port: u16| {
        let settings = IrohSettings {
            bind: bind(config, port),
            relays: config.relays.iter().map(relay).collect(),
            // What is found on the LAN is reached directly or not at all.
            lan: config.lan && config.direct,
        };
        IrohLink::open(keys, settings, admission.clone()).await
    };
    let opened = match open(last).await {
        Err(OpenLinkError::Bind { bind: failed, source }) if last != 0 && failed != bind(config, 0) => {
            tracing::info!(port = last, error = %source, "the port of last time is taken; others learn the next one");
            open(0).await
        }
        opened => opened,
    };
    opened.map(Some)
}

fn relay(named: &RelayAt) -> Relay {
    Relay {
        certificate: named.certificate.clone(),
        discovery_port: named.discovery_port,
        ..Relay::at(named.url.clone())
    }
}

/// Where to listen, on this port unless the settings name one.
fn bind(config: &Config, port: u16) -> Bind {
    match config.listen {
        _ if !config.direct => Bind::RelaysOnly,
        Some(address) if address.port() == 0 => Bind::Address(SocketAddr::new(address.ip(), port)),
        Some(address) => Bind::Address(address),
        None => Bind::EveryInterface { port },
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use zerocloud_crdt::keys::Secret;

    use super::*;

    fn keys(device: u8) -> DeviceKeys {
        DeviceKeys::from_seed(Secret::new([device; 32]))
    }

    fn everyone() -> Admission {
        Admission::new(|_, _| true)
    }

    fn loopback(port: u16) -> Config {
        Config { lan: false, listen: Some(SocketAddr::from(([127, 0, 0, 1], port))), ..Config::default() }
    }

    #[tokio::test]
    async fn without_direct_paths_and_relays_there_is_no_link() {
        let config = Config { direct: false, ..loopback(0) };
        assert!(open_link(&keys(1), &config, None, everyone()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn with_relays_alone_no_socket_takes_packets() {
        let config = Config { direct: false, relays: vec![RelayAt::url("https://relay.invalid")], ..loopback(0) };
        let link = open_link(&keys(1), &config, Some(4433), everyone()).await.unwrap().unwrap();
        assert!(link.bound().is_empty());
    }

    #[tokio::test]
    async fn the_port_of_last_time_is_taken_again_unless_another_has_it() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let link = open_link(&keys(1), &loopback(0), Some(port), everyone()).await.unwrap().unwrap();
        assert_ne!(link.bound()[0].port(), port);
        drop(taken);
        let again = open_link(&keys(2), &loopback(0), Some(port), everyone()).await.unwrap().unwrap();
        assert_eq!(again.bound()[0].port(), port);
    }

    #[tokio::test]
    async fn a_port_that_the_settings_name_is_not_replaced() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = loopback(taken.local_addr().unwrap().port());
        let opened = open_link(&keys(1), &config, Some(1), everyone()).await;
        assert!(matches!(opened, Err(OpenLinkError::Bind { .. })));
    }
}

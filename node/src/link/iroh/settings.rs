//! The endpoint's settings: sockets, cryptography, timeouts and windows, relays, lookups.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use iroh::address_lookup::MemoryLookup;
use iroh::dns::DnsResolver;
use iroh::endpoint::{
    BindError, BindOpts, Builder, IdleTimeout, PortmapperConfig, QuicTransportConfig, VarInt, presets,
};
use iroh::{Endpoint, SecretKey};
use iroh_mdns_address_lookup::MdnsAddressLookup;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use zerocloud_crdt::keys::DeviceKeys;
use zerocloud_crdt::limits::{CONN_WINDOW_LEN_MAX, LOG_STREAM_COUNT_MAX, OTHER_STREAM_COUNT_MAX};
use zerocloud_crdt::mutated;

use super::super::Protocol;
use super::congestion::Choosing;
use super::relays::{Relay, Relays};
use super::{ANY_VERSION_ALPN, AdmissionHook};

/// Silence after which a peer is taken for gone. iroh keeps a connection alive every 5 s, so two of these may be lost;
/// QUIC counts from our first packet after the peer's last (RFC 9000, 10.1), so it takes up to 5 s more.
const IDLE_TIMEOUT_MS: u32 = 12_000;

/// Where iroh's sockets want to be: what its netwatch asks the kernel for.
const UDP_BUFFER_LEN_WANTED: usize = 7 << 20;

/// Keeps our devices apart from other users of iroh on the LAN.
const LAN_SERVICE_NAME: &str = "zerocloud";

/// Time between two questions on the LAN. It delays the first answer, and costs every device on the LAN a packet.
const LAN_CADENCE: Duration = Duration::from_secs(2);

/// How an [`super::IrohLink`] meets the network.
#[derive(Clone, Debug)]
pub struct IrohSettings {
    /// Where to listen.
    pub bind: Bind,
    /// Relays of the user's own. None: no relay at all.
    pub relays: Vec<Relay>,
    /// Whether to look for peers on the LAN, and to be found there. The device's id is then readable on the LAN.
    pub lan: bool,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// One address; port 0 lets the system choose.
    Address(SocketAddr),
    /// Every interface, IPv4 and, where there is one, IPv6, both on this port; 0 chooses one.
    EveryInterface {
        /// The UDP port.
        port: u16,
    },
    /// Nowhere: no UDP socket, so relays alone carry packets.
    RelaysOnly,
}

/// Why no link was opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenLinkError {
    /// The address is taken, or not one of this machine's.
    #[error("cannot listen on {bind:?}: {source}; choose another address or port")]
    Bind {
        /// What was asked for.
        bind: Bind,
        /// What the system said.
        source: io::Error,
    },
    /// A relay's URL is none.
    #[error("{url} is not the URL of a relay; write it as https://host, with a name or an IPv4 address")]
    RelayUrl {
        /// As configured.
        url: String,
    },
    /// There is no certificate where the settings say that a relay's is.
    #[error(
        "the certificate of a relay can't be read from {} ({reason}); put the one that the relay has there, in PEM",
        path.display()
    )]
    RelayCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// iroh did not start for another reason.
    #[error("the network stack did not start ({source}); restart ZeroCloud, and see what `zerocloud doctor` finds")]
    Endpoint {
        /// What iroh said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What makes a link slower or blinder than it could be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkWarning {
    /// The kernel gives UDP sockets less memory than asked for: long paths are up to five times slower.
    #[error(
        "the system limits network buffers to {granted_len} of {wanted_len} bytes, which makes transfers over long \
         distances slow; raise net.core.rmem_max and net.core.wmem_max to {wanted_len}"
    )]
    UdpBufferClipped {
        /// What was asked for, in bytes.
        wanted_len: usize,
        /// The smaller of what was granted for sending and for receiving, in bytes.
        granted_len: usize,
    },
    /// Nobody is found on the LAN.
    #[error("devices on the local network are not found by themselves: {detail}; give their addresses")]
    LanUnavailable {
        /// What the system said.
        detail: String,
    },
    /// A relay is not the one whose certificate the user gave.
    #[error(
        "the relay {url} shows another certificate than the one in {}, so it is not used; put the one that it has now \
         there, if it was renewed, and restart the node",
        path.display()
    )]
    RelayHasOtherCertificate {
        /// Which relay.
        url: String,
        /// The file that the settings name.
        path: PathBuf,
    },
    /// Nobody vouches for a relay's certificate.
    #[error(
        "no authority vouches for the certificate of the relay {url}, so it is not used; put its own certificate into a \
         file and name that in config.toml: {{ url = \"{url}\", certificate = \"relay.pem\" }}"
    )]
    RelayNotVouchedFor {
        /// Which relay.
        url: String,
    },
    /// A relay does not let this device in.
    #[error("the relay {url} does not let this device in ({reason}); ask whoever runs it, or choose another relay")]
    RelayRefuses {
        /// Which relay.
        url: String,
        /// What it said.
        reason: String,
    },
    /// No relay is connected.
    #[error(
        "none of the relays answers ({urls}), so devices behind other routers may not be reached; check that this device \
         is online and that the relays in config.toml are the right ones, and run"
    )]
    NoRelayAnswers {
        /// All of them.
        urls: String,
    },
}

/// The algorithms of every connection. X25519MLKEM768 first: what is recorded today stays closed to a quantum
/// computer of tomorrow. AES-128-GCM must be there (QUIC's Initial packets) and must not be first: iroh 1.4.1 makes
/// its token key with the first suite and aborts on a key of 16 bytes.
pub(super) fn crypto_provider() -> CryptoProvider {
    use aws_lc_rs::{cipher_suite, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

/// Streams, windows and congestion controllers. The stream's receive window stays at iroh's 1.25 MB: noq 1.4.0 kills connections whose window
/// is above 2 MiB ("too many gaps in stream buffer").
fn transport() -> QuicTransportConfig {
    let window = if mutated!(UnboundedWindow) { VarInt::MAX } else { VarInt::from_u32(CONN_WINDOW_LEN_MAX) };
    let stream_count = (LOG_STREAM_COUNT_MAX + OTHER_STREAM_COUNT_MAX) as u32;
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(stream_count))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .receive_window(window)
        .congestion_controller_factory(Arc::new(Choosing))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .build()
}

/// Binds the endpoint. Nothing is sent by it.
pub(super) async fn bind(
    keys: &DeviceKeys,
    settings: &IrohSettings,
    relays: &Relays,
    lookup: MemoryLookup,
    hook: AdmissionHook,
) -> Result<Endpoint, OpenLinkError> {
    let seed = keys.identity_seed();
    let builder = Endpoint::builder(presets::Empty)
        .crypto_provider(Arc::new(crypto_provider()))
        .secret_key(SecretKey::from_bytes(seed.expose()))
        .alpns(Protocol::ALL.map(Protocol::alpn).into_iter().chain([ANY_VERSION_ALPN]).map(Vec::from).collect())
        .transport_config(transport())
        .portmapper_config(PortmapperConfig::Disabled)
        // Without it, iroh asks public name servers where the system's do not answer.
        .dns_resolver(DnsResolver::builder().with_system_defaults().disable_fallback().build())
        .address_lookup(lookup)
        .hooks(hook);
    let builder = with_sockets(relays.give_to(builder), settings.bind)
        .map_err(|source| OpenLinkError::Bind { bind: settings.bind, source })?;
    builder.bind().await.map_err(|error| match error {
        BindError::Sockets { source, .. } => OpenLinkError::Bind { bind: settings.bind, source },
        other => OpenLinkError::Endpoint { source: Box::new(other) },
    })
}

fn with_sockets(builder: Builder, bind: Bind) -> io::Result<Builder> {
    let builder = builder.clear_ip_transports();
    let bound = match bind {
        Bind::RelaysOnly => return Ok(builder),
        Bind::Address(address) => builder.bind_addr(address),
        Bind::EveryInterface { port } => {
            let port = if port == 0 { free_port()? } else { port };
            builder.bind_addr((Ipv4Addr::UNSPECIFIED, port)).and_then(|builder| {
                builder.bind_addr_with_opts((Ipv6Addr::UNSPECIFIED, port), BindOpts::default().set_is_required(false))
            })
        }
    };
    bound.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// One port for both families: iroh would choose two.
fn free_port() -> io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port())
}

/// Begins to look for peers on the LAN, and to be found there.
pub(super) fn add_lan_lookup(endpoint: &Endpoint) -> Result<(), LinkWarning> {
    let unavailable = |detail: String| LinkWarning::LanUnavailable { detail };
    let lookup = MdnsAddressLookup::builder()
        .service_name(LAN_SERVICE_NAME)
        .discovery_cadence(LAN_CADENCE)
        .build(endpoint.id())
        .map_err(|error| unavailable(error.to_string()))?;
    endpoint.address_lookup().map_err(|error| unavailable(error.to_string()))?.add(lookup);
    Ok(())
}

/// Asks the kernel, with a socket of its own, for the buffers that iroh asks for.
pub fn udp_buffer_warning() -> Option<LinkWarning> {
    let granted_len = granted_udp_buffer_len(UDP_BUFFER_LEN_WANTED).ok()?;
    (granted_len < UDP_BUFFER_LEN_WANTED)
        .then_some(LinkWarning::UdpBufferClipped { wanted_len: UDP_BUFFER_LEN_WANTED, granted_len })
}

fn granted_udp_buffer_len(wanted_len: usize) -> io::Result<usize> {
    use rustix::net::sockopt;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // Some systems refuse what is above their limit, instead of clipping: then the default stays.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, wanted_len);
    let _ = sockopt::set_socket_send_buffer_size(&socket, wanted_len);
    let granted = sockopt::socket_recv_buffer_size(&socket)?.min(sockopt::socket_send_buffer_size(&socket)?);
    // Linux doubles what it grants, for its own bookkeeping (socket(7)).
    Ok(if cfg!(target_os = "linux") { granted / 2 } else { granted })
}

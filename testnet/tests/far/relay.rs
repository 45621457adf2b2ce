//! A relay that a test runs: iroh's, with address discovery, and with a certificate that nobody vouches for.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use iroh_relay::server::{CertConfig, QuicConfig, RelayConfig, Server, ServerConfig, TlsConfig};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tokio::sync::oneshot;

use super::namespace::Namespace;

/// Of HTTPS.
const PORT: u16 = 443;
/// Keys that the relay keeps parsed; by itself it has room for a million.
const KEY_COUNT: usize = 1_024;

/// A key and a certificate for it, signed by itself.
pub(crate) struct Identity(CertifiedKey<KeyPair>);

impl Identity {
    /// A new one for a server at an address.
    pub(crate) fn new(address: IpAddr) -> Self {
        Self(generate_simple_self_signed([address.to_string()]).unwrap())
    }

    /// Writes the certificate where a node reads it.
    pub(crate) fn write_certificate(&self, path: &Path) {
        std::fs::write(path, self.0.cert.pem()).unwrap();
    }

    fn server_config(&self) -> rustls::ServerConfig {
        let key = PrivateKeyDer::Pkcs8(self.0.signing_key.serialize_der().into());
        rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.0.cert.der().clone()], key)
            .unwrap()
    }
}

/// A relay, until this is dropped.
pub(crate) struct Relay {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    url: String,
}

impl Relay {
    /// Runs a relay in a network, at an address of that network; tells addresses on UDP port `discovery`.
    pub(crate) fn start(network: Arc<Namespace>, address: IpAddr, discovery: u16, identity: &Identity) -> Self {
        let tls = identity.server_config();
        let at = move |port| SocketAddr::new(address, port);
        let (end, ending) = oneshot::channel();
        let (running, runs) = mpsc::channel();
        let serve = async move {
            let mut relay = RelayConfig::new(at(80));
            relay.key_cache_capacity = Some(KEY_COUNT);
            relay.tls = Some(TlsConfig::new(at(PORT), CertConfig::Manual { server_config: tls }));
            let mut config = ServerConfig::default();
            config.relay = Some(relay);
            config.quic = Some(QuicConfig::new(at(discovery)));
            let server = Server::spawn(config).await.unwrap();
            running.send(()).unwrap();
            // Also when whoever has the other end is gone.
            let _ = ending.await;
            server.shutdown().await.unwrap();
        };
        // Every socket is opened by the thread that is in the network.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || network.inside(|| runtime.block_on(serve)).unwrap());
        runs.recv().expect("the relay runs");
        Self { end: Some(end), thread: Some(thread), url: format!("https://{address}") }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the relay ended by a panic");
        }
    }
}

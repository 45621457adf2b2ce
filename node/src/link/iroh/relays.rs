//! Relays of the user's own: which there are, by which certificates they are known, and what is to be told of them.
//!
//! A relay carries packets that it can't read and tells devices under which address the world sees them; its certificate
//! guards who sees which devices speak, not what they say. iroh knows one set of roots for all that it speaks TLS with,
//! so here stands what chooses by host: a relay with a certificate of its own is believed by that alone.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iroh::endpoint::{Builder, RelayStatus};
use iroh::tls::CaTlsConfig;
use iroh::{RelayConfig, RelayMap, RelayMode, RelayUrl};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::settings::{LinkWarning, OpenLinkError};

/// Where a relay tells addresses unless it is set up otherwise: UDP, as iroh's relays have it.
pub const DISCOVERY_PORT: u16 = 7842;

/// A file of certificates that is longer is none.
const CERTIFICATES_LEN_MAX: u64 = 64 << 10;

/// A relay that the user named.
#[derive(Clone, Debug)]
pub struct Relay {
    /// `https://host[:port]`.
    pub url: String,
    /// What it asks for, if it is not open to all.
    pub token: Option<String>,
    /// A PEM file with its own certificate, or those of who vouches for it: then no other is believed. Without one, the
    /// authorities that Mozilla trusts vouch for it.
    pub certificate: Option<PathBuf>,
    /// The UDP port on which it tells devices their address.
    pub discovery_port: u16,
}

impl Relay {
    /// The relay at a URL, set up as relays are.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), token: None, certificate: None, discovery_port: DISCOVERY_PORT }
    }
}

/// The relays of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Relays {
    map: Option<RelayMap>,
    /// By host, as TLS calls it.
    hosts: Arc<BTreeMap<String, Host>>,
}

/// How the relays of a host are known.
#[derive(Debug)]
struct Host {
    url: String,
    own: Option<Own>,
    /// The host showed a certificate that was not believed, and none since that was. Written by whoever shakes hands.
    is_refused: AtomicBool,
}

/// Certificates that the user gave.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
}

impl Relays {
    /// Reads what is needed to know the relays.
    ///
    /// # Errors
    /// [`OpenLinkError::RelayUrl`] and [`OpenLinkError::RelayCertificate`].
    pub(super) fn read(relays: &[Relay]) -> Result<Self, OpenLinkError> {
        let mut configs = Vec::new();
        let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
        for relay in relays {
            let (url, host) = parse(&relay.url)
                .ok_or_else(|| OpenLinkError::RelayUrl { url: relay.url.escape_debug().to_string() })?;
            let own = relay.certificate.as_deref().map(read_certificates).transpose()?;
            let known = hosts.entry(host).or_insert_with(|| Host {
                url: url.to_string(),
                own: None,
                is_refused: AtomicBool::new(false),
            });
            match (&mut known.own, own) {
                // TLS names no port: whatever this host shows is believed by either.
                (Some(known), Some(more)) => known.certificates.extend(more.certificates),
                (known, Some(own)) => *known = Some(own),
                (_, None) => {}
            }
            // Address discovery on the relay is what makes direct paths through NATs possible.
            let mut config = RelayConfig::from(url);
            if let Some(discovery) = &mut config.quic {
                discovery.port = relay.discovery_port;
            }
            configs.push(match &relay.token {
                Some(token) => config.with_auth_token(token),
                None => config,
            });
        }
        let map = (!configs.is_empty()).then(|| configs.into_iter().collect());
        Ok(Self { map, hosts: Arc::new(hosts) })
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_none()
    }

    /// Where they are.
    pub(super) fn urls(&self) -> Vec<String> {
        let urls: Vec<RelayUrl> = self.map.as_ref().map(RelayMap::urls).unwrap_or_default();
        urls.iter().map(ToString::to_string).collect()
    }

    /// Has an endpoint use these and no other.
    pub(super) fn give_to(&self, builder: Builder) -> Builder {
        let Some(map) = &self.map else { return builder.relay_mode(RelayMode::Disabled) };
        let hosts = Arc::clone(&self.hosts);
        let trust = CaTlsConfig::custom_server_cert_verifier(Arc::new(move |provider| {
            Ok(Arc::new(ByHost::new(Arc::clone(&hosts), provider)?) as Arc<dyn ServerCertVerifier>)
        }));
        builder.relay_mode(RelayMode::Custom(map.clone())).ca_tls_config(trust)
    }

    /// What is to be told: relays that are not believed, or else that none is connected. `home`: what iroh says of the
    /// one that it has chosen.
    pub(super) fn warnings(&self, home: &[RelayStatus]) -> Vec<LinkWarning> {
        let refused = self.hosts.values().filter(|host| host.is_refused.load(Ordering::Relaxed)).map(|host| {
            let url = host.url.clone();
            match &host.own {
                Some(own) => LinkWarning::RelayHasOtherCertificate { url, path: own.path.clone() },
                None => LinkWarning::RelayNotVouchedFor { url },
            }
        });
        let mut warnings: Vec<LinkWarning> = refused.collect();
        for status in home.iter().filter(|status| !status.is_connected()) {
            let url = status.url().to_string();
            if let Some(reason) = status.auth_denied_reason() {
                let reason = reason.escape_debug().to_string();
                warnings.push(LinkWarning::RelayRefuses { url, reason });
            }
        }
        if warnings.is_empty() && !self.is_empty() && !home.iter().any(|status| status.is_connected()) {
            warnings.push(LinkWarning::NoRelayAnswers { urls: self.urls().join(", ") });
        }
        warnings
    }
}

/// The URL and its host. iroh 1.4.1 names no relay by an IPv6 address to TLS, so such a URL would never be reached.
fn parse(text: &str) -> Option<(RelayUrl, String)> {
    let url: RelayUrl = text.parse().ok()?;
    let host = url.host_str()?;
    let is_spoken = matches!(url.scheme(), "https" | "http");
    let host = ServerName::try_from(host).ok().filter(|_| is_spoken)?.to_str().into_owned();
    Some((url, host))
}

/// Reads the certificates of a PEM file.
fn read_certificates(path: &Path) -> Result<Own, OpenLinkError> {
    let unusable = |reason: String| OpenLinkError::RelayCertificate { path: path.to_owned(), reason };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| unusable(error.to_string()))?;
    file.take(CERTIFICATES_LEN_MAX + 1).read_to_end(&mut text).map_err(|error| unusable(error.to_string()))?;
    if text.len() as u64 > CERTIFICATES_LEN_MAX {
        return Err(unusable(format!("it is longer than {CERTIFICATES_LEN_MAX} bytes")));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| unusable(error.to_string()))?;
    if roots(&certificates).is_empty() {
        return Err(unusable("no certificate is in it".to_owned()));
    }
    Ok(Own { path: path.to_owned(), certificates })
}

fn roots(certificates: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    roots
}

/// Believes certificates by the host that shows them.
#[derive(Debug)]
struct ByHost {
    hosts: Arc<BTreeMap<String, Host>>,
    /// For hosts without a certificate of their own: those that peers name among them.
    public: Arc<dyn ServerCertVerifier>,
    /// For the others.
    own: BTreeMap<String, Arc<dyn ServerCertVerifier>>,
}

impl ByHost {
    fn new(hosts: Arc<BTreeMap<String, Host>>, provider: Arc<CryptoProvider>) -> io::Result<Self> {
        let public = CaTlsConfig::embedded().server_cert_verifier(Arc::clone(&provider))?;
        let mut own: BTreeMap<String, Arc<dyn ServerCertVerifier>> = BTreeMap::new();
        for (name, host) in hosts.iter() {
            let Some(given) = &host.own else { continue };
            let roots = Arc::new(roots(&given.certificates));
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            own.insert(name.clone(), verifier.map_err(io::Error::other)?);
        }
        Ok(Self { hosts, public, own })
    }

    /// Who judges what a host shows; nobody if it is the very certificate that the user gave: whatever that says of its
    /// use, its names and its time, it is the one.
    fn judge(&self, host: &str, shown: &CertificateDer<'_>) -> Option<&dyn ServerCertVerifier> {
        let known = self.hosts.get(host).and_then(|known| known.own.as_ref());
        if known.is_some_and(|own| own.certificates.iter().any(|given| given.as_ref() == shown.as_ref())) {
            return None;
        }
        Some(&**self.own.get(host).unwrap_or(&self.public))
    }
}

impl ServerCertVerifier for ByHost {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let host = name.to_str();
        let believed = match self.judge(&host, shown) {
            None => Ok(ServerCertVerified::assertion()),
            Some(judge) => judge.verify_server_cert(shown, between, name, ocsp, now),
        };
        if let Some(host) = self.hosts.get(host.as_ref()) {
            let was_refused = host.is_refused.swap(believed.is_err(), Ordering::Relaxed);
            if let Err(error) = &believed
                && !was_refused
            {
                tracing::warn!(relay = host.url, %error, "the certificate of a relay is not believed");
            }
        }
        believed
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.public.verify_tls12_signature(message, shown, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.public.verify_tls13_signature(message, shown, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.public.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;

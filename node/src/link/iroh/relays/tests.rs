use super::*;

/// Certificates that are not needed anywhere else: two that sign themselves, for 192.0.2.1, one of which says that it is
/// an authority, as `openssl req -x509` has it.
const PLAIN: &str = include_str!("tests/plain.pem");
const AUTHORITY: &str = include_str!("tests/authority.pem");

fn trust(relays: &[Relay]) -> (Relays, ByHost) {
    let relays = Relays::read(relays).unwrap();
    let provider = Arc::new(super::super::settings::crypto_provider());
    let by_host = ByHost::new(Arc::clone(&relays.hosts), provider).unwrap();
    (relays, by_host)
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn shows(by_host: &ByHost, host: &str, pem: &str) -> Result<ServerCertVerified, rustls::Error> {
    let name = ServerName::try_from(host).unwrap();
    // In 2040, when both are long expired.
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(2_208_988_800));
    by_host.verify_server_cert(&certificate(pem), &[], &name, &[], now)
}

#[test]
fn a_relay_with_a_certificate_of_its_own_is_believed_by_that_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.pem");
    for (own, other) in [(PLAIN, AUTHORITY), (AUTHORITY, PLAIN)] {
        std::fs::write(&path, own).unwrap();
        let relay = Relay { certificate: Some(path.clone()), ..Relay::at("https://192.0.2.1") };
        let (relays, by_host) = trust(&[relay]);
        assert!(shows(&by_host, "192.0.2.1", own).is_ok());
        assert!(shows(&by_host, "192.0.2.1", other).is_err());
        assert!(shows(&by_host, "192.0.2.2", own).is_err(), "another host's is believed");
        let told = relays.warnings(&[]);
        assert!(matches!(&told[..], [LinkWarning::RelayHasOtherCertificate { .. }]), "{told:?}");
        assert!(shows(&by_host, "192.0.2.1", own).is_ok());
        let told = relays.warnings(&[]);
        assert!(matches!(&told[..], [LinkWarning::NoRelayAnswers { .. }]), "it was put right: {told:?}");
    }
}

#[test]
fn without_a_certificate_of_its_own_an_authority_vouches_for_a_relay() {
    let (relays, by_host) = trust(&[Relay::at("https://192.0.2.1")]);
    assert!(shows(&by_host, "192.0.2.1", PLAIN).is_err());
    let told = relays.warnings(&[]);
    assert!(matches!(&told[..], [LinkWarning::RelayNotVouchedFor { .. }]), "{told:?}");
    // Of a relay that only peers name nothing is told.
    assert!(shows(&by_host, "192.0.2.9", PLAIN).is_err());
    assert_eq!(relays.warnings(&[]), told);
}

#[test]
fn a_relay_is_asked_for_addresses_where_it_tells_them() {
    let relay = Relay { discovery_port: 3478, ..Relay::at("https://one.example") };
    let relays = Relays::read(&[relay, Relay::at("https://two.example")]).unwrap();
    let port = |url: &str| relays.map.as_ref().unwrap().get(&url.parse().unwrap()).unwrap().quic.as_ref().unwrap().port;
    assert_eq!(["https://one.example", "https://two.example"].map(port), [3478, 7842]);
    assert_eq!(relays.urls(), ["https://one.example/", "https://two.example/"]);
    assert!(Relays::read(&[]).unwrap().is_empty());
    assert_eq!(Relays::read(&[]).unwrap().warnings(&[]), []);
}

#[test]
fn a_url_that_can_be_no_relays_is_refused() {
    for url in ["", "relay", "relay.example", "ftp://relay.example", "https://", "https://[::1]:443", "https://a b"] {
        let refused = Relays::read(&[Relay::at(url)]);
        assert!(matches!(refused, Err(OpenLinkError::RelayUrl { .. })), "{url}: {refused:?}");
    }
}

#[test]
fn a_file_without_certificates_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let read = |path: PathBuf| Relays::read(&[Relay { certificate: Some(path), ..Relay::at("https://one.example") }]);
    let broken = PLAIN.replace("MII", "MI!");
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let long = "x".repeat(CERTIFICATES_LEN_MAX as usize + 1);
    for (n, text) in ["", "no PEM", &broken, no_certificate, &long].into_iter().enumerate() {
        let path = dir.path().join(n.to_string());
        std::fs::write(&path, text).unwrap();
        assert!(matches!(read(path), Err(OpenLinkError::RelayCertificate { .. })), "{n}");
    }
    for absent in [dir.path().join("absent"), dir.path().to_owned()] {
        assert!(matches!(read(absent), Err(OpenLinkError::RelayCertificate { .. })));
    }
}

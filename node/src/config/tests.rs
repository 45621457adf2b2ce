use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/home/anna/config.toml"))
}

#[test]
fn an_empty_file_and_the_template_mean_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse(TEMPLATE).unwrap(), Config::default());
}

#[test]
fn each_line_of_the_template_is_a_key_and_shows_its_default() {
    let uncommented: String = TEMPLATE
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' '))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = parse(&uncommented).unwrap();
    let example = Rate { bytes_per_second: 10 << 20 };
    assert_eq!(
        config,
        Config {
            name: Some("laptop".into()),
            listen: Some("0.0.0.0:4433".parse().unwrap()),
            upload_max: Some(example),
            download_max: Some(example),
            ..Config::default()
        }
    );
}

#[test]
fn every_value_is_read() {
    let config = parse(
        "name = 'nas'\nlisten = '[::1]:7000'\ndirect = false\nrelays = ['https://r.example']\nlan = false\n\
         upload_max = 4096\ndownload_max = '2 MB/s'\ndebounce_ms = 250\nversions = 'none'\nmerge = false\nguard = 'strict'\nsuite = 2\nnames = 'windows'\nlandlock = false",
    );
    let expected = Config {
        name: Some("nas".into()),
        listen: Some("[::1]:7000".parse().unwrap()),
        direct: false,
        relays: vec![RelayAt::url("https://r.example")],
        lan: false,
        upload_max: Some(Rate { bytes_per_second: 4096 }),
        download_max: Some(Rate { bytes_per_second: 2_000_000 }),
        debounce_ms: 250,
        versions: Versions::None,
        merge: false,
        guard: Guard::Strict,
        names: Names::Windows,
        suite: Suite::Two,
        landlock: false,
    };
    assert_eq!(config.unwrap(), expected);
    for (text, versions) in [("staggered", Versions::Staggered), ("keep-days 7", Versions::KeepDays(7))] {
        assert_eq!(parse(&format!("versions = '{text}'")).unwrap().versions, versions);
    }
}

#[test]
fn what_is_wrong_is_said_with_the_key_and_the_file() {
    for (text, key, says) in [
        ("lann = false", "lann", "unknown field"),
        ("lan = 'no'", "lan = 'no'", "expected a boolean"),
        ("debounce_ms = 0", "debounce_ms", "from 1 to 60000"),
        ("debounce_ms = 60001", "debounce_ms", "from 1 to 60000"),
        ("relays = ['relay.example']", "relays", "https://"),
        ("relays = [{ url = 'https://r', discovery_port = 0 }]", "relays", "above 0"),
        ("relays = [{ url = 'https://r', discovery_port = 65536 }]", "discovery_port", "65536"),
        ("relays = [{ url = 'https://r', certificat = 'r.pem' }]", "certificat", "unknown field"),
        ("relays = [{ certificate = 'r.pem' }]", "relays", "missing field `url`"),
        ("relays = [7]", "relays", "a URL in quotes, or a table"),
        ("relays = 'https://r.example'", "relays", "expected a sequence"),
        ("versions = 'keep-days 0'", "versions", "keep-days N"),
        ("versions = 'forever'", "versions", "\"staggered\""),
        ("guard = 'lax'", "guard", "`normal`"),
        ("suite = 3", "suite", "1 or 2"),
        ("suite = true", "suite", "a number or a text"),
        ("upload_max = '10 parsecs'", "upload_max", "like \"10 MiB\""),
        ("upload_max = '18446744073709551615 GiB'", "upload_max", "like \"10 MiB\""),
        ("listen = '4433'", "listen", "socket address"),
        ("name = ''", "name", "1 to 64 bytes"),
        ("lan = true\nlan = true", "lan", "duplicate key"),
        ("lan", "lan", "line 1"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("/home/anna/config.toml"), "{text}: {error}");
        assert!(error.contains(key) && error.contains(says), "{text}: {error}");
    }
}

#[test]
fn a_relay_may_have_its_own_certificate_beside_the_settings() {
    let config = parse(
        "relays = ['https://one.example', { url = 'https://192.0.2.1:8443', certificate = 'relay.pem', discovery_port = 3478 }, \
         { url = 'http://two.example', certificate = '/etc/relay.pem' }]",
    );
    let expected = vec![
        RelayAt::url("https://one.example"),
        RelayAt {
            url: "https://192.0.2.1:8443".into(),
            certificate: Some("/home/anna/relay.pem".into()),
            discovery_port: 3478,
        },
        RelayAt { certificate: Some("/etc/relay.pem".into()), ..RelayAt::url("http://two.example") },
    ];
    assert_eq!(config.unwrap().relays, expected);
    assert_eq!(expected[0].discovery_port, 7842);
}

#[test]
fn a_new_home_gets_the_template_and_an_old_one_keeps_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    assert_eq!(Config::load(&path).unwrap(), Config::default());
    assert!(!path.exists());
    assert_eq!(Config::load_or_create(&path).unwrap(), Config::default());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), TEMPLATE);
    std::fs::write(&path, "lan = false").unwrap();
    assert!(!Config::load_or_create(&path).unwrap().lan);
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_configuration_or_an_error(
        text in ".{0,200}",
        key in "name|listen|direct|relays|lan|upload_max|download_max|debounce_ms|versions|guard|suite|landlock",
        value in "\\PC{0,30}|\"[^\"]{0,30}\"|-?[0-9]{1,25}|\"[0-9]{0,22} ?[KMGk]?i?B?(/s)?\"|\\[.{0,20}\\]|keep-days [0-9]{1,9}",
    ) {
        let _ = parse(&text);
        if let Ok(config) = parse(&format!("{key} = {value}")) {
            proptest::prop_assert!(DEBOUNCE_MS.contains(&config.debounce_ms));
            proptest::prop_assert!(config.name.is_none_or(|name| !name.is_empty() && name.len() <= NAME_LEN_MAX));
        }
        let _ = crate::duration::parse(&text);
        let _ = crate::duration::parse(&value);
    }

    #[test]
    fn any_bytes_in_the_file_are_a_configuration_or_an_error(bytes: Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, &bytes).unwrap();
        if Config::load(&path).is_ok() {
            proptest::prop_assert!(std::str::from_utf8(&bytes).is_ok());
        }
    }
}

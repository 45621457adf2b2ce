//! A relay as `config.toml` names it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use zerocloud_crdt::address::RelayUrl;

use crate::link::iroh::DISCOVERY_PORT;

/// A relay. Written as its URL in quotes, or as a table: `{ url = "https://203.0.113.7", certificate = "relay.pem" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayAt {
    /// Its URL.
    pub url: String,
    /// The PEM file with its own certificate: no other is believed then. A path that is not absolute begins where
    /// `config.toml` lies. Default: none, and the authorities that Mozilla trusts vouch for it.
    pub certificate: Option<PathBuf>,
    /// The UDP port on which it tells devices under which address they are seen. Default: 7842.
    pub discovery_port: u16,
}

impl RelayAt {
    /// A relay of which no more is said than its URL.
    pub fn url(url: impl Into<String>) -> Self {
        Self { url: url.into(), certificate: None, discovery_port: DISCOVERY_PORT }
    }

    /// Whether something can be there.
    pub(super) fn is_reachable(&self) -> bool {
        RelayUrl::parse(&self.url).is_ok() && self.discovery_port != 0
    }

    /// Takes the certificate's path as one that begins where the settings lie.
    pub(super) fn resolve_beside(&mut self, settings: &Path) {
        if let (Some(certificate), Some(directory)) = (&mut self.certificate, settings.parent()) {
            *certificate = directory.join(&*certificate);
        }
    }
}

/// The same as a table, by which keys are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: String,
    certificate: Option<PathBuf>,
    #[serde(default = "discovery_port")]
    discovery_port: u16,
}

const fn discovery_port() -> u16 {
    DISCOVERY_PORT
}

// By hand, because what serde derives for either of two shapes does not say which key of a table is wrong.
impl<'de> Deserialize<'de> for RelayAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RelayAt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL in quotes, or a table like { url = \"https://host\", certificate = \"relay.pem\" }")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<RelayAt, E> {
                Ok(RelayAt::url(url))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<RelayAt, M::Error> {
                let Table { url, certificate, discovery_port } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RelayAt { url, certificate, discovery_port })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

//! The connection to the broker.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bramble_cluster::chain;
use rumqttc::{
    AsyncClient, Event as MqttEvent, EventLoop, Incoming, LastWill, MqttOptions, QoS,
    TlsConfiguration, Transport,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::outbox::Message;

/// How long a broker may be silent before it counts as gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Messages that may wait between us and rumqttc: one under way, one pong.
const REQUESTS: usize = 8;
/// What the broker may send us; we subscribe to nothing yet.
const INCOMING_BYTES_MAX: usize = 16 * 1024;
/// What we send at most in one message.
const OUTGOING_BYTES_MAX: usize = 256 * 1024;
const PORT: u16 = 1883;
const PORT_TLS: u16 = 8883;

/// Where the broker is and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// `mqtt://host[:port]` or `mqtts://host[:port]`.
    pub url: String,
    /// Who logs in.
    pub username: Option<String>,
    /// With what password.
    pub password: Option<String>,
    /// The PEM file of the authority that signed the broker's certificate; `None` means those that
    /// browsers trust.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for BrokerConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BrokerConfig").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The broker's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerConfigError {
    /// The address is not one.
    #[error("[mqtt] url: `{url}` is not mqtt://host[:port] or mqtts://host[:port]")]
    Url {
        /// What was given.
        url: String,
    },
    /// The authority's certificate cannot be read.
    #[error("[mqtt] ca: no certificate can be read from {path}")]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why; none if the file simply holds no certificate.
        #[source]
        source: Option<rustls::pki_types::pem::Error>,
    },
    /// TLS cannot be set up.
    #[error("[mqtt] TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// What the broker told us.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A connection stands.
    Connected,
    /// It has what was under way.
    Confirmed,
    /// The connection is gone, and why.
    Lost(String),
}

/// A connection to the broker that is opened again whenever it is polled after a loss.
pub(crate) struct Broker {
    client: AsyncClient,
    events: EventLoop,
}

impl Broker {
    /// Prepares the connection. `availability` is the topic that says `offline` when we are gone.
    pub(crate) fn new(
        config: &BrokerConfig,
        client_id: String,
        availability: &str,
    ) -> Result<Self, BrokerConfigError> {
        let (host, port, is_tls) = parse_url(&config.url)?;
        let mut options = MqttOptions::new(client_id, host, port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_max_packet_size(INCOMING_BYTES_MAX, OUTGOING_BYTES_MAX);
        options.set_last_will(LastWill::new(availability, "offline", QoS::AtLeastOnce, true));
        if let Some(username) = &config.username {
            options.set_credentials(username, config.password.clone().unwrap_or_default());
        }
        if is_tls {
            let tls = TlsConfiguration::Rustls(Arc::new(tls(config)?));
            options.set_transport(Transport::tls_with_config(tls));
        }
        let (client, events) = AsyncClient::new(options, REQUESTS);
        Ok(Self { client, events })
    }

    /// Hands over one message. `false` if rumqttc takes none now; it will be asked again.
    pub(crate) fn publish(&self, message: Message) -> bool {
        let Message { topic, payload, is_retained } = message;
        self.client.try_publish(topic, QoS::AtLeastOnce, is_retained, payload).is_ok()
    }

    /// Says goodbye, so that the broker does not send the last will.
    pub(crate) fn disconnect(&self) {
        // If it cannot be said, the last will says it for us.
        let _ = self.client.try_disconnect();
    }

    /// What happens next. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            match self.events.poll().await {
                Ok(MqttEvent::Incoming(Incoming::ConnAck(_))) => return Signal::Connected,
                Ok(MqttEvent::Incoming(Incoming::PubAck(_))) => return Signal::Confirmed,
                Ok(_) => {}
                Err(error) => return Signal::Lost(chain(&error)),
            }
        }
    }
}

fn tls(config: &BrokerConfig) -> Result<ClientConfig, BrokerConfigError> {
    let mut roots = RootCertStore::empty();
    match &config.ca {
        Some(path) => {
            let error = |source| BrokerConfigError::Authority { path: path.clone(), source };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|source| error(Some(source)))?;
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(error(None));
            }
        }
        None => {
            let known = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
            roots.add_parsable_certificates(known);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(BrokerConfigError::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Splits `mqtt[s]://host[:port]`.
fn parse_url(url: &str) -> Result<(String, u16, bool), BrokerConfigError> {
    let error = || BrokerConfigError::Url { url: url.to_owned() };
    let (rest, is_tls) = match (url.strip_prefix("mqtt://"), url.strip_prefix("mqtts://")) {
        (Some(rest), _) => (rest, false),
        (_, Some(rest)) => (rest, true),
        _ => return Err(error()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let default = if is_tls { PORT_TLS } else { PORT };
    // An IPv6 address stands in brackets, so its colons are not the port's.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| error())?),
        _ => (rest, default),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_sound = |letter: char| letter.is_ascii_alphanumeric() || ".-:_".contains(letter);
    if host.is_empty() || port == 0 || !host.chars().all(is_sound) {
        return Err(error());
    }
    Ok((host.to_owned(), port, is_tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parsed = |url| parse_url(url).map_err(|error| error.to_string());
        assert_eq!(parsed("mqtt://home"), Ok(("home".to_owned(), 1883, false)));
        assert_eq!(parsed("mqtts://home/"), Ok(("home".to_owned(), 8883, true)));
        assert_eq!(parsed("mqtt://10.0.0.1:99"), Ok(("10.0.0.1".to_owned(), 99, false)));
        assert_eq!(parsed("mqtt://[fd00::1]:99"), Ok(("fd00::1".to_owned(), 99, false)));
        assert_eq!(parsed("mqtt://[fd00::1]"), Ok(("fd00::1".to_owned(), 1883, false)));
    }

    #[test]
    fn bad_urls_are_refused() {
        for url in [
            "",
            "home",
            "http://home",
            "mqtt://",
            "mqtt://:1",
            "mqtt://h:0",
            "mqtt://h:x",
            "mqtt://u@h",
        ] {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_password_is_not_shown_by_debug() {
        let config = BrokerConfig {
            url: "mqtt://h".to_owned(),
            username: Some("u".to_owned()),
            password: Some("hunter2".to_owned()),
            ca: None,
        };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

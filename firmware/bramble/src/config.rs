//! `bramble.toml`: what a person may say about a board before it boots.
//!
//! Read in two ways. `bramble daemon` on a machine that a person administers is strict: a setting
//! it does not know is an error, before anything starts. The appliance is lenient: whatever is
//! wrong in the file, the board boots with what is sound in it and tells the rest as problems.

mod lenient;
mod network;
mod soundness;
#[cfg(test)]
mod tests;
mod uplink;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub(crate) use lenient::heading;
pub(crate) use network::{NetworkConfig, TimeConfig, WifiConfig};
use soundness::{hostname, locate, mqtt_url};

/// The settings of one board. Everything has a default; an empty file is a sound one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The board itself.
    pub(crate) board: BoardConfig,
    /// Which cluster it belongs to.
    pub(crate) cluster: ClusterConfig,
    /// Its address.
    pub(crate) network: NetworkConfig,
    /// The wireless network it uses; absent means none.
    pub(crate) wifi: Option<WifiConfig>,
    /// Where it reports to; absent means nowhere.
    pub(crate) mqtt: Option<MqttConfig>,
    /// Whom it asks what time it is.
    pub(crate) time: TimeConfig,
}

/// `[board]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BoardConfig {
    /// Its host name; by default the one the system has.
    #[serde(deserialize_with = "hostname")]
    pub(crate) hostname: Option<String>,
    /// Labels for placement (`engine.labels.*` in a constraint).
    pub(crate) labels: BTreeMap<String, String>,
    /// The interfaces it looks for other boards on; by default every physical one.
    pub(crate) interfaces: Vec<String>,
    /// The address and port it listens at for other boards.
    pub(crate) listen: Option<SocketAddr>,
}

/// `[cluster]`
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClusterConfig {
    /// 32 random bytes as 64 hexadecimal digits; boards with equal keys are one cluster.
    pub(crate) key: Option<ClusterKey>,
    /// A token from `bramble cluster join-token`, to join over a routed network.
    pub(crate) token: Option<String>,
    /// Where to present the token: any manager's address.
    pub(crate) join: Vec<SocketAddr>,
}

impl ClusterConfig {
    /// Whether it says which cluster the board belongs to. An appliance that is not told founds no
    /// cluster and joins none.
    pub(crate) fn names_one(&self) -> bool {
        self.key.is_some() || self.token.is_some()
    }
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClusterConfig").field("join", &self.join).finish_non_exhaustive()
    }
}

/// `[mqtt]`
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MqttConfig {
    /// `mqtt://host[:port]` or `mqtts://host[:port]`.
    #[serde(deserialize_with = "mqtt_url")]
    pub(crate) url: String,
    /// Who logs in.
    pub(crate) username: Option<String>,
    /// With what password.
    pub(crate) password: Option<String>,
    /// The PEM file of the authority that signed the broker's certificate; by default those that
    /// browsers trust.
    pub(crate) ca: Option<PathBuf>,
}

impl fmt::Debug for MqttConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MqttConfig").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The key of a cluster. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ClusterKey([u8; 32]);

impl ClusterKey {
    /// The key's 32 bytes.
    pub(crate) fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClusterKey(..)")
    }
}

/// The text is not a cluster key. The text itself is not in the message: it may be nearly a key.
#[derive(Debug, thiserror::Error)]
#[error(
    "a cluster key is 64 hexadecimal digits, this has {length} characters; `bramble cluster key` makes one"
)]
pub(crate) struct ParseKeyError {
    length: usize,
}

impl TryFrom<String> for ClusterKey {
    type Error = ParseKeyError;

    fn try_from(text: String) -> Result<Self, ParseKeyError> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(&text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(ParseKeyError { length: text.chars().count() }),
        }
    }
}

/// The configuration file could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file says something that Bramble does not know or cannot take.
    #[error("{path}: {message}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and what, without the line itself: it may hold a secret.
        message: String,
    },
    /// Two settings contradict each other, or one lacks another.
    #[error("{path}: {message}")]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What.
        message: String,
    },
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, has an unknown key, or a value that cannot be; the error names the
    /// key and the line, never the value.
    pub(crate) fn read(path: &Path) -> Result<Self, ReadConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ReadConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| ReadConfigError::Parse {
            path: path.to_owned(),
            message: locate(&text, &error),
        })?;
        match config.settle().into_iter().next() {
            None => Ok(config),
            Some(message) => Err(ReadConfigError::Invalid { path: path.to_owned(), message }),
        }
    }

    /// Reads what is sound in `text`, and tells what is not: the problem's line and key, never a
    /// value that may be a secret.
    pub(crate) fn read_lenient(text: &str) -> (Self, Vec<String>) {
        let (settings, mut problems) = lenient::gather(text);
        let (mut config, unsound) = lenient::sift(settings);
        problems.extend(unsound);
        problems.extend(config.settle());
        (config, problems)
    }

    /// Drops what cannot be used because of what else is said or left out, and tells what that was.
    /// What is left contradicts nothing.
    fn settle(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        let cluster = &mut self.cluster;
        if cluster.token.is_some() && cluster.join.is_empty() {
            problems.push("[cluster] token: `join` must name a manager's address too".to_owned());
            cluster.token = None;
        }
        if cluster.token.is_none() && !cluster.join.is_empty() {
            problems.push("[cluster] join: `token` must be set too".to_owned());
            cluster.join.clear();
        }
        problems.extend(self.network.settle());
        if let Some(wifi) = self.wifi.take_if(|wifi| wifi.ssid.is_empty())
            && wifi != WifiConfig::default()
        {
            problems.push("[wifi] ssid: it must be set too".to_owned());
        }
        if let Some(mqtt) = self.mqtt.take_if(|mqtt| mqtt.url.is_empty())
            && mqtt != MqttConfig::default()
        {
            problems.push("[mqtt] url: it must be set too".to_owned());
        }
        problems
    }
}

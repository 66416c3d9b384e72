//! `bramble.toml`: what a person may say about a board before it boots.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// The settings of one board. Everything has a default; an empty file is a sound one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The board itself.
    pub(crate) board: BoardConfig,
    /// Which cluster it belongs to.
    pub(crate) cluster: ClusterConfig,
    /// Where it reports to; absent means nowhere.
    pub(crate) mqtt: Option<MqttConfig>,
}

/// `[board]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BoardConfig {
    /// Its host name; by default the one the system has.
    pub(crate) hostname: Option<String>,
    /// Labels for placement (`engine.labels.*` in a constraint).
    pub(crate) labels: BTreeMap<String, String>,
    /// The interfaces it looks for other boards on; by default every physical one.
    pub(crate) interfaces: Vec<String>,
    /// The address and port it listens at for other boards.
    pub(crate) listen: Option<SocketAddr>,
}

/// `[cluster]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClusterConfig {
    /// 32 random bytes as 64 hexadecimal digits; boards with equal keys are one cluster.
    pub(crate) key: Option<ClusterKey>,
    /// A token from `bramble cluster join-token`, to join over a routed network.
    pub(crate) token: Option<String>,
    /// Where to present the token: any manager's address.
    pub(crate) join: Vec<SocketAddr>,
}

/// `[mqtt]`
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MqttConfig {
    /// `mqtt://host[:port]` or `mqtts://host[:port]`.
    pub(crate) url: String,
    /// Who logs in.
    #[serde(default)]
    pub(crate) username: Option<String>,
    /// With what password.
    #[serde(default)]
    pub(crate) password: Option<String>,
    /// The PEM file of the authority that signed the broker's certificate; by default those that
    /// browsers trust.
    #[serde(default)]
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
    /// Two settings contradict each other, or one is out of range.
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
        let config: Self = toml::from_str(&text).map_err(|error| ReadConfigError::Parse {
            path: path.to_owned(),
            message: locate(&text, &error),
        })?;
        config
            .check()
            .map_err(|message| ReadConfigError::Invalid { path: path.to_owned(), message })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if let Some(name) = &self.board.hostname
            && !is_hostname(name)
        {
            return Err(format!(
                "[board] hostname: `{name}` is not a host name: letters, digits and hyphens, at most 63, are"
            ));
        }
        if self.cluster.token.is_some() && self.cluster.join.is_empty() {
            return Err("[cluster] token: `join` must name a manager's address too".to_owned());
        }
        if self.cluster.token.is_none() && !self.cluster.join.is_empty() {
            return Err("[cluster] join: `token` must be set too".to_owned());
        }
        let schemes = ["mqtt://", "mqtts://"];
        match &self.mqtt {
            Some(mqtt) if !schemes.iter().any(|scheme| mqtt.url.starts_with(scheme)) => {
                Err("[mqtt] url: it must start with mqtt:// or mqtts://".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Says where in `text` the parser stopped. `toml`'s own display quotes the line, secrets and all.
fn locate(text: &str, error: &toml::de::Error) -> String {
    let Some(span) = error.span() else { return error.message().to_owned() };
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    format!("line {line}: {}", error.message())
}

/// Host names by RFC 1123, one label.
fn is_hostname(name: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(is_sound)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("it is written");
        Config::read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_sound() {
        assert_eq!(read(""), Ok(Config::default()));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = read("[cluster]\nkeey = \"00\"\n").expect_err("it is unknown");
        assert!(error.contains("line 2") && error.contains("keey"), "{error}");
    }

    #[test]
    fn a_bad_key_is_refused_and_not_repeated() {
        let error = read("[cluster]\nkey = \"cafe\"\n").expect_err("it is too short");
        assert!(error.contains("64 hexadecimal digits") && !error.contains("cafe"), "{error}");
    }

    #[test]
    fn a_bad_host_name_is_refused() {
        for name in ["", "-a", "a b", "käse", &"a".repeat(64)] {
            assert!(read(&format!("[board]\nhostname = \"{name}\"")).is_err(), "{name}");
        }
    }

    #[test]
    fn a_token_without_an_address_is_refused() {
        let error = read("[cluster]\ntoken = \"BRMTKN-1-x\"").expect_err("join is missing");
        assert!(error.contains("join"), "{error}");
    }

    #[test]
    fn secrets_are_not_shown_by_debug() {
        let key = "ab".repeat(32);
        let text = format!(
            "[cluster]\nkey = \"{key}\"\n[mqtt]\nurl = \"mqtt://h\"\npassword = \"hunter2\"\n"
        );
        let shown = format!("{:?}", read(&text).expect("it is sound"));
        assert!(!shown.contains(&key) && !shown.contains("hunter2"), "{shown}");
    }
}

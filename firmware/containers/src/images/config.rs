//! What an image says of how it wants to be run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bramble_cluster::{Digest, Healthcheck, Platform};
use serde::Deserialize;

/// An image's configuration: what a container of it does unless its service says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// What its binaries run on.
    pub platform: Platform,
    /// When it was built (RFC 3339); empty if it does not say.
    pub created: String,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments after them, or the program if there is no entrypoint.
    pub command: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// `user[:group]`, by name or number; empty is root.
    pub user: String,
    /// Where the program starts; empty is `/`.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What asks the program to end (`SIGTERM` if `None`).
    pub stop_signal: Option<String>,
    /// Paths that want a volume of their own.
    pub volumes: BTreeSet<String>,
    /// Ports that it listens on (`80/tcp`).
    pub exposed_ports: BTreeSet<String>,
    /// How to see whether it works.
    pub healthcheck: Option<Healthcheck>,
    /// The digests of its layers' uncompressed archives, lowest first.
    pub layers: Vec<Digest>,
}

impl ImageConfig {
    /// Reads a configuration, of the OCI image specification or Docker's (which adds to it).
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let RawConfig { architecture, os, created, config, rootfs } =
            serde_json::from_slice(bytes)?;
        let run = config.unwrap_or_default();
        let layers = rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
        Ok(Self {
            platform: Platform {
                os: os.unwrap_or_default(),
                architecture: architecture.unwrap_or_default(),
            },
            created: created.unwrap_or_default(),
            entrypoint: run.entrypoint.unwrap_or_default(),
            command: run.cmd.unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            labels: run.labels.unwrap_or_default(),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: keys(run.volumes),
            exposed_ports: keys(run.exposed_ports),
            healthcheck: run.healthcheck.map(RawHealthcheck::into_healthcheck),
            layers: layers
                .iter()
                .map(|layer| layer.parse())
                .collect::<Result<_, _>>()
                .map_err(serde::de::Error::custom)?,
        })
    }
}

fn keys(map: Option<BTreeMap<String, serde::de::IgnoredAny>>) -> BTreeSet<String> {
    map.map(|map| map.into_keys().collect()).unwrap_or_default()
}

/// As it is written; every field may be missing or null.
#[derive(Deserialize)]
struct RawConfig {
    architecture: Option<String>,
    os: Option<String>,
    created: Option<String>,
    config: Option<RawRun>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawRun {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    healthcheck: Option<RawHealthcheck>,
}

/// Docker's addition; times are in nanoseconds, 0 is "not said".
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealthcheck {
    test: Option<Vec<String>>,
    interval: Option<u64>,
    timeout: Option<u64>,
    start_period: Option<u64>,
    start_interval: Option<u64>,
    retries: Option<u32>,
}

impl RawHealthcheck {
    fn into_healthcheck(self) -> Healthcheck {
        let duration =
            |nanos: Option<u64>| nanos.filter(|nanos| *nanos > 0).map(Duration::from_nanos);
        Healthcheck {
            test: self.test.unwrap_or_default(),
            interval: duration(self.interval),
            timeout: duration(self.timeout),
            retries: self.retries.unwrap_or_default(),
            start_period: duration(self.start_period),
            start_interval: duration(self.start_interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, ImageConfig};

    #[test]
    fn everything_that_docker_writes_is_read() {
        let config = ImageConfig::parse(
            br#"{"architecture":"arm64","os":"linux","created":"2026-01-01T00:00:00Z",
                "config":{"Hostname":"","User":"65534:65534","ExposedPorts":{"80/tcp":{},"53/udp":{}},
                "Env":["PATH=/bin","A=b=c"],"Cmd":["-v"],"Entrypoint":["/whoami"],
                "Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":{"a":"b"},"StopSignal":"SIGINT",
                "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000,"Retries":3},
                "OnBuild":null},"history":[{"created_by":"x"}],"rootfs":{"type":"layers","diff_ids":[
                "sha256:0101010101010101010101010101010101010101010101010101010101010101"]}}"#,
        )
        .unwrap();
        assert_eq!(config.platform.architecture, "arm64");
        assert_eq!(config.entrypoint, ["/whoami"]);
        assert_eq!(config.command, ["-v"]);
        assert_eq!(config.env, ["PATH=/bin", "A=b=c"]);
        assert_eq!(config.user, "65534:65534");
        assert_eq!(config.working_dir, "/srv");
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert!(config.volumes.contains("/data") && config.exposed_ports.contains("53/udp"));
        assert_eq!(config.layers.len(), 1);
        let healthcheck = config.healthcheck.unwrap();
        assert_eq!(healthcheck.interval, Some(Duration::from_secs(30)));
        assert_eq!((healthcheck.timeout, healthcheck.retries), (None, 3));
    }

    #[test]
    fn nulls_and_gaps_are_defaults() {
        for text in [
            "{}",
            r#"{"config":null,"rootfs":null}"#,
            r#"{"config":{"Entrypoint":null,"Cmd":null,"Env":null,"Labels":null,"Volumes":null,
               "StopSignal":"","User":null,"ExposedPorts":null}}"#,
        ] {
            assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap(), ImageConfig::default());
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        let deep = "[".repeat(100_000);
        for text in ["", "[]", "7", r#"{"rootfs":{"diff_ids":["md5:00"]}}"#, deep.as_str()] {
            assert!(ImageConfig::parse(text.as_bytes()).is_err());
        }
    }
}

//! What a board is: its name, model, platform and size. Does not change while it is up.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bramble_cluster::{Labels, NodeDescription, Platform, Resources};

/// The engine label that carries the board's model, for people and for constraints.
const MODEL_LABEL: &str = "board.model";

/// Where the kernel tells about the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), sys: PathBuf::from("/sys") }
    }
}

/// Something that every Linux machine tells could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadBoardError {
    /// The file could not be read.
    #[error("{} could not be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something unexpected.
    #[error("{} does not say {what}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
}

/// What the node says of itself when it opens a session. Addresses are left to who knows them.
///
/// `hostname` is what the configuration says, if it says something. The board's model is added to
/// `labels` as `board.model`, unless they have that already.
pub fn description(
    sources: &Sources,
    hostname: Option<&str>,
    engine_version: &str,
    mut labels: Labels,
) -> Result<NodeDescription, ReadBoardError> {
    if let Some(model) = model(sources) {
        labels.entry(MODEL_LABEL.to_owned()).or_insert(model);
    }
    let hostname = match hostname {
        Some(hostname) => hostname.to_owned(),
        None => self::hostname(sources)?,
    };
    Ok(NodeDescription {
        hostname,
        platform: platform(),
        resources: resources(sources)?,
        engine_version: engine_version.to_owned(),
        engine_labels: labels,
        addresses: Vec::new(),
    })
}

/// The kernel's host name.
pub fn hostname(sources: &Sources) -> Result<String, ReadBoardError> {
    Ok(read(&sources.proc.join("sys/kernel/hostname"))?.trim().to_owned())
}

/// The id that the kernel drew at this boot.
pub fn boot_id(sources: &Sources) -> Result<String, ReadBoardError> {
    Ok(read(&sources.proc.join("sys/kernel/random/boot_id"))?.trim().to_owned())
}

/// How long the machine has been up.
pub fn uptime(sources: &Sources) -> Result<Duration, ReadBoardError> {
    let path = sources.proc.join("uptime");
    let seconds = read(&path)?.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or(ReadBoardError::Content { path, what: "how long the machine has been up" })
}

/// The operating system and architecture this binary was built for, by the OCI's names.
pub fn platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    Platform { os: std::env::consts::OS.to_owned(), architecture: architecture.to_owned() }
}

/// Processors and memory.
pub fn resources(sources: &Sources) -> Result<Resources, ReadBoardError> {
    let path = sources.proc.join("stat");
    let cpus = read(&path)?
        .lines()
        .filter_map(|line| line.strip_prefix("cpu"))
        .filter(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
        .count();
    let nano_cpus = u64::try_from(cpus).unwrap_or(u64::MAX).saturating_mul(1_000_000_000);
    if nano_cpus == 0 {
        return Err(ReadBoardError::Content { path, what: "how many processors there are" });
    }
    let path = sources.proc.join("meminfo");
    let memory_bytes = kibibytes(&read(&path)?, "MemTotal:")
        .ok_or(ReadBoardError::Content { path, what: "how much memory there is" })?;
    Ok(Resources { nano_cpus, memory_bytes })
}

/// The board's model (`Raspberry Pi 4 Model B Rev 1.4`), from the device tree or the BIOS.
pub fn model(sources: &Sources) -> Option<String> {
    let places =
        [sources.proc.join("device-tree/model"), sources.sys.join("class/dmi/id/product_name")];
    places.iter().find_map(|place| {
        let text = fs::read_to_string(place).ok()?;
        let text = text.trim_matches(|letter: char| letter == '\0' || letter.is_whitespace());
        (!text.is_empty()).then(|| text.to_owned())
    })
}

/// The value of a line of `/proc/meminfo`, in bytes.
pub(crate) fn kibibytes(meminfo: &str, key: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = value.split_ascii_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

fn read(path: &Path) -> Result<String, ReadBoardError> {
    fs::read_to_string(path)
        .map_err(|source| ReadBoardError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
pub(crate) mod tests;

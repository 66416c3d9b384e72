//! Renewing the lock: which versions the mirror has now, by its signed lists.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::{Lock, Locked, file, mirrors};

/// The kernel that images run: its newest version of this series is taken.
const KERNEL_SERIES: &str = "7.2";
const KERNEL_SUITE: &str = "trixie-backports";

/// A package that images are made of.
struct Wanted {
    /// What stands before and after the kernel's version, or the whole name and nothing.
    name: (&'static str, &'static str),
    architecture: &'static str,
    suite: &'static str,
}

const fn kernel(part: &'static str, flavour: &'static str, architecture: &'static str) -> Wanted {
    Wanted { name: (part, flavour), architecture, suite: KERNEL_SUITE }
}

const fn plain(name: &'static str, architecture: &'static str, suite: &'static str) -> Wanted {
    Wanted { name: (name, ""), architecture, suite }
}

const WANTED: &[Wanted] = &[
    kernel("linux-base-", "+deb13-arm64", "arm64"),
    kernel("linux-binary-", "+deb13-arm64", "arm64"),
    kernel("linux-modules-", "+deb13-arm64", "arm64"),
    kernel("linux-base-", "+deb13-cloud-amd64", "amd64"),
    kernel("linux-binary-", "+deb13-cloud-amd64", "amd64"),
    kernel("linux-modules-", "+deb13-cloud-amd64", "amd64"),
    plain("raspi-firmware", "arm64", "sid"),
    plain("firmware-brcm80211", "arm64", "sid"),
    plain("wireless-regdb", "arm64", "sid"),
    plain("e2fsck-static", "arm64", "trixie"),
    plain("e2fsck-static", "amd64", "trixie"),
    plain("busybox-static", "arm64", "trixie"),
    plain("busybox-static", "amd64", "trixie"),
];

/// The lines before the packages.
const HEADER: &str =
    "# The Debian packages that images are made of. `cargo image lock` writes this file.\n";

impl Wanted {
    /// How new `name` is among the packages wanted here; `None` if it is another package.
    fn rank(&self, name: &str) -> Option<u32> {
        let (before, after) = self.name;
        if after.is_empty() {
            return (name == before).then_some(0);
        }
        let version = name.strip_prefix(before)?.strip_suffix(after)?;
        version.strip_prefix(KERNEL_SERIES)?.strip_prefix('.')?.parse().ok()
    }
}

/// Writes the lock file anew; returns what changed, a line each.
pub(crate) fn renew() -> Result<Vec<String>> {
    let before = Lock::read().unwrap_or_default();
    let lists = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut failures = Vec::new();
    for mirror in mirrors()? {
        match update(lists.path(), &mirror) {
            Ok(()) => {
                let after = newest(&lists.path().join("state/lists"))?;
                fs::write(file(), text(&after))
                    .with_context(|| format!("cannot write {}", file().display()))?;
                return Ok(changes(&before, &after));
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!("no mirror answered: {}", failures.join("; "))
}

/// Has apt fetch and verify the lists, in a folder of its own: this machine's sources stay as they
/// are.
fn update(folder: &Path, mirror: &str) -> Result<()> {
    for name in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::write(folder.join("status"), "")?;
    let source = format!(
        "Types: deb\nURIs: {mirror}\nSuites: trixie trixie-backports sid\nComponents: main non-free-firmware\nArchitectures: arm64 amd64\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    );
    fs::write(folder.join("bramble.sources"), source)?;
    let path = |name: &str| folder.join(name).display().to_string();
    let options = [
        format!("Dir::Etc::sourcelist={}", path("bramble.sources")),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State={}", path("state")),
        format!("Dir::Cache={}", path("cache")),
        format!("Dir::State::status={}", path("status")),
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::GzipIndexes=false".to_owned(),
        // Suites that have not moved for long are signed all the same.
        "Acquire::Check-Valid-Until=false".to_owned(),
    ];
    let mut apt = Command::new("apt-get");
    apt.args(options.iter().flat_map(|option| ["-o", option])).args(["--error-on=any", "update"]);
    let ran = apt.output().context("cannot start apt-get: images are built on Debian or Ubuntu")?;
    if !ran.status.success() {
        bail!("apt-get update: {}", String::from_utf8_lossy(&ran.stderr).trim());
    }
    Ok(())
}

/// The newest of each wanted package in the lists that apt has fetched.
fn newest(lists: &Path) -> Result<Lock> {
    let mut found: BTreeMap<usize, (u32, Locked)> = BTreeMap::new();
    for entry in fs::read_dir(lists)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with("_Packages") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        for (number, wanted) in WANTED.iter().enumerate() {
            let is_from = name.contains(&format!("_dists_{}_", wanted.suite))
                && name.contains(&format!("_binary-{}_", wanted.architecture));
            if !is_from {
                continue;
            }
            for stanza in text.split("\n\n") {
                let Some((rank, locked)) = matching(wanted, stanza) else { continue };
                if found.get(&number).is_none_or(|(known, _)| *known <= rank) {
                    found.insert(number, (rank, locked));
                }
            }
        }
    }
    for (number, wanted) in WANTED.iter().enumerate() {
        if !found.contains_key(&number) {
            let (before, after) = wanted.name;
            let series = if after.is_empty() { "" } else { KERNEL_SERIES };
            bail!("{} has no {before}{series}{after} for {}", wanted.suite, wanted.architecture);
        }
    }
    Ok(Lock { package: found.into_values().map(|(_, locked)| locked).collect() })
}

/// The lock file's text.
fn text(lock: &Lock) -> String {
    let mut text = HEADER.to_owned();
    for locked in &lock.package {
        let Locked { name, version, architecture, suite, path, sha256, size } = locked;
        let _ = write!(
            text,
            "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\narchitecture = \"{architecture}\"\nsuite = \"{suite}\"\npath = \"{path}\"\nsha256 = \"{sha256}\"\nsize = {size}\n"
        );
    }
    text
}

/// The package that `stanza` of a list describes, if it is the one that is wanted.
fn matching(wanted: &Wanted, stanza: &str) -> Option<(u32, Locked)> {
    let name = stanza.trim_start().strip_prefix("Package: ")?.lines().next()?;
    let rank = wanted.rank(name)?;
    let field = |key: &str| {
        stanza
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
            .map(str::to_owned)
    };
    let locked = Locked {
        name: name.to_owned(),
        version: field("Version")?,
        architecture: field("Architecture")?,
        suite: wanted.suite.to_owned(),
        path: field("Filename")?,
        sha256: field("SHA256")?,
        size: field("Size")?.parse().ok()?,
    };
    Some((rank, locked))
}

fn changes(before: &Lock, after: &Lock) -> Vec<String> {
    let mut lines = Vec::new();
    for locked in after.package.iter().filter(|locked| !before.package.contains(locked)) {
        lines.push(format!("{} {} ({})", locked.name, locked.version, locked.architecture));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_of_the_series_is_taken() {
        let lists = tempfile::tempdir().unwrap();
        let stanza = |name: &str| {
            format!(
                "Package: {name}\nVersion: 1\nArchitecture: all\nFilename: pool/{name}.deb\nSize: 5\nSHA256: {}\n\n",
                "a".repeat(64)
            )
        };
        for (suite, architecture) in [
            ("trixie", "arm64"),
            ("trixie", "amd64"),
            ("trixie-backports", "arm64"),
            ("trixie-backports", "amd64"),
            ("sid", "arm64"),
        ] {
            let mut text = String::new();
            for wanted in WANTED.iter().filter(|wanted| wanted.suite == suite) {
                let (before, after) = wanted.name;
                if after.is_empty() {
                    text.push_str(&stanza(before));
                } else {
                    for version in ["7.2.9", "7.2.12", "7.2.11", "7.3.1"] {
                        text.push_str(&stanza(&format!("{before}{version}{after}")));
                    }
                    text.push_str(&stanza(&format!("{before}7.2.99{after}-dbg")));
                }
            }
            let name = format!("mirror_debian_dists_{suite}_main_binary-{architecture}_Packages");
            fs::write(lists.path().join(name), text).unwrap();
        }
        let lock = newest(lists.path()).unwrap();
        assert_eq!(lock.package.len(), WANTED.len());
        assert_eq!(lock.package[0].name, "linux-base-7.2.12+deb13-arm64");
        assert_eq!(lock.package[5].name, "linux-modules-7.2.12+deb13-cloud-amd64");
        assert_eq!(toml::from_str::<Lock>(&text(&lock)).unwrap(), lock);
        assert_eq!(changes(&lock, &lock), Vec::<String>::new());
        assert_eq!(changes(&Lock::default(), &lock).len(), WANTED.len());
    }

    #[test]
    fn what_the_mirror_has_not_is_named() {
        let lists = tempfile::tempdir().unwrap();
        let error = newest(lists.path()).unwrap_err().to_string();
        assert_eq!(error, "trixie-backports has no linux-base-7.2+deb13-arm64 for arm64");
    }
}

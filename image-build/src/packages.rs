//! The Debian packages that images are made of: named in `packages.lock` by version and sha256,
//! fetched once, kept in a cache.

pub(crate) mod renew;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{deb::Tree, progress::Progress};

/// The packages by version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    pub(crate) package: Vec<Locked>,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Locked {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Debian's name of it: `arm64`, `amd64`, `all`.
    pub(crate) architecture: String,
    pub(crate) suite: String,
    /// Below the mirror.
    pub(crate) path: String,
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

impl Lock {
    /// Reads the lock file.
    pub(crate) fn read() -> Result<Self> {
        let path = file();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// The package for `architecture` whose name is `name` or begins with it and a version.
    pub(crate) fn find(&self, name: &str, architecture: &str) -> Result<&Locked> {
        let matches = |locked: &&Locked| {
            let rest = locked.name.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
                && (locked.architecture == architecture || locked.architecture == "all")
        };
        self.package.iter().find(matches).with_context(|| {
            format!(
                "packages.lock has no {name} for {architecture}: renew it with `cargo image lock`"
            )
        })
    }
}

/// Fetches `packages`, where they are not cached, and unpacks them into one tree.
pub(crate) fn unpack(packages: &[&Locked]) -> Result<Tree> {
    let mut tree = Tree::default();
    let paths = packages.iter().map(|locked| fetch(locked)).collect::<Result<Vec<_>>>()?;
    let progress = Progress::new("unpacking packages", packages.iter().map(|p| p.size).sum());
    for (path, locked) in paths.iter().zip(packages) {
        tree.unpack(path)?;
        progress.add(usize::try_from(locked.size)?);
    }
    Ok(tree)
}

/// The path of the package on this machine.
fn fetch(locked: &Locked) -> Result<PathBuf> {
    let folder = cache()?;
    let name = locked.path.rsplit('/').next().unwrap_or(&locked.name);
    let path = folder.join(name);
    if is_sound(&path, locked) {
        return Ok(path);
    }
    let partial = folder.join(format!("{name}.{}", std::process::id()));
    let mut failures = Vec::new();
    for mirror in mirrors()? {
        let progress = Progress::new(&locked.name, locked.size);
        let fetched = download(&format!("{mirror}/{}", locked.path), &partial, locked, &progress);
        drop(progress);
        match fetched {
            Ok(()) if is_sound(&partial, locked) => {
                fs::rename(&partial, &path)?;
                return Ok(path);
            }
            Ok(()) => failures.push("what came has another sha256".to_owned()),
            Err(error) => failures.push(format!("{error:#}")),
        }
        let _ = fs::remove_file(&partial);
    }
    bail!(
        "cannot fetch {} {} ({}): {}\nif the mirror has dropped this version, `cargo image lock` renews image-build/packages.lock; the suites backports and sid keep few old ones",
        locked.name,
        locked.version,
        locked.architecture,
        failures.join("; ")
    )
}

/// Has apt fetch `url`: it knows this machine's proxy and authorities.
fn download(url: &str, to: &Path, locked: &Locked, progress: &Progress) -> Result<()> {
    let hash = format!("SHA256:{}", locked.sha256);
    let mut apt = Command::new("/usr/lib/apt/apt-helper")
        .args(["-o", "APT::Sandbox::User=root", "download-file", url])
        .arg(to)
        .arg(hash)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .context("cannot start apt-helper: images are built on Debian or Ubuntu")?;
    let status = loop {
        if let Some(status) = apt.try_wait()? {
            break status;
        }
        if let Ok(metadata) = fs::metadata(to) {
            progress.set(metadata.len());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    if !status.success() {
        let mut said = String::new();
        if let Some(mut stderr) = apt.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut said)?;
        }
        // The first names the address and the cause, the last says only that it failed.
        let line = said.lines().find(|line| line.starts_with("E:")).unwrap_or("apt-helper failed");
        bail!("{}", line.trim_start_matches("E: "));
    }
    Ok(())
}

fn is_sound(path: &Path, locked: &Locked) -> bool {
    let is_as_long = fs::metadata(path).is_ok_and(|metadata| metadata.len() == locked.size);
    is_as_long && fs::read(path).is_ok_and(|bytes| sha256(&bytes) == locked.sha256)
}

/// In hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

/// Where packages are kept.
fn cache() -> Result<PathBuf> {
    let folder = std::env::var_os("XDG_CACHE_HOME").filter(|set| !set.is_empty()).map_or_else(
        || crate::firmware::target_folder().join("packages"),
        |cache| PathBuf::from(cache).join("bramble/packages"),
    );
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Where packages are fetched from: `BRAMBLE_DEBIAN_MIRROR`, or what this machine's apt uses.
fn mirrors() -> Result<Vec<String>> {
    if let Ok(mirror) = std::env::var("BRAMBLE_DEBIAN_MIRROR") {
        return Ok(vec![mirror.trim_end_matches('/').to_owned()]);
    }
    let mut mirrors = mirrors_of_apt();
    if mirrors.is_empty() && crate::is_root()? {
        // apt names none before it has fetched its lists once.
        let _ = Command::new("apt-get").args(["update", "-qq"]).status();
        mirrors = mirrors_of_apt();
    }
    if mirrors.is_empty() {
        bail!(
            "this machine's apt names no mirror of Debian: `apt-get update` as root may help, or name one by BRAMBLE_DEBIAN_MIRROR=URL"
        );
    }
    Ok(mirrors)
}

fn mirrors_of_apt() -> Vec<String> {
    let listed = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .output();
    let listed = listed.map(|listed| listed.stdout).unwrap_or_default();
    let mut mirrors: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(&listed).lines() {
        let mirror = line.trim_end_matches('/');
        if mirror.ends_with("/debian") && !mirrors.iter().any(|known| known == mirror) {
            mirrors.push(mirror.to_owned());
        }
    }
    mirrors
}

fn file() -> PathBuf {
    crate::root().join("image-build/packages.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_names_a_kernel_and_a_busybox_for_each_architecture() {
        let lock = Lock::read().unwrap();
        for architecture in ["arm64", "amd64"] {
            for name in ["linux-modules", "linux-base", "busybox-static", "e2fsck-static"] {
                let locked = lock.find(name, architecture).unwrap();
                assert_eq!(locked.sha256.len(), 64);
                assert!(locked.path.starts_with("pool/"), "{}", locked.path);
            }
        }
        assert!(lock.find("raspi-firmware", "arm64").is_ok());
        let error = lock.find("linux", "riscv64").unwrap_err().to_string();
        assert!(error.contains("cargo image lock"), "{error}");
    }
}

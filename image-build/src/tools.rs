//! Programs that the builder needs, installed where that is allowed.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

/// The path of `program`. Where it is missing, root gets Debian's `packages`, which blanks separate;
/// others are told.
pub(crate) fn find(program: &str, packages: &str) -> Result<PathBuf> {
    if let Some(path) = in_path(program) {
        return Ok(path);
    }
    if crate::is_root()? {
        eprintln!("installing {packages}");
        let install = ["install", "-y", "-qq", "--no-install-recommends"];
        let install: Vec<&str> = install.into_iter().chain(packages.split(' ')).collect();
        for arguments in [vec!["update", "-qq"], install] {
            let mut apt = Command::new("apt-get");
            apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
            if !apt.status().is_ok_and(|status| status.success()) {
                break;
            }
        }
        if let Some(path) = in_path(program) {
            return Ok(path);
        }
    }
    bail!("{program} is missing: `apt-get install {packages}` as root installs it")
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where programs for administrators are, which the path of others leaves out.
    let all = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    all.map(|folder| folder.join(program)).find(|path| Path::new(path).is_file())
}

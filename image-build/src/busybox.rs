//! A static busybox of a board's architecture, for tests that run containers on it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use anyhow::{Context, Result};

use crate::{
    firmware,
    kind::Kind,
    packages::{self, Lock},
};

/// Its path, in the build folder.
pub(crate) fn path(kind: Kind) -> Result<PathBuf> {
    let lock = Lock::read()?;
    let locked = lock.find("busybox-static", kind.debian_arch())?;
    let tree = packages::unpack(&[locked])?;
    let folder = firmware::target_folder().join("busybox");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(kind.debian_arch());
    let partial = folder.join(format!("{}.{}", kind.debian_arch(), std::process::id()));
    fs::write(&partial, tree.expect("usr/bin/busybox")?)?;
    fs::set_permissions(&partial, Permissions::from_mode(0o755))?;
    fs::rename(&partial, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

//! Named volumes: folders of the data directory that outlive their containers.
//!
//! `volumes/<name>/data` is what a container sees; `volumes/<name>/volume.json` says what it is. A
//! volume appears whole: it is filled under another name and renamed.

mod copy;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bramble_cluster::{Labels, TaskId};
use rustix::fs::OFlags;
use serde_json::json;

use crate::{in_root, spec::NewVolume};

/// Bytes in a volume's name.
const NAME_BYTES: usize = 255;
/// Names of volumes in the making begin with this, which no name may.
const UNFINISHED: &str = ".new-";

/// A volume could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make volume {name} at {path}")]
pub struct VolumeError {
    /// Its name.
    pub name: String,
    /// What could not be written, or read from the image.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Whether a name can name a volume: Docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub(crate) fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= NAME_BYTES
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(is_inner)
}

/// The name of a container's own volume.
pub(crate) fn anonymous_name(id: TaskId, number: usize) -> String {
    format!("anonymous-{id}-{number}")
}

/// Where a volume's files are.
pub(crate) fn data(volumes: &Path, name: &str) -> PathBuf {
    volumes.join(name).join("data")
}

/// Makes a volume that is not there, and fills it from the image.
pub(crate) fn ensure(volumes: &Path, rootfs: &Path, volume: &NewVolume) -> Result<(), VolumeError> {
    let fail = |path: &Path| {
        let (name, path) = (volume.name.clone(), path.to_owned());
        move |source| VolumeError { name, path, source }
    };
    let home = volumes.join(&volume.name);
    if home.exists() {
        return Ok(());
    }
    let draw = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    let unfinished = volumes.join(format!("{UNFINISHED}{}-{draw:x}", volume.name));
    let files = unfinished.join("data");
    fs::create_dir_all(&files).map_err(fail(&files))?;
    let made = fill(rootfs, volume, &files).map_err(fail(&files)).and_then(|()| {
        let about = unfinished.join("volume.json");
        let text = json!({ "labels": volume.labels, "is_anonymous": volume.is_anonymous });
        fs::write(&about, text.to_string()).map_err(fail(&about))?;
        match fs::rename(&unfinished, &home) {
            // Somebody else made it meanwhile.
            Err(_) if home.exists() => fs::remove_dir_all(&unfinished).map_err(fail(&unfinished)),
            result => result.map_err(fail(&home)),
        }
    });
    if made.is_err() {
        drop(fs::remove_dir_all(&unfinished));
    }
    made
}

fn fill(rootfs: &Path, volume: &NewVolume, files: &Path) -> io::Result<()> {
    let Some(target) = &volume.fill_from else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match in_root::open_at(rootfs, target, flags) {
        Ok(source) => copy::tree(&source, &in_root::directory(files)?),
        // The image has nothing there, or no directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the volumes that were a container's own.
pub(crate) fn remove_anonymous(volumes: &Path, id: TaskId) -> Result<(), (PathBuf, io::Error)> {
    let entries = match fs::read_dir(volumes) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err((volumes.to_owned(), error)),
    };
    let prefix = format!("anonymous-{id}-");
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
            fs::remove_dir_all(entry.path()).map_err(|error| (entry.path(), error))?;
        }
    }
    Ok(())
}

/// The labels of a volume.
pub fn labels(volumes: &Path, name: &str) -> Labels {
    let text = fs::read(volumes.join(name).join("volume.json")).unwrap_or_default();
    let about: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    serde_json::from_value(about["labels"].clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! Small private files, written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A private file larger than this was not written by this crate.
const FILE_BYTES: u64 = 64 * 1_024;

/// A private file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not one of ours, or is damaged.
    #[error("{} is damaged: it is not a file of this format", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// Makes the directory for private files, and its parents, readable by root alone.
pub(crate) fn create_directory(path: &Path) -> Result<(), StoreError> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(|source| StoreError::Io { what: "create", path: path.to_owned(), source })
}

/// Reads a private file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let error = |source| StoreError::Io { what: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(StoreError::Damaged { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

/// Writes a private file (mode 0600): after a power cut it holds the old bytes or the new ones.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || -> io::Result<()> {
        // A leftover of a power cut might have other permissions: start from nothing.
        remove_if_there(&temporary)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| StoreError::Io { what: "write", path: path.to_owned(), source })
}

/// Removes a private file, if there is one.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    remove_if_there(path).map_err(|source| StoreError::Io {
        what: "remove",
        path: path.to_owned(),
        source,
    })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(source),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_written_file_reads_back_and_is_private() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("secret");
        assert_eq!(read(&path)?, None);
        write(&path, b"first")?;
        write(&path, b"second")?;
        assert_eq!(read(&path)?, Some(b"second".to_vec()));
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        remove(&path)?;
        remove(&path)?;
        assert_eq!(read(&path)?, None);
        Ok(())
    }

    #[test]
    fn a_leftover_of_a_power_cut_does_not_widen_permissions() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("secret");
        let leftover = directory.path().join("secret.new");
        fs::write(&leftover, b"half")?;
        fs::set_permissions(&leftover, fs::Permissions::from_mode(0o644))?;
        write(&path, b"whole")?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        assert!(!leftover.exists());
        Ok(())
    }

    #[test]
    fn a_huge_file_is_called_damaged() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("secret");
        fs::write(&path, vec![0; 65 * 1_024])?;
        assert!(matches!(read(&path), Err(StoreError::Damaged { .. })));
        Ok(())
    }
}

//! Opens paths inside an image or a container as if its root were `/`: no link leads outside.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};

/// Opens `path`, which may be absolute, below `root`.
pub(crate) fn open_at(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(root, directory, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Reads a regular file of at most `limit` bytes; of a longer one, its beginning.
pub(crate) fn read(root: &Path, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::from(open_at(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a directory by an ordinary path.
pub(crate) fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(base.path().join("secret"), "outside").unwrap();
        std::fs::write(root.join("secret"), "inside").unwrap();
        symlink("/secret", root.join("etc/absolute")).unwrap();
        symlink("../../../../secret", root.join("etc/relative")).unwrap();
        for name in ["/etc/absolute", "/etc/relative", "/../secret"] {
            assert_eq!(read(&root, Path::new(name), 100).unwrap(), b"inside", "{name}");
        }
        assert!(read(&root, Path::new("/etc"), 100).is_err());
        assert_eq!(read(&root, Path::new("/secret"), 2).unwrap(), b"in");
    }
}

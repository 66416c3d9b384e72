//! Removal of whole trees, whatever a container made of them.
//!
//! A container can nest folders deeper than any stack or descriptor table: a recursive removal
//! would end the daemon. So a tree is renamed into the trash, which takes it out of use at once,
//! and taken apart from the top: every folder in a folder is moved up beside it. Nothing new is
//! made for that, so it works on a disk that is full.

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat},
    io::Errno,
};

/// The folder that things are removed in.
#[derive(Debug)]
pub(super) struct Trash {
    folder: PathBuf,
    sequence: AtomicU64,
}

impl Trash {
    /// Opens the trash, and empties it of what an earlier process left.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut largest = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            largest = largest.max(number.map_or(0, |number| number.saturating_add(1)));
            remove(&entry.path())?;
        }
        Ok(Self { folder: folder.to_owned(), sequence: AtomicU64::new(largest) })
    }

    /// Removes a tree. It is out of its place at once; that it is gone takes longer.
    pub(super) fn discard(&self, path: &Path) -> io::Result<()> {
        self.take(path)?.map_or(Ok(()), Discarded::remove)
    }

    /// Takes a tree out of its place, to be removed later; `None` if there is none.
    pub(super) fn take(&self, path: &Path) -> io::Result<Option<Discarded>> {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let discarded = self.folder.join(number.to_string());
        match fs::rename(path, &discarded) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // The trash itself may need a block that the disk does not have.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                Ok(Some(Discarded(path.to_owned())))
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Some(Discarded(discarded))),
        }
    }
}

/// A tree in the trash. It is removed by [`Discarded::remove`], or when the trash is opened.
#[derive(Debug)]
#[must_use]
pub(super) struct Discarded(PathBuf);

impl Discarded {
    pub(super) fn remove(self) -> io::Result<()> {
        remove(&self.0)
    }
}

/// Removes a tree, in constant stack and descriptors.
fn remove(tree: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match rustix::fs::open(tree, flags, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) => return fs::remove_file(tree),
        result => result?,
    };
    let mut moved = 0u64;
    loop {
        let mut was_empty = true;
        let mut entries = Dir::read_from(&top)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            if is_self_or_parent(entry.file_name()) {
                continue;
            }
            was_empty = false;
            if !is_folder(top.as_fd(), entry.file_name(), entry.file_type())? {
                unlinkat(&top, entry.file_name(), AtFlags::empty())?;
                continue;
            }
            let folder = openat(&top, entry.file_name(), flags, Mode::empty())?;
            flatten(&top, &folder, &mut moved)?;
            unlinkat(&top, entry.file_name(), AtFlags::REMOVEDIR)?;
        }
        if was_empty {
            return fs::remove_dir(tree);
        }
    }
}

/// Empties `folder`: its files are removed, its folders move up into `top` to be emptied later.
fn flatten(top: &OwnedFd, folder: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    let mut entries = Dir::read_from(folder)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if is_self_or_parent(name) {
            continue;
        }
        if !is_folder(folder.as_fd(), name, entry.file_type())? {
            unlinkat(folder, name, AtFlags::empty())?;
        } else if unlinkat(folder, name, AtFlags::REMOVEDIR).is_err() {
            loop {
                // The name may be taken by what an interrupted run moved.
                let new = format!("moved-{moved}");
                *moved += 1;
                match renameat(folder, name, top, new.as_str()) {
                    Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                    result => break result?,
                }
            }
        }
    }
    Ok(())
}

fn is_self_or_parent(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

fn is_folder(parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> io::Result<bool> {
    if kind != FileType::Unknown {
        return Ok(kind == FileType::Directory);
    }
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::{Mode, OFlags, Path, Trash, fs, openat};

    #[test]
    fn a_tree_deeper_than_any_path_or_descriptor_table_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let trash = Trash::open(&folder.path().join("trash")).unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut current = rustix::fs::open(&tree, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..5_000 {
            rustix::fs::mkdirat(&current, "d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/", &current, "l").unwrap();
            current = openat(&current, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(current);
        trash.discard(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(fs::read_dir(folder.path().join("trash")).unwrap().count(), 0);
    }

    #[test]
    fn removal_stays_inside_and_what_is_missing_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        let trash = Trash::open(&folder.path().join("trash")).unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir_all(outside.join("kept")).unwrap();
        let tree = folder.path().join("tree");
        for name in ["a/b/c", "a/moved-0/x", "moved-1/moved-0/y"] {
            fs::create_dir_all(tree.join(name)).unwrap();
            std::os::unix::fs::symlink(&outside, tree.join(name).join("link")).unwrap();
            fs::hard_link(file(&outside), tree.join(name).join("file")).unwrap();
        }
        trash.discard(&tree).unwrap();
        trash.discard(&tree).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        trash.discard(&link).unwrap();
        assert!(fs::symlink_metadata(&link).is_err());
        assert!(!tree.exists() && outside.join("kept").exists() && file(&outside).exists());
        assert_eq!(fs::read_dir(folder.path().join("trash")).unwrap().count(), 0);
    }

    #[test]
    fn what_an_earlier_process_left_goes_at_the_next_opening() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("7/tree/a/b")).unwrap();
        fs::write(folder.path().join("7/tree/a/file"), "x").unwrap();
        let trash = Trash::open(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(trash.sequence.into_inner(), 8);
    }

    fn file(outside: &Path) -> std::path::PathBuf {
        let file = outside.join("file");
        if !file.exists() {
            fs::write(&file, "x").unwrap();
        }
        file
    }
}

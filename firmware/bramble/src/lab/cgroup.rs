//! The lab's control groups, in whichever hierarchies the machine has.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// Removes the group `name` and all below it from every hierarchy. Their processes must be gone.
pub(crate) fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        match remove_tree(&group) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", group.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// With cgroup v2 alone the root is the one hierarchy; with v1 or hybrid, each folder in it is one.
fn hierarchies() -> Vec<PathBuf> {
    let folders = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from(ROOT)).chain(folders.filter(|path| path.is_dir())).collect()
}

/// Groups are removed from the leaves up, with `rmdir`: their files are the kernel's.
fn remove_tree(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

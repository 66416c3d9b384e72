//! An initramfs: a `cpio` archive of the kind `newc`, which the kernel unpacks into its first root
//! file system. Entries are sorted and carry one fixed time, so the same content is the same bytes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

const FOLDER: u32 = 0o04_0755;
const LINK: u32 = 0o12_0777;
const FILE: u32 = 0o10_0000;
const CHARACTER_DEVICE: u32 = 0o02_0600;

/// An archive under construction.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    content: Vec<u8>,
}

impl Archive {
    /// Adds a file. `permissions` are those of `chmod`.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: impl Into<Vec<u8>>) {
        self.insert(path, FILE | permissions, (0, 0), content.into());
    }

    /// Adds a symbolic link to `target`.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.insert(path, LINK, (0, 0), target.into());
    }

    /// Adds an empty folder.
    pub(crate) fn folder(&mut self, path: &str) {
        self.insert(path, FOLDER, (0, 0), Vec::new());
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.insert(path, CHARACTER_DEVICE, (major, minor), Vec::new());
    }

    /// Adds an entry, and the folders above it: the kernel makes none by itself.
    fn insert(&mut self, path: &str, mode: u32, device: (u32, u32), content: Vec<u8>) {
        for (end, _) in path.match_indices('/') {
            let above = Entry { mode: FOLDER, device: (0, 0), content: Vec::new() };
            self.entries.entry(path[..end].to_owned()).or_insert(above);
        }
        self.entries.insert(path.to_owned(), Entry { mode, device, content });
    }

    /// The archive's bytes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            append(&mut bytes, number, path, entry)?;
        }
        let end = Entry { mode: 0, device: (0, 0), content: Vec::new() };
        append(&mut bytes, 0, "TRAILER!!!", &end)?;
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        Ok(bytes)
    }
}

fn append(bytes: &mut Vec<u8>, number: u32, path: &str, entry: &Entry) -> Result<()> {
    let size = u32::try_from(entry.content.len())
        .with_context(|| format!("/{path} is too large for an initramfs"))?;
    let links = if entry.mode == FOLDER { 2 } else { 1 };
    let (major, minor) = entry.device;
    let fields = [
        number,
        entry.mode,
        0, // user
        0, // group
        links,
        0, // time
        size,
        0, // device it is on
        0,
        major,
        minor,
        u32::try_from(path.len() + 1)?,
        0, // checksum, unused
    ];
    bytes.extend(b"070701");
    for field in fields {
        bytes.extend(format!("{field:08X}").bytes());
    }
    bytes.extend(path.bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(&entry.content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.file("sbin/tool", 0o755, *b"abc");
        archive.device("dev/console", 5, 1);
        archive.link("init", "/other");
        let bytes = archive.bytes().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let text = String::from_utf8_lossy(&bytes);
        let at = |word: &str| text.find(word).unwrap();
        assert!(at("dev\0") < at("dev/console\0"));
        assert!(at("sbin\0") < at("sbin/tool\0"));
        assert!(at("sbin/tool\0") < at("TRAILER!!!\0"));
        // Mode, owner, links, time, size, device, its own device, length of the name.
        assert!(text.contains(
            "00002180000000000000000000000001000000000000000000000000000000000000000500000001"
        ));
    }
}

//! Runs the builder and reads what it made: the partition table by hand, FAT by another library.

use std::{
    fs,
    io::{Cursor, Read},
    path::Path,
    process::Command,
};

type FileSystem<'a> = fatfs::FileSystem<Cursor<&'a mut [u8]>>;

/// Partitions of a card, by their place in its table.
pub(crate) const START: usize = 0;
pub(crate) const SLOT_A: usize = 1;
pub(crate) const SLOT_B: usize = 2;

/// A card and a slot.
pub(crate) struct Built {
    pub(crate) image: Vec<u8>,
    pub(crate) slot: Vec<u8>,
}

impl Built {
    /// Those for `board`.
    pub(crate) fn new(board: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        build(board, &["--raw", "--out", &path("card.img"), "--slot", &path("slot.img")]);
        let read = |name: &str| fs::read(path(name)).unwrap();
        Self { image: read("card.img"), slot: read("slot.img") }
    }

    /// The bytes of a partition.
    fn partition(&self, number: usize) -> &[u8] {
        assert_eq!(self.image[440..444], [0xe0, 0xb1, 0xa4, 0xb4], "the disk's identity");
        assert_eq!(self.image[510..512], [0x55, 0xaa]);
        let entry = &self.image[446 + number * 16..][..16];
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap()) as usize;
        &self.image[word(8) * 512..][..word(12) * 512]
    }

    /// A file on a partition.
    pub(crate) fn file(&self, partition: usize, path: &str) -> Vec<u8> {
        let mut bytes = self.partition(partition).to_vec();
        read(&open(&mut bytes), path)
    }

    /// A file in the slot's own image.
    pub(crate) fn slot_file(&self, path: &str) -> Vec<u8> {
        read(&open(&mut self.slot.clone()), path)
    }

    /// Names of the files at the root of a partition.
    pub(crate) fn names(&self, partition: usize) -> Vec<String> {
        let mut bytes = self.partition(partition).to_vec();
        let system = open(&mut bytes);
        let entries = system.root_dir().iter().map(|entry| entry.unwrap());
        entries.filter(|entry| entry.is_file()).map(|entry| entry.file_name()).collect()
    }

    /// A partition's label.
    pub(crate) fn label(&self, partition: usize) -> String {
        open(&mut self.partition(partition).to_vec()).volume_label()
    }
}

/// Runs the builder for `board` with `arguments`.
pub(crate) fn build(board: &str, arguments: &[&str]) {
    let program = env!("CARGO_BIN_EXE_image-build");
    let busybox =
        Command::new(program).args(["image", "busybox", "--board", board]).output().unwrap();
    assert!(busybox.status.success(), "{}", String::from_utf8_lossy(&busybox.stderr));
    let firmware = String::from_utf8(busybox.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("current.pub");
    fs::write(&key, "a key\n").unwrap();
    let built = Command::new(program)
        .args(["image", "--board", board, "--firmware", firmware.trim(), "--version", "9.8.7"])
        .arg("--trust")
        .arg(&key)
        .args(arguments)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// The repository's folder.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn open(bytes: &mut [u8]) -> FileSystem<'_> {
    fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new()).unwrap()
}

fn read(system: &FileSystem<'_>, path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    let opened = system.root_dir().open_file(path);
    let mut file = opened.unwrap_or_else(|error| panic!("{path}: {error}"));
    file.read_to_end(&mut content).unwrap();
    content
}

//! A copy of a card image, and what people and accidents do to it.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::command::{both, run, try_run};

const SECTOR: u64 = 512;
/// Partitions begin and end on these.
const MIB: u64 = 1 << 20;
/// Where the four entries of the partition table begin, and how long one is.
const TABLE: u64 = 446;
const ENTRY: u64 = 16;
/// The partition with `bramble.toml`.
pub const SETTINGS: u8 = 1;
/// The partition that keeps what a board must not forget.
pub const DATA: u8 = 4;

/// A card in a file.
#[derive(Debug, Clone)]
pub struct Card {
    path: PathBuf,
}

/// Where a partition lies, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub start: u64,
    pub length: u64,
}

impl Card {
    /// A copy of `image` at `path`, as long as a card of `size` bytes or as the image itself.
    pub fn copy(image: &Path, path: &Path, size: Option<u64>) -> Self {
        run("cp", &["--sparse=always", "--reflink=auto", text(image), text(path)]);
        let file = File::options().write(true).open(path).expect("the copy can be written");
        if let Some(size) = size {
            let length = file.metadata().expect("a file").len();
            assert!(length <= size, "{}: {length} bytes are over {size}", image.display());
            file.set_len(size).expect("the copy can grow");
        }
        Self { path: path.to_owned() }
    }

    /// The card's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a partition lies, by the table in the first sector.
    pub fn extent(&self, partition: u8) -> Extent {
        let entry = self.read_bytes(TABLE + ENTRY * u64::from(partition - 1), ENTRY);
        let number = |at: usize| {
            let bytes = entry.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u64::from(u32::from_le_bytes(bytes.expect("four bytes"))) * SECTOR
        };
        let extent = Extent { start: number(8), length: number(12) };
        assert!(extent.length > 0, "{}: no partition {partition}", self.path.display());
        extent
    }

    /// A file of a FAT partition.
    pub fn read_file(&self, partition: u8, name: &str) -> Option<Vec<u8>> {
        let output = try_run("mtype", &["-i", &self.fat(partition), &format!("::{name}")]);
        output.status.success().then_some(output.stdout)
    }

    /// Copies a file of a FAT partition to `path`; the test fails if there is none.
    pub fn extract(&self, partition: u8, name: &str, path: &Path) {
        run("mcopy", &["-n", "-o", "-i", &self.fat(partition), &format!("::{name}"), text(path)]);
    }

    /// Writes a file of a FAT partition, as a person does at a computer.
    pub fn write_file(&self, partition: u8, name: &str, contents: &[u8]) {
        let source = self.path.with_extension("file");
        fs::write(&source, contents).expect("a file");
        run("mcopy", &["-o", "-i", &self.fat(partition), text(&source), &format!("::{name}")]);
        fs::remove_file(source).expect("a file");
    }

    /// The settings that a person gives a batch of boards.
    pub fn configure(&self, settings: &str) {
        self.write_file(SETTINGS, "bramble.toml", settings.as_bytes());
    }

    /// Overwrites `length` bytes of a partition with what nobody wrote.
    pub fn garble(&self, partition: u8, offset: u64, length: usize) {
        let noise: Vec<u8> = (0..length).map(|at| (at % 251) as u8 ^ 0xa5).collect();
        self.write_bytes(self.extent(partition).start + offset, &noise);
    }

    /// Takes a partition out of the table.
    pub fn remove_partition(&self, partition: u8) {
        self.write_bytes(TABLE + ENTRY * u64::from(partition - 1), &[0; ENTRY as usize]);
    }

    /// Puts another, empty file system of a stranger into the data partition.
    pub fn replace_data(&self) {
        let extent = self.extent(DATA);
        let kibibytes = format!("{}k", extent.length / 1024);
        let options = format!("offset={}", extent.start);
        run(
            "mke2fs",
            &[
                "-q",
                "-F",
                "-t",
                "ext4",
                "-L",
                "holiday",
                "-E",
                &options,
                text(&self.path),
                &kibibytes,
            ],
        );
    }

    /// Fills the data partition to the last block, if nothing else is written meanwhile.
    pub fn fill_data(&self) {
        self.change_data(|data| {
            let filler = self.path.with_extension("filler");
            fs::write(&filler, vec![0x5a; 1 << 20]).expect("a file");
            for number in 0.. {
                let command = format!("write {} filler{number}", filler.display());
                let written = both(&try_run("debugfs", &["-w", "-R", &command, text(data)]));
                if written.contains("Could not allocate") {
                    break;
                }
                assert!(number < 4096, "the data partition is too big to be filled");
            }
            fs::remove_file(filler).expect("a file");
        });
    }

    /// Overwrites a file on the data partition with what nobody wrote.
    pub fn garble_file(&self, path: &str) {
        self.change_data(|data| {
            let noise = self.path.with_extension("noise");
            fs::write(&noise, [0xa5; 300]).expect("a file");
            for command in [format!("rm {path}"), format!("write {} {path}", noise.display())] {
                let output = try_run("debugfs", &["-w", "-R", &command, text(data)]);
                assert!(output.status.success(), "{command}: {}", both(&output));
            }
            fs::remove_file(noise).expect("a file");
        });
    }

    /// Changes the data partition's file system.
    fn change_data(&self, change: impl FnOnce(&Path)) {
        let data = self.take_out_data();
        // After a power cut the journal comes first; what is written before it would be undone.
        let replayed = try_run("e2fsck", &["-p", text(&data)]);
        assert!(replayed.status.code().is_some_and(|code| code <= 1), "{}", both(&replayed));
        change(&data);
        let seek = format!("seek={}", self.extent(DATA).start / MIB);
        self.dd(&data, &self.path, &[&seek, "conv=notrunc"]);
        fs::remove_file(data).expect("a file");
    }

    /// Whether the data partition's file system is sound, once its journal is played back.
    pub fn data_is_sound(&self) -> Result<(), String> {
        let data = self.take_out_data();
        let replayed = try_run("e2fsck", &["-p", text(&data)]);
        let checked = try_run("e2fsck", &["-f", "-n", text(&data)]);
        fs::remove_file(data).expect("a file");
        // 1 says that the journal was played back or a counter was put right.
        let is_replayed = replayed.status.code().is_some_and(|code| code <= 1);
        if is_replayed && checked.status.success() {
            return Ok(());
        }
        Err(both(&replayed) + &both(&checked))
    }

    /// The data partition in a file of its own: e2fsck loses its way in a card once it has played
    /// back the journal.
    fn take_out_data(&self) -> PathBuf {
        let extent = self.extent(DATA);
        let path = self.path.with_extension("data.img");
        let (skip, count) = (extent.start / MIB, extent.length / MIB);
        let part = [&*format!("skip={skip}"), &*format!("count={count}"), "conv=sparse"];
        self.dd(&self.path, &path, &part);
        path
    }

    fn dd(&self, from: &Path, to: &Path, part: &[&str]) {
        let (from, to) = (format!("if={}", from.display()), format!("of={}", to.display()));
        run("dd", &[&[&*from, &*to, "bs=1M", "status=none"], part].concat());
    }

    /// Bytes of the card.
    pub fn read_bytes(&self, offset: u64, length: u64) -> Vec<u8> {
        let mut file = File::open(&self.path).expect("the card is there");
        file.seek(SeekFrom::Start(offset)).expect("the card is long enough");
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).expect("the card can be read");
        bytes
    }

    fn write_bytes(&self, offset: u64, bytes: &[u8]) {
        let mut file = File::options().write(true).open(&self.path).expect("the card is there");
        file.seek(SeekFrom::Start(offset)).expect("the card is long enough");
        file.write_all(bytes).expect("the card can be written");
    }

    fn fat(&self, partition: u8) -> String {
        format!("{}@@{}", self.path.display(), self.extent(partition).start)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain letters")
}

//! The data partition on real block devices: loop devices with an ext4 on them.
//!
//! Needs root, `losetup`, `mke2fs` and `e2fsck`; machines that lack them skip these tests and say
//! so.

#![expect(clippy::tests_outside_test_module, reason = "this file is nothing but tests")]

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use bramble_host::{Places, boot::Findings, data, disk::Disk};
use flate2::{Compression, write::GzEncoder};
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// Its number, linux/capability.h.
const CAP_SYS_RESOURCE: u32 = 24;
/// Where the data partition begins, in mebibytes: after 4 of nothing and the three others, which
/// these tests have small.
const DATA_AT: u64 = 10;

/// A card in a loop device, its mounts, and the image's empty file system.
struct Card {
    root: TempDir,
    places: Places,
    device: PathBuf,
}

impl Card {
    /// A card of so many mebibytes whose table has a data partition, or no fourth entry.
    fn new(mebibytes: u64, data_mebibytes: Option<u64>) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || run("losetup", &["--version"]).is_none() {
            eprintln!("skipped: needs root and losetup");
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let image = root.path().join("card.img");
        let file = File::create(&image).unwrap();
        file.set_len(mebibytes * MIB).unwrap();
        file.write_all_at(&table(data_mebibytes), 0).unwrap();
        let template = root.path().join("empty.ext4");
        File::create(&template).unwrap().set_len(64 * MIB).unwrap();
        let options = "resize=67108864,lazy_itable_init=1,root_owner=0:0";
        let made = run(
            "mke2fs",
            &["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-J", "size=8"]
                .into_iter()
                .chain(["-L", "BRAMBLE-DATA", "-E", options, template.to_str().unwrap()])
                .collect::<Vec<_>>(),
        );
        made.expect("mke2fs is there");
        let packed = File::create(root.path().join("data.ext4.gz")).unwrap();
        let mut encoder = GzEncoder::new(packed, Compression::fast());
        std::io::copy(&mut File::open(&template).unwrap(), &mut encoder).unwrap();
        encoder.finish().unwrap();
        let device = attach(&image, &[])?;
        let places = Places {
            image: root.path().to_owned(),
            data: root.path().join("data"),
            ..Places::default()
        };
        Some(Self { root, places, device })
    }

    fn disk(&self) -> Disk {
        Disk::named(&self.places, self.device.file_name().unwrap().to_str().unwrap())
    }

    /// Opens the data partition as booting does. Says whether it is memory.
    fn open(&self) -> (bool, Findings) {
        let mut findings = Findings::default();
        let is_temporary = data::open(&self.places, Some(&self.disk()), &mut findings, &mut || {});
        if !may_grow() {
            findings.problems.retain(|problem| !problem.contains("stays smaller"));
        }
        (is_temporary, findings)
    }

    fn unmount(&self) {
        umount2(&self.places.data, MntFlags::empty()).unwrap();
    }

    fn partition(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.disk().partition(4)).unwrap()
    }

    /// Writes somewhere on the card. Not every kernel knows its partitions before booting does.
    fn write(&self, bytes: &[u8], at: u64) {
        let device = OpenOptions::new().write(true).open(&self.device).unwrap();
        device.write_all_at(bytes, at).unwrap();
        device.sync_all().unwrap();
    }

    /// Takes the card out and puts it back, perhaps changed.
    fn replug(&mut self, options: &[&str]) {
        run("losetup", &["-d", self.device.to_str().unwrap()]).unwrap();
        self.device = attach(&self.root.path().join("card.img"), options).unwrap();
    }

    fn mebibytes(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.places.data).unwrap();
        space.f_blocks * space.f_frsize / MIB
    }

    /// Where the kernel may not, so that there is a second group of blocks.
    fn grow_by_hand(&mut self) {
        if may_grow() {
            return;
        }
        self.unmount();
        let partition = self.disk().partition(4);
        run("e2fsck", &["-f", "-p", partition.to_str().unwrap()]);
        run("resize2fs", &[partition.to_str().unwrap()]).unwrap();
        self.open();
    }

    fn is_clean(&self) -> bool {
        let partition = self.disk().partition(4);
        run("e2fsck", &["-f", "-n", partition.to_str().unwrap()]).is_some()
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = umount2(&self.places.data, MntFlags::MNT_DETACH);
        run("losetup", &["-d", self.device.to_str().unwrap()]);
    }
}

fn attach(image: &Path, options: &[&str]) -> Option<PathBuf> {
    let mut arguments = vec!["--find", "--show", "--partscan"];
    arguments.extend(options);
    arguments.push(image.to_str().unwrap());
    let name = run("losetup", &arguments)?;
    Some(PathBuf::from(name.trim()))
}

/// What a program printed, if it ended well.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether this machine's kernel lets us grow a mounted file system; some containers' does not.
fn may_grow() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(capabilities.trim(), 16).unwrap() >> CAP_SYS_RESOURCE & 1 == 1
}

/// What is noted when a partition was grown.
fn noted(before: &str, mebibytes: u64) -> Option<String> {
    let grown = format!("grown to {mebibytes} MiB");
    let parts = [before, if may_grow() { &grown } else { "" }];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Some(parts.join(", ")).filter(|note| !note.is_empty())
}

fn table(data_mebibytes: Option<u64>) -> [u8; 512] {
    let mut sector = [0; 512];
    let mut parts = vec![(0x0c, 4, 2), (0x0c, 6, 2), (0x0c, 8, 2)];
    parts.extend(data_mebibytes.map(|size| (0x83, DATA_AT, size)));
    for (index, (kind, start, size)) in parts.into_iter().enumerate() {
        let entry = &mut sector[446 + index * 16..][..16];
        entry[4] = kind;
        entry[8..12].copy_from_slice(&u32::try_from(start * 2048).unwrap().to_le_bytes());
        entry[12..].copy_from_slice(&u32::try_from(size * 2048).unwrap().to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[test]
fn a_new_card_is_formatted_grown_and_then_left_alone() {
    let Some(mut card) = Card::new(700, Some(64)) else { return };
    let (is_temporary, findings) = card.open();
    assert!(!is_temporary, "{:?}", findings.problems);
    assert_eq!(findings.note, noted("formatted", 690));
    assert_eq!(findings.problems, Vec::<String>::new());
    assert!(card.mebibytes() > if may_grow() { 600 } else { 50 });
    assert!(card.places.bramble().is_dir());
    fs::write(card.places.bramble().join("kept"), "still here").unwrap();
    card.unmount();
    assert!(card.is_clean());

    card.replug(&[]);
    let (_, findings) = card.open();
    assert_eq!((findings.note, findings.problems), (None, Vec::new()));
    assert_eq!(fs::read_to_string(card.places.bramble().join("kept")).unwrap(), "still here");
    card.unmount();
}

#[test]
fn a_card_that_was_copied_to_a_bigger_one_grows_and_keeps_its_files() {
    let Some(mut card) = Card::new(200, Some(64)) else { return };
    card.open();
    fs::write(card.places.bramble().join("kept"), "still here").unwrap();
    card.unmount();
    let image = OpenOptions::new().write(true).open(card.root.path().join("card.img")).unwrap();
    image.set_len(3000 * MIB).unwrap();
    card.replug(&[]);
    let (_, findings) = card.open();
    assert_eq!(findings.note, noted("", 2990));
    assert_eq!(fs::read_to_string(card.places.bramble().join("kept")).unwrap(), "still here");
    card.unmount();
    assert!(card.is_clean());
}

#[test]
fn a_missing_partition_is_made() {
    let Some(mut card) = Card::new(200, None) else { return };
    let (is_temporary, findings) = card.open();
    assert!(!is_temporary, "{:?}", findings.problems);
    assert_eq!(findings.note, noted("formatted", 190));
    card.unmount();
    card.replug(&[]);
    let (is_temporary, findings) = card.open();
    assert_eq!((is_temporary, findings.note), (false, None));
    card.unmount();
}

#[test]
fn a_lost_superblock_is_taken_from_its_copy() {
    let Some(mut card) = Card::new(400, Some(64)) else { return };
    card.open();
    card.grow_by_hand();
    fs::write(card.places.bramble().join("kept"), "still here").unwrap();
    card.unmount();
    card.partition().write_all_at(&[0x5a; 4096], 0).unwrap();
    let (is_temporary, findings) = card.open();
    assert!(!is_temporary, "{:?}", findings.problems);
    assert_eq!(findings.note.as_deref(), Some("repaired"));
    assert!(findings.problems[0].contains("was repaired"), "{:?}", findings.problems);
    assert_eq!(fs::read_to_string(card.places.bramble().join("kept")).unwrap(), "still here");
    card.unmount();
    assert!(card.is_clean());
}

#[test]
fn a_file_system_that_says_it_has_errors_is_repaired() {
    let Some(card) = Card::new(200, Some(64)) else { return };
    card.open();
    fs::write(card.places.bramble().join("kept"), "still here").unwrap();
    card.unmount();
    let partition = card.disk().partition(4);
    run("debugfs", &["-w", "-R", "ssv state 2", partition.to_str().unwrap()]).unwrap();
    let (_, findings) = card.open();
    assert_eq!(findings.note.as_deref(), Some("repaired"));
    assert!(findings.problems[0].contains("nothing should be lost"), "{:?}", findings.problems);
    assert_eq!(fs::read_to_string(card.places.bramble().join("kept")).unwrap(), "still here");
    card.unmount();
    let (_, findings) = card.open();
    assert_eq!((findings.note, findings.problems), (None, Vec::new()));
    card.unmount();
}

#[test]
fn what_is_beyond_repair_is_formatted_and_said_so() {
    let Some(card) = Card::new(200, Some(64)) else { return };
    card.open();
    card.unmount();
    let mut partition = card.partition();
    partition.seek(SeekFrom::Start(0)).unwrap();
    for _ in 0..190 {
        partition.write_all(&vec![0xa5; 1 << 20]).unwrap();
    }
    partition.sync_all().unwrap();
    let (is_temporary, findings) = card.open();
    assert!(!is_temporary, "{:?}", findings.problems);
    assert!(findings.problems[0].contains("beyond repair"), "{:?}", findings.problems);
    assert_eq!(findings.note, noted("formatted", 190));
    card.unmount();
    assert!(card.is_clean());
}

#[test]
fn a_full_partition_is_used_and_said_to_be_full() {
    let Some(card) = Card::new(100, Some(64)) else { return };
    card.open();
    let mut filler = File::create(card.places.bramble().join("filler")).unwrap();
    while filler.write_all(&[1; 64 * 1024]).is_ok() {}
    drop(filler);
    card.unmount();
    let (is_temporary, findings) = card.open();
    assert!(!is_temporary, "{:?}", findings.problems);
    assert!(findings.problems[0].contains("is full: 0 of"), "{:?}", findings.problems);
    card.unmount();
}

#[test]
fn a_write_protected_card_leaves_memory() {
    let Some(mut card) = Card::new(100, Some(64)) else { return };
    card.replug(&["--read-only"]);
    let (is_temporary, findings) = card.open();
    assert!(is_temporary);
    assert!(findings.problems[0].contains("write-protected"), "{:?}", findings.problems);
    fs::write(card.places.bramble().join("file"), "in memory").unwrap();
}

#[test]
fn somebody_elses_partition_is_not_touched() {
    let Some(card) = Card::new(100, Some(64)) else { return };
    card.write(&[0x07], 446 + 3 * 16 + 4);
    card.write(b"NTFS", DATA_AT * MIB + 3);
    let (is_temporary, findings) = card.open();
    assert!(is_temporary);
    assert!(findings.problems[0].contains("not Bramble's"), "{:?}", findings.problems);
    let mut bytes = [0; 4];
    File::open(&card.device).unwrap().read_exact_at(&mut bytes, DATA_AT * MIB + 3).unwrap();
    assert_eq!(&bytes, b"NTFS");
}

#[test]
fn a_power_cut_while_formatting_is_made_up_for() {
    let Some(card) = Card::new(100, Some(64)) else { return };
    // What is there after the beginning was blanked and half of the rest was written.
    card.write(&vec![0x11; 8 << 20], (DATA_AT + 2) * MIB);
    let (is_temporary, findings) = card.open();
    assert!(!is_temporary, "{:?}", findings.problems);
    assert_eq!(findings.note, noted("formatted", 90));
    assert_eq!(findings.problems, Vec::<String>::new());
    card.unmount();
    assert!(card.is_clean());
}

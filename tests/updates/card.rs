//! Cards and update files as the tests need them: as on a board, and small.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Cursor, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bramble_cluster::Digest;
use bramble_host::{
    slot::Slot,
    update::{
        Autoboot, Compression, Content, Header, RunningSystem, Trust, signed_bytes, write_head,
    },
};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use flate2::write::GzEncoder;
use minisign::KeyPair;
use semver::Version;
use tempfile::TempDir;

pub(crate) const SLOT_BYTES: u64 = 4 << 20;
const MIB: u64 = 1 << 20;
const BOOT: (u64, u64) = (4 * MIB, 64 * MIB);
const SLOTS: [u64; 2] = [68 * MIB, 72 * MIB];

/// A folder with a card, keys, and update files.
pub(crate) struct Bench {
    folder: TempDir,
    keys: KeyPair,
    fresh: PathBuf,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = KeyPair::generate_unencrypted_keypair().expect("keys");
        let trust = folder.path().join("trust");
        fs::create_dir(&trust).expect("a folder");
        let public = keys.pk.to_box().expect("a key").into_string();
        fs::write(trust.join("current.pub"), public).expect("a key");
        let fresh = folder.path().join("fresh.img");
        make_card(&fresh);
        Self { folder, keys, fresh }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new card with version 1 in slot a, and rubbish in slot b.
    pub(crate) fn card(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::copy(&self.fresh, &path).expect("a copy");
        let _ = fs::remove_file(self.path(&format!("{name}.firmware")));
        path
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::read(&self.path("trust")).expect("keys")
    }

    /// An update to a version.
    pub(crate) fn update(&self, version: u64) -> Vec<u8> {
        self.update_with(version, |_| {})
    }

    /// An update whose header is not as it should be, signed all the same.
    pub(crate) fn update_with(&self, version: u64, change: impl FnOnce(&mut Header)) -> Vec<u8> {
        let slot = slot_image(version);
        let mut body = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        body.write_all(&slot).expect("memory");
        let body = body.finish().expect("memory");
        let mut header = Header {
            board: "qemu-arm64".to_owned(),
            version: Version::new(version, 0, 0),
            counter: version * 10,
            compression: Compression::Gzip,
            slot: content(&slot),
            body: content(&body),
        };
        change(&mut header);
        let mut file = Vec::new();
        write_head(&mut file, &header, |bytes| sign(&self.keys, bytes)).expect("memory");
        file.extend(body);
        file
    }

    /// A signature of anything.
    pub(crate) fn sign_with(keys: &KeyPair, header: &[u8]) -> String {
        sign(keys, &signed_bytes(header)).expect("a signature")
    }
}

fn sign(keys: &KeyPair, bytes: &[u8]) -> io::Result<String> {
    let signed = minisign::sign(Some(&keys.pk), &keys.sk, Cursor::new(bytes), None, None);
    signed.map(|signature| signature.into_string()).map_err(io::Error::other)
}

/// What runs: version 1 from a slot.
pub(crate) fn running(slot: Slot, version: u64) -> RunningSystem {
    RunningSystem {
        slot: Some(slot),
        board: "qemu-arm64".to_owned(),
        version: Version::new(version, 0, 0),
        counter: version * 10,
    }
}

/// What the kernel of a version holds.
pub(crate) fn kernel(version: u64) -> Vec<u8> {
    (0..2 * MIB / 8).flat_map(|at| (at * 31 + version).to_le_bytes()).collect()
}

fn content(bytes: &[u8]) -> Content {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Content { bytes: bytes.len() as u64, sha256: Digest::from_bytes(sha256) }
}

/// The bytes of a slot, the same for both.
fn slot_image(version: u64) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![0; SLOT_BYTES as usize]);
    format_volume(&mut bytes, FormatVolumeOptions::new().volume_label(*b"BRAMBLE    "))
        .expect("a file system");
    let config = "kernel=kernel8.img\ninitramfs bramble.cpio followkernel\n\
        kernel_watchdog_timeout=60\n[boot_partition=2]\nkernel_watchdog_partition=3\n\
        [boot_partition=3]\nkernel_watchdog_partition=2\n[all]\n";
    let file_system = FileSystem::new(&mut bytes, FsOptions::new()).expect("a file system");
    for (name, content) in [
        ("config.txt", config.as_bytes()),
        ("cmdline.txt", b"quiet\n"),
        ("kernel8.img", &kernel(version)),
        ("bramble.cpio", format!("initramfs {version}").as_bytes()),
    ] {
        let mut file = file_system.root_dir().create_file(name).expect("a file");
        file.write_all(content).expect("room");
    }
    drop(file_system);
    bytes.into_inner()
}

fn make_card(path: &Path) {
    let image = File::create(path).expect("an image");
    image.set_len(77 * MIB).expect("room");
    let mut table = [0; 512];
    let extents = [BOOT, (SLOTS[0], SLOT_BYTES), (SLOTS[1], SLOT_BYTES), (76 * MIB, MIB)];
    for (index, (start, bytes)) in extents.into_iter().enumerate() {
        let entry = &mut table[446 + 16 * index..][..16];
        entry[4] = if index < 3 { 0x0c } else { 0x83 };
        entry[8..12].copy_from_slice(&((start / 512) as u32).to_le_bytes());
        entry[12..].copy_from_slice(&((bytes / 512) as u32).to_le_bytes());
    }
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    image.write_all_at(&table, 0).expect("room");
    image.write_all_at(&slot_image(1), SLOTS[0]).expect("room");
    image.write_all_at(&vec![0xee; SLOT_BYTES as usize], SLOTS[1]).expect("room");
    let mut boot = Cursor::new(vec![0; BOOT.1 as usize]);
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32).bytes_per_cluster(512);
    format_volume(&mut boot, options.volume_label(*b"BRAMBLE    ")).expect("a file system");
    let file_system = FileSystem::new(&mut boot, FsOptions::new()).expect("a file system");
    for (name, content) in [
        ("bootcode.bin", vec![7; 50_000]),
        ("bramble.toml", b"[board]\n".to_vec()),
        ("autoboot.txt", Autoboot { default: Slot::A }.to_bytes().to_vec()),
    ] {
        let mut file = file_system.root_dir().create_file(name).expect("a file");
        file.write_all(&content).expect("room");
    }
    drop(file_system);
    let mut image = OpenOptions::new().write(true).open(path).expect("an image");
    image.seek(SeekFrom::Start(BOOT.0)).expect("an image");
    // Only what is not empty, so that copies are quick.
    for (index, piece) in boot.into_inner().chunks(1 << 16).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            image.write_all_at(piece, BOOT.0 + ((index as u64) << 16)).expect("room");
        }
    }
}

use std::{
    io::{Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    process::Command,
};

use proptest::prelude::{any, prop_assert, proptest};

use super::*;
use crate::update::Disk;

const VOLUME: u64 = 34 << 20;

/// A volume made by the tools that everybody uses, with these files.
fn volume(files: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
    let image = tempfile::NamedTempFile::new().expect("a file");
    image.as_file().set_len(VOLUME).expect("it has room");
    run(Command::new("mkfs.fat").args(["-F", "32", "-n", "BRAMBLE"]).arg(image.path()));
    for (name, content) in files {
        let mut source = tempfile::NamedTempFile::new().expect("a file");
        source.write_all(content).expect("it is written");
        run(Command::new("mcopy")
            .arg("-i")
            .args([image.path(), source.path()])
            .arg(format!("::{name}")));
    }
    image
}

fn run(command: &mut Command) {
    let output = command.output().expect("dosfstools and mtools are there");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
}

fn open(image: &tempfile::NamedTempFile) -> Disk {
    Disk::open(image.path()).expect("it opens")
}

/// What the tools that everybody uses read.
fn read_by_mtools(image: &tempfile::NamedTempFile, name: &str) -> Vec<u8> {
    let output = Command::new("mtype")
        .arg("-i")
        .arg(image.path())
        .arg(format!("::{name}"))
        .output()
        .expect("mtools are there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn is_clean(image: &tempfile::NamedTempFile) {
    run(Command::new("fsck.fat").arg("-n").arg(image.path()));
}

fn padded(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, PADDING);
    bytes
}

#[test]
fn a_padded_file_is_overwritten_where_it_is() {
    let before = padded("[board]\n", 16 << 10);
    let image = volume(&[("README.txt", b"read me"), ("bramble.toml", &before), ("z", b"z")]);
    let whole_before = std::fs::read(image.path()).expect("it is read");
    let mut disk = open(&image);
    let mut volume = Volume::open(&mut disk, 0, VOLUME).expect("a volume");
    let entry = volume.find("bramble.toml").expect("it is there");
    assert_eq!(volume.find("BRAMBLE.Toml").expect("it is there").at, entry.at);
    assert_eq!(volume.read(&entry).expect("it is read"), before);
    let text = "[board]\nhostname = \"pi-1\"\n".repeat(100);
    volume.replace(&entry, text.as_bytes()).expect("it is written");
    assert_eq!(read_by_mtools(&image, "bramble.toml"), padded(&text, 16 << 10));
    assert_eq!(volume.find("bramble.toml").expect("it is there"), entry);
    is_clean(&image);
    // Only sectors of the file differ.
    let whole_after = std::fs::read(image.path()).expect("it is read");
    let differing = |(index, (a, b)): (usize, (&u8, &u8))| (a != b).then_some(index as u64);
    let places = whole_before.iter().zip(&whole_after).enumerate().filter_map(differing);
    let clusters = volume.clusters(&entry).expect("a chain");
    for place in places {
        let cluster = 2 + (place - volume.data_at) / volume.cluster_bytes;
        assert!(clusters.iter().any(|own| u64::from(*own) == cluster), "{place}");
    }
}

#[test]
fn a_file_grows_within_its_last_cluster_and_beyond() {
    let image = volume(&[("bramble.toml", b"[board]\n"), ("other", &[7; 5_000])]);
    let mut disk = open(&image);
    let mut volume = Volume::open(&mut disk, 0, VOLUME).expect("a volume");
    for length in [20, 512, 513, 5_000, 100, 70_000] {
        let text = "#".repeat(length);
        let entry = volume.find("bramble.toml").expect("it is there");
        let longest = length.max(entry.size as usize);
        volume.replace(&entry, text.as_bytes()).expect("it is written");
        assert_eq!(read_by_mtools(&image, "bramble.toml"), padded(&text, longest));
        assert_eq!(read_by_mtools(&image, "other"), [7; 5_000]);
        is_clean(&image);
    }
    let entry = volume.find("bramble.toml").expect("it is there");
    let error = volume.replace(&entry, &[b'#'; (1 << 20) + 1]).expect_err("it is too large");
    assert!(matches!(error, Fat32Error::TooLarge(_)), "{error}");
}

#[test]
fn an_empty_file_gets_its_first_cluster() {
    let image = volume(&[("bramble.toml", b"")]);
    let mut disk = open(&image);
    let mut volume = Volume::open(&mut disk, 0, VOLUME).expect("a volume");
    let entry = volume.find("bramble.toml").expect("it is there");
    assert_eq!(volume.read(&entry).expect("it is read"), b"");
    volume.replace(&entry, b"[board]\n").expect("it is written");
    assert_eq!(read_by_mtools(&image, "bramble.toml"), b"[board]\n");
    is_clean(&image);
}

#[test]
fn a_full_volume_refuses_and_keeps_what_it_had() {
    let image = volume(&[("bramble.toml", b"[board]\n")]);
    let mut disk = open(&image);
    let mut volume = Volume::open(&mut disk, 0, VOLUME).expect("a volume");
    // Behind the first two entries, which are no clusters, every one ends a chain.
    let length = usize::try_from(volume.table_bytes).expect("a length");
    let ends = vec![0xff; length - 8];
    for table in 0..volume.tables {
        let at = volume.table_at + table * volume.table_bytes + 8;
        image.as_file().write_all_at(&ends, at).expect("it is written");
    }
    let entry = volume.find("bramble.toml").expect("it is there");
    let error = volume.replace(&entry, &[b'#'; 5_000]).expect_err("it is full");
    assert!(matches!(error, Fat32Error::Full), "{error}");
    assert_eq!(read_by_mtools(&image, "bramble.toml"), b"[board]\n");
}

#[test]
fn what_is_no_card_is_refused_in_words() {
    let image = volume(&[("bramble.txt", b"")]);
    let mut disk = open(&image);
    let error = Volume::open(&mut disk, 0, VOLUME).expect("a volume").find("bramble.toml");
    let error = error.expect_err("it is not there").to_string();
    assert!(error.contains("is it a card of Bramble?"), "{error}");
    let error = Volume::open(&mut disk, 0, VOLUME / 2).expect_err("it is cut").to_string();
    assert!(error.contains("damaged"), "{error}");
    run(Command::new("mkfs.fat").args(["-F", "16"]).arg(image.path()));
    let error = Volume::open(&mut disk, 0, VOLUME).expect_err("it is FAT16").to_string();
    assert!(error.contains("an older kind of FAT"), "{error}");
    image.as_file().set_len(100).expect("it is cut");
    assert!(matches!(Volume::open(&mut disk, 0, 100), Err(Fat32Error::Read { .. })));
}

#[test]
fn a_file_of_one_sector_is_found_where_it_is() {
    let content = padded("[all]\nboot_partition=2\n", 512);
    let image = volume(&[("autoboot.txt", &content), ("longer", &[7; 513]), ("empty", b"")]);
    let mut disk = open(&image);
    let mut volume = Volume::open(&mut disk, 0, VOLUME).expect("a volume");
    let entry = volume.find("autoboot.txt").expect("it is there");
    let sector = volume.only_sector(&entry).expect("it has one");
    let mut found = [0; 512];
    image.as_file().read_exact_at(&mut found, sector * SECTOR).expect("it is read");
    assert_eq!(found[..], content);
    for (name, size) in [("longer", "513"), ("empty", "0")] {
        let entry = volume.find(name).expect("it is there");
        let error = volume.only_sector(&entry).expect_err("it is not one sector").to_string();
        assert_eq!(error, format!("{name} has {size} bytes: 512 are needed"));
    }
    let lost = Entry { first: volume.cluster_end, ..entry };
    assert!(matches!(volume.only_sector(&lost), Err(Fat32Error::Damaged(_))));
}

#[test]
fn a_chain_that_loops_has_an_end() {
    let image = volume(&[("bramble.toml", &[b'#'; 5_000])]);
    let mut disk = open(&image);
    let mut volume = Volume::open(&mut disk, 0, VOLUME).expect("a volume");
    let entry = volume.find("bramble.toml").expect("it is there");
    volume.set_next(entry.first, entry.first).expect("it is written");
    assert!(matches!(volume.read(&entry), Err(Fat32Error::Damaged(_))));
    volume.set_next(volume.root, volume.root).expect("it is written");
    assert!(volume.find("not there").is_err());
}

/// The first sectors of a sound volume, for damage.
fn head(image: &tempfile::NamedTempFile) -> Vec<u8> {
    let mut bytes = std::fs::read(image.path()).expect("it is read");
    bytes.truncate(1 << 20);
    bytes
}

fn walk(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("it is written");
    file.seek(SeekFrom::Start(0)).expect("it is rewound");
    file.set_len(VOLUME).expect("it has room");
    let mut disk = Disk::cached(file.try_clone().expect("a file")).expect("a disk");
    let Ok(mut volume) = Volume::open(&mut disk, 0, VOLUME) else { return };
    if let Ok(entry) = volume.find("bramble.toml") {
        let _ = volume.read(&entry);
        let sector = volume.only_sector(&entry).unwrap_or(0);
        assert!((sector + 1) * SECTOR <= VOLUME, "it lies beyond the volume");
        let _ = volume.replace(&entry, &[b'#'; 3_000]);
        assert!(
            file.metadata().expect("it is there").len() <= VOLUME,
            "it wrote beyond the volume"
        );
    }
}

#[test]
fn damaged_volumes_are_walked_without_panic() {
    let sound = head(&volume(&[("bramble.toml", b"[board]\n")]));
    let strategy = proptest::collection::vec(
        (
            proptest::prop_oneof![
                0..96_usize,
                512..520_usize,
                16_384..16_500_usize,
                0..(1_usize << 20)
            ],
            any::<u8>(),
        ),
        1..12,
    );
    proptest!(|(damage in strategy)| {
        let mut bytes = sound.clone();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        walk(&bytes);
    });
}

proptest! {
    #[test]
    fn any_bytes_are_walked_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 512..4_096)) {
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        walk(&bytes);
        bytes[11..24].copy_from_slice(&[0, 2, 1, 32, 0, 2, 0, 0, 0, 0, 0xf8, 0, 0]);
        walk(&bytes);
        prop_assert!(true);
    }
}

use std::io::{Cursor, Read};

use super::*;

fn volume() -> Volume {
    let mut volume = Volume::new("BRAMBLE-A", 0xb4a4_b1e1, 128);
    volume.file("config.txt", *b"arm_64bit=1\n");
    volume.file("CMDLINE.TXT", Vec::new());
    volume.file("bcm2711-rpi-4-b.dtb", vec![4; 70_000]);
    volume.file("bcm2711-rpi-400.dtb", vec![5; 1]);
    volume.file("kernel8.img", (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect::<Vec<_>>());
    for number in 0..60 {
        volume.file(&format!("overlays/some-overlay-{number}.dtbo"), format!("{number}"));
    }
    volume
}

#[test]
fn another_reader_finds_every_file() {
    let volume = volume();
    let bytes = volume.bytes().unwrap();
    assert_eq!(bytes.len(), 128 * MEBIBYTE);
    let read = fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new()).unwrap();
    assert_eq!(read.fat_type(), fatfs::FatType::Fat32);
    assert_eq!(read.volume_label(), "BRAMBLE-A");
    assert_eq!(read.volume_id(), 0xb4a4_b1e1);
    assert_eq!(read.read_volume_label_from_root_dir().unwrap().unwrap(), "BRAMBLE-A");
    for (path, content) in &volume.files {
        let mut found = Vec::new();
        read.root_dir().open_file(path).unwrap().read_to_end(&mut found).unwrap();
        assert!(found == *content, "{path}");
    }
    let free = read.stats().unwrap().free_clusters();
    assert!(free > 120_000, "{free}");
}

#[test]
fn another_writer_can_change_it() {
    let mut bytes = volume().bytes().unwrap();
    {
        let options = fatfs::FsOptions::new();
        let system = fatfs::FileSystem::new(Cursor::new(&mut bytes), options).unwrap();
        let mut file = system.root_dir().create_file("bramble.toml").unwrap();
        std::io::Write::write_all(&mut file, b"[board]\n").unwrap();
    }
    let system = fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new()).unwrap();
    let mut found = String::new();
    system.root_dir().open_file("bramble.toml").unwrap().read_to_string(&mut found).unwrap();
    assert_eq!(found, "[board]\n");
}

#[test]
fn the_same_files_are_the_same_bytes() {
    assert!(volume().bytes().unwrap() == volume().bytes().unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut volume = Volume::new("BRAMBLE", 1, 64);
    volume.file("large", vec![1; 64 * MEBIBYTE]);
    let error = volume.bytes().unwrap_err().to_string();
    assert_eq!(error, "the files are too large for the 64 MiB of BRAMBLE");
    assert!(Volume::new("SMALL", 1, 16).bytes().is_err());
}

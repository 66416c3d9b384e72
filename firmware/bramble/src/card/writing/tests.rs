//! On loop devices, so as root.

use std::process::Command;

use super::*;
use crate::card::disk::Disks;

/// A disk in a file.
struct Loop {
    path: PathBuf,
    _file: tempfile::NamedTempFile,
}

impl Loop {
    fn new(size: u64, options: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(size).expect("it has room");
        let command = ["--find", "--show"].iter().chain(options);
        let path = run(Command::new("losetup").args(command).arg(file.path()));
        Self { path: path.trim().into(), _file: file }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A card image of so many bytes, as far as `flash` looks.
fn image(length: usize) -> tempfile::NamedTempFile {
    let mut bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
    bytes[440..512].fill(0);
    bytes[450] = 0x0c;
    bytes[454..462].copy_from_slice(&[8, 0, 0, 0, 8, 0, 0, 0]);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("it is written");
    file
}

#[test]
fn an_image_is_written_and_read_back() {
    let disk = Loop::new(40 << 20, &[]);
    let image = image((33 << 20) + 512);
    let facts = Disks::look().and_then(|disks| disks.writable(&disk.path)).expect("it is free");
    assert_eq!(facts.size, 40 << 20);
    let mut steps = Vec::new();
    let opened = Image::open(image.path()).expect("an image");
    let written = write(opened, &disk.path, &facts, |step| steps.push(step)).expect("written");
    assert_eq!(written, (33 << 20) + 512);
    assert_eq!(steps.last(), Some(&Step::ReadBack(written, written)));
    let held = std::fs::read(&disk.path).expect("it is read");
    let expected = std::fs::read(image.path()).expect("it is read");
    assert!(held[..expected.len()] == expected);
}

#[test]
fn a_small_a_mounted_a_swapping_and_a_protected_disk_are_refused() {
    let small = Loop::new(1 << 20, &[]);
    let image = image(2 << 20);
    let look = |path: &Path| Disks::look().and_then(|disks| disks.writable(path));
    let facts = look(&small.path).expect("it is free");
    let opened = Image::open(image.path()).expect("an image");
    let error = write(opened, &small.path, &facts, |_| {}).expect_err("it is too small");
    assert!(error.to_string().contains("too small"), "{error}");

    let protected = Loop::new(4 << 20, &["--read-only"]);
    let error = look(&protected.path).expect_err("it is protected").to_string();
    assert!(error.contains("write-protected"), "{error}");

    let mounted = Loop::new(40 << 20, &[]);
    run(Command::new("mkfs.fat").args(["-F", "32"]).arg(&mounted.path));
    let folder = tempfile::tempdir().expect("a folder");
    let facts = look(&mounted.path).expect("it is free");
    // Not every machine that runs tests can mount FAT; ext4 it can.
    run(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(&mounted.path));
    run(Command::new("mount").arg(&mounted.path).arg(folder.path()));
    let refused = look(&mounted.path);
    let opened = Image::open(image.path()).expect("an image");
    let raced = write(opened, &mounted.path, &facts, |_| {});
    run(Command::new("umount").arg(folder.path()));
    let error = refused.expect_err("it is mounted").to_string();
    assert!(error.contains("is mounted at"), "{error}");
    assert!(matches!(raced, Err(WriteError::Open { .. })), "{raced:?}");
}

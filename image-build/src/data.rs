//! The data partition as a new card has it: an empty ext4 that can grow to 256 GiB while mounted.

use std::{
    fs::{self, File},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{card::MEBIBYTE, tools};

const SIZE: usize = 64 * MEBIBYTE;
/// 1 January 2026: when every card was made.
const MADE_AT: &str = "1767225600";
const OPTIONS: &[&str] = &[
    "-q",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-I",
    "256",
    "-i",
    "16384",
    "-J",
    "size=8",
    // What some versions of mke2fs turn on and others do not.
    "-O",
    "^orphan_file,^metadata_csum_seed",
    "-L",
    "BRAMBLE-DATA",
    "-U",
    "b4a4b1e0-0000-4000-8000-000000000004",
    "-E",
    "hash_seed=b4a4b1e0-0000-4000-8000-000000000005,root_owner=0:0,resize=67108864,lazy_itable_init=1",
];

/// The file system's bytes.
pub(crate) fn empty() -> Result<Vec<u8>> {
    let mke2fs = tools::find("mke2fs", "e2fsprogs")?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = folder.path().join("data.ext4");
    File::create(&path)?.set_len(SIZE as u64)?;
    let made = Command::new(mke2fs)
        .args(OPTIONS)
        .arg(&path)
        .env("E2FSPROGS_FAKE_TIME", MADE_AT)
        .env("SOURCE_DATE_EPOCH", MADE_AT)
        .env("MKE2FS_CONFIG", "/dev/null")
        .output()
        .context("cannot start mke2fs")?;
    if !made.status.success() {
        bail!("mke2fs: {}", String::from_utf8_lossy(&made.stderr).trim());
    }
    fs::read(&path).context("cannot read what mke2fs made")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_bytes_every_time() {
        let first = empty().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(first == empty().unwrap());
        assert_eq!(first[1024 + 0x38..][..2], [0x53, 0xef]);
        assert_eq!(first[1024 + 0x78..][..12], *b"BRAMBLE-DATA");
    }
}

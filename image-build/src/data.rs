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
    "-L",
    "BRAMBLE-DATA",
    "-U",
    "b4a4b1e0-0000-4000-8000-000000000004",
    "-E",
    "hash_seed=b4a4b1e0-0000-4000-8000-000000000005,root_owner=0:0,resize=67108864,lazy_itable_init=1",
];

/// In place of this machine's `/etc/mke2fs.conf`, so that every machine makes the same.
const CONFIGURATION: &str = "\
[defaults]
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
    default_mntopts = acl,user_xattr
    enable_periodic_fsck = 0
[fs_types]
    ext4 = {
        features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
    }
";

/// The file system's bytes.
pub(crate) fn empty() -> Result<Vec<u8>> {
    let mke2fs = tools::find("mke2fs", "e2fsprogs")?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let path = folder.path().join("data.ext4");
    File::create(&path)?.set_len(SIZE as u64)?;
    let configuration = folder.path().join("mke2fs.conf");
    fs::write(&configuration, CONFIGURATION)?;
    let made = Command::new(mke2fs)
        .args(OPTIONS)
        .arg(&path)
        .env("E2FSPROGS_FAKE_TIME", MADE_AT)
        .env("SOURCE_DATE_EPOCH", MADE_AT)
        .env("MKE2FS_CONFIG", &configuration)
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

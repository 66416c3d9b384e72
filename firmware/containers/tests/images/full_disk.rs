//! A disk that is full, or about to be.

use std::{fs, path::Path};

use bramble_cluster::chain;
use bramble_containers::images::Limits;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{
    archives::{Tar, gzip, image, oci, plain},
    scene::open,
};

/// A file system of 8 MiB.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = c"size=8m,nr_inodes=400,mode=700";
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), options)
            .expect("root may mount; run this test as root");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    fn entries(&self) -> usize {
        let folders = ["blobs/sha256", "layers", "incoming", "unpacking", "trash", "partial"];
        folders.iter().map(|name| fs::read_dir(self.path().join(name)).unwrap().count()).sum()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).expect("the disk is unmounted");
    }
}

/// Bytes that no compressor makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    })
    .take(length)
    .collect()
}

#[test]
fn a_full_disk_is_called_so_and_everything_is_cleaned() {
    for reserve_bytes in [0, 1 << 20] {
        let disk = SmallDisk::new();
        let store = open(disk.path(), Limits { reserve_bytes, ..Limits::default() });
        let before = disk.free();
        let small = image(&[Tar::new().file("small", &noise(100_000)).end()], gzip);
        let crowd: Vec<u8> = (0..500).fold(Tar::new(), |tar, n| tar.folder(&n.to_string())).end();
        for archive in [
            // Too large to be set aside.
            oci(&image(&[Tar::new().file("a", &noise(9 << 20)).end()], plain), None),
            // Room for the blob, not for what is in it.
            oci(&image(&[Tar::new().file("a", &noise(5 << 20)).end()], plain), None),
            oci(&image(&[Tar::new().file("a", &[7; 9 << 20]).end()], gzip), None),
            // Room enough, but not for so many files.
            oci(&image(std::slice::from_ref(&crowd), gzip), None),
        ] {
            let error = store.load_from(&archive[..], None, |_| {}).unwrap_err();
            assert!(chain(&error).contains("disk is full"), "{}", chain(&error));
            assert_eq!((disk.entries(), disk.free()), (0, before), "all of it went again");
        }
        let images = store.load_from(&oci(&small, None)[..], None, |_| {}).unwrap();
        assert_eq!(images.len(), 1, "what fits is loaded afterwards");
        assert!(disk.free() >= reserve_bytes);
    }
}

use std::os::unix::fs::symlink;

use super::*;

/// A machine with a system disk `sda` (root on LVM upon LUKS), a stick `sdb`, and a card reader.
fn machine() -> (tempfile::TempDir, Disks) {
    let folder = tempfile::tempdir().expect("a folder");
    let sys = folder.path();
    let put = |path: &str, text: &str| {
        let path = sys.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("it is written");
    };
    put("devices/pci0/sda/dev", "8:0\n");
    put("devices/pci0/sda/size", "1000000\n");
    put("devices/pci0/sda/sda1/dev", "8:1\n");
    put("devices/pci0/sda/sda1/partition", "1\n");
    put("devices/pci0/sda/sda1/holders/dm-0", "");
    put("devices/virtual/dm-0/dev", "254:0\n");
    put("devices/virtual/dm-0/holders/dm-1", "");
    put("devices/virtual/dm-1/dev", "254:1\n");
    put("devices/pci0/usb1/sdb/dev", "8:16\n");
    put("devices/pci0/usb1/sdb/size", "62333952\n");
    put("devices/pci0/usb1/sdb/device/vendor", "ACME    \n");
    put("devices/pci0/usb1/sdb/device/model", "Card Reader\n");
    put("devices/pci0/usb1/sdb/sdb1/dev", "8:17\n");
    put("devices/pci0/usb1/sdb/sdb1/partition", "1\n");
    put("devices/pci0/usb1/sdc/dev", "8:32\n");
    put("devices/pci0/usb1/sdc/size", "0\n");
    put("devices/pci0/mmcblk0/dev", "179:0\n");
    put("devices/pci0/mmcblk0/size", "1000\n");
    put("devices/pci0/mmcblk0/ro", "1\n");
    put("devices/pci0/mmcblk0/device/type", "SD\n");
    fs::create_dir_all(sys.join("block")).expect("a folder");
    for (name, at) in [
        ("sda", "pci0/sda"),
        ("sdb", "pci0/usb1/sdb"),
        ("sdc", "pci0/usb1/sdc"),
        ("mmcblk0", "pci0/mmcblk0"),
        ("dm-0", "virtual/dm-0"),
        ("dm-1", "virtual/dm-1"),
    ] {
        symlink(sys.join("devices").join(at), sys.join("block").join(name)).expect("a link");
    }
    let mountinfo = "\
        22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw\n\
        23 22 0:5 / /proc rw - proc proc rw\n\
        31 22 8:17 / /media/my\\040card rw - vfat /dev/sdb1 rw\n";
    let swaps = vec!["/dev/sdb2".into()];
    let disks = Disks { sys: sys.to_owned(), mounts: mounts(mountinfo), swaps };
    (folder, disks)
}

#[test]
fn the_system_disk_is_known_through_what_is_built_upon_it() {
    let (_folder, disks) = machine();
    let disk = disks.disk("sda");
    assert!(!disk.is_removable);
    let uses: Vec<_> = disk.uses.iter().map(String::as_str).collect();
    assert_eq!(
        uses,
        ["dm-0 is a part of dm-1", "dm-1 holds this machine's system", "sda1 is a part of dm-0"]
    );
}

#[test]
fn candidates_are_removable_and_not_empty() {
    let (_folder, disks) = machine();
    let candidates = disks.candidates();
    let names: Vec<_> = candidates.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["mmcblk0", "sdb"]);
    assert!(candidates[0].is_read_only && candidates[0].uses.is_empty());
    assert_eq!(candidates[1].model, "ACME Card Reader");
    assert_eq!(candidates[1].size, 62_333_952 * 512);
    assert!(candidates[1].uses.contains("sdb1 is mounted at /media/my card"));
}

#[test]
fn what_is_no_disk_is_refused_in_words() {
    let disks = Disks::look().expect("this machine");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = disks.writable(file.path()).expect_err("it is a file").to_string();
    assert!(error.contains("is not a block device"), "{error}");
    let error = disks.writable(Path::new("/dev/null")).expect_err("it is no disk").to_string();
    assert!(error.contains("is not a block device"), "{error}");
    let error = disks.writable(Path::new("/dev/nothing")).expect_err("it is not there");
    assert_eq!(error.to_string(), "cannot look at /dev/nothing");
}

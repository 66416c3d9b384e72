//! The card: the disk that this system lives on.
//!
//! It is found by what is on it, not by its name: the same image boots from a card, a USB disk, an
//! NVMe drive or an emulated disk.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{Places, boot::Findings};

/// Bytes of a sector, as sysfs and the partition table count; whatever the disk's own are.
pub const SECTOR: u64 = 512;
/// The largest window, as a power of two, of a card's image that is compressed with zstd. The second
/// slot repeats the first, 128 MiB later; only a window beyond that sees it.
pub const IMAGE_WINDOW_LOG: u32 = 28;
/// The name of the card's first partition.
const LABEL: &[u8; 11] = b"BRAMBLE    ";
/// How long the card has to appear.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Disks that are looked at, at most.
const DISKS_MAX: usize = 64;
/// Disks that are memory, files or mappings of other disks.
const NO_CARD: &[&str] = &["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"];

/// A disk of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    name: String,
    device: PathBuf,
    folder: PathBuf,
}

/// Where a partition lies on its disk, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first sector.
    pub start: u64,
    /// How many there are.
    pub length: u64,
}

impl Extent {
    /// The sector after the last.
    pub fn end(self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

impl Disk {
    /// The disk with a kernel name such as `mmcblk0`.
    pub fn named(places: &Places, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            device: places.dev.join(name),
            folder: places.sources.sys.join("block").join(name),
        }
    }

    /// Its device file.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The device file of one of its partitions.
    pub fn partition(&self, number: u8) -> PathBuf {
        self.device.with_file_name(self.partition_name(number))
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> Option<u64> {
        number(&self.folder.join("size"))
    }

    /// Whether it refuses to be written: the switch of a card, or a card that has worn out.
    pub fn is_read_only(&self) -> bool {
        number(&self.folder.join("ro")).is_some_and(|value| value != 0)
    }

    /// Where the kernel believes one of its partitions to be.
    pub fn extent(&self, number_of_partition: u8) -> Option<Extent> {
        let folder = self.folder.join(self.partition_name(number_of_partition));
        let start = number(&folder.join("start"))?;
        Some(Extent { start, length: number(&folder.join("size"))? })
    }

    /// The card among this machine's disks. Waits some seconds for it, and calls `meanwhile`
    /// between two looks.
    pub(crate) fn wait_for_card(
        places: &Places,
        findings: &mut Findings,
        meanwhile: &mut dyn FnMut(),
    ) -> Option<Self> {
        let began = Instant::now();
        loop {
            let mut cards = Self::cards(places);
            if !cards.is_empty() {
                let card = cards.remove(0);
                findings.note(card.device.display().to_string());
                for other in cards {
                    findings.problem(format!(
                        "{} is a card of Bramble's too; {} is used, remove one of them",
                        other.device.display(),
                        card.device.display()
                    ));
                }
                return Some(card);
            }
            if began.elapsed() >= PATIENCE {
                findings.problem(
                    "no card was found: no disk's first partition is a FAT named BRAMBLE; the \
                     board runs from memory and forgets everything when it is switched off",
                );
                return None;
            }
            meanwhile();
            thread::sleep(PAUSE);
        }
    }

    /// Every disk that is a card, those of a board's own slot first.
    fn cards(places: &Places) -> Vec<Self> {
        let Ok(folder) = fs::read_dir(places.sources.sys.join("block")) else { return Vec::new() };
        let mut names: Vec<String> = folder
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !NO_CARD.iter().any(|prefix| name.starts_with(prefix)))
            .take(DISKS_MAX)
            .collect();
        // A card reader plugged into a USB port is `sd…`, and the last to be meant.
        names.sort_by_key(|name| (name.starts_with("sd"), name.clone()));
        let disks = names.iter().map(|name| Self::named(places, name));
        disks.filter(|disk| disk.extent(1).is_some() && has_label(&disk.partition(1))).collect()
    }

    /// `mmcblk0` has `mmcblk0p1`, `sda` has `sda1`: the kernel sets a `p` after a digit.
    fn partition_name(&self, number: u8) -> String {
        let separator =
            if self.name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
        format!("{}{separator}{number}", self.name)
    }
}

/// Whether a partition is a FAT file system with the card's label.
fn has_label(partition: &Path) -> bool {
    let mut sector = [0; 512];
    let read = File::open(partition).and_then(|mut file| file.read_exact(&mut sector));
    read.is_ok() && is_labelled(&sector)
}

/// Looks at a FAT's first sector: the label lies elsewhere on FAT32 than on FAT16.
fn is_labelled(sector: &[u8; 512]) -> bool {
    let is_boot_sector = sector[510..] == [0x55, 0xaa];
    let fat32 = sector[82..87] == *b"FAT32" && sector[71..82] == *LABEL;
    let fat16 = sector[54..57] == *b"FAT" && sector[43..54] == *LABEL;
    is_boot_sector && (fat32 || fat16)
}

/// The number that a file of sysfs says.
pub(crate) fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sources;

    fn boot_sector(label: &[u8; 11], is_fat32: bool) -> [u8; 512] {
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        let (at, kind, name) = if is_fat32 { (71, 82, "FAT32") } else { (43, 54, "FAT16") };
        sector[at..at + 11].copy_from_slice(label);
        sector[kind..kind + 5].copy_from_slice(name.as_bytes());
        sector
    }

    /// A machine with disks, given by name, partition name, and label of the first partition.
    fn machine(disks: &[(&str, &str, &[u8; 11])]) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        let places = Places {
            sources: Sources { sys: root.path().join("sys"), ..Sources::default() },
            dev: root.path().join("dev"),
            ..Places::default()
        };
        fs::create_dir_all(&places.dev).unwrap();
        for (name, partition, label) in disks {
            let folder = places.sources.sys.join("block").join(name);
            fs::create_dir_all(folder.join(partition)).unwrap();
            fs::write(folder.join("size"), "794624\n").unwrap();
            fs::write(folder.join("ro"), "0\n").unwrap();
            fs::write(folder.join(partition).join("start"), "8192\n").unwrap();
            fs::write(folder.join(partition).join("size"), "131072\n").unwrap();
            fs::write(places.dev.join(partition), boot_sector(label, true)).unwrap();
        }
        (root, places)
    }

    #[test]
    fn the_label_is_found_on_both_kinds_of_fat() {
        assert!(is_labelled(&boot_sector(LABEL, true)));
        assert!(is_labelled(&boot_sector(LABEL, false)));
        assert!(!is_labelled(&boot_sector(b"BRAMBLE-A  ", true)));
        assert!(!is_labelled(&[0; 512]));
    }

    #[test]
    fn the_card_is_the_disk_with_the_label() {
        let (_root, places) = machine(&[
            ("loop0", "loop0p1", LABEL),
            ("mmcblk0", "mmcblk0p1", LABEL),
            ("vda", "vda1", b"EFI        "),
        ]);
        let mut findings = Findings::default();
        let card = Disk::wait_for_card(&places, &mut findings, &mut || {}).unwrap();
        assert_eq!(card.device(), places.dev.join("mmcblk0"));
        assert_eq!(card.partition(4), places.dev.join("mmcblk0p4"));
        assert_eq!(card.extent(1), Some(Extent { start: 8192, length: 131_072 }));
        assert_eq!(card.extent(4), None);
        assert_eq!(card.sectors(), Some(794_624));
        assert!(!card.is_read_only());
        assert_eq!(findings.problems, Vec::<String>::new());
    }

    #[test]
    fn of_two_cards_the_one_that_was_flashed_in_a_reader_waits() {
        let (_root, places) = machine(&[("sda", "sda1", LABEL), ("vda", "vda1", LABEL)]);
        let mut findings = Findings::default();
        let card = Disk::wait_for_card(&places, &mut findings, &mut || {}).unwrap();
        assert_eq!(card.partition(4), places.dev.join("vda4"));
        assert!(findings.problems[0].contains("sda is a card of Bramble's too"));
    }
}

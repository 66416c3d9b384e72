//! The data partition: found, grown, formatted, checked and repaired.
//!
//! [`open`] is level-triggered: it looks at what is there and does what is missing, so that a board
//! whose power went at any point of it goes on at the next start. What cannot be mended ends in a
//! `/data` of memory and a problem, never in a board that does not boot.

mod check;
mod format;
mod mbr;
mod reserve;
mod superblock;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bramble_cluster::chain;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};

pub use self::format::{FormatError, format};
use self::{
    check::{REPAIRS, Repair},
    mbr::{Placement, Table},
    superblock::Superblock,
};
use crate::{
    Places,
    boot::Findings,
    disk::{Disk, Extent, SECTOR},
    ioctl::{self, PartitionChange},
};

/// The partition's number.
const PARTITION: u8 = 4;
/// The image's empty file system.
const TEMPLATE: &str = "data.ext4.gz";
/// What of a partition is looked at to tell a new one from a broken one.
const BLANK_BYTES: usize = 64 * 1024;
/// Set-user-id programs work: containers' files are here. Device files do not: theirs are on memory.
const FLAGS: MsFlags = MsFlags::MS_NOATIME.union(MsFlags::MS_NODEV);
const OPTIONS: &str = "data=ordered,errors=remount-ro";
/// A growth to 32 GiB would otherwise write 500 MiB of zeros in the hours after, for inodes that
/// nobody needs.
const LAZY: &str = "noinit_itable";
/// While it grows this must not hold, or those zeros are written there and then.
const GROWING: &str = "init_itable";
/// Less than this, in thousandths of the partition, is nearly full.
const NEARLY_FULL: u64 = 20;

/// The card's data cannot be used.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("the card is write-protected or worn out: {} refuses to be written", device.display())]
    ReadOnly { device: PathBuf },
    #[error("{} cannot be {what}", device.display())]
    Disk {
        device: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{} has no partition table of Bramble's; flash the card again", device.display())]
    NoTable { device: PathBuf },
    #[error("{0}")]
    Impossible(String),
    #[error("the kernel does not see the data partition of {}", device.display())]
    Partition {
        device: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the data partition cannot be formatted")]
    Format(#[source] FormatError),
    #[error("{} was formatted and cannot be mounted even so", partition.display())]
    Mount {
        partition: PathBuf,
        #[source]
        source: Errno,
    },
}

/// Mounts the card's data partition, and makes it one first if it is none. Calls `pulse` while
/// something takes long. Says whether there is memory in its place.
pub fn open(
    places: &Places,
    disk: Option<&Disk>,
    findings: &mut Findings,
    pulse: &mut dyn FnMut(),
) -> bool {
    let mut opening = Opening { places, findings, pulse, notes: Vec::new() };
    let is_temporary = match disk.map(|disk| opening.open(disk)) {
        Some(Ok(())) => false,
        // That there is no card, finding it has said.
        None => true,
        Some(Err(error)) => {
            opening.findings.problem(format!(
                "{}; the board keeps its data in memory and forgets it when it is switched off",
                chain(&error)
            ));
            true
        }
    };
    let note = opening.notes.join(", ");
    if is_temporary {
        findings.note("in memory");
        mount_memory(places, findings);
    } else {
        findings.note(note);
        tell_if_full(&places.data, findings);
    }
    if let Err(error) = fs::create_dir_all(places.bramble()) {
        findings.problem(format!("{} cannot be made: {error}", places.bramble().display()));
    }
    if !is_temporary {
        reserve::keep(&places.bramble());
    }
    is_temporary
}

struct Opening<'a> {
    places: &'a Places,
    findings: &'a mut Findings,
    pulse: &'a mut dyn FnMut(),
    notes: Vec<String>,
}

impl Opening<'_> {
    fn open(&mut self, disk: &Disk) -> Result<(), OpenError> {
        if disk.is_read_only() {
            return Err(OpenError::ReadOnly { device: disk.device().to_owned() });
        }
        let is_new = self.place(disk)?;
        let partition = disk.partition(PARTITION);
        let superblock = if is_new {
            self.findings
                .problem("the card had no data partition: it has a new one, which is empty");
            self.format(&partition)?;
            None
        } else {
            self.look(&partition)?
        };
        self.mount(&partition, superblock)?;
        self.grow(disk, &partition);
        Ok(())
    }

    /// Makes the table on the disk and the kernel's idea of it right. Says whether the partition
    /// was made, so that what it holds is nothing.
    fn place(&mut self, disk: &Disk) -> Result<bool, OpenError> {
        let device = disk.device();
        let failed =
            |what| move |source| OpenError::Disk { device: device.to_owned(), what, source };
        let file =
            OpenOptions::new().read(true).write(true).open(device).map_err(failed("opened"))?;
        let mut sector = [0; mbr::BYTES];
        file.read_exact_at(&mut sector, 0).map_err(failed("read"))?;
        let table =
            Table::parse(sector).ok_or_else(|| OpenError::NoTable { device: device.to_owned() })?;
        let (extent, is_right, is_new) = match table.place_data(disk.sectors().unwrap_or_default())
        {
            Placement::Keep(extent) => (extent, true, false),
            Placement::Grow(extent) => (extent, false, false),
            Placement::Create(extent) => (extent, false, true),
            Placement::Impossible(reason) => return Err(OpenError::Impossible(reason)),
        };
        if let Some(wanted) = table.with_data(extent).filter(|_| !is_right) {
            file.write_all_at(wanted.sector(), 0).map_err(failed("written"))?;
            file.sync_all().map_err(failed("written"))?;
        }
        tell_kernel(disk, &file, extent)
            .map_err(|source| OpenError::Partition { device: device.to_owned(), source })?;
        Ok(is_new)
    }

    /// What is on the partition: a file system, or nothing that looks like one. A partition that is
    /// blank is formatted at once.
    fn look(&mut self, partition: &Path) -> Result<Option<Superblock>, OpenError> {
        let mut bytes = vec![0; BLANK_BYTES];
        let read = File::open(partition).and_then(|file| file.read_exact_at(&mut bytes, 0));
        read.map_err(|source| OpenError::Disk {
            device: partition.to_owned(),
            what: "read",
            source,
        })?;
        if bytes.iter().all(|byte| *byte == 0) {
            self.format(partition)?;
        }
        Ok(read_superblock(partition))
    }

    fn format(&mut self, partition: &Path) -> Result<(), OpenError> {
        self.notes.push("formatted".to_owned());
        format(&self.places.image.join(TEMPLATE), partition, self.pulse).map_err(OpenError::Format)
    }

    /// Mounts the partition; repairs it if it does not mount or says that it has errors; formats it
    /// if that did not help.
    fn mount(&mut self, partition: &Path, superblock: Option<Superblock>) -> Result<(), OpenError> {
        let is_suspect = superblock.is_some_and(|superblock| superblock.has_errors);
        let failed = if is_suspect {
            "it had errors".to_owned()
        } else {
            match mount_data(partition, &self.places.data) {
                Ok(()) => return Ok(()),
                Err(error) => format!("it could not be mounted: {error}"),
            }
        };
        for how in REPAIRS {
            (self.pulse)();
            let repaired = check::repair(&self.places.checker, partition, how, self.pulse);
            let outcome = match repaired {
                Ok(()) => {
                    mount_data(partition, &self.places.data).map_err(|error| error.to_string())
                }
                Err(error) => Err(chain(&error)),
            };
            match outcome {
                Ok(()) => {
                    self.notes.push("repaired".to_owned());
                    self.tell_of_repair(&failed, how);
                    return Ok(());
                }
                Err(error) => {
                    crate::boot::say(&format!("repair of {}: {error}", partition.display()))
                }
            }
        }
        self.format(partition)?;
        self.findings.problem(format!(
            "the data partition {} was beyond repair ({failed}) and was formatted: what this board \
             kept is lost, and it joins its cluster as a new one; consider another card",
            partition.display()
        ));
        mount_data(partition, &self.places.data)
            .map_err(|source| OpenError::Mount { partition: partition.to_owned(), source })
    }

    fn tell_of_repair(&mut self, failed: &str, how: Repair) {
        let loss = match how {
            Repair::Preen => "nothing should be lost",
            Repair::Whole | Repair::FromCopy => "files may be missing or in /data/lost+found",
        };
        self.findings.problem(format!(
            "the data file system was repaired ({failed}): {loss}; if it happens again, replace \
             the card"
        ));
    }

    /// Grows the mounted file system to its partition. A failure costs space alone.
    fn grow(&mut self, disk: &Disk, partition: &Path) {
        let Some(extent) = disk.extent(PARTITION) else { return };
        let Some(superblock) = read_superblock(partition) else { return };
        let Some(blocks) = superblock.growth(extent.length.saturating_mul(SECTOR)) else { return };
        (self.pulse)();
        let grown = grow_mounted(&self.places.data, blocks);
        match grown {
            Ok(()) => {
                let mebibytes = blocks.saturating_mul(superblock.block_bytes) >> 20;
                self.notes.push(format!("grown to {mebibytes} MiB"));
            }
            Err(error) => self
                .findings
                .problem(format!("the data file system stays smaller than its partition: {error}")),
        }
        (self.pulse)();
    }
}

/// Makes the kernel's idea of the data partition that of the table.
fn tell_kernel(disk: &Disk, file: &File, wanted: Extent) -> io::Result<()> {
    let Some(known) = disk.extent(PARTITION) else {
        return ioctl::change_partition(file, PartitionChange::Add, PARTITION, wanted);
    };
    if known == wanted {
        return Ok(());
    }
    if known.start == wanted.start {
        return ioctl::change_partition(file, PartitionChange::Resize, PARTITION, wanted);
    }
    ioctl::change_partition(file, PartitionChange::Remove, PARTITION, known)?;
    ioctl::change_partition(file, PartitionChange::Add, PARTITION, wanted)
}

fn read_superblock(partition: &Path) -> Option<Superblock> {
    let mut bytes = [0; superblock::BYTES];
    File::open(partition).ok()?.read_exact_at(&mut bytes, superblock::OFFSET).ok()?;
    Superblock::parse(&bytes)
}

fn grow_mounted(folder: &Path, blocks: u64) -> io::Result<()> {
    let remount = |option| {
        let flags = FLAGS | MsFlags::MS_REMOUNT;
        mount(None::<&str>, folder, None::<&str>, flags, Some(option))
    };
    remount(GROWING)?;
    let grown = File::open(folder).and_then(|root| ioctl::resize_ext4(root, blocks));
    remount(LAZY)?;
    grown
}

fn mount_data(partition: &Path, folder: &Path) -> Result<(), Errno> {
    // The mount says it if the folder cannot be made.
    let _ = fs::create_dir_all(folder);
    let options = format!("{OPTIONS},{LAZY}");
    mount(Some(partition), folder, Some("ext4"), FLAGS, Some(options.as_str()))
}

fn mount_memory(places: &Places, findings: &mut Findings) {
    let _ = fs::create_dir_all(&places.data);
    let mounted =
        mount(Some("tmpfs"), &places.data, Some("tmpfs"), FLAGS, Some("mode=0755,size=50%"));
    if let Err(error) = mounted {
        findings.problem(format!("{} cannot be memory: {error}", places.data.display()));
    }
}

fn tell_if_full(folder: &Path, findings: &mut Findings) {
    let Ok(space) = rustix::fs::statvfs(folder) else { return };
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    if let Some(problem) = fullness(bytes(space.f_bavail), bytes(space.f_blocks)) {
        findings.problem(problem);
    }
}

/// A problem, if there is little left of a file system.
fn fullness(free: u64, total: u64) -> Option<String> {
    let permille = free.saturating_mul(1000).checked_div(total)?;
    let (free, total) = (free >> 20, total >> 20);
    (permille < NEARLY_FULL).then(|| {
        format!(
            "the data partition is full: {free} of {total} MiB are left; remove images, volumes \
             or containers"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_left_is_a_problem() {
        assert_eq!(fullness(1 << 30, 32 << 30), None);
        assert_eq!(fullness(0, 0), None);
        let problem = fullness(100 << 20, 32 << 30).unwrap();
        assert!(problem.contains("100 of 32768 MiB"), "{problem}");
    }
}

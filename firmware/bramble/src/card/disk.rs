//! The disks of this machine, and what speaks against writing to one.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// Layers of mappings (LVM upon LUKS upon RAID ...) that are looked through.
const LAYERS_MAX: usize = 8;
/// Bytes of what sysfs calls a sector, whatever the disk's own are.
const SECTOR: u64 = 512;

/// The disks of a machine, as the kernel tells of them.
#[derive(Debug)]
pub(crate) struct Disks {
    /// `/sys`
    sys: PathBuf,
    /// What is mounted: the device's number (`8:1`), its name, and where.
    mounts: Vec<Mount>,
    /// The devices with swap in use.
    swaps: Vec<PathBuf>,
}

#[derive(Debug)]
struct Mount {
    device: String,
    source: PathBuf,
    at: String,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Its name: `sda`, `mmcblk0`.
    pub(crate) name: String,
    /// What its maker calls it.
    pub(crate) model: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Whether it may be taken out: a card, a stick, anything by USB.
    pub(crate) is_removable: bool,
    /// Whether it is write-protected.
    pub(crate) is_read_only: bool,
    /// What uses it.
    pub(crate) uses: BTreeSet<String>,
}

/// A device must not be written to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusedError {
    /// It cannot be looked at.
    #[error("cannot look at {path}")]
    Look {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no disk.
    #[error("{path} is not a block device: give a disk, as /dev/sdX; `bramble flash` lists them")]
    NoDevice {
        /// Which.
        path: PathBuf,
    },
    /// It is a part of a disk.
    #[error("{path} is a partition: give the whole disk, /dev/{disk}")]
    Partition {
        /// Which.
        path: PathBuf,
        /// The disk it is on.
        disk: String,
    },
    /// It is in use.
    #[error("{path} is in use and was left alone: {uses}")]
    InUse {
        /// Which.
        path: PathBuf,
        /// By what.
        uses: String,
    },
    /// It is write-protected.
    #[error("{path} is write-protected: look for a small switch on the card or its adapter")]
    ReadOnly {
        /// Which.
        path: PathBuf,
    },
}

impl Disks {
    /// Looks at this machine.
    pub(crate) fn look() -> Result<Self, RefusedError> {
        let read = |path: &str| {
            let failed = |source| RefusedError::Look { path: path.into(), source };
            fs::read_to_string(path).map_err(failed)
        };
        // A kernel without swap has no such file.
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        Ok(Self {
            sys: "/sys".into(),
            mounts: mounts(&read("/proc/self/mountinfo")?),
            swaps: swaps
                .lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().next())
                .map(PathBuf::from)
                .collect(),
        })
    }

    /// Disks that a card could be: removable and not empty.
    pub(crate) fn candidates(&self) -> Vec<Disk> {
        let mut names: Vec<String> = entries(&self.sys.join("block"));
        names.sort();
        let disks = names.iter().map(|name| self.disk(name));
        disks.filter(|disk| disk.is_removable && disk.size > 0).collect()
    }

    /// The disk behind a device, if it may be written to.
    pub(crate) fn writable(&self, path: &Path) -> Result<Disk, RefusedError> {
        let look = |source| RefusedError::Look { path: path.to_owned(), source };
        let metadata = path.metadata().map_err(look)?;
        if !metadata.file_type().is_block_device() {
            return Err(RefusedError::NoDevice { path: path.to_owned() });
        }
        let number = number(metadata.rdev());
        let place = self.sys.join("dev/block").join(&number).canonicalize().map_err(look)?;
        let name = file_name(&place);
        if place.join("partition").exists() {
            let disk = place.parent().map(file_name).unwrap_or_default();
            return Err(RefusedError::Partition { path: path.to_owned(), disk });
        }
        let disk = self.disk(&name);
        if !disk.uses.is_empty() {
            let uses: Vec<_> = disk.uses.into_iter().collect();
            return Err(RefusedError::InUse { path: path.to_owned(), uses: uses.join("; ") });
        }
        if disk.is_read_only {
            return Err(RefusedError::ReadOnly { path: path.to_owned() });
        }
        Ok(disk)
    }

    fn disk(&self, name: &str) -> Disk {
        let place = self.sys.join("block").join(name);
        let text = |file: &str| {
            let text = fs::read_to_string(place.join(file)).unwrap_or_default();
            text.trim().to_owned()
        };
        let words = ["device/vendor", "device/model", "device/name"].map(text);
        let model = words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>();
        let bus = place.canonicalize().unwrap_or_default();
        let is_by_usb =
            bus.components().any(|part| part.as_os_str().to_string_lossy().starts_with("usb"));
        let is_card = text("device/type") == "SD";
        Disk {
            name: name.to_owned(),
            model: model.join(" "),
            size: text("size").parse::<u64>().unwrap_or(0).saturating_mul(SECTOR),
            is_removable: text("removable") == "1" || is_by_usb || is_card,
            is_read_only: text("ro") == "1",
            uses: self.uses(&place, LAYERS_MAX),
        }
    }

    /// What uses a disk or a partition, by itself or through what is built upon it.
    fn uses(&self, place: &Path, layers: usize) -> BTreeSet<String> {
        let name = file_name(place);
        let device = fs::read_to_string(place.join("dev")).unwrap_or_default();
        let path = Path::new("/dev").join(&name);
        let is_same = |other: &Path| {
            let rdev = other.metadata().ok().filter(|other| other.file_type().is_block_device());
            other == path || rdev.is_some_and(|other| number(other.rdev()) == device.trim())
        };
        let mut uses = BTreeSet::new();
        for mount in &self.mounts {
            if mount.device == device.trim() || is_same(&mount.source) {
                uses.insert(match mount.at.as_str() {
                    "/" => format!("{name} holds this machine's system"),
                    at => format!("{name} is mounted at {at}"),
                });
            }
        }
        if self.swaps.iter().any(|swap| is_same(swap)) {
            uses.insert(format!("{name} is swap space"));
        }
        if layers == 0 {
            return uses;
        }
        for holder in entries(&place.join("holders")) {
            uses.insert(format!("{name} is a part of {holder}"));
            uses.extend(self.uses(&self.sys.join("block").join(holder), layers - 1));
        }
        for part in entries(place) {
            if place.join(&part).join("partition").exists() {
                uses.extend(self.uses(&place.join(part), layers - 1));
            }
        }
        uses
    }
}

/// The mounts that `/proc/self/mountinfo` tells of.
fn mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let (device, at) = (before.next()?, before.nth(1)?);
        let source = after.split(' ').nth(1)?;
        Some(Mount {
            device: device.to_owned(),
            source: unescaped(source).into(),
            at: unescaped(at),
        })
    };
    text.lines().filter_map(mount).collect()
}

/// A field without the kernel's `\040` for a blank.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(field.to_owned(), |field, (code, letter)| field.replace(code, letter))
}

fn number(rdev: u64) -> String {
    format!("{}:{}", nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev))
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;

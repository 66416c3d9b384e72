//! From an order to the image of a card.

mod slot;
mod start;

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

use crate::{
    Order, card::Card, data, firmware, hardware, initramfs, keys, kind::Kind, modules::Modules,
    output, packages, packages::Lock,
};

/// The names and serial numbers of a card's file systems.
const LABEL_A: (&str, u32) = ("BRAMBLE-A", 0xb4a4_b1e1);
const LABEL_B: (&str, u32) = ("BRAMBLE-B", 0xb4a4_b1e2);
/// An update may go to either slot, so its image names neither.
const LABEL_UPDATE: (&str, u32) = ("BRAMBLE-OS", 0xb4a4_b1e3);

/// A line of the table of what an image holds.
struct Line {
    what: String,
    bytes: usize,
}

/// Builds what `order` asks for and prints what is in it.
pub(crate) fn build(order: &Order) -> Result<()> {
    let kind = order.board;
    order.files().try_for_each(output::probe)?;
    let key = order.sign.as_deref().map(keys::read_secret).transpose()?;
    let lock = Lock::read()?;
    let names = packages_of(kind);
    let locked =
        names.iter().map(|name| lock.find(name, kind.debian_arch())).collect::<Result<Vec<_>>>()?;
    let tree = packages::unpack(&locked)?;
    let licences: Vec<String> = locked
        .iter()
        .map(|locked| locked.name.clone())
        .filter(|name| !name.starts_with("linux-base") && !name.starts_with("linux-binary"))
        .collect();

    let binary = match &order.firmware {
        Some(path) => path.clone(),
        None => firmware::build(kind.arch(), &order.profile)?,
    };
    let binary = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let modules = Modules::new(&tree)?;
    let folder = crate::root().join("hardware");
    let boards = hardware::boards(&folder, kind.boards())?;
    let features = hardware::features(&folder)?;
    let data = data::empty()?;
    let (archive, weights) = initramfs::build(&initramfs::Ingredients {
        packages: &tree,
        modules: &modules,
        boards: boards.values().collect(),
        features: features.values().filter(|feature| feature.is_for(&kind.to_string())).collect(),
        binary: &binary,
        version: &order.version,
        data: &gzip(&data)?,
        trust: &trust(order)?,
        licences: &licences,
    })?;
    let initramfs_bytes = archive.len();
    let slot = slot::Slot {
        kind,
        packages: &tree,
        modules: &modules,
        boards: boards.values().collect(),
        initramfs: archive,
        version: &order.version,
        licences: &locked,
    };
    let slot = slot.volume(LABEL_A.0, LABEL_A.1)?;

    let mut lines = vec![
        Line { what: format!("firmware {}", order.version), bytes: binary.len() },
        Line { what: format!("{} kernel modules", weights.modules), bytes: weights.module_bytes },
        Line { what: "firmware of radios".to_owned(), bytes: weights.firmware_bytes },
        Line { what: "initramfs with all of that".to_owned(), bytes: initramfs_bytes },
    ];
    lines.extend(slot.files().map(|(path, bytes)| Line { what: format!("slot: {path}"), bytes }));
    println!("{kind}: Linux {}, {} boards", modules.release, boards.len());
    print(&lines);

    if let Some(path) = &order.slot {
        output::plain(path, &slot.renamed(LABEL_UPDATE.0, LABEL_UPDATE.1).bytes()?, key.as_ref())?;
    }
    if let Some(path) = &order.out {
        let card = Card {
            boot: start::volume(kind, &tree)?.bytes()?,
            slot_a: slot.bytes()?,
            slot_b: slot.renamed(LABEL_B.0, LABEL_B.1).bytes()?,
            data,
        };
        match order.raw {
            true => output::raw(path, &card)?,
            false => output::card(path, &card, kind, key.as_ref())?,
        }
    }
    Ok(())
}

/// The packages whose files an image has.
fn packages_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Rpi => &[
            "linux-base",
            "linux-binary",
            "linux-modules",
            "e2fsck-static",
            "raspi-firmware",
            "firmware-brcm80211",
            "wireless-regdb",
        ],
        Kind::QemuArm64 | Kind::QemuX86 => {
            &["linux-base", "linux-binary", "linux-modules", "e2fsck-static"]
        }
    }
}

fn trust(order: &Order) -> Result<Vec<(String, Vec<u8>)>> {
    let read = |path: &std::path::PathBuf| {
        let key = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((format!("{name}.pub"), key))
    };
    order.trust.iter().map(read).collect()
}

/// Compressed, with no time and no name in it.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn print(lines: &[Line]) {
    let width = lines.iter().map(|line| line.what.len()).max().unwrap_or_default();
    for line in lines {
        println!("  {:width$}  {:>10}", line.what, size(line.bytes as u64));
    }
}

/// As people read sizes.
pub(crate) fn size(bytes: u64) -> String {
    const STEP: u64 = 1000;
    if bytes < STEP {
        return format!("{bytes} B");
    }
    if bytes < STEP * STEP {
        return format!("{}.{} kB", bytes / STEP, bytes % STEP / 100);
    }
    format!("{}.{} MB", bytes / (STEP * STEP), bytes % (STEP * STEP) / (STEP * STEP / 10))
}

/// The last part of a path, as it is printed.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(12_345), "12.3 kB");
        assert_eq!(size(45_678_901), "45.6 MB");
    }

    #[test]
    fn compressed_bytes_depend_on_nothing_else() {
        let first = gzip(b"the same").unwrap();
        assert_eq!(first, gzip(b"the same").unwrap());
        assert_eq!(first[4..8], [0; 4], "no time");
    }
}

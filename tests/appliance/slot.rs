//! What a board's own firmware does before the kernel runs: finds the active slot on the card and
//! takes kernel, initial file system and command line from it.

use std::path::{Path, PathBuf};

use crate::card::{Card, SETTINGS};

/// What QEMU is told to start.
#[derive(Debug, Clone)]
pub struct Start {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub command_line: String,
    pub device_tree: Option<PathBuf>,
}

/// Reads the slot that `autoboot.txt` names and unpacks what is needed into `folder`.
pub fn read(card: &Card, device_tree: Option<&str>, folder: &Path) -> Start {
    let autoboot = text_of(card, SETTINGS, "autoboot.txt");
    let partition = partition_to_boot(&autoboot)
        .unwrap_or_else(|| panic!("autoboot.txt names no partition to boot:\n{autoboot}"));
    let config = text_of(card, partition, "config.txt");
    let kernel = value(&config, "kernel=").unwrap_or("kernel8.img").to_owned();
    let initramfs = value(&config, "initramfs ").and_then(|rest| rest.split_whitespace().next());
    let initramfs = initramfs.expect("config.txt names an initramfs").to_owned();
    let slot = if partition == 2 { "a" } else { "b" };
    let words = text_of(card, partition, "cmdline.txt");
    let extract = |name: &str| {
        let path = folder.join(name);
        card.extract(partition, name, &path);
        path
    };
    Start {
        kernel: extract(&kernel),
        initramfs: extract(&initramfs),
        command_line: format!("{} bramble.slot={slot}", words.trim()),
        device_tree: device_tree.map(extract),
    }
}

/// The `boot_partition` of the section for all, which stands before any other section counts.
fn partition_to_boot(autoboot: &str) -> Option<u8> {
    let mut is_for_all = true;
    for line in autoboot.lines().map(str::trim) {
        if line.starts_with('[') {
            is_for_all = line == "[all]";
        } else if let Some(number) = line.strip_prefix("boot_partition=").filter(|_| is_for_all) {
            return number.parse().ok();
        }
    }
    None
}

fn value<'text>(config: &'text str, key: &str) -> Option<&'text str> {
    config.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim)
}

fn text_of(card: &Card, partition: u8, name: &str) -> String {
    let bytes = card.read_file(partition, name);
    let bytes = bytes.unwrap_or_else(|| panic!("partition {partition} has no {name}"));
    String::from_utf8(bytes).unwrap_or_else(|_| panic!("{name} is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_for_all_is_booted() {
        let text = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n\n\n";
        assert_eq!(partition_to_boot(text), Some(2));
        assert_eq!(partition_to_boot("[tryboot]\nboot_partition=3\n"), None);
        assert_eq!(
            value("arm_64bit=1\ninitramfs bramble.cpio followkernel\n", "initramfs "),
            Some("bramble.cpio followkernel")
        );
    }
}

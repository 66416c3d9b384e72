//! Compressed memory to swap to: a board of 512 MiB runs what needs 700, and no card is worn.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
};

use crate::{Places, board::kibibytes, boot::Findings, disk::number, ioctl, modules::Modules};

/// The first compressed disk; its module makes it.
const NAME: &str = "zram0";
/// What compresses well and quickly enough, best first.
const ALGORITHMS: &[&str] = &["zstd", "lz4", "lzo-rle", "lzo"];
/// Before any other swap there may be.
const PRIORITY: u16 = 100;
/// Where the header of a swap area begins; before it is room for a boot loader.
const HEADER: usize = 1024;
const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";

/// Makes half of the memory's size of compressed swap.
pub(crate) fn swap_to_memory(places: &Places, modules: &Modules, findings: &mut Findings) {
    let block = places.sources.sys.join("block").join(NAME);
    if !block.exists() && modules.load("zram").is_err() {
        // A kernel without it; the board has less memory to give, and nothing is wrong with it.
        return;
    }
    match swap_on(places) {
        Ok(bytes) => findings.note(format!("{} MiB of compressed swap", bytes >> 20)),
        Err(error) => findings.problem(format!("there is no compressed swap: {error}")),
    }
}

fn swap_on(places: &Places) -> io::Result<u64> {
    let block = places.sources.sys.join("block").join(NAME);
    if number(&block.join("disksize")).is_some_and(|size| size != 0) {
        return Err(io::Error::other("somebody uses it already"));
    }
    let meminfo = fs::read_to_string(places.sources.proc.join("meminfo"))?;
    let total = kibibytes(&meminfo, "MemTotal:").ok_or(io::ErrorKind::InvalidData)?;
    let page = rustix::param::page_size();
    let bytes = size_of_swap(total, page);
    let offered = fs::read_to_string(block.join("comp_algorithm")).unwrap_or_default();
    if let Some(algorithm) = best_algorithm(&offered) {
        fs::write(block.join("comp_algorithm"), algorithm)?;
    }
    fs::write(block.join("disksize"), bytes.to_string())?;
    let device = places.dev.join(NAME);
    let header = swap_header(bytes, page).ok_or(io::ErrorKind::InvalidInput)?;
    OpenOptions::new().write(true).open(&device)?.write_all_at(&header, 0)?;
    ioctl::swap_on(&device, PRIORITY)?;
    Ok(bytes)
}

/// Half of the memory, in whole pages.
fn size_of_swap(memory: u64, page: usize) -> u64 {
    let page = u64::try_from(page).unwrap_or(4096).max(1);
    memory / 2 / page * page
}

/// `lzo [lzo-rle] zstd`: what the kernel has, in brackets what it would take.
fn best_algorithm(offered: &str) -> Option<&'static str> {
    let has = |name: &str| {
        offered.split_ascii_whitespace().any(|word| word.trim_matches(['[', ']']) == name)
    };
    ALGORITHMS.iter().copied().find(|name| has(name))
}

/// What `mkswap` writes: the first page of a swap area (`union swap_header` of linux/swap.h).
fn swap_header(bytes: u64, page: usize) -> Option<Vec<u8>> {
    let pages = u32::try_from(bytes / u64::try_from(page).ok()?).ok()?;
    let last_page = pages.checked_sub(1)?;
    let mut header = vec![0; page];
    header.get_mut(HEADER..HEADER + 4)?.copy_from_slice(&1_u32.to_ne_bytes());
    header.get_mut(HEADER + 4..HEADER + 8)?.copy_from_slice(&last_page.to_ne_bytes());
    let end = page.checked_sub(SIGNATURE.len())?;
    header.get_mut(end..)?.copy_from_slice(SIGNATURE);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_algorithm_there_is_is_taken() {
        assert_eq!(best_algorithm("lzo [lzo-rle] lz4 zstd \n"), Some("zstd"));
        assert_eq!(best_algorithm("lzo [lzo-rle]"), Some("lzo-rle"));
        assert_eq!(best_algorithm("deflate"), None);
    }

    #[test]
    fn the_header_is_as_mkswap_writes_it() {
        let header = swap_header(1 << 20, 4096).unwrap();
        assert_eq!(header.len(), 4096);
        assert_eq!(header[1024..1032], [1_u32.to_ne_bytes(), 255_u32.to_ne_bytes()].concat());
        assert_eq!(&header[4086..], SIGNATURE);
        assert!(swap_header(0, 4096).is_none());
        assert!(swap_header(1 << 20, 16).is_none());
    }

    #[test]
    fn half_of_memory_is_whole_pages() {
        assert_eq!(size_of_swap(1_000_000_001, 4096), 499_998_720);
        assert_eq!(size_of_swap(1 << 30, 16_384), 1 << 29);
    }
}

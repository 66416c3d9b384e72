//! Names in a FAT folder: each has a short form of 8 and 3 letters, and entries with the long form
//! before it where the short one does not say it all.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

/// Letters that one entry of a long name holds.
const LETTERS: usize = 13;
const LONG: u8 = 0x0f;

/// Short names that a folder has already.
#[derive(Debug, Default)]
pub(super) struct Numbers(BTreeSet<[u8; 11]>);

/// The label of a volume, as entry and boot sector have it.
pub(super) fn label(label: &str) -> [u8; 11] {
    let mut padded = [b' '; 11];
    for (to, from) in padded.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    padded
}

/// The short form of `name` and the entries that stand before it.
pub(super) fn entries(name: &str, numbers: &mut Numbers) -> Result<([u8; 11], Vec<[u8; 32]>)> {
    if name.is_empty() || name.len() > 255 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("`{name}` cannot be the name of a file on FAT");
    }
    if let Some(short) = exact(name)
        && numbers.0.insert(short)
    {
        return Ok((short, Vec::new()));
    }
    // What differs by its case alone has the same short form: boot code that reads short names and
    // no others finds `bootcode.bin`.
    if let Some(short) = exact(&name.to_ascii_uppercase())
        && numbers.0.insert(short)
    {
        return Ok((short, long(name, checksum(short))));
    }
    for number in 1..=9999 {
        let short = numbered(name, number);
        if numbers.0.insert(short) {
            return Ok((short, long(name, checksum(short))));
        }
    }
    bail!("too many names like `{name}`")
}

/// The short form, if it is the name itself.
fn exact(name: &str) -> Option<[u8; 11]> {
    let (stem, kind) = name.split_once('.').unwrap_or((name, ""));
    let fits = |part: &str, most: usize| part.len() <= most && part.bytes().all(is_plain);
    (!stem.is_empty() && fits(stem, 8) && fits(kind, 3)).then(|| joined(stem, kind))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_~".contains(&byte)
}

/// `bcm2711-rpi-4-b.dtb` with number 2 is `BCM271~2.DTB`.
fn numbered(name: &str, number: u32) -> [u8; 11] {
    let plain = |part: &str| -> String {
        let upper = part.bytes().map(|byte| byte.to_ascii_uppercase());
        upper.filter(|byte| is_plain(*byte)).map(char::from).collect()
    };
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let (stem, kind) = (plain(stem), plain(kind));
    let number = format!("~{number}");
    let kept = stem.len().min(8 - number.len());
    joined(&format!("{}{number}", &stem[..kept]), &kind[..kind.len().min(3)])
}

fn joined(stem: &str, kind: &str) -> [u8; 11] {
    label(&format!("{stem:8}{kind}"))
}

fn checksum(short: [u8; 11]) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The entries of a long name, its end first.
fn long(name: &str, checksum: u8) -> Vec<[u8; 32]> {
    /// Where the letters are in an entry.
    const PLACES: [usize; LETTERS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
    let letters: Vec<u16> = name.encode_utf16().collect();
    let pieces = letters.chunks(LETTERS);
    let count = pieces.len();
    let mut entries: Vec<[u8; 32]> = (1_u8..)
        .zip(pieces)
        .map(|(number, piece)| {
            let mut entry = [0; 32];
            entry[0] = if usize::from(number) == count { number | 0x40 } else { number };
            entry[11] = LONG;
            entry[13] = checksum;
            let ended = piece.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
            for (place, letter) in PLACES.into_iter().zip(ended) {
                entry[place..place + 2].copy_from_slice(&letter.to_le_bytes());
            }
            entry
        })
        .collect();
    entries.reverse();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_small_letters_is_found_by_code_that_knows_short_names_alone() {
        let mut numbers = Numbers::default();
        let (short, long) = entries("bootcode.bin", &mut numbers).unwrap();
        assert_eq!((&short, long.len()), (b"BOOTCODEBIN", 1));
        let (short, _) = entries("autoboot.txt", &mut numbers).unwrap();
        assert_eq!(&short, b"AUTOBOOTTXT");
        let (short, _) = entries("bcm2711-rpi-4-b.dtb", &mut numbers).unwrap();
        assert_eq!(&short, b"BCM271~1DTB");
        let (short, long) = entries("CONFIG.TXT", &mut numbers).unwrap();
        assert_eq!((&short, long.len()), (b"CONFIG  TXT", 0));
        let (short, _) = entries("config.txt", &mut numbers).unwrap();
        assert_eq!(&short, b"CONFIG~1TXT", "two files have two short names");
    }
}

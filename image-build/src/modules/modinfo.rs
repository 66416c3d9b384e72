//! What a module says of itself, in the section `.modinfo` of a 64-bit little-endian ELF file.

use anyhow::{Context, Result, bail};

/// The section's fields, `key=value`, in order.
pub(super) fn fields(elf: &[u8]) -> Result<Vec<(String, String)>> {
    let section = section(elf, b".modinfo")?;
    let fields = section.split(|byte| *byte == 0).filter_map(|field| {
        let field = String::from_utf8_lossy(field);
        let (key, value) = field.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    Ok(fields.collect())
}

fn section<'a>(elf: &'a [u8], name: &[u8]) -> Result<&'a [u8]> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        bail!("it is no 64-bit little-endian ELF file");
    }
    let headers = long(elf, 0x28)?;
    let size = usize::from(short(elf, 0x3a)?);
    let count = short(elf, 0x3c)?;
    let names = short(elf, 0x3e)?;
    let header = |number: u16| -> Result<&[u8]> {
        let at = headers + usize::from(number) * size;
        elf.get(at..at + size).context("it is cut short")
    };
    let content = |header: &[u8]| -> Result<&'a [u8]> {
        let (at, size) = (long(header, 0x18)?, long(header, 0x20)?);
        elf.get(at..at + size).context("it is cut short")
    };
    let names = content(header(names)?)?;
    for number in 0..count {
        let header = header(number)?;
        let at = u32::from_le_bytes(array(header, 0)?) as usize;
        let this = names.get(at..).context("it is cut short")?;
        if this.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0)) {
            return content(header);
        }
    }
    bail!("it has no section {}", String::from_utf8_lossy(name))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = bytes.get(at..at + N).context("it is cut short")?;
    Ok(bytes.try_into()?)
}

fn short(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(array(bytes, at)?))
}

fn long(bytes: &[u8], at: usize) -> Result<usize> {
    Ok(usize::try_from(u64::from_le_bytes(array(bytes, at)?))?)
}

//! Update files: `cargo update-file`.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use bramble_cluster::Digest;
use bramble_host::update::{Compression, Content, Header, write_head};
use clap::Args;
use flate2::write::GzEncoder;
use minisign::SecretKey;
use ring::digest::{SHA256, digest};
use semver::Version;

use crate::keys;

/// Bytes of a slot, at most: of the partition that it goes into.
const SLOT_BYTES_MAX: usize = 128 << 20;
/// The boards that updates are for.
const BOARDS: [&str; 3] = ["rpi", "qemu-arm64", "qemu-x86_64"];

/// Make a signed update of a slot
#[derive(Debug, Args)]
pub(crate) struct UpdateFile {
    /// The slot's file system, or a whole card's image, whose first slot is taken
    #[arg(long, value_name = "FILE")]
    slot: PathBuf,
    /// The boards that it is for
    #[arg(long, value_parser = BOARDS)]
    board: String,
    /// The firmware's version
    #[arg(long)]
    version: Version,
    /// Grows with each update that is published; by default the seconds since 1970
    #[arg(long)]
    counter: Option<u64>,
    /// The private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the update goes
    #[arg(long, value_name = "FILE.bup")]
    out: PathBuf,
}

impl UpdateFile {
    /// Makes it, and says what is in it.
    pub(crate) fn run(self) -> Result<()> {
        let key = keys::read_secret(&self.key)?;
        let read = || format!("cannot read {}", self.slot.display());
        let slot = slot_of(fs::read(&self.slot).with_context(read)?)?;
        let counter = match self.counter {
            Some(counter) => counter,
            None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        };
        let mut body = GzEncoder::new(Vec::new(), flate2::Compression::best());
        body.write_all(&slot)?;
        let body = body.finish()?;
        let header = Header {
            board: self.board,
            version: self.version,
            counter,
            compression: Compression::Gzip,
            slot: content(&slot),
            body: content(&body),
        };
        write(&self.out, &header, &body, &key)
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        println!(
            "{}: {} {} ({counter}), {:.1} MiB of {:.1}",
            self.out.display(),
            header.board,
            header.version,
            mebibytes(header.body.bytes),
            mebibytes(header.slot.bytes)
        );
        Ok(())
    }
}

fn write(path: &Path, header: &Header, body: &[u8], key: &SecretKey) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write_head(&mut file, header, |bytes| keys::sign(key, bytes, "Bramble update"))?;
    file.write_all(body)?;
    file.into_inner()?.sync_all()
}

/// A slot's bytes; those of the first slot, if a whole card is given.
fn slot_of(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    const SLOT_ENTRY: usize = 446 + 16;
    let number = |at: usize| -> Option<usize> {
        let number = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(number)).ok()?.checked_mul(512)
    };
    // A card's first partition begins at 4 MiB and is FAT32, as is the slot behind it.
    let is_card = bytes.get(446 + 4) == Some(&0x0c)
        && bytes.get(SLOT_ENTRY + 4) == Some(&0x0c)
        && number(446 + 8) == Some(4 << 20);
    if is_card {
        let (start, length) = (number(SLOT_ENTRY + 8), number(SLOT_ENTRY + 12));
        let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
        let slot = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
        bytes = slot.context("the card's image ends before its first slot does")?.to_vec();
    }
    let is_fat = bytes.get(510..512) == Some(&[0x55, 0xaa]);
    if bytes.len() > SLOT_BYTES_MAX || !bytes.len().is_multiple_of(512) || !is_fat {
        bail!("this is not a slot: a FAT of at most {} MiB is", SLOT_BYTES_MAX >> 20);
    }
    Ok(bytes)
}

fn content(bytes: &[u8]) -> Content {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Content { bytes: bytes.len() as u64, sha256: Digest::from_bytes(sha256) }
}

fn mebibytes(bytes: u64) -> f64 {
    let kibibytes = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
    f64::from(kibibytes) / 1024.0
}

#[cfg(test)]
mod tests {
    use bramble_host::update::{Trust, read_head};
    use minisign::KeyPair;

    use super::*;

    fn slot() -> Vec<u8> {
        let mut slot = vec![3; 4096];
        slot[510..512].copy_from_slice(&[0x55, 0xaa]);
        slot
    }

    #[test]
    fn a_board_that_trusts_the_key_reads_the_update() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        fs::write(path("it.pub"), pair.pk.to_box().unwrap().into_string()).unwrap();
        fs::write(path("it.key"), pair.sk.to_box(None).unwrap().into_string()).unwrap();
        fs::write(path("slot"), slot()).unwrap();
        let order = UpdateFile {
            slot: path("slot"),
            board: "rpi".to_owned(),
            version: Version::new(1, 2, 3),
            counter: Some(7),
            key: path("it.key"),
            out: path("it.bup"),
        };
        order.run().unwrap();
        let mut file = File::open(path("it.bup")).unwrap();
        let header = read_head(&mut file, &Trust::read(folder.path()).unwrap()).unwrap();
        assert_eq!((header.counter, header.slot), (7, content(&slot())));
        assert_eq!(header.version.to_string(), "1.2.3");
    }

    #[test]
    fn a_cards_first_slot_is_taken_and_rubbish_is_refused() {
        let mut card = vec![0; 5 << 20];
        for (entry, start, length) in [(446, 8192_u32, 8_u32), (462, 9000, 8)] {
            card[entry + 4] = 0x0c;
            card[entry + 8..entry + 12].copy_from_slice(&start.to_le_bytes());
            card[entry + 12..entry + 16].copy_from_slice(&length.to_le_bytes());
        }
        card[9000 * 512..][..4096].copy_from_slice(&slot());
        assert_eq!(slot_of(card.clone()).unwrap(), slot());
        card.truncate(9001 * 512);
        assert!(slot_of(card).is_err());
        assert!(slot_of(vec![0; 4096]).is_err());
        assert!(slot_of(b"short".to_vec()).is_err());
    }
}

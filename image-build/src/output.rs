//! Files that the builder hands out, each with its sha256 beside it, and its signature.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use bramble_host::disk::IMAGE_WINDOW_LOG;
use minisign::SecretKey;

use crate::{
    card::Card,
    image::{file_name, size},
    keys,
    kind::Kind,
    packages::sha256,
    progress::Progress,
};

/// Beyond this, compressing takes longer than it saves.
const LEVEL: i32 = 15;

/// Whether `path` can be written, before the work that makes what goes there.
///
/// # Errors
/// Why not.
pub(crate) fn probe(path: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    if path.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory)).with_context(cannot);
    }
    let partial = beside(path, ".partial");
    File::create(&partial).and_then(|_| fs::remove_file(&partial)).with_context(cannot)
}

/// Writes a card's image as it is, with holes.
pub(crate) fn raw(path: &Path, card: &Card) -> Result<()> {
    card.write_sparse(path)?;
    println!("{}: {}", path.display(), size(card.size()));
    Ok(())
}

/// Writes a card's image compressed, signed if there is a key to sign with.
pub(crate) fn card(path: &Path, card: &Card, kind: Kind, key: Option<&SecretKey>) -> Result<()> {
    replace(path, |file| {
        let progress = Progress::new("compressing", card.size());
        let mut encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL)?;
        encoder.include_checksum(true)?;
        encoder.window_log(window(kind))?;
        encoder.long_distance_matching(kind != Kind::Rpi)?;
        card.write(&mut encoder, &progress)?;
        encoder.finish()?.flush()?;
        limit(file.metadata()?.len(), kind)
    })?;
    describe(path, key)
}

/// Refuses an image that is larger than promised.
fn limit(bytes: u64, kind: Kind) -> Result<()> {
    let max = kind.bytes_max();
    if bytes > max {
        bail!("it is {}, more than the {} that an image for {kind} may be", size(bytes), size(max));
    }
    Ok(())
}

/// Writes `bytes` as they are.
pub(crate) fn plain(path: &Path, bytes: &[u8], key: Option<&SecretKey>) -> Result<()> {
    replace(path, |mut file| Ok(file.write_all(bytes)?))?;
    describe(path, key)
}

/// How far back the decoder must remember, as a power of two. Seeing that the second slot repeats
/// the first halves the image. Programs that write cards remember less, so a card for a Pi does
/// without; QEMU's are for `bramble flash`, `bramble card` and `zstd -d --long=28`.
fn window(kind: Kind) -> u32 {
    match kind {
        Kind::Rpi => 26,
        Kind::QemuArm64 | Kind::QemuX86 => IMAGE_WINDOW_LOG,
    }
}

/// Writes beside `path` and renames, so that no half image is ever called by its name.
fn replace(path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let partial = beside(path, ".partial");
    let written = || -> Result<()> {
        write(&File::create(&partial)?)?;
        fs::rename(&partial, path)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes `path` with `.sha256` after it, as `sha256sum -c` reads it, and with `.minisig`, as
/// `minisign -V` reads it, and prints what it wrote.
fn describe(path: &Path, key: Option<&SecretKey>) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let sum = sha256(&bytes);
    write(&beside(path, ".sha256"), &format!("{sum}  {}\n", file_name(path)))?;
    let signature = beside(path, ".minisig");
    let mut lines = format!("{}: {}\n  sha256 {sum}\n", path.display(), size(bytes.len() as u64));
    match key {
        Some(key) => {
            let comment = format!("Bramble image\tfile:{}\thashed", file_name(path));
            let signed = keys::sign(key, &bytes, &comment)
                .with_context(|| format!("cannot sign {}", path.display()))?;
            write(&signature, &signed)?;
            lines += &format!("  signature {}\n", signature.display());
        }
        // One of another image would be worse than none.
        None if signature.exists() => fs::remove_file(&signature)
            .with_context(|| format!("cannot remove {}", signature.display()))?,
        None => {}
    }
    io::stdout().write_all(lines.as_bytes()).context("cannot print")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use bramble_containers::images::Zstd;
    use minisign::{KeyPair, PublicKey};

    use super::*;

    const KINDS: [Kind; 3] = [Kind::Rpi, Kind::QemuArm64, Kind::QemuX86];

    fn a_card() -> Card {
        let word = |at: u32| at.wrapping_mul(0x9e37_79b9).to_le_bytes();
        let noise: Vec<u8> = (0..1_u32 << 18).flat_map(word).collect();
        Card { boot: noise.clone(), slot_a: noise.clone(), slot_b: noise.clone(), data: noise }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_refused_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card.img");
        probe(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing");
        for path in [folder.path().to_owned(), path.join("in/no/folder")] {
            let refused = probe(&path).unwrap_err().to_string();
            assert_eq!(refused, format!("cannot write {}", path.display()));
        }
    }

    #[test]
    fn what_flashes_cards_reads_every_image() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, out) = (folder.path().join("card.img"), folder.path().join("card.img.zst"));
        raw(&plain, &a_card()).unwrap();
        for kind in KINDS {
            card(&out, &a_card(), kind, None).unwrap();
            let file = BufReader::new(File::open(&out).unwrap());
            let mut image = Vec::new();
            Zstd::with_window(file, 1 << IMAGE_WINDOW_LOG).read_to_end(&mut image).unwrap();
            assert!(image == fs::read(&plain).unwrap(), "{kind}");
        }
    }

    #[test]
    fn a_signature_lies_beside_the_image_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("slot.img");
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        plain(&out, b"a slot", Some(&pair.sk)).unwrap();
        let text = fs::read_to_string(beside(&out, ".minisig")).unwrap();
        let public = pair.pk.to_box().unwrap().into_string();
        let key = PublicKey::from_box(minisign::PublicKeyBox::from_string(&public).unwrap());
        let signature = minisign::SignatureBox::from_string(&text).unwrap();
        let holds = |bytes: &[u8]| {
            let bytes = io::Cursor::new(bytes);
            minisign::verify(key.as_ref().unwrap(), &signature, bytes, true, false, false).is_ok()
        };
        assert!(holds(b"a slot") && !holds(b"another"));
        assert!(signature.trusted_comment().unwrap().contains("file:slot.img"));
        plain(&out, b"a slot of tomorrow", None).unwrap();
        assert!(!beside(&out, ".minisig").exists(), "of another image");
    }

    #[test]
    fn an_image_that_is_larger_than_promised_is_refused() {
        for (kind, megabytes) in KINDS.into_iter().zip([64, 40, 40]) {
            limit(megabytes * 1_000_000, kind).unwrap();
            assert!(limit(megabytes * 1_000_000 + 1, kind).is_err(), "{kind}");
        }
    }
}

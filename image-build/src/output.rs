//! Files that the builder hands out, each with its sha256 beside it.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    card::Card,
    image::{file_name, size},
    kind::Kind,
    packages::sha256,
    progress::Progress,
};

/// Beyond this, compressing takes longer than it saves.
const LEVEL: i32 = 15;

/// Writes a card's image, compressed unless `raw`.
pub(crate) fn card(path: &Path, card: &Card, raw: bool, kind: Kind) -> Result<()> {
    if raw {
        card.write_sparse(path)?;
        println!("{}: {}", path.display(), size(card.size()));
        return Ok(());
    }
    replace(path, |file| {
        let progress = Progress::new("compressing", card.size());
        let mut encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL)?;
        encoder.include_checksum(true)?;
        encoder.window_log(window(kind))?;
        encoder.long_distance_matching(kind != Kind::Rpi)?;
        card.write(&mut encoder, &progress)?;
        encoder.finish()?.flush()?;
        Ok(())
    })?;
    let bytes = fs::metadata(path)?.len();
    if bytes > kind.bytes_max() {
        bail!(
            "{} is {}, more than the {} that an image for {kind} may be",
            path.display(),
            size(bytes),
            size(kind.bytes_max())
        );
    }
    describe(path)
}

/// Writes `bytes` as they are.
pub(crate) fn plain(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |mut file| Ok(file.write_all(bytes)?))?;
    describe(path)
}

/// How far back the decoder must remember, as a power of two. The second slot of a card repeats the
/// first 128 MiB later: seeing that halves the image. Programs that write cards to disk remember
/// less, so a card for a Pi does without; QEMU's are decompressed with `zstd -d --long=28`.
fn window(kind: Kind) -> u32 {
    match kind {
        Kind::Rpi => 26,
        Kind::QemuArm64 | Kind::QemuX86 => 28,
    }
}

/// Writes beside `path` and renames, so that no half image is ever called by its name.
fn replace(path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = || -> Result<()> {
        write(&File::create(&partial)?)?;
        fs::rename(&partial, path)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes `path` with `.sha256` after it, as `sha256sum -c` reads it, and prints both.
fn describe(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let sum = sha256(&bytes);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sha256");
    let beside = PathBuf::from(beside);
    fs::write(&beside, format!("{sum}  {}\n", file_name(path)))
        .with_context(|| format!("cannot write {}", beside.display()))?;
    let written =
        writeln!(io::stdout(), "{}: {}\n  sha256 {sum}", path.display(), size(bytes.len() as u64));
    written.context("cannot print")
}

//! A new, empty data file system.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

/// What is written at once.
const CHUNK: usize = 1 << 20;
/// The empty file system is of 64 MiB; what goes on beyond is not it.
const BYTES_MAX: u64 = 64 << 20;

/// The data partition could not be formatted.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The image's empty file system cannot be read.
    #[error("the image's empty file system {} cannot be read", path.display())]
    Template {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The partition cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// Which partition.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes an empty file system onto a partition, and calls `pulse` now and then.
///
/// Its beginning, without which it is none, is written last: a power cut on the way leaves a
/// partition that is formatted again, not one that looks whole. What is there already is not
/// written again, which spares a new card.
pub fn format(
    template: &Path,
    partition: &Path,
    pulse: &mut dyn FnMut(),
) -> Result<(), FormatError> {
    let unread = |source| FormatError::Template { path: template.to_owned(), source };
    let unwritten = |source| FormatError::Write { path: partition.to_owned(), source };

    let file = File::open(template).map_err(unread)?;
    let mut content = GzDecoder::new(file).take(BYTES_MAX);
    let disk = OpenOptions::new().read(true).write(true).open(partition).map_err(unwritten)?;

    let beginning = chunk(&mut content).map_err(unread)?;
    put(&disk, 0, &vec![0; beginning.len()]).map_err(unwritten)?;
    disk.sync_all().map_err(unwritten)?;
    let mut at = beginning.len();
    loop {
        pulse();
        let bytes = chunk(&mut content).map_err(unread)?;
        if bytes.is_empty() {
            break;
        }
        put(&disk, at, &bytes).map_err(unwritten)?;
        at += bytes.len();
    }
    disk.sync_all().map_err(unwritten)?;
    put(&disk, 0, &beginning).map_err(unwritten)?;
    disk.sync_all().map_err(unwritten)
}

/// The next mebibyte, or what is left.
fn chunk(content: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; CHUNK];
    let mut length = 0;
    while length < CHUNK {
        match content.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Writes what differs.
fn put(disk: &File, at: usize, bytes: &[u8]) -> io::Result<()> {
    let at = u64::try_from(at).unwrap_or(u64::MAX);
    let mut there = vec![0; bytes.len()];
    let is_there = disk.read_exact_at(&mut there, at).is_ok() && there == bytes;
    if is_there { Ok(()) } else { disk.write_all_at(bytes, at) }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn the_partition_is_the_template_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (template, partition) = (folder.path().join("t.gz"), folder.path().join("p"));
        let mut content = vec![0; 3 * CHUNK + 17];
        content[1080] = 0x53;
        content[2 * CHUNK + 5] = 7;
        let mut encoder = GzEncoder::new(File::create(&template).unwrap(), Compression::fast());
        encoder.write_all(&content).unwrap();
        encoder.finish().unwrap();
        fs::write(&partition, vec![0xaa; 4 * CHUNK]).unwrap();

        let mut pulses = 0;
        format(&template, &partition, &mut || pulses += 1).unwrap();
        let written = fs::read(&partition).unwrap();
        assert!(written[..content.len()] == content, "the template was not written");
        assert!(written[content.len()..].iter().all(|byte| *byte == 0xaa));
        assert!(pulses >= 3);
    }

    #[test]
    fn a_template_that_breaks_off_leaves_no_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let (template, partition) = (folder.path().join("t.gz"), folder.path().join("p"));
        let noise: Vec<u8> =
            (0..=250).map(|at: u8| at.wrapping_mul(at)).cycle().take(3 * CHUNK).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&noise).unwrap();
        let whole = encoder.finish().unwrap();
        fs::write(&template, &whole[..whole.len() - 40]).unwrap();
        fs::write(&partition, vec![0xaa; 3 * CHUNK]).unwrap();
        let failed = format(&template, &partition, &mut || {});
        assert!(matches!(failed, Err(FormatError::Template { .. })), "{failed:?}");
        let written = fs::read(&partition).unwrap();
        assert!(written[..CHUNK].iter().all(|byte| *byte == 0));
    }
}

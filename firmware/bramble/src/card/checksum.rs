//! SHA-256 sums, and the `FILE.sha256` that lies beside an image.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use ring::digest::{Context, SHA256};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// An image is not the one that its checksum was made of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChecksumError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The checksum's file holds something else.
    #[error("{path} holds no SHA-256 sum")]
    NoSum {
        /// Which.
        path: PathBuf,
    },
    /// The sums differ.
    #[error("{path} is damaged or another image: its SHA-256 sum is {found}, not {expected}")]
    Differs {
        /// The image.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
}

/// Where the checksum of an image is.
pub(crate) fn beside(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

/// The sum that lies beside the image, if one does.
pub(crate) fn expected(image: &Path) -> Result<Option<String>, ChecksumError> {
    let path = beside(image);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ChecksumError::File { path, source }),
    };
    let sum = text.split_ascii_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    match sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(Some(sum)),
        false => Err(ChecksumError::NoSum { path }),
    }
}

/// Checks the image against the sum beside it; says whether there is one.
pub(crate) fn verify(image: &Path, tell: impl FnMut(u64)) -> Result<bool, ChecksumError> {
    let Some(expected) = expected(image)? else { return Ok(false) };
    let found = sum_of(image, tell)?;
    match found == expected {
        true => Ok(true),
        false => Err(ChecksumError::Differs { path: image.to_owned(), found, expected }),
    }
}

/// Writes the sum of the image beside it.
pub(crate) fn renew(image: &Path) -> Result<(), ChecksumError> {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let line = format!("{}  {name}\n", sum_of(image, |_| {})?);
    let path = beside(image);
    fs::write(&path, line).map_err(|source| ChecksumError::File { path, source })
}

/// The sum of a file as hexadecimal digits. `tell` hears of every piece that was read.
fn sum_of(path: &Path, mut tell: impl FnMut(u64)) -> Result<String, ChecksumError> {
    let failed = |source| ChecksumError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(hex::encode(context.finish())),
            count => {
                context.update(&piece[..count]);
                tell(count as u64);
            }
        }
    }
}

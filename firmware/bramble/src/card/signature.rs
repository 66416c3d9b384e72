//! Signatures of images: the `FILE.minisig` that lies beside one, as minisign makes it too.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use minisign_verify::{PublicKey, Signature};

use super::image::PIECE;

/// Bytes of a key's or a signature's file, at most.
const TEXT_BYTES_MAX: u64 = 4 << 10;

/// An image is not signed by a key that is trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignatureError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no signature.
    #[error(
        "{path} is missing: the image is not signed, or it was changed after it was signed, as \
         `bramble card --out` does; check the image that it was made of, or leave --trust out"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file is no key.
    #[error("{path} is no minisign public key")]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: minisign_verify::Error,
    },
    /// A file is no signature.
    #[error("{path} is no minisign signature")]
    Signature {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: minisign_verify::Error,
    },
    /// Another key made the signature.
    #[error("{path} was made by none of the keys that --trust names")]
    Untrusted {
        /// The signature.
        path: PathBuf,
    },
    /// The signature is of another file.
    #[error("{path} is damaged or another image: its signature is not of these bytes")]
    Differs {
        /// The image.
        path: PathBuf,
    },
}

/// Where the signature of an image is.
pub(crate) fn beside(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// Checks the signature beside the image, and returns the file of the key that made it. `tell` hears
/// of every piece that was read.
pub(crate) fn verify(
    image: &Path,
    trusted: &[PathBuf],
    mut tell: impl FnMut(u64),
) -> Result<PathBuf, SignatureError> {
    let mut keys = Vec::new();
    for path in trusted {
        let key = PublicKey::decode(&text(path)?);
        keys.push(key.map_err(|source| SignatureError::Key { path: path.clone(), source })?);
    }
    let path = beside(image);
    if !path.exists() {
        return Err(SignatureError::Missing { path });
    }
    let invalid = |source| SignatureError::Signature { path: path.clone(), source };
    let signature = Signature::decode(&text(&path)?).map_err(invalid)?;
    // A signature names its key; those of others need not see the image.
    let mut verifiers = Vec::new();
    for (key, path) in keys.iter().zip(trusted) {
        match key.verify_stream(&signature) {
            Ok(verifier) => verifiers.push((verifier, path)),
            Err(minisign_verify::Error::UnexpectedKeyId) => {}
            Err(error) => return Err(invalid(error)),
        }
    }
    if verifiers.is_empty() {
        return Err(SignatureError::Untrusted { path });
    }
    let failed = |source| SignatureError::Read { path: image.to_owned(), source };
    let mut file = File::open(image).map_err(failed)?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            break;
        }
        for (verifier, _) in &mut verifiers {
            verifier.update(&piece[..count]);
        }
        tell(count as u64);
    }
    verifiers
        .into_iter()
        .find_map(|(mut verifier, key)| verifier.finalize().is_ok().then(|| key.clone()))
        .ok_or_else(|| SignatureError::Differs { path: image.to_owned() })
}

/// A short file's text.
fn text(path: &Path) -> Result<String, SignatureError> {
    let read = || {
        if fs::metadata(path)?.len() > TEXT_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        fs::read_to_string(path)
    };
    read().map_err(|source| SignatureError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use minisign::KeyPair;

    use super::*;

    /// A folder with an image, two public keys `a` and `b`, and the signature by `a`.
    fn signed() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let image = vec![7; (PIECE * 2) + 5];
        for name in ["b", "a"] {
            let pair = KeyPair::generate_unencrypted_keypair().expect("keys");
            let public = pair.pk.to_box().expect("a key").into_string();
            fs::write(folder.path().join(name), public).expect("it is written");
            let signature = minisign::sign(None, &pair.sk, Cursor::new(&image), None, None);
            let signature = signature.expect("a signature").into_string();
            fs::write(folder.path().join("image.minisig"), signature).expect("it is written");
        }
        fs::write(folder.path().join("image"), image).expect("it is written");
        folder
    }

    #[test]
    fn the_key_that_signed_an_image_is_found() {
        let folder = signed();
        let path = |name: &str| folder.path().join(name);
        let mut seen = 0;
        let key = verify(&path("image"), &[path("b"), path("a")], |count| seen += count);
        assert_eq!(key.expect("it is signed"), path("a"));
        assert_eq!(seen, PIECE as u64 * 2 + 5);
    }

    #[test]
    fn another_key_another_image_and_no_signature_are_refused() {
        let folder = signed();
        let path = |name: &str| folder.path().join(name);
        let refused = |keys: &[&str]| {
            let keys: Vec<_> = keys.iter().map(|name| path(name)).collect();
            verify(&path("image"), &keys, |_| {}).expect_err("it is refused")
        };
        assert!(matches!(refused(&["b"]), SignatureError::Untrusted { .. }));
        assert!(matches!(refused(&["a", "none"]), SignatureError::Read { .. }));
        assert!(matches!(refused(&["image.minisig"]), SignatureError::Key { .. }));
        fs::write(path("image"), "another").expect("it is written");
        assert!(matches!(refused(&["a"]), SignatureError::Differs { .. }));
        fs::write(path("image.minisig"), "rubbish").expect("it is written");
        assert!(matches!(refused(&["a"]), SignatureError::Signature { .. }));
        fs::remove_file(path("image.minisig")).expect("it is removed");
        assert!(matches!(refused(&["a"]), SignatureError::Missing { .. }));
    }
}

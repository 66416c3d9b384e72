//! The keys that updates are signed with: `cargo update-keys`.
//!
//! Two pairs: the current one signs every update; the recovery one is kept where nobody can reach it
//! until the current one is lost or stolen. Boards trust both.

use std::{
    fs::{self, OpenOptions},
    io::{self, Cursor, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;
use minisign::{KeyPair, SecretKey, SecretKeyBox};

/// The pairs, by the names of their files.
const NAMES: [&str; 2] = ["current", "recovery"];

/// Make the keys that updates are signed with
#[derive(Debug, Args)]
pub(crate) struct UpdateKeys {
    /// The folder they are put into; keys that are there already are kept
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl UpdateKeys {
    /// Makes what is not there yet.
    pub(crate) fn run(&self) -> Result<()> {
        fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot make {}", self.out.display()))?;
        for name in NAMES {
            let secret = self.out.join(format!("{name}.key"));
            let public = self.out.join(format!("{name}.pub"));
            if secret.exists() {
                println!("{} is kept", secret.display());
                continue;
            }
            let pair = KeyPair::generate_unencrypted_keypair().context("cannot make a key")?;
            let comment = format!("Bramble updates, {name} key");
            let box_of = pair.sk.to_box(Some(&comment)).context("cannot write a key")?;
            write(&secret, &box_of.into_string(), 0o600)?;
            let box_of = pair.pk.to_box().context("cannot write a key")?;
            write(&public, &box_of.into_string(), 0o644)?;
            println!("{} goes into images, {} signs", public.display(), secret.display());
        }
        println!("keep recovery.key elsewhere: it is for when current.key is lost or stolen");
        Ok(())
    }
}

/// A private key, as [`UpdateKeys`] or `minisign -G -W` wrote it.
pub(crate) fn read_secret(path: &Path) -> Result<SecretKey> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = SecretKeyBox::from_string(&text).and_then(SecretKeyBox::into_unencrypted_secret_key);
    key.with_context(|| {
        format!("{} is not a minisign private key without password", path.display())
    })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A signature as a file of minisign's holds it. `comment` is signed too.
pub(crate) fn sign(key: &SecretKey, bytes: &[u8], comment: &str) -> io::Result<String> {
    let comment = Some(comment);
    let signed = minisign::sign(None, key, Cursor::new(bytes), comment, comment);
    signed.map(|signature| signature.into_string()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn private_keys_are_private_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let keys = UpdateKeys { out: folder.path().join("keys") };
        keys.run().unwrap();
        let secret = keys.out.join("current.key");
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&secret).unwrap();
        read_secret(&secret).unwrap();
        keys.run().unwrap();
        assert_eq!(fs::read(&secret).unwrap(), before);
        assert!(read_secret(&keys.out.join("current.pub")).is_err());
    }
}

//! Update files. The good one is made by `cargo update-file`, as people make it; the others are made
//! of it here, and signed with the same key, or not.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Cursor, Write},
    path::{Path, PathBuf},
};

use bramble_cluster::Digest;
use bramble_host::{
    slot::Slot,
    update::{Content, Header, peek_head, write_head},
};
use flate2::{Compression, write::GzEncoder};
use minisign::{KeyPair, SecretKey, SecretKeyBox};

use crate::{card::Card, command::given, machine::Model};

/// The update that `tests/run appliance` has made of the image under test.
pub fn good() -> PathBuf {
    given("BRAMBLE_UPDATE_QEMU_ARM64")
}

/// The good update with another header, signed by `key`.
pub fn good_with(path: &Path, key: &SecretKey, change: impl FnOnce(&mut Header)) {
    let mut file = File::open(good()).expect("the good update is there");
    let mut header = peek_head(&mut file).expect("an update");
    change(&mut header);
    let mut out = BufWriter::new(File::create(path).expect("a file"));
    write_head(&mut out, &header, |bytes| sign(key, bytes)).expect("the file is written");
    io::copy(&mut file, &mut out).expect("the file is written");
    out.flush().expect("the file is written");
}

/// An update that brings the same system with another command line of its kernel.
pub fn with_words(path: &Path, words: &str) {
    let slot = slot_with(path, words);
    let mut body = GzEncoder::new(Vec::new(), Compression::fast());
    body.write_all(&slot).expect("there is memory");
    let body = body.finish().expect("there is memory");
    let header = peek_head(&mut File::open(good()).expect("the good update is there"));
    let header = header.expect("an update");
    let header = Header { slot: content(&slot), body: content(&body), ..header };
    let mut out = BufWriter::new(File::create(path).expect("a file"));
    write_head(&mut out, &header, |bytes| sign(&our_key(), bytes)).expect("the file is written");
    out.write_all(&body).and_then(|()| out.flush()).expect("the file is written");
}

/// The key whose public half is in the image.
pub fn our_key() -> SecretKey {
    let text = fs::read_to_string(given("BRAMBLE_UPDATE_KEY")).expect("a key");
    let key = SecretKeyBox::from_string(&text).and_then(SecretKeyBox::into_unencrypted_secret_key);
    key.expect("`cargo update-keys` made the key")
}

/// A key that no image knows.
pub fn strangers_key() -> SecretKey {
    KeyPair::generate_unencrypted_keypair().expect("there is randomness").sk
}

/// The first slot of the image under test, with other words for its kernel.
fn slot_with(path: &Path, words: &str) -> Vec<u8> {
    let image = path.with_extension("img");
    let card = Card::copy(&Model::Virt.image(), &image, None);
    card.write_file(Slot::A.partition(), "cmdline.txt", format!("{words}\n").as_bytes());
    let extent = card.extent(Slot::A.partition());
    let slot = card.read_bytes(extent.start, extent.length);
    fs::remove_file(image).expect("a file");
    slot
}

fn sign(key: &SecretKey, bytes: &[u8]) -> io::Result<String> {
    let signed = minisign::sign(None, key, Cursor::new(bytes), None, None);
    signed.map(|signature| signature.into_string()).map_err(io::Error::other)
}

fn content(bytes: &[u8]) -> Content {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Content { bytes: bytes.len() as u64, sha256: Digest::from_bytes(sha256) }
}

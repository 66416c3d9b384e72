use std::{fs, sync::Arc};

use super::{BlobError, BlobStore, Digest, Limits, digest_of};

fn store(limits: Limits) -> (tempfile::TempDir, BlobStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(folder.path(), Arc::new(limits)).unwrap();
    (folder, store)
}

fn files(folder: &std::path::Path, name: &str) -> usize {
    fs::read_dir(folder.join(name)).unwrap().count()
}

#[test]
fn a_blob_is_found_by_what_it_holds() {
    let (folder, store) = store(Limits::default());
    let digest = store.write(b"abc").unwrap();
    assert_eq!(
        digest.to_string(),
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(store.write(b"abc").unwrap(), digest);
    assert_eq!(store.size(digest), Some(3));
    assert_eq!(store.read_document(digest).unwrap(), b"abc");
    assert_eq!(store.list().unwrap(), [digest]);
    assert_eq!(files(folder.path(), "incoming"), 0);
    store.remove(digest).unwrap();
    store.remove(digest).unwrap();
    assert!(matches!(store.open_blob(digest, None), Err(BlobError::Missing { .. })));
}

#[test]
fn a_blob_that_was_tampered_with_is_noticed() {
    let (_folder, store) = store(Limits::default());
    let digest = store.write(b"abc").unwrap();
    fs::write(store.path(digest), b"abd").unwrap();
    assert!(matches!(store.read_document(digest), Err(BlobError::WrongDigest { .. })));
    let short = store.open_blob(digest, Some(4)).unwrap_err();
    assert!(matches!(short, BlobError::WrongSize { expected: 4, found: 3, .. }));
}

#[test]
fn holes_of_zeros_read_back_and_take_no_room() {
    use std::os::unix::fs::MetadataExt;
    let (_folder, store) = store(Limits { document_bytes: 1 << 30, ..Limits::default() });
    let mut whole = vec![0; 8 << 20];
    whole[5 << 20] = 1;
    let mut writer = store.writer().unwrap();
    for chunk in whole.chunks(64 * 1024) {
        writer.append(chunk).unwrap();
    }
    let blob = writer.finish().unwrap();
    assert_eq!((blob.digest(), blob.size()), (digest_of(&whole), whole.len() as u64));
    let digest = blob.keep().unwrap();
    assert_eq!(store.read_document(digest).unwrap(), whole);
    assert!(fs::metadata(store.path(digest)).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn what_was_not_kept_leaves_nothing_even_over_a_crash() {
    let (folder, store) = store(Limits::default());
    let mut writer = store.writer().unwrap();
    writer.append(b"abc").unwrap();
    drop(writer.finish().unwrap());
    assert_eq!(files(folder.path(), "incoming"), 0);
    let mut writer = store.writer().unwrap();
    writer.append(b"abc").unwrap();
    std::mem::forget(writer);
    assert_eq!(files(folder.path(), "incoming"), 1);
    BlobStore::open(folder.path(), Arc::default()).unwrap();
    assert_eq!(files(folder.path(), "incoming"), 0);
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let (folder, store) = store(Limits::default());
    let digest = digest_of(b"first second");
    let mut partial = store.resume(digest).unwrap();
    partial.append(b"first").unwrap();
    drop(partial);
    let store = BlobStore::open(folder.path(), Arc::default()).unwrap();
    let mut partial = store.resume(digest).unwrap();
    assert_eq!(partial.offset(), 5);
    partial.append(b" second").unwrap();
    partial.finish().unwrap();
    assert_eq!(store.read_document(digest).unwrap(), b"first second");
    assert_eq!(files(folder.path(), "partial"), 0);
}

#[test]
fn a_download_of_other_bytes_is_refused_and_forgotten() {
    let (folder, store) = store(Limits::default());
    let mut partial = store.resume(Digest::from_bytes([1; 32])).unwrap();
    partial.append(b"lies").unwrap();
    assert!(matches!(partial.finish(), Err(BlobError::WrongDigest { .. })));
    assert_eq!(files(folder.path(), "partial"), 0);
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn only_so_many_cut_downloads_are_kept() {
    let (folder, store) = store(Limits::default());
    for byte in 0..10 {
        store.resume(Digest::from_bytes([byte; 32])).unwrap().append(b"x").unwrap();
    }
    let limits = Limits { partial_downloads: 3, ..Limits::default() };
    BlobStore::open(folder.path(), Arc::new(limits)).unwrap();
    assert_eq!(files(folder.path(), "partial"), 3);
}

#[test]
fn a_full_disk_is_called_so_before_it_is_full() {
    let limits = Limits { reserve_bytes: u64::MAX / 2, ..Limits::default() };
    let (folder, store) = store(limits);
    let error = store.write(b"abc").unwrap_err();
    assert!(matches!(error, BlobError::DiskFull(_)), "{error}");
    assert!(error.to_string().contains("disk is full"));
    let mut partial = store.resume(Digest::default()).unwrap();
    assert!(matches!(partial.append(b"abc"), Err(BlobError::DiskFull(_))));
    assert_eq!((files(folder.path(), "incoming"), store.list().unwrap().len()), (0, 0));
}

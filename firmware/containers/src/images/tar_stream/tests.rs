use std::io::{Cursor, Read};

use proptest::{
    collection::vec,
    prelude::{any, prop_assert, proptest},
};

use super::{Entry, EntryKind, Limits, TarError, TarReader};

/// A header block with a right checksum.
fn header(kind: u8, path: &str, link: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(kind));
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_size(size);
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(9);
    header.set_cksum();
    header
}

fn entry_bytes(kind: u8, path: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, path, "", data.len() as u64).as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| length.to_string().len() + rest == *length).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

fn reader(bytes: Vec<u8>, limits: &Limits) -> TarReader<Cursor<Vec<u8>>> {
    TarReader::new(Cursor::new(bytes), 1_000, limits)
}

fn read_all(bytes: Vec<u8>) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut archive = reader(bytes, &Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut data = Vec::new();
        archive.read_to_end(&mut data).map_err(TarError::Read)?;
        entries.push((entry, data));
    }
    Ok(entries)
}

#[test]
fn what_the_tar_crate_writes_is_read() {
    let long = "folder/".repeat(40) + "file";
    let mut builder = tar::Builder::new(Vec::new());
    let mut file = header(b'0', "", "", 3);
    builder.append_data(&mut file, &long, &b"abc"[..]).unwrap();
    let mut link = header(b'2', "", "", 0);
    builder.append_link(&mut link, "link", &long).unwrap();
    let entries = read_all(builder.into_inner().unwrap()).unwrap();
    assert_eq!(entries.len(), 2);
    let (file, data) = &entries[0];
    assert_eq!((file.kind, file.path.as_slice()), (EntryKind::File, long.as_bytes()));
    assert_eq!((file.mode, file.owner, file.group, file.seconds), (0o640, 7, 8, 9));
    assert_eq!((file.size, data.as_slice()), (3, &b"abc"[..]));
    let (link, _) = &entries[1];
    assert_eq!((link.kind, link.link.as_slice()), (EntryKind::Symlink, long.as_bytes()));
}

#[test]
fn pax_records_override_the_header() {
    let records = [
        record("path", "a/b"),
        record("size", "4"),
        record("uid", "70000"),
        record("gid", "70001"),
        record("mtime", "-1.5"),
        record("SCHILY.xattr.user.a", "b=c"),
        record("comment", "whatever"),
    ];
    let mut bytes = entry_bytes(b'g', "global", &record("path", "ignored"));
    bytes.extend(entry_bytes(b'x', "pax", &records.concat()));
    bytes.extend(header(b'0', "name", "", 0).as_bytes());
    bytes.extend([b'd'; 4]);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(entry_bytes(b'5', "next", b""));
    let entries = read_all(bytes).unwrap();
    let (entry, data) = &entries[0];
    assert_eq!((entry.path.as_slice(), data.as_slice()), (&b"a/b"[..], &b"dddd"[..]));
    assert_eq!((entry.owner, entry.group), (70_000, 70_001));
    assert_eq!((entry.seconds, entry.nanoseconds), (-2, 500_000_000));
    assert_eq!(entry.attributes, [(b"user.a".to_vec(), b"b=c".to_vec())]);
    assert_eq!(entries[1].0.path, b"next");
    assert!(entries[1].0.attributes.is_empty(), "records are for one entry");
}

#[test]
fn old_folders_and_continuous_files_are_known_and_links_have_no_data() {
    let mut bytes = entry_bytes(b'\0', "folder/", b"");
    bytes.extend(entry_bytes(b'7', "file", b"x"));
    bytes.extend(header(b'1', "hard", "file", 10_000).as_bytes());
    bytes.extend(entry_bytes(b'6', "pipe", b""));
    let kinds: Vec<_> = read_all(bytes).unwrap().into_iter().map(|(entry, _)| entry.kind).collect();
    let expected = [EntryKind::Folder, EntryKind::File, EntryKind::HardLink, EntryKind::Fifo];
    assert_eq!(kinds, expected);
}

#[test]
fn damaged_archives_are_refused_with_a_reason() {
    let whole = entry_bytes(b'0', "file", &[1; 1_000]);
    let mut wrong_sum = whole.clone();
    wrong_sum[0] ^= 1;
    for (bytes, reason) in [
        (wrong_sum, "checksum"),
        (whole[..100].to_vec(), "middle of a header"),
        (entry_bytes(b'S', "sparse", b""), "unknown kind"),
        (entry_bytes(b'z', "what", b""), "unknown kind"),
        (entry_bytes(b'x', "pax", b"99 path=x\n"), "pax"),
        (entry_bytes(b'x', "pax", b"7 a=b"), "pax"),
        (entry_bytes(b'x', "pax", &record("GNU.sparse.major", "1")), "sparse"),
        (entry_bytes(b'x', "pax", &record("mtime", "1.x")), "pax"),
        (b"This is some text and no archive.".repeat(40), "checksum"),
    ] {
        let error = read_all(bytes).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}, not {reason}");
    }
    let cut = read_all(whole[..1_000].to_vec()).unwrap_err();
    assert!(matches!(cut, TarError::Read(error) if error.to_string().contains("a lie")));
    let mut archive = reader(whole[..1_000].to_vec(), &Limits::default());
    archive.next_entry().unwrap();
    assert!(archive.next_entry().unwrap_err().to_string().contains("middle of an entry"));
}

#[test]
fn names_and_attributes_without_end_are_over_a_limit_before_they_are_read() {
    let limits = Limits { extras_bytes: 2_000, path_bytes: 100, ..Limits::default() };
    // A name of eight gibibytes is announced; not one byte of it follows.
    let announced = header(b'L', "././@LongLink", "", 8 << 30).as_bytes().to_vec();
    let error = reader(announced, &limits).next_entry().unwrap_err();
    assert!(error.to_string().contains("limit of 2000"), "{error}");
    // Many small ones for one entry count together.
    let many = entry_bytes(b'x', "pax", &record("a", &"b".repeat(900))).repeat(3);
    assert!(matches!(reader(many, &limits).next_entry(), Err(TarError::OverLimit(_))));
    let long = [
        entry_bytes(b'x', "pax", &record("path", &"b".repeat(101))),
        entry_bytes(b'0', "file", b""),
    ];
    assert!(matches!(reader(long.concat(), &limits).next_entry(), Err(TarError::OverLimit(_))));
    let crowd = entry_bytes(b'0', "file", b"").repeat(1_001);
    assert!(read_all(crowd).unwrap_err().to_string().contains("limit of 1000"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..4_000)) {
        let _ = read_all(bytes);
    }

    #[test]
    fn no_mutation_makes_it_panic_or_read_more_than_there_is(
        changes in vec((0..6_000_usize, any::<u8>()), 1..20),
    ) {
        let mut bytes = entry_bytes(b'x', "pax", &record("path", "a/b"));
        bytes.extend(entry_bytes(b'0', "name", &[7; 600]));
        bytes.extend(entry_bytes(b'L', "././@LongLink", b"some/name\0"));
        bytes.extend(entry_bytes(b'0', "file", &[7; 600]));
        let length = bytes.len();
        for (place, value) in changes {
            bytes[place % length] = value;
        }
        // Headers that were changed get a right checksum: what follows it is what is tested.
        for block in bytes.chunks_mut(512) {
            if block[257..262] == *b"ustar" {
                let mut header = tar::Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        if let Ok(entries) = read_all(bytes) {
            let sum: usize = entries.iter().map(|(_, data)| data.len()).sum();
            prop_assert!(sum <= length);
        }
    }
}

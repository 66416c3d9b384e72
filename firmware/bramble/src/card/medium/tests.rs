use super::*;

fn refused(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("it is written");
    let mut medium = Medium::open(file.path(), false).expect("it opens");
    medium.read_settings().expect_err("it is no card").to_string()
}

fn table(kind: u8, start: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[450] = kind;
    bytes[454..458].copy_from_slice(&start.to_le_bytes());
    bytes[458..462].copy_from_slice(&length.to_le_bytes());
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

#[test]
fn what_is_no_card_is_refused_in_words() {
    assert!(refused(b"").contains("is too short"));
    assert!(refused(&[0; 4_096]).contains("no partition table"));
    assert!(refused(&table(0x83, 8_192, 1)).contains("not one with FAT32"));
    assert!(refused(&table(0x0c, 8_192, 0)).contains("partition is empty"));
    assert!(refused(&table(0x0c, 8_192, u32::MAX)).contains("ends within its first partition"));
    assert!(refused(&[table(0x0c, 1, 1), vec![0; 512]].concat()).contains("cannot be used"));
}

#[test]
fn what_cannot_be_opened_is_named() {
    let error = Medium::open(Path::new("/nowhere/at/all"), false).expect_err("it is not there");
    assert_eq!(error.to_string(), "cannot open /nowhere/at/all");
    let error = Medium::open(Path::new("/dev/null"), true).expect_err("it is no card");
    assert!(error.to_string().contains("neither a file nor a block device"), "{error}");
}

use proptest::{
    collection::vec,
    prelude::{any, prop_assert, proptest},
};

use super::{Limits, UnpackError, Unpacker, readable};
use crate::images::blobs::digest_of;

fn look_through(layer: &[u8], limits: &Limits) -> Result<u64, UnpackError> {
    Unpacker::new(digest_of(layer), None, limits, u64::MAX)?.unpack(layer)
}

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn what_is_unpacked_is_counted() {
    let limits = Limits { unpacked_bytes: 20_000, ..Limits::default() };
    let archive = layer(&[("a", &[1; 3_000]), ("b", &[2; 4_000])]);
    // The blocks of zeros at the end are no part of the image, but they are read.
    assert_eq!(look_through(&archive, &limits).unwrap(), 20_000 - 7_000 - 2 * 4_096 - 512);
    let archive = layer(&[("a", &[1; 7_000]), ("b", &[2; 7_000])]);
    let error = look_through(&archive, &limits).unwrap_err();
    assert!(matches!(error, UnpackError::OverLimit { .. }), "{error}");
}

#[test]
fn the_digest_is_over_all_bytes_also_those_behind_the_end() {
    let mut archive = layer(&[("a", b"abc")]);
    let digest = digest_of(&archive);
    archive.extend([0; 512]);
    let limits = Limits::default();
    assert!(look_through(&archive, &limits).is_ok());
    let result = Unpacker::new(digest, None, &limits, u64::MAX).unwrap().unpack(&archive[..]);
    assert!(matches!(result, Err(UnpackError::WrongDigest { .. })));
}

#[test]
fn messages_show_no_control_characters_and_no_novels() {
    assert_eq!(readable(b"a\x1b[31m\nb"), "a?[31m?b");
    assert!(readable(&[b'x'; 10_000]).len() < 300);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..3_000)) {
        let magic: [&[u8]; 3] = [&[], &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd]];
        for start in magic {
            let bytes = [start, &bytes].concat();
            let _ = look_through(&bytes, &Limits::default());
        }
    }

    #[test]
    fn no_damage_to_a_layer_goes_unnoticed(place in any::<usize>(), bit in 0..8_u32) {
        let mut archive = layer(&[("folder/file", &[7; 2_000]), ("other", b"abc")]);
        let digest = digest_of(&archive);
        let place = place % archive.len();
        archive[place] ^= 1 << bit;
        let limits = Limits::default();
        let unpacker = Unpacker::new(digest, None, &limits, u64::MAX).unwrap();
        prop_assert!(unpacker.unpack(&archive[..]).is_err());
    }
}

use std::io::{Cursor, Read, Write};

use flate2::{Compression, write::GzEncoder};
use proptest::{
    collection::vec,
    prelude::{any, prop_assert_eq, proptest},
};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::{Decoded, Limits};

/// "hello hello hello hello from a real encoder, twice: ", by the reference encoder, with checksum.
const REFERENCE_FRAME: &str = "28b52ffd24344d0100240268656c6c6f2066726f6d2061207265616c20656e636f6465722c2074776963653a200100f14a111bafc29d";
const REFERENCE_TEXT: &str = "hello hello hello hello from a real encoder, twice: ";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn decode(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Decoded::new(bytes, &Limits::default())?.read_to_end(&mut out)?;
    Ok(out)
}

#[test]
fn frames_of_the_reference_encoder_follow_one_another_with_skippable_ones_between() {
    let frame = hex::decode(REFERENCE_FRAME).unwrap();
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"aside"].concat();
    let stream = [&skippable[..], &frame, &skippable, &frame, &skippable].concat();
    assert_eq!(decode(&stream).unwrap(), REFERENCE_TEXT.repeat(2).as_bytes());
    assert!(decode(&stream[..stream.len() - 3]).is_err(), "cut in a skippable frame");
    assert!(decode(&frame[..frame.len() - 6]).is_err(), "cut in a frame");
}

#[test]
fn members_of_gzip_follow_one_another() {
    let stream = [gzip(b"one "), gzip(b"two")].concat();
    assert_eq!(decode(&stream).unwrap(), b"one two");
    assert!(decode(&stream[..stream.len() - 2]).is_err());
}

#[test]
fn a_bomb_ends_at_the_first_byte_too_much() {
    let zeros = vec![0; 4 << 20];
    let limits = Limits { expansion: 50, free_expansion: 1 << 20, ..Limits::default() };
    for bomb in [gzip(&zeros), compress_to_vec(&zeros[..], CompressionLevel::Fastest)] {
        let mut out = Vec::new();
        let error = Decoded::new(&bomb[..], &limits).unwrap().read_to_end(&mut out).unwrap_err();
        assert!(error.to_string().contains("bomb"), "{error}");
        assert!(out.len() < 2 << 20);
    }
    // The same bytes without compression are no bomb.
    let mut out = Vec::new();
    Decoded::new(&zeros[..], &limits).unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(out.len(), zeros.len());
}

#[test]
fn a_zstd_window_larger_than_memory_is_refused() {
    // A frame header that asks for a window of 1 GiB (exponent 20 above 1 KiB).
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 1, 0, 0];
    assert!(decode(&frame).is_err());
}

proptest! {
    #[test]
    fn every_encoding_reads_back(bytes in vec(any::<u8>(), 0..20_000)) {
        // Plain bytes may look compressed by chance; a first byte of zero cannot.
        let bytes = [&[0], &bytes[..]].concat();
        prop_assert_eq!(&decode(&bytes).unwrap(), &bytes);
        prop_assert_eq!(&decode(&gzip(&bytes)).unwrap(), &bytes);
        let zstd = compress_to_vec(Cursor::new(bytes.clone()), CompressionLevel::Fastest);
        prop_assert_eq!(&decode(&zstd).unwrap(), &bytes);
    }

    #[test]
    fn no_damage_makes_a_decoder_panic(
        changes in vec((any::<usize>(), any::<u8>()), 0..30),
        is_zstd in any::<bool>(),
        noise in vec(any::<u8>(), 0..2_000),
    ) {
        let text = b"some text that repeats, some text that repeats".repeat(50);
        let mut bytes = if is_zstd {
            compress_to_vec(&text[..], CompressionLevel::Fastest)
        } else {
            gzip(&text)
        };
        bytes.extend(noise);
        let length = bytes.len();
        for (place, value) in changes {
            let place = 4 + place % (length - 4);
            bytes[place] = value;
        }
        let _ = decode(&bytes);
    }
}

//! `autoboot.txt`: which partition the firmware boots, and which one when it is asked to try.

use crate::slot::Slot;

/// The file is one sector, so that it changes in one piece. The firmware reads no more of it.
pub const AUTOBOOT_BYTES: usize = 512;

/// What `autoboot.txt` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autoboot {
    /// The slot that boots. The other one boots when the firmware is asked to try.
    pub default: Slot,
}

impl Autoboot {
    /// The file's bytes, padded with line ends.
    pub fn to_bytes(self) -> [u8; AUTOBOOT_BYTES] {
        let text = format!(
            "[all]\ntryboot_a_b=1\nboot_partition={}\n[tryboot]\nboot_partition={}\n",
            self.default.partition(),
            self.default.other().partition()
        );
        let mut bytes = [b'\n'; AUTOBOOT_BYTES];
        for (byte, letter) in bytes.iter_mut().zip(text.bytes()) {
            *byte = letter;
        }
        bytes
    }

    /// Reads the file as the firmware does. `None` if it does not name both slots.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..AUTOBOOT_BYTES)?).ok()?;
        let (mut default, mut trial, mut section) = (None, None, "all");
        let mut has_slots = false;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.strip_suffix(']')?;
            } else if let Some((key, value)) = line.split_once('=') {
                let slot = value.parse().ok().and_then(Slot::of_partition);
                match (section, key) {
                    ("all", "boot_partition") => default = slot,
                    ("tryboot", "boot_partition") => trial = slot,
                    ("all", "tryboot_a_b") => has_slots = value == "1",
                    _ => {}
                }
            }
        }
        let default: Slot = default?;
        (has_slots && trial == Some(default.other())).then_some(Self { default })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_reads_back_as_it_was_written() {
        for default in [Slot::A, Slot::B] {
            let autoboot = Autoboot { default };
            assert_eq!(Autoboot::parse(&autoboot.to_bytes()), Some(autoboot));
        }
    }

    #[test]
    fn a_new_cards_file_is_understood() {
        let text = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
        let bytes = [text.as_bytes(), &vec![b'\n'; AUTOBOOT_BYTES - text.len()]].concat();
        assert_eq!(Autoboot::parse(&bytes), Some(Autoboot { default: Slot::A }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Autoboot::parse(&bytes);
        }

        #[test]
        fn any_lines_are_read_without_harm(text in "(\\[?(all|tryboot)?\\]?\n|[a-z_]{0,14}=[0-9]{0,3}\n){0,20}") {
            let mut bytes = text.into_bytes();
            bytes.resize(AUTOBOOT_BYTES, b'\n');
            let _ = Autoboot::parse(&bytes);
        }
    }
}

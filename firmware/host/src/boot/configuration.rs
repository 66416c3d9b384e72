//! The card's first partition, and the owner's configuration on it.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use nix::mount::{MsFlags, mount};

use super::Findings;
use crate::{Places, disk::Disk};

/// The owner's file.
const FILE: &str = "bramble.toml";
/// A configuration is some lines; this is what may be there at most.
const BYTES_MAX: u64 = 64 * 1024;

/// Mounts the card's first partition, read-only, and reads the configuration.
pub(super) fn read(
    places: &Places,
    disk: Option<&Disk>,
    findings: &mut Findings,
) -> Option<String> {
    let partition = disk?.partition(1);
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // The mount says it if the folder cannot be made.
    let _ = std::fs::create_dir_all(&places.card);
    if let Err(error) = mount(Some(&partition), &places.card, Some("vfat"), flags, None::<&str>) {
        findings.problem(format!(
            "the card's first partition {} cannot be read, so there is no configuration: {error}; \
             flash the card again",
            partition.display()
        ));
        return None;
    }
    match read_text(&places.card.join(FILE)) {
        Ok(text) => Some(text),
        Err(problem) => {
            findings.problem(problem);
            None
        }
    }
}

/// The text of a file, or why there is none, in words for the owner.
fn read_text(path: &Path) -> Result<String, String> {
    let name = path.display();
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{name} is missing: the board takes what is usual for everything"));
        }
        Err(error) => return Err(format!("{name} cannot be read: {error}")),
        Ok(_) => {}
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > BYTES_MAX {
        return Err(format!("{name} is longer than {} KiB and was not read", BYTES_MAX / 1024));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("{name} is not UTF-8 text (byte {at}) and was not read; save it as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bounded_text_is_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(read_text(&path).unwrap_err().contains("is missing"));
        std::fs::write(&path, "[board]\n").unwrap();
        assert_eq!(read_text(&path).unwrap(), "[board]\n");
        std::fs::write(&path, b"[bo\xffard]").unwrap();
        assert!(read_text(&path).unwrap_err().contains("not UTF-8 text (byte 3)"));
        std::fs::write(&path, vec![b' '; 65 * 1024]).unwrap();
        assert!(read_text(&path).unwrap_err().contains("longer than 64 KiB"));
    }
}

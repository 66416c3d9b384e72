//! The name of a board: what its settings say, else one that it drew at its first boot.

use std::{fs, path::Path};

use bramble_host::durable;

/// The file in the data folder that keeps a drawn name.
const FILE: &str = "hostname";
/// Letters and digits that nobody mistakes for another, read from a label on a shelf.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567895";
const LETTERS: usize = 4;

/// The board's name. A drawn one stays as long as the data folder does.
pub(crate) fn of_this_board(configured: Option<&str>, data_dir: &Path) -> String {
    if let Some(name) = configured {
        return name.to_owned();
    }
    let file = data_dir.join(FILE);
    if let Ok(name) = fs::read_to_string(&file)
        && is_drawn(name.trim())
    {
        return name.trim().to_owned();
    }
    let name = draw();
    // If it cannot be kept, the next boot draws another: a name identifies nobody.
    let _ = durable::write(&file, name.as_bytes());
    name
}

fn draw() -> String {
    let mut bytes = [0; LETTERS];
    // Without randomness every board would have one name, which is ugly and harmless.
    let _ = getrandom::fill(&mut bytes);
    let letters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
    let tail: String = letters.map(|letter| char::from(*letter)).collect();
    format!("bramble-{tail}")
}

fn is_drawn(name: &str) -> bool {
    let tail = name.strip_prefix("bramble-").unwrap_or_default();
    tail.len() == LETTERS && tail.bytes().all(|byte| ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_name_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = of_this_board(None, folder.path());
        assert!(is_drawn(&name), "{name}");
        assert_eq!(of_this_board(None, folder.path()), name);
        assert_eq!(of_this_board(Some("kitchen"), folder.path()), "kitchen");
        fs::write(folder.path().join(FILE), "not ours\0").expect("it is written");
        assert_ne!(of_this_board(None, folder.path()), "not ours\0");
    }
}

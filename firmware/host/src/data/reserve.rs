//! Room that is kept for the day when the data partition is full.
//!
//! Containers can fill it to the last block. A board that has no room at all could not even start,
//! to let anybody remove something. So a file takes some room while there is plenty, and gives it
//! back to the daemon when there is none.

use std::{
    fs::{self, File},
    path::Path,
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The file, in Bramble's folder.
const FILE: &str = "reserve";
/// Enough for the consensus log to go on for weeks, and for what a start writes.
const BYTES: u64 = 32 << 20;
/// With less than this free the reserve is given back.
const FREE_LEAST: u64 = 8 << 20;
/// With more than this free it is kept, if it is not yet.
const FREE_PLENTY: u64 = 256 << 20;

/// What is to become of the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Make,
    GiveBack,
}

/// Makes the reserve, or gives it back, as the room that is left demands. Failing at it is no harm
/// today.
pub(super) fn keep(folder: &Path) {
    let path = folder.join(FILE);
    let Ok(space) = statvfs(folder) else { return };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    match next_step(free, path.exists()) {
        Step::Nothing => {}
        Step::Make => {
            let made = File::create(&path)
                .is_ok_and(|file| fallocate(&file, FallocateFlags::empty(), 0, BYTES).is_ok());
            if !made {
                let _ = fs::remove_file(path);
            }
        }
        Step::GiveBack => {
            let _ = fs::remove_file(path);
        }
    }
}

fn next_step(free: u64, is_there: bool) -> Step {
    match is_there {
        true if free < FREE_LEAST => Step::GiveBack,
        false if free > FREE_PLENTY => Step::Make,
        _ => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_set_aside_while_there_is_plenty_and_given_back_when_there_is_none() {
        assert_eq!(next_step(1 << 30, false), Step::Make);
        assert_eq!(next_step(1 << 30, true), Step::Nothing);
        assert_eq!(next_step(0, true), Step::GiveBack);
        assert_eq!(next_step(0, false), Step::Nothing);
        // What was given back is not taken again at once: there must be plenty.
        assert_eq!(next_step(BYTES, false), Step::Nothing);
    }

    #[test]
    fn the_reserve_is_a_file_of_its_size() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path());
        let free = statvfs(folder.path()).map(|space| space.f_bavail * space.f_frsize).unwrap();
        let made = fs::metadata(folder.path().join(FILE)).map(|it| it.len()).ok();
        assert_eq!(made, (free > FREE_PLENTY).then_some(BYTES));
    }
}

//! What the kernel said before it died, kept where it can be read afterwards.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::mount::MsFlags;

use crate::{
    Places,
    boot::{Findings, mount_one},
};

/// The folder in Bramble's data.
const FOLDER: &str = "panics";
/// What the kernel has left of one panic: some parts of some kilobytes.
const RECORDS_MAX: usize = 64;
const RECORD_BYTES_MAX: u64 = 128 * 1024;
/// Files that are kept; the oldest go.
const KEPT_MAX: usize = 16;

/// Moves the records of the last panic, if the board could keep any, to the data partition.
pub(crate) fn keep(places: &Places, findings: &mut Findings) {
    let store = places.sources.sys.join("fs/pstore");
    if !store.exists() {
        return;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if mount_one("pstore", &store, flags, "").is_err() {
        return;
    }
    match move_records(&store, &places.bramble().join(FOLDER)) {
        Ok(0) => {}
        Ok(count) => {
            findings.note(format!("{count} records"));
            findings.problem(format!(
                "the kernel panicked before this start; what it said is in {}",
                places.bramble().join(FOLDER).display()
            ));
        }
        Err(error) => findings.problem(format!("what a panic left could not be kept: {error}")),
    }
}

/// Says how many records there were. One that was kept is removed from the kernel's store, which is
/// small.
fn move_records(store: &Path, kept: &Path) -> io::Result<usize> {
    let mut records = files(store)?;
    records.retain(|path| name(path).starts_with("dmesg-"));
    records.sort();
    records.truncate(RECORDS_MAX);
    if records.is_empty() {
        return Ok(0);
    }
    fs::create_dir_all(kept)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for record in &records {
        let mut text = Vec::new();
        File::open(record)?.take(RECORD_BYTES_MAX).read_to_end(&mut text)?;
        // Names that begin with ten digits sort by time.
        let path = kept.join(format!("{:010}-{}", now.as_secs(), name(record)));
        fs::write(&path, text)?;
        File::open(&path)?.sync_all()?;
        fs::remove_file(record)?;
    }
    let mut all = files(kept)?;
    all.sort();
    for old in all.iter().rev().skip(KEPT_MAX) {
        fs::remove_file(old)?;
    }
    Ok(records.len())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    paths.filter(|path| path.as_ref().map_or(true, |path| path.is_file())).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_moved_and_the_oldest_go() {
        let root = tempfile::tempdir().unwrap();
        let (store, kept) = (root.path().join("pstore"), root.path().join("data/panics"));
        fs::create_dir_all(&store).unwrap();
        assert_eq!(move_records(&store, &kept).unwrap(), 0);
        assert!(!kept.exists());

        fs::create_dir_all(&kept).unwrap();
        for index in 0..KEPT_MAX {
            fs::write(kept.join(format!("{index:010}-dmesg-ramoops-0")), "old").unwrap();
        }
        fs::write(store.join("dmesg-ramoops-0"), "Oops").unwrap();
        fs::write(store.join("dmesg-ramoops-1"), vec![b'x'; 200 * 1024]).unwrap();
        fs::write(store.join("console-ramoops-0"), "not of a panic").unwrap();
        assert_eq!(move_records(&store, &kept).unwrap(), 2);
        assert_eq!(files(&store).unwrap().len(), 1);
        let mut names = files(&kept).unwrap();
        names.sort();
        assert_eq!(names.len(), KEPT_MAX);
        assert!(name(&names[0]).starts_with("0000000002"));
        let newest = names.last().unwrap();
        assert_eq!(fs::metadata(newest).unwrap().len(), RECORD_BYTES_MAX);
    }
}

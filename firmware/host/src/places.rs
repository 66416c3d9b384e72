//! Where booting finds and puts things.

use std::path::PathBuf;

use crate::Sources;

/// The folders and files that booting uses; [`Places::default`] is where they are on a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// `/proc` and `/sys`.
    pub sources: Sources,
    /// `/dev`.
    pub dev: PathBuf,
    /// The folder with a folder of modules for each kernel release.
    pub modules: PathBuf,
    /// What the image says about itself: version, modules to load, the empty data file system.
    pub image: PathBuf,
    /// Where the card's first partition is mounted.
    pub card: PathBuf,
    /// Where the data partition is mounted.
    pub data: PathBuf,
    /// What lives as long as this boot.
    pub run: PathBuf,
    /// The program that repairs the data file system.
    pub checker: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            sources: Sources::default(),
            dev: PathBuf::from("/dev"),
            modules: PathBuf::from("/lib/modules"),
            image: PathBuf::from("/etc/bramble"),
            card: PathBuf::from("/card"),
            data: PathBuf::from("/data"),
            run: PathBuf::from("/run"),
            checker: PathBuf::from("/sbin/e2fsck"),
        }
    }
}

impl Places {
    /// Bramble's own folder on the data partition.
    pub fn bramble(&self) -> PathBuf {
        self.data.join("bramble")
    }

    /// Bramble's own folder for what a start ends.
    pub fn bramble_run(&self) -> PathBuf {
        self.run.join("bramble")
    }

    /// The words that the kernel was started with.
    pub fn command_line(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.sources.proc.join("cmdline")).unwrap_or_default();
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }
}

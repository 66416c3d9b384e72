//! The lab's folder: everything about a lab is found again from it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use bramble_network::Segment;
use serde::{Deserialize, Serialize};

use super::board::Board;

/// The boards' network: private, and not one that home routers hand out.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 67, 0, 0);
/// By which interface the host reaches the boards of the default lab.
const UPLINK: &str = "bramble-lab";

/// A lab's folder.
#[derive(Debug, Clone)]
pub(crate) struct LabFolder {
    path: PathBuf,
}

/// What `lab.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boards: u8,
}

impl LabFolder {
    /// The lab in `path`, whether or not there is one yet.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a lab.
    pub(crate) fn exists(&self) -> bool {
        self.record_path().exists() || self.path.join("net").exists()
    }

    /// The boards' network.
    pub(crate) fn segment(&self) -> Segment {
        Segment::new(&self.path.join("net"), NETWORK)
    }

    /// The cgroup that holds the boards', from the root of each hierarchy.
    pub(crate) fn cgroup(&self) -> String {
        if self.is_default() {
            return "bramble-lab".to_owned();
        }
        let name = self
            .path
            .to_string_lossy()
            .replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        format!("bramble-lab{name}")
    }

    /// Makes the folder, the network, and a configuration for each board. Starts nothing.
    pub(crate) async fn create(&self, boards: u8) -> Result<Vec<Board>> {
        fs::create_dir_all(&self.path)
            .with_context(|| format!("cannot make {}", self.path.display()))?;
        fs::write(self.record_path(), serde_json::to_vec(&Record { boards })?)?;
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| anyhow!("cannot draw a cluster key: {error}"))?;
        let segment = self.segment();
        segment.create().await?;
        for number in 1..=boards {
            let folder = self.path.join(number.to_string());
            fs::create_dir_all(folder.join("data"))?;
            let config = format!(
                "[board]\nhostname = \"board{number}\"\ninterfaces = [\"eth0\"]\n\n[cluster]\nkey = \"{}\"\n",
                hex::encode(key)
            );
            fs::write(folder.join("bramble.toml"), config)?;
            segment.attach(number).await?;
        }
        // Only one lab can have the uplink, as all labs have the same addresses.
        if self.is_default() {
            segment.connect_host(UPLINK).await.context("cannot connect this machine to the lab")?;
        }
        self.boards()
    }

    /// All boards; none if there is no lab.
    pub(crate) fn boards(&self) -> Result<Vec<Board>> {
        let Ok(text) = fs::read(self.record_path()) else { return Ok(Vec::new()) };
        let record: Record = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", self.record_path().display()))?;
        Ok((1..=record.boards).map(|number| Board::new(self.clone(), number)).collect())
    }

    /// One board.
    pub(crate) fn board(&self, number: u8) -> Result<Board> {
        let boards = self.boards()?;
        let count = boards.len();
        match boards.into_iter().find(|board| board.number() == number) {
            Some(board) => Ok(board),
            None if count == 0 => {
                bail!("there is no lab in {}: `bramble lab up` starts one", self.path.display())
            }
            None => bail!("there is no board {number}: the lab has boards 1 to {count}"),
        }
    }

    /// Copies the boards' logs out of the lab, for whoever wants to know why it did not come up.
    pub(crate) fn keep_logs(&self) -> Option<PathBuf> {
        let kept = PathBuf::from(format!("{}-logs", self.path.display()));
        fs::create_dir_all(&kept).ok()?;
        for board in self.boards().ok()? {
            let _ = fs::copy(board.log(), kept.join(format!("board{}.log", board.number())));
        }
        Some(kept)
    }

    /// Removes the network and the folder.
    pub(crate) fn remove(&self) -> Result<()> {
        self.segment().remove()?;
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    fn is_default(&self) -> bool {
        self.path == Path::new(super::DEFAULT_FOLDER)
    }

    fn record_path(&self) -> PathBuf {
        self.path.join("lab.json")
    }
}

//! What of the orders outlives the daemon: two small files in the run folder, which is memory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bramble_cluster::{Assignment, ClusterId, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The files of one cluster's orders.
#[derive(Debug)]
pub(super) struct Record {
    cluster: ClusterId,
    assignment: PathBuf,
    confirmed_at: PathBuf,
}

/// The root of both files. Orders of another cluster are none.
#[derive(Debug, Serialize, Deserialize)]
enum Stored<T> {
    V1 { cluster: ClusterId, value: T },
}

/// A record could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{} could not be written", path.display())]
pub(super) struct KeepError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Record {
    pub(super) fn new(run: &Path, cluster: ClusterId) -> Self {
        Self { cluster, assignment: run.join("assignment"), confirmed_at: run.join("confirmed-at") }
    }

    pub(super) fn assignment(&self) -> Option<Assignment> {
        self.read(&self.assignment)
    }

    pub(super) fn confirmed_at(&self) -> Option<Timestamp> {
        self.read(&self.confirmed_at)
    }

    pub(super) fn keep_assignment(&self, assignment: &Assignment) -> Result<(), KeepError> {
        self.write(&self.assignment, assignment)
    }

    pub(super) fn keep_confirmed_at(&self, at: Timestamp) -> Result<(), KeepError> {
        self.write(&self.confirmed_at, &at)
    }

    /// What the file holds; one that is missing, damaged or another cluster's holds nothing.
    fn read<T: DeserializeOwned>(&self, path: &Path) -> Option<T> {
        let bytes = fs::read(path).ok()?;
        match postcard::from_bytes(&bytes) {
            Ok(Stored::V1 { cluster, value }) if cluster == self.cluster => Some(value),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a damaged record is ignored");
                None
            }
        }
    }

    /// Replaces the file as a whole, so that a daemon killed half-way leaves the old one.
    fn write<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), KeepError> {
        let fail = |source| KeepError { path: path.to_owned(), source };
        let stored = Stored::V1 { cluster: self.cluster, value };
        let bytes = postcard::to_stdvec(&stored).map_err(|error| fail(io::Error::other(error)))?;
        let new = path.with_extension("new");
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, path)).map_err(fail)
    }
}

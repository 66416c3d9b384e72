//! Where things are on the run directory and the data directory.

use std::path::{Path, PathBuf};

use bramble_cluster::TaskId;

use crate::ExecId;

/// The paths of one board. Clone it freely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    run_dir: PathBuf,
    data_dir: PathBuf,
    cgroup: PathBuf,
}

impl Layout {
    /// The layout below a run directory (memory), a data directory (disk) and a cgroup, which is
    /// absolute within each hierarchy (`/bramble`).
    pub fn new(
        run_dir: impl Into<PathBuf>,
        data_dir: impl Into<PathBuf>,
        cgroup: impl Into<PathBuf>,
    ) -> Self {
        Self { run_dir: run_dir.into(), data_dir: data_dir.into(), cgroup: cgroup.into() }
    }

    /// The run directory.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The cgroup above all containers'.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Where the keeper listens.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("keeper.sock")
    }

    /// All bundles.
    pub fn bundles(&self) -> PathBuf {
        self.run_dir.join("containers")
    }

    /// A container's folder.
    pub fn bundle(&self, id: TaskId) -> PathBuf {
        self.bundles().join(id.to_string())
    }

    /// The segments of a container's log.
    pub fn log(&self, id: TaskId) -> PathBuf {
        self.bundle(id).join("log")
    }

    /// A container's cgroup, absolute within each hierarchy.
    pub fn container_cgroup(&self, id: TaskId) -> PathBuf {
        self.cgroup.join(id.to_string())
    }

    /// The named volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data_dir.join("volumes")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.run_dir.join("keeper.lock")
    }

    pub(crate) fn oci_states(&self) -> PathBuf {
        self.run_dir.join("oci")
    }

    pub(crate) fn oci_state(&self, id: TaskId) -> PathBuf {
        self.oci_states().join(id.to_string())
    }

    pub(crate) fn config(&self, id: TaskId) -> PathBuf {
        self.bundle(id).join("config.json")
    }

    pub(crate) fn order(&self, id: TaskId) -> PathBuf {
        self.bundle(id).join("order")
    }

    pub(crate) fn status(&self, id: TaskId) -> PathBuf {
        self.bundle(id).join("status")
    }

    /// The OCI process description of an exec.
    pub(crate) fn exec(&self, id: TaskId, exec: ExecId) -> PathBuf {
        self.bundle(id).join(format!("exec-{exec}.json"))
    }
}

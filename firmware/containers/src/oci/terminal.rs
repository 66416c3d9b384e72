//! Terminals: libcontainer makes them in the container and sends their master side to a socket.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
};

use bramble_cluster::TaskId;

use super::chain;
use crate::{Layout, keeper::receive_file};

/// A socket that waits for a terminal.
#[derive(Debug)]
pub(super) struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    pub(super) fn listen(layout: &Layout, id: TaskId) -> Result<Self, String> {
        let path = layout.bundle(id).join(format!("console-{}", std::process::id()));
        let listener = UnixListener::bind(&path).map_err(chain)?;
        Ok(Self { path, listener })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The master side. It was sent before the process said that it is ready, so this does not
    /// wait.
    pub(super) fn receive(self) -> Result<OwnedFd, String> {
        let (stream, _) = self.listener.accept().map_err(chain)?;
        receive_file(&stream.into()).ok_or_else(|| "no terminal was made".to_owned())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

//! Bundles: the files that a container is started from.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use bramble_cluster::TaskId;

use crate::{
    CallError, ContainerRequest, ExecId, ExecRequest, Layout, SpecError, VolumeError,
    protocol::Order,
    spec::{self, Written},
    volumes,
};

/// Bytes of the board's `resolv.conf` that a container gets.
const RESOLV_CONF_BYTES: usize = 64 * 1024;

/// A container could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// It was started before.
    #[error("container {id} was started before")]
    Exists {
        /// Which.
        id: TaskId,
    },
    /// A field of what was asked for makes no sense.
    #[error(transparent)]
    Invalid(#[from] SpecError),
    /// A volume could not be made.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A file could not be written.
    #[error("cannot write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This process is ending.
    #[error("the daemon is ending")]
    Interrupted,
}

/// Writes a bundle, anew if there is one.
pub(crate) fn create(layout: &Layout, request: &ContainerRequest) -> Result<(), CreateError> {
    let id = request.task.id;
    let written = spec::write(layout, request)?;
    for volume in &written.volumes {
        volumes::ensure(&layout.volumes(), &request.rootfs, volume)?;
    }
    let bundle = layout.bundle(id);
    drop(fs::remove_dir_all(&bundle));
    let result = write(layout, id, &bundle, &written);
    if result.is_err() {
        drop(fs::remove_dir_all(&bundle));
    }
    result
}

fn write(layout: &Layout, id: TaskId, bundle: &Path, written: &Written) -> Result<(), CreateError> {
    let fail = |path: PathBuf| move |source| CreateError::File { path, source };
    // Only root looks into a bundle: environment and arguments may hold secrets.
    let mut directory = fs::DirBuilder::new();
    directory.recursive(true).mode(0o700);
    directory.create(bundle).map_err(fail(bundle.to_owned()))?;
    let order = postcard::to_stdvec(&Order::V1(written.order.clone())).unwrap_or_default();
    let resolv_conf = written.files.resolv_conf.clone().unwrap_or_else(board_resolv_conf);
    for (path, contents) in [
        (bundle.join("hosts"), written.files.hosts.as_bytes()),
        (bundle.join("hostname"), written.files.hostname.as_bytes()),
        (bundle.join("resolv.conf"), resolv_conf.as_bytes()),
        (layout.config(id), written.config.to_string().as_bytes()),
        // Last: its presence says that the bundle is whole.
        (layout.order(id), &order),
    ] {
        fs::write(&path, contents).map_err(fail(path))?;
    }
    Ok(())
}

fn board_resolv_conf() -> String {
    let mut text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if text.len() > RESOLV_CONF_BYTES {
        text.clear();
    }
    text
}

/// Writes the description of an exec into its container's bundle.
pub(crate) fn create_exec(
    layout: &Layout,
    id: TaskId,
    exec: ExecId,
    request: &ExecRequest,
) -> Result<(), CallError> {
    let fail = |path: PathBuf| move |source| CallError::File { path, source };
    let config = layout.config(id);
    let text = match fs::read(&config) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(crate::Refusal::NotFound { id }.into());
        }
        result => result.map_err(fail(config.clone()))?,
    };
    let config = serde_json::from_slice(&text).map_err(|error| fail(config)(error.into()))?;
    let process = spec::write_exec(&config, request)?;
    let path = layout.exec(id, exec);
    fs::write(&path, process.to_string()).map_err(fail(path))
}

//! An update on its way to a board.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bramble_api::types::os::{OsProgress, OsStatus};
use bramble_host::update::{Header, peek_head};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Method, body::Frame, body::Incoming};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{fs::File, io::AsyncReadExt};

use crate::cli::{
    client::{Body, Client, Query},
    output::print,
};

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes of a line of progress, at most.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Between two drawings of the progress.
const REDRAW: Duration = Duration::from_millis(100);

/// An update file of this machine.
#[derive(Debug)]
pub(super) struct UpdateFile {
    path: PathBuf,
    /// What it claims to be; the boards verify it.
    pub(super) header: Header,
}

impl UpdateFile {
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let open = || format!("cannot read {}", path.display());
            let mut file = std::fs::File::open(&path).with_context(open)?;
            let header = peek_head(&mut file).with_context(open)?;
            Ok(Self { path, header })
        });
        opened.await?
    }

    /// Sends it to a board, unless that has it already.
    pub(super) async fn send(
        &self,
        client: &Client,
        node: &str,
        name: &str,
        system: Option<&OsStatus>,
    ) -> Result<()> {
        let version = self.header.version.to_string();
        if system.is_some_and(|system| self.is_held(system, &version)) {
            return print(&format!("{name}: holds {version} already\n"));
        }
        if system.is_some_and(|system| self.runs(system, &version)) {
            return print(&format!("{name}: runs {version} already\n"));
        }
        let file = File::open(&self.path).await;
        let file = file.with_context(|| format!("cannot read {}", self.path.display()))?;
        let query = Query::new().with("node", node);
        let response = client.send(Method::POST, "/bramble/os", &query, body(file)).await;
        let response = response.with_context(|| name.to_owned())?;
        let staged = self.follow(name, response.into_body()).await;
        let staged = staged.with_context(|| name.to_owned())?;
        print(&format!("{name}: holds {staged}, checked\n"))
    }

    /// Another update may have the same version, and is another one all the same.
    fn is_held(&self, system: &OsStatus, version: &str) -> bool {
        system.staged.as_deref() == Some(version)
            && system.staged_counter == Some(self.header.counter)
    }

    fn runs(&self, system: &OsStatus, version: &str) -> bool {
        !system.is_trial
            && system.version == version
            && system.counter >= self.header.counter
            && system.staged.is_none()
    }

    /// Shows how it goes until it has ended; returns the version that lies ready.
    async fn follow(&self, name: &str, mut body: Incoming) -> Result<String> {
        let bar = progress(name);
        let mut unread = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the answer broke off")?;
            unread.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line = unread.split_to(end + 1);
                if line.len() == 1 {
                    continue;
                }
                match serde_json::from_slice(&line).context("the answer is not understood")? {
                    OsProgress::Written { bytes, total } => show(&bar, "writing", bytes, total),
                    OsProgress::Checked { bytes, total } => show(&bar, "checking", bytes, total),
                    OsProgress::Staged { version } => {
                        bar.finish_and_clear();
                        return Ok(version);
                    }
                    OsProgress::Failed(reason) => {
                        bar.finish_and_clear();
                        bail!("{reason}");
                    }
                }
            }
            if unread.len() > LINE_BYTES_MAX {
                bail!("the answer is not understood: a line of it has no end");
            }
        }
        bail!("the board was lost while it wrote the update: send it again")
    }
}

fn progress(name: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0).with_prefix(name.to_owned());
    bar.enable_steady_tick(REDRAW);
    match ProgressStyle::with_template(
        "{prefix} {msg:8} {bar:40} {bytes}/{total_bytes}  {eta} left",
    ) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(bar: &ProgressBar, what: &'static str, bytes: u64, total: u64) {
    bar.set_message(what);
    bar.set_length(total);
    bar.set_position(bytes);
}

fn body(file: File) -> Body {
    let pieces = stream::unfold(file, |mut file| async move {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        match file.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(piece.freeze()), file)),
            Err(error) => Some((Err(error), file)),
        }
    });
    let frames = pieces.map(|piece: io::Result<Bytes>| piece.map(Frame::data));
    BodyExt::boxed(StreamBody::new(frames))
}

#[cfg(test)]
mod tests {
    use bramble_cluster::Digest;
    use bramble_host::update::{Compression, Content};

    use super::*;

    #[test]
    fn a_later_update_of_the_same_version_is_sent() -> Result<()> {
        let content = Content { bytes: 512, sha256: Digest::from_bytes([0; 32]) };
        let header = Header {
            board: "rpi".to_owned(),
            version: "0.1.0".parse()?,
            counter: 7,
            compression: Compression::Gzip,
            slot: content,
            body: content,
        };
        let update = UpdateFile { path: PathBuf::new(), header };
        let holding = |counter| OsStatus {
            staged: Some("0.1.0".to_owned()),
            staged_counter: counter,
            ..OsStatus::default()
        };
        assert!(update.is_held(&holding(Some(7)), "0.1.0"));
        assert!(!update.is_held(&holding(Some(6)), "0.1.0"));
        assert!(!update.is_held(&holding(None), "0.1.0"), "an older system does not say");
        assert!(!update.is_held(&OsStatus::default(), "0.1.0"));
        Ok(())
    }
}

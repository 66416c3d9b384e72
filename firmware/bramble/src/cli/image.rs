//! `bramble image …`

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bramble_api::types::image::ImageSummary;
use bramble_containers::images::archive_folder;
use bytes::{Bytes, BytesMut};
use clap::Subcommand;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Method, body::Frame};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, DuplexStream};
use tokio_util::io::SyncIoBridge;

use super::{
    client::{Body, Client, Query, escape},
    human::{ago, decimal_size, short_id},
    output::{InspectFormat, ListFormat, Table, print, print_objects},
};

/// Bytes of an archive that are read at a time.
const PIECE_BYTES: usize = 64 * 1_024;
/// Between two drawings of the progress.
const REDRAW: Duration = Duration::from_millis(100);

/// Images on the board.
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// List the images that the board holds
    #[command(alias = "list")]
    Ls {
        #[command(flatten)]
        format: ListFormat,
    },
    /// Load images from an archive (docker save, or OCI) or an OCI layout folder
    Load {
        /// The archive or folder; `-` is an archive on the standard input
        file: PathBuf,
        /// Do not show the progress
        #[arg(short, long)]
        quiet: bool,
    },
    /// Write the image of the built-in service, made of this very binary, as an archive
    Whoami {
        /// Where to
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Show everything about images
    Inspect {
        /// Names or digests
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        #[command(flatten)]
        format: InspectFormat,
    },
    /// Remove images from the board
    #[command(alias = "remove")]
    Rm {
        /// Names or digests
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// Even if tasks use them
        #[arg(short, long)]
        force: bool,
    },
}

impl Image {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::Ls { format } => list(client, &format).await,
            Self::Load { file, quiet } => {
                load(client, &file, quiet).await?.iter().try_for_each(|line| print(line))
            }
            Self::Whoami { output } => crate::whoami::write_image(&output),
            Self::Inspect { images, format } => {
                let mut objects: Vec<Value> = Vec::new();
                for name in &images {
                    let path = format!("/images/{}/json", escape(name));
                    objects.push(client.get(&path, &Query::new()).await?);
                }
                print_objects(&objects, &format)
            }
            Self::Rm { images, force } => {
                for name in &images {
                    let query = Query::new().with_flag("force", force);
                    client.delete(&format!("/images/{}", escape(name)), &query).await?;
                    print(&format!("Untagged: {name}\n"))?;
                }
                Ok(())
            }
        }
    }
}

async fn list(client: &Client, format: &ListFormat) -> Result<()> {
    let images: Vec<ImageSummary> = client.get("/images/json", &Query::new()).await?;
    let mut table = Table::new(&[
        ("REPOSITORY", "Repository"),
        ("TAG", "Tag"),
        ("IMAGE ID", "ShortID"),
        ("CREATED", "CreatedSince"),
        ("SIZE", "Size"),
    ]);
    let now = jiff::Timestamp::now();
    for image in images {
        let none = vec!["<none>:<none>".to_owned()];
        let names = if image.repo_tags.is_empty() { &none } else { &image.repo_tags };
        for name in names {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
            let created = jiff::Timestamp::from_second(image.created)
                .ok()
                .filter(|_| image.created > 0)
                .map_or_else(|| "N/A".to_owned(), |created| ago(&created.to_string(), now));
            let id = if format.no_trunc { image.id.as_str() } else { short_id(&image.id) };
            table.row([
                ("Repository", repository.to_owned()),
                ("Tag", tag.to_owned()),
                ("ShortID", id.to_owned()),
                ("ID", image.id.clone()),
                ("CreatedSince", created),
                ("Size", decimal_size(u64::try_from(image.size).unwrap_or(0))),
            ]);
        }
    }
    table.print(format)
}

/// Loads an archive without showing anything.
pub(crate) async fn load_quietly(client: &Client, file: &Path) -> Result<()> {
    load(client, file, true).await.map(|_| ())
}

async fn load(client: &Client, file: &Path, is_quiet: bool) -> Result<Vec<String>> {
    let (reader, length): (Box<dyn AsyncRead + Send + Sync + Unpin>, Option<u64>) =
        if file == Path::new("-") {
            if io::stdin().is_terminal() {
                bail!("the standard input is a terminal: pipe an archive in, or name a file");
            }
            (Box::new(tokio::io::stdin()), None)
        } else {
            let open = || format!("cannot read {}", file.display());
            let opened = tokio::fs::File::open(file).await.with_context(open)?;
            let metadata = opened.metadata().await.with_context(open)?;
            if metadata.is_dir() {
                (Box::new(layout_archive(file)?), None)
            } else {
                (Box::new(opened), Some(metadata.len()))
            }
        };
    let bar = progress(length, is_quiet);
    let query = Query::new().with("quiet", "1");
    let sent = client.send(Method::POST, "/images/load", &query, body(reader, &bar)).await;
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            bar.abandon();
            return Err(error);
        }
    };
    bar.finish_and_clear();
    let answer = response.into_body().collect().await.context("the answer broke off")?;
    report(&answer.to_bytes())
}

/// An OCI layout folder as the archive that the board takes, written while it is read.
fn layout_archive(folder: &Path) -> Result<DuplexStream> {
    if !folder.join("index.json").exists() {
        bail!("{} is no OCI layout: it has no index.json", folder.display());
    }
    let (reader, writer) = tokio::io::duplex(PIECE_BYTES);
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = archive_folder(&folder, SyncIoBridge::new(writer)) {
            // The board sees a short archive and refuses it; here is why it is short.
            eprintln!("bramble: cannot read {}: {error}", folder.display());
        }
    });
    Ok(reader)
}

fn progress(length: Option<u64>, is_quiet: bool) -> ProgressBar {
    if is_quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {bytes_per_sec}"),
    };
    bar.enable_steady_tick(REDRAW);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The archive, read as the board takes it.
fn body(reader: Box<dyn AsyncRead + Send + Sync + Unpin>, bar: &ProgressBar) -> Body {
    let bar = bar.clone();
    let pieces = stream::unfold((reader, bar), |(mut reader, bar)| async move {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        match reader.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(length) => {
                bar.inc(length as u64);
                Some((Ok(piece.freeze()), (reader, bar)))
            }
            Err(error) => Some((Err(error), (reader, bar))),
        }
    });
    let frames = pieces.map(|piece: io::Result<Bytes>| piece.map(Frame::data));
    BodyExt::boxed(StreamBody::new(frames))
}

/// What Docker's stream of messages says; an error among them is one.
fn report(answer: &[u8]) -> Result<Vec<String>> {
    let messages = serde_json::Deserializer::from_slice(answer).into_iter::<Value>();
    let mut lines = Vec::new();
    for message in messages {
        let message = message.context("the board's answer is not understood")?;
        if let Some(error) = message.get("error").and_then(Value::as_str) {
            bail!("{error}");
        }
        if let Some(text) = message.get("stream").and_then(Value::as_str) {
            lines.push(text.to_owned());
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_the_stream_is_one() {
        assert!(report(b"{\"stream\":\"Loaded image: a:1\\n\"}\n").is_ok());
        let error = report(b"{\"stream\":\"\"}\n{\"error\":\"it is damaged\"}\n");
        assert_eq!(error.expect_err("an error").to_string(), "it is damaged");
        assert!(report(b"{").is_err());
    }
}

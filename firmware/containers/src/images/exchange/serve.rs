//! The side that has blobs.

use std::{
    io::{self, Seek, SeekFrom},
    sync::Arc,
    time::Duration,
};

use bramble_cluster::Digest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{CHUNK_BYTES, Reply, Request, parse, receive, send};
use crate::images::{BlobError, ImageStore};

/// How long a stream may be idle between two requests.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// A stream of requests ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The other side is gone, silent, or speaks another language.
    #[error("the exchange of blobs was cut")]
    Cut(#[from] io::Error),
}

impl ImageStore {
    /// Answers the requests of one stream until it ends. Few blobs are sent at the same time, over
    /// all streams; the others wait.
    pub async fn serve(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<(), ServeError> {
        let mut frame = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        while receive(&mut stream, &mut frame, IDLE_TIME).await? {
            let Request::Blob { digest, offset } = parse(&frame)?;
            // The semaphore is never closed.
            let _permit = self.inner.served.acquire().await.ok();
            match self.open_at(digest, offset).await {
                Ok((size, file)) => {
                    send(&mut stream, &mut frame, &Reply::Begin { size }).await?;
                    let mut rest = tokio::fs::File::from_std(file).take(size - offset);
                    loop {
                        let count = rest.read(&mut chunk).await?;
                        if count == 0 {
                            break;
                        }
                        send(&mut stream, &mut frame, &Reply::Chunk(&chunk[..count])).await?;
                    }
                    send(&mut stream, &mut frame, &Reply::End).await?;
                }
                Err(BlobError::Missing { .. }) => {
                    send(&mut stream, &mut frame, &Reply::Missing).await?;
                }
                Err(error) => {
                    let reason = error.to_string();
                    send(&mut stream, &mut frame, &Reply::Failed(&reason)).await?;
                }
            }
        }
        Ok(())
    }

    async fn open_at(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<(u64, std::fs::File), BlobError> {
        let inner = Arc::clone(&self.inner);
        crate::images::blocking(move || {
            let (mut file, size) = inner.blobs.open_blob(digest, None)?;
            if offset > size {
                return Err(BlobError::WrongSize { digest, expected: offset, found: size });
            }
            file.seek(SeekFrom::Start(offset)).map_err(|source| BlobError::Io {
                action: "read",
                path: inner.blobs.path(digest),
                source,
            })?;
            Ok((size, file))
        })
        .await
    }
}

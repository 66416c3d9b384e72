//! The side that wants an image.

use std::{
    collections::BTreeSet,
    fmt::Display,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bramble_cluster::{Digest, ImageName, Timestamp};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{FRAME_TIME, Reply, Request, receive, send};
use crate::images::{
    BlobError, DocumentError, ImageStore, LoadError, Progress, StoredImage,
    blobs::PartialBlob,
    import::Import,
    manifest::{self, Descriptor, Document, Manifest},
    store::{Inner, Pins},
};

/// How long it may take to reach a holder.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// After a round over all holders that brought nothing.
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// Rounds over all holders for one blob, at most.
const ROUNDS: usize = 1_000;
/// Rounds in a row that may bring nothing.
const FRUITLESS_ROUNDS: usize = 3;
/// Indexes within indexes.
const INDEX_DEPTH: usize = 3;

/// An image could not be fetched. What came of it is kept, and the next attempt goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody is known to have it.
    #[error("no board has image {image}")]
    NoHolder {
        /// Which.
        image: Digest,
    },
    /// None of its holders gave a blob.
    #[error("no holder of {image} gave its blob {blob}: {}", reasons.join("; "))]
    Refused {
        /// Which image.
        image: Digest,
        /// Which blob.
        blob: Digest,
        /// What happened with each of them last.
        reasons: Vec<String>,
    },
    /// A document of it is not valid.
    #[error("`{blob}` is not valid")]
    Document {
        /// Which blob.
        blob: Digest,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// It is not for boards like this one.
    #[error("image {image} is not for {platform}")]
    NoPlatform {
        /// Which.
        image: Digest,
        /// What this board is.
        platform: String,
    },
    /// A blob could not be written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The blobs came, but make no image.
    #[error("image {image} came, and cannot be used")]
    Unusable {
        /// Which.
        image: Digest,
        /// Why not.
        #[source]
        source: Box<LoadError>,
    },
}

/// Why one attempt with one holder ended.
enum Setback {
    /// It is the holder's fault, or the way's: another may do better.
    Holder(String),
    /// What was here before the holder was asked was of something else. It is gone now.
    Stale,
    /// It is this board's fault: nobody could do better.
    Here(BlobError),
}

impl From<io::Error> for Setback {
    fn from(error: io::Error) -> Self {
        Self::Holder(error.to_string())
    }
}

type Tell = Box<dyn FnMut(Progress) + Send>;

/// One image on its way.
struct Fetch<H, C, S> {
    store: Arc<Inner>,
    image: Digest,
    holders: Vec<H>,
    connect: C,
    /// The stream to the holder of that place in the list.
    open: Option<(usize, S)>,
    progress: Tell,
    bytes: u64,
    total: u64,
}

impl ImageStore {
    /// Fetches an image from boards that hold it, and lists it by these names. `connect` opens a
    /// stream to a holder; it is called again after a cut. Fetching an image that is here is fine.
    pub async fn fetch<H, S, C, F>(
        &self,
        image: Digest,
        names: BTreeSet<ImageName>,
        holders: Vec<H>,
        connect: C,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<StoredImage, FetchError>
    where
        H: Display + Clone,
        C: Fn(H) -> F,
        F: Future<Output = io::Result<S>>,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let lock = self.inner.fetch_lock(image);
        let _alone = lock.lock().await;
        let is_here = self.find(image).is_some();
        if !is_here && holders.is_empty() {
            return Err(FetchError::NoHolder { image });
        }
        let pins = Arc::new(Mutex::new(Pins::new(Arc::clone(&self.inner))));
        let mut fetch = Fetch {
            store: Arc::clone(&self.inner),
            image,
            holders,
            connect,
            open: None,
            progress: Box::new(progress),
            bytes: 0,
            total: 0,
        };
        if !is_here {
            fetch.run(&pins).await?;
        }
        let Fetch { store, mut progress, .. } = fetch;
        crate::images::blocking(move || {
            let mut pins = pins.lock().unwrap_or_else(PoisonError::into_inner);
            let blobs = store.blobs.clone();
            let mut provide = |digest: Digest| match blobs.size(digest) {
                Some(_) => Ok(()),
                None => Err(LoadError::Missing { path: digest.to_string() }),
            };
            Import::new(&store, &mut pins, &mut provide, &mut progress).run(
                image,
                &names,
                Timestamp::default(),
            )
        })
        .await
        .map_err(|source| FetchError::Unusable { image, source: Box::new(source) })
    }
}

impl<H, C, F, S> Fetch<H, C, S>
where
    H: Display + Clone,
    C: Fn(H) -> F,
    F: Future<Output = io::Result<S>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn run(&mut self, pins: &Mutex<Pins>) -> Result<(), FetchError> {
        let manifest = self.manifest(pins).await?;
        let Descriptor { digest, size, .. } = manifest.config;
        let sizes = manifest.layers.iter().map(|layer| layer.size);
        self.total = sizes.fold(size, u64::saturating_add);
        self.tell(0);
        let limit = self.store.limits.document_bytes;
        self.blob(digest, Some(size), limit, pins).await?;
        for layer in &manifest.layers {
            let limit = self.store.limits.archive_bytes;
            self.blob(layer.digest, Some(layer.size), limit, pins).await?;
        }
        Ok(())
    }

    /// Fetches the manifest for this board, and what leads to it.
    async fn manifest(&mut self, pins: &Mutex<Pins>) -> Result<Manifest, FetchError> {
        let image = self.image;
        let (mut blob, mut size) = (image, None);
        for _ in 0..=INDEX_DEPTH {
            self.blob(blob, size, self.store.limits.document_bytes, pins).await?;
            let store = Arc::clone(&self.store);
            let bytes = crate::images::blocking(move || store.blobs.read_document(blob)).await?;
            let document = manifest::parse(&bytes, &self.store.limits)
                .map_err(|source| FetchError::Document { blob, source })?;
            match document {
                Document::Manifest(manifest) => return Ok(manifest),
                Document::Index(manifests) => {
                    match manifest::choose(&manifests, &self.store.platform) {
                        Some(chosen) => (blob, size) = (chosen.digest, Some(chosen.size)),
                        None => break,
                    }
                }
            }
        }
        let platform = &self.store.platform;
        let platform = format!("{}/{}", platform.os, platform.architecture);
        Err(FetchError::NoPlatform { image, platform })
    }

    /// Fetches one blob unless it is here.
    async fn blob(
        &mut self,
        blob: Digest,
        size: Option<u64>,
        limit: u64,
        pins: &Mutex<Pins>,
    ) -> Result<(), FetchError> {
        pins.lock().unwrap_or_else(PoisonError::into_inner).add(blob);
        let found = self.store.blobs.size(blob);
        if let Some(found) = found.filter(|found| size.is_none_or(|size| size == *found)) {
            self.tell(found);
            return Ok(());
        }
        let first = self.open.as_ref().map_or(0, |(place, _)| *place);
        let mut reasons = Vec::new();
        let mut fruitless = 0;
        for _ in 0..ROUNDS {
            reasons.clear();
            let before = self.bytes;
            for step in 0..self.holders.len() {
                let place = (first + step) % self.holders.len();
                let holder = self.holders[place].clone();
                let mut result = self.attempt(place, blob, size, limit).await;
                if matches!(result, Err(Setback::Stale)) {
                    result = self.attempt(place, blob, size, limit).await;
                }
                match result {
                    Ok(()) => return Ok(()),
                    Err(Setback::Here(error)) => return Err(error.into()),
                    Err(Setback::Holder(reason)) => reasons.push(format!("{holder}: {reason}")),
                    Err(Setback::Stale) => reasons.push(format!("{holder}: gave other bytes")),
                }
            }
            fruitless = if self.bytes > before { 0 } else { fruitless + 1 };
            match fruitless {
                0 => {}
                FRUITLESS_ROUNDS => break,
                _ => tokio::time::sleep(ROUND_PAUSE).await,
            }
        }
        Err(FetchError::Refused { image: self.image, blob, reasons })
    }

    /// Tries one holder, from where the last attempt was cut.
    async fn attempt(
        &mut self,
        place: usize,
        blob: Digest,
        size: Option<u64>,
        limit: u64,
    ) -> Result<(), Setback> {
        // Taken out: a stream is only kept if the attempt ended at the end of an answer.
        let mut stream = match self.open.take() {
            Some((open, stream)) if open == place => stream,
            _ => {
                let connect = (self.connect)(self.holders[place].clone());
                let late = |_| Setback::Holder("cannot be reached in time".to_owned());
                timeout(CONNECT_TIME, connect).await.map_err(late)??
            }
        };
        let store = Arc::clone(&self.store);
        let mut partial = here(move || {
            let partial = store.blobs.resume(blob)?;
            if size.is_none_or(|size| partial.offset() <= size) {
                return Ok(partial);
            }
            drop(partial);
            store.blobs.forget_partial(blob)?;
            store.blobs.resume(blob)
        })
        .await?;
        let mut frame = Vec::new();
        let came_before = partial.offset();
        let request = Request::Blob { digest: blob, offset: partial.offset() };
        send(&mut stream, &mut frame, &request).await?;
        let announced = match next(&mut stream, &mut frame).await? {
            Reply::Begin { size } => size,
            Reply::Missing => {
                self.open = Some((place, stream));
                return Err(Setback::Holder("does not have it".to_owned()));
            }
            Reply::Failed(reason) => {
                return Err(Setback::Holder(reason.chars().take(200).collect()));
            }
            Reply::Chunk(_) | Reply::End => return Err(out_of_turn()),
        };
        if size.is_some_and(|size| size != announced) || announced > limit {
            return Err(Setback::Holder(format!("has {announced} bytes by that digest")));
        }
        let mut untold = came_before;
        loop {
            let chunk = match next(&mut stream, &mut frame).await? {
                Reply::Chunk(chunk) if partial.offset() + chunk.len() as u64 <= announced => chunk,
                Reply::End if partial.offset() == announced => break,
                _ => return Err(out_of_turn()),
            };
            let length = chunk.len() as u64;
            let chunk = chunk.to_vec();
            partial = here(move || {
                partial.append(&chunk)?;
                Ok(partial)
            })
            .await?;
            self.tell(length + std::mem::take(&mut untold));
        }
        match here(move || partial.finish()).await {
            Err(Setback::Here(BlobError::WrongDigest { .. })) => {
                self.bytes = self.bytes.saturating_sub(announced);
                if came_before > 0 {
                    self.open = Some((place, stream));
                    return Err(Setback::Stale);
                }
                Err(Setback::Holder("gave bytes of another digest".to_owned()))
            }
            result => {
                self.open = Some((place, stream));
                result
            }
        }
    }

    fn tell(&mut self, more: u64) {
        self.bytes = self.bytes.saturating_add(more);
        if self.total > 0 {
            let bytes = self.bytes.min(self.total);
            (self.progress)(Progress::Fetching { bytes, total: self.total });
        }
    }
}

/// The next reply.
async fn next<'a>(
    stream: &mut (impl AsyncRead + Unpin),
    frame: &'a mut Vec<u8>,
) -> Result<Reply<'a>, Setback> {
    if !receive(stream, frame, FRAME_TIME).await? {
        return Err(Setback::Holder("the connection was cut".to_owned()));
    }
    postcard::from_bytes(frame)
        .map_err(|error| Setback::Holder(format!("speaks another language: {error}")))
}

fn out_of_turn() -> Setback {
    Setback::Holder("does not keep to the protocol".to_owned())
}

/// Does something with this board's disk.
async fn here<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, Setback> {
    crate::images::blocking(act).await.map_err(Setback::Here)
}

#[expect(dead_code, reason = "a partial blob crosses threads with its task; this proves it can")]
fn partial_blobs_are_send(blob: PartialBlob) -> impl Send {
    blob
}

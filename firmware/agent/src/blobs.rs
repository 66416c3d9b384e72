//! Hands images of this board to others.

use std::convert::Infallible;

use bramble_containers::images::ImageStore;
use bramble_peering::PeerStream;
use tokio::{sync::mpsc, task::JoinSet};

/// Boards that are served at the same time.
const STREAMS: usize = 32;

/// No more boards will come: peering has ended.
#[derive(Debug)]
pub(crate) struct Closed;

/// Serves whoever asks.
pub(crate) async fn serve(
    images: ImageStore,
    mut incoming: mpsc::Receiver<PeerStream>,
) -> Result<Infallible, Closed> {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.recv(), if streams.len() < STREAMS => {
                let stream = stream.ok_or(Closed)?;
                let images = images.clone();
                streams.spawn(async move {
                    let peer = stream.peer();
                    if let Err(error) = images.serve(stream).await {
                        tracing::debug!(%peer, %error, "a board went while it was served");
                    }
                });
            }
            Some(ended) = streams.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "serving a board panicked");
                }
            }
        }
    }
}

//! Serving: the socket of this board, and streams from other boards.

use std::{
    convert::Infallible,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tower::ServiceExt;

use crate::prefix;

/// Connections to the socket at a time; more wait to be accepted.
pub const CONNECTIONS: usize = 256;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait after `accept` failed (no more file descriptors) before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Root and the socket's group may use it, as with Docker's.
const SOCKET_MODE: u32 = 0o660;

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A program already answers there.
    #[error("{path} is in use by another daemon", path = path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("cannot listen on {path}", path = path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A socket that listens; dropping it removes its file.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at a path. What a dead daemon left there is removed; a living one is not disturbed.
    pub async fn bind(path: &Path) -> Result<Self, ServeError> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(ServeError::InUse { path: path.to_owned() });
        }
        let listen = |source| ServeError::Listen { path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(listen(error)),
            _ => {}
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(listen)?;
        }
        let listener = UnixListener::bind(path).map_err(listen)?;
        let permissions = std::fs::Permissions::from_mode(SOCKET_MODE);
        std::fs::set_permissions(path, permissions).map_err(listen)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves every connection, until the returned future is dropped.
    pub async fn serve(self, router: Router) -> Infallible {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let router = router.clone();
                    tokio::spawn(async move {
                        connection(stream, router).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(
                        "{}: a connection was not accepted: {error}",
                        self.path.display()
                    );
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves one connection to its end.
pub async fn connection<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        answer(router.clone(), request.map(Body::new))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("an API connection broke off: {error}");
    }
}

/// Answers one request.
pub(crate) async fn answer(
    router: Router,
    request: Request,
) -> Result<axum::response::Response, Infallible> {
    match prefix::strip(request) {
        Ok(request) => router.oneshot(request).await,
        Err(refusal) => Ok(axum::response::IntoResponse::into_response(refusal)),
    }
}

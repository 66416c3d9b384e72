//! Fetching an update from the web, into a file that goes away afterwards.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, Uri, body::Incoming, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Bytes of an update, at most.
const BYTES_MAX: u64 = 256 << 20;
/// Redirections that are followed.
const REDIRECTIONS_MAX: usize = 5;

/// A stream to a server.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A file that is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Downloaded(PathBuf);

impl Downloaded {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Downloaded {
    fn drop(&mut self) {
        // Left behind it is only in the way.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a source is to be fetched.
pub(super) fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Fetches an update.
pub(super) async fn fetch(url: &str) -> Result<Downloaded> {
    let mut uri: Uri = url.parse().with_context(|| format!("`{url}` is not an address"))?;
    for _ in 0..=REDIRECTIONS_MAX {
        let response = ask(&uri).await.with_context(|| format!("cannot fetch {uri}"))?;
        let status = response.status();
        if status.is_success() {
            return save(response).await.with_context(|| format!("cannot fetch {uri}"));
        }
        let next = response.headers().get(header::LOCATION).and_then(|next| next.to_str().ok());
        match next.filter(|_| status.is_redirection()) {
            Some(next) => uri = follow(&uri, next)?,
            None => bail!("cannot fetch {uri}: the server answered {status}"),
        }
    }
    bail!("cannot fetch {url}: more than {REDIRECTIONS_MAX} redirections")
}

/// Where a redirection leads; never from TLS to none.
fn follow(from: &Uri, next: &str) -> Result<Uri> {
    let next: Uri = next.parse().with_context(|| format!("`{next}` is not an address"))?;
    if next.scheme().is_none() {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = next.into_parts().path_and_query;
        return Ok(Uri::from_parts(parts)?);
    }
    if from.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
        bail!("{from} redirects to {next}, which is not encrypted");
    }
    Ok(next)
}

async fn ask(uri: &Uri) -> Result<Response<Incoming>> {
    let host = uri.host().context("the address names no host")?;
    let is_secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let plain = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let stream: Box<dyn Stream> = match is_secure {
        true => Box::new(secure(host, plain).await?),
        false => Box::new(plain),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let request = Request::get(path).header(header::HOST, authority);
    Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
}

async fn secure(host: &str, plain: TcpStream) -> Result<impl Stream + use<>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, plain).await?)
}

async fn save(response: Response<Incoming>) -> Result<Downloaded> {
    let (mut file, downloaded) = create()?;
    let (mut body, mut bytes) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the server broke off")?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        bytes += data.len() as u64;
        if bytes > BYTES_MAX {
            bail!("it is larger than {} MiB, which no update is", BYTES_MAX >> 20);
        }
        file.write_all(data).with_context(|| format!("cannot write {}", downloaded.0.display()))?;
    }
    Ok(downloaded)
}

fn create() -> Result<(File, Downloaded)> {
    let name = format!("bramble-update-{}.bup", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    Ok((file, Downloaded(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_keep_their_secret() -> Result<()> {
        let from: Uri = "https://example.org/a".parse()?;
        assert_eq!(follow(&from, "/b?c")?, "https://example.org/b?c");
        assert_eq!(follow(&from, "https://other.org/b")?, "https://other.org/b");
        assert!(follow(&from, "http://example.org/b").is_err());
        assert!(is_url("https://example.org/a") && !is_url("/tmp/http.bup"));
        Ok(())
    }
}

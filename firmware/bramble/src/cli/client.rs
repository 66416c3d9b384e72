//! Requests to a board's API over its socket.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::DEFAULT_SOCKET;

/// What a request carries.
pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// A board's API.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// The board refused a request, in its words.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    /// Docker's status code.
    pub(crate) status: StatusCode,
    /// Why, and what to do.
    pub(crate) message: String,
}

/// Parameters behind the `?` of a path.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub(crate) fn with(mut self, key: &str, value: impl AsRef<str>) -> Self {
        let separator = if self.0.is_empty() { '?' } else { '&' };
        self.0.push(separator);
        self.0.push_str(key);
        self.0.push('=');
        self.0.push_str(&escape(value.as_ref()));
        self
    }

    /// One more, if the claim holds.
    pub(crate) fn with_flag(self, key: &str, is_set: bool) -> Self {
        if is_set { self.with(key, "1") } else { self }
    }

    /// The `filters` of a list: `key=value` each, as on the command line.
    pub(crate) fn with_filters(self, filters: &[String]) -> Result<Self> {
        if filters.is_empty() {
            return Ok(self);
        }
        let mut map: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
        for filter in filters {
            let (key, value) = filter
                .split_once('=')
                .ok_or_else(|| anyhow!("invalid filter `{filter}`: write key=value"))?;
            map.entry(key.trim()).or_default().insert(value.trim(), true);
        }
        Ok(self.with("filters", serde_json::to_string(&map)?))
    }
}

/// Escapes what has a meaning of its own in a query or a path.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// A body of JSON.
pub(crate) fn json_body(value: &impl Serialize) -> Result<Body> {
    Ok(full(serde_json::to_vec(value)?))
}

/// No body.
pub(super) fn no_body() -> Body {
    full(Bytes::new())
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

impl Client {
    /// The API at `unix:///path` or `/path`, or at the usual place.
    pub(crate) fn new(host: Option<&str>) -> Result<Self> {
        let socket = match host.filter(|host| !host.is_empty()) {
            None => PathBuf::from(DEFAULT_SOCKET),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) => PathBuf::from(path),
                None if host.starts_with('/') => PathBuf::from(host),
                None => bail!(
                    "cannot use `{host}` as the board's address: only sockets of this machine, \
                     unix:///path, are supported"
                ),
            },
        };
        Ok(Self { socket })
    }

    /// Reads an object.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Result<T> {
        self.call(Method::GET, path, query, no_body()).await
    }

    /// Posts JSON and reads the answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
        value: &impl Serialize,
    ) -> Result<T> {
        self.call(Method::POST, path, query, json_body(value)?).await
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, path: &str, query: &Query) -> Result<()> {
        self.send(Method::DELETE, path, query, no_body()).await.map(|_| ())
    }

    /// Sends a request and reads its whole answer; an empty one is `null`.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Body,
    ) -> Result<T> {
        let response = self.send(method, path, query, body).await?;
        let bytes = response.into_body().collect().await.context("the answer broke off")?;
        let bytes = bytes.to_bytes();
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).context("the board's answer is not understood")
    }

    /// Sends a request; an answer that is an error becomes one.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Body,
    ) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "cannot reach the board at unix://{} (does `bramble daemon` run there?)",
                self.socket.display()
            )
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .context("the board does not answer")?;
        tokio::spawn(connection);
        let content_type =
            if path == "/images/load" { "application/x-tar" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{}", query.0))
            .header(header::HOST, "bramble")
            .header(header::CONTENT_TYPE, content_type)
            .body(body)
            .context("the request cannot be written")?;
        let response = sender.send_request(request).await.context("the board does not answer")?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.into_body().collect().await.map(|body| body.to_bytes());
        let bytes = bytes.unwrap_or_default();
        let message = serde_json::from_slice::<serde_json::Value>(&bytes)
            .ok()
            .and_then(|body| body.get("message")?.as_str().map(str::to_owned))
            .unwrap_or_else(|| format!("the board answered {status}"));
        Err(Refused { status, message }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() -> Result<()> {
        let query = Query::new().with("a", "x y&z").with_flag("b", true).with_flag("c", false);
        assert_eq!(query.0, "?a=x%20y%26z&b=1");
        let query = Query::new().with_filters(&["name=web".to_owned(), "name=db".to_owned()])?;
        assert_eq!(query.0, "?filters=%7B%22name%22:%7B%22db%22:true%2C%22web%22:true%7D%7D");
        assert!(Query::new().with_filters(&["name".to_owned()]).is_err());
        Ok(())
    }

    #[test]
    fn only_sockets_are_hosts() {
        for host in ["unix:///run/x.sock", "/run/x.sock"] {
            let client = Client::new(Some(host)).expect("a socket");
            assert_eq!(client.socket, PathBuf::from("/run/x.sock"));
        }
        let client = Client::new(None).expect("the usual one");
        assert_eq!(client.socket, PathBuf::from(DEFAULT_SOCKET));
        assert!(Client::new(Some("tcp://10.0.0.1:2375")).is_err());
    }
}

//! Opening a conversation with a member: all its addresses are tried, the first that answers with
//! the right certificate wins.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bramble_cluster::{NodeId, Peer};
use bytes::BytesMut;
use futures_util::{StreamExt, stream::FuturesUnordered};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Directory, Expiry, Instance, MembershipError, PeerStream, Protocol, Refusal,
    frame::{self, ReceiveError, SendError},
    hello::{GREETING_BYTES, Greeting, HANDSHAKE_TIMEOUT, Introduction, Reception},
    presence::Presence,
    problems::{Problem, Problems},
    socket,
    trust::Trust,
    verifier,
};

/// How long an address has to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the next address waits for the ones before it.
const STAGGER: Duration = Duration::from_millis(100);

/// A member could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// This board is no member of a cluster.
    #[error("this board is not a member of a cluster")]
    NotMember,
    /// Nobody knows where the node is.
    #[error("nobody knows where node {node} is")]
    NoAddress {
        /// Which.
        node: NodeId,
    },
    /// It does not answer at any of its addresses.
    #[error("node {node} cannot be reached: {attempts}")]
    Unreachable {
        /// Which.
        node: NodeId,
        /// What was tried.
        attempts: Attempts,
    },
    /// It answers, and does not want to talk.
    #[error("node {node} refuses")]
    Refused {
        /// Which.
        node: NodeId,
        /// Why.
        #[source]
        refusal: Refusal,
    },
    /// Our own certificate is of no use.
    #[error("this board's certificate cannot be used")]
    Certificate(#[source] MembershipError),
}

/// What was tried, and why it failed.
#[derive(Debug)]
pub struct Attempts(pub Vec<(SocketAddr, AttemptError)>);

/// Why one address did not do.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// No answer in time.
    #[error("no answer")]
    TimedOut,
    /// No connection.
    #[error("no connection")]
    Tcp(#[source] io::Error),
    /// No TLS: another node lives there now, or a certificate was refused.
    #[error("no trust")]
    Tls(#[source] io::Error),
    /// The greeting could not be sent.
    #[error("no greeting")]
    Greeting(#[source] SendError),
    /// The greeting was not answered.
    #[error("no reception")]
    Reception(#[source] ReceiveError),
    /// It was answered with a refusal.
    #[error("refused")]
    Refused(#[source] Refusal),
}

impl fmt::Display for Attempts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{address}: {error}")?;
            let mut cause = std::error::Error::source(error);
            while let Some(error) = cause {
                write!(formatter, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

/// Opens conversations. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    pub(crate) trust: Trust,
    pub(crate) directory: Directory,
    pub(crate) presence: Presence,
    pub(crate) problems: Problems,
    pub(crate) instance: Instance,
    /// Where this board itself listens.
    pub(crate) listen: SocketAddr,
}

impl Dialer {
    pub(crate) fn introduction(&self) -> Introduction {
        let at = self.trust.clock().now();
        Introduction { instance: self.instance, at, port: self.listen.port() }
    }

    pub(crate) async fn connect(
        &self,
        peer: &Peer,
        protocol: Protocol,
    ) -> Result<PeerStream, ConnectError> {
        let node = peer.id;
        let config = self.trust.client(protocol, Expiry::Enforced);
        let config = config.map_err(ConnectError::Certificate)?.ok_or(ConnectError::NotMember)?;
        if self.presence.is_refused(node) {
            return Err(ConnectError::Refused { node, refusal: Refusal::Removed });
        }
        let addresses = self.candidates(peer);
        let name = verifier::server_name(node).ok_or(ConnectError::NoAddress { node })?;
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress { node });
        }
        let connector = TlsConnector::from(Arc::new(config));
        let attempt = |address| self.attempt(connector.clone(), name.clone(), address, protocol);
        let (address, (stream, buffer, introduction)) = match race(&addresses, attempt).await {
            Ok(winner) => winner,
            Err(attempts) => return Err(self.explain(node, attempts)),
        };
        self.trust.clock().learn(introduction.at);
        self.directory.confirm(node, address);
        let presentation =
            self.presence.present(node, introduction.instance, address, Instant::now());
        let presentation =
            presentation.map_err(|refusal| ConnectError::Refused { node, refusal })?;
        Ok(PeerStream::new(stream.into(), buffer, node, address, protocol, presentation))
    }

    /// Where the node may be: what the directory knows, then what the caller knows.
    fn candidates(&self, peer: &Peer) -> Vec<SocketAddr> {
        if peer.id == self.trust.node() {
            return vec![loopback(self.listen)];
        }
        let mut addresses = self.directory.addresses(peer.id);
        for address in &peer.addresses {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        addresses
    }

    async fn attempt(
        &self,
        connector: TlsConnector,
        name: ServerName<'static>,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Result<(TlsStream<TcpStream>, BytesMut, Introduction), AttemptError> {
        let mut stream = handshake(connector, name, address, protocol).await?;
        let greet = async {
            let mut buffer = BytesMut::new();
            frame::encode(&Greeting::V1(self.introduction()), GREETING_BYTES, &mut buffer)
                .map_err(AttemptError::Greeting)?;
            frame::flush(&mut stream, &mut buffer)
                .await
                .map_err(|error| AttemptError::Greeting(SendError::Io(error)))?;
            let reception = frame::receive(&mut stream, &mut buffer, GREETING_BYTES).await;
            match reception.map_err(AttemptError::Reception)? {
                Reception::Welcome(introduction) => Ok((buffer, introduction)),
                Reception::Refused(refusal) => Err(AttemptError::Refused(refusal)),
            }
        };
        let greeted = timeout(HANDSHAKE_TIMEOUT, greet).await;
        let (buffer, introduction) = greeted.map_err(|_| AttemptError::TimedOut)??;
        Ok((stream, buffer, introduction))
    }

    /// A refusal says more than a missing answer, whichever address gave it.
    fn explain(&self, node: NodeId, attempts: Attempts) -> ConnectError {
        let refusal = attempts.0.iter().find_map(|(_, error)| match error {
            AttemptError::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        });
        match refusal {
            Some(refusal) => {
                self.problems.report(Problem::from_refusal(&refusal));
                ConnectError::Refused { node, refusal }
            }
            None => ConnectError::Unreachable { node, attempts },
        }
    }
}

/// Connects and agrees on TLS.
pub(crate) async fn handshake(
    connector: TlsConnector,
    name: ServerName<'static>,
    address: SocketAddr,
    protocol: Protocol,
) -> Result<TlsStream<TcpStream>, AttemptError> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| AttemptError::TimedOut)?.map_err(AttemptError::Tcp)?;
    socket::prepare(&stream, protocol).map_err(AttemptError::Tcp)?;
    let agreed = timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await;
    agreed.map_err(|_| AttemptError::TimedOut)?.map_err(AttemptError::Tls)
}

/// Tries all addresses, each a little after the one before, and takes the first that succeeds. The
/// next starts at once when one fails.
pub(crate) async fn race<T, F>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<(SocketAddr, T), Attempts>
where
    F: Future<Output = Result<T, AttemptError>>,
{
    let mut failures = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut waiting = addresses.iter().copied();
    let start = |address| {
        let attempt = attempt(address);
        async move { (address, attempt.await) }
    };
    running.extend(waiting.next().map(start));
    while !running.is_empty() || waiting.len() > 0 {
        tokio::select! {
            Some((address, outcome)) = running.next() => match outcome {
                Ok(value) => return Ok((address, value)),
                Err(error) => {
                    let is_final = matches!(error, AttemptError::Refused(_));
                    failures.push((address, error));
                    if is_final {
                        break;
                    }
                    running.extend(waiting.next().map(start));
                }
            },
            () = sleep(STAGGER), if waiting.len() > 0 => running.extend(waiting.next().map(start)),
        }
    }
    Err(Attempts(failures))
}

/// How this board reaches itself.
fn loopback(listen: SocketAddr) -> SocketAddr {
    let ip = match listen {
        _ if !listen.ip().is_unspecified() => listen.ip(),
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

//! The one port: takes connections, agrees on TLS, greets members and hands conversations on.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Instant};

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Duration, sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    Expiry, NodeCertificate, PeerStream, Protocol, Refusal,
    dial::Dialer,
    doors::Doors,
    frame::{self, ReceiveError, SendError},
    gate::{Gate, Pass},
    hello::{GREETING_BYTES, Greeting, HANDSHAKE_TIMEOUT, Introduction, Reception},
    join::desk::{Desk, ServeError},
    socket,
};

/// How long to wait when the operating system has no more file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Takes connections.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) dialer: Dialer,
    pub(crate) gate: Gate,
    pub(crate) doors: Arc<Doors>,
    pub(crate) desk: Arc<Desk>,
}

/// A connection came to nothing.
#[derive(Debug, thiserror::Error)]
enum AcceptError {
    #[error("no answer")]
    TimedOut,
    #[error("no connection")]
    Tcp(#[source] io::Error),
    #[error("no trust")]
    Tls(#[source] io::Error),
    #[error("no conversation of ours")]
    UnknownProtocol,
    #[error("this board is not a member of a cluster")]
    Seeking,
    #[error("no certificate")]
    NoCertificate,
    #[error("no greeting")]
    Greeting(#[source] ReceiveError),
    #[error("no answer can be sent")]
    Answer(#[source] SendError),
    #[error("refused")]
    Refused(#[source] Refusal),
    #[error("no joining")]
    Join(#[source] ServeError),
}

impl Listener {
    pub(crate) async fn run(self, listener: TcpListener) -> Infallible {
        let mut conversations = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        // Bounded by the gate's passes.
                        if let Some(pass) = self.gate.admit(from.ip(), Instant::now()) {
                            conversations.spawn(self.clone().attend(stream, from, pass));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot take a connection");
                        sleep(BREATH).await;
                    }
                },
                Some(_) = conversations.join_next(), if !conversations.is_empty() => {}
            }
        }
    }

    async fn attend(self, stream: TcpStream, from: SocketAddr, pass: Pass) {
        let attended = timeout(HANDSHAKE_TIMEOUT, self.agree(stream)).await;
        let (protocol, stream) = match attended.unwrap_or(Err(AcceptError::TimedOut)) {
            Ok(agreed) => agreed,
            Err(error) => {
                if !matches!(error, AcceptError::Seeking) {
                    pass.failed(Instant::now());
                }
                return report(from, &error);
            }
        };
        let outcome = match protocol {
            Protocol::Join => self.desk.serve(stream, from, pass).await.map_err(AcceptError::Join),
            _ => {
                let received = timeout(HANDSHAKE_TIMEOUT, self.receive(stream, from, protocol));
                let received = received.await.unwrap_or(Err(AcceptError::TimedOut));
                if received.is_err() {
                    pass.failed(Instant::now());
                }
                received
            }
        };
        if let Err(error) = outcome {
            report(from, &error);
        }
    }

    /// Agrees on a conversation and on TLS.
    async fn agree(
        &self,
        stream: TcpStream,
    ) -> Result<(Protocol, TlsStream<TcpStream>), AcceptError> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
        let start = start.map_err(AcceptError::Tls)?;
        let protocol = start
            .client_hello()
            .alpn()
            .and_then(|mut names| names.find_map(Protocol::from_name))
            .ok_or(AcceptError::UnknownProtocol)?;
        let config = self.dialer.trust.server(protocol).ok_or(AcceptError::Seeking)?;
        let stream = start.into_stream(config).await.map_err(AcceptError::Tls)?;
        socket::prepare(stream.get_ref().0, protocol).map_err(AcceptError::Tcp)?;
        Ok((protocol, stream))
    }

    /// Greets a member and hands the conversation on.
    async fn receive(
        &self,
        mut stream: TlsStream<TcpStream>,
        from: SocketAddr,
        protocol: Protocol,
    ) -> Result<(), AcceptError> {
        let Dialer { trust, directory, presence, .. } = &self.dialer;
        let member = trust.member().ok_or(AcceptError::Seeking)?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.ok_or(AcceptError::NoCertificate)?;
        let now = trust.clock().now();
        let peer = NodeCertificate::verify(shown, &member.authority, now, Expiry::Enforced)
            .map_err(|_| AcceptError::NoCertificate)?
            .node;
        let mut buffer = BytesMut::new();
        let Greeting::V1(Introduction { instance, at, port }) =
            frame::receive(&mut stream, &mut buffer, GREETING_BYTES)
                .await
                .map_err(AcceptError::Greeting)?;
        let address = SocketAddr::new(from.ip(), port);
        let welcome = presence.present(peer, instance, address, Instant::now());
        let welcome = welcome.and_then(|place| Ok((place, self.doors.reserve(protocol)?)));
        let reception = match &welcome {
            Ok(_) => Reception::Welcome(self.dialer.introduction()),
            Err(refusal) => Reception::Refused(refusal.clone()),
        };
        let mut answer = BytesMut::new();
        frame::encode(&reception, GREETING_BYTES, &mut answer).map_err(AcceptError::Answer)?;
        let sent = frame::flush(&mut stream, &mut answer).await;
        sent.map_err(|error| AcceptError::Answer(SendError::Io(error)))?;
        let (presentation, permit) = match welcome {
            Ok(welcome) => welcome,
            Err(refusal) => {
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
                return Err(AcceptError::Refused(refusal));
            }
        };
        trust.clock().learn(at);
        directory.confirm(peer, address);
        let stream = PeerStream::new(stream.into(), buffer, peer, address, protocol, presentation);
        permit.send(stream);
        Ok(())
    }
}

fn report(from: SocketAddr, error: &AcceptError) {
    let mut causes = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes = format!("{causes}: {error}");
        cause = error.source();
    }
    tracing::debug!(%from, "a connection came to nothing: {error}{causes}");
}

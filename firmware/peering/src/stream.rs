//! A connection to another member: bytes or frames, both ways, until either side ends it or the
//! member is removed.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bramble_cluster::NodeId;
use bytes::{Buf, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    Protocol,
    frame::{self, FRAME_BYTES, ReceiveError, SendError},
    presence::Presentation,
};

/// A connection to another member. Both sides have shown their certificates.
///
/// It is a stream of bytes ([`AsyncRead`], [`AsyncWrite`]) or of frames ([`PeerStream::send`],
/// [`PeerStream::receive`]); a conversation may change from the one to the other between frames.
#[derive(Debug)]
pub struct PeerStream {
    reader: PeerReader,
    writer: PeerWriter,
}

/// The half of a [`PeerStream`] that receives.
pub struct PeerReader {
    half: ReadHalf<TlsStream<TcpStream>>,
    received: BytesMut,
    presence: Guard,
    end: End,
}

/// The half of a [`PeerStream`] that sends.
pub struct PeerWriter {
    half: WriteHalf<TlsStream<TcpStream>>,
    unsent: BytesMut,
    presence: Guard,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
struct End {
    peer: NodeId,
    address: SocketAddr,
    protocol: Protocol,
}

/// Keeps the connection listed, and ends it when the peer is removed.
struct Guard {
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _presentation: Presentation,
}

impl Guard {
    fn new(presentation: Presentation) -> Self {
        Self { ended: Box::pin(presentation.ended()), _presentation: presentation }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer was removed or came back from a restart",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl PeerStream {
    pub(crate) fn new(
        stream: TlsStream<TcpStream>,
        received: BytesMut,
        peer: NodeId,
        address: SocketAddr,
        protocol: Protocol,
        presentation: Presentation,
    ) -> Self {
        let (read, write) = tokio::io::split(stream);
        let end = End { peer, address, protocol };
        let presence = Guard::new(presentation.clone());
        let reader = PeerReader { half: read, received, presence, end };
        let presence = Guard::new(presentation);
        Self { reader, writer: PeerWriter { half: write, unsent: BytesMut::new(), presence } }
    }

    /// Which node is at the other end; its certificate says so.
    pub fn peer(&self) -> NodeId {
        self.reader.end.peer
    }

    /// The other end's address. Never identity.
    pub fn address(&self) -> SocketAddr {
        self.reader.end.address
    }

    /// Which conversation this is.
    pub fn protocol(&self) -> Protocol {
        self.reader.end.protocol
    }

    /// Sends one message as a frame of at most [`FRAME_BYTES`]. If the future is dropped, the rest
    /// of the frame is sent before the next.
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), SendError> {
        self.writer.send(message).await
    }

    /// Receives one message. Nothing is lost if the future is dropped.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, ReceiveError> {
        self.reader.receive().await
    }

    /// Splits the connection, so that one task can receive while another sends.
    pub fn into_split(self) -> (PeerReader, PeerWriter) {
        (self.reader, self.writer)
    }
}

impl PeerReader {
    /// Which node is at the other end.
    pub fn peer(&self) -> NodeId {
        self.end.peer
    }

    /// See [`PeerStream::receive`].
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, ReceiveError> {
        // The buffer is taken out while `self` reads, and put back even if the future is dropped.
        let mut buffer = PutBack { held: self.received.split(), reader: self };
        let PutBack { held, reader } = &mut buffer;
        frame::receive(&mut *reader, held, FRAME_BYTES).await
    }
}

struct PutBack<'reader> {
    held: BytesMut,
    reader: &'reader mut PeerReader,
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        self.reader.received = self.held.split();
    }
}

impl PeerWriter {
    /// See [`PeerStream::send`].
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), SendError> {
        frame::encode(message, FRAME_BYTES, &mut self.unsent)?;
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_flush(context))
            .await
            .map_err(SendError::Io)
    }

    /// Hands what a dropped [`PeerWriter::send`] left over to the connection.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.presence.check(context)?;
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.half).poll_write(context, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for PeerReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.presence.check(context)?;
        if !this.received.is_empty() {
            let length = this.received.len().min(buffer.remaining());
            buffer.put_slice(&this.received.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.half).poll_read(context, buffer)
    }
}

impl AsyncWrite for PeerWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(context))?;
        Pin::new(&mut this.half).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(context))?;
        Pin::new(&mut this.half).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unsent(context))?;
        Pin::new(&mut this.half).poll_shutdown(context)
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().reader).poll_read(context, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writer).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_shutdown(context)
    }
}

impl fmt::Debug for PeerReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.fmt(formatter)
    }
}

impl fmt::Debug for PeerWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PeerWriter").finish_non_exhaustive()
    }
}

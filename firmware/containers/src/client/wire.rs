//! Packets of the socket to the keeper, under tokio.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bramble_cluster::TaskId;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr,
    connect as connect_socket, recv, sendmsg, socket,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{broadcast, mpsc, oneshot, watch},
};

use super::Containers;
use crate::{
    ContainerStatus, ExecId, KeeperEvent, Refusal,
    protocol::{Answer, Call, MESSAGE_BYTES, Message, Request},
};

pub(super) type Stream = Arc<AsyncFd<OwnedFd>>;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) number: u64,
    pub(super) request: Request,
    pub(super) files: Vec<OwnedFd>,
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) answers: BTreeMap<u64, oneshot::Sender<Result<Answer, Refusal>>>,
    pub(super) execs: BTreeMap<ExecId, oneshot::Sender<i32>>,
    is_closed: bool,
}

impl Waiting {
    /// Whether nobody will ever answer.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

pub(super) fn connect(path: &Path) -> io::Result<Stream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect_socket(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    let interest = Interest::READABLE | Interest::WRITABLE;
    // SAFETY: the descriptor is owned, and so stays open as long as it is registered.
    Ok(Arc::new(unsafe { AsyncFd::register_with_interest(stream, interest) }?))
}

/// Sends what comes, until nobody is left to send or to read it.
pub(super) async fn write(stream: Stream, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(Outgoing { number, request, files }) = outgoing.recv().await {
        let Ok(packet) = postcard::to_stdvec(&Call { number, request }) else { continue };
        let sent = stream
            .async_io(Interest::WRITABLE, |stream| {
                let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
                let rights = [ControlMessage::ScmRights(&raw)];
                let control = if raw.is_empty() { &[][..] } else { &rights[..] };
                let slices = [IoSlice::new(&packet)];
                let flags = MsgFlags::MSG_NOSIGNAL;
                sendmsg::<()>(stream.as_raw_fd(), &slices, control, flags, None)
                    .map_err(io::Error::from)
            })
            .await;
        if sent.is_err() {
            return;
        }
    }
}

/// Receives answers and events.
pub(super) struct Reader {
    pub(super) stream: Stream,
    pub(super) waiting: Arc<Mutex<Waiting>>,
    pub(super) containers: watch::Sender<Containers>,
    pub(super) events: broadcast::Sender<KeeperEvent>,
}

impl Reader {
    /// Runs until the keeper is gone; then all who wait learn that.
    pub(super) async fn run(self) {
        let mut buffer = vec![0; MESSAGE_BYTES];
        loop {
            let received = self
                .stream
                .async_io(Interest::READABLE, |stream| {
                    recv(stream.as_raw_fd(), &mut buffer, MsgFlags::empty())
                        .map_err(io::Error::from)
                })
                .await;
            let Ok(length @ 1..) = received else { break };
            match postcard::from_bytes(&buffer[..length]) {
                Ok(Message::Answer { number, result }) => {
                    if let Some(waiter) = self.waiting().answers.remove(&number) {
                        drop(waiter.send(result));
                    }
                }
                Ok(Message::Event(event)) => self.take(event),
                Err(error) => {
                    tracing::warn!(%error, "the keeper sent what this daemon cannot read")
                }
            }
        }
        let mut waiting = self.waiting();
        waiting.is_closed = true;
        waiting.answers.clear();
        waiting.execs.clear();
    }

    fn take(&self, event: KeeperEvent) {
        match &event {
            KeeperEvent::Container(status) => self.change(|all| {
                all.insert(status.id, ContainerStatus::clone(status));
            }),
            KeeperEvent::Removed { id } => self.change(|all| {
                all.remove(id);
            }),
            KeeperEvent::ExecExited { exec, code } => {
                if let Some(waiter) = self.waiting().execs.remove(exec) {
                    let _ = waiter.send(*code);
                }
            }
        }
        drop(self.events.send(event));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<TaskId, ContainerStatus>)) {
        self.containers.send_modify(|all| change(Arc::make_mut(all)));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

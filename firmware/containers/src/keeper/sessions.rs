//! Daemons that are connected. There is one, but for a moment there may be two.

use std::{
    collections::VecDeque,
    fs,
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    sys::{
        socket::{
            AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
            accept4, bind, getsockopt, listen as listen_on, recvmsg, sendmsg, socket,
            sockopt::PeerCredentials,
        },
        stat::{Mode, umask},
    },
    unistd::Pid,
};

use super::turn::State;
use crate::{
    ContainerStatus, KeeperEvent, Refusal,
    protocol::{Answer, Call, MESSAGE_BYTES, MESSAGE_FILES, Message, Request, VERSION},
};

/// Daemons at most.
const SESSIONS: usize = 8;
/// Messages that wait for a daemon to read them. One that reads slower is disconnected: when it
/// connects again, it is told everything anew.
const BACKLOG: usize = 8_192;
/// Requests of one daemon that are served before the others have their turn.
const REQUESTS: usize = 32;

/// A daemon's connection.
#[derive(Debug)]
pub(super) struct Session {
    stream: OwnedFd,
    /// Who connected.
    peer: i32,
    backlog: VecDeque<Vec<u8>>,
    /// Whether it said hello; until then it hears no events.
    is_greeted: bool,
}

/// Who asked, and the number of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    session: u64,
    number: u64,
}

/// Listens for daemons of root.
pub(super) fn listen(path: &Path) -> io::Result<OwnedFd> {
    drop(fs::remove_file(path));
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = bind(listener.as_raw_fd(), &UnixAddr::new(path)?);
    umask(before);
    bound?;
    listen_on(&listener, Backlog::new(16)?)?;
    Ok(listener)
}

/// The connection that waits, and the process that made it.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<(OwnedFd, i32)>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = match accept4(listener.as_raw_fd(), flags) {
        // SAFETY: the kernel has just opened it for us.
        Ok(stream) => unsafe { OwnedFd::from_raw_fd(stream) },
        Err(nix::errno::Errno::EAGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let peer = getsockopt(&stream, PeerCredentials)?;
    Ok((peer.uid() == 0).then_some((stream, peer.pid())))
}

impl State {
    pub(super) fn open_session(&mut self, stream: OwnedFd, peer: i32) {
        if self.sessions.len() >= SESSIONS {
            return;
        }
        let token = self.token();
        if self.poller.add(stream.as_fd(), token).is_ok() {
            let session = Session { stream, peer, backlog: VecDeque::new(), is_greeted: false };
            self.sessions.insert(token, session);
        }
    }

    /// Sends what waits, and serves what came.
    pub(super) fn serve_session(&mut self, token: u64, is_writable: bool) {
        if is_writable {
            self.send_backlog(token);
        }
        let mut packet = vec![0; MESSAGE_BYTES];
        for _ in 0..REQUESTS {
            let Some(session) = self.sessions.get(&token) else { return };
            match receive(&session.stream, &mut packet) {
                Ok((0, _)) => return drop(self.sessions.remove(&token)),
                Ok((length, files)) => {
                    let bytes = packet.get(..length).unwrap_or_default();
                    self.serve(token, bytes, files);
                }
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return drop(self.sessions.remove(&token)),
            }
        }
    }

    fn serve(&mut self, session: u64, packet: &[u8], files: Vec<OwnedFd>) {
        let call: Call = match postcard::from_bytes(packet) {
            Ok(call) => call,
            Err(error) => {
                // The number comes first; if it reads, its asker gets an answer.
                let number = postcard::take_from_bytes(packet).map_or(0, |(number, _)| number);
                let reason = error.to_string();
                let asker = Asker { session, number };
                return self.answer(asker, Err(Refusal::Malformed { reason }));
            }
        };
        let asker = Asker { session, number: call.number };
        let result = match call.request {
            Request::Hello { .. } => Ok(self.greet(session)),
            Request::Start { id } => self.start(id, asker),
            Request::Stop { id, grace_milliseconds } => {
                self.stop(id, grace_milliseconds.map(Duration::from_millis)).map(Some)
            }
            Request::Signal { id, signal } => self.signal(id, signal).map(Some),
            Request::Exec { id, exec, has_terminal } => {
                self.exec(id, exec, has_terminal, files, asker)
            }
            Request::SignalExec { exec, signal } => self.signal_exec(exec, signal).map(Some),
            Request::Remove { id } => self.remove(id, asker),
            Request::Alive => {
                self.hear_of_life(session);
                Ok(Some(Answer::Done))
            }
        };
        match result {
            Ok(Some(answer)) => self.answer(asker, Ok(answer)),
            // The answer comes later.
            Ok(None) => {}
            Err(refusal) => self.answer(asker, Err(refusal)),
        }
    }

    /// A sign of life counts if it is the daemon's own.
    fn hear_of_life(&mut self, session: u64) {
        let peer = self.sessions.get(&session).map(|session| session.peer);
        if peer.is_some() && peer == self.daemon.pid().map(Pid::as_raw) {
            self.life.sign(Instant::now());
        }
    }

    /// Tells of all containers, then answers.
    fn greet(&mut self, token: u64) -> Option<Answer> {
        self.sessions.get_mut(&token)?.is_greeted = true;
        self.hear_of_life(token);
        let statuses: Vec<ContainerStatus> = self
            .containers
            .iter()
            .map(|(id, container)| ContainerStatus { id: *id, state: container.state.clone() })
            .collect();
        for status in statuses {
            self.send(token, &Message::Event(KeeperEvent::Container(status)));
        }
        let layout = &self.options.layout;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Some(Answer::Hello {
            version: VERSION,
            run_dir: text(layout.run_dir()),
            data_dir: text(layout.data_dir()),
            cgroup: text(layout.cgroup()),
        })
    }

    pub(super) fn answer(&mut self, asker: Asker, result: Result<Answer, Refusal>) {
        self.send(asker.session, &Message::Answer { number: asker.number, result });
    }

    pub(super) fn broadcast(&mut self, event: KeeperEvent) {
        let greeted: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.is_greeted)
            .map(|(token, _)| *token)
            .collect();
        let message = Message::Event(event);
        for token in greeted {
            self.send(token, &message);
        }
    }

    fn send(&mut self, token: u64, message: &Message) {
        let Some(session) = self.sessions.get_mut(&token) else { return };
        let Ok(packet) = postcard::to_stdvec(message) else { return };
        session.backlog.push_back(packet);
        if session.backlog.len() > BACKLOG {
            tracing::warn!("a daemon does not listen and is disconnected");
            self.sessions.remove(&token);
            return;
        }
        self.send_backlog(token);
    }

    fn send_backlog(&mut self, token: u64) {
        let Some(session) = self.sessions.get_mut(&token) else { return };
        let had_backlog = session.backlog.len() > 1;
        while let Some(packet) = session.backlog.front() {
            let slices = [IoSlice::new(packet)];
            let flags = MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(session.stream.as_raw_fd(), &slices, &[], flags, None) {
                Ok(_) => drop(session.backlog.pop_front()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => {
                    return self.poller.want_write(session.stream.as_fd(), token, true);
                }
                Err(_) => return drop(self.sessions.remove(&token)),
            }
        }
        if had_backlog {
            self.poller.want_write(session.stream.as_fd(), token, false);
        }
    }
}

/// Receives one packet with its files. Zero bytes are the end.
pub(super) fn receive(stream: &OwnedFd, packet: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([i32; MESSAGE_FILES]);
    let mut slices = [IoSliceMut::new(packet)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut files = Vec::new();
    for control in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just opened them for us, and nobody else knows of them.
            files.extend(raw.into_iter().map(|file| unsafe { OwnedFd::from_raw_fd(file) }));
        }
    }
    Ok((message.bytes, files))
}

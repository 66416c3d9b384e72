//! Waits for descriptors: epoll, level-triggered.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Events that one wait returns at most.
const EVENTS: usize = 128;

/// Something happened to the descriptor with this token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) token: u64,
    pub(super) is_writable: bool,
}

#[derive(Debug)]
pub(super) struct Poller {
    epoll: Epoll,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Watches a descriptor for something to read. Closing it ends the watch.
    pub(super) fn add(&self, file: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(file, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Also watches it for room to write, or no longer.
    pub(super) fn want_write(&self, file: BorrowedFd<'_>, token: u64, is_wanted: bool) {
        let write = if is_wanted { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | write, token);
        let _ = self.epoll.modify(file, &mut event);
    }

    /// Waits at most so long; without a limit if there is none.
    pub(super) fn wait(&self, limit: Option<Duration>) -> io::Result<Vec<Ready>> {
        let timeout = match limit {
            None => EpollTimeout::NONE,
            // Rounded up, or the last millisecond would be spent in a spin.
            Some(limit) => EpollTimeout::try_from(limit + Duration::from_micros(999))
                .unwrap_or(EpollTimeout::MAX),
        };
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, timeout) {
            Err(nix::errno::Errno::EINTR) => 0,
            result => result?,
        };
        let ready = events.iter().take(count).map(|event| Ready {
            token: event.data(),
            is_writable: event.events().contains(EpollFlags::EPOLLOUT),
        });
        Ok(ready.collect())
    }
}

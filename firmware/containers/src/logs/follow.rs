//! Waits for a folder to change.

use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::Path};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Wakes when a file of a folder is written, made or removed.
#[derive(Debug)]
pub(super) struct Watch {
    descriptor: AsyncFd<OwnedFd>,
}

impl Watch {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let what = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::DELETE;
        inotify::add_watch(
            &descriptor,
            folder,
            what | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR,
        )?;
        // SAFETY: the descriptor is owned, and so stays open as long as it is registered.
        Ok(Self { descriptor: unsafe { AsyncFd::register(descriptor) }? })
    }

    /// Waits for a change since the last call; several count as one.
    pub(super) async fn changed(&self) -> io::Result<()> {
        let mut ready = self.descriptor.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut reader = Reader::new(self.descriptor.get_ref(), &mut buffer);
        while reader.next().is_ok() {}
        ready.clear_ready();
        Ok(())
    }
}

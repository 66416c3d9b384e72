//! The keeper: the process that owns the containers of a board.
//!
//! One thread, one loop (`turn`): wait for something to happen, do all of it, arm the next
//! deadline. Nothing in it waits for anybody else, and nothing that a container, a daemon or a
//! helper does may end it. What it must not lose, it writes to the run directory before it tells.
//!
//! As PID 1 or as a plain process it is the parent of everything (a child subreaper): the daemon,
//! the helpers, and the containers' first processes, which helpers clone as their siblings.

mod cleaning;
mod containers;
mod daemon;
mod ending;
mod execs;
mod executable;
mod helper;
mod life;
mod outputs;
mod poller;
mod previous;
mod reaping;
mod sessions;
mod turn;

use std::{ffi::OsString, fs, io, path::PathBuf, sync::Arc, time::Duration};

use self::turn::State;
use crate::Layout;

/// What the keeper is given.
#[derive(Debug, Clone)]
pub struct KeeperOptions {
    /// Where things are. The folders are made if they are not there.
    pub layout: Layout,
    /// The daemon's program and arguments. The keeper starts it again whenever it ends, unless it
    /// ends with one of [`exit_code`].
    pub daemon: Vec<OsString>,
    /// The helper's program and first arguments; `/proc/self/exe oci` unless this is a test.
    pub helper: Vec<OsString>,
    /// How long the daemon has to end when the board does.
    pub daemon_grace: Duration,
    /// The longest wait before the daemon is started again; the first is 0.1 s, and each failure
    /// doubles it.
    pub longest_restart_delay: Duration,
    /// How many helpers work at once.
    pub helpers: usize,
    /// How long a daemon may give no sign of life before it is killed and started again.
    pub daemon_patience: Duration,
    /// The same from a daemon's start until it first greets.
    pub start_patience: Duration,
    /// How long the board may be without a living daemon before its watchdog is fed no more.
    pub board_patience: Duration,
    /// How often the daemon may fail at its start before the board reboots instead: on a system that
    /// is on trial, so that the old one comes back.
    pub failures_max: Option<u32>,
    /// The hardware's watchdog, armed: it reboots the board when it is not fed. Shared, so that
    /// whoever armed it can put it to rest at the end.
    pub watchdog: Option<Arc<fs::File>>,
}

impl KeeperOptions {
    /// The options for a daemon and a layout, with what is usual for the rest.
    pub fn new(layout: Layout, daemon: Vec<OsString>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            layout,
            daemon,
            helper: vec!["/proc/self/exe".into(), "oci".into()],
            daemon_grace: Duration::from_secs(10),
            longest_restart_delay: Duration::from_secs(10),
            helpers: cores + 2,
            daemon_patience: Duration::from_secs(20),
            start_patience: Duration::from_secs(90),
            board_patience: Duration::from_secs(600),
            failures_max: None,
            watchdog: None,
        }
    }
}

/// How a daemon says by its exit code that it does not want to be restarted.
pub mod exit_code {
    /// The board is to end: its containers are stopped, then the keeper ends.
    pub const END: i32 = 0;
    /// Start again at once, without back-off.
    pub const RESTART: i32 = 64;
    /// As [`END`], then the board reboots.
    pub const REBOOT: i32 = 65;
    /// As [`END`], then the board powers off.
    pub const POWER_OFF: i32 = 66;
    /// Its configuration is no good: starting it again would not help (`EX_CONFIG`).
    pub const REFUSED: i32 = 78;
}

/// Why the keeper has ended. All containers are stopped and all is cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperEnd {
    /// A signal asked for it.
    Signal,
    /// The daemon asked for it.
    Daemon,
    /// The daemon asked for it; the board is to reboot.
    Reboot,
    /// The daemon asked for it; the board is to power off.
    PowerOff,
    /// The daemon cannot work with its configuration, and has said why.
    Refused,
}

/// The keeper could not begin.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// There is one already.
    #[error("another keeper holds {path}")]
    Taken {
        /// The lock.
        path: PathBuf,
    },
    /// A file or folder of the run directory could not be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused something that a keeper needs.
    #[error("cannot {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Keeps the containers of this board until it is asked to end.
///
/// Must be called while this process has one thread. Cleans what a previous life left, then starts
/// the daemon.
pub fn run(options: KeeperOptions) -> Result<KeeperEnd, KeeperError> {
    let mut state = State::begin(options)?;
    loop {
        if let Some(end) = state.turn()? {
            return Ok(end);
        }
    }
}

/// The one file that a message carries.
pub(crate) fn receive_file(stream: &std::os::fd::OwnedFd) -> Option<std::os::fd::OwnedFd> {
    sessions::receive(stream, &mut [0; 64]).ok()?.1.pop()
}

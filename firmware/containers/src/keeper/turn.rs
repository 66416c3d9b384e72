//! The keeper's state and its loop.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::DirBuilderExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use bramble_cluster::{TaskId, Timestamp};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};

use super::{
    KeeperEnd, KeeperError, KeeperOptions,
    containers::Container,
    daemon::Daemon,
    ending::Ending,
    execs::Exec,
    executable::Executable,
    helper::{Helper, Job},
    life::Life,
    outputs::Output,
    poller::{Poller, Ready},
    previous, sessions,
    sessions::Session,
};
use crate::{
    ExecId,
    cgroups::{self, Hierarchies},
};

/// Tokens of the two descriptors that are always there; others count up from [`FIRST_TOKEN`].
const SIGNALS: u64 = 0;
const LISTENER: u64 = 1;
const FIRST_TOKEN: u64 = 2;
/// Bytes that are read from a container at once.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// Open files that the keeper may have, and those it starts may.
const SOFT_FILES: u64 = 65_536;
const HARD_FILES: u64 = 1_048_576;
/// After a panic, which is a bug, the loop goes on, but not in a spin.
const PANIC_PAUSE: Duration = Duration::from_millis(100);

/// Everything the keeper knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: KeeperOptions,
    pub(super) executable: Executable,
    pub(super) hierarchies: Hierarchies,
    pub(super) poller: Poller,
    pub(super) containers: BTreeMap<TaskId, Container>,
    pub(super) execs: BTreeMap<ExecId, Exec>,
    /// By token, as sessions and outputs are.
    pub(super) helpers: BTreeMap<u64, Helper>,
    pub(super) sessions: BTreeMap<u64, Session>,
    pub(super) outputs: BTreeMap<u64, Output>,
    /// Helpers that wait for their turn.
    pub(super) queue: VecDeque<Job>,
    /// Unknown children that ended, and how, while helpers are at work.
    pub(super) strays: Vec<(Pid, i32)>,
    pub(super) daemon: Daemon,
    pub(super) life: Life,
    pub(super) ending: Option<Ending>,
    pub(super) buffer: Vec<u8>,
    next_token: u64,
    signals: SignalFd,
    listener: OwnedFd,
    /// Held, not used: its lock keeps other keepers away.
    _lock: Flock<fs::File>,
}

impl State {
    /// Takes the run directory, cleans it, and starts the daemon.
    pub(super) fn begin(options: KeeperOptions) -> Result<Self, KeeperError> {
        let layout = &options.layout;
        for folder in [layout.run_dir().to_owned(), layout.bundles(), layout.oci_states()] {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(&folder).map_err(|source| KeeperError::File { path: folder, source })?;
        }
        let lock = take_lock(&layout.lock())?;
        let system = |what| move |source: io::Error| KeeperError::System { what, source };
        if std::process::id() != 1 {
            prctl::set_child_subreaper(true)
                .map_err(|error| system("become a subreaper")(error.into()))?;
        }
        raise_file_limit();
        if let Err(error) = cgroups::make_room(layout.cgroup()) {
            tracing::warn!(%error, "a container that Bramble runs in has to be privileged");
        }
        let hierarchies = Hierarchies::find().map_err(system("find the cgroups"))?;
        let containers = previous::clean(layout, &hierarchies);
        let signals = catch_signals().map_err(system("catch signals"))?;
        let listener = sessions::listen(&layout.socket())
            .map_err(|source| KeeperError::File { path: layout.socket(), source })?;
        let poller = Poller::new().map_err(system("poll"))?;
        poller.add(signals.as_fd(), SIGNALS).map_err(system("poll signals"))?;
        poller.add(&listener, LISTENER).map_err(system("poll the socket"))?;
        let mut state = Self {
            executable: Executable::new(&options.helper),
            life: Life::new(&options, Instant::now()),
            options,
            hierarchies,
            poller,
            containers,
            execs: BTreeMap::new(),
            helpers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            outputs: BTreeMap::new(),
            queue: VecDeque::new(),
            strays: Vec::new(),
            daemon: Daemon::default(),
            ending: None,
            buffer: Vec::new(),
            next_token: FIRST_TOKEN,
            signals,
            listener,
            _lock: lock,
        };
        state.start_daemon(Instant::now());
        Ok(state)
    }

    /// Waits for something to happen and does all of it. Returns when the keeper has ended.
    pub(super) fn turn(&mut self) -> Result<Option<KeeperEnd>, KeeperError> {
        let limit = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let ready = self
            .poller
            .wait(limit)
            .map_err(|source| KeeperError::System { what: "wait", source })?;
        // A panic is a bug, and half a change may be made; still better than a board that is gone.
        let turned = catch_unwind(AssertUnwindSafe(|| {
            for ready in ready {
                self.take(ready);
            }
            self.meet_deadlines(Instant::now());
            self.ended()
        }));
        Ok(turned.unwrap_or_else(|_| {
            std::thread::sleep(PANIC_PAUSE);
            None
        }))
    }

    fn take(&mut self, ready: Ready) {
        match ready.token {
            SIGNALS => self.take_signals(),
            LISTENER => self.accept(),
            token if self.sessions.contains_key(&token) => {
                self.serve_session(token, ready.is_writable);
            }
            token if self.helpers.contains_key(&token) => self.hear_helper(token),
            token => self.read_output(token),
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(i32::try_from(signal.ssi_signo).unwrap_or(0)) {
                Ok(Signal::SIGCHLD) => self.reap(),
                Ok(Signal::SIGTERM | Signal::SIGINT) => self.begin_end(KeeperEnd::Signal),
                _ => {}
            }
        }
    }

    fn accept(&mut self) {
        match sessions::accept(&self.listener) {
            Ok(Some((stream, peer))) => self.open_session(stream, peer),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a daemon could not connect"),
        }
    }

    /// When something must be done though nothing happens.
    fn next_deadline(&self) -> Option<Instant> {
        let containers = self.containers.values().filter_map(Container::deadline);
        let helpers = self.helpers.values().map(|helper| helper.deadline);
        let ending = self.ending.iter().filter_map(Ending::deadline);
        containers
            .chain(helpers)
            .chain(self.daemon.deadline())
            .chain(ending)
            .chain(self.life_deadline())
            .min()
    }

    fn meet_deadlines(&mut self, now: Instant) {
        self.kill_slow_containers(now);
        self.kill_slow_helpers(now);
        self.retry_cleaning(now);
        self.watch_life(now);
        if self.ending.is_none() && self.daemon.deadline().is_some_and(|at| at <= now) {
            self.start_daemon(now);
        }
        self.go_on_ending(now);
    }

    pub(super) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

/// Now, by the board's clock.
pub(super) fn timestamp() -> Timestamp {
    Timestamp::from_millis(u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX))
}

/// Now, as logs write it.
pub(super) fn nanoseconds() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn take_lock(path: &Path) -> Result<Flock<fs::File>, KeeperError> {
    let fail = |source| KeeperError::File { path: path.to_owned(), source };
    let file =
        fs::File::options().create(true).write(true).truncate(false).open(path).map_err(fail)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => KeeperError::Taken { path: path.to_owned() },
        error => fail(error.into()),
    })
}

/// Lets this process, and all that come from it, have many open files: each container takes some
/// of the keeper's. The kernel gives its first process few.
fn raise_file_limit() {
    if setrlimit(Resource::RLIMIT_NOFILE, SOFT_FILES, HARD_FILES).is_err()
        && let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft.max(SOFT_FILES.min(hard)), hard);
    }
}

/// Blocks the signals that the loop handles, and returns where they arrive.
fn catch_signals() -> io::Result<SignalFd> {
    let mut caught = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        caught.add(signal);
    }
    caught.thread_block()?;
    Ok(SignalFd::with_flags(&caught, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

//! Helpers: this binary executed again, to call libcontainer (see [`crate::oci`]).

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bramble_cluster::TaskId;
use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
    unistd::{Pid, pipe2},
};

use super::{sessions::receive, turn::State};
use crate::{
    ExecId,
    logs::LogStream,
    protocol::{HelperReport, MESSAGE_BYTES, cut_reason},
};

/// A helper that has not reported for so long is killed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Helpers that wait for their turn at most.
const QUEUE: usize = 2_048;

/// What a helper is for.
#[derive(Debug)]
pub(super) enum Job {
    Start { id: TaskId },
    Exec { id: TaskId, exec: ExecId, files: [OwnedFd; 3], has_terminal: bool },
}

/// Whose process a helper starts.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Container(TaskId),
    Exec(ExecId),
}

/// A helper at work.
#[derive(Debug)]
pub(super) struct Helper {
    pid: Pid,
    control: OwnedFd,
    subject: Subject,
    has_reported: bool,
    /// When it is killed.
    pub(super) deadline: Instant,
}

impl State {
    /// Gives a job to a helper, now or when one of those at work is done.
    pub(super) fn enqueue(&mut self, job: Job) {
        if self.queue.len() >= QUEUE {
            return self.job_failed(&job, "too many helpers are at work".to_owned());
        }
        self.queue.push_back(job);
        self.start_helpers();
    }

    fn start_helpers(&mut self) {
        while self.helpers.len() < self.options.helpers.max(1) {
            let Some(job) = self.queue.pop_front() else { return };
            if let Err(error) = self.start_helper(&job) {
                self.job_failed(&job, format!("cannot start a helper: {error}"));
            }
        }
    }

    fn job_failed(&mut self, job: &Job, reason: String) {
        match job {
            Job::Start { id } => self.container_not_started(*id, reason),
            Job::Exec { exec, .. } => self.exec_not_started(*exec, reason),
        }
    }

    /// A container whose helper has not begun is not started at all.
    pub(super) fn forget_queued_start(&mut self, id: TaskId, reason: &str) {
        let is_it = |job: &Job| matches!(job, Job::Start { id: queued } if *queued == id);
        if self.queue.iter().any(is_it) {
            self.queue.retain(|job| !is_it(job));
            self.container_not_started(id, reason.to_owned());
        }
    }

    fn start_helper(&mut self, job: &Job) -> io::Result<()> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (control, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let mut command = Command::new(self.executable.path());
        command.arg0("bramble").args(self.executable.arguments());
        command.stdin(Stdio::null()).env_clear();
        let (subject, streams, id) = match job {
            Job::Start { id } => (Subject::Container(*id), self.streams_of(*id)?, *id),
            Job::Exec { id, exec, files, .. } => {
                let files = [files[0].try_clone()?, files[1].try_clone()?, files[2].try_clone()?];
                (Subject::Exec(*exec), files, *id)
            }
        };
        let layout = &self.options.layout;
        let layout = [layout.run_dir(), layout.data_dir(), layout.cgroup()];
        match job {
            Job::Start { .. } => command.arg("start").args(layout).arg(id.to_string()),
            Job::Exec { exec, has_terminal, .. } => {
                let verb = if *has_terminal { "exec-terminal" } else { "exec" };
                command.arg(verb).args(layout).arg(id.to_string()).arg(exec.to_string())
            }
        };
        let passed = [&theirs, &streams[0], &streams[1], &streams[2]].map(AsRawFd::as_raw_fd);
        command.args(passed.map(|file| file.to_string()));
        // This process has one thread: nothing else can be executed while these are inheritable.
        set_inheritable(&passed, true)?;
        let spawned = command.spawn();
        set_inheritable(&passed, false)?;
        let pid = Pid::from_raw(i32::try_from(spawned?.id()).unwrap_or(0));
        let token = self.token();
        self.poller.add(control.as_fd(), token)?;
        let deadline = Instant::now() + PATIENCE;
        let helper = Helper { pid, control, subject, has_reported: false, deadline };
        self.helpers.insert(token, helper);
        Ok(())
    }

    /// Makes the three streams of a new container; what it writes to is read from now on.
    fn streams_of(&mut self, id: TaskId) -> io::Result<[OwnedFd; 3]> {
        let has_stdin =
            self.containers.get(&id).is_some_and(|container| container.order.has_open_stdin);
        let stdin = if has_stdin {
            let (stdin, input) = pipe2(OFlag::O_CLOEXEC)?;
            if let Some(container) = self.containers.get_mut(&id) {
                container.stdin = Some(input);
            }
            stdin
        } else {
            File::open("/dev/null")?.into()
        };
        let mut write_ends = Vec::with_capacity(2);
        for stream in [LogStream::Output, LogStream::Error] {
            let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC)?;
            fcntl(&read_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            self.add_output(id, stream, read_end)?;
            write_ends.push(write_end);
        }
        match (write_ends.pop(), write_ends.pop()) {
            (Some(error), Some(output)) => Ok([stdin, output, error]),
            _ => Err(io::Error::other("no streams")),
        }
    }

    /// Reads all that a helper has reported.
    pub(super) fn hear_helper(&mut self, token: u64) {
        let mut packet = vec![0; MESSAGE_BYTES];
        while let Some(helper) = self.helpers.get_mut(&token) {
            let Ok((length @ 1.., files)) = receive(&helper.control, &mut packet) else { return };
            let subject = helper.subject;
            let bytes = packet.get(..length).unwrap_or_default();
            match postcard::from_bytes(bytes) {
                Ok(HelperReport::Created { pid }) => self.created(subject, pid, files),
                Ok(HelperReport::Started) => {
                    helper.has_reported = true;
                    match subject {
                        Subject::Container(id) => self.container_started(id),
                        Subject::Exec(exec) => self.exec_started(exec),
                    }
                }
                Ok(HelperReport::Failed { reason }) => {
                    helper.has_reported = true;
                    self.not_started(subject, reason);
                }
                Err(error) => tracing::error!(%error, "a helper reported nonsense"),
            }
        }
    }

    pub(super) fn hear_all_helpers(&mut self) {
        let tokens: Vec<u64> = self.helpers.keys().copied().collect();
        for token in tokens {
            self.hear_helper(token);
        }
    }

    fn created(&mut self, subject: Subject, pid: i32, files: Vec<OwnedFd>) {
        let pid = Pid::from_raw(pid);
        match subject {
            Subject::Exec(exec) => self.exec_created(exec, pid),
            Subject::Container(id) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.pid = Some(pid);
                }
                // A terminal's master side: both its input and what it shows.
                for file in files {
                    let _ = fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
                    if let Err(error) = self.add_output(id, LogStream::Output, file) {
                        tracing::error!(%error, "a terminal cannot be read");
                    }
                }
            }
        }
    }

    fn not_started(&mut self, subject: Subject, reason: String) {
        match subject {
            Subject::Container(id) => self.container_not_started(id, cut_reason(reason)),
            Subject::Exec(exec) => self.exec_not_started(exec, cut_reason(reason)),
        }
    }

    /// If this was a helper, makes room for the next, and says so.
    pub(super) fn helper_ended(&mut self, pid: Pid, code: i32) -> bool {
        let Some(token) =
            self.helpers.iter().find(|(_, helper)| helper.pid == pid).map(|(token, _)| *token)
        else {
            return false;
        };
        self.hear_helper(token);
        if let Some(helper) = self.helpers.remove(&token)
            && !helper.has_reported
        {
            self.not_started(helper.subject, format!("the helper ended with code {code}"));
        }
        self.start_helpers();
        if self.helpers.is_empty() {
            self.strays = Vec::new();
        }
        true
    }

    pub(super) fn kill_slow_helpers(&mut self, now: Instant) {
        for helper in self.helpers.values_mut().filter(|helper| helper.deadline <= now) {
            helper.deadline = now + PATIENCE;
            // SAFETY: sends a signal to a child that is not reaped, so the number is still its.
            unsafe { libc::kill(helper.pid.as_raw(), libc::SIGKILL) };
        }
    }
}

fn set_inheritable(files: &[RawFd], is_inheritable: bool) -> io::Result<()> {
    let flags = if is_inheritable { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    for file in files {
        // SAFETY: the descriptors are open: their owners are on the caller's stack.
        let file = unsafe { std::os::fd::BorrowedFd::borrow_raw(*file) };
        fcntl(file, FcntlArg::F_SETFD(flags))?;
    }
    Ok(())
}

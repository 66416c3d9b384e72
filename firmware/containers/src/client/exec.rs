//! A further process in a container, from the daemon's side.

use std::{fs::File, io, os::fd::OwnedFd};

use bramble_cluster::TaskId;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::{net::unix::pipe, sync::oneshot, task::spawn_blocking};

use super::{CallError, Shared};
use crate::{
    ExecId, ExecRequest, bundle,
    keeper::receive_file,
    protocol::{Answer, Request},
};

/// The three standard streams of an exec. With a terminal, the first is a unix socket over which
/// the terminal's master side arrives (`SCM_RIGHTS`), and the others are not used.
#[derive(Debug)]
pub struct ExecIo {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

impl ExecIo {
    /// No input, and nobody reads the output.
    pub fn null() -> io::Result<Self> {
        let open =
            || Ok::<_, io::Error>(File::options().read(true).write(true).open("/dev/null")?.into());
        Ok(Self { stdin: open()?, stdout: open()?, stderr: open()? })
    }

    /// A terminal, for a request that has one.
    pub fn terminal() -> io::Result<(Self, Terminal)> {
        let Self { stdout, stderr, .. } = Self::null()?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let (stdin, socket) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self { stdin, stdout, stderr }, Terminal { socket }))
    }

    /// Pipes, and their other ends: where to write the input, where to read output and error.
    pub fn piped() -> io::Result<(Self, pipe::Sender, pipe::Receiver, pipe::Receiver)> {
        let (stdin, input) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let (error, stderr) = io::pipe()?;
        let io = Self { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
        let input = pipe::Sender::from_owned_fd(input.into())?;
        let output = pipe::Receiver::from_owned_fd(output.into())?;
        let error = pipe::Receiver::from_owned_fd(error.into())?;
        Ok((io, input, output, error))
    }
}

/// Where the terminal of an exec arrives.
#[derive(Debug)]
pub struct Terminal {
    socket: OwnedFd,
}

impl Terminal {
    /// The terminal's master side, once the exec runs: what is written to it is typed, what is read
    /// from it is shown.
    pub fn open(self) -> io::Result<OwnedFd> {
        receive_file(&self.socket).ok_or_else(|| io::Error::other("no terminal has arrived"))
    }
}

/// A process that runs in a container.
#[derive(Debug)]
pub struct RunningExec {
    /// Its name.
    pub id: ExecId,
    /// Its number on the board.
    pub pid: u32,
    exit: oneshot::Receiver<i32>,
}

impl RunningExec {
    /// Waits for its end and returns its exit code, 128 + n if signal n ended it.
    pub async fn wait(self) -> Result<i32, CallError> {
        self.exit.await.map_err(|_| CallError::Gone)
    }
}

pub(super) async fn start(
    shared: &Shared,
    id: TaskId,
    request: ExecRequest,
    io: ExecIo,
) -> Result<RunningExec, CallError> {
    let bits = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    let exec = ExecId::from_random(bits);
    let has_terminal = request.has_terminal;
    let layout = shared.layout.clone();
    spawn_blocking(move || bundle::create_exec(&layout, id, exec, &request))
        .await
        .unwrap_or(Err(CallError::Gone))?;
    let (exited, exit) = oneshot::channel();
    let mut is_closed = false;
    shared.wait(|waiting| {
        is_closed = waiting.is_closed();
        waiting.execs.insert(exec, exited);
    });
    let files = vec![io.stdin, io.stdout, io.stderr];
    let answer = match is_closed {
        true => Err(CallError::Gone),
        false => shared.call(Request::Exec { id, exec, has_terminal }, files).await,
    };
    if let Ok(Answer::Started { pid }) = answer {
        return Ok(RunningExec { id: exec, pid, exit });
    }
    shared.wait(|waiting| {
        waiting.execs.remove(&exec);
    });
    let layout = shared.layout.clone();
    drop(spawn_blocking(move || std::fs::remove_file(layout.exec(id, exec))).await);
    answer.and(Err(CallError::Gone))
}

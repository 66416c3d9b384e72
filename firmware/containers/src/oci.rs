//! The helper: a short life of this binary that calls libcontainer.
//!
//! libcontainer clones with the raw system call and runs ordinary Rust in the clone, changes the
//! directory and the dumpable flag of its caller, and waits. A process of its own, with one
//! thread, is where that is harmless. What it clones are its siblings: children of the keeper.

mod devices;
mod executor;
mod init;
mod terminal;

use std::{
    ffi::OsString,
    fs, io,
    io::IoSlice,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
    process::ExitCode,
};

use bramble_cluster::TaskId;
use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use nix::{
    libc,
    sys::{
        socket::{ControlMessage, MsgFlags, sendmsg},
        stat::{Mode, umask},
    },
    unistd::Pid,
};

use self::{executor::ProgramExecutor, terminal::Console};
use crate::{
    Layout, cgroups,
    protocol::{HelperReport, cut_reason},
    spec::{UNCONFINED, WITH_INIT},
};

/// What a helper is told: a verb, the layout, the container, and open descriptors.
struct Arguments {
    verb: String,
    layout: Layout,
    id: TaskId,
    exec: Option<String>,
    control: OwnedFd,
    streams: [OwnedFd; 3],
}

/// Does what the keeper asks for; `arguments` are those after `oci`. Returns the exit code, which
/// only matters when nothing was reported.
///
/// Must be called in a process with one thread, by the keeper.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(arguments) = Arguments::read(arguments) else {
        return ExitCode::FAILURE;
    };
    // A container begins with a plain mask, whatever the keeper's is.
    umask(Mode::from_bits_truncate(0o022));
    let report = match arguments.verb.as_str() {
        "start" => start(&arguments),
        _ => exec(&arguments),
    };
    let report = report.unwrap_or_else(|reason| HelperReport::Failed { reason });
    match send(&arguments.control, &report, &[]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl Arguments {
    fn read(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let verb = arguments.next()?.into_string().ok()?;
        let mut path = || arguments.next().map(PathBuf::from);
        let layout = Layout::new(path()?, path()?, path()?);
        let mut text = || arguments.next()?.into_string().ok();
        let id = text()?.parse().ok()?;
        let exec = match verb.as_str() {
            "start" => None,
            "exec" | "exec-terminal" => Some(text()?),
            _ => return None,
        };
        let mut file = || {
            let number: RawFd = text()?.parse().ok().filter(|number| *number > 2)?;
            // SAFETY: the keeper opened it for this process, which owns it alone.
            Some(unsafe { OwnedFd::from_raw_fd(number) })
        };
        let (control, streams) = (file()?, [file()?, file()?, file()?]);
        Some(Self { verb, layout, id, exec, control, streams })
    }

    fn builder(&self, executor: ProgramExecutor) -> Result<ContainerBuilder, String> {
        let builder = ContainerBuilder::new(self.id.to_string(), SyscallType::default());
        let builder = builder.with_root_path(self.layout.oci_states()).map_err(chain)?;
        Ok(builder.with_executor(executor))
    }

    fn streams(&self) -> Result<[OwnedFd; 3], String> {
        let copy = |index: usize| self.streams[index].try_clone().map_err(chain);
        Ok([copy(0)?, copy(1)?, copy(2)?])
    }
}

/// Creates a container and starts it.
fn start(arguments: &Arguments) -> Result<HelperReport, String> {
    let config = read_json(&arguments.layout.config(arguments.id))?;
    let annotations = &config["annotations"];
    let executor = ProgramExecutor {
        is_unconfined: annotations[UNCONFINED].is_string(),
        has_init: annotations[WITH_INIT].is_string(),
    };
    let mut builder = arguments.builder(executor)?;
    let console = match config["process"]["terminal"].as_bool() {
        Some(true) => Some(Console::listen(&arguments.layout, arguments.id)?),
        _ => None,
    };
    builder = match &console {
        Some(console) => builder.with_console_socket(Some(console.path())),
        None => {
            let [stdin, stdout, stderr] = arguments.streams()?;
            builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr)
        }
    };
    let mut container = builder
        .as_init(arguments.layout.bundle(arguments.id))
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(chain)?;
    let pid = container.pid().map_or(0, nix_pid);
    let master = console.map(Console::receive).transpose()?;
    report_created(arguments, pid, master)?;
    if cgroups::is_unified() {
        devices::attach(&arguments.layout.container_cgroup(arguments.id)).map_err(|error| {
            format!("cannot guard the board's devices from the container: {}", chain(error))
        })?;
    }
    container.start().map_err(chain)?;
    Ok(HelperReport::Started)
}

/// Runs a further process in a container.
fn exec(arguments: &Arguments) -> Result<HelperReport, String> {
    let exec = arguments.exec.as_deref().unwrap_or_default();
    let path = arguments.layout.bundle(arguments.id).join(format!("exec-{exec}.json"));
    let process = read_json(&path)?;
    let is_unconfined = process[UNCONFINED].as_bool() == Some(true);
    let mut builder = arguments.builder(ProgramExecutor { is_unconfined, has_init: false })?;
    let console = match arguments.verb.as_str() {
        "exec-terminal" => Some(Console::listen(&arguments.layout, arguments.id)?),
        _ => None,
    };
    builder = match &console {
        Some(console) => builder.with_console_socket(Some(console.path())),
        None => {
            let [stdin, stdout, stderr] = arguments.streams()?;
            builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr)
        }
    };
    let built =
        builder.as_tenant().with_process(Some(&path)).with_detach(true).as_sibling(true).build();
    drop(fs::remove_file(&path));
    let pid = nix_pid(built.map_err(chain)?);
    if let Some(console) = console {
        // The terminal goes to who asked for it, over the socket that came as standard input.
        let master = console.receive()?;
        let files = [master.as_raw_fd()];
        send_files(&arguments.streams[0], b"t", &files).map_err(chain)?;
    }
    report_created(arguments, pid, None)?;
    Ok(HelperReport::Started)
}

fn report_created(arguments: &Arguments, pid: i32, master: Option<OwnedFd>) -> Result<(), String> {
    let files: Vec<RawFd> = master.iter().map(AsRawFd::as_raw_fd).collect();
    send(&arguments.control, &HelperReport::Created { pid }, &files).map_err(chain)
}

fn send(control: &OwnedFd, report: &HelperReport, files: &[RawFd]) -> io::Result<()> {
    let report = match report {
        HelperReport::Failed { reason } => {
            &HelperReport::Failed { reason: cut_reason(reason.clone()) }
        }
        report => report,
    };
    let packet = postcard::to_stdvec(report).map_err(io::Error::other)?;
    send_files(control, &packet, files)
}

fn send_files(socket: &OwnedFd, packet: &[u8], files: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(files)];
    let control = if files.is_empty() { &[][..] } else { &rights[..] };
    let slices = [IoSlice::new(packet)];
    sendmsg::<()>(socket.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

fn read_json(path: &std::path::Path) -> Result<serde_json::Value, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// libcontainer's own version of `nix` names process ids by another type.
fn nix_pid(pid: impl Into<libc::pid_t>) -> i32 {
    Pid::from_raw(pid.into()).as_raw()
}

/// An error and what caused it, in one line.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

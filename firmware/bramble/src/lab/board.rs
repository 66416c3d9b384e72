//! One virtual board.

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::folder::LabFolder;
use crate::cli::{Client, Query};

/// How long a killed process may take to be gone.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);

/// One virtual board of a lab.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    lab: LabFolder,
    number: u8,
}

impl Board {
    pub(super) fn new(lab: LabFolder, number: u8) -> Self {
        Self { lab, number }
    }

    /// Which it is, from 1.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Its host name.
    pub(crate) fn hostname(&self) -> String {
        format!("board{}", self.number)
    }

    /// Its address on the segment.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.lab.segment().address(self.number)
    }

    /// Its folder; what is in `data` is its disk.
    pub(crate) fn folder(&self) -> PathBuf {
        self.lab.path().join(self.number.to_string())
    }

    /// Its control group, from the root of each hierarchy.
    pub(crate) fn cgroup(&self) -> String {
        format!("/{}/{}", self.lab.cgroup(), self.number)
    }

    /// The socket of its Docker Engine API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join("bramble.sock")
    }

    /// What its processes print.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// Where the id of its process 1 stands, as the host counts.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.folder().join("pid")
    }

    /// The id of its process 1, as the host counts, if the board has power.
    pub(crate) fn pid(&self) -> Option<i32> {
        let pid = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        // The id may be another process's by now; a board's process 1 runs this lab's daemon.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let folder = self.folder().into_os_string().into_encoded_bytes();
        let is_ours = arguments.windows(folder.len()).any(|window| window == folder);
        let is_booting = arguments.windows(4).any(|window| window == b"boot");
        (is_ours || is_booting).then_some(pid)
    }

    /// Gives it power. What a real board keeps in memory is forgotten; its data is kept.
    pub(crate) async fn start(&self) -> Result<()> {
        if self.pid().is_some() {
            bail!("board {} runs already", self.number);
        }
        self.forget_memory()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["lab", "power-on", &self.number.to_string(), "--dir"]).arg(self.lab.path());
        command.stdin(Stdio::null());
        let status = self.lab.segment().spawn(self.number, command)?.wait()?;
        if !status.success() {
            bail!("board {} did not start: see {}", self.number, self.log().display());
        }
        Ok(())
    }

    /// Cuts its power and waits until nothing of it runs. A board without power is no error.
    pub(crate) async fn kill(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context("cannot kill a board's first process"),
        }
        let started = std::time::Instant::now();
        while fs::exists(format!("/proc/{pid}"))? && !is_zombie(pid) {
            if started.elapsed() > DEATH_TIMEOUT {
                bail!("board {}'s process {pid} does not die", self.number);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Kills its daemon; the keeper starts another.
    pub(crate) fn crash(&self) -> Result<()> {
        let keeper = self.pid().with_context(|| format!("board {} has no power", self.number))?;
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"))?;
        for child in children.split_whitespace() {
            let arguments = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let mut arguments = arguments.split(|byte| *byte == 0);
            if arguments.any(|argument| argument == b"--kept") {
                kill(Pid::from_raw(child.parse()?), Signal::SIGKILL)?;
                return Ok(());
            }
        }
        bail!("board {}'s daemon does not run", self.number)
    }

    /// Pulls its cable, or plugs it in.
    pub(crate) async fn set_cable(&self, is_plugged_in: bool) -> Result<()> {
        Ok(self.lab.segment().set_cable(self.number, is_plugged_in).await?)
    }

    /// Whether its cable is plugged in.
    pub(crate) async fn is_plugged_in(&self) -> Result<bool> {
        Ok(self.lab.segment().is_plugged_in(self.number).await?)
    }

    /// Runs a command on its network; fails if the command does.
    pub(crate) fn exec(&self, command: &[String]) -> Result<()> {
        let (program, arguments) = command.split_first().context("there is nothing to run")?;
        let mut process = Command::new(program);
        process.args(arguments);
        let status = self.lab.segment().spawn(self.number, process)?.wait()?;
        if !status.success() {
            bail!("`{}` ended with {status}", command.join(" "));
        }
        Ok(())
    }

    /// How many nodes it counts Ready, if it knows a leader; none if it knows none.
    pub(crate) async fn ready_nodes(&self) -> Result<usize> {
        let nodes: serde_json::Value = self.client()?.get("/nodes", &Query::new()).await?;
        let nodes = nodes.as_array().context("the board's answer is no list")?;
        let has_leader = nodes.iter().any(|node| node["ManagerStatus"]["Leader"] == true);
        let ready = nodes.iter().filter(|node| node["Status"]["State"] == "ready").count();
        Ok(if has_leader { ready } else { 0 })
    }

    /// A client of its API.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::new(self.socket().to_str())
    }

    /// Everything in its folder but its disk, its configuration and its log is memory.
    fn forget_memory(&self) -> Result<()> {
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            let name = entry.file_name();
            if ["data", "bramble.toml", "log"].iter().any(|kept| name == *kept) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

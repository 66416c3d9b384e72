//! A board to test: a keeper in a folder of its own, and busybox as the image.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bramble_cluster::{
    AssignedTask, ContainerSpec, DesiredState, ServiceId, Slot, TaskId, TaskSpec, TaskStatus,
};
use bramble_containers::{
    BoardFacts, ContainerExit, ContainerRequest, ContainerState, ExecIo, ExecRequest, Keeper,
    Layout, LogQuery, NetworkMode,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const STAND_IN: &str = env!("CARGO_BIN_EXE_bramble-stand-in");

static BOARDS: AtomicU32 = AtomicU32::new(0);

/// A board; ends with its value.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) layout: Layout,
    pub(crate) keeper: Child,
    folder: TempDir,
}

impl Board {
    /// A board whose daemon is this test.
    pub(crate) fn start() -> Self {
        Self::start_with(&["idle"])
    }

    pub(crate) fn start_with(daemon: &[&str]) -> Self {
        Self::start_as(|_, _| daemon.iter().map(|argument| (*argument).into()).collect())
    }

    /// A board whose daemon starts containers, wherever it was when it was killed.
    pub(crate) fn start_as_daemon(containers: u128, lines: u128) -> Self {
        Self::start_daemon_of(Command::new(STAND_IN), containers, lines)
    }

    /// The same, with a keeper that waits so long for signs of life.
    pub(crate) fn start_as_watched_daemon(patience_seconds: u32) -> Self {
        let mut program = Command::new(STAND_IN);
        program.env("PATIENCE_SECONDS", patience_seconds.to_string());
        Self::start_daemon_of(program, 1, 100_000)
    }

    fn start_daemon_of(program: Command, containers: u128, lines: u128) -> Self {
        Self::start_wrapped(program, |layout, folder| {
            let (socket, rootfs) = (layout.socket(), folder.join("rootfs"));
            let numbers = [containers.to_string().into(), lines.to_string().into()];
            let paths = ["daemon".into(), socket.into_os_string(), rootfs.into_os_string()];
            paths.into_iter().chain(numbers).collect()
        })
    }

    /// A board in namespaces of its own, whose daemon starts one container with a line of shell.
    /// `before` is the shell's part before the keeper takes over, and how it does that.
    pub(crate) fn start_within(unshare: &str, before: &str, line: &str) -> Self {
        let mut wrapper = Command::new("unshare");
        wrapper.args(unshare.split(' ')).args([
            "sh",
            "-c",
            &format!("{before} exec \"$0\" \"$@\""),
        ]);
        wrapper.arg(STAND_IN);
        Self::start_wrapped(wrapper, |layout, folder| {
            let (socket, rootfs) = (layout.socket(), folder.join("rootfs"));
            vec!["once".into(), socket.into_os_string(), rootfs.into_os_string(), line.into()]
        })
    }

    fn start_as(daemon: impl FnOnce(&Layout, &Path) -> Vec<OsString>) -> Self {
        Self::start_wrapped(Command::new(STAND_IN), daemon)
    }

    fn start_wrapped(
        program: Command,
        daemon: impl FnOnce(&Layout, &Path) -> Vec<OsString>,
    ) -> Self {
        assert!(geteuid().is_root(), "these tests make real containers and must run as root");
        let folder = tempfile::tempdir().unwrap();
        let number = BOARDS.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/bramble-test/{}-{number}", std::process::id());
        let layout = Layout::new(folder.path().join("run"), folder.path().join("data"), cgroup);
        make_rootfs(&folder.path().join("rootfs"));
        let keeper = Self::spawn(program, &layout, &daemon(&layout, folder.path()));
        Self { layout, keeper, folder }
    }

    fn spawn(mut command: Command, layout: &Layout, daemon: &[OsString]) -> Child {
        command.arg("keep").args([layout.run_dir(), layout.data_dir(), layout.cgroup()]);
        command.args(daemon).spawn().unwrap()
    }

    /// Starts a keeper again on what the last one left.
    pub(crate) fn restart(&mut self) {
        self.keeper = self.spawn_again();
    }

    pub(crate) fn spawn_again(&self) -> Child {
        Self::spawn(Command::new(STAND_IN), &self.layout, &["idle".into()])
    }

    pub(crate) async fn connect(&self) -> Keeper {
        let begin = Instant::now();
        loop {
            match Keeper::connect(&self.layout.socket()).await {
                Ok(keeper) => return keeper,
                Err(error) if begin.elapsed() > PATIENCE => panic!("no keeper: {error:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    /// A container that runs a line of shell.
    pub(crate) fn shell(&self, number: u128, line: &str) -> ContainerRequest {
        let container = ContainerSpec {
            arguments: vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()],
            stop_grace_period: Some(Duration::from_secs(1)),
            ..ContainerSpec::default()
        };
        self.container(number, TaskSpec { container, ..TaskSpec::default() })
    }

    pub(crate) fn container(&self, number: u128, spec: TaskSpec) -> ContainerRequest {
        let task = AssignedTask {
            id: TaskId::from_random(number),
            service: ServiceId::from_random(1),
            service_name: "test".to_owned(),
            slot: Slot::Replica(3),
            spec: spec.into(),
            desired: DesiredState::Running,
            status: TaskStatus::default(),
            image_holders: Vec::new(),
            image: None,
            is_withheld: false,
        };
        let board = BoardFacts { hostname: "testboard".to_owned(), ..BoardFacts::default() };
        ContainerRequest {
            task,
            image: oci_spec::image::Config::default(),
            rootfs: self.rootfs(),
            board,
            network: NetworkMode::Board,
        }
    }

    /// What is left of the board outside of its folder.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        let own = self.layout.cgroup().strip_prefix("/").unwrap();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            for path in [hierarchy.path().join(own), Path::new("/sys/fs/cgroup").join(own)] {
                let children = fs::read_dir(&path).into_iter().flatten().flatten();
                let children = children.filter(|child| child.path().is_dir());
                found.extend(children.map(|child| child.path().display().to_string()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let folder = self.folder.path().to_str().unwrap();
        found.extend(mounts.lines().filter(|line| line.contains(folder)).map(str::to_owned));
        for child in children_of(self.keeper.id()) {
            let name = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if !name.contains("idle") {
                found.push(format!("process {child} {name}"));
            }
        }
        for folder in [self.layout.bundles(), self.layout.run_dir().join("oci")] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        found
    }

    pub(crate) async fn assert_clean(&self) {
        let begin = Instant::now();
        while !self.leftovers().is_empty() && begin.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.leftovers(), Vec::<String>::new());
    }

    pub(crate) fn signal_keeper(&self, signal: Signal) {
        kill(Pid::from_raw(self.keeper.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if self.keeper.try_wait().unwrap().is_none() {
            self.signal_keeper(Signal::SIGTERM);
            self.signal_keeper(Signal::SIGTERM);
            let begin = Instant::now();
            while self.keeper.try_wait().unwrap().is_none() {
                if begin.elapsed() > PATIENCE {
                    drop(self.keeper.kill());
                    drop(self.keeper.wait());
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            drop(fs::remove_dir(hierarchy.path().join("bramble-test")));
        }
    }
}

/// The processes whose parent this is, zombies too.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    text.unwrap_or_default().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn make_rootfs(rootfs: &Path) {
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "data", "run"] {
        fs::create_dir_all(rootfs.join(folder)).unwrap();
    }
    fs::copy("/usr/bin/busybox", rootfs.join("bin/busybox"))
        .expect("these tests need the package busybox-static");
    let list = Command::new("/usr/bin/busybox").arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(list).unwrap().lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    fs::write(
        rootfs.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/data:/bin/sh\n",
    )
    .unwrap();
    fs::write(rootfs.join("etc/group"), "root:x:0:\nweb:x:34:\naudio:x:29:web\n").unwrap();
    fs::write(rootfs.join("data/of-image"), "from the image\n").unwrap();
}

/// Creates and starts a container, waits for its end, and returns how it ended.
pub(crate) async fn run(keeper: &Keeper, request: ContainerRequest) -> ContainerExit {
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    keeper.start(id).await.unwrap();
    ended(keeper, id).await
}

/// Waits until a container has ended.
pub(crate) async fn ended(keeper: &Keeper, id: TaskId) -> ContainerExit {
    let mut containers = keeper.containers();
    let wait = containers.wait_for(|all| {
        all.get(&id).is_some_and(|status| matches!(status.state, ContainerState::Exited(_)))
    });
    let all = tokio::time::timeout(PATIENCE, wait).await.expect("it does not end").unwrap();
    match all[&id].state {
        ContainerState::Exited(exit) => exit,
        ref state => panic!("{state:?}"),
    }
}

/// What a container wrote, to both streams, one line each.
pub(crate) async fn log(keeper: &Keeper, id: TaskId) -> String {
    let mut reader = keeper.logs(id, LogQuery::default()).unwrap();
    let mut text = String::new();
    while let Some(entry) = reader.next().await.unwrap() {
        text.push_str(&String::from_utf8_lossy(&entry.line));
        text.push('\n');
    }
    text
}

/// Runs a container to its end and returns its exit code and its log.
pub(crate) async fn output(keeper: &Keeper, request: ContainerRequest) -> (i32, String) {
    let id = request.task.id;
    let exit = run(keeper, request).await;
    (exit.code, log(keeper, id).await)
}

/// Runs a line of shell in a container and returns its exit code and output.
pub(crate) async fn exec(keeper: &Keeper, id: TaskId, line: &str) -> (i32, String) {
    let command = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    let (io, input, mut output, _error) = ExecIo::piped().unwrap();
    drop(input);
    let request = ExecRequest { command, ..ExecRequest::default() };
    let running = keeper.exec(id, request, io).await.unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).await.unwrap();
    (running.wait().await.unwrap(), text)
}

//! A lab for one test, and the hands that work on it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at; far below every figure that is promised.
const GLANCE: Duration = Duration::from_millis(10);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A cluster of virtual boards that is removed when the test ends.
pub struct Lab {
    folder: PathBuf,
    pub boards: u8,
}

impl Lab {
    /// Starts a lab and waits until it is one cluster, as `bramble lab up` does.
    pub fn up(boards: u8) -> Self {
        assert!(
            is_root(),
            "the fleet tests make network namespaces and containers: run them as root"
        );
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/run/bramble-fleet-{}-{number}", std::process::id()));
        let lab = Self { folder, boards };
        lab.bramble(&["lab", "up", "--boards", &boards.to_string()]);
        lab
    }

    /// A lab with the `whoami` image on its first board, known to all.
    pub fn with_whoami(boards: u8) -> Self {
        let lab = Self::up(boards);
        let archive = lab.folder.join("whoami.tar");
        let archive = archive.to_str().expect("a path");
        lab.bramble(&["image", "whoami", "--output", archive]);
        lab.docker(1, &["load", "-i", archive]);
        lab
    }

    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// Runs `bramble` on this lab; the test fails if it does.
    pub fn bramble(&self, arguments: &[&str]) -> String {
        let output = self.try_bramble(arguments);
        assert!(output.status.success(), "bramble {arguments:?}: {}", both(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn try_bramble(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments);
        if arguments.first() == Some(&"lab") {
            command.arg("--dir").arg(&self.folder);
        } else {
            command.env("DOCKER_HOST", self.docker_host(1));
        }
        command.output().expect("bramble starts")
    }

    /// Runs the real `docker` client against a board; the test fails if it does.
    pub fn docker(&self, board: u8, arguments: &[&str]) -> String {
        let output = self.try_docker(board, arguments);
        assert!(output.status.success(), "docker {arguments:?}: {}", both(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn try_docker(&self, board: u8, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.docker_host(board)).args(arguments);
        command.output().expect("the docker client is installed (tests/run installs it)")
    }

    /// A command on a board's network.
    pub fn on_board(&self, board: u8, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let network = self.folder.join("net").join(board.to_string());
        command.arg(format!("--net={}", network.display())).arg(program);
        command
    }

    pub fn cut(&self, board: u8) {
        self.bramble(&["lab", "cut", &board.to_string()]);
    }

    pub fn heal(&self, board: u8) {
        self.bramble(&["lab", "heal", &board.to_string()]);
    }

    pub fn kill(&self, board: u8) {
        self.bramble(&["lab", "kill", &board.to_string()]);
    }

    pub fn start(&self, board: u8) {
        self.bramble(&["lab", "start", &board.to_string()]);
    }

    pub fn crash(&self, board: u8) {
        self.bramble(&["lab", "crash", &board.to_string()]);
    }

    /// Asks a board's API; `None` if it does not answer with success and JSON.
    pub fn get(&self, board: u8, path: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.socket(board)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: board\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let text = String::from_utf8(answer).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        if !head.starts_with("HTTP/1.1 200") {
            return None;
        }
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        serde_json::from_str(&if is_chunked { unchunk(body) } else { body.to_owned() }).ok()
    }

    /// The board that leads, as `board` sees it.
    pub fn leader(&self, board: u8) -> Option<u8> {
        let nodes = self.get(board, "/nodes")?;
        let leader =
            nodes.as_array()?.iter().find(|node| node["ManagerStatus"]["Leader"] == true)?;
        number_of(leader)
    }

    /// On which boards the service's tasks run that should, one entry a task.
    pub fn running(&self, board: u8, service: &str) -> Vec<u8> {
        let filters = format!("/tasks?filters=%7B%22service%22%3A%7B%22{service}%22%3Atrue%7D%7D");
        let (Some(tasks), Some(nodes)) = (self.get(board, &filters), self.get(board, "/nodes"))
        else {
            return Vec::new();
        };
        let is_running = |task: &&Value| {
            task["DesiredState"] == "running" && task["Status"]["State"] == "running"
        };
        let board_of = |task: &Value| {
            let node = nodes.as_array()?.iter().find(|node| node["ID"] == task["NodeID"])?;
            number_of(node)
        };
        tasks.as_array().into_iter().flatten().filter(is_running).filter_map(board_of).collect()
    }

    /// Waits for a condition and returns how long that took.
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
        let started = Instant::now();
        while !holds() {
            assert!(
                started.elapsed() < PATIENCE,
                "{what}: not after {PATIENCE:?}\n{}",
                self.story()
            );
            std::thread::sleep(GLANCE);
        }
        started.elapsed()
    }

    /// Waits until every board counts every board Ready and there is a leader.
    pub fn wait_until_whole(&self) {
        self.wait("all boards Ready", || {
            (1..=self.boards).all(|board| {
                let Some(nodes) = self.get(board, "/nodes") else { return false };
                if self.leader(board).is_none() {
                    return false;
                }
                let ready = |node: &&Value| node["Status"]["State"] == "ready";
                nodes.as_array().is_some_and(|nodes| {
                    nodes.iter().filter(ready).count() == usize::from(self.boards)
                })
            })
        });
    }

    /// The id of a board's first process, the keeper, as this test counts processes.
    pub fn keeper(&self, board: u8) -> u32 {
        let text = std::fs::read_to_string(self.folder.join(board.to_string()).join("pid"));
        text.expect("the board has power").trim().parse().expect("a process id")
    }

    /// The keeper and the daemon of a board.
    pub fn own_processes(&self, board: u8) -> Vec<u32> {
        let keeper = self.keeper(board);
        let is_daemon = |pid: &u32| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).any(|argument| argument == b"--kept")
        };
        std::iter::once(keeper).chain(children(keeper).into_iter().filter(is_daemon)).collect()
    }

    /// The first processes of a board's containers.
    pub fn container_processes(&self, board: u8) -> Vec<u32> {
        let own = self.own_processes(board);
        children(self.keeper(board)).into_iter().filter(|pid| !own.contains(pid)).collect()
    }

    /// What the boards have printed: for whoever must find out why a test failed.
    fn story(&self) -> String {
        let mut story = String::new();
        for board in 1..=self.boards {
            let log = std::fs::read_to_string(self.folder.join(board.to_string()).join("log"));
            let log = log.unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            story.push_str(&format!("-- board {board}\n"));
            story.extend(tail.into_iter().rev().map(|line| format!("{line}\n")));
        }
        story
    }

    fn socket(&self, board: u8) -> PathBuf {
        self.folder.join(board.to_string()).join("bramble.sock")
    }

    fn docker_host(&self, board: u8) -> String {
        format!("unix://{}", self.socket(board).display())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.try_bramble(&["lab", "down"]);
        if !std::thread::panicking() {
            assert!(output.status.success(), "bramble lab down: {}", both(&output));
            assert!(!self.folder.exists(), "the lab's folder is left behind");
        }
    }
}

/// Prints a figure that SPECIFICATION.md promises, and holds it to its bound.
pub fn promise(name: &str, figure: f64, bound: f64, unit: &str) {
    println!("figure: {name}: {figure:.3} {unit} (at most {bound} {unit})");
    assert!(figure <= bound, "{name}: {figure:.3} {unit} is over {bound} {unit}");
}

pub fn both(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn binary() -> PathBuf {
    std::env::var_os("BRAMBLE_BINARY")
        .expect("BRAMBLE_BINARY names the firmware's binary: `cargo firmware` builds it")
        .into()
}

fn number_of(node: &Value) -> Option<u8> {
    node["Description"]["Hostname"].as_str()?.strip_prefix("board")?.parse().ok()
}

fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let Ok(length) = usize::from_str_radix(length.trim(), 16) else { break };
        let Some(chunk) = rest.get(..length) else { break };
        whole.push_str(chunk);
        body = rest.get(length + 2..).unwrap_or_default();
    }
    whole
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

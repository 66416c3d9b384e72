//! One more board on the segment, of this machine's own: the tests' way into the cluster.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    busybox,
    command::{both, given, in_namespace, run, signal, try_run, wait_at},
    machine::Model,
    segment::Segment,
};

/// How long anything in the cluster may take before a test gives up on it. Emulated boards are slow.
pub const PATIENCE: Duration = Duration::from_secs(200);
/// Between two looks: most are answered by the leader, which is an emulated board and has other things
/// to do.
const PACE: Duration = Duration::from_millis(120);
/// Its host name; tests tell machines from it by that.
pub const NAME: &str = "observer";
/// Of how many services the tasks are shown when a test failed.
const STORY_SERVICES: usize = 5;
/// How long its daemon may take to end in order.
const ENDING: Duration = Duration::from_secs(30);

/// A board of the cluster in a network namespace of its own. It has an address of the segment's
/// network and a link-local one, so that it reaches machines which nobody gave an address.
pub struct Observer {
    namespace: String,
    folder: PathBuf,
    keeper: Child,
    /// The client that runs now.
    client: Mutex<Option<u32>>,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    pub hostname: String,
    pub id: String,
    pub address: String,
    pub is_ready: bool,
    pub is_leader: bool,
    pub is_manager: bool,
}

impl Observer {
    /// Starts the board anew and waits until its API answers; it is no member yet.
    pub fn start(segment: &Segment) -> Self {
        let namespace = format!("{}-{NAME}", segment.namespace());
        let folder = segment.folder().join(NAME);
        // What a former observer knew may be of a cluster that is no more.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        run("ip", &["netns", "add", &namespace]);
        segment.lay_cable(&namespace, &["10.77.0.2/24", "169.254.77.2/16"]);
        let settings = format!(
            "[board]\nhostname = \"{NAME}\"\ninterfaces = [\"eth0\"]\n[cluster]\nkey = \"{}\"\n",
            segment.key()
        );
        fs::write(folder.join("bramble.toml"), settings).expect("its settings are written");
        let log = File::create(folder.join("log")).expect("a log");
        let keeper = in_namespace(&namespace, "TERM", text(&given("BRAMBLE_BINARY")))
            .arg("daemon")
            .arg("--config")
            .arg(folder.join("bramble.toml"))
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--run-dir")
            .arg(folder.join("run"))
            .args(["--cgroup", &format!("/{namespace}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("nsenter is installed");
        let observer = Self { namespace, folder, keeper, client: Mutex::default() };
        observer.wait("the observer's API answers", || observer.get("/_ping").is_some());
        observer
    }

    /// Starts the board and waits until it is a member of a cluster with `machines` Ready machines.
    /// It takes no tasks and no part in the consensus.
    pub fn join(segment: &Segment, machines: usize) -> Self {
        let observer = Self::start(segment);
        let mut own = None;
        observer.wait("the observer is a member", || {
            let is_own = |node: &Node| node.hostname == NAME && node.is_ready;
            own = observer.nodes().into_iter().find(is_own);
            own.is_some() && observer.ready_machines().len() == machines
        });
        let own = own.expect("it is a member").id;
        observer.docker(&["node", "update", "--availability", "drain", &own]);
        observer.docker(&["node", "demote", &own]);
        observer
    }

    /// Loads busybox into the cluster, for QEMU's own board.
    pub fn load_busybox(&self) {
        self.load_busybox_for(Model::Virt);
    }

    /// Loads busybox into the cluster.
    pub fn load_busybox_for(&self, model: Model) {
        let archive = self.folder.join("busybox.tar");
        busybox::write_image(model, &archive);
        self.docker(&["load", "--quiet", "-i", text(&archive)]);
    }

    /// Runs the real `docker` client on the cluster; the test fails if it does.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.try_docker(arguments);
        assert!(
            output.status.success(),
            "docker {arguments:?}: {}\n{}",
            both(&output),
            self.story()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the real `docker` client on the cluster.
    pub fn try_docker(&self, arguments: &[&str]) -> Output {
        self.client("docker", arguments)
    }

    /// Runs the `bramble` client on the cluster.
    pub fn try_bramble(&self, arguments: &[&str]) -> Output {
        self.client(text(&given("BRAMBLE_BINARY")), arguments)
    }

    /// Ends the client that runs now, if one does. What it asked for may have been done.
    pub fn interrupt(&self) {
        if let Some(client) = *self.client.lock().unwrap_or_else(PoisonError::into_inner) {
            signal(client, Signal::KILL);
        }
    }

    /// Runs a busybox service of one shell line, pinned by further `options`, and does not wait.
    pub fn serve(&self, name: &str, options: &[&str], line: &str) {
        let create =
            ["service", "create", "--detach", "--quiet", "--network", "host", "--name", name];
        let what = [busybox::IMAGE, "sh", "-c", line];
        self.docker(&[&create[..], options, &what[..]].concat());
    }

    /// Runs one shell line, once, on a node that `constraint` names, with the kernel's files at
    /// `/data`: what only the board's owner may do to it.
    pub fn sabotage(&self, constraint: &str, line: &str) {
        let kernel =
            ["--restart-condition", "none", "--mount", "type=bind,source=/proc,target=/data"];
        self.serve("sabotage", &[&["--constraint", constraint], &kernel[..]].concat(), line);
    }

    /// Asks the API; `None` if it does not answer with success and JSON (or `OK`).
    pub fn get(&self, path: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        // Version 1.0: the answer comes in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: board\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        if head.split_whitespace().nth(1) != Some("200") {
            return None;
        }
        if body.trim() == "OK" { Some(Value::Bool(true)) } else { serde_json::from_str(body).ok() }
    }

    /// All members, as the cluster knows them; none if it does not answer.
    pub fn nodes(&self) -> Vec<Node> {
        let nodes = self.get("/nodes").unwrap_or_default();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let nodes = nodes.as_array().into_iter().flatten().map(|node| Node {
            hostname: word(&node["Description"]["Hostname"]),
            id: word(&node["ID"]),
            address: word(&node["Status"]["Addr"]),
            is_ready: node["Status"]["State"] == "ready",
            is_leader: node["ManagerStatus"]["Leader"] == true,
            is_manager: node["ManagerStatus"].is_object(),
        });
        nodes.collect()
    }

    /// The machines that are Ready; none while the cluster has no leader.
    pub fn ready_machines(&self) -> Vec<Node> {
        let nodes = self.nodes();
        if !nodes.iter().any(|node| node.is_leader) {
            return Vec::new();
        }
        nodes.into_iter().filter(|node| node.hostname != NAME && node.is_ready).collect()
    }

    /// Waits until there are `count` Ready machines, and returns them.
    pub fn wait_for_machines(&self, count: usize) -> Vec<Node> {
        let mut ready = Vec::new();
        self.wait(&format!("{count} machines are Ready"), || {
            ready = self.ready_machines();
            ready.len() == count
        });
        ready
    }

    /// The machine with an address.
    pub fn machine_at(&self, address: &str) -> Node {
        let nodes = self.nodes();
        let node = nodes.iter().find(|node| node.address == address);
        node.unwrap_or_else(|| panic!("no node at {address}: {nodes:#?}")).clone()
    }

    /// On which nodes the service's tasks run that should, one id a task.
    pub fn running(&self, service: &str) -> Vec<String> {
        let filters = format!("/tasks?filters=%7B%22service%22%3A%7B%22{service}%22%3Atrue%7D%7D");
        let tasks = self.get(&filters).unwrap_or_default();
        let is_running = |task: &&Value| {
            task["DesiredState"] == "running" && task["Status"]["State"] == "running"
        };
        let node_of = |task: &Value| task["NodeID"].as_str().map(str::to_owned);
        tasks.as_array().into_iter().flatten().filter(is_running).filter_map(node_of).collect()
    }

    /// Waits for a condition and returns how long that took.
    pub fn wait(&self, what: &str, holds: impl FnMut() -> bool) -> Duration {
        self.wait_at(PACE, what, holds)
    }

    /// As [`Self::wait`], with so long between two looks.
    pub fn wait_at(&self, pace: Duration, what: &str, holds: impl FnMut() -> bool) -> Duration {
        wait_at(pace, what, PATIENCE, || self.story(), holds)
    }

    /// What it has printed and knows, for whoever must find out why a test failed.
    pub fn story(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let skipped = log.lines().count().saturating_sub(25);
        let tail: Vec<&str> = log.lines().skip(skipped).collect();
        let services = both(&self.try_docker(&["service", "ls"]));
        let names = both(&self.try_docker(&["service", "ls", "--format", "{{.Name}}"]));
        let tasks = names
            .lines()
            .take(STORY_SERVICES)
            .map(|name| both(&self.try_docker(&["service", "ps", "--no-trunc", name])));
        let services = services + &tasks.collect::<String>();
        format!("-- observer\n{}\n{:#?}\n{services}", tail.join("\n"), self.nodes())
    }

    fn client(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display())).args(arguments);
        let client = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let client = client.expect("the docker client is installed (tests/run installs it)");
        let running = || self.client.lock().unwrap_or_else(PoisonError::into_inner);
        *running() = Some(client.id());
        let output = client.wait_with_output().expect("its output can be read");
        *running() = None;
        output
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("run/bramble.sock")
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
        signal(self.keeper.id(), Signal::TERM);
        let deadline = std::time::Instant::now() + ENDING;
        while matches!(self.keeper.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Both fail only if it has ended, as it should have.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let _ = try_run("ip", &["netns", "delete", &self.namespace]);
        remove_cgroups(&self.namespace);
    }
}

/// The control groups that its keeper made, in whichever hierarchies this machine has.
fn remove_cgroups(name: &str) {
    let root = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in std::iter::once(root.clone()).chain(hierarchies) {
        // Empty by now, or not there.
        let _ = fs::remove_dir(hierarchy.join(name));
    }
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a path of plain letters")
}

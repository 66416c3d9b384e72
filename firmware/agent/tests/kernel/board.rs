//! A board to test: a keeper in a folder of its own, an image store, and an agent.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bramble_agent::{Agent, AgentConfig, BoxedStream, Dial, Managers, Surroundings};
use bramble_cluster::{
    AssignedTask, ClusterId, ContainerSpec, DesiredState, Digest, ImageName, ImageReference,
    NodeDescription, NodeId, OnPartition, Peer, ServiceId, Slot, TaskId, TaskSpec, TaskStatus,
};
use bramble_containers::{
    ContainerState, Keeper, Layout,
    images::{FileContent, ImageBuilder, ImageStore, ImageStoreOptions},
};
use bramble_host::Sources;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::leader::{Door, Leader};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The name of the image that every board has: busybox that sleeps.
pub(crate) const IMAGE: &str = "docker.io/library/sleeper:latest";
const STAND_IN: &str = env!("CARGO_BIN_EXE_bramble-agent-stand-in");

static BOARDS: AtomicU32 = AtomicU32::new(0);

/// A board; all of it ends with its value.
pub(crate) struct Board {
    pub(crate) layout: Layout,
    pub(crate) images: ImageStore,
    pub(crate) image: Digest,
    door: mpsc::Sender<tokio::io::DuplexStream>,
    /// Where the board gets blobs from.
    pub(crate) blobs: Dial,
    keeper: Child,
    folder: TempDir,
}

impl Board {
    /// A board, and the door through which its agent will come to the leader.
    pub(crate) async fn start() -> (Self, Door) {
        assert!(geteuid().is_root(), "these tests make real containers and must run as root");
        let folder = tempfile::tempdir().expect("a folder");
        let number = BOARDS.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/bramble-test/agent-{}-{number}", std::process::id());
        let layout = Layout::new(folder.path().join("run"), folder.path().join("data"), cgroup);
        let mut command = Command::new(STAND_IN);
        command.arg("keep").args([layout.run_dir(), layout.data_dir(), layout.cgroup()]);
        let keeper = command.spawn().expect("a keeper");
        let images = store(folder.path().join("data/images"));
        let image = add_image(&images).await;
        let (door, incoming) = mpsc::channel(8);
        let blobs: Dial =
            Arc::new(|_| Box::pin(async { Err(std::io::ErrorKind::HostUnreachable.into()) }));
        (Self { layout, images, image, door, blobs, keeper, folder }, Door { incoming })
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

    /// An agent on this board, as a new daemon would start it.
    pub(crate) async fn agent(&self) -> Agent {
        let keeper = self.connect().await;
        let door = self.door.clone();
        let sessions: Dial = Arc::new(move |_| {
            let door = door.clone();
            Box::pin(async move {
                let (near, far) = tokio::io::duplex(256 * 1024);
                door.send(far).await.map_err(|_| std::io::ErrorKind::ConnectionRefused)?;
                Ok(Box::pin(near) as BoxedStream)
            })
        });
        let leader = Peer { id: NodeId::from_random(1), addresses: Vec::new() };
        let surroundings = Surroundings {
            sessions,
            blobs: Arc::clone(&self.blobs),
            describe: Arc::new(NodeDescription::default),
            managers: Managers { leader: Some(leader.id), peers: vec![leader] },
        };
        let config = AgentConfig {
            run_dir: self.layout.run_dir().to_owned(),
            data_dir: self.layout.data_dir().to_owned(),
            cluster: ClusterId::from_random(9),
            node: NodeId::from_random(2),
            instance: 5,
            sources: Sources::default(),
        };
        Agent::start_in(config, surroundings, keeper, self.images.clone()).expect("an agent")
    }

    /// A task that runs a line of shell.
    pub(crate) fn task(&self, number: u128, line: &str) -> AssignedTask {
        let container = ContainerSpec {
            image: ImageReference { name: IMAGE.to_owned(), digest: Some(self.image) },
            arguments: vec!["-c".to_owned(), line.to_owned()],
            stop_grace_period: Some(Duration::from_secs(2)),
            ..ContainerSpec::default()
        };
        AssignedTask {
            id: TaskId::from_random(number),
            service: ServiceId::from_random(1),
            service_name: "test".to_owned(),
            slot: Slot::Replica(u32::try_from(number).expect("few tasks")),
            spec: Arc::new(TaskSpec { container, ..TaskSpec::default() }),
            desired: DesiredState::Running,
            status: TaskStatus::default(),
            image_holders: Vec::new(),
            image: Some(self.image),
            is_withheld: false,
        }
    }

    /// A task that sleeps until it is asked to stop, and stops at once then.
    pub(crate) fn sleeper(&self, number: u128) -> AssignedTask {
        self.task(number, "trap 'exit 0' TERM; while :; do sleep 0.02; done")
    }

    /// The same, but one that must not run twice.
    pub(crate) fn singleton(&self, number: u128) -> AssignedTask {
        let task = self.sleeper(number);
        let spec = TaskSpec { on_partition: OnPartition::Stop, ..TaskSpec::clone(&task.spec) };
        AssignedTask { spec: Arc::new(spec), ..task }
    }

    /// Mounts and bundles of tasks that are left on this board.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let folder = self.folder.path().to_string_lossy().into_owned();
        let mounts = mounts.lines().filter(|line| line.contains(&folder)).map(str::to_owned);
        let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let bundles = entries(self.layout.bundles());
        let files = entries(self.folder.path().join("data/images/containers"));
        mounts.chain(bundles.chain(files).map(|entry| entry.path().display().to_string())).collect()
    }

    /// Waits until nothing is left.
    pub(crate) async fn assert_clean(&self) {
        let begin = Instant::now();
        while !self.leftovers().is_empty() && begin.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.leftovers(), Vec::<String>::new());
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.keeper.id().try_into().expect("a pid"));
        for _ in 0..2 {
            let _ = kill(pid, Signal::SIGTERM);
        }
        let begin = Instant::now();
        while self.keeper.try_wait().expect("waits").is_none() {
            if begin.elapsed() > PATIENCE {
                drop(self.keeper.kill());
                drop(self.keeper.wait());
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if mount.starts_with(&*self.folder.path().to_string_lossy()) {
                let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            drop(fs::remove_dir(hierarchy.path().join("bramble-test")));
        }
    }
}

/// The first process of a task's container, if it runs.
pub(crate) fn pid(keeper: &Keeper, number: u128) -> Option<u32> {
    let id = TaskId::from_random(number);
    keeper.list().into_iter().find(|status| status.id == id).and_then(|status| match status.state {
        ContainerState::Running { pid, .. } => Some(pid),
        _ => None,
    })
}

/// An image store in a folder.
pub(crate) fn store(folder: PathBuf) -> ImageStore {
    ImageStore::open(ImageStoreOptions::new(folder)).expect("a store")
}

/// Adds [`IMAGE`] to a store.
pub(crate) async fn add_image(images: &ImageStore) -> Digest {
    let busybox = FileContent::Copy("/usr/bin/busybox".into());
    let mut builder = ImageBuilder::new()
        .file("bin/busybox", busybox, 0o755)
        .folder("proc", 0o755)
        .folder("dev", 0o755)
        .folder("sys", 0o755)
        .folder("etc", 0o755)
        .entrypoint(["/bin/sh"]);
    for applet in ["sh", "sleep", "echo", "kill"] {
        builder = builder.symlink(&format!("bin/{applet}"), "busybox");
    }
    let name: ImageName = IMAGE.parse().expect("a name");
    images.build(builder, name).await.expect("these tests need the package busybox-static").digest
}

/// What a leader is told that plays on this board's side of the door.
pub(crate) async fn session(door: &mut Door) -> Leader {
    Leader::welcome(door).await
}

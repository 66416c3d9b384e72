//! An Ethernet segment for the tests: a switch, and boards on it by cables that can be pulled. Each
//! is a network namespace that lives as long as its thread. Needs root.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use anyhow::Context;
use bramble_cluster::NodeDescription;
use bramble_peering::{ClusterKey, Discovery, Interfaces, PORT, Peering, PeeringConfig};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Pid, Uid, gettid},
};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::oneshot};

use crate::boards::BUILT_AT;

const CABLE: &str = "eth0";

/// A thread in a network namespace of its own, which it does something in and then ends.
#[derive(Debug)]
struct Place {
    thread: Option<JoinHandle<()>>,
    id: Pid,
}

impl Place {
    /// The thread waits for something to do.
    fn new(told: mpsc::Receiver<Box<dyn FnOnce() + Send>>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            Uid::effective().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid());
            let is_made = made.is_ok();
            if ready.send(made).is_ok() && is_made {
                told.into_iter().for_each(|task| task());
            }
        });
        let id = is_ready.recv()?.context("cannot make a network namespace")?;
        let place = Self { thread: Some(thread), id };
        place.ip("link set lo up")?;
        Ok(place)
    }

    /// Runs `ip` there.
    fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        let namespace = format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), self.id);
        let words = arguments.split(' ');
        let output = Command::new("nsenter").arg(namespace).arg("ip").args(words).output();
        let output = output.context("this test needs the commands `nsenter` and `ip`")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "ip {arguments}: {said}");
        Ok(())
    }
}

/// A switch.
#[derive(Debug)]
pub(crate) struct Segment {
    switch: Arc<Place>,
    _off: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

/// A board on the segment, switched on.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) peering: Peering,
    pub(crate) directory: Arc<TempDir>,
    number: u8,
    runtime: Handle,
    off: Option<oneshot::Sender<()>>,
    place: Place,
    switch: Arc<Place>,
}

impl Segment {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (off, told) = mpsc::channel();
        let switch = Place::new(told)?;
        switch.ip("link add switch type bridge forward_delay 0")?;
        switch.ip("link set switch up")?;
        Ok(Self { switch: Arc::new(switch), _off: off })
    }

    /// Switches on board `number` at 10.77.0.`number`, from a fresh card.
    pub(crate) fn board(&self, number: u8, key: Option<ClusterKey>) -> anyhow::Result<Station> {
        self.board_with(number, key, Arc::new(tempfile::tempdir()?))
    }

    /// The same, with this card.
    pub(crate) fn board_with(
        &self,
        number: u8,
        key: Option<ClusterKey>,
        directory: Arc<TempDir>,
    ) -> anyhow::Result<Station> {
        let (tell, told) = mpsc::channel();
        let place = Place::new(told)?;
        let cable = format!("port{number} type veth peer name {CABLE} netns {}", place.id);
        self.switch.ip(&format!("link add {cable}"))?;
        self.switch.ip(&format!("link set port{number} master switch up"))?;
        place.ip(&format!("address add {}/24 dev {CABLE}", address(number)))?;
        place.ip(&format!("link set {CABLE} up"))?;
        let config = PeeringConfig {
            directory: directory.path().to_owned(),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            cluster_key: key,
            discovery: Discovery::Mdns(Interfaces::Named(vec![CABLE.to_owned()])),
            description: NodeDescription::default(),
            built_at: BUILT_AT,
        };
        let (off, is_off) = oneshot::channel();
        let (started, is_started) = mpsc::channel();
        let task: Box<dyn FnOnce() + Send> = Box::new(move || {
            if let Err(error) = run(config, is_off, &started) {
                let _ = started.send(Err(error));
            }
        });
        tell.send(task).ok().context("the board's thread ended")?;
        let (peering, runtime) = is_started.recv()??;
        let switch = self.switch.clone();
        Ok(Station { peering, directory, number, runtime, off: Some(off), place, switch })
    }
}

/// The address of a board that nobody moved.
pub(crate) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

type Started = anyhow::Result<(Peering, Handle)>;

/// Runs a board until it is switched off, in the thread's namespace.
fn run(
    config: PeeringConfig,
    off: oneshot::Receiver<()>,
    started: &mpsc::Sender<Started>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let peering = Peering::start(config).await?;
        started.send(Ok((peering, Handle::current())))?;
        let _ = off.await;
        Ok(())
    })
}

impl Station {
    /// Does something on the board: what makes sockets must run there.
    pub(crate) async fn on<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        task: impl FnOnce(Peering) -> F,
    ) -> T {
        let running = self.runtime.spawn(task(self.peering.clone()));
        running.await.expect("the board is on and does not panic")
    }

    /// Pulls the cable.
    pub(crate) fn cut(&self) -> anyhow::Result<()> {
        self.switch.ip(&format!("link set port{} down", self.number))
    }

    /// Gives the board another address, as a DHCP server might.
    pub(crate) fn move_to(&self, number: u8) -> anyhow::Result<()> {
        self.place.ip(&format!("address flush dev {CABLE}"))?;
        self.place.ip(&format!("address add {}/24 dev {CABLE}", address(number)))
    }

    /// Says farewell before the power goes.
    pub(crate) async fn shut_down(&self) {
        self.on(|peering| async move { peering.shut_down().await }).await;
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        // No farewell: as if the power went.
        if let Some(off) = self.off.take() {
            let _ = off.send(());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A station's runs out by itself; the switch's ends with the segment.
            drop(thread);
        }
    }
}

//! Cables between boards: pipes in memory that stall when they are cut, as a pulled cable does,
//! and break when the board at the other end dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bramble_cluster::NodeId;
use bramble_manager::consensus::{Consensus, Dial, Duplex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    runtime::Handle,
    sync::watch,
};

/// Bytes that a pipe holds.
const PIPE: usize = 64 * 1024;

/// How long a slow cable holds back what passes. Longer than the consensus waits between looks.
const HELD_BACK: Duration = Duration::from_millis(120);

/// The cables.
#[derive(Clone, Default)]
pub struct Fabric {
    boards: Arc<Mutex<BTreeMap<NodeId, (Consensus, Handle)>>>,
    cut: Arc<watch::Sender<BTreeSet<NodeId>>>,
    slow: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl Fabric {
    /// Plugs a board in.
    pub fn plug(&self, consensus: Consensus, runtime: Handle) {
        self.boards.lock().unwrap().insert(consensus.node(), (consensus, runtime));
    }

    /// Forgets a board that died; its connections break.
    pub fn unplug(&self, node: NodeId) {
        self.boards.lock().unwrap().remove(&node);
    }

    /// Pulls a board's cable: nothing passes, and nothing says so.
    pub fn cut(&self, node: NodeId) {
        self.cut.send_if_modified(|cut| cut.insert(node));
    }

    /// Plugs the cable in again.
    pub fn heal(&self, node: NodeId) {
        self.cut.send_if_modified(|cut| cut.remove(&node));
    }

    /// Makes a board's cable slow.
    pub fn slow_down(&self, node: NodeId) {
        self.slow.lock().unwrap().insert(node);
    }

    /// Makes it as quick as the others.
    pub fn speed_up(&self, node: NodeId) {
        self.slow.lock().unwrap().remove(&node);
    }

    /// How a board reaches the others.
    pub fn dial(&self, from: NodeId) -> Dial {
        let fabric = self.clone();
        Arc::new(move |to| {
            let fabric = fabric.clone();
            Box::pin(async move { fabric.connect(from, to).await })
        })
    }

    /// Whether a cable from here to there ends at one of `boards`.
    fn is_at(boards: &BTreeSet<NodeId>, from: NodeId, to: NodeId) -> bool {
        boards.contains(&from) || boards.contains(&to)
    }

    async fn connect(&self, from: NodeId, to: NodeId) -> io::Result<Box<dyn Duplex>> {
        let mut cut = self.cut.subscribe();
        // Nobody answers through a cut cable; the dialler loses patience.
        let _ = cut.wait_for(|cut| !Self::is_at(cut, from, to)).await;
        let Some((consensus, runtime)) = self.boards.lock().unwrap().get(&to).cloned() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (mine, near) = tokio::io::duplex(PIPE);
        let (far, theirs) = tokio::io::duplex(PIPE);
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        // Each direction lives on the receiving board's runtime, and dies with either.
        runtime.spawn(self.clone().relay(near_read, far_write, from, to));
        tokio::spawn(self.clone().relay(far_read, near_write, from, to));
        runtime.spawn(async move { consensus.serve(from, Box::new(theirs)).await });
        Ok(Box::new(mine))
    }

    async fn relay(
        self,
        mut read: ReadHalf<DuplexStream>,
        mut write: WriteHalf<DuplexStream>,
        from: NodeId,
        to: NodeId,
    ) {
        let mut cut = self.cut.subscribe();
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            let is_slow = Self::is_at(&self.slow.lock().unwrap(), from, to);
            if is_slow {
                tokio::time::sleep(HELD_BACK).await;
            }
            let _ = cut.wait_for(|cut| !Self::is_at(cut, from, to)).await;
            if write.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    }
}

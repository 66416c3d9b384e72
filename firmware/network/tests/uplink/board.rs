//! Boards on a segment: one runs the uplink, the others play its network.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bramble_network::{
    Segment,
    uplink::{self, Origin, Settings, Status},
};
use nlink::netlink::namespace;
use tokio::sync::watch;

/// A thread in another network namespace. It ends when this is dropped.
pub(crate) struct Helper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(!matches!(ended, Some(Err(_))), "a helper has panicked");
        }
    }
}

/// Runs `work` in a namespace, until what it is given says stop.
pub(crate) fn in_namespace(
    namespace: &Path,
    work: impl FnOnce(&dyn Fn() -> bool) + Send + 'static,
) -> Helper {
    let stop = Arc::new(AtomicBool::new(false));
    let is_stopped = Arc::clone(&stop);
    let namespace = namespace.to_owned();
    let thread = std::thread::spawn(move || {
        let _inside = namespace::enter_path(&namespace).expect("the namespace is there");
        work(&|| is_stopped.load(Ordering::Relaxed));
    });
    Helper { stop, thread: Some(thread) }
}

/// A segment and the folder it lives in.
pub(crate) struct Network {
    folder: tempfile::TempDir,
    pub(crate) segment: Segment,
}

impl Network {
    /// A segment with two boards: 1 for the uplink, 2 for whatever serves it.
    pub(crate) async fn new(network: Ipv4Addr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let segment = Segment::new(&folder.path().join("net"), network);
        segment.create().await.expect("root may make network namespaces; run this test as root");
        segment.attach(1).await.expect("a board hangs on the switch");
        segment.attach(2).await.expect("a board hangs on the switch");
        Self { folder, segment }
    }

    /// The namespace of a board.
    pub(crate) fn namespace(&self, number: u8) -> PathBuf {
        self.folder.path().join("net").join(number.to_string())
    }

    /// Where board 1 writes who answers for names.
    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    /// Settings for board 1: all by DHCP.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            interface: Some("eth0".to_owned()),
            resolv_conf: self.resolv_conf(),
            ..Settings::new("rubus")
        }
    }

    /// Starts the uplink of board 1.
    pub(crate) fn start(&self, settings: Settings) -> Board {
        let (told, status) = watch::channel(Status::default());
        let helper = in_namespace(&self.namespace(1), move |stop| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let stopped = async {
                    while !stop() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::select! {
                    ended = uplink::run(settings, told) => panic!("the uplink ended: {ended:?}"),
                    () = stopped => {}
                }
            });
        });
        Board { status, _helper: helper }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let removed = self.segment.remove();
        if !std::thread::panicking() {
            removed.expect("the segment is removed");
        }
    }
}

/// A board whose uplink runs until this is dropped.
pub(crate) struct Board {
    status: watch::Receiver<Status>,
    _helper: Helper,
}

impl Board {
    /// Waits until the board has what `is_right` wants, and says how long that took.
    pub(crate) async fn wait(
        &mut self,
        seconds: u64,
        is_right: impl Fn(&Status) -> bool,
    ) -> Duration {
        let began = Instant::now();
        let waited = self.status.wait_for(|status| is_right(status));
        let outcome = tokio::time::timeout(Duration::from_secs(seconds), waited).await.map(drop);
        assert!(outcome.is_ok(), "after {seconds} s: {:?}", *self.status.borrow());
        began.elapsed()
    }

    /// What the board has now.
    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }
}

/// Whether the board has exactly this IPv4 address, from there.
pub(crate) fn has(status: &Status, address: Ipv4Addr, origin: Origin) -> bool {
    let ours: Vec<_> = status.addresses.iter().filter(|known| known.address.is_ipv4()).collect();
    matches!(ours[..], [known] if known.address == IpAddr::V4(address) && known.origin == origin)
}

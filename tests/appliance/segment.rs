//! The Ethernet segment of a test: a switch in a network namespace, and cables to it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    command::{random_hex, run, try_run},
    dhcp::Dhcp,
};

/// The switch's own interface; the DHCP server answers there.
pub const BRIDGE: &str = "segment";
const PREFIX: &str = "bramble-appliance";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A segment, removed when the test ends. Machines and observers on it must be dropped before it.
pub struct Segment {
    namespace: String,
    folder: PathBuf,
    key: String,
    dhcp: Option<Dhcp>,
}

impl Segment {
    /// A segment on which nobody hands out addresses.
    pub fn without_dhcp() -> Self {
        assert!(is_root(), "the tests make network namespaces: run them as root");
        remove_what_killed_tests_left();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{PREFIX}-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&namespace);
        fs::create_dir_all(&folder).expect("a folder for the machines' disks");
        let segment = Self { namespace, folder, key: random_hex(32), dhcp: None };
        run("ip", &["netns", "add", &segment.namespace]);
        segment.ip(&["link", "set", "lo", "up"]);
        // Without a querier, a bridge that snoops forwards no multicast, and mDNS is multicast.
        segment.ip(&["link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0"]);
        segment.ip(&["address", "add", "10.77.0.1/24", "dev", BRIDGE]);
        segment.ip(&["link", "set", BRIDGE, "up"]);
        segment
    }

    /// A segment with a DHCP server, as a home has.
    pub fn new() -> Self {
        let mut segment = Self::without_dhcp();
        segment.dhcp = Some(Dhcp::start(&segment.namespace, &segment.folder));
        segment
    }

    /// The network namespace of the switch.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where the disks of this test lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The key of the test's cluster.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Lays a cable that a program on this machine can hold the other end of, and returns the name
    /// of its end.
    pub fn lay_tap(&self, number: u8) -> String {
        let name = format!("board{number}");
        if try_run("ip", &["-n", &self.namespace, "link", "show", &name]).status.success() {
            return name;
        }
        self.ip(&["tuntap", "add", "dev", &name, "mode", "tap"]);
        self.ip(&["link", "set", &name, "master", BRIDGE, "up"]);
        name
    }

    /// Pulls machine `number`'s cable, or plugs it in.
    pub fn set_cable(&self, number: u8, is_plugged_in: bool) {
        let state = if is_plugged_in { "up" } else { "down" };
        self.ip(&["link", "set", &format!("board{number}"), state]);
    }

    /// Lays a cable into another network namespace, where it is `eth0`.
    pub fn lay_cable(&self, namespace: &str, addresses: &[&str]) {
        self.ip(&[
            "link", "add", "observer", "type", "veth", "peer", "name", "eth0", "netns", namespace,
        ]);
        self.ip(&["link", "set", "observer", "master", BRIDGE, "up"]);
        for address in addresses {
            run("ip", &["-n", namespace, "address", "add", address, "dev", "eth0"]);
        }
        run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
        run("ip", &["-n", namespace, "link", "set", "eth0", "up"]);
    }

    fn ip(&self, arguments: &[&str]) {
        run("ip", &[&["-n", self.namespace.as_str()], arguments].concat());
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.dhcp = None;
        let removed = try_run("ip", &["netns", "delete", &self.namespace]);
        if std::thread::panicking() {
            eprintln!("consoles and logs are kept in {}", self.folder.display());
            forget_disks(&self.folder);
        } else {
            assert!(removed.status.success(), "the segment's namespace is left behind");
            fs::remove_dir_all(&self.folder).expect("the test's folder is removed");
        }
    }
}

/// The namespaces and folders of tests whose process ended before it could remove them.
fn remove_what_killed_tests_left() {
    let is_dead = |name: &str| {
        let rest = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-'));
        let process = rest.and_then(|rest| rest.split('-').next());
        process.is_some_and(|process| !Path::new("/proc").join(process).exists())
    };
    for namespace in names_in(Path::new("/run/netns")).filter(|name| is_dead(name)) {
        // Another test may do the same at this moment.
        let _ = try_run("ip", &["netns", "delete", &namespace]);
    }
    let folders = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for folder in names_in(folders).filter(|name| is_dead(name)) {
        forget_disks(&folders.join(folder));
    }
}

/// Disks are big; what was printed is small, and may still tell why a test failed.
fn forget_disks(folder: &Path) {
    for name in names_in(folder).filter(|name| name.ends_with(".img")) {
        let _ = fs::remove_file(folder.join(name));
    }
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

//! The DHCP server of a segment: busybox's, as many a home router has.

use std::{fs, path::Path, process::Child, process::Stdio};

use crate::{command::in_namespace, segment::BRIDGE};

/// Machine `number` always gets this address, so that a test knows who is who.
pub fn address(number: u8) -> String {
    format!("10.77.0.{}", 10 + number)
}

/// The MAC address of machine `number`.
pub fn mac(number: u8) -> String {
    format!("52:54:00:b4:a4:{number:02x}")
}

/// How many machines have an address of their own; others get what is free.
const KNOWN_MACHINES: u8 = 9;
/// Short, so that a test of two minutes sees a renewal.
const LEASE_SECONDS: u32 = 60;

/// A DHCP server that runs.
pub struct Dhcp {
    server: Child,
}

impl Dhcp {
    /// Starts the server in the switch's namespace.
    pub fn start(namespace: &str, folder: &Path) -> Self {
        let leases = folder.join("dhcp.leases");
        fs::write(&leases, "").expect("the lease file is written");
        let mut lines = vec![
            "start 10.77.0.100".to_owned(),
            "end 10.77.0.200".to_owned(),
            format!("interface {BRIDGE}"),
            format!("lease_file {}", leases.display()),
            format!("pidfile {}", folder.join("dhcp.pid").display()),
            "option subnet 255.255.255.0".to_owned(),
            "option router 10.77.0.1".to_owned(),
            "option dns 10.77.0.1".to_owned(),
            format!("option lease {LEASE_SECONDS}"),
        ];
        for number in 1..=KNOWN_MACHINES {
            lines.push(format!("static_lease {} {}", mac(number), address(number)));
        }
        let settings = folder.join("udhcpd.conf");
        fs::write(&settings, lines.join("\n") + "\n").expect("the settings are written");
        let log = fs::File::create(folder.join("dhcp.log")).expect("a log");
        let server = in_namespace(namespace, "KILL", "busybox")
            .args(["udhcpd", "-f"])
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("busybox is installed (tests/run installs it)");
        Self { server }
    }
}

impl Drop for Dhcp {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

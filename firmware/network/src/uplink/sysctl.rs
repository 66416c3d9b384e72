//! The kernel's settings for an interface of ours.

use std::{io, path::Path};

/// Settings below `/proc/sys/net`, with the interface's name for `*`.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv6/conf/*/disable_ipv6", "0"),
    // 2: also while the board forwards, as it does for containers.
    ("ipv6/conf/*/accept_ra", "2"),
    ("ipv6/conf/*/autoconf", "1"),
    // Without an address, the answer of a DHCP server would be refused as having come the wrong way.
    ("ipv4/conf/*/rp_filter", "0"),
    // A pulled cable must not swallow what another one could carry.
    ("ipv4/conf/*/ignore_routes_with_linkdown", "1"),
    ("ipv6/conf/*/ignore_routes_with_linkdown", "1"),
    // A new address replaces an old one without taking its neighbours along.
    ("ipv4/conf/*/promote_secondaries", "1"),
];

/// A setting could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {setting} of {interface}")]
pub(super) struct SysctlError {
    setting: &'static str,
    interface: String,
    #[source]
    source: io::Error,
}

/// Lets the kernel configure IPv6 by itself on an interface, and route as boards need it. What this
/// kernel does not know it does not need.
pub(super) fn tune(interface: &str) -> Result<(), SysctlError> {
    for (setting, value) in SETTINGS {
        let path = Path::new("/proc/sys/net").join(setting.replace('*', interface));
        match std::fs::read_to_string(&path) {
            Ok(current) if current.trim() == *value => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            _ => {}
        }
        std::fs::write(&path, value).map_err(|source| SysctlError {
            setting,
            interface: interface.to_owned(),
            source,
        })?;
    }
    Ok(())
}

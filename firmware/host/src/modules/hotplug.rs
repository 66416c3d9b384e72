//! Drivers for the devices that come later.
//!
//! A USB adapter that is plugged in, or an on-board one whose bus is slow, appears when booting is
//! over. The kernel announces it; nobody else listens.

use std::{convert::Infallible, io, os::fd::AsRawFd};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
    },
};

use super::{Coldplug, LoadError, Modules};
use crate::Places;

/// The kernel's own announcements; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;
/// An announcement is a kilobyte or two.
const MESSAGE_MAX: usize = 16 * 1024;

/// The kernel's announcements cannot be heard.
#[derive(Debug, thiserror::Error)]
pub enum HotplugError {
    /// There are no modules to load.
    #[error("cannot load drivers for new devices")]
    Modules(#[source] LoadError),
    /// The socket failed.
    #[error("cannot listen for new devices")]
    Listen(#[source] io::Error),
}

/// Loads the drivers of devices that appear, for ever. Blocks: give it a thread of its own, in the
/// daemon.
pub fn watch(places: &Places) -> Result<Infallible, HotplugError> {
    let listen = |error: Errno| HotplugError::Listen(error.into());
    let modules = Modules::of_this_kernel(places).map_err(HotplugError::Modules)?;
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkKObjectUEvent,
    )
    .map_err(listen)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP)).map_err(listen)?;
    // What appeared between booting and now was announced to nobody.
    Coldplug::default().load_new(&modules);
    let mut message = vec![0; MESSAGE_MAX];
    loop {
        match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut message) {
            Ok((length, Some(sender))) if sender.pid() == 0 => {
                if let Some(modalias) = message.get(..length).and_then(new_device) {
                    // As in coldplug: the device stays without a driver, and nothing else is hurt.
                    let _ = modules.load_for(modalias);
                }
            }
            // Not the kernel: any process may send.
            Ok(_) | Err(Errno::EINTR) => {}
            // More was announced than was read: look at everything.
            Err(Errno::ENOBUFS) => drop(Coldplug::default().load_new(&modules)),
            Err(error) => return Err(listen(error)),
        }
    }
}

/// What a device that was added calls itself. An announcement is `add@/devices/…`, then
/// `KEY=value`, each ended by a zero.
fn new_device(message: &[u8]) -> Option<&str> {
    let mut words = message.split(|byte| *byte == 0);
    if !words.next()?.starts_with(b"add@") {
        return None;
    }
    let value = words.find_map(|word| word.strip_prefix(b"MODALIAS="))?;
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_added_devices_with_a_name_count() {
        let message = b"add@/devices/usb1\0ACTION=add\0MODALIAS=usb:v0424pEC00\0SEQNUM=7\0";
        assert_eq!(new_device(message), Some("usb:v0424pEC00"));
        assert_eq!(new_device(b"remove@/devices/usb1\0MODALIAS=usb:v0424\0"), None);
        assert_eq!(new_device(b"add@/devices/usb1\0ACTION=add\0"), None);
        assert_eq!(new_device(b""), None);
    }
}

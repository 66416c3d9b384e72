//! TCP between boards: quick to give up, so that a pulled cable is noticed.

use std::{io, os::fd::AsFd, time::Duration};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

use crate::Protocol;

/// How long data of an urgent conversation may stay unacknowledged: longer than a node may be
/// silent before it counts as down, so that TCP never decides before the leader does.
const URGENT_TIMEOUT: Duration = Duration::from_millis(2_500);
/// The same for bulk, which should survive a stall of the radio.
const BULK_TIMEOUT: Duration = Duration::from_secs(10);

/// Prepares a connection for a conversation.
pub(crate) fn prepare(stream: &TcpStream, protocol: Protocol) -> io::Result<()> {
    let timeout = if protocol.is_urgent() { URGENT_TIMEOUT } else { BULK_TIMEOUT };
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    stream.set_nodelay(true)?;
    let socket = stream.as_fd();
    setsockopt(&socket, sockopt::KeepAlive, &true)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &1)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &1)?;
    setsockopt(&socket, sockopt::TcpKeepCount, &u32::max(milliseconds / 1_000, 2))?;
    setsockopt(&socket, sockopt::TcpUserTimeout, &milliseconds)?;
    Ok(())
}

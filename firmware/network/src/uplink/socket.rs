//! The two sockets of a port: DHCP's, and one that hears and speaks ARP.

use std::{
    io,
    mem::size_of,
    net::{Ipv4Addr, SocketAddrV4},
};

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{io::unix::AsyncFd, net::UdpSocket};

use crate::dhcp::message::{CLIENT_PORT, SERVER_PORT, SIZE_MAX};

/// No ARP message is longer on an Ethernet, padding included.
const ARP_SIZE_MAX: usize = 128;
const ETHERTYPE_ARP: u16 = 0x0806;

/// Speaks to DHCP servers over one interface, with or without an address.
#[derive(Debug)]
pub(super) struct DhcpSocket(UdpSocket);

impl DhcpSocket {
    /// Opens the client's port on `interface` alone.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // Each interface has a socket of its own on the same port.
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;
        UdpSocket::from_std(socket.into()).map(Self)
    }

    /// Sends to a server, or to all of them.
    pub(super) async fn send(&self, to: Option<Ipv4Addr>, bytes: &[u8]) -> io::Result<()> {
        let to = SocketAddrV4::new(to.unwrap_or(Ipv4Addr::BROADCAST), SERVER_PORT);
        self.0.send_to(bytes, to).await.map(|_| ())
    }

    /// The next datagram.
    pub(super) async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::from(SIZE_MAX)];
        let length = self.0.recv(&mut bytes).await?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Speaks ARP over one interface.
#[derive(Debug)]
pub(super) struct ArpSocket {
    socket: AsyncFd<Socket>,
    everybody: SockAddr,
}

impl ArpSocket {
    /// Hears all ARP on the interface of this index.
    pub(super) fn open(index: u32) -> io::Result<Self> {
        // Without a protocol nothing is heard before the interface is chosen.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        let everybody = broadcast_address(index)?;
        socket.bind(&everybody)?;
        Ok(Self { socket: register(socket)?, everybody })
    }

    /// Tells everybody on the segment. What does not fit the queue is as good as lost on the wire.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.get_ref().send_to(bytes, &self.everybody).map(|_| ())
    }

    /// The next message.
    pub(super) async fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut guard = self.socket.readable().await?;
            let mut bytes = [0; ARP_SIZE_MAX];
            let read = |socket: &AsyncFd<Socket>| {
                nix::unistd::read(socket.get_ref(), &mut bytes).map_err(io::Error::from)
            };
            if let Ok(length) = guard.try_io(read) {
                return length.map(|length| bytes[..length].to_vec());
            }
        }
    }
}

/// Has the runtime tell when the socket can be read.
#[expect(unsafe_code, reason = "the safe way is deprecated")]
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a Socket owns its descriptor and names the same one until it is dropped, which the
    // AsyncFd that now owns it does after it has taken it off the runtime's list.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// The address of everybody on an Ethernet segment, for ARP.
#[expect(unsafe_code, reason = "no crate at hand makes a packet socket's address from its parts")]
fn broadcast_address(index: u32) -> io::Result<SockAddr> {
    let family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: ETHERTYPE_ARP.to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [255, 255, 255, 255, 255, 255, 0, 0],
    };
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the storage is large enough and aligned for every kind of address; it is filled with
    // a whole sockaddr_ll whose family says so, and its length is that structure's.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, filled| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *filled = length;
            Ok(())
        })
    }?;
    Ok(address)
}

//! The Ethernet segment of a lab: a switch, and boards that hang on it by cables.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use nlink::{
    Ipv4Address, Route,
    netlink::{
        Connection,
        link::{BridgeLink, VethLink},
        namespace,
    },
};

/// How many bits of an address name the segment.
const PREFIX_LENGTH: u8 = 24;
/// The last byte of the host's own address on the segment; boards count up from 1.
const UPLINK_HOST: u8 = 254;
const SWITCH: &str = "switch";
const BRIDGE: &str = "segment";
const BOARD_INTERFACE: &str = "eth0";

/// A switch and the boards on it. Everything about it is found again from its folder alone.
#[derive(Debug, Clone)]
pub struct Segment {
    folder: PathBuf,
    network: Ipv4Addr,
}

/// A segment could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The kernel refused.
    #[error("cannot {action} for the network segment in {folder}")]
    Kernel {
        /// What was tried.
        action: String,
        /// Whose segment.
        folder: PathBuf,
        /// What the kernel said.
        #[source]
        source: nlink::netlink::Error,
    },
    /// The folder could not be read or removed.
    #[error("cannot use {folder}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Segment {
    /// The segment that lives in `folder`; its boards have the addresses `network`.1 upwards.
    pub fn new(folder: &Path, network: Ipv4Addr) -> Self {
        Self { folder: folder.to_owned(), network }
    }

    /// The address of board `number` on this segment.
    pub fn address(&self, number: u8) -> Ipv4Addr {
        let [first, second, third, _] = self.network.octets();
        Ipv4Addr::new(first, second, third, number)
    }

    /// Makes the switch.
    ///
    /// # Errors
    /// If it exists already, or without the right to make network namespaces.
    pub async fn create(&self) -> Result<(), SegmentError> {
        let switch = self.namespace(SWITCH);
        self.explain("make the switch's namespace", namespace::create_path(&switch))?;
        let link = self.open(&switch)?;
        let bridge = BridgeLink::new(BRIDGE).stp(false).forward_delay_ms(0);
        self.explain("make the switch", link.add_link(bridge).await)?;
        self.explain("switch on the switch", link.set_link_up(BRIDGE).await)
    }

    /// Hangs board `number` on the switch: its namespace, with `lo` and `eth0` up.
    ///
    /// # Errors
    /// If the board exists already, or the kernel refuses.
    pub async fn attach(&self, number: u8) -> Result<(), SegmentError> {
        let board = self.namespace(&number.to_string());
        self.explain("make a board's namespace", namespace::create_path(&board))?;
        let file = self.explain("open a board's namespace", namespace::open_path(&board))?;
        let switch = self.open(&self.namespace(SWITCH))?;
        let port = port(number);
        let cable = VethLink::new(&port, BOARD_INTERFACE).peer_netns_fd(file);
        self.explain("lay a cable", switch.add_link(cable).await)?;
        self.explain("plug in a cable", switch.set_link_master(port.as_str(), BRIDGE).await)?;
        self.explain("plug in a cable", switch.set_link_up(port.as_str()).await)?;
        let inside = self.open(&board)?;
        self.explain("bring up lo", inside.set_link_up("lo").await)?;
        let address = Ipv4Address::new(BOARD_INTERFACE, self.address(number), PREFIX_LENGTH);
        self.explain("give a board its address", inside.add_address(address).await)?;
        self.explain("bring up eth0", inside.set_link_up(BOARD_INTERFACE).await)
    }

    /// Lets the host reach the boards, by an interface called `name`.
    ///
    /// # Errors
    /// If the host has an interface of that name already, or the kernel refuses.
    pub async fn connect_host(&self, name: &str) -> Result<(), SegmentError> {
        const PORT: &str = "uplink";
        let host = self.explain("open the host's network", Connection::<Route>::new())?;
        let file = namespace::open_path(self.namespace(SWITCH));
        let file = self.explain("open the switch's namespace", file)?;
        let cable = VethLink::new(name, PORT).peer_netns_fd(file);
        self.explain("lay the uplink", host.add_link(cable).await)?;
        let switch = self.open(&self.namespace(SWITCH))?;
        self.explain("plug in the uplink", switch.set_link_master(PORT, BRIDGE).await)?;
        self.explain("plug in the uplink", switch.set_link_up(PORT).await)?;
        let address = Ipv4Address::new(name, self.address(UPLINK_HOST), PREFIX_LENGTH);
        self.explain("give the host its address", host.add_address(address).await)?;
        self.explain("bring up the uplink", host.set_link_up(name).await)
    }

    /// Pulls board `number`'s cable, or plugs it in again.
    ///
    /// # Errors
    /// If there is no such board.
    pub async fn set_cable(&self, number: u8, is_plugged_in: bool) -> Result<(), SegmentError> {
        let switch = self.open(&self.namespace(SWITCH))?;
        let moved = switch.set_link_state(port(number).as_str(), is_plugged_in).await;
        self.explain("move a cable", moved)
    }

    /// Whether board `number`'s cable is plugged in.
    ///
    /// # Errors
    /// If the switch is gone.
    pub async fn is_plugged_in(&self, number: u8) -> Result<bool, SegmentError> {
        let switch = self.open(&self.namespace(SWITCH))?;
        let link = switch.get_link_by_name(port(number).as_str()).await;
        Ok(self.explain("look at a cable", link)?.is_some_and(|link| link.is_up()))
    }

    /// Starts a program on board `number`'s network.
    ///
    /// # Errors
    /// If there is no such board or the program cannot be started.
    pub fn spawn(&self, number: u8, command: Command) -> Result<Child, SegmentError> {
        let board = self.namespace(&number.to_string());
        self.explain("start a program on a board", namespace::spawn_path(board, command))
    }

    /// Removes the switch and every board from it. What is gone already is no error.
    ///
    /// # Errors
    /// If a namespace cannot be removed.
    pub fn remove(&self) -> Result<(), SegmentError> {
        let folder = |source| SegmentError::Folder { folder: self.folder.clone(), source };
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(folder(error)),
        };
        for entry in entries {
            let path = entry.map_err(folder)?.path();
            if namespace::is_namespace_path(&path) {
                self.explain("remove a namespace", namespace::delete_path(&path))?;
            } else {
                std::fs::remove_file(&path).map_err(folder)?;
            }
        }
        match std::fs::remove_dir(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(folder(error)),
            _ => Ok(()),
        }
    }

    fn namespace(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn open(&self, path: &Path) -> Result<Connection<Route>, SegmentError> {
        self.explain("open a namespace", Connection::new_in(path))
    }

    fn explain<T>(
        &self,
        action: &str,
        result: Result<T, nlink::netlink::Error>,
    ) -> Result<T, SegmentError> {
        result.map_err(|source| SegmentError::Kernel {
            action: action.to_owned(),
            folder: self.folder.clone(),
            source,
        })
    }
}

fn port(number: u8) -> String {
    format!("board{number}")
}

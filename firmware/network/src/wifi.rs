//! Joins a wireless network that WPA2 protects with a passphrase, by nl80211 alone: the driver does
//! the handshake ("4-way handshake offload"), so that no supplicant runs beside Bramble.
//!
//! **None of this has been tried with a radio.** The machines that Bramble is developed on have
//! none, nor a kernel with a pretended one. What is tested are the key derivation, against the
//! standard's vectors, and the bytes of the messages. That the Raspberry Pi's driver (brcmfmac) has
//! the offload is known from its source alone.
//!
//! Once a network is joined the radio has a carrier, and a port gives it an address as to a cable.

mod key;
mod message;

use std::{convert::Infallible, time::Duration};

use bramble_cluster::chain;
use futures_util::Stream;
use nlink::netlink::{
    Connection, Generic, Nl80211, OwnedEventStream, genl::nl80211::types::Nl80211Event,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::uplink::Wifi;
use key::{Key, KeyError, derive};
use message::{Attribute, GroupCipher};

/// How long joining may take: a scan of all channels and the handshake.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Why the radio is not in its network.
#[derive(Debug, thiserror::Error)]
enum WifiError {
    /// The passphrase cannot be one.
    #[error("[wifi] is not used")]
    Key(#[from] KeyError),
    /// The kernel refused.
    #[error("cannot {action}")]
    Kernel { action: &'static str, source: nlink::netlink::Error },
    /// The driver leaves the handshake to a supplicant.
    #[error(
        "the driver of {interface} cannot join a WPA2 network by itself (it lacks the 4-way \
         handshake offload); use a cable, or a radio whose driver can"
    )]
    NoOffload { interface: String },
    /// The access point refused, or the passphrase is wrong.
    #[error("the network refuses us (status {status}): is the password right?")]
    Refused { status: u16 },
    /// There is no such network, or it is silent.
    #[error("the network does not answer: is it there, and in reach?")]
    Silent,
    /// We were in it.
    #[error("the connection was lost (reason {reason})")]
    Lost { reason: u16 },
    /// The kernel says nothing any more.
    #[error("the kernel has stopped telling what happens to the radio")]
    EventsEnded,
}

/// Keeps the radio of this index in its network, and tells what is wrong when it is not.
pub(crate) async fn run(
    wifi: Wifi,
    index: u32,
    interface: String,
    problem: watch::Sender<Option<String>>,
) -> Infallible {
    let mut failures: u32 = 0;
    loop {
        let mut attempt = Attempt { wifi: &wifi, index, interface: &interface, has_joined: false };
        let group = if failures.is_multiple_of(2) { GroupCipher::Ccmp } else { GroupCipher::Tkip };
        let Err(error) = attempt.join(group, &problem).await;
        if attempt.has_joined {
            failures = 0;
        }
        problem.send_replace(Some(format!("Wi-Fi \"{}\": {}", wifi.ssid, chain(&error))));
        sleep(pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    (PAUSE * 2_u32.pow(failures.min(10))).min(PAUSE_MAX)
}

/// One try at joining, and what comes of it.
struct Attempt<'a> {
    wifi: &'a Wifi,
    index: u32,
    interface: &'a str,
    has_joined: bool,
}

impl Attempt<'_> {
    async fn join(
        &mut self,
        group: GroupCipher,
        problem: &watch::Sender<Option<String>>,
    ) -> Result<Infallible, WifiError> {
        let key = derive(&self.wifi.passphrase, &self.wifi.ssid)?;
        let kernel = Radio::open().await?;
        if !kernel.has_offload(self.index).await? {
            return Err(WifiError::NoOffload { interface: self.interface.to_owned() });
        }
        if let Some(country) = &self.wifi.country {
            let attributes = message::country(country)?;
            kernel.send("set the country", message::REQUEST_COUNTRY, &attributes).await?;
        }
        let mut events = Events::open().await?;
        self.connect(&kernel, &key, group).await?;
        let joined = timeout(PATIENCE, events.next(self.index)).await;
        match joined.map_err(|_| WifiError::Silent)?? {
            Event::Joined => self.has_joined = true,
            Event::Refused { status } => return Err(WifiError::Refused { status }),
            Event::Lost { reason } => return Err(WifiError::Lost { reason }),
        }
        problem.send_replace(None);
        loop {
            // Roaming says "joined" again.
            if let Event::Lost { reason } = events.next(self.index).await? {
                return Err(WifiError::Lost { reason });
            }
        }
    }

    async fn connect(
        &self,
        kernel: &Radio,
        key: &Key,
        group: GroupCipher,
    ) -> Result<(), WifiError> {
        // What an earlier daemon joined is left: its key may not be ours any more.
        let leave = [Attribute::number(message::INTERFACE, self.index)];
        let _ = kernel.send("leave a network", message::DISCONNECT, &leave).await;
        let attributes = message::connect(self.index, &self.wifi.ssid, key, group);
        kernel.send("join the network", message::CONNECT, &attributes).await
    }
}

/// Requests to the kernel's wireless side.
struct Radio {
    connection: Connection<Generic>,
    family: u16,
}

impl Radio {
    async fn open() -> Result<Self, WifiError> {
        let failed = |source| WifiError::Kernel { action: "speak with the radio", source };
        let connection = Connection::<Generic>::new().map_err(failed)?;
        let family = connection.get_family_id("nl80211").await.map_err(failed)?;
        Ok(Self { connection, family })
    }

    async fn send(
        &self,
        action: &'static str,
        command: u8,
        attributes: &[Attribute],
    ) -> Result<(), WifiError> {
        let write = |builder: &mut nlink::netlink::MessageBuilder| {
            for attribute in attributes {
                builder.append_attr(attribute.kind, &attribute.value);
            }
        };
        let sent = self.connection.command(self.family, command, 0, write).await;
        sent.map(drop).map_err(|source| WifiError::Kernel { action, source })
    }

    /// Whether the driver does the handshake of WPA2 with a passphrase.
    async fn has_offload(&self, index: u32) -> Result<bool, WifiError> {
        let write = |builder: &mut nlink::netlink::MessageBuilder| {
            builder.append_attr(message::SPLIT_DUMP, &[]);
            builder.append_attr_u32(message::INTERFACE, index);
        };
        let dump = self.connection.dump_command(self.family, message::GET_RADIO, 0, write).await;
        let action = "ask what the radio can do";
        let dump = dump.map_err(|source| WifiError::Kernel { action, source })?;
        Ok(dump.iter().any(|bytes| message::has_offload(bytes)))
    }
}

/// What happens to a radio.
#[derive(Debug, Clone, Copy)]
enum Event {
    Joined,
    Refused { status: u16 },
    Lost { reason: u16 },
}

struct Events(OwnedEventStream<Nl80211>);

impl Events {
    async fn open() -> Result<Self, WifiError> {
        let failed = |source| WifiError::Kernel { action: "follow the radio", source };
        let connection = Connection::<Nl80211>::new_async().await.map_err(failed)?;
        connection.subscribe().map_err(failed)?;
        Ok(Self(connection.into_events().await))
    }

    async fn next(&mut self, index: u32) -> Result<Event, WifiError> {
        loop {
            let next = std::future::poll_fn(|context| {
                Stream::poll_next(std::pin::Pin::new(&mut self.0), context)
            });
            let event = next.await.ok_or(WifiError::EventsEnded)?;
            let failed = |source| WifiError::Kernel { action: "follow the radio", source };
            match event.map_err(failed)? {
                Nl80211Event::Connect { ifindex, status_code, .. } if ifindex == index => {
                    let status = status_code;
                    return Ok(if status == 0 { Event::Joined } else { Event::Refused { status } });
                }
                Nl80211Event::Disconnect { ifindex, reason_code, .. } if ifindex == index => {
                    return Ok(Event::Lost { reason: reason_code });
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_network_that_refuses_is_asked_ever_less_often() {
        let pauses: Vec<u64> = (0..8).map(|failures| super::pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(super::pause(u32::MAX).as_secs(), 60);
    }
}

//! The time from the network (SNTP, RFC 4330 and 5905): asked of several servers at once, believed
//! only if it is sane and, where several answer, if most agree.
//!
//! Nobody waits for it: whoever asks goes on with the clock that there is.
//!
//! # Terms
//! - **sample**: how far one server says that our clock is behind, and how wrong it may be.

mod datagram;
mod policy;
mod vote;

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use bramble_cluster::chain;
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

pub use policy::{Policy, Verdict};
pub use vote::{Disagreement, Sample};

const PORT: u16 = 123;
/// How long a server has to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the others have once one has answered.
const OTHERS_HAVE: Duration = Duration::from_millis(700);
/// How many servers are asked at once.
const SERVERS_MAX: usize = 8;
/// How many addresses of one name are asked.
const ADDRESSES_MAX: usize = 2;

/// Nobody's time can be believed.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answered in a way that makes sense.
    #[error("no time server gives a time that makes sense ({})", reasons.join("; "))]
    Nobody {
        /// What each of them did instead.
        reasons: Vec<String>,
    },
    /// They asked to be left alone.
    #[error("the time servers ask to be left alone")]
    Unwelcome,
    /// They contradict each other.
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
}

/// Why one server's answer is none.
#[derive(Debug, thiserror::Error)]
enum ServerError {
    #[error("{server} cannot be asked")]
    Network { server: String, source: io::Error },
    #[error("{server} does not answer")]
    Silent { server: String },
    #[error("{server} is not believed")]
    Answer { server: String, source: datagram::AnswerError },
}

/// Asks all servers (names or addresses, with or without a port) and says what most of them agree
/// on.
///
/// # Errors
/// If nobody answers sanely, or those who do contradict each other.
pub async fn ask(servers: &[String]) -> Result<Sample, AskError> {
    let mut asked = JoinSet::new();
    for server in servers.iter().take(SERVERS_MAX) {
        asked.spawn(ask_name(server.clone()));
    }
    let mut samples = Vec::new();
    let mut reasons = Vec::new();
    let mut unwelcome = 0;
    let mut patience = PATIENCE * 2;
    while let Ok(Some(ended)) = timeout(patience, asked.join_next()).await {
        match ended {
            Ok(Ok(sample)) => {
                samples.push(sample);
                patience = OTHERS_HAVE;
            }
            Ok(Err(error)) => {
                unwelcome += u32::from(error.is_unwelcome());
                reasons.push(chain(&error));
            }
            // Cannot happen: nobody aborts it, and it does not panic.
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if samples.is_empty() {
        let all_unwelcome = unwelcome > 0 && usize::try_from(unwelcome) == Ok(reasons.len());
        return Err(if all_unwelcome { AskError::Unwelcome } else { AskError::Nobody { reasons } });
    }
    Ok(vote::agree(&samples)?)
}

impl ServerError {
    fn is_unwelcome(&self) -> bool {
        matches!(self, Self::Answer { source: datagram::AnswerError::Unwelcome { .. }, .. })
    }
}

/// Asks the addresses of one name, one after the other, until one answers sanely.
async fn ask_name(server: String) -> Result<Sample, ServerError> {
    let network = |source| ServerError::Network { server: server.clone(), source };
    let lookup = async {
        // An IPv6 address may come without brackets.
        if let Ok(address) = server.parse::<std::net::IpAddr>() {
            return Ok(vec![SocketAddr::new(address, PORT)]);
        }
        let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let full = if has_port { server.clone() } else { format!("{server}:{PORT}") };
        let found = tokio::net::lookup_host(full).await?;
        io::Result::Ok(found.take(ADDRESSES_MAX).collect())
    };
    let addresses = match timeout(PATIENCE, lookup).await {
        Ok(found) => found.map_err(network)?,
        Err(_) => return Err(ServerError::Silent { server }),
    };
    let mut last = ServerError::Silent { server: server.clone() };
    for address in addresses {
        match ask_address(&server, address).await {
            Ok(sample) => return Ok(sample),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask_address(server: &str, address: SocketAddr) -> Result<Sample, ServerError> {
    let network = |source| ServerError::Network { server: server.to_owned(), source };
    let local: SocketAddr = if address.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(local).await.map_err(network)?;
    // Connected: answers from anybody else are not even heard.
    socket.connect(address).await.map_err(network)?;
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(|error| network(io::Error::other(error.to_string())))?;
    let (sent_at, sent) = (SystemTime::now(), Instant::now());
    socket.send(&datagram::request(nonce)).await.map_err(network)?;
    let deadline = sent + PATIENCE;
    let mut bytes = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(received) = timeout(left, socket.recv(&mut bytes)).await else {
            return Err(ServerError::Silent { server: server.to_owned() });
        };
        let length = received.map_err(network)?;
        match datagram::read(&bytes[..length], nonce, sent_at, sent.elapsed()) {
            // Somebody who cannot see our question may be guessing: wait for the real answer.
            Err(datagram::AnswerError::Foreign) => {}
            Err(source) => return Err(ServerError::Answer { server: server.to_owned(), source }),
            Ok(sample) => return Ok(sample),
        }
    }
}

//! Keeps the session's and peering's idea of the managers the same.
//!
//! On a board with a log, peering hears of them from the log; on every other from the session.

use std::{convert::Infallible, io, sync::Arc};

use bramble_peering::{Peering, Protocol};
use tokio::sync::watch;

use crate::{
    handle::{OwnSession, Surroundings},
    session::{BoxedStream, Dial, Managers},
};

/// What reaches other boards, through peering.
pub(crate) fn surroundings(peering: &Peering, own_session: OwnSession) -> Surroundings {
    let describing = peering.clone();
    Surroundings {
        sessions: dial(peering, Protocol::Session, Some(own_session)),
        blobs: dial(peering, Protocol::Blob, None),
        describe: Arc::new(move || describing.description()),
        managers: managers(peering),
    }
}

fn dial(peering: &Peering, protocol: Protocol, own_session: Option<OwnSession>) -> Dial {
    let peering = peering.clone();
    Arc::new(move |peer| {
        let (peering, own_session) = (peering.clone(), own_session.clone());
        Box::pin(async move {
            if let Some(own_session) = own_session.filter(|_| peer.id == peering.node_id()) {
                return own_session();
            }
            let stream = peering.connect(&peer, protocol).await.map_err(io::Error::other)?;
            Ok(Box::pin(stream) as BoxedStream)
        })
    })
}

/// The managers, as peering knows them: from its directory, or from when it was last a member.
fn managers(peering: &Peering) -> Managers {
    let directory = peering.directory();
    let mut peers = directory.managers();
    if peers.is_empty() {
        let membership = peering.membership();
        let membership = membership.borrow();
        peers = membership.member().map(|member| member.managers.clone()).unwrap_or_default();
    }
    Managers { leader: directory.leader(), peers }
}

/// Passes on what either side hears.
pub(crate) async fn run(peering: Peering, managers: watch::Sender<Managers>) -> Infallible {
    let directory = peering.directory();
    let mut changes = directory.changes();
    let mut heard = managers.subscribe();
    loop {
        tokio::select! {
            // What the session heard comes first: it is newer than what the directory had from it.
            // Each side passes on only what is new to the other, so this comes to rest.
            biased;
            Ok(()) = heard.changed() => {
                let Managers { leader, peers } = heard.borrow_and_update().clone();
                directory.set_managers(&peers);
                directory.set_leader(leader);
            }
            Ok(()) = changes.changed() => {
                let known = self::managers(&peering);
                managers.send_if_modified(|managers| managers.learn(known.leader, known.peers));
            }
        }
    }
}

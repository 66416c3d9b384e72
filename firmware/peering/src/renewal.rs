//! The next certificate, in time: at two thirds of the life of the one we have.
//!
//! A manager signs for itself; the others ask one. A certificate that ran out while the board was off
//! still serves to ask for the next.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bramble_cluster::Timestamp;
use tokio::{sync::watch, time::timeout};

use crate::{
    Directory, JoinError, Member, Membership,
    dial::Dialer,
    join::{
        self, Introduction,
        desk::{Admission, Desk},
    },
    portrait::Portrait,
    problems::Problem,
};

/// How long to wait after nobody renewed it.
const RETRY: Duration = Duration::from_secs(10);
/// The same when it has run out: nothing works without.
const RETRY_EXPIRED: Duration = Duration::from_secs(2);
/// The clock may jump: never sleep longer than this without looking at it.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// Keeps this board's certificate fresh.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) dialer: Dialer,
    pub(crate) desk: Arc<Desk>,
    pub(crate) portrait: Portrait,
}

impl Renewal {
    pub(crate) async fn run(self) -> Infallible {
        let mut membership = self.dialer.trust.membership();
        loop {
            let pause = self.step().await;
            wait(&mut membership, pause).await;
        }
    }

    /// Renews if it is time to, and says when to look again.
    async fn step(&self) -> Duration {
        let trust = &self.dialer.trust;
        let (Some(member), Some(certificate)) = (trust.member(), trust.certificate()) else {
            return LOOK_AGAIN;
        };
        let now = trust.clock().now();
        if now < certificate.renew_at() {
            return certificate.renew_at().since(now).min(LOOK_AGAIN);
        }
        match self.renew(&member).await {
            Ok(()) => {
                tracing::info!("this board has a new certificate");
                Duration::ZERO
            }
            Err(error) => {
                self.dialer.problems.report(Problem::from_join(&error));
                let error = error.to_string();
                tracing::warn!(error, "this board's certificate cannot be renewed yet");
                retry_after(certificate.not_after, now)
            }
        }
    }

    async fn renew(&self, member: &Member) -> Result<(), JoinError> {
        let trust = &self.dialer.trust;
        let description = self.portrait.description();
        let here = self.desk.renew_here(description.clone(), self.dialer.listen).await;
        if let Some(Ok(Admission { cluster, founded_at, authority, certificate })) = here {
            let managers = member.managers.clone();
            let renewed = Member { cluster, founded_at, authority, certificate, managers };
            return trust.enter(renewed).map_err(JoinError::Membership);
        }
        let mut last_error = JoinError::NotMember;
        for manager in managers(&self.dialer.directory, member) {
            match join::ask(trust, &Introduction::Certificate, &description, manager).await {
                Ok(renewed) => return trust.enter(renewed).map_err(JoinError::Membership),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }
}

/// Whom to ask: the managers known now, or else those known at the last start.
fn managers(directory: &Directory, member: &Member) -> Vec<bramble_cluster::Peer> {
    let known = directory.managers();
    if known.is_empty() { member.managers.clone() } else { known }
}

fn retry_after(not_after: Timestamp, now: Timestamp) -> Duration {
    if now > not_after { RETRY_EXPIRED } else { RETRY.min(not_after.since(now)) }
}

/// Waits, or until the membership changes.
async fn wait(membership: &mut watch::Receiver<Membership>, pause: Duration) {
    // The sender lives as long as the trust that this loop holds.
    let _ = timeout(pause.max(Duration::from_millis(100)), membership.changed()).await;
}

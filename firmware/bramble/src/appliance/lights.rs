//! The board's light: tells the place in the cluster to who stands before the shelf.

use std::convert::Infallible;

use anyhow::{Context, Result};
use bramble_host::led::{Led, Sign};
use bramble_manager::Manager;
use bramble_peering::{Membership, Peering};

use crate::problems::Problems;

/// Shows what the board is, whenever that changes.
///
/// # Errors
/// Only when peering or the manager have ended.
pub(crate) async fn run(
    mut led: Led,
    peering: Peering,
    manager: Manager,
    problems: Problems,
) -> Result<Infallible> {
    let mut membership = peering.membership();
    let mut leadership = manager.leadership();
    let mut problems = problems.watch();
    loop {
        let is_member = matches!(*membership.borrow_and_update(), Membership::Member(_));
        let is_leader = leadership.borrow_and_update().is_leader_here;
        let has_problems = !problems.borrow_and_update().is_empty();
        if let Err(error) = led.show(sign(is_member, is_leader, has_problems)) {
            tracing::debug!(%error, "the light does not change");
        }
        tokio::select! {
            changed = membership.changed() => changed.context("peering has ended")?,
            changed = leadership.changed() => changed.context("the manager has ended")?,
            Ok(()) = problems.changed() => {}
        }
    }
}

fn sign(is_member: bool, is_leader: bool, has_problems: bool) -> Sign {
    match (has_problems, is_member, is_leader) {
        (true, ..) => Sign::Fault,
        (_, true, true) => Sign::Leader,
        (_, true, false) => Sign::Member,
        (_, false, _) => Sign::Seeking,
    }
}

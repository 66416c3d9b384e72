//! The cluster's state, as the log makes it: in memory, published after every batch of entries.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bramble_cluster::{ClusterState, Entry, Outcome, Timestamp};
use futures_util::{Stream, StreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::sync::watch;

use crate::consensus::{
    snapshot::{Head, Image, SnapshotError, SnapshotFile, SnapshotFolder},
    space::{LEADERS_ROOM, Space},
    types::{AppliedMembership, CommittedLeaderId, LogId, SnapshotMeta, Types, Voter},
};

/// The instant of the last entry that was applied, for the clock of a new leader.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastInstant(Arc<AtomicU64>);

impl LastInstant {
    /// That instant.
    pub(crate) fn get(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Acquire))
    }

    fn set(&self, at: Timestamp) {
        self.0.store(at.as_millis(), Ordering::Release);
    }
}

/// Applies the log.
#[derive(Debug)]
pub(crate) struct StateMachine {
    applied: Option<LogId>,
    membership: AppliedMembership,
    state: ClusterState,
    at: Timestamp,
    last_instant: LastInstant,
    published: watch::Sender<Arc<ClusterState>>,
    snapshots: Arc<SnapshotFolder>,
    space: Arc<Space>,
}

impl StateMachine {
    /// Begins with the snapshot, if there is one.
    pub(crate) fn new(
        snapshots: Arc<SnapshotFolder>,
        space: Arc<Space>,
        image: Option<Image>,
        published: watch::Sender<Arc<ClusterState>>,
        last_instant: LastInstant,
    ) -> io::Result<Self> {
        let mut machine = Self {
            applied: None,
            membership: AppliedMembership::default(),
            state: ClusterState::default(),
            at: Timestamp::default(),
            last_instant,
            published,
            snapshots,
            space,
        };
        if let Some(image) = image {
            machine.replace(image)?;
        }
        Ok(machine)
    }

    fn replace(&mut self, image: Image) -> io::Result<()> {
        let meta = image.head.meta()?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership;
        self.at = image.head.at;
        self.last_instant.set(self.at);
        self.state = ClusterState::clone(&image.state);
        self.published.send_replace(image.state);
        Ok(())
    }

    /// Applies one entry. An entry that claims to be older than the one before it (its leader's
    /// clock had not caught up) takes place at the same instant: time never runs backwards.
    fn apply_entry(&mut self, entry: &Entry) -> Vec<Outcome> {
        if entry.at < self.at {
            let entry = Entry { at: self.at, commands: entry.commands.clone() };
            return self.state.apply(&entry);
        }
        self.at = entry.at;
        self.state.apply(entry)
    }

    fn image(&self) -> Image {
        Image {
            head: Head {
                applied: self.applied.map(Into::into),
                voters_since: self.membership.log_id().map(Into::into),
                voters: self.membership.membership().into(),
                at: self.at,
            },
            state: Arc::new(self.state.clone()),
        }
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, AppliedMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    /// Publishes before it answers, so that whoever proposed sees what he did.
    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        let mut is_changed = false;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.applied = Some(entry.log_id);
            let outcomes = match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(proposal) => {
                    is_changed = true;
                    self.apply_entry(&proposal.0)
                }
                EntryPayload::Membership(membership) => {
                    self.membership = AppliedMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            };
            answers.extend(responder.map(|responder| (responder, outcomes)));
        }
        if is_changed {
            self.last_instant.set(self.at);
            self.published.send_replace(Arc::new(self.state.clone()));
        }
        for (responder, outcomes) in answers {
            responder.send(outcomes);
        }
        Ok(())
    }

    /// Puts a snapshot off while the disk is full, unless a follower cannot do without.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        if !force && !self.space.has(LEADERS_ROOM) {
            tracing::warn!("the disk is full: the log grows until there is room for a snapshot");
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { image: self.image(), snapshots: Arc::clone(&self.snapshots) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let snapshots = Arc::clone(&self.snapshots);
        let announced = meta.clone();
        let image = blocking(move || {
            let image = snapshot.read()?;
            if !image.head.meta().is_ok_and(|meta| meta == announced) {
                let reason = "it is not the one that was announced".to_owned();
                return Err(SnapshotError::Damaged { reason });
            }
            snapshots.save(&image)?;
            Ok(image)
        })
        .await?;
        self.replace(image)
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<CommittedLeaderId, Voter, (), SnapshotFile>>, io::Error> {
        let Some((head, snapshot)) = self.snapshots.current() else { return Ok(None) };
        Ok(Some(Snapshot { meta: head.meta()?, snapshot }))
    }
}

/// Writes a snapshot of the state as it was when this was made.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    image: Image,
    snapshots: Arc<SnapshotFolder>,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(
        &mut self,
    ) -> Result<Snapshot<CommittedLeaderId, Voter, (), SnapshotFile>, io::Error> {
        let (image, snapshots) = (self.image.clone(), Arc::clone(&self.snapshots));
        let (head, snapshot) = blocking(move || snapshots.save(&image)).await?;
        Ok(Snapshot { meta: head.meta()?, snapshot })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> io::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??)
}

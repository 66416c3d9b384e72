//! The simulated consensus: one log, what is on its way into it, and who leads or believes so.
//!
//! Raft itself is not simulated (`tests/consensus` is about that): the log is what a quorum agreed
//! on. What can happen to those who use it is: a proposal may be lost with its leader, or end in the
//! log long after another leader took over; a deposed leader goes on until it hears of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bramble_cluster::{Command, Entry, NodeId, TaskId, TaskState, Timestamp, Version};

use super::board::Place;

/// The log and everybody's place in it.
#[derive(Debug, Default)]
pub(super) struct Consensus {
    /// The entries that somebody may still need.
    pub(super) log: Vec<Arc<Entry>>,
    /// How many entries were before them.
    pub(super) forgotten: usize,
    /// When the last entry was proposed.
    pub(super) last_at: Timestamp,
    pub(super) voters: BTreeSet<NodeId>,
    /// The latest term.
    pub(super) term: u64,
    /// Those who lead or believe so, by term.
    pub(super) leaderships: BTreeMap<u64, Leadership>,
    /// Who led last.
    pub(super) former: Option<NodeId>,
    /// On its way into the log.
    pub(super) proposals: BTreeMap<u64, Proposal>,
    pub(super) is_electing: bool,
    /// The last number given to a proposal or session.
    pub(super) numbers: u64,
}

/// A board that leads or believes so.
#[derive(Debug)]
pub(super) struct Leadership {
    pub(super) place: Place,
    pub(super) since: Timestamp,
    /// How far the cluster clock is ahead of the world's while this one leads.
    pub(super) ahead: u64,
    pub(super) former: Option<NodeId>,
    pub(super) contacts: BTreeMap<Place, Contact>,
    /// The ticket of its own proposal that is on its way, and when to give it up.
    pub(super) waits_for: Option<(u64, u64)>,
    pub(super) wake_at: Option<u64>,
}

/// A session, as the leader sees it.
#[derive(Debug, Clone)]
pub(super) struct Contact {
    pub(super) node: NodeId,
    pub(super) number: u64,
    pub(super) opened_at: u64,
    /// Since when nothing has come through, if so.
    pub(super) silent_since: Option<u64>,
    pub(super) is_connected: bool,
    pub(super) is_leaving: bool,
    /// What of the node's tasks was sent last.
    pub(super) sent: Option<Fingerprint>,
    pub(super) is_sending: bool,
    /// Assignments on their way. Answers to heartbeats do not overtake them.
    pub(super) on_the_way: u32,
}

/// Tells two assignments of a node apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) tasks: usize,
    pub(super) newest: u64,
    pub(super) ids: u128,
    pub(super) is_down: bool,
}

/// Commands on their way into the log.
#[derive(Debug, Clone)]
pub(super) struct Proposal {
    pub(super) term: u64,
    pub(super) commands: Vec<Command>,
    pub(super) origin: Origin,
    /// Whether its leader was deposed and it drifts about.
    pub(super) is_late: bool,
}

/// Where a proposal comes from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The leader's plan, with the voters that it wants and the version that it saw.
    Plan { voters: Option<BTreeSet<NodeId>>, planned_at: Version },
    /// A node's reports.
    Reports { place: Place, session: u64, states: Vec<(TaskId, TaskState)> },
    /// A person.
    Operator,
}

impl Consensus {
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The entries after the first `version` ones.
    pub(super) fn after(&self, version: u64) -> &[Arc<Entry>] {
        let version = usize::try_from(version).expect("a log fits into memory");
        &self.log[version - self.forgotten..]
    }

    /// Who leads or believes so at this place.
    pub(super) fn term_of(&self, place: Place) -> Option<u64> {
        self.leaderships.iter().find(|(_, it)| it.place == place).map(|(term, _)| *term)
    }
}

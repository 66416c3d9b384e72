//! What only the manager's state knows of this board and is announced to others.

/// What this board is in its cluster, for those who look for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Situation {
    /// Whether it manages, and so can let boards in.
    pub is_manager: bool,
    /// Whether it leads, and so answers to `bramble.local`.
    pub is_leader: bool,
    /// Whether anything was ever created in the cluster. One that was never used may be dissolved
    /// into another; only a manager knows.
    pub is_used: bool,
}

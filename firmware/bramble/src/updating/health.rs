//! What makes a system on trial healthy, and how long it has for that.

use std::time::Duration;

/// How long a trial has to be healthy without a break.
pub(super) const HEALTHY: Duration = Duration::from_secs(60);
/// How long a daemon waits for that, unless [`PATIENCE_WORD`] says otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(8 * 60);
/// The kernel's word, in a slot's `cmdline.txt`, for how many seconds the trial of that slot may
/// stay without health: for systems that need longer to get well, and for tests.
const PATIENCE_WORD: &str = "bramble.trial=";

/// Whether a trial has what a healthy board has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Health {
    /// Its data is what it has on its card, not a stand-in of this boot.
    pub(super) has_its_data: bool,
    /// It has an address: what came over the network must not be the end of that.
    pub(super) has_network: bool,
    /// It is a member of its cluster, and somebody leads that.
    pub(super) is_member: bool,
    /// Its API answers.
    pub(super) answers: bool,
    /// All tasks that it is to run do.
    pub(super) has_its_tasks: bool,
}

impl Health {
    /// What is missing, for people; `None` if nothing is.
    pub(super) fn missing(self) -> Option<&'static str> {
        match self {
            Self { has_its_data: false, .. } => Some("it did not find its data"),
            Self { has_network: false, .. } => Some("it has no network"),
            Self { is_member: false, .. } => Some("it did not come back into its cluster"),
            Self { answers: false, .. } => Some("its API did not answer"),
            Self { has_its_tasks: false, .. } => Some("its tasks did not come back"),
            _ => None,
        }
    }
}

/// How long a trial may stay without health, by the words that the kernel was started with.
pub(super) fn patience(words: &[String]) -> Duration {
    let seconds = words.iter().rev().find_map(|word| word.strip_prefix(PATIENCE_WORD));
    seconds.and_then(|seconds| seconds.parse().ok()).map_or(PATIENCE, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Health = Health {
        has_its_data: true,
        has_network: true,
        is_member: true,
        answers: true,
        has_its_tasks: true,
    };

    #[test]
    fn a_board_without_its_network_or_its_data_is_not_healthy() {
        assert_eq!(WELL.missing(), None);
        let deaf = Health { has_network: false, ..WELL };
        assert_eq!(deaf.missing(), Some("it has no network"));
        // Without its data it may well be a member again: as another board.
        let stranger = Health { has_its_data: false, ..WELL };
        assert_eq!(stranger.missing(), Some("it did not find its data"));
    }

    #[test]
    fn a_slot_says_how_long_its_trial_may_take() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(patience(&words("quiet bramble.slot=b")), PATIENCE);
        assert_eq!(patience(&words("bramble.trial=30 quiet")), Duration::from_secs(30));
        assert_eq!(patience(&words("bramble.trial=soon")), PATIENCE);
    }
}

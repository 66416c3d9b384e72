//! How the containers of a service behave.

use std::collections::BTreeMap;

use bramble_cluster::ServiceId;

use super::random::Random;

/// How the containers of a service behave. Times are means, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Temper {
    pub(super) preparing: u64,
    pub(super) stopping: u64,
    /// Whether they ignore the stop signal.
    pub(super) is_stubborn: bool,
    /// How often they can not be prepared or started.
    pub(super) refusals_percent: u64,
    /// How long they live before they crash, if they do.
    pub(super) crashes_after: Option<u64>,
    /// How long they live before their work is done, if it ever is.
    pub(super) finishes_after: Option<u64>,
}

impl Default for Temper {
    fn default() -> Self {
        Self {
            preparing: 50,
            stopping: 50,
            is_stubborn: false,
            refusals_percent: 0,
            crashes_after: None,
            finishes_after: None,
        }
    }
}

impl Temper {
    pub(super) fn drawn(random: &mut Random) -> Self {
        Self {
            preparing: random.pick(&[10, 100, 1_000]),
            stopping: random.pick(&[5, 50, 500]),
            is_stubborn: random.percent(10),
            refusals_percent: random.pick(&[0, 0, 0, 2, 20]),
            crashes_after: random.pick(&[None, None, None, Some(300), Some(20_000), Some(200_000)]),
            finishes_after: None,
        }
    }

    /// The same without anything going wrong.
    pub(super) const fn healed(self) -> Self {
        Self { refusals_percent: 0, crashes_after: None, ..self }
    }
}

/// How the containers of each service behave just now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempers<'a> {
    pub(super) tempers: &'a BTreeMap<ServiceId, Temper>,
    pub(super) is_healing: bool,
}

impl Tempers<'_> {
    pub(super) fn of(self, service: ServiceId) -> Temper {
        let temper = self.tempers.get(&service).copied().unwrap_or_default();
        if self.is_healing { temper.healed() } else { temper }
    }
}

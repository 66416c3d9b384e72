//! The whole decision-making of a cluster in a simulated world, deterministic and much faster than
//! real time: `cargo simulate --seed S --hours H`.
//!
//! A world is a rack of boards, the consensus that they keep, and people who ask things of it. The
//! decisions are the product's own ([`bramble_cluster::ClusterState::apply`],
//! [`bramble_planner::plan_cluster`], [`bramble_planner::plan_node`]); containers, time, network and
//! power are simulated. Everything follows from the seed.
//!
//! Each round has two phases. First chaos: messages are held up, doubled and lost, boards lose power
//! or their cable, daemons crash, leaders are deposed, cards are replaced, containers die, while
//! people create, change and remove services and drain boards. Then everything is made good, and the
//! cluster has to come to rest as it should be. The invariants are under `simulation/invariants/`,
//! one file each; the first breach ends the run.
//!
//! Time jumps from event to event. Heartbeats are no events: what they would have told follows from
//! who heard whom since when.

mod board;
mod chaos;
mod consensus;
mod invariants;
mod leading;
mod operator;
mod random;
mod sessions;
mod temper;
mod world;

use std::{collections::BTreeSet, fmt, sync::Arc};

use bramble_cluster::{ClusterState, Entry, Timestamp};

pub use self::invariants::Breach;
use self::{
    board::Replica,
    invariants::{
        Verdict, converged_plan_is_empty, drained_node_becomes_empty, healed_cluster_converges,
        replicas_agree,
    },
    world::{Event, World},
};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// The state must not change for this long for the world to count as at rest: longer than the
/// longest restart back-off.
const REST: u64 = 70_000;

/// How long a healed world may take to come to rest.
const REST_WITHIN: u64 = 20 * MINUTE;

/// A run that went well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Milliseconds simulated.
    pub simulated: u64,
    /// Events that happened.
    pub events: u64,
    /// Entries in the log.
    pub entries: u64,
    /// Checks of invariants.
    pub checks: u64,
    /// Times that the cluster came to rest.
    pub rests: u64,
}

impl Summary {
    /// Counts another run in.
    pub const fn add(&mut self, other: &Self) {
        self.simulated += other.simulated;
        self.events += other.events;
        self.entries += other.entries;
        self.checks += other.checks;
        self.rests += other.rests;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { simulated, events, entries, checks, rests } = self;
        let hours = *simulated / HOUR;
        write!(
            formatter,
            "{hours} cluster-hours: {events} events, {entries} entries, {checks} checks, at rest \
             {rests} times"
        )
    }
}

/// A run that broke an invariant.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The world's seed.
    pub seed: u64,
    /// How many hours were asked for.
    pub hours: u64,
    /// When it happened, in milliseconds of the world.
    pub at: u64,
    /// What happened.
    pub breach: Breach,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, hours, at, breach } = self;
        let seconds = *at / 1_000;
        writeln!(formatter, "{} is broken after {seconds} s: {}", breach.invariant, breach.text)?;
        write!(formatter, "replay: cargo simulate --seed {seed} --hours {hours} --trace")
    }
}

impl std::error::Error for Failure {}

/// Simulates one world for so many hours of its time.
pub fn simulate(seed: u64, hours: u64, is_traced: bool) -> Result<Summary, Failure> {
    let mut world = World::new(seed, is_traced);
    let started_at = world.now;
    let mut summary = Summary::default();
    let result = found(&mut world).and_then(|()| {
        while world.now < started_at + hours * HOUR {
            let chaos = world.random.between(3, 15) * MINUTE;
            rage(&mut world, chaos)?;
            rest(&mut world)?;
            summary.rests += 1;
        }
        Ok(())
    });
    match result {
        Ok(()) => Ok(Summary {
            simulated: world.now - started_at,
            events: world.events,
            entries: world.leader().map_or(0, |(_, _, state)| state.version().0),
            checks: world.judges.checks,
            ..summary
        }),
        Err(breach) => Err(Failure { seed, hours, at: world.now, breach }),
    }
}

/// The first board founds the cluster; the others come up and join.
fn found(world: &mut World) -> Verdict {
    let command = world.founding();
    let mut state = ClusterState::default();
    let entry = Arc::new(Entry { at: Timestamp::from_millis(world.now), commands: vec![command] });
    let outcomes = state.apply(&entry);
    assert!(outcomes.iter().all(Result::is_ok), "founding a cluster: {outcomes:?}");
    world.consensus.log.push(entry);
    world.consensus.voters = BTreeSet::from([world.boards[0].id]);
    world.boards[0].replica = Some(Replica { state, is_applying: false });
    world.boards[0].is_powered = true;
    let daemon_life = world.boards[0].daemon_life;
    world.daemon_up(0, daemon_life);
    for place in 1..world.boards.len() {
        let delay = world.random.between(0, 10_000);
        world.schedule_in(delay, Event::PowerOn(place));
    }
    world.run_until(world.now + 5_000)
}

/// Things go wrong, and people ask for things, for so many milliseconds.
fn rage(world: &mut World, milliseconds: u64) -> Verdict {
    world.is_healing = false;
    world.schedule_in(100, Event::Operate);
    let delay = world.random.wait(world.climate.disturbance);
    world.schedule_in(delay, Event::Disturb);
    world.run_until(world.now + milliseconds)
}

/// Everything is made good, and the cluster comes to rest as it should be.
fn rest(world: &mut World) -> Verdict {
    world.heal();
    let healed_at = world.now;
    world.run_until(world.now + 20_000)?;
    let mut quiet_since = world.now;
    let mut version = None;
    while world.now < quiet_since + REST || !world.is_still() {
        if world.now > healed_at + REST_WITHIN {
            return healed_cluster_converges::restless(REST_WITHIN / MINUTE);
        }
        world.tidy_up();
        world.run_until(world.now + 1_000)?;
        let current = world.leader().map(|(_, _, state)| state.version());
        if current.is_none() || current != version {
            (quiet_since, version) = (world.now, current);
        }
    }
    healed_cluster_converges::check(world)?;
    drained_node_becomes_empty::check(world)?;
    converged_plan_is_empty::check(world)?;
    let (_, _, state) = world.leader().expect("it converged");
    for replica in world.boards.iter().filter_map(|board| board.replica.as_ref()) {
        if replica.state.version() != state.version() {
            let text = format!("a voter at rest is at version {}", replica.state.version());
            return Err(Breach { invariant: "replicas_agree", text });
        }
        replicas_agree::check_bytes(&replica.state, state)?;
    }
    // Nobody needs the entries any more.
    world.consensus.forgotten += world.consensus.log.len();
    world.consensus.log.clear();
    Ok(())
}

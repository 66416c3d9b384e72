//! A thousand simulated cluster-hours: the committed seeds, then fresh ones. Each world is a cluster
//! of its own; see [`bramble_tests::simulation`].
//!
//! `BRAMBLE_SIMULATION_SEED=<number>` makes the fresh seeds the same again; the test prints it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bramble_tests::simulation::{Failure, Summary, simulate};

/// Cluster-hours of fresh seeds. With the committed ones it is more than a thousand.
const FRESH_HOURS: u64 = 1_000;

/// Each seed that once broke an invariant, in a file that says how: `<seed> <hours>`. The worlds
/// behind the seeds change when the simulator draws otherwise; then they are a sample as any other.
#[test]
fn worlds_that_once_broke_hold() {
    let worlds: Vec<(u64, u64)> = seed_files().iter().map(|path| world_of(path)).collect();
    assert!(worlds.len() >= 10, "the committed seeds are gone");
    let total = run(&worlds);
    println!("committed seeds: {total}");
}

/// Whatever the seed, no invariant breaks.
#[test]
fn a_thousand_fresh_cluster_hours_hold() {
    let first = first_seed();
    println!("fresh seeds from {first} on: BRAMBLE_SIMULATION_SEED={first} repeats them");
    let worlds: Vec<(u64, u64)> =
        (0..FRESH_HOURS).map(|number| (first.wrapping_add(number), 1)).collect();
    let started_at = Instant::now();
    let total = run(&worlds);
    println!("fresh seeds: {total} in {:.0} s", started_at.elapsed().as_secs_f64());
}

/// The same seed is the same world: a failure can be replayed.
#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in [7, 120] {
        let stories = [(); 2].map(|()| simulate(seed, 1, false).expect("it holds").to_string());
        assert_eq!(stories[0], stories[1]);
    }
}

/// Simulates worlds on all processors; the first failure ends it.
fn run(worlds: &[(u64, u64)]) -> Summary {
    let (next, is_broken) = (AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new(Summary::default());
    let failures: Mutex<Vec<Failure>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !is_broken.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((seed, hours)) = worlds.get(number as usize) else { return };
                    match simulate(*seed, *hours, false) {
                        Ok(summary) => total.lock().expect("a lock").add(&summary),
                        Err(failure) => {
                            is_broken.store(true, Ordering::Relaxed);
                            failures.lock().expect("a lock").push(failure);
                        }
                    }
                }
            });
        }
    });
    if let Some(failure) = failures.into_inner().expect("a lock").first() {
        panic!("{failure}");
    }
    total.into_inner().expect("a lock")
}

fn first_seed() -> u64 {
    match env::var("BRAMBLE_SIMULATION_SEED") {
        Ok(text) => text.parse().expect("BRAMBLE_SIMULATION_SEED is a number"),
        Err(_) => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
            // Milliseconds keep it short to type; runs of a thousand do not overlap.
            u64::try_from(since.as_millis()).expect("before the year 500 million")
        }
    }
}

fn seed_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulation/seeds");
    let entries = fs::read_dir(folder).expect("tests/simulation/seeds is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn world_of(path: &Path) -> (u64, u64) {
    let text = fs::read_to_string(path).expect("a seed file is text");
    let mut numbers = text.split_whitespace().map(|word| word.parse().expect("two numbers"));
    let (seed, hours) = (numbers.next(), numbers.next());
    seed.zip(hours).unwrap_or_else(|| panic!("{}: <seed> <hours>", path.display()))
}

//! The plug is pulled at random moments while the cluster and a volume are written to. Nothing that
//! was acknowledged is lost, and the board always boots.
//!
//! `BRAMBLE_POWER_CUTS` says how often, `BRAMBLE_POWER_CUTS_SEED` replays a run's moments. A cut is
//! a SIGKILL of QEMU: what the machine has not flushed to its card is gone, as on a real board.
//! A third of the cuts comes while the board boots from the one before, the others under load.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    busybox::IMAGE,
    machine::{BOOT, Machine, Settings},
    observer::Observer,
    one_board::FOUNDING,
    segment::Segment,
};

const CUTS: u32 = 50;
/// Cuts while the board boots come within this time of power-on.
const BOOTING: Duration = Duration::from_secs(8);
/// The others come within this time of load.
const LOADED: Duration = Duration::from_secs(5);
/// How long an answer that the board gave may be on its way to the client.
const ANSWER: Duration = Duration::from_millis(300);
/// How many services the load keeps at most.
const SERVICES: usize = 20;

/// Writes numbers to a volume, each flushed before it is told; at its start it tells what it found.
/// A file is whole or absent: it is renamed only once it is flushed.
const WRITER: &str = "cd /data; n=0; for file in number.*; do \
    [ -e $file ] || continue; read at words < $file; \
    [ \"$file\" = \"number.$at\" ] && [ \"$words\" = \"is whole\" ] || echo broken $file; \
    [ $at -gt $n ] && n=$at; done; echo found $n; \
    while true; do n=$((n+1)); echo $n is whole > new; sync; mv new number.$n; sync; \
    rm -f number.$((n-5)); echo wrote $n; sleep 0.1; done";

/// What the cluster has acknowledged.
#[derive(Debug, Default)]
struct Ledger {
    kept: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// Asked for and not acknowledged: they may be there or not.
    unsure: BTreeSet<String>,
    /// The last number that the volume's writer told.
    number: u64,
    counter: u32,
}

#[test]
fn a_board_whose_plug_is_pulled_at_any_moment_boots_and_has_lost_nothing() {
    let cuts = from_environment("BRAMBLE_POWER_CUTS").map_or(CUTS, |cuts| cuts as u32);
    let seed = from_environment("BRAMBLE_POWER_CUTS_SEED").unwrap_or_else(fresh_seed);
    let mut dice = Dice(seed);
    let segment = Segment::new();
    // One or two, as the seed has it: boards on sale have more, one is sooner up here.
    let processors = if dice.below(2) == 0 { 1 } else { 2 };
    println!("{cuts} cuts, {processors} processors, BRAMBLE_POWER_CUTS_SEED={seed}");
    let mut board = Machine::with(&segment, 1, Settings { processors, ..Settings::default() });
    board.boot().wait_for(FOUNDING, BOOT);
    let observer = Observer::join(&segment, 1);
    observer.load_busybox();
    let options = [
        "--constraint",
        "node.platform.arch==aarch64",
        "--mount",
        "type=volume,source=numbers,target=/data",
    ];
    observer.serve("writer", &options, WRITER);
    let name = observer.machine_at(&board.address()).hostname;
    let mut ledger = Ledger::default();
    let begun = Instant::now();
    let (mut done, mut while_booting) = (0, 0);
    while done < cuts {
        let machines = observer.wait_for_machines(1);
        assert_eq!(machines[0].hostname, name, "after {done} cuts: it draws no other name");
        ledger.check(&observer, done);
        ledger.load_until(&observer, dice.within(LOADED), || board.cut_power());
        done += 1;
        while done < cuts && dice.below(3) == 0 {
            board.start();
            std::thread::sleep(dice.within(BOOTING));
            board.cut_power();
            while_booting += 1;
            done += 1;
        }
        board.boot();
        // A long run is watched.
        let (seconds, writes) = (begun.elapsed().as_secs(), ledger.counter);
        println!("cut {done}, after {seconds} s: nothing lost so far, {writes} writes asked for");
    }
    observer.wait_for_machines(1);
    ledger.check(&observer, cuts);
    board.cut_power();
    assert_eq!(board.card().data_is_sound(), Ok(()), "the file system is whole");
    println!(
        "figure: power cuts at random moments: {cuts}, {while_booting} of them while booting; writes asked for: {}, acknowledged writes lost: 0",
        ledger.counter
    );
}

impl Ledger {
    /// Everything acknowledged is true after `cuts` cuts.
    fn check(&mut self, observer: &Observer, cuts: u32) {
        let listed = observer.docker(&["service", "ls", "--format", "{{.Name}}"]);
        let listed: BTreeSet<&str> = listed.lines().collect();
        for name in &self.kept {
            assert!(listed.contains(name.as_str()), "after {cuts} cuts: {name} was lost");
        }
        for name in &self.removed {
            assert!(!listed.contains(name.as_str()), "after {cuts} cuts: {name} came back");
        }
        self.removed.clear();
        // From now on it is known what became of these.
        for name in std::mem::take(&mut self.unsure) {
            if listed.contains(name.as_str()) {
                self.kept.insert(name);
            }
        }
        let mut log = String::new();
        // Asked of the API first: a client started fifty times a second would slow the machine down.
        observer.wait("the volume's writer has a task", || observer.running("writer").len() == 1);
        observer.wait("the volume's writer runs again", || {
            log = writer_log(observer);
            log.contains("wrote ")
        });
        assert!(!log.contains("broken"), "after {cuts} cuts: the volume is torn:\n{log}");
        let found = last_number(&log, "found ").expect("the writer tells what it found");
        assert!(
            found >= self.number,
            "after {cuts} cuts: {} was told, {found} is there",
            self.number
        );
    }

    /// Writes to the cluster until `after`, when `cut` is called in the middle of it.
    fn load_until(&mut self, observer: &Observer, after: Duration, cut: impl FnOnce()) {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    self.write(observer);
                    if let Some(number) = last_number(&writer_log(observer), "wrote ") {
                        self.number = self.number.max(number);
                    }
                }
            });
            std::thread::sleep(after);
            cut();
            is_over.store(true, Ordering::Relaxed);
            std::thread::sleep(ANSWER);
            // It asks a board that is gone, and would for seconds.
            while !load.is_finished() {
                observer.interrupt();
                std::thread::sleep(Duration::from_millis(10));
            }
            load.join().expect("the load does not panic");
        });
    }

    fn write(&mut self, observer: &Observer) {
        self.counter += 1;
        if self.kept.len() >= SERVICES
            && let Some(name) = self.kept.pop_first()
        {
            if observer.try_docker(&["service", "rm", &name]).status.success() {
                self.removed.insert(name);
            } else {
                self.unsure.insert(name);
            }
            return;
        }
        let name = format!("write{:05}", self.counter);
        let create = ["service", "create", "--detach", "--quiet", "--replicas", "0", "--network"];
        let arguments = [&create[..], &["host", "--name", &name, IMAGE]].concat();
        if observer.try_docker(&arguments).status.success() {
            self.kept.insert(name);
        } else {
            self.unsure.insert(name);
        }
    }
}

/// What the writer's present container printed.
fn writer_log(observer: &Observer) -> String {
    let output = observer.try_docker(&["service", "logs", "--raw", "writer"]);
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    log.rfind("found ").and_then(|at| log.get(at..)).unwrap_or(&log).to_owned()
}

fn last_number(log: &str, before: &str) -> Option<u64> {
    let line = log.lines().rev().find_map(|line| line.strip_prefix(before))?;
    line.trim().parse().ok()
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is not a number")))
}

fn fresh_seed() -> u64 {
    u64::from_str_radix(&crate::command::random_hex(8), 16).expect("hexadecimal digits") | 1
}

/// Random moments that a seed replays.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // Xorshift: its quality is no matter here.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn within(&mut self, bound: Duration) -> Duration {
        let milliseconds = u64::try_from(bound.as_millis()).expect("some seconds");
        Duration::from_millis(self.below(milliseconds))
    }
}

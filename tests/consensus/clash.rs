//! Writers against failures: whatever was acknowledged is there at the end.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bramble_manager::consensus::Consensus;
use tokio::runtime::Handle;

use crate::board::{Boards, creation, missing, node};

/// A board's consensus, and where to run what is asked of it.
type Door = (Consensus, Handle);

/// What writers need of the boards, which come and go under them.
#[derive(Clone)]
struct Office {
    doors: Arc<Mutex<Vec<Option<Door>>>>,
    acknowledged: Arc<Mutex<BTreeSet<usize>>>,
    is_over: Arc<AtomicBool>,
}

impl Office {
    fn open(&self, boards: &Boards, number: usize) {
        self.doors.lock().unwrap()[number] = Some(boards.door(number));
    }

    fn close(&self, number: usize) {
        self.doors.lock().unwrap()[number] = None;
    }

    /// Writes through one board after the other; notes what was acknowledged.
    fn write(self, first: usize, step: usize) {
        let mut service = first;
        while !self.is_over.load(Ordering::Relaxed) && service < 900 {
            let door = self.doors.lock().unwrap()[service % 3].clone();
            if let Some((consensus, runtime)) = door {
                let (answer, answered) = mpsc::sync_channel(1);
                runtime.spawn(async move {
                    let proposed = consensus.propose(vec![creation(service)]).await;
                    // The writer may have lost patience.
                    let _ = answer.send(proposed);
                });
                if let Ok(Ok(outcomes)) = answered.recv_timeout(Duration::from_secs(5))
                    && outcomes.iter().all(Result::is_ok)
                {
                    self.acknowledged.lock().unwrap().insert(service);
                }
            }
            service += step;
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn clash(rounds: usize, mut strike: impl FnMut(&mut Boards, &Office, usize)) {
    let mut boards = Boards::managing(3);
    let office = Office {
        doors: Arc::new(Mutex::new(vec![None; 3])),
        acknowledged: Arc::default(),
        is_over: Arc::default(),
    };
    for board in 0..3 {
        office.open(&boards, board);
    }
    let writers: Vec<_> = (0..4)
        .map(|first| {
            let office = office.clone();
            thread::spawn(move || office.write(first, 4))
        })
        .collect();
    for round in 0..rounds {
        strike(&mut boards, &office, round);
    }
    office.is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("no writer panics");
    }
    boards.await_leader();
    let acknowledged = office.acknowledged.lock().unwrap().clone();
    println!("{} writes were acknowledged", acknowledged.len());
    assert!(acknowledged.len() > 50, "{} writes are too few to say anything", acknowledged.len());
    let state = boards.await_agreement(0..3);
    assert_eq!(missing(&state, acknowledged), BTreeSet::new(), "acknowledged and lost");
}

#[test]
fn no_acknowledged_write_is_lost_by_kills() {
    clash(8, |boards, office, round| {
        thread::sleep(Duration::from_millis(700));
        // The leader and the others by turns.
        let victim = boards.leader().map_or(round % 3, |leader| (leader + round) % 3);
        office.close(victim);
        boards.kill(victim);
        thread::sleep(Duration::from_millis(500 + 150 * (round as u64 % 4)));
        boards.start(victim);
        office.open(boards, victim);
    });
}

#[test]
fn no_acknowledged_write_is_lost_by_pulled_cables() {
    clash(6, |boards, _, round| {
        thread::sleep(Duration::from_millis(700));
        let victim = boards.leader().map_or(round % 3, |leader| (leader + round / 2) % 3);
        boards.fabric.cut(node(victim));
        thread::sleep(Duration::from_millis(1_500));
        boards.fabric.heal(node(victim));
    });
}

#[test]
fn no_acknowledged_write_is_lost_when_all_boards_lose_power_at_once() {
    clash(3, |boards, office, _| {
        thread::sleep(Duration::from_millis(800));
        for board in 0..3 {
            office.close(board);
            boards.kill(board);
        }
        for board in 0..3 {
            boards.start(board);
            office.open(boards, board);
        }
        boards.await_leader();
    });
}

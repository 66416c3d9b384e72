use proptest::prelude::*;

use super::*;

const NEW: &str = "0.2.0";

fn board(number: u128) -> Board {
    Board {
        node: NodeId::from_random(number),
        name: format!("pi-{number}"),
        is_ready: true,
        is_voter: number <= 3,
        is_leader: number == 1,
        is_driver: false,
        is_drained_for_us: false,
        tasks: 2,
        system: Some(System {
            version: "0.1.0".to_owned(),
            slot: "a".to_owned(),
            staged: Some(NEW.to_owned()),
            ..System::default()
        }),
        since: Duration::ZERO,
    }
}

fn goal(boards: &[Board]) -> Goal {
    Goal { version: NEW.to_owned(), boards: boards.iter().map(|board| board.node).collect() }
}

fn at(boards: &mut [Board], node: NodeId) -> &mut Board {
    boards.iter_mut().find(|board| board.node == node).expect("a board")
}

fn system(board: &mut Board) -> &mut System {
    board.system.as_mut().expect("it answers")
}

#[test]
fn workers_first_and_the_leader_last() {
    let mut boards: Vec<Board> = (1..=4).map(board).collect();
    let mut order = Vec::new();
    for _ in 0..100 {
        let goal = goal(&boards);
        let decision = next_step(&goal, &boards);
        match decision.step {
            Step::Drain(node) => {
                let board = at(&mut boards, node);
                board.is_drained_for_us = true;
                board.tasks = 0;
            }
            Step::Try(node) => {
                let board = at(&mut boards, node);
                order.push(board.name.clone());
                *system(board) = System { version: NEW.to_owned(), ..System::default() };
            }
            Step::Activate(node) => at(&mut boards, node).is_drained_for_us = false,
            Step::Finished => break,
            other => panic!("{other:?}: {}", decision.reason),
        }
    }
    assert_eq!(order, ["pi-4", "pi-2", "pi-3", "pi-1"]);
}

#[test]
fn a_board_that_is_away_holds_everything_and_then_stops_it() {
    let mut boards: Vec<Board> = (1..=4).map(board).collect();
    boards[1].is_ready = false;
    let goal = goal(&boards);
    let decision = next_step(&goal, &boards);
    assert_eq!(decision.step, Step::Wait);
    assert_eq!(decision.reason, "pi-2 is away: no board is taken before it is back");
    boards[1].since = Duration::from_secs(1_000);
    assert_eq!(next_step(&goal, &boards).step, Step::Stopped);
}

#[test]
fn a_failed_board_is_activated_and_stops_the_roll_out_with_its_reason() {
    let mut boards: Vec<Board> = (1..=4).map(board).collect();
    boards[3].is_drained_for_us = true;
    let failed = system(&mut boards[3]);
    failed.staged = None;
    failed.failure = Some((NEW.to_owned(), "slot a came back".to_owned()));
    let goal = goal(&boards);
    assert_eq!(next_step(&goal, &boards).step, Step::Activate(boards[3].node));
    boards[3].is_drained_for_us = false;
    let decision = next_step(&goal, &boards);
    assert_eq!(decision.step, Step::Stopped);
    assert_eq!(decision.reason, "pi-4 did not keep 0.2.0: slot a came back");
    system(&mut boards[3]).staged = Some(NEW.to_owned());
    assert_eq!(next_step(&goal, &boards).step, Step::Drain(boards[3].node), "sent again");
}

#[test]
fn an_update_of_the_version_that_runs_is_told_by_its_slot() {
    let mut boards: Vec<Board> = (1..=4).map(board).collect();
    let goal = goal(&boards);
    let said = |boards: &[Board]| next_step(&goal, boards).reason;
    boards[3].is_drained_for_us = true;
    boards[3].tasks = 0;
    system(&mut boards[3]).version = NEW.to_owned();
    assert_eq!(said(&boards), "pi-4 reboots from slot a into 0.2.0");
    *system(&mut boards[3]) =
        System { version: NEW.to_owned(), slot: "b".to_owned(), ..System::default() };
    assert_eq!(said(&boards), "pi-4 runs 0.2.0 from slot b");
    let old = system(&mut boards[3]);
    old.slot = "a".to_owned();
    old.failure = Some((NEW.to_owned(), "it has no network".to_owned()));
    let told = "pi-4 is back in its old system, in slot a, and takes tasks again";
    assert_eq!(said(&boards), told);
    boards[3].is_drained_for_us = false;
    assert_eq!(said(&boards), "pi-4 did not keep 0.2.0: it has no network");
}

#[test]
fn a_board_without_the_update_is_not_taken() {
    let mut boards: Vec<Board> = (1..=4).map(board).collect();
    system(&mut boards[3]).staged = None;
    let decision = next_step(&goal(&boards), &boards);
    assert_eq!(decision.reason, "pi-4 does not hold 0.2.0: send it again");
}

#[test]
fn the_only_board_is_not_drained() {
    let boards = vec![board(1)];
    assert_eq!(next_step(&goal(&boards), &boards).step, Step::Try(boards[0].node));
}

#[test]
fn two_voters_are_no_quorum_without_one() {
    let mut boards: Vec<Board> = (1..=2).map(board).collect();
    boards[0].is_leader = false;
    let decision = next_step(&goal(&boards), &boards);
    assert_eq!(decision.step, Step::Stopped);
    assert!(decision.reason.contains("could not decide"), "{}", decision.reason);
}

/// What may happen between two looks.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Fail,
    Vanish(usize),
    Return,
    Lead(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Nothing),
        1 => Just(Event::Fail),
        1 => (0_usize..9).prop_map(Event::Vanish),
        3 => Just(Event::Return),
        1 => (0_usize..9).prop_map(Event::Lead),
    ]
}

/// A cluster whose boards do what they are told, or what happens to them.
struct Cluster {
    boards: Vec<Board>,
    rebooting: Option<usize>,
}

impl Cluster {
    fn happen(&mut self, event: Event) {
        let count = self.boards.len();
        match event {
            Event::Vanish(at) => self.boards[at % count].is_ready = false,
            Event::Return => self.boards.iter_mut().for_each(|board| board.is_ready = true),
            Event::Lead(at) => {
                let voters: Vec<_> = (0..count).filter(|at| self.boards[*at].is_voter).collect();
                let leader = voters[at % voters.len()];
                for (at, board) in self.boards.iter_mut().enumerate() {
                    board.is_leader = at == leader;
                }
            }
            Event::Nothing | Event::Fail => {}
        }
        for board in self.boards.iter_mut().filter(|board| board.is_drained_for_us) {
            board.tasks = board.tasks.saturating_sub(1);
        }
        if let Some(at) = self.rebooting.take() {
            let board = &mut self.boards[at];
            let is_failed = matches!(event, Event::Fail);
            let old = "0.1.0".to_owned();
            board.system = Some(match (&board.system, is_failed) {
                (None, false) => {
                    System { version: NEW.to_owned(), is_trial: true, ..System::default() }
                }
                (Some(system), false) => System { is_trial: false, ..system.clone() },
                (_, true) => System {
                    version: old,
                    failure: Some((NEW.to_owned(), "it hung".to_owned())),
                    ..System::default()
                },
            });
            if self.boards[at].system.as_ref().is_some_and(|system| system.is_trial) {
                self.rebooting = Some(at);
            }
        }
    }

    fn act(&mut self, step: &Step) {
        let find = |node: &NodeId| {
            self.boards.iter().position(|board| board.node == *node).expect("a board")
        };
        match step {
            Step::Drain(node) => {
                let at = find(node);
                self.boards[at].is_drained_for_us = true;
            }
            Step::Activate(node) => {
                let at = find(node);
                self.boards[at].is_drained_for_us = false;
            }
            Step::Try(node) => {
                let at = find(node);
                self.boards[at].system = None;
                self.rebooting = Some(at);
            }
            Step::Wait | Step::Finished | Step::Stopped => {}
        }
    }

    fn voters_there(&self) -> usize {
        self.boards.iter().filter(|board| board.is_voter && !is_away(board)).count()
    }
}

proptest! {
    #[test]
    fn one_at_a_time_with_a_quorum_until_done_or_stopped(
        count in 1_u128..9,
        events in prop::collection::vec(event(), 0..150),
    ) {
        let boards: Vec<Board> = (1..=count)
            .map(|number| Board { is_voter: number <= if count < 3 { 1 } else { 3 }, ..board(number) })
            .collect();
        let goal = goal(&boards);
        let mut cluster = Cluster { boards, rebooting: None };
        let quiet = std::iter::repeat_n(Event::Return, 200);
        let mut is_over = false;
        for event in events.into_iter().chain(quiet) {
            let decision = next_step(&goal, &cluster.boards);
            prop_assert!(!decision.reason.is_empty());
            if let Step::Drain(node) | Step::Try(node) = &decision.step {
                let others =
                    cluster.boards.iter().filter(|board| board.node != *node);
                prop_assert!(others.clone().all(|board| !is_under_way(board)), "one at a time");
                prop_assert!(others.clone().all(|board| !is_away(board)), "nobody else is away");
            }
            if let Step::Try(node) = &decision.step {
                let voters = cluster.boards.iter().filter(|board| board.is_voter).count();
                let taken = cluster.boards.iter().find(|board| board.node == *node);
                let taken = taken.is_some_and(|board| board.is_voter);
                prop_assert!(!taken || voters == 1 || cluster.voters_there() - 1 > voters / 2);
            }
            match decision.step {
                Step::Finished => {
                    prop_assert!(cluster.boards.iter().all(|board| is_done(&goal, board)));
                    prop_assert!(cluster.boards.iter().all(|board| !board.is_drained_for_us));
                    is_over = true;
                    break;
                }
                Step::Stopped => {
                    prop_assert!(cluster.boards.iter().all(|board| !is_under_way(board)));
                    is_over = true;
                    break;
                }
                step => cluster.act(&step),
            }
            cluster.happen(event);
        }
        prop_assert!(is_over, "it ends once nothing more happens");
    }
}

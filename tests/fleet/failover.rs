//! A board is lost, and its tasks run elsewhere.

use std::{process::Command, time::Instant};

use crate::lab::{Lab, promise};

const RUNS: usize = 10;

/// Cuts the board that `choose` names, ten times, and returns the worst recovery in seconds.
fn worst_recovery(choose: impl Fn(u8, u8) -> bool) -> f64 {
    let lab = Lab::with_whoami(3);
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--quiet",
            "--name",
            "web",
            "--replicas",
            "6",
            "--network",
            "host",
            "whoami",
        ],
    );
    let mut worst = 0.0_f64;
    for run in 0..RUNS {
        lab.wait_until_whole();
        lab.wait("six tasks on three boards", || {
            let boards = lab.running(1, "web");
            boards.len() == 6 && (1..=3).all(|board| boards.contains(&board))
        });
        let leader = lab.leader(1).expect("there is a leader");
        let victim = (1..=3).find(|board| choose(*board, leader)).expect("a board to cut");
        let witness = (1..=3).find(|board| *board != victim).expect("a board that stays");
        let cut = Instant::now();
        lab.cut(victim);
        lab.wait("six tasks run elsewhere", || {
            let boards = lab.running(witness, "web");
            boards.len() == 6 && !boards.contains(&victim)
        });
        let took = cut.elapsed().as_secs_f64();
        println!("run {run}: board {victim} cut, leader {leader}, six Running after {took:.2} s");
        worst = worst.max(took);
        lab.heal(victim);
    }
    worst
}

#[test]
fn replicas_of_a_lost_follower_run_elsewhere_within_two_seconds() {
    let worst = worst_recovery(|board, leader| board != leader);
    promise("follower's cable cut -> 6 Running elsewhere, worst of 10", worst, 2.0, "s");
}

#[test]
fn replicas_of_a_lost_leader_run_elsewhere_within_three_seconds() {
    let worst = worst_recovery(|board, leader| board == leader);
    promise("leader's cable cut -> 6 Running elsewhere, worst of 10", worst, 3.0, "s");
}

#[test]
fn a_failover_loses_no_acknowledged_write() {
    let lab = Lab::with_whoami(3);
    let leader = lab.leader(1).expect("there is a leader");
    let witness = (1..=3).find(|board| *board != leader).expect("a board that stays");
    let mut acknowledged = Vec::new();
    for number in 0..40 {
        if number == 15 {
            lab.kill(leader);
        }
        let name = format!("write{number}");
        let arguments = [
            "service",
            "create",
            "--detach",
            "--quiet",
            "--replicas",
            "0",
            "--network",
            "host",
            "--name",
            &name,
            "whoami",
        ];
        if lab.try_docker(witness, &arguments).status.success() {
            acknowledged.push(name);
        }
    }
    assert!(acknowledged.len() >= 20, "writes go on after the fail-over: {acknowledged:?}");
    lab.start(leader);
    lab.wait_until_whole();
    for board in 1..=3 {
        let services = lab.docker(board, &["service", "ls", "--format", "{{.Name}}"]);
        for name in &acknowledged {
            assert!(services.lines().any(|line| line == name), "board {board} lost {name}");
        }
    }
}

/// A board that runs three tasks.
fn busy_board() -> Lab {
    let lab = Lab::with_whoami(1);
    let create = ["service", "create", "--quiet", "--name", "web", "--replicas", "3"];
    lab.docker(1, &[&create[..], &["--network", "host", "whoami"]].concat());
    lab.wait("three tasks run", || lab.running(1, "web").len() == 3);
    lab
}

#[test]
fn a_crashed_daemon_finds_its_containers_again() {
    let lab = busy_board();
    let before = lab.container_processes(1);
    let daemon = lab.own_processes(1);
    for _ in 0..5 {
        lab.crash(1);
        lab.wait("another daemon answers", || {
            lab.own_processes(1) != daemon && lab.running(1, "web").len() == 3
        });
    }
    assert_eq!(lab.container_processes(1), before, "the very same containers");
}

#[test]
fn a_daemon_that_hangs_is_replaced_and_its_containers_run_on() {
    let lab = busy_board();
    let before = lab.container_processes(1);
    let own = lab.own_processes(1);
    let daemon = own.iter().find(|pid| **pid != lab.keeper(1)).expect("it runs").to_string();
    let stopped = Command::new("kill").args(["-STOP", &daemon]).status();
    assert!(stopped.expect("kill is installed").success());
    lab.wait("another daemon answers", || {
        lab.own_processes(1) != own && lab.running(1, "web").len() == 3
    });
    assert_eq!(lab.container_processes(1), before, "the very same containers");
}

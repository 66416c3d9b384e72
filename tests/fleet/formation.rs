//! Boards become one cluster with nothing typed.

use std::time::Instant;

use crate::lab::{Lab, promise};

#[test]
fn three_boards_become_one_cluster_with_nothing_typed() {
    let started = Instant::now();
    let lab = Lab::up(3);
    promise(
        "three processes started -> one cluster, three Ready",
        started.elapsed().as_secs_f64(),
        8.0,
        "s",
    );
    let nodes =
        lab.docker(2, &["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"]);
    let mut lines: Vec<&str> = nodes.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 3, "{nodes}");
    assert!(lines.iter().all(|line| line.contains("Ready")), "{nodes}");
    assert_eq!(nodes.matches("Leader").count(), 1, "{nodes}");
    assert_eq!(nodes.matches("Reachable").count(), 2, "three boards vote: {nodes}");
}

#[test]
fn five_boards_started_within_a_second_form_one_cluster_fifty_times_in_a_row() {
    let mut worst = 0.0_f64;
    for _ in 0..50 {
        let started = Instant::now();
        // `lab up` returns only when every board counts all five Ready.
        drop(Lab::up(5));
        worst = worst.max(started.elapsed().as_secs_f64());
    }
    println!("figure: five boards, up and down again, worst of 50: {worst:.1} s");
}

#[test]
fn a_board_that_lost_power_comes_back_as_the_same_member_with_its_data() {
    let lab = Lab::with_whoami(3);
    let before = lab.docker(1, &["node", "ls", "--format", "{{.ID}} {{.Hostname}}"]);
    lab.docker(
        1,
        &["service", "create", "--quiet", "--name", "kept", "--network", "host", "whoami"],
    );
    for board in 1..=3 {
        lab.kill(board);
    }
    for board in 1..=3 {
        lab.start(board);
    }
    lab.wait_until_whole();
    let after = lab.docker(1, &["node", "ls", "--format", "{{.ID}} {{.Hostname}}"]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&before), sorted(&after), "the same members");
    lab.wait("the service runs again", || lab.running(1, "kept").len() == 1);
}

#[test]
fn without_a_quorum_writes_fail_at_once_reads_say_how_old_they_are_and_tasks_run_on() {
    let lab = Lab::with_whoami(3);
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--quiet",
            "--name",
            "steady",
            "--replicas",
            "3",
            "--network",
            "host",
            "whoami",
        ],
    );
    lab.wait("three tasks run", || lab.running(1, "steady").len() == 3);
    let on_first = lab.container_processes(1);
    lab.cut(2);
    lab.cut(3);
    lab.wait("the first board has noticed", || {
        let output = lab.try_docker(1, &["service", "scale", "--detach", "steady=4"]);
        !output.status.success()
            && crate::lab::both(&output).contains("no quorum: 1 of 3 managers reachable")
    });
    let started = Instant::now();
    let output = lab.try_docker(1, &["service", "scale", "--detach", "steady=4"]);
    assert!(!output.status.success());
    promise("a write without a quorum fails", started.elapsed().as_secs_f64(), 2.0, "s");
    let services = lab.docker(1, &["service", "ls", "--format", "{{.Name}}"]);
    assert_eq!(services.trim(), "steady", "reads still answer");
    assert_eq!(lab.container_processes(1), on_first, "the tasks run on");
    lab.heal(2);
    lab.heal(3);
    lab.wait_until_whole();
    lab.docker(1, &["service", "scale", "--detach", "steady=4"]);
    lab.wait("writes work again", || lab.running(1, "steady").len() == 4);
}

//! Tasks are replaced, started in numbers, and changed.

use std::{process::Command, time::Instant};

use crate::lab::{Lab, promise};

#[test]
fn a_killed_container_is_replaced_within_a_third_of_a_second() {
    let lab = Lab::with_whoami(1);
    lab.docker(
        1,
        &["service", "create", "--quiet", "--name", "web", "--network", "host", "whoami"],
    );
    let mut worst = 0.0_f64;
    for _ in 0..5 {
        lab.wait("the task runs", || {
            lab.running(1, "web").len() == 1 && lab.container_processes(1).len() == 1
        });
        // A good run first, so that the next restart is a first one again.
        std::thread::sleep(std::time::Duration::from_secs(11));
        let before = lab.container_processes(1);
        let killed = Instant::now();
        kill(before[0], "KILL");
        lab.wait("its replacement runs", || {
            let now = lab.container_processes(1);
            now.len() == 1 && now != before && lab.running(1, "web").len() == 1
        });
        worst = worst.max(killed.elapsed().as_secs_f64());
    }
    promise("SIGKILL in a container -> its replacement Running, worst of 5", worst, 0.3, "s");
    let tasks = lab.docker(
        1,
        &["service", "ps", "web", "--format", "{{.CurrentState}} {{.Error}}", "--no-trunc"],
    );
    assert!(tasks.contains("non-zero exit (137)"), "the exit code is told: {tasks}");
}

#[test]
fn fifty_replicas_run_a_second_after_they_were_asked_for() {
    let lab = Lab::with_whoami(1);
    let asked = Instant::now();
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--detach",
            "--quiet",
            "--name",
            "many",
            "--replicas",
            "50",
            "--network",
            "host",
            "whoami",
        ],
    );
    lab.wait("fifty tasks run", || lab.running(1, "many").len() == 50);
    promise(
        "50 replicas on one board, image local: create -> all Running",
        asked.elapsed().as_secs_f64(),
        1.0,
        "s",
    );
    assert_eq!(
        lab.container_processes(1).len(),
        50,
        "one process a container, none of ours beside it"
    );
}

#[test]
fn fifty_replicas_are_updated_one_by_one_within_five_seconds() {
    let lab = Lab::with_whoami(1);
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--detach",
            "--quiet",
            "--name",
            "rolling",
            "--replicas",
            "50",
            "--network",
            "host",
            "--update-parallelism",
            "1",
            "--update-delay",
            "0s",
            "--update-monitor",
            "0s",
            "whoami",
        ],
    );
    lab.wait("fifty tasks run", || lab.running(1, "rolling").len() == 50);
    let asked = Instant::now();
    lab.docker(
        1,
        &["service", "update", "--detach", "--quiet", "--env-add", "CHANGED=1", "rolling"],
    );
    lab.wait("the update is complete", || {
        let service = lab.get(1, "/services/rolling").unwrap_or_default();
        service["UpdateStatus"]["State"] == "completed"
    });
    promise("rolling update of 50 replicas one by one", asked.elapsed().as_secs_f64(), 5.0, "s");
    assert_eq!(lab.running(1, "rolling").len(), 50);
    let environments = lab
        .container_processes(1)
        .into_iter()
        .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default());
    assert!(
        environments.into_iter().all(|environment| environment.contains("CHANGED=1")),
        "all are new"
    );
}

#[test]
fn a_failed_update_rolls_back_by_itself() {
    let lab = Lab::with_whoami(1);
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--quiet",
            "--name",
            "careful",
            "--replicas",
            "3",
            "--network",
            "host",
            "--update-failure-action",
            "rollback",
            "--update-monitor",
            "1s",
            "whoami",
        ],
    );
    lab.docker(
        1,
        &["service", "update", "--detach", "--quiet", "--args", "no-such-verb", "careful"],
    );
    lab.wait("the update is rolled back", || {
        let service = lab.get(1, "/services/careful").unwrap_or_default();
        service["UpdateStatus"]["State"] == "rollback_completed"
            && lab.running(1, "careful").len() == 3
    });
    let arguments = lab.docker(
        1,
        &["service", "inspect", "careful", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Args}}"],
    );
    assert_eq!(arguments.trim(), "[]");
}

#[test]
fn a_drained_board_becomes_empty_and_takes_tasks_again() {
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
    lab.docker(2, &["node", "update", "--availability", "drain", "board3"]);
    lab.wait("board 3 is empty", || {
        let boards = lab.running(1, "web");
        boards.len() == 6 && !boards.contains(&3) && lab.container_processes(3).is_empty()
    });
    lab.docker(2, &["node", "update", "--availability", "active", "board3"]);
    lab.wait("board 3 has tasks", || lab.running(1, "web").contains(&3));
}

#[test]
fn a_board_without_the_image_fetches_it_from_one_that_has_it() {
    let lab = Lab::with_whoami(2);
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--quiet",
            "--name",
            "far",
            "--network",
            "host",
            "--constraint",
            "node.hostname==board2",
            "whoami",
        ],
    );
    lab.wait("it runs on board 2", || lab.running(1, "far") == [2]);
    let images = lab.docker(2, &["images", "--format", "{{.Repository}}"]);
    assert!(images.contains("whoami"), "board 2 has it now: {images}");
}

fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(status.expect("kill starts").success());
}

//! The real `docker` client works against any board.

use crate::lab::{Lab, both};

#[test]
fn the_docker_client_manages_nodes_from_any_board() {
    let lab = Lab::with_whoami(3);
    let info = lab.docker(2, &["info"]);
    for words in ["Swarm: active", "Managers: 3", "Nodes: 3", "Is Manager: true"] {
        assert!(info.contains(words), "docker info should say `{words}`:\n{info}");
    }
    assert!(lab.docker(1, &["version"]).contains("Bramble"));
    for board in 1..=3 {
        let own = lab
            .docker(board, &["node", "inspect", "self", "--format", "{{.Description.Hostname}}"]);
        assert_eq!(own.trim(), format!("board{board}"));
    }
    lab.docker(3, &["node", "update", "--label-add", "room=kitchen", "board1"]);
    let labels = lab.docker(2, &["node", "inspect", "board1", "--format", "{{.Spec.Labels}}"]);
    assert_eq!(labels.trim(), "map[room:kitchen]");
    lab.docker(1, &["node", "demote", "board3"]);
    lab.wait("board 3 is a worker", || {
        let nodes = lab.docker(1, &["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"]);
        nodes.lines().any(|line| line.trim() == "board3")
    });
    assert_eq!(
        lab.docker(3, &["service", "ls", "--quiet"]).trim(),
        "",
        "a worker's API answers too"
    );
    lab.docker(3, &["node", "promote", "board3"]);
    lab.wait("board 3 is a manager", || {
        let nodes = lab.docker(1, &["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"]);
        nodes.contains("board3 Reachable")
    });
    lab.docker(1, &["node", "ps", "self"]);
}

#[test]
fn the_docker_client_manages_services_from_any_board() {
    let lab = Lab::with_whoami(3);
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--name",
            "web",
            "--replicas",
            "2",
            "--network",
            "host",
            "--env",
            "A=1",
            "whoami",
        ],
    );
    let listed = lab
        .docker(3, &["service", "ls", "--format", "{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}"]);
    assert!(listed.starts_with("web replicated 2/2 whoami"), "{listed}");
    lab.docker(2, &["service", "scale", "web=4"]);
    assert_eq!(lab.running(3, "web").len(), 4);
    lab.docker(
        3,
        &[
            "service",
            "update",
            "--env-add",
            "B=2",
            "--update-parallelism",
            "2",
            "--update-monitor",
            "0s",
            "web",
        ],
    );
    let environment = "{{.Spec.TaskTemplate.ContainerSpec.Env}}";
    // Docker's own client shuffles the list.
    let both = lab.docker(1, &["service", "inspect", "web", "--format", environment]);
    assert!(["[A=1 B=2]", "[B=2 A=1]"].contains(&both.trim()), "{both}");
    lab.docker(2, &["service", "rollback", "web"]);
    assert_eq!(
        lab.docker(1, &["service", "inspect", "web", "--format", environment]).trim(),
        "[A=1]"
    );
    let logs = lab.docker(2, &["service", "logs", "web"]);
    assert!(logs.contains("listening at 0.0.0.0:8000"), "{logs}");
    let tasks = lab.docker(
        1,
        &[
            "service",
            "ps",
            "web",
            "--filter",
            "desired-state=running",
            "--format",
            "{{.Name}} {{.CurrentState}}",
        ],
    );
    assert_eq!(tasks.lines().count(), 4, "{tasks}");
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--name",
            "everywhere",
            "--mode",
            "global",
            "--network",
            "host",
            "whoami",
        ],
    );
    assert_eq!(lab.running(2, "everywhere").len(), 3);
    lab.docker(3, &["service", "rm", "web", "everywhere"]);
    lab.wait("nothing runs", || (1..=3).all(|board| lab.container_processes(board).is_empty()));
    assert_eq!(lab.docker(1, &["service", "ls", "--quiet"]).trim(), "");
}

#[test]
fn join_tokens_are_shown_and_rotated_and_a_board_can_leave() {
    let lab = Lab::up(3);
    let token = lab.docker(1, &["swarm", "join-token", "--quiet", "worker"]);
    assert!(token.starts_with("BRMTKN-1-"), "{token}");
    assert_eq!(lab.docker(2, &["swarm", "join-token", "--quiet", "worker"]), token);
    let rotated = lab.docker(3, &["swarm", "join-token", "--quiet", "--rotate", "worker"]);
    assert_ne!(rotated, token);
    let refused = lab.try_docker(2, &["swarm", "leave"]);
    assert!(!refused.status.success() && both(&refused).contains("--force"), "{}", both(&refused));
    lab.docker(2, &["swarm", "leave", "--force"]);
    lab.wait("board 2 is no member any more", || {
        let nodes = lab.docker(1, &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]);
        !nodes.contains("board2 Ready")
    });
}

//! Bad input gets a clear error and changes nothing.

use std::fs;

use crate::lab::{Lab, both};

/// Runs the client, which must fail and say all of `words`.
fn refused(lab: &Lab, arguments: &[&str], words: &[&str]) {
    let output = lab.try_docker(1, arguments);
    let said = both(&output);
    assert!(!output.status.success(), "docker {arguments:?} should fail: {said}");
    for word in words {
        assert!(said.contains(word), "docker {arguments:?} should say `{word}`: {said}");
    }
}

#[test]
fn bad_services_are_refused_and_change_nothing() {
    let lab = Lab::with_whoami(1);
    let create = ["service", "create", "--detach", "--name"];
    let with = |rest: &[&'static str]| [&create[..], rest].concat();
    lab.docker(1, &with(&["taken", "--network", "host", "whoami"]));
    refused(&lab, &with(&["other", "no-such-image"]), &["no-such-image"]);
    refused(&lab, &with(&["taken", "whoami"]), &["taken"]);
    refused(&lab, &with(&["bad name!", "whoami"]), &["bad name!"]);
    refused(&lab, &with(&["port", "--publish", "99999:80", "whoami"]), &["99999"]);
    refused(
        &lab,
        &with(&["where", "--constraint", "node.colour==red", "whoami"]),
        &["node.colour"],
    );
    refused(&lab, &with(&["much", "--replicas", "100000", "whoami"]), &["100000", "1000"]);
    refused(&lab, &["service", "scale", "--detach", "nobody=3"], &["nobody"]);
    refused(&lab, &["node", "inspect", "nobody"], &["nobody"]);
    refused(&lab, &["node", "rm", "board1"], &["board1"]);
    let services = lab.docker(1, &["service", "ls", "--format", "{{.Name}}"]);
    assert_eq!(services.trim(), "taken");
}

#[test]
fn a_task_that_fits_nowhere_stays_pending_and_says_why_in_one_line() {
    let lab = Lab::with_whoami(2);
    lab.docker(
        1,
        &[
            "service",
            "create",
            "--detach",
            "--name",
            "picky",
            "--network",
            "host",
            "--constraint",
            "node.labels.room==kitchen",
            "whoami",
        ],
    );
    let mut said = String::new();
    lab.wait("the reason is told", || {
        said = lab.docker(
            1,
            &["service", "ps", "picky", "--no-trunc", "--format", "{{.CurrentState}}|{{.Error}}"],
        );
        said.contains("Pending") && said.contains("kitchen")
    });
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    // As soon as a board satisfies it, it runs.
    lab.docker(1, &["node", "update", "--label-add", "room=kitchen", "board2"]);
    lab.wait("it runs in the kitchen", || lab.running(1, "picky") == [2]);
}

#[test]
fn a_malformed_archive_is_refused_and_leaves_nothing() {
    let lab = Lab::up(1);
    let path = lab.folder().join("bad.tar");
    for content in [
        &b""[..],
        b"this is no archive",
        &[0; 4096],
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3],
    ] {
        fs::write(&path, content).expect("the file is written");
        let output = lab.try_bramble(&["image", "load", path.to_str().expect("a path")]);
        assert!(!output.status.success(), "{content:?}: {}", both(&output));
        assert!(!output.stderr.is_empty(), "it says why");
    }
    assert_eq!(lab.docker(1, &["images", "--quiet"]).trim(), "");
}

#[test]
fn a_bad_configuration_is_named_and_the_daemon_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("bramble.toml");
    for (text, word) in
        [("[cluster]\nkeey = 1\n", "keey"), ("[cluster]\nkey = \"abc\"\n", "64 hexadecimal digits")]
    {
        fs::write(&config, text).expect("the file is written");
        let output = std::process::Command::new(crate::lab::binary())
            .args(["daemon", "--config"])
            .arg(&config)
            .args(["--data-dir", "/nonexistent/data", "--run-dir"])
            .arg(folder.path())
            .output()
            .expect("bramble starts");
        let said = both(&output);
        assert!(!output.status.success() && said.contains(word), "{said}");
        assert!(said.contains("bramble.toml"), "the file is named: {said}");
    }
}

#[test]
fn a_copied_card_is_reported_and_harms_nobody() {
    let lab = Lab::with_whoami(3);
    lab.docker(
        1,
        &["service", "create", "--quiet", "--name", "web", "--network", "host", "whoami"],
    );
    lab.kill(3);
    let identity = |board: u8| lab.folder().join(board.to_string()).join("data/peering");
    for entry in fs::read_dir(identity(2)).expect("board 2 has an identity").flatten() {
        fs::copy(entry.path(), identity(3).join(entry.file_name())).expect("the card is copied");
    }
    lab.start(3);
    lab.wait("the copy is reported", || {
        [2, 3].iter().any(|board| {
            let log = fs::read_to_string(lab.folder().join(board.to_string()).join("log"));
            log.unwrap_or_default().contains("has the same identity as this one")
        })
    });
    lab.kill(3);
    lab.wait("the cluster goes on without the copy", || {
        let nodes = lab.docker(1, &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]);
        nodes.contains("board1 Ready") && nodes.contains("board2 Ready")
    });
    lab.docker(1, &["service", "scale", "--detach", "web=2"]);
    lab.wait("services run", || lab.running(1, "web").len() == 2);
}

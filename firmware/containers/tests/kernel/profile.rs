//! What a container may do, and what it sees.

use std::{fs, time::Duration};

use bramble_cluster::{ContainerSpec, Labels, Mount, MountKind, Ulimit};
use bramble_containers::{ContainerRequest, CreateError, ExecIo, ExecRequest};

use crate::board::{Board, exec, output};

/// Changes a request's container.
fn with(
    mut request: ContainerRequest,
    change: impl FnOnce(&mut ContainerSpec),
) -> ContainerRequest {
    let mut spec = (*request.task.spec).clone();
    change(&mut spec.container);
    request.task.spec = spec.into();
    request
}

fn text(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn the_default_profile_is_in_force() {
    let board = Board::start();
    let keeper = board.connect().await;
    let line = "grep -E '^(Cap|NoNewPrivs|Seccomp:|SigBlk)' /proc/self/status; \
        unshare -U true; mount -t tmpfs none /tmp; echo x > /proc/sys/kernel/hostname; \
        ls /proc/self/fd; cat /proc/acpi/* /sys/firmware/* 2>&1 | wc -c; umask; ls -l /dev";
    let (_, log) = output(&keeper, board.shell(1, line)).await;
    // Docker's own set.
    for line in ["CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "NoNewPrivs:\t1"] {
        assert!(log.contains(line), "{line} in {log}");
    }
    assert!(log.contains("Seccomp:\t2") && log.contains("SigBlk:\t0000000000000000"), "{log}");
    assert!(log.contains("unshare: unshare(0x10000000): Operation not permitted"), "{log}");
    assert!(log.contains("mount: permission denied"), "{log}");
    assert!(log.contains("Read-only file system"), "{log}");
    assert!(log.contains("0022\n"), "{log}");
    // Standard streams, and what `ls` opens itself: nothing of the keeper or the helper.
    assert!(log.contains("0\n1\n2\n3\n") && !log.contains("3\n4\n"), "{log}");
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        assert!(log.contains(&format!(" {device}\n")), "{device} in {log}");
    }
}

#[tokio::test]
async fn seccomp_refuses_what_the_kernel_would_allow() {
    let board = Board::start();
    let keeper = board.connect().await;
    let request = board.shell(1, "sleep 1000");
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    keeper.start(id).await.unwrap();
    // A user namespace needs no capability: only the filter stands between.
    let (code, _) = exec(&keeper, id, "unshare -U true").await;
    assert_ne!(code, 0);
    let request = ExecRequest {
        command: text(&["unshare", "-U", "true"]),
        is_privileged: true,
        ..ExecRequest::default()
    };
    let running = keeper.exec(id, request, ExecIo::null().unwrap()).await.unwrap();
    assert_eq!(running.wait().await.unwrap(), 0);
}

#[tokio::test]
async fn capabilities_are_added_and_dropped() {
    let board = Board::start();
    let keeper = board.connect().await;
    let line = "grep CapEff /proc/self/status; chown 5 /tmp && echo changed";
    let dropped = with(board.shell(1, line), |spec| spec.capabilities_dropped = text(&["ALL"]));
    let (_, log) = output(&keeper, dropped).await;
    assert!(log.contains("CapEff:\t0000000000000000") && !log.contains("changed"), "{log}");
    let line = "mount -t tmpfs none /tmp && echo mounted";
    let added = with(board.shell(2, line), |spec| spec.capabilities_added = text(&["SYS_ADMIN"]));
    assert_eq!(output(&keeper, added).await.1, "mounted\n");
}

#[tokio::test]
async fn devices_that_are_not_a_containers_are_refused() {
    let board = Board::start();
    let keeper = board.connect().await;
    let line = "mknod /tmp/kmsg c 1 11 && echo made; head -c1 /tmp/kmsg; rm /tmp/kmsg; \
        head -c4 /dev/zero | wc -c; echo > /dev/null && echo null";
    let (_, log) = output(&keeper, board.shell(1, line)).await;
    assert!(log.contains("made\n") && log.contains("Operation not permitted"), "{log}");
    assert!(log.contains("4\n") && log.contains("null\n"), "{log}");
}

#[tokio::test]
async fn users_are_found_by_name_and_number() {
    let board = Board::start();
    let keeper = board.connect().await;
    let line = "id; echo $HOME; pwd; grep CapEff /proc/self/status";
    let named = with(board.shell(1, line), |spec| {
        spec.user = "web".to_owned();
        spec.directory = "/data".to_owned();
    });
    let (_, log) = output(&keeper, named).await;
    assert!(log.contains("uid=33(web) gid=34(web) groups=29(audio)"), "{log}");
    assert!(log.contains("/data\n/data\n"), "{log}");
    assert!(log.contains("CapEff:\t0000000000000000"), "{log}");
    let numbered = with(board.shell(2, "id"), |spec| {
        spec.user = "4711:12".to_owned();
        spec.groups = text(&["audio"]);
    });
    assert!(output(&keeper, numbered).await.1.contains("uid=4711 gid=12 groups=29(audio)"));
    let ghost = with(board.shell(3, "id"), |spec| spec.user = "ghost".to_owned());
    let error = keeper.create(ghost).await.unwrap_err();
    assert!(matches!(&error, CreateError::Invalid(invalid) if invalid.field == "user"), "{error}");
}

#[tokio::test]
async fn environment_names_and_hosts_are_what_was_asked_for() {
    let board = Board::start();
    let keeper = board.connect().await;
    let line = "env; hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf; df /dev/shm";
    let request = with(board.shell(1, line), |spec| {
        spec.environment = text(&["SLOT={{.Task.Slot}}", "NODE={{.Node.Hostname}}", "A=b=c"]);
        spec.hostname = "web-{{.Task.Slot}}".to_owned();
        spec.hosts = text(&["10.1.2.3 db database"]);
        spec.dns_servers = text(&["9.9.9.9"]);
        spec.dns_search = text(&["home.arpa"]);
    });
    let (_, log) = output(&keeper, request).await;
    for line in [
        "SLOT=3\n",
        "NODE=testboard\n",
        "A=b=c\n",
        "HOSTNAME=web-3\n",
        "HOME=/root\n",
        "PATH=/usr/local/sbin:",
        "\nweb-3\n",
        "10.1.2.3\tdb database\n",
        "127.0.1.1\tweb-3\n",
        "nameserver 9.9.9.9\n",
        "search home.arpa\n",
        " 65536 ",
    ] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
    let plain = output(&keeper, board.shell(2, "hostname")).await.1;
    assert_eq!(plain.trim().len(), 12, "the beginning of the task's id: {plain}");
}

#[tokio::test]
async fn a_read_only_container_writes_only_where_it_may() {
    let board = Board::start();
    let keeper = board.connect().await;
    let line = "touch /etc/x; touch /tmp/x && echo tmpfs; df /tmp | tail -1; stat -c %a /tmp; \
        touch /data/x && echo volume; cat /data/of-image; touch /outside/x; cat /outside/file; \
        mknod /data/null c 1 3; echo > /data/null; grep ' /data ' /proc/mounts";
    let outside = board.rootfs().with_file_name("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "from outside\n").unwrap();
    let mount =
        |kind, target: &str, is_read_only| Mount { kind, target: target.to_owned(), is_read_only };
    let volume = MountKind::Volume {
        name: "data-{{.Task.Slot}}".to_owned(),
        labels: Labels::new(),
        is_not_filled: false,
    };
    let source = outside.to_str().unwrap().to_owned();
    let mounts = vec![
        mount(MountKind::Tmpfs { size_bytes: 65_536, mode: 0o700 }, "/tmp", false),
        mount(volume, "/data", false),
        mount(MountKind::Bind { source }, "/outside", true),
    ];
    let request = with(board.shell(1, line), |spec| {
        spec.is_read_only = true;
        spec.mounts.clone_from(&mounts);
    });
    let id = request.task.id;
    let (_, log) = output(&keeper, request).await;
    assert!(log.contains("touch: /etc/x: Read-only file system"), "{log}");
    assert!(log.contains("tmpfs\n") && log.contains(" 64 ") && log.contains("700\n"), "{log}");
    assert!(log.contains("volume\nfrom the image\n"), "{log}");
    assert!(log.contains("touch: /outside/x: Read-only") && log.contains("from outside"), "{log}");
    assert!(log.contains("nodev") && log.contains("/data/null: Permission denied"), "{log}");
    keeper.remove(id).await.unwrap();
    let again = with(board.shell(2, "ls /data"), |spec| spec.mounts = vec![mounts[1].clone()]);
    assert!(output(&keeper, again).await.1.contains("x\n"), "the volume outlives its container");
}

#[tokio::test]
async fn a_container_has_the_limits_that_were_asked_for() {
    let board = Board::start();
    let keeper = board.connect().await;
    let request =
        with(board.shell(1, "ulimit -n; ulimit -Hc; cat /proc/self/oom_score_adj"), |spec| {
            let ulimit = |name: &str, soft, hard| Ulimit { name: name.to_owned(), soft, hard };
            spec.ulimits = vec![ulimit("nofile", 77, 99), ulimit("core", 0, 0)];
            spec.oom_score_adjustment = 500;
        });
    assert_eq!(output(&keeper, request).await.1, "77\n0\n500\n");
    let sysctl = |name: &str, value: &str| Labels::from([(name.to_owned(), value.to_owned())]);
    let request = with(board.shell(2, "cat /proc/sys/kernel/msgmax"), |spec| {
        spec.sysctls = sysctl("kernel.msgmax", "12345");
    });
    assert_eq!(output(&keeper, request).await.1, "12345\n");
    let request = with(board.shell(3, ""), |spec| spec.sysctls = sysctl("vm.swappiness", "1"));
    let error = keeper.create(request).await.unwrap_err().to_string();
    assert!(error.starts_with("sysctls.vm.swappiness: belongs to the board"), "{error}");
}

#[tokio::test]
async fn stop_signal_and_grace_period_are_kept() {
    let board = Board::start();
    let keeper = board.connect().await;
    let polite = "trap 'echo stopping; exit 5' USR1; echo ready; while true; do usleep 5000; done";
    let stubborn = "trap '' USR1; echo ready; while true; do usleep 5000; done";
    for (number, line, code, grace, at_least) in
        [(1, polite, 5, 20_000, 0), (2, stubborn, 137, 300, 280)]
    {
        let request = with(board.shell(number, line), |spec| {
            spec.stop_signal = "SIGUSR1".to_owned();
            spec.stop_grace_period = Some(Duration::from_millis(grace));
        });
        let id = request.task.id;
        keeper.create(request).await.unwrap();
        keeper.start(id).await.unwrap();
        while crate::board::log(&keeper, id).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let begin = std::time::Instant::now();
        keeper.stop(id, None).await.unwrap();
        assert_eq!(crate::board::ended(&keeper, id).await.code, code);
        let took = begin.elapsed().as_millis();
        assert!((at_least..8_000).contains(&took), "{took} ms");
    }
}

#[tokio::test]
async fn an_exec_has_user_directory_environment_and_input_of_its_own() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let board = Board::start();
    let keeper = board.connect().await;
    let request = with(board.shell(1, "sleep 1000"), |spec| {
        spec.environment = text(&["A=container", "B=container"]);
    });
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    keeper.start(id).await.unwrap();
    let (io, mut input, mut output, mut error) = ExecIo::piped().unwrap();
    let request = ExecRequest {
        command: text(&["/bin/sh", "-c", "id -u; pwd; echo $A $B; cat; echo oops >&2"]),
        environment: text(&["A=exec"]),
        directory: "/data".to_owned(),
        user: "web".to_owned(),
        ..ExecRequest::default()
    };
    let running = keeper.exec(id, request, io).await.unwrap();
    input.write_all(b"through the pipe\n").await.unwrap();
    drop(input);
    let (mut out, mut err) = (String::new(), String::new());
    output.read_to_string(&mut out).await.unwrap();
    error.read_to_string(&mut err).await.unwrap();
    assert_eq!(out, "33\n/data\nexec container\nthrough the pipe\n");
    assert_eq!(err, "oops\n");
    assert_eq!(running.wait().await.unwrap(), 0);
    let missing = ExecRequest { command: text(&["nothing"]), ..ExecRequest::default() };
    let error = keeper.exec(id, missing, ExecIo::null().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("executable file not found in $PATH"), "{error}");
    keeper.remove(id).await.unwrap();
    board.assert_clean().await;
}

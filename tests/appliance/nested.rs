//! A daemon in a container. Services are never privileged: system calls that begin a container are
//! kept from one, so that what it runs inside comes no further than to its cgroup. That is what
//! the kernel refuses where nobody makes room for it.

use crate::{
    facts::ask_with,
    machine::{BOOT, Machine},
    observer::Observer,
    one_board::FOUNDING,
    segment::Segment,
};

/// The binary, a folder for its data, and capabilities, among them to let itself make cgroups.
const CAPABLE: [&str; 10] = [
    "--mount",
    "type=bind,source=/init,target=/bramble",
    "--mount",
    "type=volume,source=inner,target=/data",
    "--cap-add",
    "SYS_ADMIN",
    "--cap-add",
    "NET_ADMIN",
    "--cap-add",
    "SYS_RESOURCE",
];
/// What runs there. The daemon has a loopback of its own board's, and another port.
const LINE: &str = r#"
mount -o remount,bind,rw /sys/fs/cgroup
key=$(head -c 32 /dev/urandom | od -A n -v -t x1 | tr -d ' \n')
cat > /tmp/settings <<END
[board]
hostname = "inner"
interfaces = ["lo"]
listen = "127.0.0.1:7999"
[cluster]
key = "$key"
END
/bramble daemon --config /tmp/settings --data-dir /data --run-dir /tmp/run > /tmp/log 2>&1 &
export DOCKER_HOST=unix:///tmp/run/bramble.sock
for second in $(seq 60); do /bramble node ls | grep -q Leader && break; sleep 1; done
/bramble image whoami --output /tmp/whoami.tar
/bramble image load /tmp/whoami.tar
/bramble service create --detach --quiet --network host --limit-memory 32m --name web whoami
for second in $(seq 30); do /bramble service ps --no-trunc web | grep -q Failed && break; sleep 1; done
echo controllers: $(cat /sys/fs/cgroup/cgroup.subtree_control)
echo processes: $(cat /sys/fs/cgroup/cgroup.procs)
tail -n 5 /tmp/log
"#;

#[test]
fn a_daemon_in_a_container_makes_room_for_the_cgroups_of_its_own() {
    let segment = Segment::new();
    let mut board = Machine::new(&segment, 1);
    board.boot().wait_for(FOUNDING, BOOT);
    let observer = Observer::join(&segment, 1);
    observer.load_busybox();
    let node = observer.machine_at(&board.address());
    let facts = ask_with(&observer, &node, &CAPABLE, LINE);
    let line = |start: &str| facts.lines().find_map(|line| line.strip_prefix(start));
    let controllers = line("controllers:").unwrap_or_default();
    assert!(["cpu", "memory", "pids"].iter().all(|name| controllers.contains(name)), "{facts}");
    assert_eq!(line("processes:").map(str::trim), Some(""), "all have moved: {facts}");
    // Its first container got behind its cgroup: what is said of it is not about that.
    let error = facts.lines().find(|line| line.contains("could not be started"));
    assert!(error.is_some_and(|line| line.contains("exec process")), "{facts}");
}

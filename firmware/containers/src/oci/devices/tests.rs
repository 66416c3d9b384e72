use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::*;

/// The unified hierarchy, wherever this machine has it.
fn unified() -> PathBuf {
    let hybrid = PathBuf::from("/sys/fs/cgroup/unified");
    if hybrid.is_dir() { hybrid } else { PathBuf::from("/sys/fs/cgroup") }
}

#[test]
fn the_kernel_asks_the_program_at_each_access() {
    assert!(nix::unistd::geteuid().is_root(), "this test makes a cgroup and must run as root");
    let cgroup = unified().join(format!("bramble-test-devices-{}", std::process::id()));
    fs::create_dir(&cgroup).unwrap();
    attach_at(&cgroup).unwrap();
    let folder = tempfile::tempdir_in("/dev").unwrap();
    let node = folder.path().join("kmsg");
    let line = format!(
        "echo $$ > {cgroup}/cgroup.procs && mknod {node} c 1 11 && echo made && \
         head -c1 /dev/zero | wc -c && echo > /dev/null && echo null; \
         dd if={node} count=1 2>&1 | grep -c 'not permitted'; \
         [ -c /dev/ptmx ] && : < /dev/ptmx && echo ptmx",
        cgroup = cgroup.display(),
        node = node.display(),
    );
    let child = Command::new("sh").arg("-c").arg(line).stdout(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    let was_made = node.metadata().is_ok_and(|node| node.file_type().is_char_device());
    fs::remove_dir(&cgroup).unwrap();
    assert!(was_made);
    assert_eq!(said, "made\n1\nnull\n1\nptmx\n");
}

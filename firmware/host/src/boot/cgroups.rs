//! Controllers for the containers' cgroups.

use std::fs;

use super::Findings;
use crate::Places;

/// Without one of these a limit of a service would silently not hold.
const NEEDED: &[&str] = &["cpu", "memory", "pids"];

/// Hands every controller that the kernel has to the cgroups below the root.
pub(super) fn enable_controllers(places: &Places, findings: &mut Findings) {
    let root = places.sources.sys.join("fs/cgroup");
    let offered = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let mut enabled = Vec::new();
    for controller in offered.split_ascii_whitespace() {
        // One at a time: a list is refused whole for a single member of it.
        match fs::write(root.join("cgroup.subtree_control"), format!("+{controller}")) {
            Ok(()) => enabled.push(controller),
            Err(error) => {
                findings.problem(format!("the cgroup controller {controller} stays off: {error}"));
            }
        }
    }
    let missing: Vec<&str> =
        NEEDED.iter().copied().filter(|name| !enabled.contains(name)).collect();
    if !missing.is_empty() {
        findings.problem(format!(
            "this kernel cannot limit {} of containers; some kernels need cgroup_enable=memory \
             in cmdline.txt",
            missing.join(", ")
        ));
    }
    findings.note(enabled.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sources;

    #[test]
    fn a_missing_memory_controller_is_a_problem() {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir_all(sys.path().join("fs/cgroup")).unwrap();
        fs::write(sys.path().join("fs/cgroup/cgroup.controllers"), "cpu io pids\n").unwrap();
        let sources = Sources { sys: sys.path().to_owned(), ..Sources::default() };
        let mut findings = Findings::default();
        enable_controllers(&Places { sources, ..Places::default() }, &mut findings);
        assert_eq!(findings.note.as_deref(), Some("cpu io pids"));
        assert!(findings.problems[0].contains("cannot limit memory"), "{:?}", findings.problems);
    }
}

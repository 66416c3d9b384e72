//! Cgroups from the keeper's side: what is in them, whether memory ran out, their removal.
//!
//! libcontainer makes them and puts processes in. The keeper looks and removes, without waiting.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        statfs::{CGROUP2_SUPER_MAGIC, statfs},
    },
    unistd::Pid,
};

/// Where the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Where processes go that must leave a root.
const LEAF: &str = "init";
/// Hierarchies that are looked for in `mountinfo` at most.
const HIERARCHIES: usize = 32;
/// Cgroups inside each other that a container may have made, at most this deep.
const DEPTH: usize = 64;

/// Whether this board has one unified (v2) hierarchy; else it has v1 hierarchies.
pub(crate) fn is_unified() -> bool {
    statfs(ROOT).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Makes room for the containers' cgroups, which are below `parent`.
pub(crate) fn make_room(parent: &Path) -> io::Result<()> {
    if is_unified() { make_room_in(Path::new(ROOT), parent) } else { Ok(()) }
}

/// The parent is there before any container: of two that start at once, and find that it is not,
/// libcontainer lets the one fail that makes it second.
fn make_room_in(root: &Path, parent: &Path) -> io::Result<()> {
    fs::create_dir_all(below(root, parent))?;
    vacate(root)
}

/// Empties the root of a hierarchy that is not the system's own, as in a container: the kernel lets
/// such a cgroup have processes, or controllers for those below it, and not both (cgroups(7), "no
/// internal processes"). Whoever is there moves below.
fn vacate(root: &Path) -> io::Result<()> {
    // Every cgroup has this file but the system's own root, for which there is no such rule.
    if !root.join("cgroup.type").exists() {
        return Ok(());
    }
    let leaf = root.join(LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    for process in fs::read_to_string(root.join("cgroup.procs"))?.lines() {
        match fs::write(leaf.join("cgroup.procs"), process) {
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => {}
            moved => moved?,
        }
    }
    Ok(())
}

/// All hierarchies of this board.
#[derive(Debug, Clone)]
pub(crate) struct Hierarchies {
    mounts: Vec<PathBuf>,
}

impl Hierarchies {
    /// Finds what is mounted.
    pub(crate) fn find() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/self/mountinfo")?;
        let mounts = text.lines().filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let kind = after.split(' ').next()?;
            let path = before.split(' ').nth(4)?;
            let is_cgroup = matches!(kind, "cgroup" | "cgroup2") && path.starts_with(ROOT);
            is_cgroup.then(|| PathBuf::from(path))
        });
        Ok(Self { mounts: mounts.take(HIERARCHIES).collect() })
    }

    /// How many processes of a cgroup the kernel killed for want of memory.
    pub(crate) fn memory_kills(&self, cgroup: &Path) -> u64 {
        let count = |file: PathBuf| {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
            line.trim().parse::<u64>().ok()
        };
        self.mounts
            .iter()
            .map(|mount| below(mount, cgroup))
            .find_map(|path| {
                count(path.join("memory.events")).or_else(|| count(path.join("memory.oom_control")))
            })
            .unwrap_or(0)
    }

    /// Kills every process in a cgroup and below; says whether there were any.
    pub(crate) fn kill_all(&self, cgroup: &Path) -> bool {
        let mut found = false;
        for mount in &self.mounts {
            visit(&below(mount, cgroup), DEPTH, &mut |path| {
                let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
                for pid in text.lines().filter_map(|line| line.parse::<i32>().ok()) {
                    // 0 is a process of another pid namespace: signalling it would hit us.
                    if pid > 0 {
                        found = true;
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                }
            });
        }
        found
    }

    /// Removes a cgroup and what is below it from every hierarchy; says whether all are gone. A
    /// cgroup whose last process ended a moment ago may need another try.
    pub(crate) fn remove(&self, cgroup: &Path) -> bool {
        let mut is_gone = true;
        for mount in &self.mounts {
            let path = below(mount, cgroup);
            match fs::remove_dir(&path) {
                Ok(()) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => {}
            }
            visit(&path, DEPTH, &mut |path| drop(fs::remove_dir(path)));
            is_gone &= !path.exists();
        }
        is_gone
    }

    /// The cgroups right below one, by their names.
    pub(crate) fn children(&self, cgroup: &Path) -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> = self
            .mounts
            .iter()
            .filter_map(|mount| fs::read_dir(below(mount, cgroup)).ok())
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| cgroup.join(entry.file_name()))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// A cgroup's folder in a hierarchy. The cgroup is absolute within it.
fn below(mount: &Path, cgroup: &Path) -> PathBuf {
    mount.join(cgroup.strip_prefix("/").unwrap_or(cgroup))
}

/// Calls `with` for every folder below `path`, then for itself.
fn visit(path: &Path, depth: usize, with: &mut impl FnMut(&Path)) {
    if depth == 0 {
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), depth - 1, with);
        }
    }
    with(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(file: &str, text: &str) -> (tempfile::TempDir, Hierarchies) {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir_all(mount.path().join("bramble/one")).unwrap();
        fs::write(mount.path().join("bramble/one").join(file), text).unwrap();
        let hierarchies = Hierarchies { mounts: vec!["/nowhere".into(), mount.path().into()] };
        (mount, hierarchies)
    }

    #[test]
    fn memory_kills_are_counted_in_both_worlds() {
        let unified = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 0\n";
        let (_mount, hierarchies) = hierarchy("memory.events", unified);
        assert_eq!(hierarchies.memory_kills(Path::new("/bramble/one")), 3);
        let legacy = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n";
        let (_mount, hierarchies) = hierarchy("memory.oom_control", legacy);
        assert_eq!(hierarchies.memory_kills(Path::new("/bramble/one")), 4);
        assert_eq!(hierarchies.memory_kills(Path::new("/bramble/two")), 0);
    }

    #[test]
    fn two_containers_that_start_at_once_both_find_their_cgroups_parent() {
        let root = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            make_room_in(root.path(), Path::new("/deep/bramble")).unwrap();
            assert!(root.path().join("deep/bramble").is_dir());
        }
    }

    #[test]
    fn processes_leave_a_root_that_is_not_the_systems_own() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::write(root.join("cgroup.procs"), "1\n").unwrap();
        vacate(root).unwrap();
        assert!(!root.join(LEAF).exists(), "the system's own root may have both");
        fs::write(root.join("cgroup.type"), "domain\n").unwrap();
        for _ in 0..2 {
            vacate(root).unwrap();
            assert_eq!(fs::read_to_string(root.join(LEAF).join("cgroup.procs")).unwrap(), "1");
        }
    }

    #[test]
    fn what_cannot_be_removed_is_not_gone() {
        let (_mount, hierarchies) = hierarchy("busy", "");
        assert_eq!(hierarchies.children(Path::new("/bramble")), [Path::new("/bramble/one")]);
        assert!(!hierarchies.remove(Path::new("/bramble/one")));
        assert!(hierarchies.remove(Path::new("/bramble/two")));
    }
}

//! What a keeper that was killed left behind: processes, cgroups, mounts, records.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bramble_cluster::TaskId;
use nix::mount::{MntFlags, umount2};

use super::{containers::Container, turn::timestamp};
use crate::{
    ContainerExit, ContainerState, Layout,
    cgroups::Hierarchies,
    protocol::{Order, StatusFile},
};

/// Waiting for killed processes to vanish: so often, so long each time.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);
/// The exit code of a container that was killed.
const KILLED: i32 = 137;
/// Paths with fewer components are nobody's own folder.
const LEAST_COMPONENTS: usize = 3;

/// Kills and removes what is left, and returns the containers that were there: those that had
/// ended as they ended, those that ran as killed.
pub(super) fn clean(layout: &Layout, hierarchies: &Hierarchies) -> BTreeMap<TaskId, Container> {
    for cgroup in hierarchies.children(layout.cgroup()) {
        for _ in 0..TRIES {
            let had_processes = hierarchies.kill_all(&cgroup);
            if hierarchies.remove(&cgroup) && !had_processes {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
    unmount_below(&[layout.run_dir(), layout.data_dir()]);
    drop(fs::remove_dir_all(layout.oci_states()));
    drop(fs::create_dir_all(layout.oci_states()));
    drop(fs::remove_file(layout.socket()));
    adopt(layout)
}

/// Unmounts what is mounted below the folders, the youngest first. Network namespaces are not
/// ours.
fn unmount_below(folders: &[&Path]) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts: Vec<PathBuf> = text.lines().filter_map(mount_point).collect();
    for mount in mounts.iter().rev() {
        let is_ours = folders.iter().any(|folder| {
            folder.components().count() >= LEAST_COMPONENTS
                && mount.starts_with(folder)
                && mount != folder
        });
        if is_ours {
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
    }
}

/// The mount point in a line of `mountinfo`, unless it is a namespace's.
fn mount_point(line: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    if after.starts_with("nsfs ") {
        return None;
    }
    let escaped = before.split(' ').nth(4)?;
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    let path = plain.iter().fold(escaped.to_owned(), |path, (code, text)| path.replace(code, text));
    Some(PathBuf::from(path))
}

fn adopt(layout: &Layout) -> BTreeMap<TaskId, Container> {
    let mut containers = BTreeMap::new();
    for entry in fs::read_dir(layout.bundles()).into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse::<TaskId>().ok());
        match id.and_then(|id| Some((id, record(layout, id)?))) {
            Some((id, container)) => {
                container.save(layout, id);
                containers.insert(id, container);
            }
            None => drop(fs::remove_dir_all(entry.path())),
        }
    }
    containers
}

/// The record of a container that was started; none for one that was merely created.
fn record(layout: &Layout, id: TaskId) -> Option<Container> {
    let order = postcard::from_bytes(&fs::read(layout.order(id)).ok()?).ok()?;
    let status = postcard::from_bytes(&fs::read(layout.status(id)).ok()?).ok()?;
    let (Order::V1(order), StatusFile::V1 { state, started_at }) = (order, status);
    let state = match state {
        ContainerState::Starting | ContainerState::Running { .. } => {
            let at = timestamp();
            ContainerState::Exited(ContainerExit {
                code: KILLED,
                is_out_of_memory: false,
                started_at,
                at,
            })
        }
        ended => ended,
    };
    let mut container = Container::new(layout.log(id), order);
    container.state = state;
    Some(container)
}

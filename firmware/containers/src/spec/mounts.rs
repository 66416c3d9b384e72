//! Mounts: what every container has, what is asked for, and the image's volumes.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use bramble_cluster::{Labels, Mount, MountKind, TaskId};
use serde_json::{Value, json};

use super::{SpecError, bundle_file, template::Facts};
use crate::{ContainerRequest, Layout, cgroups, volumes};

/// Bytes of `/dev/shm`.
const SHARED_MEMORY: &str = "size=67108864";

/// The mounts of a container.
pub(super) struct Mounts {
    pub(super) entries: Vec<Value>,
    pub(super) volumes: Vec<NewVolume>,
}

/// A volume that must be there before the container starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewVolume {
    /// Its name.
    pub(crate) name: String,
    /// Labels on it if it is made.
    pub(crate) labels: Labels,
    /// Where the container sees it: the image's files there fill it if it is made.
    pub(crate) fill_from: Option<PathBuf>,
    /// Whether it ends with its container.
    pub(crate) is_anonymous: bool,
}

pub(super) fn write(
    layout: &Layout,
    request: &ContainerRequest,
    facts: &Facts,
) -> Result<Mounts, SpecError> {
    let task = &request.task;
    let mut mounts = Mounts { entries: defaults(), volumes: Vec::new() };
    let mut targets = BTreeSet::new();
    for (index, mount) in task.spec.container.mounts.iter().enumerate() {
        let field = format!("mounts[{index}]");
        let target = target(&field, &mount.target)?;
        if !targets.insert(target.clone()) {
            let reason = format!("`{}` is mounted twice", mount.target);
            return Err(SpecError::new(format!("{field}.target"), reason));
        }
        // What is asked for replaces what every container has there.
        mounts.entries.retain(|entry| entry["destination"] != json!(target));
        mounts.add(layout, task.id, facts, &field, mount, target)?;
    }
    for text in request.image.volumes().iter().flatten() {
        let target = target("image.volumes", text)?;
        if targets.insert(target.clone()) {
            mounts.add_volume(layout, task.id, target, None, Labels::new(), true, false);
        }
    }
    for (name, path) in [
        ("hosts", "/etc/hosts"),
        ("hostname", "/etc/hostname"),
        ("resolv.conf", "/etc/resolv.conf"),
    ] {
        if !targets.contains(Path::new(path)) {
            let source = bundle_file(layout, task.id, name);
            mounts.entries.push(entry(path, "bind", &source, &["rbind", "rprivate"]));
        }
    }
    Ok(mounts)
}

impl Mounts {
    fn add(
        &mut self,
        layout: &Layout,
        id: TaskId,
        facts: &Facts,
        field: &str,
        mount: &Mount,
        target: PathBuf,
    ) -> Result<(), SpecError> {
        let access = if mount.is_read_only { "ro" } else { "rw" };
        match &mount.kind {
            MountKind::Bind { source } => {
                let field = format!("{field}.source");
                let source = facts.fill(&field, source)?;
                if !source.starts_with('/') {
                    return Err(SpecError::new(field, format!("`{source}` is not absolute")));
                }
                if !Path::new(&source).exists() {
                    let reason = format!("`{source}` does not exist on this board");
                    return Err(SpecError::new(field, reason));
                }
                let options = ["rbind", "rprivate", access];
                self.entries.push(entry(&target, "bind", Path::new(&source), &options));
            }
            MountKind::Volume { name, labels, is_not_filled } => {
                let field = format!("{field}.name");
                let name = facts.fill(&field, name)?;
                if !name.is_empty() && !volumes::is_name(&name) {
                    return Err(SpecError::new(field, format!("`{name}` is no volume name")));
                }
                let name = Some(name).filter(|name| !name.is_empty());
                let is_filled = !is_not_filled;
                let labels = labels.clone();
                self.add_volume(layout, id, target, name, labels, is_filled, mount.is_read_only);
            }
            MountKind::Tmpfs { size_bytes, mode } => {
                let mode = if *mode == 0 { 0o1777 } else { *mode };
                if mode > 0o7777 {
                    let reason = format!("{mode:o} (octal) is no mode");
                    return Err(SpecError::new(format!("{field}.mode"), reason));
                }
                let mut options = vec!["nosuid".to_owned(), "nodev".into(), "noexec".into()];
                options.extend([access.to_owned(), format!("mode={mode:o}")]);
                if *size_bytes != 0 {
                    options.push(format!("size={size_bytes}"));
                }
                let options: Vec<&str> = options.iter().map(String::as_str).collect();
                self.entries.push(entry(&target, "tmpfs", Path::new("tmpfs"), &options));
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "each is one property of one mount")]
    fn add_volume(
        &mut self,
        layout: &Layout,
        id: TaskId,
        target: PathBuf,
        name: Option<String>,
        labels: Labels,
        is_filled: bool,
        is_read_only: bool,
    ) {
        let is_anonymous = name.is_none();
        let name = name.unwrap_or_else(|| volumes::anonymous_name(id, self.volumes.len()));
        let source = volumes::data(&layout.volumes(), &name);
        let access = if is_read_only { "ro" } else { "rw" };
        self.entries.push(entry(&target, "bind", &source, &["rbind", "rprivate", "nodev", access]));
        let fill_from = is_filled.then_some(target);
        self.volumes.push(NewVolume { name, labels, fill_from, is_anonymous });
    }
}

/// What every container has.
fn defaults() -> Vec<Value> {
    let safe = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&safe[..], more].concat();
    let mut all = vec![
        entry("/proc", "proc", Path::new("proc"), &safe),
        entry(
            "/dev",
            "tmpfs",
            Path::new("tmpfs"),
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        entry(
            "/dev/pts",
            "devpts",
            Path::new("devpts"),
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        entry("/dev/mqueue", "mqueue", Path::new("mqueue"), &safe),
        entry("/dev/shm", "tmpfs", Path::new("shm"), &with(&["mode=1777", SHARED_MEMORY])),
        entry("/sys", "sysfs", Path::new("sysfs"), &with(&["ro"])),
    ];
    // On a v1 board a container sees no cgroups: nine mounts would cost more than all the rest.
    if cgroups::is_unified() {
        all.push(entry("/sys/fs/cgroup", "cgroup", Path::new("cgroup"), &with(&["ro"])));
    }
    all
}

fn entry(target: impl AsRef<Path>, kind: &str, source: &Path, options: &[&str]) -> Value {
    json!({ "destination": target.as_ref(), "type": kind, "source": source, "options": options })
}

fn target(field: &str, text: &str) -> Result<PathBuf, SpecError> {
    let path = Path::new(text);
    let is_plain =
        |component: Component<'_>| matches!(component, Component::RootDir | Component::Normal(_));
    let clean: PathBuf = path.components().collect();
    if !path.is_absolute() || clean == Path::new("/") || !clean.components().all(is_plain) {
        let reason = format!("`{text}` is no absolute path below /");
        return Err(SpecError::new(format!("{field}.target"), reason));
    }
    Ok(clean)
}

//! Mounting layers on one another with overlayfs.
//!
//! The layers are given one by one (`lowerdir+`), so their number is bounded by the kernel (500)
//! and not by the 4,096 bytes of mount(2)'s options. Kernels before 6.8 get those options, with
//! descriptors for paths to keep them short.

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    },
};

/// What the kernel takes as one value of a mount's configuration.
const VALUE_BYTES: usize = 255;
/// Options that all have: nothing of an image's attributes may redirect a look-up, and layers are
/// shared by many mounts.
const OPTIONS: [(&str, &str); 3] =
    [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];

/// Mounts `layers`, the topmost first, under `upper` at `target`. Device nodes do not work in it.
///
/// It is `volatile`: what a container writes into its root is not worth a sync of the card, since
/// a container does not outlive its board's boot. Volumes are not mounted by this.
pub(super) fn mount(
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> io::Result<()> {
    let empty;
    let layers = if layers.is_empty() {
        // An image of nothing is an empty folder.
        empty = [work.with_file_name("empty")];
        fs::create_dir_all(&empty[0])?;
        &empty[..]
    } else {
        layers
    };
    match mount_one_by_one(layers, upper, work, target) {
        Err(Errno::INVAL | Errno::NOSYS) => Ok(mount_by_options(layers, upper, work, target)?),
        result => Ok(result?),
    }
}

/// Gives each layer to the kernel by a call of its own.
pub(super) fn mount_one_by_one(
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> rustix::io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let mut held = Vec::new();
    for layer in layers {
        fsconfig_set_string(&context, "lowerdir+", short(layer, &mut held)?)?;
    }
    fsconfig_set_string(&context, "upperdir", short(upper, &mut held)?)?;
    fsconfig_set_string(&context, "workdir", short(work, &mut held)?)?;
    for (name, value) in OPTIONS {
        fsconfig_set_string(&context, name, value)?;
    }
    fsconfig_set_flag(&context, "volatile")?;
    fsconfig_set_string(&context, "source", "overlay")?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)?;
    move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// The same for older kernels.
pub(super) fn mount_by_options(
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> rustix::io::Result<()> {
    let mut held = Vec::new();
    let mut lower = Vec::with_capacity(layers.len());
    for layer in layers {
        lower.push(by_descriptor(layer, &mut held)?);
    }
    let upper = by_descriptor(upper, &mut held)?;
    let work = by_descriptor(work, &mut held)?;
    let mut options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.join(":"));
    for (name, value) in OPTIONS {
        options.push_str(&format!(",{name}={value}"));
    }
    let options = std::ffi::CString::new(options + ",volatile").map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("overlay", target, "overlay", MountFlags::NODEV, options.as_c_str())
}

/// A path that the kernel takes as a value: itself, or an open descriptor's if it is too long.
fn short(path: &Path, held: &mut Vec<OwnedFd>) -> rustix::io::Result<PathBuf> {
    if path.as_os_str().len() <= VALUE_BYTES {
        return Ok(path.to_owned());
    }
    by_descriptor(path, held).map(PathBuf::from)
}

fn by_descriptor(path: &Path, held: &mut Vec<OwnedFd>) -> rustix::io::Result<String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
    let short = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    held.push(descriptor);
    Ok(short)
}

//! Images on a real file system and a real overlayfs. Needs root, for owners, devices and mounts.

mod archives;
mod exchange;
mod full_disk;
mod hostile;
mod loading;
mod rootfs;
mod scene;

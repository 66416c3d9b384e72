//! Images on a real file system and a real overlayfs. Needs root, for owners, devices and mounts.

#[cfg(test)]
mod archives;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod loading;
#[cfg(test)]
#[path = "../../src/images/overlay.rs"]
mod overlay;
#[cfg(test)]
mod rootfs;
#[cfg(test)]
mod scene;

//! What the kernel offers by `ioctl` and system calls that no crate wraps, made safe.
//!
//! All of this crate's unsafe code is here and in `mailbox/memory.rs`.

#![expect(unsafe_code, reason = "the kernel takes these by number and pointer alone")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_longlong, c_void},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{errno::Errno, libc};

use crate::disk::{Extent, SECTOR};

/// `struct blkpg_partition` of linux/blkpg.h.
#[repr(C)]
struct Partition {
    start: c_longlong,
    length: c_longlong,
    number: c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg` of linux/blkpg.h.
#[repr(C)]
struct PartitionCall {
    operation: c_int,
    flags: c_int,
    length: c_int,
    data: *mut c_void,
}

/// `struct watchdog_info` of linux/watchdog.h.
#[repr(C)]
struct WatchdogInfo {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// `SWAP_FLAG_PREFER` and `SWAP_FLAG_PRIO_MASK` of linux/swap.h, which libc has no names for.
const SWAP_PREFER: c_int = 0x8000;
const SWAP_PRIORITY: c_int = 0x7fff;

nix::ioctl_write_ptr_bad!(blkpg, 0x1269, PartitionCall);
nix::ioctl_write_ptr!(ext4_resize, b'f', 16, u64);
nix::ioctl_read!(watchdog_support, b'W', 0, WatchdogInfo);
nix::ioctl_read!(watchdog_keep_alive, b'W', 5, c_int);
nix::ioctl_readwrite!(watchdog_set_timeout, b'W', 6, c_int);

/// What the kernel is told about a partition; its numbers are the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartitionChange {
    Add = 1,
    Remove = 2,
    Resize = 3,
}

/// Tells the kernel about a partition of a disk. The table on the disk is not touched.
pub(crate) fn change_partition(
    disk: impl AsFd,
    change: PartitionChange,
    number: u8,
    extent: Extent,
) -> io::Result<()> {
    let bytes = |sectors: u64| {
        let bytes = sectors.checked_mul(SECTOR).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    };
    let mut partition = Partition {
        start: bytes(extent.start)?,
        length: bytes(extent.length)?,
        number: number.into(),
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let call = PartitionCall {
        operation: change as c_int,
        flags: 0,
        length: c_int::try_from(size_of::<Partition>()).unwrap_or(c_int::MAX),
        data: (&raw mut partition).cast(),
    };
    // SAFETY: the descriptor is open, and both structures are laid out as the kernel's and live
    // until the call has returned; the kernel writes to neither.
    unsafe { blkpg(disk.as_fd().as_raw_fd(), &raw const call) }?;
    Ok(())
}

/// Grows a mounted ext4 to a number of its blocks; `inside` is any file or folder on it.
pub(crate) fn resize_ext4(inside: impl AsFd, blocks: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the kernel reads the one number that is passed.
    unsafe { ext4_resize(inside.as_fd().as_raw_fd(), &raw const blocks) }?;
    Ok(())
}

/// What a watchdog calls itself.
pub(crate) fn watchdog_identity(watchdog: BorrowedFd<'_>) -> io::Result<String> {
    let mut info = WatchdogInfo { options: 0, firmware_version: 0, identity: [0; 32] };
    // SAFETY: the descriptor is open, and the structure is laid out as the kernel's, which fills it.
    unsafe { watchdog_support(watchdog.as_raw_fd(), &raw mut info) }?;
    let name = CStr::from_bytes_until_nul(&info.identity).unwrap_or_default();
    Ok(name.to_string_lossy().into_owned())
}

/// Makes a watchdog wait for so many seconds. Says how many it will.
pub(crate) fn watchdog_timeout(watchdog: BorrowedFd<'_>, seconds: u32) -> io::Result<u32> {
    let mut seconds = c_int::try_from(seconds).unwrap_or(c_int::MAX);
    // SAFETY: the descriptor is open, and the kernel reads and writes the one number.
    unsafe { watchdog_set_timeout(watchdog.as_raw_fd(), &raw mut seconds) }?;
    Ok(u32::try_from(seconds).unwrap_or(0))
}

/// Tells a watchdog that all is well.
pub(crate) fn watchdog_feed(watchdog: BorrowedFd<'_>) -> io::Result<()> {
    let mut unused = 0;
    // SAFETY: the descriptor is open; the kernel ignores the number.
    unsafe { watchdog_keep_alive(watchdog.as_raw_fd(), &raw mut unused) }?;
    Ok(())
}

/// Swaps to a device, before devices of lower priority.
pub(crate) fn swap_on(device: &Path, priority: u16) -> io::Result<()> {
    let path = CString::new(device.as_os_str().as_bytes())?;
    let flags = SWAP_PREFER | c_int::from(priority) & SWAP_PRIORITY;
    let path: *const c_char = path.as_ptr();
    // SAFETY: the path is a string that ends, and lives until the call has returned.
    let result = unsafe { libc::swapon(path, flags) };
    Errno::result(result)?;
    Ok(())
}

/// Restarts the machine with words for its firmware (reboot(2), `LINUX_REBOOT_CMD_RESTART2`).
/// Returns only if the kernel refuses.
pub(crate) fn reboot_with(words: &str) -> io::Result<()> {
    let words = CString::new(words)?;
    // SAFETY: the magic numbers are reboot(2)'s, and the kernel reads the string and keeps nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_RESTART2,
            words.as_ptr(),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

//! Memory that is shared with the firmware: its registers, and a page of ours.

#![expect(unsafe_code, reason = "registers and pages shared with the firmware are raw memory")]

use std::{ffi::c_void, fs::File, io, num::NonZeroUsize, os::unix::fs::FileExt, ptr::NonNull};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::WORDS;

/// Pages that are tried until one lies where the firmware can see it.
const PAGES_MAX: usize = 512;
/// The firmware sees the first GiB.
const SEEN: u64 = 1 << 30;
/// The address of a page that lies elsewhere.
const UNSEEN: u32 = u32::MAX;
/// The number of a page's frame in an entry of `pagemap` (linux/Documentation/admin-guide/mm).
const FRAME: u64 = (1 << 55) - 1;
/// A whole number of pages, whatever size the kernel's are of.
const LENGTH: NonZeroUsize = NonZeroUsize::new(64 * 1024).unwrap();

/// Registers of a device, mapped.
#[derive(Debug)]
pub(super) struct Registers {
    base: NonNull<c_void>,
    /// Where the first register is in the mapping.
    offset: usize,
}

/// A page of ours that stays where it is and that the firmware can see.
#[derive(Debug)]
pub(super) struct Page {
    base: NonNull<c_void>,
    physical: u32,
}

// SAFETY: the mapping belongs to the process and not to a thread.
unsafe impl Send for Registers {}
// SAFETY: as above; nobody else has the address of the page.
unsafe impl Send for Page {}

impl Registers {
    /// Maps the registers at a physical address.
    pub(super) fn map(memory: &File, address: u64) -> io::Result<Self> {
        let page = u64::try_from(LENGTH.get()).map_err(io::Error::other)?;
        let begin = address / page * page;
        let offset = usize::try_from(address - begin).map_err(io::Error::other)?;
        let begin = begin.try_into().map_err(io::Error::other)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, where the kernel has room; nothing of Rust's lies in it.
        let base = unsafe { mmap(None, LENGTH, access, MapFlags::MAP_SHARED, memory, begin) }?;
        Ok(Self { base, offset })
    }

    pub(super) fn read(&self, register: usize) -> u32 {
        let address = self.register(register);
        // SAFETY: within the mapping, aligned, and registers are read whole and each time.
        unsafe { address.read_volatile() }
    }

    pub(super) fn write(&self, register: usize, value: u32) {
        let address = self.register(register);
        // SAFETY: within the mapping, aligned, and registers are written whole and once.
        unsafe { address.write_volatile(value) }
    }

    fn register(&self, register: usize) -> NonNull<u32> {
        let at = self.offset + register;
        assert!(at.is_multiple_of(4) && at + 4 <= LENGTH.get(), "a register in the mapping");
        // SAFETY: within the mapping, as just asserted.
        unsafe { self.base.byte_add(at) }.cast()
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, and used by nobody after this.
        let _ = unsafe { munmap(self.base, LENGTH.get()) };
    }
}

impl Page {
    /// A locked page in the memory that the firmware sees. The kernel gives what it has, so some
    /// are tried.
    pub(super) fn low() -> io::Result<Self> {
        let map = File::open("/proc/self/pagemap")?;
        let mut tried = Vec::new();
        while tried.len() < PAGES_MAX {
            let page = Self::any(&map)?;
            if page.physical != UNSEEN {
                return Ok(page);
            }
            // Held, so that the kernel gives another.
            tried.push(page);
        }
        Err(io::Error::other("the kernel has no page in the first GiB"))
    }

    fn any(map: &File) -> io::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_LOCKED | MapFlags::MAP_POPULATE;
        let size = rustix::param::page_size();
        // One page alone: a message lies in it whole.
        let length = NonZeroUsize::new(size).ok_or(io::ErrorKind::Unsupported)?;
        // SAFETY: a new mapping, where the kernel has room.
        let base = unsafe { mmap_anonymous(None, length, access, flags) }?;
        let mut page = Self { base, physical: UNSEEN };
        page.write(&[0; WORDS]);
        let number = base.addr().get() / size;
        let mut entry = [0; 8];
        map.read_exact_at(&mut entry, u64::try_from(number).map_err(io::Error::other)? * 8)?;
        let frame = u64::from_ne_bytes(entry) & FRAME;
        let address = frame.saturating_mul(u64::try_from(size).map_err(io::Error::other)?);
        // Frame 0 is what those see who may not know.
        if frame == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if address < SEEN {
            page.physical = u32::try_from(address).unwrap_or(UNSEEN);
        }
        Ok(page)
    }

    /// Where the firmware finds it.
    pub(super) fn physical(&self) -> u32 {
        self.physical
    }

    pub(super) fn write(&mut self, words: &[u32; WORDS]) {
        for (index, word) in words.iter().enumerate() {
            // SAFETY: the page has room for so many words, and it is ours.
            unsafe { self.base.cast::<u32>().add(index).write_volatile(*word) };
        }
        self.clean();
    }

    pub(super) fn read(&self) -> [u32; WORDS] {
        self.clean();
        // SAFETY: the page has so many words; the firmware may change them, so each is read once.
        std::array::from_fn(|index| unsafe { self.base.cast::<u32>().add(index).read_volatile() })
    }

    /// Leaves the page to the firmware, for good.
    pub(super) fn abandon(self) {
        std::mem::forget(self);
    }

    /// Writes the processor's cache of the page to memory, and forgets it: the firmware sees memory
    /// alone. The message lies in one line of it, or two.
    fn clean(&self) {
        #[cfg(target_arch = "aarch64")]
        // SAFETY: cleans and invalidates a line of a page that is ours; no memory changes by it.
        unsafe {
            std::arch::asm!("dc civac, {0}", "dsb sy", in(reg) self.base.as_ptr());
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length; the firmware has answered or was never asked.
        let _ = unsafe { munmap(self.base, rustix::param::page_size()) };
    }
}

//! The seccomp filter: what Docker's default profile lets through, as a program of our own.
//!
//! libcontainer knows seccomp only through a C library. The filter is written here and applied by
//! the helper's executor, just before the container's program is executed.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
mod arm;
mod filter;
mod profile;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::{io, mem::size_of};

use nix::libc;

pub(crate) use self::filter::Instruction;

/// An architecture whose programs this board runs.
struct Architecture {
    /// As the kernel names it to filters (`AUDIT_ARCH_*`).
    audit: u32,
    /// Names and numbers of its system calls.
    numbers: &'static str,
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: [Architecture; 2] = [
    Architecture { audit: 0xc000_003e, numbers: x86_64::NUMBERS },
    Architecture { audit: 0x4000_0003, numbers: x86::NUMBERS },
];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: [Architecture; 2] = [
    Architecture { audit: 0xc000_00b7, numbers: aarch64::NUMBERS },
    Architecture { audit: 0x4000_0028, numbers: arm::NUMBERS },
];

/// The filter for a container with these capabilities, a bit each.
pub(crate) fn program(capabilities: u64) -> Vec<Instruction> {
    let programs = ARCHITECTURES.iter().map(|architecture| {
        let rules = profile::rules(architecture.numbers, capabilities);
        (architecture.audit, filter::by_number(&rules))
    });
    filter::by_architecture(programs)
}

/// Puts the filter over this process, for ever. Needs no-new-privileges.
pub(crate) fn apply(program: &[Instruction]) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const Instruction,
    }
    const _: () = assert!(size_of::<Instruction>() == 8);
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: the structure and the instructions it points to live through the call, and have the
    // layout of `struct sock_fprog` and `struct sock_filter`.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;

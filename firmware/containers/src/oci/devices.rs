//! The device filter on v2: a small program at the container's cgroup.
//!
//! v1 has rules, which libcgroups writes. v2 asks a program at each access; libcgroups would need a
//! C library for one, and without it lets everything through. The program is fixed: any device may
//! be made (which the capabilities govern), and those that every container has may be used.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::libc;

/// The devices that every container has: major and minor number; no minor is any.
const DEVICES: [(i32, Option<i32>); 10] = [
    (1, Some(3)),    // null
    (1, Some(5)),    // zero
    (1, Some(7)),    // full
    (1, Some(8)),    // random
    (1, Some(9)),    // urandom
    (5, Some(0)),    // tty
    (5, Some(1)),    // console
    (5, Some(2)),    // ptmx
    (136, None),     // pts/*
    (10, Some(200)), // net/tun
];

const CHARACTER: i32 = 2;
const MAKE: i32 = 1;

/// One instruction of the kernel's BPF machine.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

/// Attaches the filter to a cgroup of the unified hierarchy.
pub(super) fn attach(cgroup: &Path) -> io::Result<()> {
    let relative = cgroup.strip_prefix("/").unwrap_or(cgroup);
    attach_at(&Path::new("/sys/fs/cgroup").join(relative))
}

fn attach_at(folder: &Path) -> io::Result<()> {
    const TYPE: u32 = 6; // BPF_CGROUP_DEVICE
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let folder = File::open(folder)?;
    let program = load(&program())?;
    let number = |file: i32| u32::try_from(file).map_err(io::Error::other);
    let attach = Attach {
        target: number(folder.as_raw_fd())?,
        program: number(program.as_raw_fd())?,
        kind: TYPE,
        flags: 0,
    };
    bpf(8, &attach)?; // BPF_PROG_ATTACH
    Ok(())
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    const TYPE: u32 = 15; // BPF_PROG_TYPE_CGROUP_DEVICE
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u32; 2],
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
    }
    let load = Load {
        kind: TYPE,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    let file = bpf(5, &load)?; // BPF_PROG_LOAD
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn bpf<T>(command: i32, attributes: &T) -> io::Result<i32> {
    // SAFETY: the attributes, and what they point to, live through the call; their layout is the
    // kernel's for this command, and their size is given.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct bpf_cgroup_dev_ctx` is `access << 16 | type`, major, minor; 1 allows, 0 refuses.
fn program() -> Vec<Instruction> {
    const LOAD_WORD: u8 = 0x61;
    const COPY: u8 = 0xbf;
    const SHIFT_RIGHT: u8 = 0x77;
    const AND: u8 = 0x57;
    const SET: u8 = 0xb7;
    const JUMP_IF_EQUAL: u8 = 0x15;
    const JUMP_UNLESS_EQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    // Register 2 is the type, 3 the access, 4 the major, 5 the minor number.
    let make = |code, target: u8, source: u8, offset, value| Instruction {
        code,
        registers: source << 4 | target,
        offset,
        value,
    };
    let mut all = vec![
        make(LOAD_WORD, 2, 1, 0, 0),
        make(LOAD_WORD, 4, 1, 4, 0),
        make(LOAD_WORD, 5, 1, 8, 0),
        make(COPY, 3, 2, 0, 0),
        make(SHIFT_RIGHT, 3, 0, 0, 16),
        make(AND, 2, 0, 0, 0xffff),
        make(SET, 0, 0, 0, 1),
        // Merely making a node is allowed.
        make(JUMP_UNLESS_EQUAL, 3, 0, 1, MAKE),
        make(EXIT, 0, 0, 0, 0),
        // What is used must be a character device of the list.
        make(JUMP_IF_EQUAL, 2, 0, 2, CHARACTER),
        make(SET, 0, 0, 0, 0),
        make(EXIT, 0, 0, 0, 0),
    ];
    for (major, minor) in DEVICES {
        match minor {
            Some(minor) => {
                all.push(make(JUMP_UNLESS_EQUAL, 4, 0, 2, major));
                all.push(make(JUMP_UNLESS_EQUAL, 5, 0, 1, minor));
            }
            None => all.push(make(JUMP_UNLESS_EQUAL, 4, 0, 1, major)),
        }
        all.push(make(EXIT, 0, 0, 0, 0));
    }
    all.extend([make(SET, 0, 0, 0, 0), make(EXIT, 0, 0, 0, 0)]);
    all
}

#[cfg(test)]
mod tests;

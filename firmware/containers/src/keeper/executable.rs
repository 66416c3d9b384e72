//! The program that helpers execute: this one, so that no container can write to it.
//!
//! A container can reach the file of a process that enters it (`/proc/<pid>/exe`), and its root is
//! the board's root. The helper therefore runs from a read-only mount of the file that nobody else
//! can see or change.

use std::{
    ffi::{CString, OsString},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
};

use nix::libc;

/// What to execute, and the first arguments.
#[derive(Debug)]
pub(super) struct Executable {
    path: PathBuf,
    arguments: Vec<OsString>,
    /// Held: the path leads through it.
    _file: Option<OwnedFd>,
}

impl Executable {
    /// Guards the program named first; on kernels that cannot, executes it as it is.
    pub(super) fn new(command: &[OsString]) -> Self {
        let (program, arguments) = match command.split_first() {
            Some((program, arguments)) => (PathBuf::from(program), arguments.to_vec()),
            None => (PathBuf::from("/proc/self/exe"), Vec::new()),
        };
        match read_only(&program) {
            Ok(file) => {
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                Self { path, arguments, _file: Some(file) }
            }
            Err(error) => {
                tracing::warn!(%error, "helpers run from a file that containers may reach");
                Self { path: program, arguments, _file: None }
            }
        }
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(super) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }
}

/// A detached read-only mount of one file.
fn read_only(path: &std::path::Path) -> io::Result<OwnedFd> {
    let target = std::fs::canonicalize(path)?;
    let target = CString::new(target.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a string that lives through the call; the result is checked.
    let file =
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, target.as_ptr(), flags) };
    let file = i32::try_from(file).unwrap_or(-1);
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us.
    let file = unsafe { OwnedFd::from_raw_fd(file) };
    // SAFETY: an all-zero value of this plain structure is valid, and asks for nothing.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_RDONLY;
    // SAFETY: the empty path names the descriptor, and the structure has the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw mut attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn it_runs_and_nobody_can_write_to_it() {
        assert!(nix::unistd::geteuid().is_root(), "this test makes a mount and must run as root");
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("true");
        std::fs::copy("/bin/true", &program).unwrap();
        std::fs::File::options().write(true).open(&program).unwrap();
        let executable = Executable::new(&[program.into_os_string(), "first".into()]);
        assert_eq!(executable.arguments(), ["first"]);
        assert!(Command::new(executable.path()).status().unwrap().success());
        let error = std::fs::File::options().write(true).open(executable.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
}

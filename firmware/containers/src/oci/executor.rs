//! The last steps in a container's process before its program takes over.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use libcontainer::{
    oci_spec::runtime::Spec,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use nix::{
    errno::Errno,
    libc,
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
    },
    unistd::{AccessFlags, access, execve},
};

use super::init;
use crate::{seccomp, spec::mask_of};

/// Exit codes of a program that cannot be executed, as shells have them.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Puts the seccomp filter over the process, then executes its program.
#[derive(Debug, Clone)]
pub(super) struct ProgramExecutor {
    /// Without the filter.
    pub(super) is_unconfined: bool,
    /// With a tiny init as the first process.
    pub(super) has_init: bool,
}

impl Executor for ProgramExecutor {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let strings = |list: &[String]| {
            list.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>()
        };
        let invalid = |_| ExecutorError::InvalidArg;
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let arguments = strings(arguments(spec)).map_err(invalid)?;
        let environment = strings(process.env().as_deref().unwrap_or_default()).map_err(invalid)?;
        let program = find(spec).unwrap_or_default();
        let program = CString::new(program.as_os_str().as_bytes()).map_err(invalid)?;
        let capabilities =
            process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
        let names: Vec<String> =
            capabilities.into_iter().flatten().map(|name| format!("CAP_{name}")).collect();
        let filter = match self.is_unconfined {
            true => Vec::new(),
            false => seccomp::program(mask_of(names.iter().map(String::as_str))),
        };
        reset_signals();
        // A container without its keeper has no log, no exit code and nobody to stop it.
        let other = |error: Errno| ExecutorError::Other(error.to_string());
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(other)?;
        if !filter.is_empty() {
            seccomp::apply(&filter)
                .map_err(|error| ExecutorError::Other(format!("seccomp: {error}")))?;
        }
        if self.has_init {
            init::split().map_err(other)?;
        }
        let error = execute(&program, &arguments, &environment);
        let mut stderr = std::io::stderr();
        drop(writeln!(stderr, "exec {}: {}", program.to_string_lossy(), error.desc()));
        let code = if error == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE };
        // SAFETY: ends this clone without running what its parent registered for an orderly exit.
        unsafe { libc::_exit(code) }
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let program = arguments(spec).first().cloned().unwrap_or_default();
        let fail = |reason: &str| {
            let text = format!("exec: \"{program}\": {reason}");
            Err(ExecutorValidationError::ArgValidationError(text))
        };
        let Some(path) = find(spec) else {
            return match program.contains('/') {
                true => fail("no such file or directory"),
                false => fail("executable file not found in $PATH"),
            };
        };
        if path.is_dir() {
            return fail("is a directory");
        }
        match access(&path, AccessFlags::X_OK) {
            Ok(()) => Ok(()),
            Err(error) => fail(&error.desc().to_lowercase()),
        }
    }

    /// The environment is handed to the program; this process keeps its own, which is empty.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

fn arguments(spec: &Spec) -> &[String] {
    let process = spec.process().as_ref();
    process.and_then(|process| process.args().as_deref()).unwrap_or_default()
}

/// The program's path: as given if it has a slash, else the first in the container's `PATH`.
fn find(spec: &Spec) -> Option<PathBuf> {
    let program = Path::new(arguments(spec).first()?);
    if program.as_os_str().as_bytes().contains(&b'/') {
        return program.exists().then(|| program.to_owned());
    }
    let environment = spec.process().as_ref()?.env().as_deref().unwrap_or_default();
    let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH="))?;
    let folders = path.split(':').map(|folder| if folder.is_empty() { "." } else { folder });
    let found: Vec<PathBuf> = folders
        .map(|folder| Path::new(folder).join(program))
        .filter(|candidate| candidate.is_file())
        .collect();
    let is_executable = |candidate: &&PathBuf| access(*candidate, AccessFlags::X_OK).is_ok();
    found.iter().find(is_executable).or_else(|| found.first()).cloned()
}

/// What Rust and the keeper ignore or block, a program expects as it is by default.
fn reset_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action needs no handler.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    match execve(program, arguments, environment) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

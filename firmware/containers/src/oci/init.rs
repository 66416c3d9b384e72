//! The tiny init (`--init`): reaps orphans and hands signals on, for programs that do not.
//!
//! It needs no file in the container: the process that would execute the program forks first.

use std::os::fd::RawFd;

use nix::{
    errno::Errno,
    libc,
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, sigprocmask},
    },
    unistd::{ForkResult, Pid, fork},
};

/// The first descriptor that is not a standard stream.
const FIRST_FILE: RawFd = 3;

/// Returns in a child, which is to execute the program; this process is its init from now on.
pub(super) fn split() -> nix::Result<()> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None),
        ForkResult::Parent { child } => serve(child),
    }
}

fn serve(child: Pid) -> ! {
    let _ = prctl::set_name(c"init");
    // What the helper left open would have closed with the program's execution.
    // SAFETY: nothing in this process uses a descriptor from here on but the standard streams.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST_FILE, RawFd::MAX, 0) };
    let all = SigSet::all();
    loop {
        let mut signal = 0;
        // By hand: the wrapper of `nix` does not know real-time signals.
        // SAFETY: both point to variables that live through the call.
        if unsafe { libc::sigwait(std::ptr::from_ref(all.as_ref()), &raw mut signal) } != 0 {
            continue;
        }
        if signal == libc::SIGCHLD {
            reap(child);
        } else {
            // SAFETY: sends a signal to a child that is not reaped: its end would end this.
            unsafe { libc::kill(child.as_raw(), signal) };
        }
    }
}

/// Reaps all that have ended; ends as the program did if that is among them.
fn reap(child: Pid) {
    loop {
        let mut status = 0;
        // SAFETY: any child is asked for, and the status is written to a variable that lives.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid == child.as_raw() {
            let code = match libc::WIFEXITED(status) {
                true => libc::WEXITSTATUS(status),
                false => 128 + libc::WTERMSIG(status),
            };
            // SAFETY: ends this clone without running what its parent registered for its end.
            unsafe { libc::_exit(code) };
        }
        if pid <= 0 && Errno::last() != Errno::EINTR {
            return;
        }
    }
}

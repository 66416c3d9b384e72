//! Repair of the data file system, by the one program that can.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How to run e2fsck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    /// Only what is safe.
    Preen,
    /// Whatever it takes.
    Whole,
    /// Whatever it takes, from the copy of the superblock in the second group of blocks.
    FromCopy,
}

/// What is tried, in this order.
pub(super) const REPAIRS: [Repair; 3] = [Repair::Preen, Repair::Whole, Repair::FromCopy];

/// A repair of the biggest card ends long before.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Exit codes from here on mean that something is left wrong, or that nothing was done (e2fsck(8)).
const LEFT_WRONG: i32 = 4;

/// The file system could not be repaired.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    /// The program could not be run.
    #[error("{} could not be run", program.display())]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It could not repair it.
    #[error("the file system could not be repaired ({0})")]
    LeftWrong(ExitStatus),
    /// It did not end.
    #[error("the repair took longer than {} minutes", PATIENCE.as_secs() / 60)]
    TooLong,
}

impl Repair {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            // Forced: the journal alone would satisfy it, and that did not satisfy us.
            Self::Preen => &["-f", "-p"],
            Self::Whole => &["-f", "-y"],
            Self::FromCopy => &["-f", "-y", "-b", "32768", "-B", "4096"],
        }
    }
}

/// Repairs the file system of a partition that is not mounted. Calls `pulse` while it takes.
pub(super) fn repair(
    program: &Path,
    partition: &Path,
    repair: Repair,
    pulse: &mut dyn FnMut(),
) -> Result<(), CheckError> {
    let failed = |source| CheckError::Run { program: program.to_owned(), source };
    let mut command = Command::new(program);
    command.args(repair.arguments()).arg(partition);
    // What it repairs in an hour of need would be a thousand lines on a slow console.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let status = wait(&mut child, pulse).map_err(failed)?.ok_or(CheckError::TooLong)?;
    match status.code() {
        Some(code) if code < LEFT_WRONG => Ok(()),
        _ => Err(CheckError::LeftWrong(status)),
    }
}

fn wait(child: &mut Child, pulse: &mut dyn FnMut()) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        pulse();
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_wrong_is_an_error() {
        let run = |program: &str| {
            repair(Path::new(program), Path::new("/nowhere"), Repair::Preen, &mut || {})
        };
        assert!(run("/bin/true").is_ok());
        // Exit code 1: something was wrong and is right now.
        assert!(run("/bin/false").is_ok());
        assert!(matches!(run("/nowhere/e2fsck"), Err(CheckError::Run { .. })));
    }
}

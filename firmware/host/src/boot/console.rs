//! Standard input and output of process 1, and how much the kernel says there.

use std::{
    fs::{self, OpenOptions},
    io,
};

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::Findings;
use crate::Places;

/// Kernel messages from errors upwards reach the console; the others stay in the kernel's log.
const CONSOLE_LEVEL: &str = "4";

/// Makes the console the standard input and output.
pub(super) fn take(places: &Places, findings: &mut Findings) {
    // Fails when process 1 leads its session already, which is as good.
    let _ = setsid();
    let path = places.dev.join("console");
    let console = OpenOptions::new().read(true).write(true).open(&path);
    let taken = console.and_then(|console| {
        dup2_stdin(&console)?;
        dup2_stdout(&console)?;
        dup2_stderr(&console).map_err(io::Error::from)
    });
    if let Err(error) = taken {
        findings.problem(format!("the console {} cannot be used: {error}", path.display()));
    }
    if let Err(error) = fs::write(places.sources.proc.join("sys/kernel/printk"), CONSOLE_LEVEL) {
        findings.problem(format!("the kernel stays talkative on the console: {error}"));
    }
}

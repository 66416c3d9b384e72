//! Secrets, from where others do not see them.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    os::fd::AsFd,
};

use anyhow::{Context, Result, bail};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

/// Bytes of a file with a secret.
const SECRET_MAX: usize = 4_096;

/// Reads secrets. Several may come by the standard input, a line each.
#[derive(Debug, Default)]
pub(super) struct Secrets;

impl Secrets {
    /// The secret that an argument names: `@FILE`, `-`, or the secret itself.
    pub(super) fn read(&mut self, argument: &str, word: &str) -> Result<String> {
        match word.strip_prefix('@') {
            Some(file) => self.read_file(argument, file),
            None if word == "-" => self.read_file(argument, word),
            None => Ok(word.to_owned()),
        }
    }

    /// The first line of a file; `-` is the standard input.
    pub(super) fn read_file(&mut self, argument: &str, file: &str) -> Result<String> {
        let text = if file == "-" {
            let mut line = String::new();
            io::stdin()
                .lock()
                .read_line(&mut line)
                .with_context(|| format!("{argument}: cannot read the standard input"))?;
            line
        } else {
            fs::read_to_string(file).with_context(|| format!("{argument}: cannot read {file}"))?
        };
        let secret = text.lines().next().unwrap_or_default().trim_end_matches('\r');
        if secret.is_empty() || secret.len() > SECRET_MAX {
            bail!("{argument}: there must be one line with the secret");
        }
        Ok(secret.to_owned())
    }

    /// Asks at the terminal, without showing what is typed.
    pub(super) fn ask(&mut self, question: &str) -> Result<String> {
        eprint!("{question}");
        io::stderr().flush()?;
        let input = io::stdin();
        let usual = tcgetattr(input.as_fd()).context("cannot hide what is typed")?;
        let mut hidden = usual.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(input.as_fd(), SetArg::TCSAFLUSH, &hidden)
            .context("cannot hide what is typed")?;
        let mut line = String::new();
        let read = input.lock().read_line(&mut line);
        tcsetattr(input.as_fd(), SetArg::TCSAFLUSH, &usual)
            .context("the terminal still hides what is typed: enter `reset`")?;
        eprintln!();
        read.context("cannot read the answer")?;
        match line.trim_end_matches(['\r', '\n']) {
            "" => bail!("nothing was entered"),
            secret => Ok(secret.to_owned()),
        }
    }
}

/// Whether there is somebody to ask.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

//! What containers write: pipes (or terminals) whose reading ends are the keeper's.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use bramble_cluster::TaskId;

use super::turn::{READ_BYTES, State, nanoseconds};
use crate::logs::{Lines, LogStream};

/// Reads of one pipe while its container ends: more than a pipe can hold.
const LAST_READS: usize = 64;

/// One stream of one container.
#[derive(Debug)]
pub(super) struct Output {
    container: TaskId,
    file: OwnedFd,
    lines: Lines,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Some,
    NothingNow,
    End,
}

impl State {
    /// Reads a container's stream from now on. The file must not block.
    pub(super) fn add_output(
        &mut self,
        container: TaskId,
        stream: LogStream,
        file: OwnedFd,
    ) -> io::Result<()> {
        let token = self.token();
        self.poller.add(file.as_fd(), token)?;
        self.outputs.insert(token, Output { container, file, lines: Lines::new(stream) });
        Ok(())
    }

    /// Reads once: a container that writes without end must not keep the others waiting.
    pub(super) fn read_output(&mut self, token: u64) {
        if self.read_once(token) == Read::End {
            self.close_output(token);
        }
    }

    /// Reads what is left of an ended container's streams, and closes them.
    pub(super) fn drain_outputs(&mut self, id: TaskId) {
        let tokens: Vec<u64> = self
            .outputs
            .iter()
            .filter(|(_, output)| output.container == id)
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            for _ in 0..LAST_READS {
                if self.read_once(token) != Read::Some {
                    break;
                }
            }
            self.close_output(token);
        }
    }

    fn read_once(&mut self, token: u64) -> Read {
        let Some(output) = self.outputs.get_mut(&token) else { return Read::End };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(READ_BYTES, 0);
        let read = match nix::unistd::read(output.file.as_fd(), &mut buffer) {
            Ok(0) => Read::End,
            Ok(length) => {
                if let Some(container) = self.containers.get_mut(&output.container) {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    output.lines.take(bytes, nanoseconds(), &mut container.ring);
                }
                Read::Some
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Read::NothingNow,
            // A terminal whose other side is closed says EIO.
            Err(_) => Read::End,
        };
        self.buffer = buffer;
        read
    }

    fn close_output(&mut self, token: u64) {
        let Some(mut output) = self.outputs.remove(&token) else { return };
        if let Some(container) = self.containers.get_mut(&output.container) {
            output.lines.end(nanoseconds(), &mut container.ring);
        }
    }
}

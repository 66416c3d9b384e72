//! Cuts what a container writes into lines.

use super::{LINE_BYTES, LogStream, Ring};

/// What came of one stream since its last line end.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: LogStream,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: LogStream) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// Takes what was read, and puts the lines that it completes into the ring.
    pub(crate) fn take(&mut self, mut bytes: &[u8], at: u64, ring: &mut Ring) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, after) = bytes.split_at(end);
            self.add(line, at, ring);
            ring.add(at, self.stream, &self.rest, false);
            self.rest.clear();
            bytes = after.split_first().map_or(&[], |(_, after)| after);
        }
        self.add(bytes, at, ring);
        // Between two lines a quiet container costs nothing.
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        ring.flush();
    }

    /// The stream has ended: what is left is the last line.
    pub(crate) fn end(&mut self, at: u64, ring: &mut Ring) {
        if !self.rest.is_empty() {
            ring.add(at, self.stream, &self.rest, false);
            self.rest = Vec::new();
        }
        ring.flush();
    }

    /// Adds a part of a line; full parts go into the ring.
    fn add(&mut self, mut part: &[u8], at: u64, ring: &mut Ring) {
        while self.rest.len() + part.len() > LINE_BYTES {
            let (fitting, after) = part.split_at(LINE_BYTES - self.rest.len());
            self.rest.extend_from_slice(fitting);
            ring.add(at, self.stream, &self.rest, true);
            self.rest.clear();
            part = after;
        }
        self.rest.extend_from_slice(part);
    }
}

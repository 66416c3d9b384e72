//! Bars for what takes long, on a terminal; silence elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts bytes.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for `total` bytes of work, called `what`.
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        let style = "{msg:24} {bar:32} {bytes:>10} of {total_bytes}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// One that shows nothing.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self(ProgressBar::hidden())
    }

    /// That many bytes more are done.
    pub(crate) fn add(&self, bytes: usize) {
        self.0.inc(bytes as u64);
    }

    /// That many bytes are done in all.
    pub(crate) fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

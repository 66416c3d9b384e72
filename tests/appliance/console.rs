//! What a machine prints on its serial line.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How many lines are shown of a machine whose test failed.
const TAIL_LINES: usize = 60;

/// The console of one run of a machine. Lines that are still being printed count.
#[derive(Clone)]
pub struct Console {
    name: String,
    power_on: Instant,
    shared: Arc<(Mutex<Printed>, Condvar)>,
}

/// A line, and when it began, counted from the moment the machine got power.
#[derive(Debug, Clone)]
pub struct Line {
    pub at: Duration,
    pub text: String,
}

#[derive(Default)]
struct Printed {
    lines: Vec<Line>,
    is_line_open: bool,
    is_over: bool,
}

impl Console {
    /// Reads what `output` gives, and appends it to the file at `copy` with the time of each line.
    pub fn read(name: &str, output: impl Read + Send + 'static, copy: &Path) -> Self {
        let console =
            Self { name: name.to_owned(), power_on: Instant::now(), shared: Arc::default() };
        let mut copy = File::options().create(true).append(true).open(copy).expect("a file");
        let reader = console.clone();
        thread::spawn(move || {
            let mut output = output;
            let mut piece = [0; 4096];
            let mut seen = 0;
            while let Ok(length @ 1..) = output.read(&mut piece) {
                reader.take(piece.get(..length).unwrap_or_default());
                seen = reader.copy(&mut copy, seen);
            }
            reader.end();
            reader.copy(&mut copy, seen);
        });
        console
    }

    /// Waits for a line that holds `text`; the test fails if it does not come within `patience` from
    /// now, or if the machine ends before.
    pub fn wait_for(&self, text: &str, patience: Duration) -> Line {
        self.wait_after(0, text, patience)
    }

    /// As [`Self::wait_for`], but for lines after the first `mark`, a former [`Self::mark`].
    pub fn wait_after(&self, mark: usize, text: &str, patience: Duration) -> Line {
        let deadline = Instant::now() + patience;
        let (_, changed) = &*self.shared;
        let mut printed = self.printed();
        loop {
            let new = printed.lines.iter().skip(mark);
            if let Some(line) = new.into_iter().find(|line| line.text.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if printed.is_over || left.is_zero() {
                let why = if printed.is_over { "before it ended" } else { "in time" };
                drop(printed);
                panic!("{} did not print `{text}` {why} ({patience:?})", self.name);
            }
            let waited = changed.wait_timeout(printed, left);
            printed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many lines there are, for [`Self::wait_after`].
    pub fn mark(&self) -> usize {
        self.printed().lines.len()
    }

    /// Whether a line holds `text`.
    pub fn says(&self, text: &str) -> bool {
        self.printed().lines.iter().any(|line| line.text.contains(text))
    }

    /// All lines that hold `text`.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let printed = self.printed();
        let lines = printed.lines.iter().filter(|line| line.text.contains(text));
        lines.map(|line| line.text.clone()).collect()
    }

    /// What is wrong with the board, in its own words.
    pub fn problems(&self) -> Vec<String> {
        self.lines_with("problem:")
    }

    /// The number that follows `before` on the first line that holds it.
    pub fn number(&self, before: &str) -> Option<f64> {
        let line = self.lines_with(before).into_iter().next()?;
        let (_, rest) = line.split_once(before)?;
        let digits: String =
            rest.trim_start().chars().take_while(|digit| "0123456789.".contains(*digit)).collect();
        digits.parse().ok()
    }

    /// Its last lines, for whoever must find out why a test failed.
    pub fn tail(&self) -> String {
        let printed = self.printed();
        let skipped = printed.lines.len().saturating_sub(TAIL_LINES);
        let lines = printed.lines.iter().skip(skipped);
        let shown = lines.map(|line| format!("{:8.3} {}\n", line.at.as_secs_f64(), line.text));
        format!("-- console of {}\n{}", self.name, shown.collect::<String>())
    }

    fn take(&self, piece: &[u8]) {
        let at = self.power_on.elapsed();
        let text = String::from_utf8_lossy(piece);
        let mut printed = self.printed();
        for part in text.split_inclusive('\n') {
            let words: String = part.chars().filter(|letter| !letter.is_control()).collect();
            let is_open = printed.is_line_open;
            match printed.lines.last_mut().filter(|_| is_open) {
                Some(line) => line.text.push_str(&words),
                None => printed.lines.push(Line { at, text: words }),
            }
            printed.is_line_open = !part.ends_with('\n');
        }
        drop(printed);
        self.shared.1.notify_all();
    }

    fn end(&self) {
        let mut printed = self.printed();
        printed.is_over = true;
        printed.is_line_open = false;
        drop(printed);
        self.shared.1.notify_all();
    }

    /// Copies the whole lines after the first `from` and returns how many there are.
    fn copy(&self, copy: &mut File, from: usize) -> usize {
        let printed = self.printed();
        let whole = printed.lines.len() - usize::from(printed.is_line_open);
        for line in printed.lines.iter().take(whole).skip(from) {
            // A copy for people: the test itself does not need it.
            let _ = writeln!(copy, "{:8.3} {}", line.at.as_secs_f64(), line.text);
        }
        whole
    }

    fn printed(&self) -> MutexGuard<'_, Printed> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_pieces_are_put_together_and_numbers_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let console = Console::read("board", reader, &folder.path().join("console"));
        writer.write_all(b"bramble: process 1 sta").expect("it is read");
        console.wait_for("process 1", Duration::from_secs(5));
        writer.write_all(b"rted after 812 ms\r\n$ ").expect("it is read");
        console.wait_for("$", Duration::from_secs(5));
        assert_eq!(console.number("process 1 started after"), Some(812.0));
        assert_eq!(console.mark(), 2);
        drop(writer);
    }
}

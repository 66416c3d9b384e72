//! QEMU's own account of a machine: why it ended.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long QEMU may take to open its socket.
const OPENING: Duration = Duration::from_secs(20);

/// How a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It switched itself off.
    PowerOff,
    /// It asked for a restart, or its watchdog did.
    Reset,
    /// QEMU ended without a word, as by a kill.
    Cut,
}

/// A conversation with one QEMU.
pub struct Qmp {
    end: Arc<Mutex<Option<End>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Qmp {
    /// Connects to the socket that QEMU opens as it starts.
    pub fn connect(socket: &Path) -> Self {
        let started = Instant::now();
        let mut stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if started.elapsed() > OPENING => {
                    panic!("QEMU does not open {}: {error}", socket.display())
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        let lines = BufReader::new(stream.try_clone().expect("a socket"));
        stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").expect("QEMU listens");
        let end = Arc::new(Mutex::new(None));
        let told = Arc::clone(&end);
        let reader = thread::spawn(move || {
            // Kept open as long as it is read: QEMU ends the conversation by ending.
            let _stream = stream;
            for line in lines.lines().map_while(Result::ok) {
                if let Some(end) = end_in(&line) {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
                }
            }
        });
        Self { end, reader: Some(reader) }
    }

    /// Why the machine ended; call it once QEMU has.
    pub fn end(&mut self) -> End {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of QEMU's events does not panic");
        }
        self.end.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(End::Cut)
    }
}

fn end_in(line: &str) -> Option<End> {
    let event: Value = serde_json::from_str(line).ok()?;
    match (event["event"].as_str()?, event["data"]["reason"].as_str().unwrap_or_default()) {
        ("SHUTDOWN", "guest-shutdown") => Some(End::PowerOff),
        ("SHUTDOWN", "guest-reset") => Some(End::Reset),
        // QEMU puts a watchdog's bite down to the host.
        ("WATCHDOG", _) => Some(End::Reset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_end_is_understood() {
        let said =
            |reason: &str| format!(r#"{{"event":"SHUTDOWN","data":{{"reason":"{reason}"}}}}"#);
        assert_eq!(end_in(&said("guest-shutdown")), Some(End::PowerOff));
        assert_eq!(end_in(&said("guest-reset")), Some(End::Reset));
        assert_eq!(end_in(&said("host-signal")), None);
        assert_eq!(end_in(r#"{"return":{}}"#), None);
    }
}

//! How many strangers may knock, and how often.
//!
//! A handshake costs a board milliseconds, and a guess at a secret must not be cheap: each source
//! may have few handshakes under way, and after some failures must wait between attempts.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Handshakes under way at a time, all sources together.
const PENDING: usize = 256;
/// Handshakes under way at a time, one source.
const PENDING_OF_SOURCE: usize = 16;
/// Failures that a source has free before it must wait.
const FAILURES: u32 = 20;
/// How long it takes for one failure to be forgiven.
const FORGIVEN_AFTER: Duration = Duration::from_millis(500);
/// Sources that are remembered; beyond, the most innocent is forgotten.
const SOURCES: usize = 1_024;

/// Counts handshakes and failures by source. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    pending: usize,
    sources: BTreeMap<IpAddr, Source>,
}

#[derive(Debug)]
struct Source {
    pending: usize,
    /// When all of the source's failures are forgiven.
    innocent_at: Instant,
}

/// Permission for one handshake; given back when dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Gate,
    source: IpAddr,
}

impl Gate {
    /// Lets a stranger try a handshake; `None` turns it away.
    pub(crate) fn admit(&self, source: IpAddr, now: Instant) -> Option<Pass> {
        let mut book = self.lock();
        if book.pending >= PENDING {
            return None;
        }
        let entry = book.source(source, now);
        let is_guilty = entry.innocent_at > now + FORGIVEN_AFTER * (FAILURES - 1);
        if is_guilty || entry.pending >= PENDING_OF_SOURCE {
            return None;
        }
        entry.pending += 1;
        book.pending += 1;
        Some(Pass { gate: self.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// The handshake failed, or the stranger turned out to be one.
    pub(crate) fn failed(&self, now: Instant) {
        let mut book = self.gate.lock();
        let entry = book.source(self.source, now);
        let most = now + FORGIVEN_AFTER * FAILURES;
        entry.innocent_at = (entry.innocent_at.max(now) + FORGIVEN_AFTER).min(most);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut book = self.gate.lock();
        book.pending = book.pending.saturating_sub(1);
        if let Some(entry) = book.sources.get_mut(&self.source) {
            entry.pending = entry.pending.saturating_sub(1);
        }
    }
}

impl Book {
    fn source(&mut self, source: IpAddr, now: Instant) -> &mut Source {
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, entry| entry.pending > 0 || entry.innocent_at > now);
            let idle = self.sources.iter().filter(|(_, entry)| entry.pending == 0);
            let innocent = idle.min_by_key(|(_, entry)| entry.innocent_at).map(|(ip, _)| *ip);
            if let Some(innocent) = innocent.filter(|_| self.sources.len() >= SOURCES) {
                self.sources.remove(&innocent);
            }
        }
        self.sources.entry(source).or_insert(Source { pending: 0, innocent_at: now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_source_that_fails_on_must_wait_and_others_need_not() {
        let (gate, now) = (Gate::default(), Instant::now());
        let mut attempts = 0;
        while let Some(pass) = gate.admit(source(1), now) {
            pass.failed(now);
            attempts += 1;
            assert!(attempts <= FAILURES, "nobody stops the source");
        }
        assert_eq!(attempts, FAILURES);
        assert!(gate.admit(source(2), now).is_some());
        assert!(gate.admit(source(1), now + FORGIVEN_AFTER).is_some());
        let pass = gate.admit(source(1), now + FORGIVEN_AFTER).expect("one was forgiven");
        pass.failed(now + FORGIVEN_AFTER);
        assert!(gate.admit(source(1), now + FORGIVEN_AFTER).is_none());
        assert!(gate.admit(source(1), now + FORGIVEN_AFTER * 2 * FAILURES).is_some());
    }

    #[test]
    fn handshakes_under_way_are_limited_and_given_back() {
        let (gate, now) = (Gate::default(), Instant::now());
        let passes: Vec<_> = std::iter::from_fn(|| gate.admit(source(1), now)).collect();
        assert_eq!(passes.len(), PENDING_OF_SOURCE);
        let others: Vec<_> =
            (2..1_000).filter_map(|number| gate.admit(source(number), now)).collect();
        assert_eq!(passes.len() + others.len(), PENDING);
        drop(passes);
        assert!(gate.admit(source(1), now).is_some());
    }

    #[test]
    fn the_memory_of_sources_is_bounded() {
        let (gate, now) = (Gate::default(), Instant::now());
        for number in 0..5_000 {
            gate.admit(source(number), now).expect("welcome").failed(now);
        }
        assert!(gate.lock().sources.len() <= SOURCES);
    }
}

//! Whether the daemon lives, and whether the board does: when a daemon that hangs is killed, and
//! when the hardware's watchdog is no longer fed.
//!
//! The daemon gives a sign of life every few seconds, by the threads that do its work. One that
//! falls silent is killed, and started again as any that ends. Only when none has lived for long
//! is the board left to its watchdog, because a reboot takes the containers down with it.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use super::{KeeperOptions, turn::State};

/// How often the watchdog is fed. The Raspberry Pi's bites after 15 s.
const FEED_EVERY: Duration = Duration::from_secs(4);

/// What is known of the daemon's life.
#[derive(Debug)]
pub(super) struct Life {
    /// How long a daemon that greeted may be silent.
    daemon_patience: Duration,
    /// How long a daemon may take until it greets.
    start_patience: Duration,
    /// How long the board may be without a living daemon.
    board_patience: Duration,
    /// When the daemon of now was started, if there is one.
    started: Option<Instant>,
    /// Whether the daemon of now has greeted.
    has_greeted: bool,
    /// The last sign of any daemon, or the keeper's beginning.
    last_sign: Instant,
    feed_at: Instant,
}

impl Life {
    pub(super) fn new(options: &KeeperOptions, now: Instant) -> Self {
        Self {
            daemon_patience: options.daemon_patience,
            start_patience: options.start_patience,
            board_patience: options.board_patience,
            started: None,
            has_greeted: false,
            last_sign: now,
            feed_at: now,
        }
    }

    /// A daemon was started.
    pub(super) fn begins(&mut self, now: Instant) {
        self.started = Some(now);
        self.has_greeted = false;
    }

    /// The daemon has ended.
    pub(super) fn ends(&mut self) {
        self.started = None;
    }

    /// The daemon gave a sign of life.
    pub(super) fn sign(&mut self, now: Instant) {
        self.has_greeted = true;
        self.last_sign = now;
    }

    /// When the daemon of now counts as hung; none if there is no daemon.
    pub(super) fn hung_at(&self) -> Option<Instant> {
        let started = self.started?;
        Some(match self.has_greeted {
            true => self.last_sign.max(started) + self.daemon_patience,
            false => started + self.start_patience,
        })
    }

    /// Whether the watchdog may still be fed.
    fn is_board_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_sign) < self.board_patience
    }
}

impl State {
    /// Kills a daemon that hangs, and feeds the watchdog while the board is alive. While the board
    /// ends in order it is alive: everything in that has its own deadline.
    pub(super) fn watch_life(&mut self, now: Instant) {
        if self.ending.is_none() && self.life.hung_at().is_some_and(|at| at <= now) {
            tracing::error!("the daemon gives no sign of life and is killed");
            self.daemon.signal(nix::sys::signal::Signal::SIGKILL);
            // It is dead now; asked again only if even that takes long.
            self.life.begins(now);
        }
        let Some(watchdog) = &self.options.watchdog else { return };
        if now < self.life.feed_at {
            return;
        }
        self.life.feed_at = now + FEED_EVERY;
        if self.ending.is_some() || self.life.is_board_alive(now) {
            // Any byte feeds it, but for the `V` that would put it to rest (watchdog-api.rst).
            let _ = (&**watchdog).write(b"\0");
        }
    }

    /// When `watch_life` has something to do.
    pub(super) fn life_deadline(&self) -> Option<Instant> {
        let hung = self.life.hung_at().filter(|_| self.ending.is_none());
        let feed = self.options.watchdog.as_ref().map(|_| self.life.feed_at);
        hung.into_iter().chain(feed).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    fn life(now: Instant) -> Life {
        Life::new(&KeeperOptions::new(Layout::new("/r", "/d", "/c"), Vec::new()), now)
    }

    #[test]
    fn a_daemon_that_never_greets_has_the_patience_of_a_start() {
        let now = Instant::now();
        let mut life = life(now);
        assert_eq!(life.hung_at(), None);
        life.begins(now);
        assert_eq!(life.hung_at(), Some(now + life.start_patience));
    }

    #[test]
    fn every_sign_defers_the_end_of_patience() {
        let now = Instant::now();
        let mut life = life(now);
        life.begins(now);
        for second in 0..10 {
            let later = now + Duration::from_secs(second);
            life.sign(later);
            assert_eq!(life.hung_at(), Some(later + life.daemon_patience));
        }
        life.ends();
        assert_eq!(life.hung_at(), None);
    }

    #[test]
    fn a_board_without_a_living_daemon_is_left_to_its_watchdog_only_after_long() {
        let now = Instant::now();
        let mut life = life(now);
        life.begins(now);
        life.sign(now);
        life.ends();
        life.begins(now + life.daemon_patience);
        assert!(life.is_board_alive(now + life.daemon_patience * 3));
        assert!(!life.is_board_alive(now + life.board_patience));
    }
}

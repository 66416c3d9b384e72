//! What the broker has not confirmed yet.

use std::collections::{BTreeMap, VecDeque};

/// How many events wait at most; when there are more, the oldest are dropped.
pub(crate) const EVENTS_MAX: usize = 256;
/// How many topics have a state at most: boards, services and a few of the cluster's own.
pub(crate) const STATES_MAX: usize = 2_048;

/// A message as it goes to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    /// Whether the broker keeps it for whoever subscribes later. States are kept, events not.
    pub(crate) is_retained: bool,
}

/// Messages on their way: the latest state of each topic, and events in order.
///
/// One message is under way at a time. The broker's confirmation frees the next, so that what a
/// lost connection swallowed is known and sent again.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    states: BTreeMap<String, State>,
    events: VecDeque<Message>,
    under_way: Option<Message>,
    dropped: u64,
}

#[derive(Debug)]
struct State {
    payload: Vec<u8>,
    is_sent: bool,
}

impl Outbox {
    /// Puts in the state of a topic. An equal one that was sent already is not sent again.
    pub(crate) fn put_state(&mut self, topic: String, payload: Vec<u8>) {
        let is_full = self.states.len() >= STATES_MAX;
        match self.states.get_mut(&topic) {
            Some(state) if state.payload == payload => {}
            Some(state) => *state = State { payload, is_sent: false },
            None if is_full => self.dropped += 1,
            None => {
                self.states.insert(topic, State { payload, is_sent: false });
            }
        }
    }

    /// Takes a topic away: the broker forgets what it kept (an empty retained message does that).
    pub(crate) fn clear_state(&mut self, topic: &str) {
        if let Some(state) = self.states.get_mut(topic) {
            *state = State { payload: Vec::new(), is_sent: false };
        }
    }

    /// The topics that start with `prefix` and have a state.
    pub(crate) fn topics(&self, prefix: &str) -> Vec<String> {
        let has_state = |(topic, state): &(&String, &State)| {
            topic.starts_with(prefix) && !state.payload.is_empty()
        };
        self.states.iter().filter(has_state).map(|(topic, _)| topic.clone()).collect()
    }

    /// Puts in an event.
    pub(crate) fn put_event(&mut self, topic: String, payload: Vec<u8>) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(Message { topic, payload, is_retained: false });
    }

    /// The next message to send; `None` while one is under way or nothing waits.
    pub(crate) fn next(&mut self) -> Option<Message> {
        if self.under_way.is_some() {
            return None;
        }
        let message = self.next_state().or_else(|| self.events.pop_front())?;
        self.under_way = Some(message.clone());
        Some(message)
    }

    /// The broker has what was under way.
    pub(crate) fn confirm(&mut self) {
        let Some(message) = self.under_way.take() else { return };
        if !message.is_retained {
            return;
        }
        let is_gone = match self.states.get_mut(&message.topic) {
            Some(state) if state.payload == message.payload => {
                state.is_sent = true;
                state.payload.is_empty()
            }
            _ => false,
        };
        if is_gone {
            self.states.remove(&message.topic);
        }
    }

    /// The connection is new. The broker may have lost everything: all states are due again, and
    /// so is what was under way.
    pub(crate) fn start_over(&mut self) {
        match self.under_way.take() {
            Some(message) if !message.is_retained => self.events.push_front(message),
            _ => {}
        }
        for state in self.states.values_mut() {
            state.is_sent = false;
        }
    }

    /// How many messages were dropped because the outbox was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn next_state(&self) -> Option<Message> {
        let (topic, state) = self.states.iter().find(|(_, state)| !state.is_sent)?;
        let payload = state.payload.clone();
        Some(Message { topic: topic.clone(), payload, is_retained: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(message) = outbox.next() {
            sent.push(format!("{}={}", message.topic, String::from_utf8_lossy(&message.payload)));
            outbox.confirm();
        }
        sent
    }

    #[test]
    fn of_a_state_only_the_latest_is_sent() {
        let mut outbox = Outbox::default();
        outbox.put_state("a".to_owned(), b"1".to_vec());
        outbox.put_state("a".to_owned(), b"2".to_vec());
        assert_eq!(drain(&mut outbox), ["a=2"]);
        outbox.put_state("a".to_owned(), b"2".to_vec());
        assert!(drain(&mut outbox).is_empty(), "nothing new to say");
    }

    #[test]
    fn a_state_that_changed_under_way_is_sent_again() {
        let mut outbox = Outbox::default();
        outbox.put_state("a".to_owned(), b"1".to_vec());
        outbox.next().expect("it is due");
        outbox.put_state("a".to_owned(), b"2".to_vec());
        outbox.confirm();
        assert_eq!(drain(&mut outbox), ["a=2"]);
    }

    #[test]
    fn a_new_connection_repeats_states_and_the_event_under_way() {
        let mut outbox = Outbox::default();
        outbox.put_state("a".to_owned(), b"1".to_vec());
        assert_eq!(drain(&mut outbox), ["a=1"]);
        outbox.put_event("e".to_owned(), b"x".to_vec());
        outbox.put_event("e".to_owned(), b"y".to_vec());
        outbox.next().expect("the event is due");
        outbox.start_over();
        assert_eq!(drain(&mut outbox), ["a=1", "e=x", "e=y"]);
    }

    #[test]
    fn a_full_outbox_drops_the_oldest_events_and_counts_them() {
        let mut outbox = Outbox::default();
        for number in 0..EVENTS_MAX + 3 {
            outbox.put_event("e".to_owned(), number.to_string().into_bytes());
        }
        assert_eq!(outbox.dropped(), 3);
        assert_eq!(drain(&mut outbox).first().map(String::as_str), Some("e=3"));
    }

    #[test]
    fn a_cleared_state_is_sent_empty_and_forgotten() {
        let mut outbox = Outbox::default();
        outbox.put_state("a".to_owned(), b"1".to_vec());
        drain(&mut outbox);
        outbox.clear_state("a");
        assert_eq!(drain(&mut outbox), ["a="]);
        assert!(outbox.topics("").is_empty());
        outbox.start_over();
        assert!(drain(&mut outbox).is_empty());
    }
}

//! What is wrong with this board, for the person who looks after it.
//!
//! A problem does not keep the board from working: what does is an error and ends the daemon. The
//! list is short, in words, and in the order in which the problems came up.

pub(crate) mod cluster;

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bramble_peering::Peering;
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

/// The engine label that carries the problems.
const LABEL: &str = "board.problems";
/// Between two changes of the label: each is written into the cluster's log, and a problem may come
/// and go again and again.
const LABEL_EVERY: Duration = Duration::from_secs(60);
/// An appliance was not told which cluster it belongs to.
pub(crate) const NO_CLUSTER: &str = "[cluster] key: it is not set, nor is a token: the board founds no cluster and joins none; `bramble card DEVICE --key` sets it";
/// Problems that are kept.
const PROBLEMS_MAX: usize = 32;
/// Bytes of one.
const TEXT_MAX: usize = 256;
/// Bytes of the label; the cluster takes labels up to a bound.
const LABEL_MAX: usize = 2_048;

/// A problem and who found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// `boot`, `configuration`, `network`, ...
    pub(crate) source: &'static str,
    /// What is wrong, and what to do about it.
    pub(crate) text: String,
}

/// The problems of this board. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Problems(Arc<watch::Sender<Vec<Problem>>>);

impl Problems {
    /// Something is wrong.
    pub(crate) fn add(&self, source: &'static str, text: impl Into<String>) {
        let text = bounded(text.into(), TEXT_MAX);
        let is_new = self.0.send_if_modified(|problems| {
            let problem = Problem { source, text: text.clone() };
            let is_new = problems.len() < PROBLEMS_MAX && !problems.contains(&problem);
            if is_new {
                problems.push(problem);
            }
            is_new
        });
        if is_new {
            warn!(%source, "problem: {text}");
        }
    }

    /// From now on exactly these are wrong, says `source`.
    pub(crate) fn set(&self, source: &'static str, texts: Vec<String>) {
        if texts.is_empty() {
            return self.clear(source);
        }
        let texts: Vec<String> = texts.into_iter().map(|text| bounded(text, TEXT_MAX)).collect();
        self.0.send_if_modified(|problems| {
            let before = problems.len();
            problems.retain(|problem| problem.source != source || texts.contains(&problem.text));
            before != problems.len()
        });
        for text in texts {
            self.add(source, text);
        }
    }

    /// Nothing is wrong any more, says `source`.
    fn clear(&self, source: &'static str) {
        let is_changed = self.0.send_if_modified(|problems| {
            let before = problems.len();
            problems.retain(|problem| problem.source != source);
            before != problems.len()
        });
        if is_changed {
            info!(%source, "what was wrong is right again");
        }
    }

    /// Their texts.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.borrow().iter().map(|problem| problem.text.clone()).collect()
    }

    /// Their texts in one, if there are any: a label's value.
    fn label(&self) -> Option<String> {
        let texts = self.texts();
        (!texts.is_empty()).then(|| bounded(texts.join("; "), LABEL_MAX))
    }

    /// Them, and every change of them.
    pub(crate) fn watch(&self) -> watch::Receiver<Vec<Problem>> {
        self.0.subscribe()
    }
}

/// Keeps the board's label as the problems are, for as long as the board runs.
///
/// # Errors
/// Only when nobody can find problems any more.
pub(crate) async fn show(problems: Problems, peering: Peering) -> Result<Infallible> {
    let mut watch = problems.watch();
    loop {
        watch.mark_unchanged();
        peering.set_label(LABEL, problems.label());
        sleep(LABEL_EVERY).await;
        watch.changed().await.context("nobody finds problems any more")?;
    }
}

/// A text without control characters, and not longer than a person reads.
fn bounded(text: String, max: usize) -> String {
    let mut text: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_once_and_go_by_their_source() {
        let problems = Problems::default();
        let mut watch = problems.watch();
        problems.add("network", "no cable");
        problems.add("network", "no cable");
        problems.add("boot", "a\nb");
        assert_eq!(problems.label().as_deref(), Some("no cable; a b"));
        assert!(watch.has_changed().unwrap_or_default());
        watch.borrow_and_update();
        problems.set("network", vec!["no address".into(), "no cable".into()]);
        assert_eq!(problems.texts(), ["no cable", "a b", "no address"]);
        problems.set("network", vec!["no address".into()]);
        problems.clear("boot");
        assert_eq!(problems.texts(), ["no address"]);
        watch.borrow_and_update();
        problems.clear("boot");
        assert!(!watch.has_changed().unwrap_or(true));
        assert!(problems.clone().label().is_some());
    }

    #[test]
    fn the_list_is_bounded() {
        let problems = Problems::default();
        for number in 0..100 {
            problems.add("boot", format!("{number}{}", "ö".repeat(1_000)));
        }
        let label = problems.label().unwrap_or_default();
        assert!(problems.texts().len() == PROBLEMS_MAX);
        assert!(label.len() < LABEL_MAX + 4, "{}", label.len());
    }
}

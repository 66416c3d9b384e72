//! The leader's loop over a real state and the real planner.

use std::sync::atomic::Ordering;

use bramble_cluster::NodeState;

use super::*;
use crate::seat::bench::{Bench, id, service};

/// A running loop; it ends with the test.
struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn lead(bench: &Bench) -> (Contacts, Running) {
    let contacts = Contacts::new();
    let leader = Leader::new(bench.seat.clone(), contacts.clone());
    (contacts, Running(tokio::spawn(async { match leader.run().await {} })))
}

async fn until_leading(contacts: &Contacts, term: u64) {
    let mut edges = contacts.edges();
    while contacts.term() != Some(term) {
        edges.changed().await.expect("open");
    }
}

#[tokio::test]
async fn a_node_that_is_heard_of_is_ready_and_one_that_falls_silent_is_down_in_time() {
    let bench = Bench::new(2);
    let (contacts, _running) = lead(&bench);
    until_leading(&contacts, 1).await;
    let (entry, _replaced) = contacts.open(1, (id(2), 1), bench.seat.now()).expect("opens");
    let state_of = |number: u128, wanted: NodeState| {
        move |state: &std::sync::Arc<bramble_cluster::ClusterState>| {
            state.node(id(number)).is_some_and(|node| node.status.state == wanted)
        }
    };
    bench.until("ready", state_of(2, NodeState::Ready)).await;
    entry.heard(bench.seat.now(), None);
    let silent_since = Instant::now();
    drop(entry);
    bench.until("down", state_of(2, NodeState::Down)).await;
    let took = silent_since.elapsed();
    assert!(took >= bramble_planner::timing::DOWN_AFTER, "{took:?}");
    assert!(took < bramble_planner::timing::DOWN_AFTER + Duration::from_millis(150), "{took:?}");
}

#[tokio::test]
async fn an_idle_leader_writes_nothing_however_many_heartbeats_come() {
    let bench = Bench::new(2);
    let (contacts, _running) = lead(&bench);
    until_leading(&contacts, 1).await;
    let (first, _one) = contacts.open(1, (id(1), 1), bench.seat.now()).expect("opens");
    let (second, _two) = contacts.open(1, (id(2), 2), bench.seat.now()).expect("opens");
    let all_ready = |state: &std::sync::Arc<bramble_cluster::ClusterState>| {
        state.nodes().values().all(|node| node.status.state == NodeState::Ready)
    };
    bench.until("ready", all_ready).await;
    sleep(Duration::from_millis(300)).await;
    let before = bench.entries().len();
    for _ in 0..12 {
        sleep(Duration::from_millis(200)).await;
        first.heard(bench.seat.now(), None);
        second.heard(bench.seat.now(), None);
    }
    assert_eq!(bench.entries().len(), before, "{:?}", bench.entries().last());
}

#[tokio::test]
async fn a_node_that_does_not_lead_plans_nothing() {
    let bench = Bench::new(1);
    bench.depose(Some(id(2)));
    let (contacts, _running) = lead(&bench);
    let before = bench.entries().len() + 1;
    bench.apply(vec![service(1, 5)]);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.entries().len(), before);
    assert_eq!(contacts.term(), None);
    bench.lead(2);
    until_leading(&contacts, 2).await;
    let (_entry, _replaced) = contacts.open(2, (id(1), 1), bench.seat.now()).expect("opens");
    bench.until("planned", |state| state.tasks().len() == 5).await;
}

#[tokio::test]
async fn a_proposal_that_is_never_answered_ends_with_the_leadership() {
    let bench = Bench::new(1);
    bench.is_stuck.store(true, Ordering::SeqCst);
    let (contacts, _running) = lead(&bench);
    until_leading(&contacts, 1).await;
    let (_entry, _replaced) = contacts.open(1, (id(1), 1), bench.seat.now()).expect("opens");
    sleep(Duration::from_millis(200)).await;
    bench.depose(None);
    bench.is_stuck.store(false, Ordering::SeqCst);
    bench.lead(3);
    until_leading(&contacts, 3).await;
    let (_entry, _replaced) = contacts.open(3, (id(1), 1), bench.seat.now()).expect("opens");
    let ready = |state: &std::sync::Arc<bramble_cluster::ClusterState>| {
        state.node(id(1)).is_some_and(|node| node.status.state == NodeState::Ready)
    };
    bench.until("ready", ready).await;
}

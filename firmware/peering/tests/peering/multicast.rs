//! Finding each other by mDNS, on a segment of network namespaces. Needs root.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use bramble_cluster::NodeId;
use bramble_peering::{Instance, PORT, Peering, Problem, Protocol, Situation};
use mdns_sd::{HostnameResolutionEvent, ServiceDaemon};

use crate::{
    boards::{Board, KEY, Manager, OTHER_KEY, eventually, look, soon},
    segment::{Segment, Station, address},
};

fn found(peering: &Peering) -> BTreeSet<NodeId> {
    peering.neighbours().borrow().keys().copied().collect()
}

fn at(number: u8) -> SocketAddr {
    SocketAddr::from((address(number), PORT))
}

/// Makes the station found a cluster, and lets it admit boards.
async fn found_cluster(station: &Station) -> Manager {
    let directory = station.directory.clone();
    let founded =
        station.on(|peering| async move { Manager::found_on(Board { peering, directory }) });
    founded.await.expect("it founds a cluster")
}

#[tokio::test]
async fn boards_with_one_key_find_each_other_and_no_others() -> anyhow::Result<()> {
    let segment = Segment::new()?;
    let start = Instant::now();
    let boards = [
        segment.board(1, Some(KEY))?,
        segment.board(2, Some(KEY))?,
        segment.board(3, Some(KEY))?,
        segment.board(4, Some(OTHER_KEY))?,
        segment.board(5, None)?,
    ];
    let switched_on = start.elapsed();
    let ids = boards.iter().take(3).map(|board| board.peering.node_id());
    let ids: BTreeSet<_> = ids.collect();
    for board in &boards[..3] {
        let mut others = ids.clone();
        others.remove(&board.peering.node_id());
        eventually("all are found", || found(&board.peering) == others).await;
    }
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    for (neighbour, number) in [(&boards[1], 2), (&boards[2], 3)] {
        let neighbours = boards[0].peering.neighbours().borrow().clone();
        let neighbour = &neighbours[&neighbour.peering.node_id()];
        assert_eq!(neighbour.addresses, [at(number)]);
        assert_eq!(neighbour.announcement.cluster, None);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(found(&boards[3].peering), BTreeSet::new());
    assert_eq!(found(&boards[4].peering), BTreeSet::new());
    assert!(boards.iter().all(|board| board.peering.problems().borrow().is_empty()));
    println!("five boards switched on within {switched_on:?}: found after {elapsed:?}");
    Ok(())
}

#[tokio::test]
async fn a_founded_cluster_is_seen_and_joined_and_an_address_may_change() -> anyhow::Result<()> {
    let segment = Segment::new()?;
    let (one, two, three) =
        (segment.board(1, Some(KEY))?, segment.board(2, Some(KEY))?, segment.board(3, Some(KEY))?);
    let founder = one.peering.node_id();
    eventually("the founder is seen", || found(&two.peering).contains(&founder)).await;
    let manager = found_cluster(&one).await;
    let founded = Instant::now();
    let cluster = look(&manager.ledger, |book| book.cluster.clone());
    for board in [&two, &three] {
        eventually("the cluster is seen", || {
            let neighbours = board.peering.neighbours().borrow().clone();
            let facts = neighbours.get(&founder).and_then(|found| found.announcement.cluster);
            facts.is_some_and(|facts| {
                facts.id == cluster.id && facts.founded_at == cluster.created_at && facts.is_manager
            })
        })
        .await;
    }
    let seen = founded.elapsed();
    assert!(seen < Duration::from_secs(2), "{seen:?}");
    for board in [&two, &three] {
        let peer = board.peering.neighbours().borrow()[&founder].peer();
        board.on(|peering| async move { peering.join(&peer).await }).await?;
    }

    // Addresses come by mDNS alone: nobody has had a session yet.
    let mut incoming = three.peering.incoming(Protocol::Raft).expect("not taken");
    let id = three.peering.node_id();
    eventually("the member is known", || one.peering.directory().addresses(id) == [at(3)]).await;
    one.on(move |peering| async move { peering.connect_to(id, Protocol::Raft).await }).await?;
    soon("the call", incoming.recv()).await.expect("open");

    // A new lease.
    three.move_to(33)?;
    let moved = Instant::now();
    eventually("the new address is known", || {
        one.peering.directory().addresses(id).contains(&at(33))
    })
    .await;
    let known = moved.elapsed();
    one.on(move |peering| async move { peering.connect_to(id, Protocol::Raft).await }).await?;
    soon("the call", incoming.recv()).await.expect("open");
    assert_eq!(one.peering.directory().addresses(id).first(), Some(&at(33)));
    assert!(three.peering.membership().borrow().member().is_some());
    let description = three.on(|peering| async move { peering.description() }).await;
    assert_eq!(description.addresses, [at(33)]);
    println!("cluster seen after {seen:?}, new address known after {known:?}");
    Ok(())
}

#[tokio::test]
async fn the_leader_answers_to_bramble_local() -> anyhow::Result<()> {
    let segment = Segment::new()?;
    let (one, two, three) =
        (segment.board(1, Some(KEY))?, segment.board(2, Some(KEY))?, segment.board(3, None)?);
    let _manager = found_cluster(&one).await;
    let peer = bramble_cluster::Peer { id: one.peering.node_id(), addresses: vec![at(1)] };
    two.on(|peering| async move { peering.join(&peer).await }).await?;
    let lead = |is_leader| Situation { is_manager: true, is_leader, is_used: true };
    for (leader, follower, number) in [(&one, &two, 1), (&two, &one, 2), (&one, &two, 1)] {
        follower.peering.set_situation(lead(false));
        leader.peering.set_situation(lead(true));
        let expected = IpAddr::from(address(number));
        three
            .on(move |_| async move {
                soon("the name", async { while !resolve().await.contains(&expected) {} }).await;
            })
            .await;
    }
    Ok(())
}

/// What `bramble.local` means here and now, asked by a stranger with an empty memory.
async fn resolve() -> BTreeSet<IpAddr> {
    let daemon = ServiceDaemon::new().expect("mDNS starts");
    let events = daemon.resolve_hostname("bramble.local.", Some(1_500)).expect("it asks");
    let mut addresses = BTreeSet::new();
    while let Ok(event) = events.recv_async().await {
        match event {
            HostnameResolutionEvent::AddressesFound(_, found) => {
                addresses.extend(found.iter().map(mdns_sd::ScopedIp::to_ip_addr));
                break;
            }
            HostnameResolutionEvent::SearchTimeout(_) => break,
            _ => {}
        }
    }
    let _ = daemon.shutdown();
    addresses
}

#[tokio::test]
async fn a_copied_card_is_noticed_by_both() -> anyhow::Result<()> {
    let segment = Segment::new()?;
    let one = segment.board(1, Some(KEY))?;
    let witness = segment.board(3, Some(KEY))?;
    let copy = std::sync::Arc::new(tempfile::tempdir()?);
    for entry in std::fs::read_dir(one.directory.path())? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
    }
    let two = segment.board_with(2, Some(KEY), copy)?;
    assert_eq!(one.peering.node_id(), two.peering.node_id());
    for (board, other) in [(&one, 2), (&two, 1)] {
        let problem = Problem::SameIdentity { address: at(other) };
        eventually("the copy is noticed", || board.peering.problems().borrow().contains(&problem))
            .await;
    }
    assert!(witness.peering.problems().borrow().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_restarted_board_is_no_copy_of_itself() -> anyhow::Result<()> {
    let segment = Segment::new()?;
    let witness = segment.board(3, Some(KEY))?;
    let one = segment.board(1, Some(KEY))?;
    let (id, directory) = (one.peering.node_id(), one.directory.clone());
    eventually("it is found", || found(&witness.peering).contains(&id)).await;
    // The power goes and comes back: a new instance at a new address.
    one.cut()?;
    drop(one);
    let one = segment.board_with(2, Some(KEY), directory)?;
    let expected: Instance = one.peering.instance();
    eventually("its new instance is known", || {
        let neighbours = witness.peering.neighbours().borrow().clone();
        neighbours.get(&id).is_some_and(|found| {
            found.announcement.instance == expected && found.addresses == [at(2)]
        })
    })
    .await;
    assert!(one.peering.problems().borrow().is_empty());
    assert!(witness.peering.problems().borrow().is_empty());
    Ok(())
}

#[tokio::test]
async fn who_says_farewell_or_is_doubted_in_vain_is_forgotten() -> anyhow::Result<()> {
    let segment = Segment::new()?;
    let (one, two, three) =
        (segment.board(1, Some(KEY))?, segment.board(2, Some(KEY))?, segment.board(3, Some(KEY))?);
    let (second, third) = (two.peering.node_id(), three.peering.node_id());
    eventually("both are found", || found(&one.peering).len() == 2).await;
    let start = Instant::now();
    two.shut_down().await;
    eventually("it is forgotten", || !found(&one.peering).contains(&second)).await;
    let farewell = start.elapsed();
    assert!(farewell < Duration::from_secs(3), "{farewell:?}");
    // One that is there is doubted, and stays.
    one.peering.doubt(third);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(found(&one.peering).contains(&third));
    three.cut()?;
    let start = Instant::now();
    one.peering.doubt(third);
    eventually("it is forgotten", || !found(&one.peering).contains(&third)).await;
    println!("farewell {farewell:?}, doubted in vain {:?}", start.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_pulled_cable_ends_urgent_conversations_within_seconds() -> anyhow::Result<()> {
    let segment = Segment::new()?;
    let (one, two) = (segment.board(1, Some(KEY))?, segment.board(2, Some(KEY))?);
    let _manager = found_cluster(&one).await;
    let leader = one.peering.node_id();
    let peer = bramble_cluster::Peer { id: leader, addresses: vec![at(1)] };
    two.on(|peering| async move { peering.join(&peer).await }).await?;
    let mut incoming = one.peering.incoming(Protocol::Session).expect("not taken");
    let connect =
        move |peering: Peering| async move { peering.connect_to(leader, Protocol::Session).await };
    let mut there = two.on(connect).await?;
    let mut here = soon("the call", incoming.recv()).await.expect("open");
    // Until everything is acknowledged: what is not is noticed without any keep-alive.
    tokio::time::sleep(Duration::from_millis(500)).await;
    two.cut()?;
    let start = Instant::now();
    // One side only listens: keep-alive must find out. The other has something to say.
    let silent = one.on(|_| async move {
        (soon("the end", here.receive::<u8>()).await.is_err(), Instant::now())
    });
    let talking = two.on(|_| async move {
        let _ = there.send(&1u8).await;
        (soon("the end", there.receive::<u8>()).await.is_err(), Instant::now())
    });
    let ((is_silent_over, silent), (is_talking_over, talking)) = tokio::join!(silent, talking);
    assert!(is_silent_over && is_talking_over);
    let (silent, talking) = (silent - start, talking - start);
    assert!(silent < Duration::from_secs(5) && talking < Duration::from_secs(5));
    println!("cable pulled: the listener knew after {silent:?}, the talker after {talking:?}");

    // A call to a board that is not there fails fast.
    let start = Instant::now();
    let id = two.peering.node_id();
    let called = one.on(move |peering| async move { peering.connect_to(id, Protocol::Raft).await });
    assert!(called.await.is_err());
    assert!(start.elapsed() < Duration::from_millis(700), "{:?}", start.elapsed());
    Ok(())
}

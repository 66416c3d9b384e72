//! Who is a member, who is not, and where members are.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bramble_cluster::Peer;
use bramble_peering::{ConnectError, Peering, Problem, Protocol, ReceiveError, Refusal, SendError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::boards::{BUILT_AT, Board, KEY, Manager, config, eventually, soon};

#[tokio::test]
async fn another_clusters_certificate_is_refused() -> anyhow::Result<()> {
    // The same key, even: two clusters of one batch that have not found each other.
    let (one, other) = (Manager::found(Some(KEY)).await?, Manager::found(Some(KEY)).await?);
    let _incoming = one.peering().incoming(Protocol::Raft);
    let refused = other.peering().connect(&one.peer(), Protocol::Raft).await;
    assert!(matches!(refused, Err(ConnectError::Unreachable { .. })), "{refused:?}");
    assert!(refused.err().is_some_and(|error| error.to_string().contains("certificate")));
    Ok(())
}

#[tokio::test]
async fn whoever_answers_in_the_place_of_another_is_refused() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let (one, other) = (manager.joined_by(KEY).await?, manager.joined_by(KEY).await?);
    let _incoming = other.peering.incoming(Protocol::Session);
    // A member all right, but not the one that is looked for.
    let wrong = Peer { id: one.id(), addresses: other.peer().addresses };
    let refused = manager.peering().connect(&wrong, Protocol::Session).await;
    assert!(matches!(refused, Err(ConnectError::Unreachable { .. })), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_removed_node_is_refused() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    let mut incoming = manager.peering().incoming(Protocol::Session).expect("not taken");
    let mut there = board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    let mut here = incoming.recv().await.expect("open");
    let waiting = tokio::spawn(async move { here.receive::<String>().await });

    manager.peering().set_refused(BTreeSet::from([board.id()]));
    // What it has ends at once, on both sides.
    let ended = soon("the end here", waiting).await?;
    assert!(matches!(ended, Err(ReceiveError::Io(_))), "{ended:?}");
    let ended = soon("the end there", there.receive::<String>()).await;
    assert!(ended.is_err());
    // It gets nothing new, learns why, and nobody calls it.
    let refused = board.peering.connect_to(manager.board.id(), Protocol::Session).await;
    let is_told = matches!(&refused, Err(ConnectError::Refused { refusal: Refusal::Removed, .. }));
    assert!(is_told, "{refused:?}");
    assert!(board.peering.problems().borrow().contains(&Problem::Removed));
    let refused = manager.peering().connect(&board.peer(), Protocol::Session).await;
    let is_told = matches!(&refused, Err(ConnectError::Refused { refusal: Refusal::Removed, .. }));
    assert!(is_told, "{refused:?}");
    // Nor does it get in again by the key under the same identity.
    board.peering.leave()?;
    assert!(board.peering.join(&manager.peer()).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_board_whose_address_changes_stays_a_member() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    let (id, former) = (board.id(), board.peering.listen_address());
    let _sessions = manager.peering().incoming(Protocol::Session);
    board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    eventually("its address is known", || manager.peering().directory().addresses(id) == [former])
        .await;

    // It comes back elsewhere, and someone else may live at its former address.
    let board = Board::on(board.off().await, Some(KEY)).await?;
    let present = board.peering.listen_address();
    assert_ne!(former, present);
    let mut incoming = board.peering.incoming(Protocol::Raft).expect("not taken");
    board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    eventually("its new address is known", || {
        manager.peering().directory().addresses(id) == [present, former]
    })
    .await;
    manager.peering().connect_to(id, Protocol::Raft).await?;
    assert_eq!(
        soon("the call", incoming.recv()).await.map(|stream| stream.peer()),
        Some(manager.board.id())
    );
    Ok(())
}

#[tokio::test]
async fn dead_addresses_cost_little() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    let _incoming = manager.peering().incoming(Protocol::Session);
    // Two that take connections and say nothing, one that takes none.
    let (mute, other_mute) =
        (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let directory = board.peering.directory();
    for address in [manager.peering().listen_address(), closed, other_mute.local_addr()?] {
        directory.confirm(manager.board.id(), address);
    }
    directory.confirm(manager.board.id(), mute.local_addr()?);
    let start = Instant::now();
    board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    let confirmed = directory.addresses(manager.board.id());
    assert_eq!(confirmed.first(), Some(&manager.peering().listen_address()));
    Ok(())
}

#[tokio::test]
async fn conversations_that_nobody_serves_are_refused() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    let refused = board.peering.connect_to(manager.board.id(), Protocol::Blob).await;
    let is_told =
        matches!(&refused, Err(ConnectError::Refused { refusal: Refusal::NotServed, .. }));
    assert!(is_told, "{refused:?}");
    let incoming = manager.peering().incoming(Protocol::Blob).expect("not taken");
    board.peering.connect_to(manager.board.id(), Protocol::Blob).await?;
    // Nobody takes them up: the queue is bounded.
    let mut waiting = Vec::new();
    let refused = loop {
        match board.peering.connect_to(manager.board.id(), Protocol::Blob).await {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() < 1_000, "the queue grows for ever");
    };
    let is_told = matches!(&refused, ConnectError::Refused { refusal: Refusal::Busy, .. });
    assert!(is_told, "{refused:?}");
    drop(incoming);
    Ok(())
}

#[tokio::test]
async fn a_copied_card_is_noticed() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    let _incoming = manager.peering().incoming(Protocol::Session);
    let copy = Arc::new(tempfile::tempdir()?);
    for entry in std::fs::read_dir(board.directory.path())? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
    }
    let copy = Board::on(copy, Some(KEY)).await?;
    assert_eq!(board.id(), copy.id());
    let leader = manager.board.id();
    board.peering.connect_to(leader, Protocol::Session).await?;
    copy.peering.connect_to(leader, Protocol::Session).await?;
    // Both try on, as sessions do; soon the second is turned away, for good, and told why.
    soon("the copy to be noticed", async {
        while copy.peering.problems().borrow().is_empty() {
            let _ = board.peering.connect_to(leader, Protocol::Session).await;
            let _ = copy.peering.connect_to(leader, Protocol::Session).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let address = board.peering.listen_address();
    assert_eq!(
        *copy.peering.problems().borrow(),
        BTreeSet::from([Problem::SameIdentity { address }])
    );
    board.peering.connect_to(leader, Protocol::Session).await?;
    assert!(copy.peering.connect_to(leader, Protocol::Session).await.is_err());
    board.peering.connect_to(leader, Protocol::Session).await?;
    Ok(())
}

#[tokio::test]
async fn a_board_reaches_itself() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let mut incoming = manager.peering().incoming(Protocol::Session).expect("not taken");
    let mut there = manager.peering().connect_to(manager.board.id(), Protocol::Session).await?;
    there.send(&7u8).await?;
    let mut here = soon("the call", incoming.recv()).await.expect("open");
    assert_eq!(here.peer(), manager.board.id());
    assert_eq!(here.receive::<u8>().await?, 7);
    Ok(())
}

#[tokio::test]
async fn frames_and_bytes_may_alternate_and_a_dropped_future_loses_nothing() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let mut incoming = manager.peering().incoming(Protocol::Api).expect("not taken");
    let mut there = manager.peering().connect_to(manager.board.id(), Protocol::Api).await?;
    let mut here = incoming.recv().await.expect("open");
    there.send(&"first").await?;
    there.write_all(b"bytes").await?;
    there.flush().await?;
    there.send(&"second").await?;
    assert_eq!(here.receive::<String>().await?, "first");
    let mut bytes = [0; 5];
    here.read_exact(&mut bytes).await?;
    assert_eq!(&bytes, b"bytes");
    assert_eq!(here.receive::<String>().await?, "second");

    // A long message, received and sent by futures that are dropped again and again.
    let long = vec![5u8; 10_000_000];
    let message = long.clone();
    let sender = tokio::spawn(async move {
        let sent = tokio::time::timeout(Duration::from_millis(5), there.send(&message)).await;
        assert!(sent.is_err(), "ten megabytes do not fit into the buffers");
        there.send(&"after").await?;
        there.shutdown().await?;
        anyhow::Ok(there)
    });
    let mut drops = 0;
    let received = soon("the long message", async {
        loop {
            match tokio::time::timeout(Duration::from_millis(1), here.receive::<Vec<u8>>()).await {
                Ok(received) => break received,
                Err(_) => drops += 1,
            }
        }
    })
    .await?;
    assert!(received == long && drops > 0, "{drops} futures were dropped");
    assert_eq!(here.receive::<String>().await?, "after");
    let _there = sender.await??;
    assert!(matches!(here.receive::<String>().await, Err(ReceiveError::Closed)));
    let too_long = here.send(&vec![0u8; 17 * 1_024 * 1_024]).await;
    assert!(matches!(too_long, Err(SendError::TooLong { .. })), "{too_long:?}");
    Ok(())
}

#[tokio::test]
async fn strangers_that_knock_and_say_nothing_stop_nobody() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    let _incoming = manager.peering().incoming(Protocol::Session);
    let address = manager.peering().listen_address();
    let mut silent = Vec::new();
    for _ in 0..200 {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
        silent.push(socket.connect(address).await?);
    }
    board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    // Nonsense is no better than silence.
    for stream in &mut silent {
        let _ = stream.write_all(&[0x16, 0x03, 0x01, 0xff, 0xff, 0x00]).await;
    }
    board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    // Those that were let in at all are dropped in time.
    soon("the silent to be dropped", async {
        for stream in &mut silent {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named() -> anyhow::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let directory = tempfile::tempdir()?;
    let mut config = config(directory.path(), None);
    config.listen = taken.local_addr()?;
    let error = Peering::start(config).await.expect_err("the port is taken").to_string();
    assert_eq!(error, format!("cannot listen on {}", taken.local_addr()?));
    Ok(())
}

#[tokio::test]
async fn a_board_whose_clock_is_behind_joins_and_learns_the_time() -> anyhow::Result<()> {
    let directory = Arc::new(tempfile::tempdir()?);
    let mut later = config(directory.path(), Some(KEY));
    let year = Duration::from_secs(365 * 86_400);
    later.built_at = Peering::start(later.clone()).await?.clock().now() + year;
    let board = Board { peering: Peering::start(later).await?, directory };
    let manager = Manager::found_on(board)?;
    let board = Board::new(Some(KEY)).await?;
    assert!(board.peering.clock().now() < BUILT_AT + year * 20);
    let before = board.peering.clock().now();
    board.peering.join(&manager.peer()).await?;
    assert!(board.peering.clock().now().since(before) > year / 2);
    let _incoming = manager.peering().incoming(Protocol::Session);
    board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    // And it keeps it.
    let told = board.peering.clock().now();
    let board = Board::on(board.off().await, Some(KEY)).await?;
    assert!(board.peering.clock().now() >= told);
    Ok(())
}

//! Joining by cluster key and by token.

use std::time::Duration;

use bramble_cluster::{NodeId, Peer, Role};
use bramble_peering::{
    JoinError, JoinRefusal, JoinToken, JoinTokens, Membership, Protocol, Situation, Standing,
};

use crate::boards::{Board, KEY, Manager, OTHER_KEY, look, soon};

#[tokio::test]
async fn a_board_with_the_key_joins_and_both_can_talk() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    assert!(board.is_member());
    assert_eq!(manager.asked(), [(board.id(), Standing::Key)]);
    let description = board.peering.description();
    assert_eq!(description.addresses, [board.peering.listen_address()]);
    assert_eq!(board.peering.directory().managers(), [manager.peer()]);

    let mut incoming = manager.peering().incoming(Protocol::Session).expect("not taken");
    assert!(manager.peering().incoming(Protocol::Session).is_none());
    let mut there = board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    let mut here = soon("the conversation", incoming.recv()).await.expect("open");
    assert_eq!((there.peer(), here.peer()), (manager.board.id(), board.id()));
    assert_eq!((there.protocol(), here.protocol()), (Protocol::Session, Protocol::Session));
    there.send(&("hello", 1u8)).await?;
    assert_eq!(here.receive::<(String, u8)>().await?, ("hello".to_owned(), 1));
    here.send(&vec![0u8; 1_000_000]).await?;
    assert_eq!(there.receive::<Vec<u8>>().await?.len(), 1_000_000);

    // The manager learnt from the conversation where the board is.
    let mut outgoing = board.peering.incoming(Protocol::Raft).expect("not taken");
    manager.peering().connect_to(board.id(), Protocol::Raft).await?;
    assert_eq!(
        soon("the way back", outgoing.recv()).await.expect("open").peer(),
        manager.board.id()
    );
    Ok(())
}

#[tokio::test]
async fn membership_survives_a_restart() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    let (id, membership) = (board.id(), board.peering.membership().borrow().clone());
    let board = Board::on(board.off().await, Some(KEY)).await?;
    assert_eq!(board.id(), id);
    assert_eq!(*board.peering.membership().borrow(), membership);
    // It still knows whom to ask.
    assert_eq!(board.peering.directory().managers(), [manager.peer()]);
    let _incoming = manager.peering().incoming(Protocol::Session);
    board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    Ok(())
}

#[tokio::test]
async fn a_board_with_another_key_never_joins() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let stranger = Board::new(Some(OTHER_KEY)).await?;
    let keyless = Board::new(None).await?;
    for _ in 0..5 {
        let refused = stranger.peering.join(&manager.peer()).await;
        let Err(JoinError::Refused { refusal: JoinRefusal::NotProven, .. }) = refused else {
            panic!("it was let in: {refused:?}");
        };
        let refused = keyless.peering.join(&manager.peer()).await;
        assert!(matches!(refused, Err(JoinError::NoKey)), "{refused:?}");
    }
    assert_eq!(*stranger.peering.membership().borrow(), Membership::Seeking);
    assert!(manager.asked().is_empty(), "the manager never heard of it");
    Ok(())
}

#[tokio::test]
async fn who_guesses_on_must_wait() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let stranger = Board::new(Some(OTHER_KEY)).await?;
    let mut refusals = 0;
    for _ in 0..60 {
        let refused = stranger.peering.join(&manager.peer()).await;
        refusals += usize::from(matches!(refused, Err(JoinError::Refused { .. })));
    }
    assert!((20..40).contains(&refusals), "{refusals} of 60 guesses were judged");
    // Time heals.
    soon("another try", async {
        while !matches!(
            stranger.peering.join(&manager.peer()).await,
            Err(JoinError::Refused { .. })
        ) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_token_lets_in_by_its_role() -> anyhow::Result<()> {
    let manager = Manager::found(None).await?;
    let tokens = look(&manager.ledger, |book| JoinTokens::of(&book.cluster));
    let addresses = [manager.peering().listen_address()];
    let (worker, other) = (Board::new(None).await?, Board::new(Some(KEY)).await?);
    // As a person would carry it.
    let token: JoinToken = tokens.worker.to_string().parse()?;
    worker.peering.join_with_token(&token, &addresses).await?;
    other.peering.join_with_token(&tokens.manager, &addresses).await?;
    assert_eq!(
        manager.asked(),
        [
            (worker.id(), Standing::Token(Role::Worker)),
            (other.id(), Standing::Token(Role::Manager))
        ]
    );
    let again = worker.peering.join_with_token(&tokens.manager, &addresses).await;
    assert!(matches!(again, Err(JoinError::AlreadyMember)), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn a_rotated_token_is_refused() -> anyhow::Result<()> {
    let manager = Manager::found(None).await?;
    let old = look(&manager.ledger, |book| JoinTokens::of(&book.cluster));
    let new = bramble_peering::authority::draw_join_secrets()?;
    let new = look(&manager.ledger, |book| {
        book.cluster.join_secrets.worker = new.worker;
        manager.peering().set_join_secrets(Some(book.cluster.join_secrets.clone()));
        JoinTokens::of(&book.cluster)
    });
    assert_eq!(old.manager, new.manager);
    let addresses = [manager.peering().listen_address()];
    let board = Board::new(None).await?;
    let refused = board.peering.join_with_token(&old.worker, &addresses).await;
    let is_refused =
        matches!(refused, Err(JoinError::Refused { refusal: JoinRefusal::NotProven, .. }));
    assert!(is_refused, "{refused:?}");
    assert!(!board.is_member());
    // The other role's token was not rotated, and the new one holds.
    Board::new(None).await?.peering.join_with_token(&old.manager, &addresses).await?;
    board.peering.join_with_token(&new.worker, &addresses).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_of_another_cluster_is_not_even_shown() -> anyhow::Result<()> {
    let (manager, other) = (Manager::found(None).await?, Manager::found(None).await?);
    let token = look(&other.ledger, |book| JoinTokens::of(&book.cluster)).worker;
    let board = Board::new(None).await?;
    let addresses = [manager.peering().listen_address()];
    let refused = board.peering.join_with_token(&token, &addresses).await;
    assert!(matches!(refused, Err(JoinError::Unreachable(_))), "{refused:?}");
    assert!(!board.is_member());
    Ok(())
}

#[tokio::test]
async fn a_worker_sends_to_the_managers() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let worker = manager.joined_by(KEY).await?;
    let board = Board::new(Some(KEY)).await?;
    board.peering.join(&worker.peer()).await?;
    assert!(board.is_member());
    // But not those who only say that they know the key.
    let stranger = Board::new(Some(OTHER_KEY)).await?;
    let refused = stranger.peering.join(&worker.peer()).await;
    let is_refused =
        matches!(refused, Err(JoinError::Refused { refusal: JoinRefusal::NotProven, .. }));
    assert!(is_refused, "{refused:?}");
    // A worker knows no join secrets.
    let token = look(&manager.ledger, |book| JoinTokens::of(&book.cluster)).worker;
    let addresses = [worker.peering.listen_address()];
    let refused = Board::new(None).await?.peering.join_with_token(&token, &addresses).await;
    let is_refused =
        matches!(refused, Err(JoinError::Refused { refusal: JoinRefusal::NotManager, .. }));
    assert!(is_refused, "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_knows_no_manager_says_so() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let worker = manager.joined_by(KEY).await?;
    worker.peering.directory().set_managers(&[]);
    let board = Board::new(Some(KEY)).await?;
    let refused = board.peering.join(&worker.peer()).await;
    assert!(matches!(refused, Err(JoinError::NoManager { .. })), "{refused:?}");
    // Two workers that take each other for managers do not keep a board busy for ever.
    worker.peering.directory().set_managers(&[worker.peer(), worker.peer()]);
    let refused = soon("an end", board.peering.join(&worker.peer())).await;
    assert!(matches!(refused, Err(JoinError::NoManager { .. })), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_board_that_seeks_cannot_be_joined() -> anyhow::Result<()> {
    let (one, other) = (Board::new(Some(KEY)).await?, Board::new(Some(KEY)).await?);
    let refused = one.peering.join(&other.peer()).await;
    assert!(matches!(refused, Err(JoinError::Unreachable(_))), "{refused:?}");
    let nowhere = Peer { id: NodeId::from_random(9), addresses: Vec::new() };
    let refused = one.peering.join(&nowhere).await;
    assert!(matches!(refused, Err(JoinError::Unreachable(_))), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_cluster_dissolves_into_another() -> anyhow::Result<()> {
    let (older, younger) = (Manager::found(Some(KEY)).await?, Manager::found(Some(KEY)).await?);
    let own = younger.peering().membership().borrow().clone();
    let refused = younger.peering().join(&older.peer()).await;
    assert!(matches!(refused, Err(JoinError::AlreadyMember)), "{refused:?}");
    let place = younger.peering().ask_for_place(&older.peer()).await?;
    assert_eq!(*younger.peering().membership().borrow(), own, "nothing is taken yet");
    assert_eq!(place.cluster(), look(&older.ledger, |book| book.cluster.id));
    younger.peering().take_place(place)?;
    let member = younger.peering().membership().borrow().member().cloned().expect("a member");
    assert_eq!(member.cluster, look(&older.ledger, |book| book.cluster.id));
    assert_eq!(member.founded_at, look(&older.ledger, |book| book.cluster.created_at));
    let _incoming = older.peering().incoming(Protocol::Session);
    younger.peering().connect_to(older.board.id(), Protocol::Session).await?;
    Ok(())
}

#[tokio::test]
async fn whoever_leaves_may_join_again() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    board.peering.leave()?;
    assert!(!board.is_member());
    let left = board.peering.connect_to(manager.board.id(), Protocol::Session).await;
    assert!(left.is_err());
    let board = Board::on(board.off().await, Some(KEY)).await?;
    assert!(!board.is_member(), "it stays out after a restart");
    board.peering.join(&manager.peer()).await?;
    manager.peering().set_situation(Situation::default());
    Ok(())
}

#[tokio::test]
async fn a_damaged_membership_is_sought_anew_under_the_same_identity() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    let id = board.id();
    let directory = board.off().await;
    std::fs::write(directory.path().join("membership"), b"scribble")?;
    let board = Board::on(directory, Some(KEY)).await?;
    assert_eq!((board.id(), board.is_member()), (id, false));
    board.peering.join(&manager.peer()).await?;

    // A board that gives its identity up is another one, and no member.
    let directory = board.off().await;
    bramble_peering::forget_identity(directory.path())?;
    let board = Board::on(directory, Some(KEY)).await?;
    assert!(board.id() != id && !board.is_member());
    board.peering.join(&manager.peer()).await?;
    Ok(())
}

#[tokio::test]
async fn who_manages_is_kept_and_written_only_when_it_changes() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let board = manager.joined_by(KEY).await?;
    let file = board.directory.path().join("membership");
    let before = std::fs::metadata(&file)?.modified()?;
    let directory = board.peering.directory();
    // Other addresses answer, hints come: nothing that matters.
    directory.confirm(manager.board.id(), "10.0.0.9:7420".parse()?);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(std::fs::metadata(&file)?.modified()?, before);
    let other = Peer { id: NodeId::from_random(9), addresses: vec!["10.0.0.7:7420".parse()?] };
    directory.set_managers(&[manager.peer(), other.clone()]);
    soon("the change to be written", async {
        while std::fs::metadata(&file).and_then(|data| data.modified()).ok() == Some(before) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let board = Board::on(board.off().await, Some(KEY)).await?;
    assert!(board.peering.directory().managers().contains(&other));
    Ok(())
}

//! Certificates are renewed in time, and late.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bramble_peering::{Member, Protocol, Standing, authority::BACK_DATED};

use crate::boards::{Board, KEY, Manager, eventually, look, soon};

fn member(board: &Board) -> Arc<Member> {
    board.peering.membership().borrow().member().cloned().expect("a member")
}

#[tokio::test]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    // Dated back by a day and valid for half a day and three seconds: two thirds are over in two.
    look(&manager.ledger, |book| book.lifetime = BACK_DATED / 2 + Duration::from_secs(3));
    let start = Instant::now();
    let board = manager.joined_by(KEY).await?;
    let mut incoming = manager.peering().incoming(Protocol::Session).expect("not taken");
    let mut there = board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    let mut here = incoming.recv().await.expect("open");
    let first = member(&board);

    eventually("the certificate is renewed", || member(&board) != first).await;
    let elapsed = start.elapsed();
    let range = Duration::from_secs(1)..Duration::from_secs(6);
    assert!(range.contains(&elapsed), "{elapsed:?}");
    assert!(manager.asked().contains(&(board.id(), Standing::Certificate)));
    // Conversations go on, new ones use the new certificate, a restart finds it.
    there.send(&1u8).await?;
    assert_eq!(here.receive::<u8>().await?, 1);
    board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    let renewed = member(&board);
    assert_eq!(renewed.cluster, first.cluster);
    Ok(())
}

#[tokio::test]
async fn a_manager_renews_its_own() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let first = member(&manager.board);
    look(&manager.ledger, |book| book.lifetime = BACK_DATED / 2 + Duration::from_secs(3));
    // The founder's own certificate is long-lived; put in one that is due.
    let cluster = look(&manager.ledger, |book| book.cluster.clone());
    let board = manager.joined_by(KEY).await?;
    board.peering.leave()?;
    assert_eq!(member(&manager.board), first);
    // Another board holds the authority too: a manager whose certificate is due renews it alone.
    board.peering.join(&manager.peer()).await?;
    board.peering.directory().set_managers(&[]);
    let before = member(&board);
    let mut admissions = board.peering.admissions().expect("not taken");
    board
        .peering
        .set_situation(bramble_peering::Situation { is_manager: true, ..Default::default() });
    let request = soon("the renewal", admissions.recv()).await.expect("open");
    assert_eq!((request.node.id, request.standing), (board.id(), Standing::Certificate));
    let admission = request.sign(&cluster, board.peering.clock().now())?;
    request.admit(admission);
    eventually("the certificate is renewed", || member(&board) != before).await;
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_ran_out_is_good_for_the_next_and_nothing_else() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let _incoming = manager.peering().incoming(Protocol::Session);
    look(&manager.ledger, |book| {
        book.lifetime = Duration::from_secs(2);
        book.is_renewing = false;
    });
    let board = manager.joined_by(KEY).await?;
    board.peering.connect_to(manager.board.id(), Protocol::Session).await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let refused = board.peering.connect_to(manager.board.id(), Protocol::Session).await;
    assert!(refused.is_err(), "the certificate has run out");
    // The board is switched off for long; when it comes back it asks for the next.
    let directory = board.off().await;
    look(&manager.ledger, |book| {
        book.lifetime = Duration::from_secs(3_600);
        book.is_renewing = true;
    });
    let board = Board::on(directory, Some(KEY)).await?;
    soon("the next certificate", async {
        while board.peering.connect_to(manager.board.id(), Protocol::Session).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(manager.asked().last(), Some(&(board.id(), Standing::Certificate)));
    Ok(())
}

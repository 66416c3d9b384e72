use crate::{
    fixture::{World, node_id},
    types::os::{OsProgress, OsStatus},
};

fn lines(body: &[u8]) -> Vec<OsProgress> {
    let text = String::from_utf8_lossy(body);
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).expect("a line")).collect()
}

#[tokio::test]
async fn each_board_tells_of_its_own_system_wherever_one_asks() {
    let world = World::new(3);
    let own: OsStatus =
        serde_json::from_value(world.board(1).get("/bramble/os").await.json()).expect("a status");
    assert_eq!(own.version, "0.1.0");
    let path = format!("/bramble/os?node={}", node_id(2));
    assert_eq!(world.board(1).get(&path).await.json()["version"], "0.2.0");
    assert_eq!(world.board(2).get(&path).await.json()["version"], "0.2.0", "its own name");
    world.cut(2);
    let answer = world.board(1).get(&path).await;
    assert_eq!((answer.status, answer.message()), (503, "node board2 is not available".to_owned()));
    assert_eq!(world.board(1).get("/bramble/os?node=none").await.status, 404);
}

#[tokio::test]
async fn an_update_is_streamed_to_its_board_and_tells_how_it_goes() {
    let world = World::new(2);
    for (board, path, version) in [
        (1, "/bramble/os".to_owned(), "9.1.0"),
        (1, format!("/bramble/os?node={}", node_id(2)), "9.2.0"),
    ] {
        let answer = world.board(board).send("POST", &path, b"an update".to_vec()).await;
        assert_eq!(answer.status, 200);
        let staged = OsProgress::Staged { version: version.to_owned() };
        assert_eq!(lines(&answer.body), [OsProgress::Written { bytes: 9, total: 9 }, staged]);
    }
    let answer = world.board(1).send("POST", "/bramble/os", b"a poem".to_vec()).await;
    let failed = OsProgress::Failed("this is not an update".to_owned());
    assert_eq!(lines(&answer.body).last(), Some(&failed));
}

#[tokio::test]
async fn a_trial_is_refused_in_the_boards_words() {
    let world = World::new(2);
    let answer = world.board(1).send("POST", "/bramble/os/try", Vec::new()).await;
    assert_eq!((answer.status, answer.message()), (409, "there is nothing to try".to_owned()));
    let path = format!("/bramble/os/commit?node={}", node_id(2));
    assert_eq!(world.board(1).send("POST", &path, Vec::new()).await.status, 200);
}

#[tokio::test]
async fn a_board_that_is_no_appliance_says_so() {
    let world = World::new(3);
    let answer = world.board(3).send("POST", "/bramble/os", b"an update".to_vec()).await;
    assert_eq!(
        (answer.status, answer.message()),
        (501, "this board is not an appliance".to_owned())
    );
}

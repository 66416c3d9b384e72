//! Requests and answers, over a cluster in memory.

use bramble_cluster::{
    Command, DesiredState, NodeState, Role, ServiceId, TaskState, Version, limits,
};
use serde_json::{Value, json};

use crate::{
    Container, JSON_BYTES, LogLine,
    fixture::{Client, FakeBoard, World, node, node_id, whoami},
    frames::{Channel, frame},
};

fn web() -> Value {
    json!({
        "Name": "web",
        "TaskTemplate": {"ContainerSpec": {"Image": "whoami"}, "Networks": [{"Target": "host"}]},
        "Mode": {"Replicated": {"Replicas": 2}},
    })
}

async fn create(board: &Client, spec: &Value) -> ServiceId {
    let answer = board.post("/services/create", spec).await;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["ID"].as_str().expect("an id").parse().expect("an id")
}

fn with(pointer: &str, value: Value) -> Value {
    let mut spec = web();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    spec.pointer_mut(parent).expect("it is there")[key] = value;
    spec
}

#[tokio::test]
async fn a_ping_says_what_docker_needs_to_know() {
    let world = World::new(1);
    let answer = world.board(1).send("HEAD", "/_ping", Vec::new()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["Api-Version"], "1.47");
    assert_eq!(answer.headers["Ostype"], "linux");
    assert_eq!(answer.headers["Swarm"], "active/manager");
    assert_eq!(world.board(1).get("/_ping").await.body, b"OK");
}

#[tokio::test]
async fn info_counts_the_cluster() {
    let world = World::new(3);
    let info = world.board(2).get("/info").await.json();
    assert_eq!(info["Name"], "board2");
    assert_eq!(info["Swarm"]["NodeID"], node_id(2).to_string());
    assert_eq!(info["Swarm"]["LocalNodeState"], "active");
    assert_eq!(info["Swarm"]["ControlAvailable"], true);
    assert_eq!((&info["Swarm"]["Nodes"], &info["Swarm"]["Managers"]), (&json!(3), &json!(3)));
    assert_eq!(info["Swarm"]["Cluster"]["Spec"]["Raft"]["HeartbeatTick"], 1);
    assert!(info["Swarm"]["Cluster"].get("JoinTokens").is_none(), "tokens are secrets");
    let version = world.board(2).get("/version").await.json();
    assert_eq!((&version["ApiVersion"], &version["Arch"]), (&json!("1.47"), &json!("arm64")));
    assert_eq!(version["Platform"]["Name"], "Bramble");
}

#[tokio::test]
async fn nodes_are_listed_narrowed_and_named() {
    let world = World::new(3);
    let board = world.board(1);
    let nodes = board.get("/nodes").await.json();
    assert_eq!(nodes.as_array().map(Vec::len), Some(3));
    assert_eq!(nodes[0]["ManagerStatus"]["Leader"], true);
    assert_eq!(nodes[1]["ManagerStatus"]["Reachability"], "reachable");
    let count = async |filters: Value| {
        let filters =
            filters.to_string().replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let nodes = board.get(&format!("/nodes?filters={filters}")).await;
        assert_eq!(nodes.status, 200, "{}", String::from_utf8_lossy(&nodes.body));
        nodes.json().as_array().map_or(0, Vec::len)
    };
    assert_eq!(count(json!({"name": {"board2": true}})).await, 1);
    assert_eq!(count(json!({"role": ["manager"]})).await, 3);
    assert_eq!(count(json!({"node.label": {"room": true}})).await, 0);
    assert_eq!(board.get("/nodes/board3").await.json()["ID"], node_id(3).to_string());
    assert_eq!(board.get(&format!("/nodes/{}", node_id(3))).await.status, 200);
    let missing = board.get("/nodes/nobody").await;
    assert_eq!((missing.status, &*missing.message()), (404, "node nobody not found"));
    let vague = board.get("/nodes/00000").await;
    assert_eq!(vague.status, 400);
    assert!(vague.message().contains("ambiguous: 3 match"), "{}", vague.message());
}

#[tokio::test]
async fn a_node_is_changed_pinned_and_removed() {
    let world = World::new(3);
    let board = world.board(1);
    let shown = board.get("/nodes/board3").await.json();
    let mut spec = shown["Spec"].clone();
    spec["Labels"]["room"] = json!("attic");
    let path = format!("/nodes/board3/update?version={}", shown["Version"]["Index"]);
    assert_eq!(board.post(&path, &spec).await.status, 200);
    assert_eq!(node(&world.state(), 3).spec.labels["room"], "attic");
    assert_eq!(node(&world.state(), 3).spec.role, None, "the role that was shown pins nothing");
    let stale = board.post(&path, &json!({"Availability": "drain"})).await;
    assert_eq!(stale.status, 409);
    assert!(stale.message().starts_with("update out of sequence: node"), "{}", stale.message());
    let shown = board.get("/nodes/board3").await.json();
    spec["Role"] = json!("worker");
    let path = format!("/nodes/board3/update?version={}", shown["Version"]["Index"]);
    assert_eq!(board.post(&path, &spec).await.status, 200);
    assert_eq!(node(&world.state(), 3).spec.role, Some(Role::Worker));
    assert_eq!(board.post("/nodes/board3/update", &spec).await.status, 400, "no version");
    let bad = board.post(&path, &json!({"Availability": "away"})).await;
    assert!(bad.message().contains("none of active, pause, drain"), "{}", bad.message());
    let refused = board.delete("/nodes/board3").await;
    assert_eq!(refused.status, 400);
    assert!(refused.message().contains("board3"), "{}", refused.message());
    world.apply(vec![
        Command::SetNodeRole { id: node_id(3), role: Role::Worker },
        Command::SetNodeState {
            id: node_id(3),
            version: Version(0),
            state: NodeState::Down,
            message: "cable".to_owned(),
        },
    ]);
    assert_eq!(board.delete("/nodes/board3").await.status, 200);
    assert_eq!(world.state().nodes().len(), 2);
}

#[tokio::test]
async fn a_service_is_created_with_its_image_pinned() {
    let world = World::new(3);
    let id = create(&world.board(2), &web()).await;
    let state = world.state();
    let spec = &state.service(id).expect("it is there").spec;
    assert_eq!(spec.task.container.image.name, "whoami:latest");
    assert_eq!(spec.task.container.image.digest, Some(whoami()));
    assert_eq!(spec.task.networks[0].target, "host");
    let shown = world.board(3).get("/v1.47/services/web?insertDefaults=true").await.json();
    assert_eq!(shown["ID"], id.to_string());
    assert_eq!(
        shown["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"],
        format!("whoami:latest@{}", whoami())
    );
    let distribution = world.board(3).get("/distribution/whoami:latest/json").await.json();
    assert_eq!(distribution["Descriptor"]["digest"], whoami().to_string());
    let unnamed = create(&world.board(1), &with("/Name", json!(""))).await;
    let name = &world.state().service(unnamed).expect("it is there").spec.name.clone();
    assert!(!name.is_empty(), "Docker makes a name up, too");
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name_and_changes_nothing() {
    let world = World::new(1);
    let board = world.board(1);
    create(&board, &web()).await;
    let version = world.state().version();
    let container = "/TaskTemplate/ContainerSpec";
    let cases: Vec<(Value, u16, &str)> = vec![
        (web(), 409, "service web already exists"),
        (
            with("/TaskTemplate/ContainerSpec/Image", json!("nginx")),
            404,
            "no such image: nginx:latest: load it with `docker load` or `bramble image load`",
        ),
        (with("/Name", json!("bad name!")), 400, "bad name!"),
        (
            with("/EndpointSpec", json!({"Ports": [{"TargetPort": 80, "PublishedPort": 99_999}]})),
            400,
            "99999 is out of range: ports go from 1 to 65535",
        ),
        (
            with("/TaskTemplate/Placement", json!({"Constraints": ["node.colour==red"]})),
            400,
            "node.colour",
        ),
        (with("/Mode/Replicated/Replicas", json!(100_000)), 400, "at most 1000"),
        (
            with(&format!("{container}/Secrets"), json!([{"SecretName": "key"}])),
            400,
            "TaskTemplate.ContainerSpec.Secrets",
        ),
        (
            with("/TaskTemplate/Networks", json!([{"Target": "mine"}])),
            404,
            "network mine not found",
        ),
        (with("/TaskTemplate/Networks", json!([{"Target": "none"}])), 400, "--network host"),
        (with(&format!("{container}/Image"), json!(7)), 400, "invalid type"),
        (with("/Mode", json!({"ReplicatedJob": {}})), 400, "jobs are not supported"),
    ];
    for (mut spec, status, words) in cases {
        if status != 409 && spec["Name"] == "web" {
            spec["Name"] = json!("other");
        }
        let answer = board.post("/services/create", &spec).await;
        let message = answer.message();
        assert_eq!(answer.status, status, "{message}");
        assert!(message.contains(words), "`{message}` should say `{words}`");
    }
    assert_eq!(world.state().services().len(), 1);
    assert_eq!(world.state().version(), version, "nothing was even proposed");
}

#[tokio::test]
async fn bodies_are_bounded_and_json() {
    let world = World::new(1);
    let board = world.board(1);
    let large = board.send("POST", "/services/create", vec![b' '; JSON_BYTES + 1]).await;
    assert_eq!(large.status, 400);
    assert!(large.message().contains("longer than"), "{}", large.message());
    let broken = board.send("POST", "/services/create", b"{\"Name\":".to_vec()).await;
    assert!(broken.message().starts_with("the body is not JSON"), "{}", broken.message());
    let request = axum::http::Request::post("/services/create")
        .header("Content-Type", "text/plain")
        .body(axum::body::Body::from("{}"))
        .expect("a request");
    assert_eq!(board.request(request).await.status, 400);
}

#[tokio::test]
async fn what_is_ignored_is_said() {
    let world = World::new(1);
    let mut spec = web();
    spec["TaskTemplate"]["Resources"] = json!({"SwapBytes": 5});
    spec["EndpointSpec"] = json!({"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]});
    let answer = world.board(1).post("/services/create", &spec).await.json();
    let warnings = answer["Warnings"].to_string();
    assert!(warnings.contains("TaskTemplate.Resources.SwapBytes: it is ignored"), "{warnings}");
    assert!(warnings.contains("port 8080 is not mapped to 80"), "{warnings}");
    assert!(
        world
            .board(1)
            .post("/services/create", &with("/Name", json!("b")))
            .await
            .json()
            .get("Warnings")
            .is_none()
    );
}

#[tokio::test]
async fn a_service_is_updated_rolled_back_and_removed() {
    let world = World::new(1);
    let board = world.board(1);
    let id = create(&board, &web()).await;
    let shown = board.get("/services/web").await.json();
    let mut spec = shown["Spec"].clone();
    spec["Mode"]["Replicated"]["Replicas"] = json!(4);
    let path = format!("/services/{id}/update?version={}", shown["Version"]["Index"]);
    assert_eq!(board.post(&path, &spec).await.status, 200);
    let stale = board.post(&path, &spec).await;
    assert_eq!(stale.status, 409);
    assert!(stale.message().contains("update out of sequence"), "{}", stale.message());
    let shown = board.get("/services/web").await.json();
    assert_eq!(shown["Spec"]["Mode"]["Replicated"]["Replicas"], 4);
    assert_eq!(shown["PreviousSpec"]["Mode"]["Replicated"]["Replicas"], 2);
    let path = format!("/services/{id}/update?version={}", shown["Version"]["Index"]);
    let renamed = board.post(&path, &with("/Name", json!("other"))).await;
    assert!(renamed.message().contains("cannot be renamed"), "{}", renamed.message());
    assert_eq!(board.post(&(path + "&rollback=previous"), &spec).await.status, 200);
    let shown = board.get("/services/web").await.json();
    assert_eq!(shown["Spec"]["Mode"]["Replicated"]["Replicas"], 2);
    assert_eq!(board.delete("/services/web").await.status, 200);
    let gone = board.delete("/services/web").await;
    assert_eq!((gone.status, &*gone.message()), (404, "service web not found"));
}

#[tokio::test]
async fn a_service_without_a_past_cannot_go_back() {
    let world = World::new(1);
    let board = world.board(1);
    let id = create(&board, &web()).await;
    let version = world.state().service(id).expect("it is there").version;
    let path = format!("/services/{id}/update?version={version}&rollback=previous");
    let answer = board.post(&path, &web()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.message().contains("no previous specification"), "{}", answer.message());
}

#[tokio::test]
async fn tasks_are_counted_and_narrowed() {
    let world = World::new(2);
    let board = world.board(1);
    let id = create(&board, &web()).await;
    let first = world.run_task(id, 1, 1);
    world.run_task(id, 2, 2);
    let services = board.get("/services?status=true").await.json();
    assert_eq!(
        services[0]["ServiceStatus"],
        json!({"RunningTasks": 2, "DesiredTasks": 2, "CompletedTasks": 0})
    );
    assert!(board.get("/services").await.json()[0].get("ServiceStatus").is_none());
    let count = async |filters: &str| {
        let filters = filters.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        board.get(&format!("/tasks?filters={filters}")).await.json().as_array().map_or(0, Vec::len)
    };
    assert_eq!(count(r#"{"service":["web"]}"#).await, 2);
    assert_eq!(count(r#"{"node":["board2"]}"#).await, 1);
    assert_eq!(count(r#"{"name":["web.1"]}"#).await, 1);
    assert_eq!(count(r#"{"_up-to-date":["true"]}"#).await, 2);
    assert_eq!(count(r#"{"desired-state":["shutdown"]}"#).await, 0);
    world.apply(vec![Command::SetDesiredState { id: first, desired: DesiredState::Shutdown }]);
    assert_eq!(count(r#"{"desired-state":["shutdown"]}"#).await, 1);
    let task = board.get(&format!("/tasks/{first}")).await.json();
    assert_eq!((&task["Slot"], &task["Status"]["State"]), (&json!(1), &json!("running")));
    assert_eq!(task["Status"]["ContainerStatus"]["PID"], 42);
    assert_eq!(board.get("/tasks/nobody").await.message(), "task nobody not found");
    world.apply(vec![Command::SetNodeState {
        id: node_id(2),
        version: Version(0),
        state: NodeState::Down,
        message: String::new(),
    }]);
    let services = board.get("/services?status=true").await.json();
    assert_eq!(services[0]["ServiceStatus"]["RunningTasks"], 0, "one stops, one's board is lost");
}

fn line(at: u64, text: &str) -> LogLine {
    LogLine { at, is_error: false, text: text.as_bytes().to_vec() }
}

#[tokio::test]
async fn logs_are_gathered_from_all_boards_in_order() {
    let world = World::new(3);
    let id = create(&world.board(1), &web()).await;
    let (one, two) = (world.run_task(id, 1, 2), world.run_task(id, 2, 3));
    let mut board = FakeBoard::new(2);
    board.logs.insert(one, vec![line(1, "a\n"), line(3, "c\n")]);
    world.add_board(2, board);
    let mut board = FakeBoard::new(3);
    board.logs.insert(two, vec![line(2, "b\n"), LogLine { is_error: true, ..line(4, "d\n") }]);
    world.add_board(3, board);
    let both = "stdout=1&stderr=1";
    let all = world.board(3).get(&format!("/services/web/logs?{both}")).await;
    let expected = [
        frame(Channel::Stdout, b"a\n"),
        frame(Channel::Stdout, b"b\n"),
        frame(Channel::Stdout, b"c\n"),
        frame(Channel::Stderr, b"d\n"),
    ];
    assert_eq!(String::from_utf8_lossy(&all.body), String::from_utf8_lossy(&expected.concat()));
    assert_eq!(all.headers["Content-Type"], "application/vnd.docker.multiplexed-stream");
    let last = world.board(1).get(&format!("/services/web/logs?{both}&tail=1")).await;
    assert_eq!(last.body, expected[2..].concat());
    let single = world.board(1).get(&format!("/tasks/{two}/logs?stdout=1")).await;
    assert_eq!(single.body, expected[1]);
    assert_eq!(world.board(1).get("/services/web/logs").await.status, 400, "no stream is chosen");
    assert_eq!(world.board(1).get(&format!("/services/x/logs?{both}")).await.status, 404);
    world.cut(3);
    let partly = world.board(1).get(&format!("/services/web/logs?{both}")).await;
    let text = String::from_utf8_lossy(&partly.body).into_owned();
    assert!(text.contains("a\n") && text.contains("node board3 is not available"), "{text}");
}

#[tokio::test]
async fn a_followed_log_ends_with_its_service_and_takes_new_tasks_in() {
    let world = World::new(2);
    let id = create(&world.board(1), &web()).await;
    let first = world.run_task(id, 1, 1);
    // The second task's id is known before it runs: ids are derived.
    let second = bramble_cluster::TaskId::derive(id, 2, world.state().version().0);
    let mut board = FakeBoard::new(1);
    board.logs.insert(first, vec![line(1, "first\n")]);
    board.logs.insert(second, vec![line(2, "second\n")]);
    world.add_board(1, board);
    let client = world.board(1);
    let following =
        tokio::spawn(async move { client.get("/services/web/logs?stdout=1&follow=1").await });
    tokio::task::yield_now().await;
    assert_eq!(world.run_task(id, 2, 1), second);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!following.is_finished(), "it goes on while the service is there");
    world.apply(vec![Command::RemoveService { id }]);
    let text = following.await.expect("it ended").body;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("first\n") && text.contains("second\n"), "{text}");
}

#[tokio::test]
async fn any_board_answers_and_the_leader_decides() {
    let world = World::new(3);
    create(&world.board(3), &web()).await;
    world.lead(Some(2));
    let shown = world.board(3).get("/services/web").await;
    assert_eq!(shown.status, 200);
    assert!(!shown.headers.contains_key("Bramble-State-Age"));
    let request = axum::http::Request::get("/services")
        .header("Bramble-Forwarded-By", "x")
        .body(axum::body::Body::empty())
        .expect("a request");
    assert_eq!(world.board(3).request(request).await.status, 421, "nothing is passed on twice");
}

#[tokio::test]
async fn without_a_quorum_reads_say_their_age_and_changes_fail_at_once() {
    let world = World::new(3);
    create(&world.board(1), &web()).await;
    world.lead(None);
    let started = std::time::Instant::now();
    let read = world.board(2).get("/services").await;
    assert_eq!((read.status, read.json().as_array().map(Vec::len)), (200, Some(1)));
    let age = read.headers["Bramble-State-Age"].to_str().expect("text");
    assert!(age.parse::<u64>().is_ok_and(|age| age < 60), "{age}");
    let refused = world.board(2).delete("/services/web").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.message(), "no quorum: 1 of 3 managers reachable");
    assert!(started.elapsed() < crate::leader::ELECTION_WAIT, "nothing was waited for");
    let own = world.board(2).get("/bramble/board").await.json();
    assert_eq!((&own["leader"], &own["consensus"]["has_quorum"]), (&Value::Null, &json!(false)));
    assert_eq!(own["problems"], json!(["there is no network cable"]));
    assert_eq!((&own["profile"], &own["boot"]["kernel_ms"]), (&json!("rpi4"), &json!(900)));
}

#[tokio::test]
async fn a_change_waits_for_the_next_leader_when_the_old_one_is_lost() {
    let world = World::new(3);
    world.cut(1);
    let client = world.board(2);
    let created = tokio::spawn(async move { client.post("/services/create", &web()).await });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!created.is_finished());
    world.lead(Some(3));
    assert_eq!(created.await.expect("an answer").status, 201);
}

#[tokio::test]
async fn archives_are_loaded_or_refused() {
    let world = World::new(2);
    let board = world.board(2);
    let loaded = board.send("POST", "/images/load", b"an archive".to_vec()).await;
    let text = String::from_utf8_lossy(&loaded.body).into_owned();
    assert_eq!(loaded.status, 200, "{text}");
    assert!(text.contains("{\"stream\":\"Loaded image: whoami:latest\\n\"}"), "{text}");
    let refused = board.send("POST", "/images/load", b"this is none".to_vec()).await;
    assert_eq!((refused.status, &*refused.message()), (400, "this is not an archive of images"));
}

#[tokio::test]
async fn images_are_listed_inspected_tagged_and_removed() {
    let world = World::new(1);
    let board = world.board(1);
    let images = board.get("/images/json").await.json();
    assert_eq!(images[0]["RepoTags"], json!(["whoami:latest"]));
    assert_eq!(
        (&images[0]["Created"], &images[0]["Size"]),
        (&json!(1_700_000_000), &json!(1_234_567))
    );
    let inspected = board.get("/images/docker.io/library/whoami:latest/json").await.json();
    assert_eq!(inspected["Config"]["Cmd"], json!(["/whoami"]));
    let by_digest = format!("/images/{}/json", &whoami().hex()[..12]);
    assert_eq!(board.get(&by_digest).await.status, 200);
    assert_eq!(board.get("/images/nginx/json").await.status, 404);
    assert_eq!(board.post("/images/whoami/tag?repo=fine&tag=1", &Value::Null).await.status, 201);
    assert_eq!(board.delete("/images/whoami").await.status, 409);
    let removed = board.delete("/images/whoami?force=1").await.json();
    assert_eq!(removed[1]["Deleted"], whoami().to_string());
    let pulled = board.post("/images/create?fromImage=nginx", &Value::Null).await;
    assert_eq!(pulled.status, 501);
}

#[tokio::test]
async fn the_swarm_shows_and_replaces_its_tokens() {
    let world = World::new(2);
    let board = world.board(2);
    let swarm = board.get("/swarm").await.json();
    let spec = swarm["Spec"].clone();
    assert_eq!(spec["Orchestration"]["TaskHistoryRetentionLimit"], limits::TASK_HISTORY_DEFAULT);
    let tokens = swarm["JoinTokens"].clone();
    let update = |more: &str| format!("/swarm/update?version={}{more}", swarm["Version"]["Index"]);
    let path = update("&rotateWorkerToken=true&rotateManagerToken=false");
    assert_eq!(board.post(&path, &spec).await.status, 200);
    let rotated = board.get("/swarm").await.json()["JoinTokens"].clone();
    assert_ne!(rotated["Worker"], tokens["Worker"]);
    assert_eq!(rotated["Manager"], tokens["Manager"]);
    let mut locked = spec.clone();
    locked["EncryptionConfig"]["AutoLockManagers"] = json!(true);
    assert_eq!(board.post(&update(""), &locked).await.status, 400);
    assert_eq!(board.post(&update(""), &spec).await.status, 409, "the version is old");
    assert!(board.post("/swarm/init", &json!({})).await.message().contains("already part of"));
    assert_eq!(board.get("/swarm/unlockkey").await.status, 400);
}

#[tokio::test]
async fn a_manager_leaves_only_by_force() {
    let world = World::new(3);
    let refused = world.board(2).post("/swarm/leave", &Value::Null).await;
    assert_eq!(refused.status, 503);
    assert!(refused.message().contains("--force"), "{}", refused.message());
    assert_eq!(world.state().nodes().len(), 3);
    world.apply(vec![Command::SetNodeRole { id: node_id(2), role: Role::Worker }]);
    assert_eq!(world.board(2).post("/swarm/leave", &Value::Null).await.status, 200);
    assert!(world.state().node(node_id(2)).is_some(), "it can still read the answer");
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    assert!(world.state().node(node_id(2)).is_none());
    let split = world.board(1).post("/swarm/leave?force=1", &Value::Null).await;
    assert_eq!(split.status, 409);
    assert!(split.message().contains("would lose the quorum"), "{}", split.message());
    let world = World::new(3);
    assert_eq!(world.board(1).post("/swarm/leave?force=1", &Value::Null).await.status, 200);
    assert!(world.state().node(node_id(1)).is_none(), "nobody refuses the leader its own answer");
}

#[tokio::test]
async fn a_board_without_a_cluster_says_what_it_does() {
    let world = World::new(1);
    world.add_board(9, FakeBoard { is_seeking: true, ..FakeBoard::new(9) });
    let info = world.board(9).get("/info").await.json();
    assert_eq!(info["Swarm"]["LocalNodeState"], "pending");
    let answer = world.board(9).post("/swarm/init", &json!({})).await;
    assert!(answer.message().contains("looks for one by itself"), "{}", answer.message());
}

#[tokio::test]
async fn what_docker_has_and_bramble_has_not_is_said() {
    let world = World::new(1);
    let answer = world.board(1).post("/containers/create?name=x", &json!({})).await;
    assert_eq!(answer.status, 501);
    assert!(answer.message().contains("docker service create"), "{}", answer.message());
    let answer = world.board(1).get("/bogus").await;
    assert_eq!((answer.status, &*answer.message()), (404, "page not found: GET /bogus"));
    assert_eq!(world.board(1).get("/volumes").await.json()["Volumes"], json!([]));
    let networks = world.board(1).get("/networks").await.json();
    assert_eq!(networks.as_array().map(Vec::len), Some(4));
    let host = world.board(1).get("/networks/host?scope=swarm").await.json();
    assert_eq!((&host["Name"], &host["Scope"]), (&json!("host"), &json!("swarm")));
}

#[tokio::test]
async fn containers_are_those_of_the_board() {
    let world = World::new(1);
    let mut board = FakeBoard::new(1);
    let running = Container {
        name: "web.1.x".to_owned(),
        image: "whoami:latest".to_owned(),
        since: jiff::Timestamp::now().as_second() - 5,
        ..Container::default()
    };
    board.containers.push(running.clone());
    board.containers.push(Container { exit_code: Some(3), ..running });
    world.add_board(1, board);
    let board = world.board(1);
    let shown = board.get("/containers/json").await.json();
    assert_eq!(shown.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&shown[0]["Names"][0], &shown[0]["State"]),
        (&json!("/web.1.x"), &json!("running"))
    );
    assert_eq!(shown[0]["Status"], "Up 5 seconds");
    let all = board.get("/containers/json?all=1").await.json();
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    assert!(all.to_string().contains("Exited (3) 5 seconds ago"), "{all}");
}

#[tokio::test]
async fn events_tell_what_happens_until_their_end() {
    let world = World::new(1);
    let past = world.board(1).get("/events?until=1000").await;
    assert!(past.body.is_empty(), "nothing is kept of the past");
    let board = world.board(1);
    let until = jiff::Timestamp::now().as_second() + 2;
    let listening = tokio::spawn(async move { board.get(&format!("/events?until={until}")).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let id = create(&world.board(1), &web()).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    world.apply(vec![Command::RemoveService { id }]);
    let text = listening.await.expect("it ends").body;
    let text = String::from_utf8(text).expect("text");
    let events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let actions: Vec<_> = events.iter().map(|event| (&event["Type"], &event["Action"])).collect();
    assert_eq!(
        actions,
        [(&json!("service"), &json!("create")), (&json!("service"), &json!("remove"))]
    );
    assert_eq!(events[0]["Actor"]["Attributes"]["name"], "web");
}

#[tokio::test]
async fn bramble_shows_the_whole_cluster_and_its_vitals() {
    let world = World::new(3);
    let id = create(&world.board(1), &web()).await;
    let task = world.run_task(id, 1, 2);
    let overview = world.board(3).get("/bramble/cluster").await.json();
    assert_eq!(overview["consensus"]["leader"], node_id(1).to_string());
    assert_eq!(overview["consensus"]["term"], 3);
    assert_eq!(overview["nodes"][0]["role"], "leader");
    assert_eq!(overview["nodes"][0]["vitals"]["temperature_celsius"], 48.3);
    assert_eq!(overview["nodes"][1]["tasks_running"], 1);
    assert_eq!(
        overview["services"][0],
        json!({
            "id": id.to_string(), "name": "web", "running": 1, "desired": 2,
        })
    );
    let vitals = world.board(2).get("/bramble/vitals").await.json();
    assert_eq!(vitals[node_id(1).to_string()]["temperature_celsius"], 48.3);
    let state = world.board(2).get("/bramble/state").await.json();
    assert_eq!(state["tasks"][0]["ID"], task.to_string());
    assert_eq!(state["images"][0]["Holders"], json!([node_id(1).to_string()]));
    world.report(task, 2, TaskState::Failed);
    let overview = world.board(3).get("/bramble/cluster").await.json();
    assert_eq!(overview["nodes"][1]["tasks_running"], 0);
}

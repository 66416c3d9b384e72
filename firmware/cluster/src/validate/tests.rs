use std::{sync::Arc, time::Duration};

use super::{name, node_description, service_spec};
use crate::{
    Constraint, ConstraintOperator, Mount, MountKind, NodeDescription, PortConfig, PortProtocol,
    PublishMode, Rejection, ServiceMode, ServiceSpec, SpreadPreference, TaskSpec, Ulimit, limits,
    sample::{full_spec, spec},
};

fn error(change: impl FnOnce(&mut ServiceSpec)) -> String {
    let mut spec = full_spec();
    change(&mut spec);
    service_spec(&spec).expect_err("refused").to_string()
}

fn task_error(change: impl FnOnce(&mut TaskSpec)) -> String {
    error(|spec| change(Arc::make_mut(&mut spec.task)))
}

fn port(target: u16, published: u16) -> PortConfig {
    let (name, protocol, mode) = (String::new(), PortProtocol::Tcp, PublishMode::Ingress);
    PortConfig { name, protocol, target, published, mode }
}

#[test]
fn what_makes_sense_is_accepted() {
    assert_eq!(service_spec(&spec("web")), Ok(()));
    assert_eq!(service_spec(&full_spec()), Ok(()));
}

#[test]
fn names_are_a_part_of_a_host_name() {
    for good in ["a", "web", "Web-1_x", &"a".repeat(limits::NAME_BYTES)] {
        assert_eq!(name("name", good), Ok(()), "{good}");
    }
    for bad in ["", "-web", "web-", "_", "we b", "wéb", "a.b", "a/b", &"a".repeat(64)] {
        assert!(name("name", bad).is_err(), "{bad}");
    }
    assert_eq!(error(|spec| spec.name.clear()), "invalid name: it is missing");
}

#[test]
fn numbers_out_of_range_are_refused() {
    assert_eq!(
        error(|spec| spec.mode = ServiceMode::Replicated { replicas: limits::REPLICAS + 1 }),
        "too many or too large: replicas, the limit is 1000"
    );
    assert_eq!(
        error(|spec| spec.update.max_failure_millionths = 1_000_001),
        "invalid update max failure ratio: it must be between 0 and 1"
    );
    assert_eq!(
        error(|spec| spec.rollback.delay = Duration::MAX),
        "invalid rollback delay: it is longer than a year"
    );
    assert_eq!(
        task_error(|task| task.restart.window = Some(Duration::MAX)),
        "invalid restart window: it is longer than a year"
    );
    assert_eq!(
        task_error(|task| task.resources.limit_memory_bytes = 1),
        "invalid memory limit: it must be at least 4 MiB"
    );
    assert_eq!(
        task_error(|task| task.resources.reserved_nano_cpus = 3_000_000_000),
        "invalid cpu reservation: it is over the cpu limit"
    );
    assert_eq!(
        task_error(|task| task.container.oom_score_adjustment = 1_001),
        "invalid OOM score: it must be between -1000 and 1000"
    );
}

#[test]
fn ports_have_a_number_and_are_published_once() {
    assert_eq!(
        error(|spec| spec.endpoint.ports = vec![port(0, 80)]),
        "invalid target port: it must be between 1 and 65535"
    );
    assert_eq!(
        error(|spec| spec.endpoint.ports = vec![port(80, 80), port(81, 80)]),
        "invalid published port: 80/tcp is published twice"
    );
}

#[test]
fn constraints_and_preferences_name_what_there_is() {
    let constraint = Constraint {
        attribute: "node.colour".to_owned(),
        operator: ConstraintOperator::Equal,
        value: "red".to_owned(),
    };
    assert_eq!(
        task_error(|task| task.placement.constraints = vec![constraint]),
        "invalid constraint: there is no attribute node.colour"
    );
    let preference = SpreadPreference { attribute: "node.hostname".to_owned() };
    assert_eq!(
        task_error(|task| task.placement.preferences = vec![preference]),
        "invalid placement preference: \
         spread is over node.labels.<name> or engine.labels.<name>, not node.hostname"
    );
}

#[test]
fn images_have_a_name() {
    assert_eq!(
        task_error(|task| task.container.image.name.clear()),
        "invalid image: it is missing"
    );
    let message = task_error(|task| "Not an image".clone_into(&mut task.container.image.name));
    assert!(message.starts_with("invalid image: `Not an image` is not"), "{message}");
}

#[test]
fn mounts_are_absolute_go_nowhere_else_and_do_not_overlap() {
    let bind = |source: &str, target: &str| Mount {
        kind: MountKind::Bind { source: source.to_owned() },
        target: target.to_owned(),
        is_read_only: false,
    };
    let volume = |name: &str| Mount {
        kind: MountKind::Volume {
            name: name.to_owned(),
            labels: std::collections::BTreeMap::new(),
            is_not_filled: false,
        },
        target: "/data".to_owned(),
        is_read_only: false,
    };
    for (mounts, expected) in [
        (vec![bind("/a", "b")], "invalid mount target: `b` is not an absolute path"),
        (vec![bind("a", "/b")], "invalid bind source: `a` is not an absolute path"),
        (vec![bind("/a", "/b/../c")], "invalid mount target: `/b/../c` goes back with .."),
        (vec![bind("/a", "/")], "invalid mount target: it can't be /"),
        (vec![bind("/a", "/b"), bind("/c", "/b/")], "invalid mount target: /b/ is mounted twice"),
        (
            vec![volume("../../etc")],
            "invalid volume name: \
             it must be letters, digits, _, . and -, and begin with a letter or digit",
        ),
    ] {
        assert_eq!(task_error(|task| task.container.mounts = mounts), expected);
    }
}

#[test]
fn nothing_holds_a_nul() {
    for change in [
        (|task| task.container.arguments.push("a\0b".to_owned())) as fn(&mut TaskSpec),
        |task| task.container.environment.push("A=\0".to_owned()),
        |task| "\0".clone_into(&mut task.container.user),
        |task| "a\0".clone_into(&mut task.networks[0].target),
    ] {
        assert!(task_error(change).ends_with("it holds a NUL"));
    }
}

#[test]
fn odd_words_of_a_container_are_refused() {
    let refused: [fn(&mut TaskSpec); 5] = [
        |task| task.container.environment.push("=1".to_owned()),
        |task| task.container.capabilities_added.push("CAP NET".to_owned()),
        |task| "SIG TERM; rm".clone_into(&mut task.container.stop_signal),
        |task| {
            task.container.ulimits = vec![Ulimit { name: "nofile".to_owned(), soft: 10, hard: 5 }];
        },
        |task| {
            task.container.labels.insert(String::new(), "x".to_owned());
        },
    ];
    for change in refused {
        assert!(task_error(change).starts_with("invalid "));
    }
}

#[test]
fn lists_texts_and_the_whole_are_limited() {
    let refused: [fn(&mut TaskSpec); 3] = [
        |task| task.container.arguments = vec![String::new(); limits::LIST + 1],
        |task| task.container.directory = "x".repeat(limits::TEXT_BYTES + 1),
        |task| task.container.environment = vec![format!("A={}", "x".repeat(600)); limits::LIST],
    ];
    for change in refused {
        assert!(task_error(change).starts_with("too many or too large: "));
    }
}

#[test]
fn a_board_may_not_say_endlessly_much_of_itself() {
    let description = NodeDescription {
        addresses: vec!["10.0.0.1:1".parse().unwrap(); limits::NODE_ADDRESSES + 1],
        ..NodeDescription::default()
    };
    assert!(matches!(node_description(&description), Err(Rejection::OverLimit { .. })));
    let description = NodeDescription { hostname: "x".repeat(300), ..NodeDescription::default() };
    assert!(node_description(&description).is_err());
}

//! The translation is complete in both directions: what the cluster knows survives JSON.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bramble_cluster::{
    Availability, ClusterSpec, Constraint, ConstraintOperator, ContainerSpec, Digest, EndpointMode,
    EndpointSpec, FailureAction, Healthcheck, ImageReference, Labels, LogDriver, Mount, MountKind,
    NetworkAttachment, Node, NodeDescription, NodeId, NodeSpec, NodeState, NodeStatus, OnPartition,
    Placement, Platform, PortConfig, PortProtocol, PublishMode, ResourceLimits, RestartCondition,
    RestartPolicy, Role, ServiceMode, ServiceSpec, SpreadPreference, TaskSpec, Timestamp, Ulimit,
    UpdateConfig, UpdateOrder, Version,
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest},
};
use serde_json::json;

use super::{
    container::read_image, node, rfc3339, service::ON_PARTITION_LABEL,
    service::ServiceSpec as Wire, swarm::SwarmSpec, unsupported,
};

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 =./:äß\"-]{0,12}"
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,8}"
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(name(), text(), 0..3)
}

fn period() -> impl Strategy<Value = Duration> {
    (0..10_000_000_000_u64).prop_map(Duration::from_nanos)
}

fn image() -> impl Strategy<Value = ImageReference> {
    (name(), name(), option::of(any::<[u8; 32]>())).prop_map(|(name, tag, digest)| ImageReference {
        name: format!("{name}:{tag}"),
        digest: digest.map(Digest::from_bytes),
    })
}

fn mount() -> impl Strategy<Value = Mount> {
    let kind = prop_oneof![
        name().prop_map(|name| MountKind::Bind { source: format!("/{name}") }),
        (name(), labels(), any::<bool>()).prop_map(|(name, labels, is_not_filled)| {
            MountKind::Volume { name, labels, is_not_filled }
        }),
        (0..1_u64 << 40, 0..0o7777_u32)
            .prop_map(|(size_bytes, mode)| MountKind::Tmpfs { size_bytes, mode }),
    ];
    (kind, name(), any::<bool>()).prop_map(|(kind, target, is_read_only)| Mount {
        kind,
        target: format!("/{target}"),
        is_read_only,
    })
}

fn healthcheck() -> impl Strategy<Value = Healthcheck> {
    (
        vec(text(), 0..3),
        option::of(period()),
        option::of(period()),
        0..9_u32,
        option::of(period()),
        option::of(period()),
    )
        .prop_map(|(test, interval, timeout, retries, start_period, start_interval)| {
            Healthcheck { test, interval, timeout, retries, start_period, start_interval }
        })
}

fn container() -> impl Strategy<Value = ContainerSpec> {
    let texts = || vec(text(), 0..3);
    let capabilities = || vec(prop_oneof![Just("ALL"), Just("CAP_NET_ADMIN")], 0..2);
    let words = (text(), text(), text(), text());
    let lists = (texts(), texts(), texts(), texts(), texts(), texts(), texts(), texts());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), option::of(any::<bool>()));
    let ulimits = vec((name(), any::<i64>(), any::<i64>()), 0..3);
    let rest = (option::of(period()), option::of(healthcheck()), ulimits, -1_000..=1_000_i32);
    let sets = (labels(), labels(), vec(mount(), 0..3), capabilities(), capabilities());
    (image(), words, lists, flags, rest, sets).prop_map(
        |(image, words, lists, flags, rest, sets)| {
            let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
            ContainerSpec {
                image,
                labels: sets.0,
                entrypoint: lists.0,
                arguments: lists.1,
                hostname: words.0,
                environment: lists.2,
                directory: words.1,
                user: words.2,
                groups: lists.3,
                has_terminal: flags.0,
                has_open_stdin: flags.1,
                is_read_only: flags.2,
                mounts: sets.2,
                stop_signal: words.3,
                stop_grace_period: rest.0,
                healthcheck: rest.1,
                hosts: lists.4,
                dns_servers: lists.5,
                dns_search: lists.6,
                dns_options: lists.7,
                has_init: flags.3,
                sysctls: sets.1,
                capabilities_added: owned(sets.3),
                capabilities_dropped: owned(sets.4),
                ulimits: rest
                    .2
                    .into_iter()
                    .map(|(name, soft, hard)| Ulimit { name, soft, hard })
                    .collect(),
                oom_score_adjustment: rest.3,
            }
        },
    )
}

fn placement() -> impl Strategy<Value = Placement> {
    let operator = prop_oneof![Just(ConstraintOperator::Equal), Just(ConstraintOperator::NotEqual)];
    let constraint = (name(), operator, name()).prop_map(|(attribute, operator, value)| {
        Constraint { attribute: format!("node.labels.{attribute}"), operator, value }
    });
    let preference = name().prop_map(|attribute| SpreadPreference { attribute });
    let platform = (name(), name()).prop_map(|(os, architecture)| Platform { os, architecture });
    (vec(constraint, 0..3), vec(preference, 0..3), any::<u32>(), vec(platform, 0..2)).prop_map(
        |(constraints, preferences, max_replicas_per_node, platforms)| Placement {
            constraints,
            preferences,
            max_replicas_per_node,
            platforms,
        },
    )
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    let condition = prop_oneof![
        Just(RestartCondition::Any),
        Just(RestartCondition::OnFailure),
        Just(RestartCondition::None)
    ];
    (condition, option::of(period()), any::<u64>(), option::of(period())).prop_map(
        |(condition, delay, max_attempts, window)| RestartPolicy {
            condition,
            delay,
            max_attempts,
            window,
        },
    )
}

fn task() -> impl Strategy<Value = TaskSpec> {
    let amount = || 0..1_u64 << 60;
    let resources =
        (amount(), amount(), amount(), amount(), amount()).prop_map(|amounts| ResourceLimits {
            limit_nano_cpus: amounts.0,
            limit_memory_bytes: amounts.1,
            limit_pids: amounts.2,
            reserved_nano_cpus: amounts.3,
            reserved_memory_bytes: amounts.4,
        });
    let target = prop_oneof![Just("host".to_owned()), name()];
    let network = (target, vec(name(), 0..2))
        .prop_map(|(target, aliases)| NetworkAttachment { target, aliases });
    let driver = (name(), labels()).prop_map(|(name, options)| LogDriver { name, options });
    let rest = (vec(network, 0..2), option::of(driver), any::<bool>(), any::<u64>());
    (container(), resources, restart(), placement(), rest).prop_map(
        |(container, resources, restart, placement, rest)| TaskSpec {
            container,
            resources,
            restart,
            placement,
            networks: rest.0,
            log_driver: rest.1,
            on_partition: if rest.2 { OnPartition::Stop } else { OnPartition::Keep },
            force_update: rest.3,
        },
    )
}

fn update() -> impl Strategy<Value = UpdateConfig> {
    let action = prop_oneof![
        Just(FailureAction::Pause),
        Just(FailureAction::Continue),
        Just(FailureAction::Rollback)
    ];
    let order = prop_oneof![Just(UpdateOrder::StopFirst), Just(UpdateOrder::StartFirst)];
    (any::<u32>(), period(), action, period(), 0..=1_000_000_u32, order).prop_map(
        |(parallelism, delay, failure_action, monitor, max_failure_millionths, order)| {
            UpdateConfig {
                parallelism,
                delay,
                failure_action,
                monitor,
                max_failure_millionths,
                order,
            }
        },
    )
}

fn endpoint() -> impl Strategy<Value = EndpointSpec> {
    let protocol =
        prop_oneof![Just(PortProtocol::Tcp), Just(PortProtocol::Udp), Just(PortProtocol::Sctp)];
    let mode = prop_oneof![Just(PublishMode::Ingress), Just(PublishMode::Host)];
    let port = (name(), protocol, 1..=u16::MAX, any::<u16>(), mode).prop_map(
        |(name, protocol, target, published, mode)| PortConfig {
            name,
            protocol,
            target,
            published,
            mode,
        },
    );
    let mode = prop_oneof![Just(EndpointMode::Vip), Just(EndpointMode::Dnsrr)];
    (mode, vec(port, 0..3)).prop_map(|(mode, ports)| EndpointSpec { mode, ports })
}

fn service() -> impl Strategy<Value = ServiceSpec> {
    let mode = prop_oneof![
        Just(ServiceMode::Global),
        (0..=1_000_u32).prop_map(|replicas| ServiceMode::Replicated { replicas })
    ];
    (name(), labels(), mode, task(), update(), update(), endpoint()).prop_map(
        |(name, mut labels, mode, task, update, rollback, endpoint)| {
            if task.on_partition == OnPartition::Stop {
                labels.insert(ON_PARTITION_LABEL.to_owned(), "stop".to_owned());
            }
            ServiceSpec { name, labels, mode, task: Arc::new(task), update, rollback, endpoint }
        },
    )
}

proptest! {
    #[test]
    fn every_service_survives_json(spec in service()) {
        let json = serde_json::to_string(&Wire::from_cluster(&spec)).expect("plain data");
        let read: Wire = serde_json::from_str(&json).expect("what was just written");
        prop_assert_eq!(read.into_cluster(None), Ok(spec));
    }

    /// What Docker's client does with the JSON: `MaxFailureRatio` is a 32-bit float there.
    #[test]
    fn ratios_survive_a_32_bit_float(millionths in 0..=1_000_000_u32) {
        let config = UpdateConfig { max_failure_millionths: millionths, ..UpdateConfig::default() };
        let wire = super::service::UpdateConfig::from_cluster(&config);
        #[expect(clippy::cast_possible_truncation, reason = "this is what the client does")]
        let short = wire.max_failure_ratio as f32;
        let text = serde_json::to_string(&short).expect("a number");
        let spec = Wire {
            name: "web".to_owned(),
            task_template: any_task(),
            update_config: Some(super::service::UpdateConfig {
                max_failure_ratio: text.parse().expect("a number"),
                ..wire
            }),
            ..Wire::default()
        };
        let read = spec.into_cluster(None).expect("valid");
        prop_assert_eq!(read.update.max_failure_millionths, millionths);
    }

    #[test]
    fn no_request_panics(text in "\\PC{0,60}", number in any::<i64>()) {
        let json = json!({
            "Name": text, "Labels": {"a": text, ON_PARTITION_LABEL: text},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": text, "StopGracePeriod": number,
                    "Mounts": [{"Type": text, "Source": text, "Target": text}],
                },
                "Placement": {"Constraints": [text]},
                "RestartPolicy": {"Condition": text, "Delay": number},
                "Resources": {"Limits": {"NanoCPUs": number, "Pids": number}},
            },
            "UpdateConfig": {"Delay": number, "Monitor": number, "Order": text},
            "EndpointSpec": {"Mode": text, "Ports": [{"TargetPort": number.unsigned_abs()}]},
        });
        let read: Wire = serde_json::from_value(json).expect("shapes are right");
        let _ = read.into_cluster(None);
    }
}

fn any_task() -> super::task_spec::TaskSpec {
    super::task_spec::TaskSpec {
        container_spec: super::container::ContainerSpec {
            image: "whoami".to_owned(),
            ..super::container::ContainerSpec::default()
        },
        ..super::task_spec::TaskSpec::default()
    }
}

/// As `docker service create` 28.2 sends it with most of its flags.
fn docker_request() -> serde_json::Value {
    let digest = "a".repeat(64);
    json!({
        "Name": "web", "Labels": {"l": "1"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": format!("whoami:latest@sha256:{digest}"), "Labels": {"m": "2"},
                "Command": ["a", "b"], "Args": ["--flag", "x"], "Hostname": "h", "Dir": "/w",
                "User": "u", "Groups": ["g"], "Init": true, "StopSignal": "INT", "TTY": true,
                "ReadOnly": true, "StopGracePeriod": 3_000_000_000_u64, "Env": ["A=b"],
                "Mounts": [
                    {"Type": "volume", "Source": "v", "Target": "/x", "ReadOnly": true},
                    {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1_000_000}},
                    {"Type": "bind", "Source": "/a", "Target": "/b"},
                ],
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 3_000_000_000_u64},
                "Hosts": ["1.2.3.4 a"], "DNSConfig": {"Nameservers": ["1.1.1.1"]},
                "Sysctls": {"a.b": "c"}, "CapabilityAdd": ["CAP_NET_ADMIN"],
                "CapabilityDrop": ["ALL"],
                "Ulimits": [{"Name": "nofile", "Hard": 20, "Soft": 10}], "OomScoreAdj": 5,
            },
            "Resources": {
                "Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 67_108_864, "Pids": 10},
                "Reservations": {"MemoryBytes": 10_485_760},
            },
            "RestartPolicy": {"Condition": "any", "Delay": 0, "MaxAttempts": 3},
            "Placement": {
                "Constraints": ["node.role==manager"],
                "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.z"}}],
            },
            "Networks": [{"Target": "bramblehost00000000000001"}],
            "LogDriver": {"Name": "none"}, "ForceUpdate": 0,
        },
        "Mode": {"Replicated": {}},
        "UpdateConfig": {
            "Parallelism": 2, "FailureAction": "pause", "MaxFailureRatio": 0, "Order": "stop-first",
        },
        "EndpointSpec": {"Mode": "vip", "Ports": [{
            "Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress",
        }]},
    })
}

#[test]
fn what_docker_sends_is_understood_whole() {
    let request = docker_request();
    let read: Wire = serde_json::from_value(request.clone()).expect("the shape is Docker's");
    let spec = read.into_cluster(None).expect("valid");
    assert_eq!(spec.mode, ServiceMode::Replicated { replicas: 1 });
    assert_eq!(spec.update.monitor, Duration::ZERO, "the client was told so");
    assert_eq!(spec.rollback.monitor, Duration::from_secs(5), "Docker's default");
    assert_eq!(spec.task.networks[0].target, "host");
    assert_eq!(spec.task.restart.delay, Some(Duration::ZERO), "0 is not absent here");
    let echo = serde_json::to_value(Wire::from_cluster(&spec)).expect("plain data");
    assert_eq!(unsupported::leftovers(&request, &echo), Vec::<String>::new());
}

/// The monitoring time that a request means.
fn monitor(labels: serde_json::Value, config: serde_json::Value, previous: u64) -> Duration {
    let request = json!({
        "Name": "web", "Labels": labels, "TaskTemplate": {"ContainerSpec": {"Image": "a"}},
        "UpdateConfig": config,
    });
    let read = |request| -> Wire { serde_json::from_value(request).expect("valid shape") };
    let mut before = read(request.clone()).into_cluster(None).expect("valid");
    before.update.monitor = Duration::from_secs(previous);
    read(request).into_cluster(Some(&before)).expect("valid").update.monitor
}

#[test]
fn a_monitor_of_zero_is_understood_although_dockers_client_cannot_write_it() {
    let (five, none) = (Duration::from_secs(5), Duration::ZERO);
    let stack = json!({"com.docker.stack.namespace": "shop"});
    // `docker service … --update-monitor 0s`
    let command_line = json!({"Parallelism": 1, "FailureAction": "pause", "Order": "stop-first"});
    assert_eq!(monitor(json!({}), command_line.clone(), 5), none);
    // `docker stack deploy` without a monitor, with and without the other settings.
    assert_eq!(monitor(stack.clone(), command_line, 5), five);
    assert_eq!(monitor(stack.clone(), json!({"Parallelism": 2}), 5), five);
    assert_eq!(monitor(json!({}), json!({"Parallelism": 2}), 5), five);
    assert_eq!(monitor(json!({}), serde_json::Value::Null, 5), five);
    // What is written is meant, and a zero stays until it is overwritten.
    assert_eq!(monitor(stack.clone(), json!({"Parallelism": 2, "Monitor": 0}), 5), none);
    assert_eq!(monitor(stack, json!({"Parallelism": 2}), 0), none);
    assert_eq!(monitor(json!({}), json!({"Monitor": 1_000_000_000}), 0), Duration::from_secs(1));
}

fn refusal(pointer: &str, value: serde_json::Value) -> String {
    let mut request = docker_request();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = request.pointer_mut(parent).expect("it exists");
    match parent {
        serde_json::Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        parent => parent[key] = value,
    }
    let read: Wire = serde_json::from_value(request).expect("the shape is right");
    read.into_cluster(None).expect_err("it is wrong").to_string()
}

#[test]
fn what_is_wrong_is_named_with_the_way_out() {
    assert_eq!(
        refusal("/EndpointSpec/Ports/0/PublishedPort", json!(70_000)),
        "invalid EndpointSpec.Ports[0].PublishedPort: 70000 is out of range: ports go from 1 to \
         65535"
    );
    assert_eq!(
        refusal("/EndpointSpec/Ports/0/TargetPort", json!(0)),
        "invalid EndpointSpec.Ports[0].TargetPort: 0 is out of range: ports go from 1 to 65535"
    );
    assert_eq!(
        refusal("/TaskTemplate/Placement/Constraints/0", json!("node.role=manager")),
        "invalid TaskTemplate.Placement.Constraints[0]: `node.role=manager` is not a constraint: \
         write `<attribute>==<value>` or `<attribute>!=<value>`"
    );
    assert_eq!(
        refusal("/UpdateConfig/Order", json!("sideways")),
        "invalid UpdateConfig.Order: `sideways` is none of stop-first, start-first"
    );
    assert_eq!(
        refusal("/Mode/ReplicatedJob", json!({"MaxConcurrent": 1})),
        "invalid Mode: jobs are not supported: `replicated` and `global` services are"
    );
    assert_eq!(
        refusal("/Mode/Replicated/Replicas", json!(5_000)),
        "invalid Mode.Replicated.Replicas: 5000 are too many: a service has at most 1000"
    );
    assert!(
        refusal("/TaskTemplate/ContainerSpec/Image", json!("Bad Name"))
            .starts_with("invalid TaskTemplate.ContainerSpec.Image: `Bad Name` is not the name")
    );
}

#[test]
fn images_get_their_tag_and_keep_their_digest() {
    let digest = format!("sha256:{}", "b".repeat(64));
    let read = read_image(&format!("whoami:1@{digest}")).expect("valid");
    assert_eq!((&*read.name, read.digest), ("whoami:1", digest.parse().ok()));
    assert_eq!(read_image("whoami").expect("valid").name, "whoami:latest");
}

fn some_node(pinned: Option<Role>) -> Node {
    Node {
        id: NodeId::from_random(7),
        key: Digest::default(),
        version: Version(3),
        created_at: Timestamp::from_millis(1_700_000_000_123),
        updated_at: Timestamp::from_millis(1_700_000_000_000),
        spec: NodeSpec {
            labels: BTreeMap::from([("room".to_owned(), "attic".to_owned())]),
            availability: Availability::Active,
            role: pinned,
        },
        description: NodeDescription {
            hostname: "pi-7".to_owned(),
            addresses: vec!["10.0.0.7:7420".parse().expect("an address")],
            ..NodeDescription::default()
        },
        role: Role::Worker,
        status: NodeStatus { state: NodeState::Ready, ..NodeStatus::default() },
    }
}

#[test]
fn only_another_role_than_the_one_shown_pins_one() {
    for (pinned, asked, expected) in [
        (None, "worker", None),
        (None, "", None),
        (None, "manager", Some(Role::Manager)),
        (Some(Role::Manager), "manager", Some(Role::Manager)),
        (Some(Role::Manager), "worker", Some(Role::Worker)),
        (Some(Role::Worker), "worker", Some(Role::Worker)),
    ] {
        let wanted = node::NodeSpec { role: asked.to_owned(), ..node::NodeSpec::default() };
        let wanted = wanted.into_cluster(&some_node(pinned)).expect("valid");
        assert_eq!(wanted.role, expected, "{pinned:?} {asked}");
    }
}

#[test]
fn a_node_looks_as_docker_expects() {
    let standing = node::Standing { is_leader: true, is_reachable: Some(true) };
    let json = serde_json::to_value(node::Node::from_cluster(&some_node(None), Some(standing)));
    assert_eq!(
        json.expect("plain data"),
        json!({
            "ID": "0000000000000000000000007",
            "Version": {"Index": 3},
            "CreatedAt": "2023-11-14T22:13:20.123Z",
            "UpdatedAt": "2023-11-14T22:13:20Z",
            "Spec": {"Labels": {"room": "attic"}, "Role": "worker", "Availability": "active"},
            "Description": {
                "Hostname": "pi-7",
                "Platform": {"Architecture": "", "OS": ""},
                "Resources": {"NanoCPUs": 0, "MemoryBytes": 0},
                "Engine": {"EngineVersion": ""},
            },
            "Status": {"State": "ready", "Addr": "10.0.0.7"},
            "ManagerStatus": {
                "Leader": true, "Reachability": "reachable", "Addr": "10.0.0.7:7420",
            },
        })
    );
}

#[test]
fn the_history_limit_survives_and_has_bounds() {
    let spec = ClusterSpec { task_history_limit: 9 };
    assert_eq!(SwarmSpec::from_cluster(&spec).into_cluster(), Ok(spec));
    let mut wrong = SwarmSpec::default();
    wrong.orchestration.task_history_retention_limit = Some(-1);
    assert!(wrong.into_cluster().is_err());
}

#[test]
fn instants_are_written_as_go_reads_them() {
    assert_eq!(rfc3339(Timestamp::from_millis(0)), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(Timestamp::from_millis(u64::MAX)), "0001-01-01T00:00:00Z");
}

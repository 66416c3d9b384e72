use std::{path::PathBuf, time::Duration};

use bramble_cluster::{
    AssignedTask, ContainerSpec, DesiredState, Labels, Mount, MountKind, ResourceLimits, ServiceId,
    Slot, TaskSpec, TaskStatus, Ulimit,
};
use oci_spec::image::{Config, ConfigBuilder};

use super::*;
use crate::{BoardFacts, NetworkMode};

fn request(image: Config, change: impl FnOnce(&mut TaskSpec)) -> ContainerRequest {
    let mut spec = TaskSpec::default();
    change(&mut spec);
    ContainerRequest {
        task: AssignedTask {
            id: TaskId::from_random(7),
            service: ServiceId::from_random(8),
            service_name: "web".to_owned(),
            slot: Slot::Replica(2),
            spec: spec.into(),
            desired: DesiredState::Running,
            status: TaskStatus::default(),
            image_holders: Vec::new(),
            image: None,
            is_withheld: false,
        },
        image,
        rootfs: PathBuf::from("/nowhere"),
        board: BoardFacts::default(),
        network: NetworkMode::Board,
    }
}

fn written(image: Config, change: impl FnOnce(&mut TaskSpec)) -> Written {
    write(&Layout::new("/run/b", "/data/b", "/bramble"), &request(image, change)).unwrap()
}

fn image() -> Config {
    ConfigBuilder::default()
        .entrypoint(vec!["/entry".to_owned()])
        .cmd(vec!["of".to_owned(), "image".to_owned()])
        .env(vec!["PATH=/image".to_owned(), "KEEP=1".to_owned(), "DROP=1".to_owned()])
        .working_dir("/image/dir".to_owned())
        .stop_signal("SIGQUIT".to_owned())
        .volumes(vec!["/image/volume".to_owned()])
        .build()
        .unwrap()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn libcontainer_can_read_what_is_written() {
    let written = written(image(), |_| {});
    let spec: libcontainer::oci_spec::runtime::Spec =
        serde_json::from_value(written.config).unwrap();
    assert_eq!(spec.process().as_ref().unwrap().no_new_privileges(), Some(true));
    let linux = spec.linux().as_ref().unwrap();
    let cgroup = linux.cgroups_path().as_ref().unwrap();
    assert_eq!(cgroup, &PathBuf::from("/bramble").join(TaskId::from_random(7).to_string()));
    assert_eq!(linux.masked_paths().as_ref().unwrap().len(), 11);
}

#[test]
fn the_image_says_what_the_service_does_not() {
    let Written { config, order, .. } = written(image(), |_| {});
    assert_eq!(config["process"]["args"], json!(["/entry", "of", "image"]));
    assert_eq!(config["process"]["cwd"], json!("/image/dir"));
    assert_eq!(order.stop_signal, nix::libc::SIGQUIT);
    assert_eq!(order.grace_milliseconds, 10_000);
    let volume = config["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|mount| mount["destination"] == json!("/image/volume"));
    assert!(volume.unwrap()["source"].as_str().unwrap().starts_with("/data/b/volumes/anonymous-"));
}

#[test]
fn an_entrypoint_replaces_the_images_command_too() {
    let of = |entrypoint: &[&str], arguments: &[&str]| {
        let written = written(image(), |spec| {
            spec.container.entrypoint = texts(entrypoint);
            spec.container.arguments = texts(arguments);
        });
        written.config["process"]["args"].clone()
    };
    assert_eq!(of(&["/mine"], &[]), json!(["/mine"]));
    assert_eq!(of(&[], &["mine"]), json!(["/entry", "mine"]));
    assert_eq!(of(&["/mine"], &["a", "b"]), json!(["/mine", "a", "b"]));
}

#[test]
fn variables_are_replaced_and_taken_away() {
    let written = written(image(), |spec| {
        spec.container.environment = texts(&["KEEP=2", "DROP", "NAME={{ .Task.Name }}"]);
    });
    let environment = written.config["process"]["env"].as_array().unwrap().clone();
    let has = |text: &str| environment.contains(&json!(text));
    assert!(has("PATH=/image") && has("KEEP=2") && has("HOME=/"), "{environment:?}");
    assert!(has(&format!("NAME=web.2.{}", TaskId::from_random(7))), "{environment:?}");
    assert!(!environment.iter().any(|entry| entry.as_str().unwrap().starts_with("DROP")));
}

#[test]
fn a_label_cannot_switch_the_filter_off() {
    let written = written(image(), |spec| {
        spec.container.labels = Labels::from([(UNCONFINED.to_owned(), "1".to_owned())]);
    });
    assert_eq!(written.config["annotations"].get(UNCONFINED), None);
}

#[test]
fn a_log_has_the_size_that_was_asked_for() {
    let ring = |options: &[(&str, &str)]| {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let written = written(image(), |spec| {
            spec.log_driver =
                Some(LogDriver { name: "json-file".to_owned(), options: options.collect() });
        });
        written.order.segment_bytes * u64::from(written.order.segments)
    };
    assert_eq!(ring(&[]), 1024 * 1024);
    assert_eq!(ring(&[("max-size", "10m"), ("max-file", "2")]), 20 * 1024 * 1024);
    assert_eq!(ring(&[("max-size", "512kb")]), 512 * 1024);
    assert_eq!(ring(&[("max-size", "100g")]), RING_BYTES);
}

#[test]
fn nonsense_is_refused_by_field() {
    type Change = fn(&mut ContainerSpec);
    let mount = |target: &str, kind: MountKind| Mount {
        kind,
        target: target.to_owned(),
        is_read_only: false,
    };
    let memory = MountKind::Tmpfs { size_bytes: 0, mode: 0 };
    let changes: [(&str, Change); 14] = [
        ("arguments[0]", |spec| spec.arguments = texts(&["a\0b"])),
        ("environment[0]", |spec| spec.environment = texts(&["A={{.Nothing}}"])),
        ("environment[1]", |spec| spec.environment = texts(&["A=1", "B={{.Task.ID"])),
        ("hostname", |spec| spec.hostname = "no spaces".to_owned()),
        ("directory", |spec| spec.directory = "relative".to_owned()),
        ("user", |spec| spec.user = "ghost".to_owned()),
        ("groups[0]", |spec| spec.groups = texts(&["ghosts"])),
        ("stop_signal", |spec| spec.stop_signal = "SIGNIFICANT".to_owned()),
        ("hosts", |spec| spec.hosts = texts(&["not-an-address name"])),
        ("dns_servers", |spec| spec.dns_servers = texts(&["name.server"])),
        ("capabilities_dropped", |spec| spec.capabilities_dropped = texts(&["FLY"])),
        ("oom_score_adjustment", |spec| spec.oom_score_adjustment = 2_000),
        ("sysctls.kernel.panic", |spec| {
            spec.sysctls = Labels::from([("kernel.panic".to_owned(), "1".to_owned())]);
        }),
        ("ulimits[0]", |spec| {
            spec.ulimits = vec![Ulimit { name: "nofile".to_owned(), soft: 9, hard: 3 }];
        }),
    ];
    let layout = Layout::new("/run/b", "/data/b", "/bramble");
    for (field, change) in changes {
        let request = request(image(), |spec| change(&mut spec.container));
        assert_eq!(write(&layout, &request).unwrap_err().field, field);
    }
    let bind = MountKind::Bind { source: "/does/not/exist".to_owned() };
    let volume =
        MountKind::Volume { name: "../up".to_owned(), labels: Labels::new(), is_not_filled: false };
    for (field, mounts) in [
        ("mounts[0].target", vec![mount("relative", memory.clone())]),
        ("mounts[0].target", vec![mount("/a/../../b", memory.clone())]),
        ("mounts[0].target", vec![mount("/", memory.clone())]),
        ("mounts[1].target", vec![mount("/a", memory.clone()), mount("/a", memory)]),
        ("mounts[0].source", vec![mount("/a", bind)]),
        ("mounts[0].name", vec![mount("/a", volume)]),
    ] {
        let request = request(image(), |spec| spec.container.mounts = mounts);
        assert_eq!(write(&layout, &request).unwrap_err().field, field);
    }
    let nothing = request(Config::default(), |_| {});
    assert_eq!(write(&layout, &nothing).unwrap_err().field, "arguments");
}

#[test]
fn limits_become_cgroup_settings() {
    let written = written(image(), |spec| {
        spec.resources = ResourceLimits {
            limit_nano_cpus: 1_500_000_000,
            limit_memory_bytes: 64 << 20,
            limit_pids: 100,
            ..ResourceLimits::default()
        };
        spec.container.stop_grace_period = Some(Duration::from_millis(2_500));
    });
    let resources = &written.config["linux"]["resources"];
    assert_eq!(resources["cpu"], json!({ "quota": 150_000, "period": 100_000 }));
    assert_eq!(resources["memory"]["limit"], json!(64 << 20));
    assert_eq!(resources["pids"]["limit"], json!(100));
    assert_eq!(written.order.grace_milliseconds, 2_500);
}

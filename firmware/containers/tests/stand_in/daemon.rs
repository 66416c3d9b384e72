//! A daemon that starts containers until it is killed, and goes on where it was: what an agent
//! does, without a cluster.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use bramble_cluster::{
    AssignedTask, ContainerSpec, DesiredState, ServiceId, Slot, TaskId, TaskSpec, TaskStatus,
};
use bramble_containers::{BoardFacts, ContainerRequest, Keeper, NetworkMode};

/// `once SOCKET ROOTFS LINE`: starts container 1 with a line of shell, and no other.
pub(super) fn run_once(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let socket = PathBuf::from(arguments.next().unwrap_or_default());
    let rootfs = PathBuf::from(arguments.next().unwrap_or_default());
    let line = arguments.next().and_then(|line| line.into_string().ok()).unwrap_or_default();
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    runtime.block_on(async {
        let Ok(keeper) = Keeper::connect(&socket).await else { return ExitCode::FAILURE };
        let id = TaskId::from_random(1);
        if keeper.list().is_empty() {
            if let Err(error) = keeper.create(request(id, rootfs, line)).await {
                eprintln!("{error:?}");
            } else if let Err(error) = keeper.start(id).await {
                eprintln!("{error:?}");
            }
        }
        std::future::pending().await
    })
}

/// `daemon SOCKET ROOTFS COUNT LINES`: starts COUNT containers, each of which writes LINES lines
/// and ends with a code of its own.
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let socket = PathBuf::from(arguments.next().unwrap_or_default());
    let rootfs = PathBuf::from(arguments.next().unwrap_or_default());
    let mut number =
        || arguments.next().and_then(|text| text.into_string().ok()?.parse().ok()).unwrap_or(0);
    let (count, lines): (u128, u128) = (number(), number());
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    runtime.block_on(async {
        let keeper = match Keeper::connect(&socket).await {
            Ok(keeper) => keeper,
            Err(error) => {
                eprintln!("{error:?}");
                return ExitCode::FAILURE;
            }
        };
        for number in 1..=count {
            let id = TaskId::from_random(number);
            if keeper.list().iter().any(|status| status.id == id) {
                continue;
            }
            // So that containers begin, run and end all through the test.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let line = format!(
                "i=0; while [ $i -lt {lines} ]; do echo {number} line $i; i=$((i+1)); \
                 usleep 4000; done; exit $(({number} % 100))"
            );
            let started = match keeper.create(request(id, rootfs.clone(), line)).await {
                Ok(()) => keeper.start(id).await.map_err(|error| format!("{error:?}")),
                Err(error) => Err(format!("{error:?}")),
            };
            if let Err(error) = started {
                eprintln!("container {number}: {error}");
                return ExitCode::FAILURE;
            }
        }
        std::future::pending().await
    })
}

fn request(id: TaskId, rootfs: PathBuf, line: String) -> ContainerRequest {
    let container = ContainerSpec {
        arguments: vec!["/bin/sh".to_owned(), "-c".to_owned(), line],
        ..ContainerSpec::default()
    };
    let task = AssignedTask {
        id,
        service: ServiceId::from_random(1),
        service_name: "test".to_owned(),
        slot: Slot::Replica(1),
        spec: Arc::new(TaskSpec { container, ..TaskSpec::default() }),
        desired: DesiredState::Running,
        status: TaskStatus::default(),
        image_holders: Vec::new(),
        image: None,
        is_withheld: false,
    };
    ContainerRequest {
        task,
        image: oci_spec::image::Config::default(),
        rootfs,
        board: BoardFacts::default(),
        network: NetworkMode::Board,
    }
}

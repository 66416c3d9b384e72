//! A board without a network, for tests: the keeper, its helper, and daemons that do little.

mod daemon;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use bramble_containers::{
    Layout,
    keeper::{self, KeeperEnd, KeeperOptions},
    oci,
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next().and_then(|role| role.into_string().ok()).unwrap_or_default();
    match role.as_str() {
        "oci" => oci::main(arguments),
        "keep" => keep(arguments),
        "idle" => loop {
            std::thread::park();
        },
        // A daemon that takes part in an orderly end.
        "quick" => {
            std::thread::sleep(Duration::from_millis(50));
            ExitCode::from(1)
        }
        "end" => ExitCode::SUCCESS,
        "refuse" => ExitCode::from(78),
        "daemon" => daemon::run(arguments),
        "once" => daemon::run_once(arguments),
        role => {
            eprintln!("`{role}` is no role");
            ExitCode::FAILURE
        }
    }
}

/// `keep RUN_DIR DATA_DIR CGROUP ROLE ARGUMENTS...`: keeps this program in another role.
fn keep(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().unwrap_or_default();
    let layout = Layout::new(next(), next(), next());
    let Ok(program) = std::env::current_exe() else { return ExitCode::FAILURE };
    let daemon = std::iter::once(program.into_os_string()).chain(arguments).collect();
    let mut options = KeeperOptions::new(layout, daemon);
    options.daemon_grace = Duration::from_secs(2);
    options.longest_restart_delay = Duration::from_millis(100);
    if let Some(patience) = std::env::var("PATIENCE_SECONDS").ok().and_then(|it| it.parse().ok()) {
        options.daemon_patience = Duration::from_secs(patience);
    }
    match keeper::run(options) {
        Ok(KeeperEnd::Refused) => ExitCode::from(78),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the keeper cannot begin: {error}: {:?}", std::error::Error::source(&error));
            ExitCode::FAILURE
        }
    }
}

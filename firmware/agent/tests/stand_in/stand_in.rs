//! A board without a daemon, for tests: the keeper and its helper. The test itself is the daemon.

use std::{ffi::OsString, process::ExitCode};

use bramble_containers::{
    Layout,
    keeper::{self, KeeperOptions},
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
        role => {
            eprintln!("`{role}` is no role");
            ExitCode::FAILURE
        }
    }
}

/// `keep RUN_DIR DATA_DIR CGROUP`: a keeper whose daemon does nothing.
fn keep(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || arguments.next().unwrap_or_default();
    let layout = Layout::new(next(), next(), next());
    let Ok(program) = std::env::current_exe() else { return ExitCode::FAILURE };
    let options = KeeperOptions::new(layout, vec![program.into(), "idle".into()]);
    match keeper::run(options) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the keeper cannot begin: {error}: {:?}", std::error::Error::source(&error));
            ExitCode::FAILURE
        }
    }
}

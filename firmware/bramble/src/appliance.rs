//! The appliance: this program as the first process of a board.
//!
//! Boots the board, becomes the keeper, and sees the board off when the keeper has ended. Runs with
//! one thread from the first line to the last.

mod lights;
pub(crate) mod services;

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bramble_containers::{
    Layout,
    keeper::{self, KeeperEnd, KeeperOptions},
};
use bramble_host::{
    Places,
    boot::{self, Report},
    power,
};

use crate::{config::Config, hostname, log};

/// How the kernel's first process is called.
const FIRST: &str = "init";
/// The card's settings, as they were read at boot, for the daemon.
const SETTINGS: &str = "bramble.toml";
/// The control group above the containers'.
const CGROUP: &str = "/bramble";
/// How often the daemon of a system on trial may fail before the old system is called back.
const FAILURES_ON_TRIAL: u32 = 6;
/// Time to read what stands on the console before a board that cannot go on starts anew.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Whether this process is the first of a board, rather than of a container.
pub(crate) fn is_first_process(name: &Path) -> bool {
    std::process::id() == 1 && name.file_name().is_some_and(|name| name == FIRST)
}

/// Is the board's first process, to its end.
pub(crate) fn run() -> ! {
    let places = Places::default();
    let boot::Boot { mut report, card, watchdog } = boot::run();
    log::start();
    let end = prepare(&places, &mut report, card.as_deref()).and_then(|layout| {
        let mut options = KeeperOptions::new(layout, daemon_command(&places));
        options.failures_max = report.is_trial.then_some(FAILURES_ON_TRIAL);
        options.watchdog = watchdog.as_ref().and_then(|it| it.share().ok()).map(Arc::new);
        Ok(keeper::run(options)?)
    });
    match &end {
        Ok(KeeperEnd::Refused) => {
            eprintln!("bramble: the daemon cannot work; what it said stands above")
        }
        Ok(_) => {}
        Err(error) => eprintln!("bramble: {error:#}"),
    }
    let is_power_off = matches!(end, Ok(KeeperEnd::PowerOff));
    if matches!(end, Err(_) | Ok(KeeperEnd::Refused)) {
        eprintln!("bramble: the board starts again in {} s", LAST_WORDS.as_secs());
        std::thread::sleep(LAST_WORDS);
    }
    power::settle(&places);
    // The watchdog stays armed on the way to a reboot, in case the kernel gets stuck on it.
    match watchdog {
        Some(watchdog) if is_power_off => watchdog.disarm(),
        _ => {}
    }
    if is_power_off { power::power_off() } else { power::reboot() }
}

/// Everything between the boot and the keeper: settings, name, folders.
fn prepare(places: &Places, report: &mut Report, card: Option<&str>) -> anyhow::Result<Layout> {
    let (config, problems) = Config::read_lenient(card.unwrap_or_default());
    for problem in &problems {
        eprintln!("bramble: problem: {problem}");
    }
    report.problems.extend(problems);
    let data = places.bramble();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&data)?;
    let name = hostname::of_this_board(config.board.hostname.as_deref(), &data);
    if let Err(error) = nix::unistd::sethostname(&name) {
        report.problems.push(format!("the board could not take its name {name}: {error}"));
    }
    let run = places.bramble_run();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&run)?;
    // With the cluster's key in it: nobody but us reads it.
    let mut settings = fs::OpenOptions::new();
    settings.create(true).write(true).truncate(true).mode(0o600);
    std::io::Write::write_all(
        &mut settings.open(run.join(SETTINGS))?,
        card.unwrap_or_default().as_bytes(),
    )?;
    report.save(&run)?;
    Ok(Layout::new(run, data, CGROUP))
}

fn daemon_command(places: &Places) -> Vec<std::ffi::OsString> {
    let run = places.bramble_run();
    let mut command: Vec<std::ffi::OsString> = vec!["/proc/self/exe".into()];
    command.extend(["daemon".into(), "--kept".into(), "--appliance".into()]);
    command.extend(["--config".into(), run.join(SETTINGS).into()]);
    command.extend(["--data-dir".into(), places.bramble().into()]);
    command.extend(["--run-dir".into(), run.into()]);
    command.extend(["--cgroup".into(), CGROUP.into()]);
    command
}

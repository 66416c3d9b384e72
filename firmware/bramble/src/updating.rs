//! Updates of this board's operating system: what its API may ask, and the watch over a trial.
//!
//! Slots, files and ways to reboot are the host's; this joins them to the cluster. What runs and is
//! not the default is on trial: it is kept once it was healthy for a minute, and given up by a
//! reboot when that takes too long. Neither needs anybody to ask for it.

mod health;

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use bramble_agent::Agent;
use bramble_api::{
    Archive, BoardError, Power,
    types::os::{OsFailure, OsProgress, OsStatus},
};
use bramble_cluster::{DesiredState, chain};
use bramble_containers::ContainerState;
use bramble_host::{
    Places, Sources,
    boot::Report,
    slot::Slot,
    update::{
        Card, InstallError, Ledger, Reboot, RebootFlag, RunningSystem, Trust, choose_try_boot,
        family, install,
    },
};
use bramble_manager::Manager;
use bramble_network::uplink::Status;
use semver::Version;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    sync::{Mutex, mpsc, watch},
};
use tokio_util::io::SyncIoBridge;
use tracing::{error, info, warn};

use self::health::{HEALTHY, Health, PATIENCE, patience};
use crate::{
    board::CurrentAgent,
    cli::{Client, Query, activate_after_update},
};

/// Whose updates are accepted.
const TRUST: &str = "/etc/bramble/trust";
/// The argument that the board reboots with, in the run folder, for who reboots it.
const REBOOT_ARGUMENT: &str = "reboot-argument";
/// How often the daemon may start in a trial.
const STARTS_MAX: u32 = 5;
/// Between two looks at the health of a trial.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Bytes between two lines of progress.
const TELL_EVERY: u64 = 4 << 20;
/// Bytes of a refused update that are read to its end, so that its sender hears why.
const DRAINED_BYTES: u64 = 256 << 20;

/// Where the board is asked to end, by whoever has a reason.
pub(crate) type PowerSwitch = watch::Sender<Option<Power>>;
/// Until a board that was asked to end begins to: whoever asked hears first that it will.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// This board's operating system. Clones share it.
#[derive(Clone)]
pub(crate) struct Updating(Arc<Inner>);

struct Inner {
    /// Where it booted from; `None` on a machine that is no appliance.
    appliance: Option<Appliance>,
    data_dir: PathBuf,
    run_dir: PathBuf,
    power: PowerSwitch,
    /// Makes the firmware's reboot flag, where there is such a thing.
    mailbox: Option<fn() -> Box<dyn RebootFlag>>,
    /// Held while the card or the ledger changes.
    busy: Mutex<()>,
}

/// How the daemon started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Started {
    /// Whether what runs is on trial.
    is_trial: bool,
    /// How often it started in this trial.
    starts: u32,
    /// Whether it noticed that a trial is over.
    has_ended: bool,
}

/// What of the boot report counts here.
#[derive(Debug, Clone)]
struct Appliance {
    disk: PathBuf,
    slot: Slot,
    /// The data partition could not be used.
    data_is_temporary: bool,
}

impl Appliance {
    /// `None` if the report names no slot to update.
    fn of(report: &Report) -> Option<Self> {
        let (disk, slot) = (report.disk.clone()?, report.slot?);
        Some(Self { disk, slot, data_is_temporary: report.data_is_temporary })
    }
}

impl Updating {
    /// The operating system of a board whose process 1 left this report; without one the board is no
    /// appliance. `power` hears when the board is to reboot.
    pub(crate) fn new(
        data_dir: &Path,
        run_dir: &Path,
        report: Option<&Report>,
        power: PowerSwitch,
        mailbox: Option<fn() -> Box<dyn RebootFlag>>,
    ) -> Self {
        Self(Arc::new(Inner {
            appliance: report.and_then(Appliance::of),
            data_dir: data_dir.to_owned(),
            run_dir: run_dir.to_owned(),
            power,
            mailbox,
            busy: Mutex::new(()),
        }))
    }

    /// What runs, is tried, and lies ready.
    pub(crate) async fn status(&self) -> OsStatus {
        let this = self.clone();
        let looked = tokio::task::spawn_blocking(move || this.look()).await;
        looked.unwrap_or_else(|error| OsStatus {
            problem: Some(chain(&error)),
            ..OsStatus::default()
        })
    }

    fn look(&self) -> OsStatus {
        let mut status = OsStatus {
            board: family(&Sources::default()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..OsStatus::default()
        };
        let (appliance, mut card) = match self.open() {
            Ok(opened) => opened,
            Err(error) => return OsStatus { problem: Some(error.to_string()), ..status },
        };
        let ledger = Ledger::read(&self.0.data_dir);
        status.is_appliance = true;
        status.slot = appliance.slot.to_string();
        match card.default_slot() {
            Ok(default) => {
                status.default_slot = default.to_string();
                status.is_trial = default != appliance.slot;
            }
            Err(error) => status.problem = Some(chain(&error)),
        }
        let way = choose_try_boot(&mut card, &Sources::default(), self.mailbox());
        status.backend = way.name().to_owned();
        status.counter = ledger.counter;
        status.staged_counter = ledger.staged.as_ref().map(|staged| staged.counter);
        status.staged = ledger.staged.map(|staged| staged.version.to_string());
        status.failure = ledger.failure.map(|failure| OsFailure {
            version: failure.version.to_string(),
            reason: failure.reason,
            at: failure.at,
        });
        status
    }

    /// Writes an update into the slot that does not run; returns its version.
    pub(crate) async fn install(
        &self,
        file: Archive,
        progress: mpsc::Sender<OsProgress>,
    ) -> Result<String, BoardError> {
        let Ok(_busy) = self.0.busy.try_lock() else {
            return Err(BoardError::InUse("another update is being written".to_owned()));
        };
        let this = self.clone();
        let mut file = SyncIoBridge::new(file);
        let writing = tokio::task::spawn_blocking(move || {
            let installed = this.write(&mut file, &progress);
            (installed, file.into_inner())
        });
        let (installed, file) = writing.await.map_err(|error| failed(&error))?;
        if installed.is_err() {
            // Who sends would otherwise see a broken pipe, and not the reason.
            let _ = tokio::io::copy(&mut file.take(DRAINED_BYTES), &mut tokio::io::sink()).await;
        }
        installed
    }

    fn write(
        &self,
        file: &mut dyn std::io::Read,
        progress: &mpsc::Sender<OsProgress>,
    ) -> Result<String, BoardError> {
        let (appliance, mut card) = self.open()?;
        let trust = Trust::read(Path::new(TRUST)).map_err(|error| failed(&error))?;
        let mut ledger = Ledger::read(&self.0.data_dir);
        let running = RunningSystem {
            slot: Some(appliance.slot),
            board: family(&Sources::default()),
            version: own_version()?,
            counter: ledger.counter,
        };
        let before = ledger.clone();
        // What lies in the other slot may be overwritten from here on.
        ledger.begin_install();
        ledger.write(&self.0.data_dir).map_err(|error| failed(&error))?;
        let (mut last, mut is_checked) = (0, false);
        let mut tell = |bytes: u64, total: u64| {
            is_checked |= bytes < last;
            if bytes < last || bytes - last >= TELL_EVERY || bytes == total {
                last = bytes;
                // Whoever listens slowly misses lines, not the outcome.
                let _ = progress.try_send(match is_checked {
                    false => OsProgress::Written { bytes, total },
                    true => OsProgress::Checked { bytes, total },
                });
            }
        };
        let installed = install(file, &mut card, &running, &trust, &mut tell);
        if installed.as_ref().is_err_and(InstallError::is_refusal) {
            before.write(&self.0.data_dir).map_err(|error| failed(&error))?;
        }
        let installed = installed.map_err(|error| match error {
            InstallError::Card(_) | InstallError::ReadBack(_) => failed(&error),
            _ => BoardError::Invalid(chain(&error)),
        })?;
        ledger.installed(&installed);
        ledger.write(&self.0.data_dir).map_err(|error| failed(&error))?;
        let version = installed.header.version.to_string();
        info!(version, slot = %installed.slot, written = installed.written, "an update is ready");
        Ok(version)
    }

    /// Reboots into what was written.
    pub(crate) async fn try_once(&self) -> Result<(), BoardError> {
        self.changing(|this| {
            let (appliance, mut card) = this.open()?;
            if card.default_slot().map_err(|error| failed(&error))? != appliance.slot {
                return Err(BoardError::InUse("this board runs on trial already".to_owned()));
            }
            let mut ledger = Ledger::read(&this.0.data_dir);
            let now = now();
            let Some(staged) = ledger.begin_trial(now) else {
                return Err(BoardError::InUse("no update was sent to this board".to_owned()));
            };
            if staged.slot == appliance.slot {
                return Err(BoardError::InUse("the update is the slot that runs".to_owned()));
            }
            ledger.write(&this.0.data_dir).map_err(|error| failed(&error))?;
            let mut way = choose_try_boot(&mut card, &Sources::default(), this.mailbox());
            let reboot = way.arm(&mut card, staged.slot).map_err(|error| failed(&error))?;
            info!(version = %staged.version, slot = %staged.slot, way = way.name(), "trying");
            this.reboot(reboot)
        })
        .await
    }

    /// Keeps what runs on trial.
    pub(crate) async fn commit(&self) -> Result<(), BoardError> {
        self.changing(|this| {
            let (appliance, mut card) = this.open()?;
            card.commit(appliance.slot).map_err(|error| failed(&error))?;
            let mut ledger = Ledger::read(&this.0.data_dir);
            ledger.kept();
            ledger.write(&this.0.data_dir).map_err(|error| failed(&error))?;
            info!(slot = %appliance.slot, "the running system is kept");
            Ok(())
        })
        .await
    }

    /// Gives up what runs on trial: the old slot boots.
    async fn give_up(&self, reason: String) -> Result<(), BoardError> {
        self.changing(move |this| {
            let mut ledger = Ledger::read(&this.0.data_dir);
            ledger.fail(reason, now());
            // Even if the data folder refuses: the reboot is what matters.
            if let Err(error) = ledger.write(&this.0.data_dir) {
                warn!(error = chain(&error), "why the update failed is forgotten");
            }
            this.reboot(Reboot::Plain)
        })
        .await
    }

    /// Watches over a trial until it is kept or given up; returns whether one has just ended.
    /// `health` is asked again and again.
    async fn watch_trial<Look>(
        &self,
        started: Started,
        patience: Duration,
        health: impl Fn() -> Look,
    ) -> Result<bool, BoardError>
    where
        Look: Future<Output = Health>,
    {
        let Started { is_trial, starts, has_ended } = started;
        if !is_trial {
            return Ok(has_ended);
        }
        if starts > STARTS_MAX {
            self.give_up(format!("its daemon ended {STARTS_MAX} times")).await?;
            return Ok(false);
        }
        info!("this system runs on trial");
        let begun = Instant::now();
        let mut healthy_since = None;
        loop {
            let missing = health().await.missing();
            let since = healthy_since.get_or_insert_with(Instant::now);
            match missing {
                None if since.elapsed() >= HEALTHY => {
                    self.commit().await?;
                    return Ok(true);
                }
                None => {}
                Some(reason) if begun.elapsed() >= patience => {
                    self.give_up(reason.to_owned()).await?;
                    return Ok(false);
                }
                Some(_) => healthy_since = None,
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Writes down that the daemon started, and in what. Before the API answers: whoever saw the old
    /// slot back, and not that its trial is over, would try the update again.
    pub(crate) async fn start(&self) -> Result<Started, BoardError> {
        if self.0.appliance.is_none() {
            return Ok(Started::default());
        }
        self.changing(Self::note_start).await
    }

    fn note_start(&self) -> Result<Started, BoardError> {
        let (appliance, mut card) = self.open()?;
        let is_default = card.default_slot().map_err(|error| failed(&error))? == appliance.slot;
        let mut ledger = Ledger::read(&self.0.data_dir);
        let is_news = ledger.started(appliance.slot, is_default, now());
        if is_news {
            ledger.write(&self.0.data_dir).map_err(|error| failed(&error))?;
        }
        if let Some(failure) = &ledger.failure {
            warn!(version = %failure.version, reason = failure.reason, "an update was not kept");
        }
        let has_ended = is_news && ledger.trial.is_none();
        let starts = ledger.trial.map_or(0, |trial| trial.starts);
        Ok(Started { is_trial: !is_default, starts, has_ended })
    }

    async fn changing<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Self) -> Result<T, BoardError> + Send + 'static,
    ) -> Result<T, BoardError> {
        let _busy = self.0.busy.lock().await;
        let this = self.clone();
        let changed = tokio::task::spawn_blocking(move || change(&this)).await;
        changed.map_err(|error| failed(&error))?
    }

    fn reboot(&self, reboot: Reboot) -> Result<(), BoardError> {
        if let Reboot::Argument(argument) = reboot {
            let path = self.0.run_dir.join(REBOOT_ARGUMENT);
            fs::write(path, argument).map_err(|error| failed(&error))?;
        }
        self.0.power.send_replace(Some(Power::Reboot));
        Ok(())
    }

    /// Ends the board in order, when the answer to whoever asked is on its way.
    pub(crate) fn end(&self, power: Power) -> Result<(), BoardError> {
        if self.0.appliance.is_none() {
            return Err(BoardError::Unsupported(
                "this board is not an appliance: its machine is switched off by other means"
                    .to_owned(),
            ));
        }
        let switch = self.0.power.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LAST_ANSWER).await;
            switch.send_replace(Some(power));
        });
        Ok(())
    }

    fn open(&self) -> Result<(Appliance, Card), BoardError> {
        let Some(appliance) = self.0.appliance.clone() else {
            return Err(BoardError::Unsupported(
                "this board is not an appliance: its operating system is updated by other means"
                    .to_owned(),
            ));
        };
        let card = Card::open(&appliance.disk).map_err(|error| failed(&error))?;
        Ok((appliance, card))
    }

    fn mailbox(&self) -> Option<Box<dyn RebootFlag>> {
        self.0.mailbox.map(|make| make())
    }
}

/// Watches over a trial, if there is one, and lets the board take tasks again that was drained for
/// it. Then there is nothing more to do, for ever.
///
/// # Errors
/// Never: what goes wrong is told, and the next reset brings the old slot back.
pub(crate) async fn watch(
    updating: Updating,
    started: Result<Started, BoardError>,
    manager: Manager,
    agent: CurrentAgent,
    network: Option<watch::Receiver<Status>>,
    socket: PathBuf,
) -> Result<Infallible> {
    let socket = socket.display().to_string();
    let client = Client::new(Some(&socket))?;
    let has_its_data =
        !updating.0.appliance.as_ref().is_some_and(|appliance| appliance.data_is_temporary);
    let health = || async {
        let agent = agent.get();
        Health {
            has_its_data,
            has_network: network.as_ref().is_none_or(|it| !it.borrow().addresses.is_empty()),
            is_member: agent.is_some() && manager.leader().is_some(),
            answers: client.get::<Value>("/bramble/board", &Query::new()).await.is_ok(),
            has_its_tasks: agent.is_some_and(has_its_tasks),
        }
    };
    let patience = patience(&Places::default().command_line());
    let watched = async { updating.watch_trial(started?, patience, health).await };
    match watched.await {
        Ok(false) => {}
        Ok(true) => {
            let own = manager.node_id().to_string();
            let begun = Instant::now();
            while let Err(error) = activate_after_update(&client, &own).await {
                if begun.elapsed() >= PATIENCE {
                    warn!(%error, "this board was drained for an update and cannot take tasks yet");
                    break;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Err(error) => error!(%error, "the trial of a new system cannot be judged"),
    }
    std::future::pending().await
}

/// Whether every container whose task is to run does.
fn has_its_tasks(agent: &Agent) -> bool {
    agent.containers().iter().all(|local| {
        let is_wanted =
            local.task.as_ref().is_some_and(|task| task.desired == DesiredState::Running);
        !is_wanted || matches!(local.status.state, ContainerState::Running { .. })
    })
}

fn own_version() -> Result<Version, BoardError> {
    env!("CARGO_PKG_VERSION").parse().map_err(|error: semver::Error| failed(&error))
}

fn failed(error: &(dyn std::error::Error + 'static)) -> BoardError {
    BoardError::Failed(chain(error))
}

fn now() -> u64 {
    let now = jiff::Timestamp::now().as_millisecond();
    u64::try_from(now).unwrap_or(0)
}

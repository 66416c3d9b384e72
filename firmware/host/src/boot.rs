//! Process 1's work until the daemon can start: a list of named phases.
//!
//! Read [`run`]: it is the boot. Each phase takes what it needs, does one thing, and tells what it
//! found. Nothing here ends the boot; a board without its disk still joins its cluster.

mod cgroups;
mod configuration;
mod console;
mod mounts;
mod report;

use std::{
    io::{self, Write},
    time::Duration,
};

use bramble_cluster::chain;

pub(crate) use self::mounts::mount_one;
pub use self::report::{Phase, Report, ReportError};
use crate::{
    Places, clock, data,
    disk::Disk,
    led::{Led, Sign},
    memory,
    modules::{Coldplug, Modules},
    panics, power, profile,
    slot::Slot,
    sysctls,
    update::{self, BootVerdict, Card},
    watchdog::Watchdog,
};

/// Names of modules that every board loads first, one per line.
const BOOT_MODULES: &str = "boot.modules";
/// What makes a light blink by itself; nothing asks for it.
const BLINKER: &str = "ledtrig-timer";
/// How long the watchdog waits while booting: a repair of a big card moves on slowly.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it waits afterwards; the most that a Raspberry Pi's can do by itself.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What booting hands to the keeper.
#[derive(Debug)]
pub struct Boot {
    /// What was done and found. Already saved in [`Places::bramble_run`].
    pub report: Report,
    /// The text of the card's `bramble.toml`, if there is one.
    pub card: Option<String>,
    /// The watchdog, armed: whoever holds it must feed it at least every 15 s.
    pub watchdog: Option<Watchdog>,
}

/// What a phase has to say.
#[derive(Debug, Default)]
pub struct Findings {
    /// What was done, if that is worth saying.
    pub note: Option<String>,
    /// Sentences for the owner.
    pub problems: Vec<String>,
}

impl Findings {
    /// Says what was done; the last one said stands.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.note = Some(text.into()).filter(|text| !text.is_empty());
    }

    /// Says what is wrong, to the owner of the board.
    pub(crate) fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }
}

/// Boots this machine. Must be called by process 1, while it has one thread.
pub fn run() -> Boot {
    let places = Places::default();
    let mut boot = Booting::begin();
    boot.phase("mounts", mounts::mount_all);
    boot.phase("console", |found| console::take(&places, found));
    boot.phase("cgroups", |found| cgroups::enable_controllers(&places, found));
    let (modules, mut coldplug) = boot.phase("modules", |found| load_modules(&places, found));
    let mut watchdog = boot.phase("watchdog", |found| arm_watchdog(&places, found));
    let disk = boot.phase("disk", |found| {
        Disk::wait_for_card(&places, found, &mut || {
            feed(watchdog.as_mut());
            coldplug.load_new(&modules);
        })
    });
    let is_trial = boot.phase("slot", |found| know_slot(&places, disk.as_ref(), found));
    boot.phase("clock", |found| clock::raise_to_floor(&places, found));
    let card =
        boot.phase("configuration", |found| configuration::read(&places, disk.as_ref(), found));
    let is_temporary = boot.phase("data", |found| {
        let is_temporary =
            data::open(&places, disk.as_ref(), found, &mut || feed(watchdog.as_mut()));
        // The time of the last orderly end lies on what was just mounted.
        clock::raise_to_floor(&places, found);
        is_temporary
    });
    boot.phase("memory", |found| {
        sysctls::write_all(&places, found);
        memory::swap_to_memory(&places, &modules, found);
    });
    boot.phase("log", |found| panics::keep(&places, found));
    // What the drivers of the first round have brought up since.
    coldplug.load_new(&modules);
    if let Some(watchdog) = &mut watchdog {
        watchdog.set_timeout(TIMEOUT);
        watchdog.feed();
    }

    let mut report = boot.end();
    report.slot = Slot::running(&places);
    report.is_trial = is_trial;
    report.disk = disk.map(|disk| disk.device().to_owned());
    report.board = profile::of_this_board(&places.sources).map(|profile| profile.name.clone());
    report.data_is_temporary = is_temporary;
    if let Err(error) = report.save(&places.bramble_run()) {
        say(&format!("problem: {}", chain(&error)));
    }
    Boot { report, card, watchdog }
}

fn load_modules(places: &Places, findings: &mut Findings) -> (Modules, Coldplug) {
    let (modules, mut coldplug) = (Modules::of_this_kernel(places), Coldplug::default());
    let Ok(modules) = modules else {
        findings.problem("the image has no modules for this kernel: it will find little hardware");
        return (Modules::none(places), coldplug);
    };
    let list = std::fs::read_to_string(places.image.join(BOOT_MODULES)).unwrap_or_default();
    std::thread::scope(|scope| {
        // The kernel checks a signature for each, which takes far longer than all else about it.
        let modules = &modules;
        let load = |name| scope.spawn(move || modules.load(name));
        let names = list.lines().map(str::trim).filter(|line| !line.is_empty());
        let loading: Vec<_> = names.map(load).collect();
        coldplug.load_new(modules);
        for module in loading {
            if let Ok(Err(error)) = module.join() {
                findings.problem(chain(&error));
            }
        }
    });
    if let Err(error) = modules.serve_the_kernel() {
        findings.problem(format!("the kernel will find no module that it asks for: {error}"));
    }
    let loaded = std::fs::read_to_string(places.sources.proc.join("modules")).unwrap_or_default();
    findings.note(format!("{} loaded", loaded.lines().count()));
    show_booting(places, &modules);
    (modules, coldplug)
}

/// From here on the light can blink; a board whose light cannot is not worse for it.
fn show_booting(places: &Places, modules: &Modules) {
    if let Some(mut led) = Led::of_this_board(&places.sources) {
        let _ = modules.load(BLINKER);
        let _ = led.show(Sign::Booting);
    }
}

fn arm_watchdog(places: &Places, findings: &mut Findings) -> Option<Watchdog> {
    if places.command_line().iter().any(|word| word == "bramble.watchdog=off") {
        findings.note("off by the command line");
        return None;
    }
    match Watchdog::open(&places.dev, BOOT_TIMEOUT) {
        Ok(watchdog) => {
            findings.note(watchdog.identity().to_owned());
            Some(watchdog)
        }
        Err(error) => {
            // Emulated boards have none, and somebody who reads this cannot plug one in.
            findings.note(chain(&error));
            None
        }
    }
}

/// Whether this system is on trial. One that had its trial already is left at once: the old slot
/// boots by default again.
fn know_slot(places: &Places, disk: Option<&Disk>, findings: &mut Findings) -> bool {
    let (Some(slot), Some(disk)) = (Slot::running(places), disk) else { return false };
    let mut card = match Card::open(disk.device()) {
        Ok(card) => card,
        Err(error) => {
            findings.problem(format!("updates are not possible: {}", chain(&error)));
            return false;
        }
    };
    let verdict = update::at_boot(&mut card, slot);
    let is_default = card.default_slot().is_ok_and(|default| default == slot);
    match verdict {
        BootVerdict::GiveUp => {
            say("this system had its trial, the other one starts");
            power::reboot();
        }
        BootVerdict::FellBack => findings.note(format!("{slot}, back from a trial")),
        BootVerdict::Unknown(why) => findings.problem(format!("updates are not possible: {why}")),
        BootVerdict::Trial | BootVerdict::Settled if is_default => findings.note(slot.to_string()),
        BootVerdict::Trial | BootVerdict::Settled => findings.note(format!("{slot}, on trial")),
    }
    !is_default
}

fn feed(watchdog: Option<&mut Watchdog>) {
    if let Some(watchdog) = watchdog {
        watchdog.feed();
    }
}

/// A boot under way.
struct Booting {
    report: Report,
    began: Duration,
}

impl Booting {
    fn begin() -> Self {
        let began = clock::since_power_on();
        let report = Report { kernel_ms: milliseconds(began), ..Report::default() };
        Self { report, began }
    }

    /// Does one part of the boot and tells of it on the console.
    fn phase<T>(&mut self, name: &str, work: impl FnOnce(&mut Findings) -> T) -> T {
        let started = clock::since_power_on();
        let mut findings = Findings::default();
        let result = work(&mut findings);
        let took_ms = milliseconds(clock::since_power_on().saturating_sub(started));
        let Findings { note, problems } = findings;
        match &note {
            Some(note) => say(&format!("{name} {took_ms} ms ({note})")),
            None => say(&format!("{name} {took_ms} ms")),
        }
        for problem in &problems {
            say(&format!("problem: {problem}"));
        }
        self.report.problems.extend(problems);
        self.report.phases.push(Phase {
            name: name.to_owned(),
            started_ms: milliseconds(started.saturating_sub(self.began)),
            took_ms,
            note,
        });
        result
    }

    fn end(self) -> Report {
        let took = milliseconds(clock::since_power_on().saturating_sub(self.began));
        let kernel = self.report.kernel_ms;
        say(&format!("process 1 started after {kernel} ms, booted after {took} ms"));
        self.report
    }
}

/// A line on the console. One that cannot be written is lost: there is nobody to tell.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "bramble: {line}");
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_reported_with_what_it_found() {
        let mut boot = Booting::begin();
        let answer = boot.phase("disk", |found| {
            found.note("/dev/vda");
            found.problem("two cards");
            7
        });
        boot.phase("clock", |found| found.note(""));
        let report = boot.end();
        assert_eq!(answer, 7);
        assert_eq!(report.problems, ["two cards"]);
        let phases: Vec<_> = report
            .phases
            .iter()
            .map(|phase| (phase.name.as_str(), phase.note.as_deref()))
            .collect();
        assert_eq!(phases, [("disk", Some("/dev/vda")), ("clock", None)]);
    }
}

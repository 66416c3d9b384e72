//! What a board's sensors say just now.

use std::{fs, path::PathBuf};

use bramble_cluster::Vitals;

use crate::{
    Places,
    board::{Sources, kibibytes, uptime},
    mailbox::Mailbox,
};

/// Reads the sensors; processor load is what happened since the reading before.
#[derive(Debug)]
pub struct Sensors {
    sources: Sources,
    /// The folder whose file system is looked at.
    data: PathBuf,
    /// The thermal zone that is the processor's, found once.
    thermometer: Option<PathBuf>,
    /// Whom to ask where there is no thermal zone: some kernels have none for a Raspberry Pi.
    firmware: Option<Mailbox>,
    processor: Option<ProcessorTime>,
}

/// Time that all cores together spent since boot, in kernel ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProcessorTime {
    busy: u64,
    total: u64,
}

impl Sensors {
    /// Sensors of the machine at `sources`, and of the file system that holds `data`.
    pub fn new(sources: Sources, data: PathBuf) -> Self {
        let thermometer = find_thermometer(&sources);
        let processor = read_processor(&sources);
        let firmware = if thermometer.is_some() {
            None
        } else {
            let places = Places { sources: sources.clone(), ..Places::default() };
            Mailbox::open(&places).ok()
        };
        Self { sources, data, thermometer, firmware, processor }
    }

    /// A reading. What a sensor does not tell stays zero or `None`.
    pub fn read(&mut self) -> Vitals {
        let before = self.processor;
        self.processor = read_processor(&self.sources);
        let cpu_permille = match (before, self.processor) {
            (Some(before), Some(now)) => load_permille(before, now),
            _ => 0,
        };
        let meminfo = fs::read_to_string(self.sources.proc.join("meminfo")).unwrap_or_default();
        let memory_total_bytes = kibibytes(&meminfo, "MemTotal:").unwrap_or(0);
        let memory_free_bytes = kibibytes(&meminfo, "MemAvailable:").unwrap_or(memory_total_bytes);
        let (disk_used_bytes, disk_total_bytes) = self.disk();
        Vitals {
            cpu_permille,
            memory_used_bytes: memory_total_bytes.saturating_sub(memory_free_bytes),
            memory_total_bytes,
            temperature_millicelsius: self.temperature(),
            disk_used_bytes,
            disk_total_bytes,
            uptime: uptime(&self.sources).unwrap_or_default(),
        }
    }

    fn temperature(&mut self) -> Option<i32> {
        match &self.thermometer {
            Some(path) => fs::read_to_string(path).ok()?.trim().parse().ok(),
            None => self.firmware.as_mut()?.temperature().ok(),
        }
    }

    fn disk(&self) -> (u64, u64) {
        let Ok(space) = rustix::fs::statvfs(&self.data) else { return (0, 0) };
        let total = space.f_blocks.saturating_mul(space.f_frsize);
        let free = space.f_bfree.saturating_mul(space.f_frsize);
        (total.saturating_sub(free), total)
    }
}

/// The thermal zone that measures the processor, or else the first there is.
fn find_thermometer(sources: &Sources) -> Option<PathBuf> {
    let folder = fs::read_dir(sources.sys.join("class/thermal")).ok()?;
    let mut zones: Vec<PathBuf> = folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("temp").exists())
        .collect();
    zones.sort();
    let is_processor = |zone: &&PathBuf| {
        let kind = fs::read_to_string(zone.join("type")).unwrap_or_default();
        kind.contains("cpu") || kind.contains("x86_pkg")
    };
    let zone = zones.iter().find(is_processor).or_else(|| zones.first())?;
    Some(zone.join("temp"))
}

fn read_processor(sources: &Sources) -> Option<ProcessorTime> {
    parse_processor(&fs::read_to_string(sources.proc.join("stat")).ok()?)
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what
/// follows is counted in user already (proc_stat(5)).
fn parse_processor(stat: &str) -> Option<ProcessorTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> =
        line.split_ascii_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let total = times.iter().sum();
    let idle = times.get(3)? + times.get(4).unwrap_or(&0);
    Some(ProcessorTime { busy: total - idle, total })
}

fn load_permille(before: ProcessorTime, now: ProcessorTime) -> u32 {
    let total = now.total.saturating_sub(before.total);
    let busy = now.busy.saturating_sub(before.busy).min(total);
    let permille = busy.saturating_mul(1000).checked_div(total).unwrap_or(0);
    u32::try_from(permille).unwrap_or(1000)
}

#[cfg(test)]
mod tests;

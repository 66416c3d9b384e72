//! Drivers for the devices that are there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::Modules;

/// Rounds of looking: each may load a bus, and the next finds what is on it.
const ROUNDS_MAX: usize = 8;
/// Different devices that are remembered, at most.
const KNOWN_MAX: usize = 4096;
/// A device's name for itself is a line.
const LINE_MAX: usize = 4096;

/// Finds devices and loads their drivers; each kind of device once.
#[derive(Debug, Default)]
pub struct Coldplug {
    known: BTreeSet<String>,
}

impl Coldplug {
    /// Loads the drivers of the devices that are new since the last look. Says how many modules
    /// that were. A module that does not load costs its device alone.
    pub fn load_new(&mut self, modules: &Modules) -> usize {
        let mut loaded = 0;
        for _ in 0..ROUNDS_MAX {
            let before = loaded;
            for modalias in self.new_devices(&modules.places.sources.sys) {
                loaded += modules.load_for(&modalias).unwrap_or(0);
            }
            if loaded == before {
                break;
            }
        }
        loaded
    }

    fn new_devices(&mut self, sys: &Path) -> Vec<String> {
        let mut new = Vec::new();
        for device in devices(sys) {
            let Ok(text) = fs::read_to_string(device.join("modalias")) else { continue };
            let modalias = text.trim();
            let is_plausible = !modalias.is_empty() && modalias.len() <= LINE_MAX;
            if is_plausible && self.known.len() < KNOWN_MAX && !self.known.contains(modalias) {
                self.known.insert(modalias.to_owned());
                new.push(modalias.to_owned());
            }
        }
        new
    }
}

/// Every device of every bus.
fn devices(sys: &Path) -> Vec<PathBuf> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    entries(sys.join("bus"))
        .flat_map(|bus| entries(bus.path().join("devices")))
        .map(|device| device.path())
        .collect()
}

//! Kernel modules: by name, by what the hardware calls itself, and when the kernel asks.
//!
//! A board has no `modprobe` or `udev`. Modules stay compressed; the kernel unpacks what it is
//! given. What is there already, inside the kernel or loaded before, is no work and no error.

mod alias;
mod coldplug;
mod hotplug;
mod index;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
};

use self::index::Index;
pub use self::{
    coldplug::Coldplug,
    hotplug::{HotplugError, watch},
};
use crate::Places;

/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h, which nix has no name for.
const COMPRESSED: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);
/// The program that the kernel runs when it wants a module: a link to this binary.
const MODPROBE: &str = "/sbin/modprobe";
/// Files of the index are read up to here; Debian's whole one has 2 MiB.
const INDEX_BYTES_MAX: u64 = 16 << 20;

/// The modules of one kernel release.
#[derive(Debug)]
pub struct Modules {
    places: Places,
    folder: PathBuf,
    index: Index,
}

/// A module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There are no modules for the kernel that runs.
    #[error("the folder {} has no modules.dep", folder.display())]
    Index {
        /// Where they were looked for.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing goes by this name.
    #[error("no kernel module goes by the name {name}")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file could not be read, or the kernel would not have it.
    #[error("kernel module {name} was not loaded")]
    Refused {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Modules {
    /// The modules of the kernel that runs.
    pub fn of_this_kernel(places: &Places) -> Result<Self, LoadError> {
        let release = fs::read_to_string(places.sources.proc.join("sys/kernel/osrelease"));
        let release = release.unwrap_or_default();
        Self::of_folder(places, places.modules.join(release.trim()))
    }

    /// No modules: what is in the kernel must do.
    pub fn none(places: &Places) -> Self {
        let index = Index::default();
        Self { places: places.clone(), folder: places.modules.clone(), index }
    }

    fn of_folder(places: &Places, folder: PathBuf) -> Result<Self, LoadError> {
        let dependencies = read(&folder.join("modules.dep"))
            .map_err(|source| LoadError::Index { folder: folder.clone(), source })?;
        let text = |name: &str| read(&folder.join(name)).unwrap_or_default();
        let index = Index::parse(
            &dependencies,
            &text("modules.alias"),
            &text("modules.softdep"),
            &text("modules.builtin"),
        );
        Ok(Self { places: places.clone(), folder, index })
    }

    /// Loads what goes by a name or an alias, with everything it needs. Says how many modules that
    /// were.
    pub fn load(&self, name: &str) -> Result<usize, LoadError> {
        let names = self.index.named(name);
        if names.is_empty() {
            if self.index.is_builtin(name) || self.is_loaded(name) {
                return Ok(0);
            }
            return Err(LoadError::Unknown { name: name.to_owned() });
        }
        let mut loaded = 0;
        for name in names {
            loaded += self.load_with_needs(&name)?;
        }
        Ok(loaded)
    }

    /// Loads what drives a device that calls itself so; nothing, if nothing does.
    fn load_for(&self, modalias: &str) -> Result<usize, LoadError> {
        let mut loaded = 0;
        for name in self.index.matching(modalias) {
            loaded += self.load_with_needs(&name)?;
        }
        Ok(loaded)
    }

    /// From now on the kernel's own requests come to [`modprobe_main`].
    pub fn serve_the_kernel(&self) -> io::Result<()> {
        fs::write(self.places.sources.proc.join("sys/kernel/modprobe"), MODPROBE)
    }

    fn load_with_needs(&self, name: &str) -> Result<usize, LoadError> {
        let mut loaded = 0;
        for step in self.index.order(name) {
            if self.is_loaded(&step.name) {
                continue;
            }
            match insert(&self.folder.join(&step.path)) {
                Ok(()) => loaded += 1,
                // A soft dependency is a wish.
                Err(_) if step.is_soft => {}
                Err(source) => return Err(LoadError::Refused { name: step.name, source }),
            }
        }
        Ok(loaded)
    }

    /// Whether a module is ready. One that is being loaded is not: the kernel makes whoever loads
    /// it again wait until it is.
    fn is_loaded(&self, name: &str) -> bool {
        let folder = self.places.sources.sys.join("module").join(index::canonical(name));
        match fs::read_to_string(folder.join("initstate")) {
            Ok(state) => state.trim() == "live",
            // Modules inside the kernel have a folder, if they have parameters, and no state.
            Err(_) => folder.exists(),
        }
    }
}

/// The program `modprobe` as the kernel calls it: `modprobe -q -- NAME`. `args` are what follows
/// the program's name.
pub fn modprobe_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let names: Vec<String> = args
        .into_iter()
        .filter_map(|arg| arg.into_string().ok())
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let Ok(modules) = Modules::of_this_kernel(&Places::default()) else {
        return ExitCode::FAILURE;
    };
    let mut seen = BTreeSet::new();
    let is_done = names.iter().filter(|name| seen.insert(*name)).all(|name| {
        // The kernel asks for much that it can do without, and tells nobody of what it lacks.
        modules.load(name).is_ok()
    });
    if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn insert(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let is_compressed = path.extension().is_some_and(|extension| extension != "ko");
    let flags = if is_compressed { COMPRESSED } else { ModuleInitFlags::empty() };
    match finit_module(&file, c"", flags) {
        // Somebody else was quicker; the kernel has waited until it is ready.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > INDEX_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests;

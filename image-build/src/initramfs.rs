//! The first and only root file system of a board: the firmware as `/init`, the kernel modules it
//! may need, firmware for radios, and what repairs and replaces the data partition.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, Result};

use crate::{
    cpio::Archive,
    deb::Tree,
    hardware::{Board, Feature},
    modules::Modules,
};

/// What is put into it.
#[derive(Debug)]
pub(crate) struct Ingredients<'a> {
    pub(crate) packages: &'a Tree,
    pub(crate) modules: &'a Modules<'a>,
    pub(crate) boards: Vec<&'a Board>,
    pub(crate) features: Vec<&'a Feature>,
    pub(crate) binary: &'a [u8],
    pub(crate) version: &'a str,
    /// An empty data partition, compressed.
    pub(crate) data: &'a [u8],
    /// Public keys that updates are accepted from, by file name.
    pub(crate) trust: &'a [(String, Vec<u8>)],
    /// Packages whose files are in it.
    pub(crate) licences: &'a [String],
}

/// How much of it is what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Weights {
    pub(crate) modules: usize,
    pub(crate) module_bytes: usize,
    pub(crate) firmware_bytes: usize,
}

/// Makes the archive.
pub(crate) fn build(from: &Ingredients<'_>) -> Result<(Vec<u8>, Weights)> {
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "run", "tmp", "card", "data", "root"] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.file("init", 0o755, from.binary);
    archive.link("sbin/modprobe", "/init");
    archive.link("bin/bramble", "/init");
    archive.file("sbin/e2fsck", 0o755, from.packages.expect("usr/sbin/e2fsck.static")?);
    archive.file("etc/bramble/data.ext4.gz", 0o644, from.data);
    archive.file("etc/bramble/version", 0o644, format!("{}\n", from.version));
    for (name, key) in from.trust {
        archive.file(&format!("etc/bramble/trust/{name}"), 0o644, key.as_slice());
    }
    let mut weights = Weights::default();
    add_modules(&mut archive, from, &mut weights)?;
    add_firmware(&mut archive, from, &mut weights)?;
    for package in from.licences {
        let text = from.packages.expect(&format!("usr/share/doc/{package}/copyright"))?;
        archive.file(&format!("usr/share/licenses/{package}/copyright"), 0o644, text);
    }
    let own = crate::root().join("LICENSE");
    archive.file("usr/share/licenses/bramble/copyright", 0o644, read(own)?);
    Ok((archive.bytes()?, weights))
}

fn add_modules(archive: &mut Archive, from: &Ingredients<'_>, weights: &mut Weights) -> Result<()> {
    let boot: Vec<&str> =
        from.features.iter().flat_map(|feature| &feature.boot).map(String::as_str).collect();
    let of_features = from.features.iter().flat_map(|feature| &feature.modules);
    let of_boards = from.boards.iter().flat_map(|board| &board.modules);
    let others = of_features.chain(of_boards).map(String::as_str);
    let selection = from.modules.select(boot.iter().copied().chain(others))?;

    let folder = format!("lib/modules/{}", from.modules.release);
    for path in selection.paths() {
        let module = from.modules.kernel_file(path)?;
        weights.modules += 1;
        weights.module_bytes += module.len();
        archive.file(&format!("{folder}/{path}"), 0o644, module);
    }
    archive.file(&format!("{folder}/modules.dep"), 0o644, selection.dependencies());
    archive.file(&format!("{folder}/modules.alias"), 0o644, selection.aliases());
    archive.file(&format!("{folder}/modules.softdep"), 0o644, selection.softdeps());
    let builtin = from.modules.kernel_file("modules.builtin")?;
    archive.file(&format!("{folder}/modules.builtin"), 0o644, builtin);
    archive.file("etc/bramble/boot.modules", 0o644, boot.join("\n") + "\n");
    Ok(())
}

fn add_firmware(
    archive: &mut Archive,
    from: &Ingredients<'_>,
    weights: &mut Weights,
) -> Result<()> {
    let names: BTreeSet<&String> = from.boards.iter().flat_map(|board| &board.firmware).collect();
    for name in names {
        // Debian's own regulatory database is signed by a key that only its kernel's builder has
        // turned on; the one signed upstream is known to every kernel.
        let in_package = match name.as_str() {
            "regulatory.db" | "regulatory.db.p7s" => format!("{name}-upstream"),
            name => name.to_owned(),
        };
        let content = from.packages.expect(&format!("usr/lib/firmware/{in_package}"))?;
        weights.firmware_bytes += content.len();
        archive.file(&format!("lib/firmware/{name}"), 0o644, content);
    }
    Ok(())
}

fn read(path: PathBuf) -> Result<Vec<u8>> {
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

//! Kernel modules: which of them are needed, and the indexes by which they are found on the board.
//!
//! A module says itself what it needs: its section `.modinfo` holds `depends=`, `softdep=` and
//! `alias=`. The indexes are those that `depmod` would write for the modules that were chosen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    io::Read,
};

use anyhow::{Context, Result, bail};

use crate::deb::Tree;

mod modinfo;

/// The modules of one kernel.
#[derive(Debug)]
pub(crate) struct Modules<'a> {
    tree: &'a Tree,
    /// As `uname -r` prints it.
    pub(crate) release: String,
    /// Paths below the release's folder, by name.
    paths: BTreeMap<String, String>,
    builtin: BTreeSet<String>,
}

/// Modules that were chosen, with all that they need.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    chosen: BTreeMap<String, Module>,
}

#[derive(Debug)]
struct Module {
    path: String,
    needs: Vec<String>,
    softdeps: Vec<String>,
    aliases: Vec<String>,
}

impl<'a> Modules<'a> {
    /// Those of the one kernel in `tree`.
    pub(crate) fn new(tree: &'a Tree) -> Result<Self> {
        let release = tree
            .below("usr/lib/modules/")
            .find_map(|path| path.strip_prefix("usr/lib/modules/")?.split('/').next())
            .context("the locked packages have no kernel")?
            .to_owned();
        let folder = format!("usr/lib/modules/{release}/");
        let paths = tree
            .below(&folder)
            .filter_map(|path| {
                let path = path.strip_prefix(&folder)?;
                let name = path.rsplit('/').next()?.strip_suffix(".ko.xz")?;
                Some((plain(name), path.to_owned()))
            })
            .collect();
        let builtin = String::from_utf8_lossy(tree.expect(&format!("{folder}modules.builtin"))?)
            .lines()
            .filter_map(|path| Some(plain(path.rsplit('/').next()?.strip_suffix(".ko")?)))
            .collect();
        Ok(Self { tree, release, paths, builtin })
    }

    /// A file of the kernel, as `vmlinuz`.
    pub(crate) fn kernel_file(&self, path: &str) -> Result<&'a [u8]> {
        self.tree.expect(&format!("usr/lib/modules/{}/{path}", self.release))
    }

    /// Chooses `names` and what they need. A name that is neither module nor built in is a mistake.
    pub(crate) fn select<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<Selection> {
        let mut selection = Selection::default();
        let mut open: Vec<String> = Vec::new();
        for name in names {
            let name = plain(name);
            if self.paths.contains_key(&name) {
                open.push(name);
            } else if !self.builtin.contains(&name) {
                bail!("kernel {} has no module {name}", self.release);
            }
        }
        while let Some(name) = open.pop() {
            if selection.chosen.contains_key(&name) {
                continue;
            }
            let Some(module) = self.read(&name)? else { continue };
            open.extend(module.needs.iter().cloned());
            open.extend(module.soft_names().map(plain));
            selection.chosen.insert(name, module);
        }
        Ok(selection)
    }

    /// Reads what a module says of itself; `None` if it is no module.
    fn read(&self, name: &str) -> Result<Option<Module>> {
        let Some(path) = self.paths.get(name) else { return Ok(None) };
        let mut elf = Vec::new();
        liblzma::read::XzDecoder::new(self.kernel_file(path)?)
            .read_to_end(&mut elf)
            .with_context(|| format!("cannot decompress {path}"))?;
        let mut module = Module {
            path: path.clone(),
            needs: Vec::new(),
            softdeps: Vec::new(),
            aliases: Vec::new(),
        };
        for (key, value) in modinfo::fields(&elf).with_context(|| format!("cannot read {path}"))? {
            match key.as_str() {
                "depends" => {
                    let names = value.split(',').filter(|name| !name.is_empty());
                    module
                        .needs
                        .extend(names.map(plain).filter(|name| !self.builtin.contains(name)));
                }
                "softdep" => module.softdeps.push(value),
                "alias" => module.aliases.push(value),
                _ => {}
            }
        }
        for need in &module.needs {
            if !self.paths.contains_key(need) {
                bail!("{path} needs {need}, which kernel {} has not", self.release);
            }
        }
        Ok(Some(module))
    }
}

impl Module {
    /// The names in its soft dependencies; `pre:` and `post:` say when they are loaded.
    fn soft_names(&self) -> impl Iterator<Item = &str> {
        self.softdeps.iter().flat_map(|line| line.split_whitespace()).filter(|s| !s.ends_with(':'))
    }
}

impl Selection {
    /// Paths of the modules, below the release's folder.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.chosen.values().map(|module| module.path.as_str())
    }

    /// `modules.dep`: what each needs, what is loaded first last.
    pub(crate) fn dependencies(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.chosen {
            let mut order = Vec::new();
            self.visit(name, &mut order);
            order.pop();
            order.reverse();
            let _ = write!(text, "{}:", module.path);
            for path in order {
                let _ = write!(text, " {path}");
            }
            text.push('\n');
        }
        text
    }

    /// Appends to `order` what `name` needs, then itself.
    fn visit<'a>(&'a self, name: &str, order: &mut Vec<&'a str>) {
        let Some(module) = self.chosen.get(name) else { return };
        if order.contains(&module.path.as_str()) {
            return;
        }
        for need in &module.needs {
            self.visit(need, order);
        }
        order.push(&module.path);
    }

    /// `modules.alias`: patterns of devices and requests, and who answers them.
    pub(crate) fn aliases(&self) -> String {
        self.lines("alias", |module| &module.aliases, |name, alias| format!("{alias} {name}"))
    }

    /// `modules.softdep`: what is loaded with a module if it can be.
    pub(crate) fn softdeps(&self) -> String {
        self.lines("softdep", |module| &module.softdeps, |name, soft| format!("{name} {soft}"))
    }

    fn lines(
        &self,
        word: &str,
        of: impl Fn(&Module) -> &Vec<String>,
        rest: impl Fn(&str, &str) -> String,
    ) -> String {
        let mut text = String::new();
        for (name, module) in &self.chosen {
            for value in of(module) {
                let _ = writeln!(text, "{word} {}", rest(name, value));
            }
        }
        text
    }
}

/// A module's name as the kernel has it: files may have `-` for `_`.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection() -> Selection {
        let module = |path: &str, needs: &[&str], softdeps: &[&str]| Module {
            path: path.to_owned(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            softdeps: softdeps.iter().map(|soft| (*soft).to_owned()).collect(),
            aliases: vec![format!("of:N*T*C{path}")],
        };
        let chosen = [
            ("a", module("kernel/a.ko.xz", &["b", "c"], &["pre: d post: e"])),
            ("b", module("kernel/b.ko.xz", &["c"], &[])),
            ("c", module("kernel/c.ko.xz", &[], &[])),
        ];
        Selection { chosen: chosen.map(|(name, module)| (name.to_owned(), module)).into() }
    }

    #[test]
    fn what_is_needed_first_stands_last() {
        assert_eq!(
            selection().dependencies(),
            "kernel/a.ko.xz: kernel/b.ko.xz kernel/c.ko.xz\n\
             kernel/b.ko.xz: kernel/c.ko.xz\n\
             kernel/c.ko.xz:\n"
        );
    }

    #[test]
    fn indexes_are_as_depmod_writes_them() {
        assert!(selection().aliases().starts_with("alias of:N*T*Ckernel/a.ko.xz a\n"));
        assert_eq!(selection().softdeps(), "softdep a pre: d post: e\n");
        let names = selection();
        assert_eq!(names.chosen["a"].soft_names().collect::<Vec<_>>(), ["d", "e"]);
    }
}

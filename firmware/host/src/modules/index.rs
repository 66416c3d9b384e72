//! What `depmod` wrote about the modules: which there are, what they need, what they drive.

use std::collections::{BTreeMap, BTreeSet};

use super::alias::Aliases;

/// Modules that are loaded for one, at most; a chain of dependencies has some ten.
const ORDER_MAX: usize = 256;

/// The index of one kernel release's modules. Names are canonical, see [`canonical`].
#[derive(Debug, Default)]
pub(super) struct Index {
    modules: BTreeMap<String, Module>,
    aliases: Aliases,
    builtin: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Module {
    path: String,
    /// As in `modules.dep`: what is needed most deeply comes last.
    needs: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

/// A module to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    /// Its file, in the release's folder.
    pub(super) path: String,
    /// Whether what comes after it can do without it.
    pub(super) is_soft: bool,
}

impl Index {
    /// Reads `modules.dep`, `modules.alias`, `modules.softdep` and `modules.builtin`.
    pub(super) fn parse(dependencies: &str, aliases: &str, soft: &str, builtin: &str) -> Self {
        let mut modules = BTreeMap::new();
        for line in dependencies.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_ascii_whitespace().map(name_of).collect();
            let module = Module { path: path.to_owned(), needs, ..Module::default() };
            modules.insert(name_of(path), module);
        }
        for line in soft.lines() {
            add_soft(&mut modules, line);
        }
        let builtin = builtin.lines().map(name_of).collect();
        Self { modules, aliases: Aliases::parse(aliases), builtin }
    }

    /// The modules that go by a name: the one that has it, or else those that have it as an alias.
    pub(super) fn named(&self, name: &str) -> Vec<String> {
        let canonical = canonical(name);
        if self.modules.contains_key(&canonical) {
            return vec![canonical];
        }
        self.matching(name)
    }

    /// The modules with an alias that matches.
    pub(super) fn matching(&self, modalias: &str) -> Vec<String> {
        let mut names = self.aliases.matching(modalias);
        names.retain(|name| self.modules.contains_key(name));
        names
    }

    /// Whether a name is a module's that is part of the kernel.
    pub(super) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&canonical(name))
    }

    /// What to load for a module, in order, itself included.
    pub(super) fn order(&self, name: &str) -> Vec<Step> {
        let mut order = Order { index: self, steps: Vec::new(), seen: BTreeSet::new() };
        order.add(name, false);
        order.steps
    }
}

struct Order<'a> {
    index: &'a Index,
    steps: Vec<Step>,
    seen: BTreeSet<String>,
}

impl Order<'_> {
    fn add(&mut self, name: &str, is_soft: bool) {
        // What is in the kernel is not in the index of modules, and is needed no more.
        let Some(module) = self.index.modules.get(name) else { return };
        if self.seen.len() >= ORDER_MAX || !self.seen.insert(name.to_owned()) {
            return;
        }
        for wish in module.before.iter().flat_map(|wish| self.index.named(wish)) {
            self.add(&wish, true);
        }
        for need in module.needs.iter().rev() {
            self.add(need, is_soft);
        }
        let path = module.path.clone();
        self.steps.push(Step { name: name.to_owned(), path, is_soft });
        for wish in module.after.iter().flat_map(|wish| self.index.named(wish)) {
            self.add(&wish, true);
        }
    }
}

/// `softdep NAME pre: A B post: C`
fn add_soft(modules: &mut BTreeMap<String, Module>, line: &str) {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("softdep") {
        return;
    }
    let Some(module) = words.next().and_then(|name| modules.get_mut(&canonical(name))) else {
        return;
    };
    let mut is_before = true;
    for word in words {
        match word {
            "pre:" => is_before = true,
            "post:" => is_before = false,
            wish if is_before => module.before.push(wish.to_owned()),
            wish => module.after.push(wish.to_owned()),
        }
    }
}

/// The module's name of a file: `kernel/fs/nls/nls_cp437.ko.xz` is `nls_cp437`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    canonical(file.split(".ko").next().unwrap_or(file))
}

/// A module's name as the kernel has it: files and people write `-` where it has `_`.
pub(super) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

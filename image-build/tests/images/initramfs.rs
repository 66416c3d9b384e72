//! Reads an initramfs as the kernel and the firmware do.

use std::collections::{BTreeMap, BTreeSet};

/// What an initramfs holds, by path.
pub(crate) struct Initramfs(BTreeMap<String, Vec<u8>>);

/// A module as `modules.dep` lists it.
pub(crate) struct Module {
    pub(crate) path: String,
    pub(crate) needs: Vec<String>,
}

impl Initramfs {
    /// Reads an archive of the kind `newc`.
    pub(crate) fn read(archive: &[u8]) -> Self {
        let mut files = BTreeMap::new();
        let mut at = 0;
        loop {
            let header = &archive[at..at + 110];
            assert_eq!(header[..6], *b"070701");
            let field = |number: usize| {
                let digits = str::from_utf8(&header[6 + number * 8..][..8]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (size, name_size) = (field(6), field(11));
            let name = String::from_utf8(archive[at + 110..][..name_size - 1].to_vec()).unwrap();
            let content = (at + 110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return Self(files);
            }
            let folder = name.rsplit_once('/').map(|(folder, _)| folder.to_owned());
            assert!(folder.is_none_or(|folder| files.contains_key(&folder)), "{name}");
            files.insert(name, archive[content..content + size].to_vec());
            at = (content + size).next_multiple_of(4);
        }
    }

    /// The content of a file that must be there.
    pub(crate) fn file(&self, path: &str) -> &[u8] {
        self.0.get(path).unwrap_or_else(|| panic!("no /{path}"))
    }

    /// The modules that its index names, by name; each file is there.
    pub(crate) fn modules(&self) -> BTreeMap<String, Module> {
        let folder = self.folder();
        let index = self.text("modules.dep");
        let modules = index.lines().map(|line| {
            let (path, needs) = line.split_once(':').unwrap();
            self.file(&format!("{folder}/{path}"));
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            (name(path), Module { path: path.to_owned(), needs })
        });
        modules.collect()
    }

    /// Names of what is built into the kernel.
    pub(crate) fn builtin(&self) -> BTreeSet<String> {
        self.text("modules.builtin").lines().map(name).collect()
    }

    fn text(&self, index: &str) -> String {
        String::from_utf8(self.file(&format!("{}/{index}", self.folder())).to_vec()).unwrap()
    }

    /// The one folder below `lib/modules`.
    fn folder(&self) -> String {
        let is_release = |path: &&String| {
            path.strip_prefix("lib/modules/").is_some_and(|release| !release.contains('/'))
        };
        self.0.keys().find(is_release).unwrap().clone()
    }
}

/// A module's name, from its path.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap();
    file.split(".ko").next().unwrap().replace('-', "_")
}

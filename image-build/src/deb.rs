//! What is inside a Debian package: an `ar` archive whose member `data.tar.*` holds the files.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
    path::Path,
};

use anyhow::{Context, Result, bail};

/// How many links may lead to a file.
const LINKS_MAX: usize = 8;

/// The files of some packages, by their path from the root without a leading slash.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    File(Vec<u8>),
    Link(String),
}

impl Tree {
    /// Adds the files of the package at `path`.
    pub(crate) fn unpack(&mut self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (name, data) = data_member(&bytes)
            .with_context(|| format!("{} is not a Debian package", path.display()))?;
        let data: Box<dyn Read + '_> = match name.rsplit('.').next() {
            Some("xz") => Box::new(liblzma::read::XzDecoder::new(Cursor::new(data))),
            Some("zst") => Box::new(zstd::Decoder::with_buffer(Cursor::new(data))?),
            Some("gz") => Box::new(flate2::read::GzDecoder::new(Cursor::new(data))),
            Some("tar") => Box::new(Cursor::new(data)),
            _ => bail!("{}: {name} is compressed in an unknown way", path.display()),
        };
        self.add_tar(data).with_context(|| format!("cannot unpack {}", path.display()))
    }

    fn add_tar(&mut self, data: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(data);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = plain(&entry.path()?.to_string_lossy());
            let target = entry.link_name()?.map(|target| target.to_string_lossy().into_owned());
            let kind = entry.header().entry_type();
            let content = match target {
                Some(target) if kind.is_symlink() => Entry::Link(beside(&path, &target)),
                Some(target) if kind.is_hard_link() => Entry::Link(plain(&target)),
                _ if kind.is_file() => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes)?;
                    Entry::File(bytes)
                }
                _ => continue,
            };
            self.entries.insert(path, content);
        }
        Ok(())
    }

    /// The content of the file at `path`, through links.
    pub(crate) fn file(&self, path: &str) -> Option<&[u8]> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            if let Some(Entry::File(bytes)) = self.entries.get(&path) {
                return Some(bytes);
            }
            path = self.follow(&path)?;
        }
        None
    }

    /// Where the first link in `path` leads: a folder may be one, too.
    fn follow(&self, path: &str) -> Option<String> {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        ends.into_iter().find_map(|end| match self.entries.get(&path[..end])? {
            Entry::Link(target) => Some(format!("{target}{}", &path[end..])),
            Entry::File(_) => None,
        })
    }

    /// As [`Tree::file`]; says what is missing.
    pub(crate) fn expect(&self, path: &str) -> Result<&[u8]> {
        self.file(path).with_context(|| format!("no locked package has /{path}"))
    }

    /// Paths of all files below `folder`, which ends with a slash.
    pub(crate) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.entries.range(folder.to_owned()..).map(|(path, _)| path.as_str());
        all.take_while(move |path| path.starts_with(folder))
    }
}

/// The name and content of the member `data.tar.*`.
fn data_member(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let mut rest = bytes.strip_prefix(b"!<arch>\n").context("no `ar` archive")?;
    while let Some((header, after)) = rest.split_at_checked(60) {
        let name = str::from_utf8(&header[..16])?.trim_end().trim_end_matches('/');
        let size: usize = str::from_utf8(&header[48..58])?.trim_end().parse()?;
        let (content, after) = after.split_at_checked(size).context("it is cut short")?;
        if name.starts_with("data.tar") {
            return Ok((name, content));
        }
        rest = after.get(size % 2..).unwrap_or_default();
    }
    bail!("it has no data.tar")
}

/// A path as archives write it, without the `./` or `/` before it.
fn plain(path: &str) -> String {
    path.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/').to_owned()
}

/// Where a link at `path` to `target` leads.
fn beside(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return plain(target);
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len())
                .into_bytes();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        bytes
    }

    #[test]
    fn a_package_is_read_through_its_links() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        tar.append_data(&mut header, "./usr/lib/cypress/radio.bin", &b"hello"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "./usr/lib/brcm/radio.bin", "../cypress/radio.bin").unwrap();
        let mut folder = tar::Header::new_gnu();
        folder.set_entry_type(tar::EntryType::Symlink);
        folder.set_size(0);
        tar.append_link(&mut folder, "./usr/lib/radios", "brcm").unwrap();
        let tar = zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap();
        let mut deb = b"!<arch>\n".to_vec();
        deb.extend(member("debian-binary", b"2.0\n"));
        deb.extend(member("control.tar.xz", b"odd"));
        deb.extend(member("data.tar.zst", &tar));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), deb).unwrap();

        let mut tree = Tree::default();
        tree.unpack(file.path()).unwrap();
        assert_eq!(tree.file("usr/lib/brcm/radio.bin").unwrap(), b"hello");
        assert_eq!(tree.below("usr/lib/brcm/").collect::<Vec<_>>(), ["usr/lib/brcm/radio.bin"]);
        assert_eq!(tree.file("usr/lib/radios/radio.bin").unwrap(), b"hello");
        let error = tree.expect("usr/lib/none").unwrap_err();
        assert_eq!(error.to_string(), "no locked package has /usr/lib/none");
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "<html>").unwrap();
        assert!(Tree::default().unpack(file.path()).is_err());
    }
}

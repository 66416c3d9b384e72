//! The folder of a layer. Every look-up is the kernel's, confined to it.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    rc::Rc,
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
        XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr, futimens, linkat, makedev,
        mkdirat, mknodat, openat, openat2, renameat, statat, symlinkat, syncfs, unlinkat,
        utimensat,
    },
    io::Errno,
};

use super::{Entry, EntryKind, path::Location};

/// Where replaced folders go until the layer is done; beside the layer's folder.
const DISCARD: &str = "discard";
/// The attribute by which overlayfs hides what is below a folder.
const OPAQUE: &str = "trusted.overlay.opaque";
/// The attributes that an image may set. Others (`trusted.overlay.*` first of all) are not its own.
const ATTRIBUTES: [&[u8]; 3] = [b"user.", b"security.capability", b"system.posix_acl_"];
/// The kernel's bounds of an attribute's name and value.
const ATTRIBUTE_NAME_BYTES: usize = 255;
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

/// Why something could not be presented in the tree.
#[derive(Debug)]
pub(in crate::images) enum Present {
    /// The archive asks for what must not be.
    Refused(String),
    /// The file system refused.
    Io(io::Error),
}

impl From<Errno> for Present {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl From<io::Error> for Present {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What was where something new goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Former {
    Nothing,
    Whiteout,
    Folder,
}

/// A layer's folder while it is written. It contains nothing but this layer.
pub(in crate::images) struct Tree {
    root: OwnedFd,
    discard: OwnedFd,
    discarded: u64,
    root_depth: usize,
    /// How many folders may be above anything.
    depth: usize,
    /// The last folder written into: entries come sorted by folder.
    last: Option<(Location, Rc<OwnedFd>)>,
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Tree {
    /// Opens the empty folder `into`. Beside it, a folder for what is replaced is made.
    pub(in crate::images) fn open(into: &Path, depth: usize) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let beside = into.with_file_name(DISCARD);
        std::fs::create_dir(&beside)?;
        let root = rustix::fs::open(into, flags, Mode::empty())?;
        let discard = rustix::fs::open(&beside, flags, Mode::empty())?;
        let root_depth = depth_of(&root)?;
        Ok(Self { root, discard, discarded: 0, root_depth, depth, last: None })
    }

    /// Makes a folder, or takes it as it is, and gives it its attributes.
    pub(super) fn folder(&mut self, location: &Location, entry: &Entry) -> Result<(), Present> {
        let Some(name) = location.name() else {
            return set_attributes(&self.root, entry);
        };
        let parent = self.parent_of(location)?;
        let former = self.clear(&parent, name, true)?;
        if former != Former::Folder {
            mkdirat(&*parent, name, FOLDER_MODE)?;
        }
        let folder = open_folder(&parent, name)?;
        if former == Former::Whiteout {
            hide_all(&folder)?;
        }
        set_attributes(&folder, entry)
    }

    /// Makes an empty file to be written.
    pub(super) fn file(&mut self, location: &Location) -> Result<File, Present> {
        let (parent, name) = self.place(location)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&*parent, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Gives a written file its size and attributes.
    #[expect(clippy::unused_self, reason = "what is done to the tree is done through it")]
    pub(super) fn finish_file(&self, file: &File, entry: &Entry) -> Result<(), Present> {
        file.set_len(entry.size)?;
        set_attributes(file, entry)?;
        futimens(file, &times(entry.seconds, entry.nanoseconds))?;
        Ok(())
    }

    pub(super) fn symlink(&mut self, location: &Location, entry: &Entry) -> Result<(), Present> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(Present::Refused("links to nothing".to_owned()));
        }
        let (parent, name) = self.place(location)?;
        symlinkat(entry.link.as_slice(), &*parent, name)?;
        set_owner(&parent, name, entry)?;
        set_time(&parent, name, entry.seconds, entry.nanoseconds)
    }

    /// Gives a file of this layer a second name.
    pub(super) fn hard_link(
        &mut self,
        location: &Location,
        target: &Location,
    ) -> Result<(), Present> {
        let missing = || Present::Refused("is a hard link to what the layer does not have".into());
        let target_name = target.name().ok_or_else(missing)?;
        let target_parent = self.existing(&target.parent()).map_err(|_| missing())?;
        let found = statat(&*target_parent, target_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|_| missing())?;
        if is_folder(&found) {
            return Err(Present::Refused("is a hard link to a folder".to_owned()));
        }
        if location == target {
            return Ok(());
        }
        let (parent, name) = self.place(location)?;
        match linkat(&*target_parent, target_name, &*parent, name, AtFlags::empty()) {
            // What it links to was in the place that it takes.
            Err(Errno::NOENT) => Err(missing()),
            result => Ok(result?),
        }
    }

    /// Makes a device or a named pipe.
    pub(super) fn node(&mut self, location: &Location, entry: &Entry) -> Result<(), Present> {
        let (kind, device) = match entry.kind {
            EntryKind::CharDevice => (FileType::CharacterDevice, entry.device),
            EntryKind::BlockDevice => (FileType::BlockDevice, entry.device),
            _ => (FileType::Fifo, (0, 0)),
        };
        let (parent, name) = self.place(location)?;
        let number = makedev(device.0, device.1);
        mknodat(&*parent, name, kind, Mode::RUSR | Mode::WUSR, number)?;
        set_owner(&parent, name, entry)?;
        // It was made just now and nobody else writes here: it is no link.
        chmodat(&*parent, name, mode_of(entry), AtFlags::empty())?;
        set_time(&parent, name, entry.seconds, entry.nanoseconds)
    }

    /// Hides a name of the layers below. What this layer has by that name stays.
    pub(super) fn hide(&mut self, location: &Location) -> Result<(), Present> {
        let parent = self.parent_of(location)?;
        let name = location.name().unwrap_or_default();
        match look(&parent, name)? {
            Some(stat) if is_folder(&stat) => Ok(hide_all(&open_folder(&parent, name)?)?),
            Some(_) => Ok(()),
            None => {
                let kind = FileType::CharacterDevice;
                Ok(mknodat(&*parent, name, kind, Mode::empty(), makedev(0, 0))?)
            }
        }
    }

    /// Hides all that the layers below have in a folder.
    pub(super) fn hide_folder(&mut self, location: &Location) -> Result<(), Present> {
        let folder = self.folder_at(location)?;
        Ok(hide_all(&open_folder(&folder, b".")?)?)
    }

    /// Sets a folder's time, if it is still there.
    pub(super) fn set_folder_time(
        &mut self,
        location: &Location,
        seconds: i64,
        nanoseconds: u32,
    ) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open_in(&self.root, location.as_bytes(), flags, ResolveFlags::empty()) {
            Ok(folder) => Ok(futimens(folder, &times(seconds, nanoseconds))?),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes all of it through to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(syncfs(&self.root)?)
    }

    /// The folder that `location` is in and its name there, where nothing is any more.
    fn place<'a>(&mut self, location: &'a Location) -> Result<(Rc<OwnedFd>, &'a [u8]), Present> {
        let parent = self.parent_of(location)?;
        let name = location.name().unwrap_or_default();
        self.clear(&parent, name, false)?;
        Ok((parent, name))
    }

    /// Takes away what is in the place of something new; a folder stays for a folder.
    fn clear(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        is_for_folder: bool,
    ) -> Result<Former, Present> {
        let Some(stat) = look(parent, name)? else { return Ok(Former::Nothing) };
        if is_folder(&stat) {
            if is_for_folder {
                return Ok(Former::Folder);
            }
            renameat(parent, name, &self.discard, self.discarded.to_string())?;
            self.discarded += 1;
            self.last = None;
            return Ok(Former::Nothing);
        }
        unlinkat(parent, name, AtFlags::empty())?;
        self.last = None;
        Ok(if is_whiteout(&stat) { Former::Whiteout } else { Former::Nothing })
    }

    fn parent_of(&mut self, location: &Location) -> Result<Rc<OwnedFd>, Present> {
        self.folder_at(&location.parent())
    }

    /// The folder at `location`, made with all above it if it is missing.
    fn folder_at(&mut self, location: &Location) -> Result<Rc<OwnedFd>, Present> {
        if let Some((_, folder)) = self.last.as_ref().filter(|(last, _)| last == location) {
            return Ok(Rc::clone(folder));
        }
        let folder = match self.existing(location) {
            Err(Present::Io(error)) if is_missing(&error) => self.make_folders(location)?,
            result => result?,
        };
        self.last = Some((location.clone(), Rc::clone(&folder)));
        Ok(folder)
    }

    /// The folder at `location`. Links on the way are followed inside the layer.
    fn existing(&self, location: &Location) -> Result<Rc<OwnedFd>, Present> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = location.as_bytes();
        match open_in(&self.root, path, flags, ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => {}
            result => return Ok(Rc::new(result?)),
        }
        let folder = open_in(&self.root, path, flags, ResolveFlags::empty())?;
        // Links can lead deeper than any path is long; there, removal would have no end.
        if depth_of(&folder)?.saturating_sub(self.root_depth) > self.depth {
            return Err(Present::Refused("is too deep behind its links".to_owned()));
        }
        Ok(Rc::new(folder))
    }

    fn make_folders(&mut self, location: &Location) -> Result<Rc<OwnedFd>, Present> {
        let mut parent = self.existing(&Location::parse(b"", 0)?)?;
        for step in location.ladder() {
            parent = match self.existing(&step) {
                Err(Present::Io(error)) if is_missing(&error) => {
                    self.make_folder(&parent, step.name().unwrap_or_default())?;
                    self.existing(&step)?
                }
                result => result?,
            };
        }
        Ok(parent)
    }

    /// Makes a folder that no entry announced. One that this layer hides is made anew, hiding what
    /// is below.
    fn make_folder(&self, parent: &OwnedFd, name: &[u8]) -> Result<(), Present> {
        match look(parent, name)? {
            None => mkdirat(parent, name, FOLDER_MODE)?,
            Some(stat) if is_whiteout(&stat) => {
                unlinkat(parent, name, AtFlags::empty())?;
                mkdirat(parent, name, FOLDER_MODE)?;
                hide_all(&open_folder(parent, name)?)?;
            }
            Some(_) => {
                return Err(Present::Refused("is inside of what is not a folder".to_owned()));
            }
        }
        Ok(())
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens what is at `path` under `root`, and can reach nothing else.
fn open_in(
    root: &OwnedFd,
    path: &[u8],
    flags: OFlags,
    more: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match openat2(root, path, flags, Mode::empty(), resolve | more) {
            // The kernel could not rule out a race with a rename elsewhere.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

fn open_folder(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn look(parent: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Present> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        result => Ok(Some(result?)),
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn hide_all(folder: &OwnedFd) -> rustix::io::Result<()> {
    fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())
}

/// How many folders are above an open one.
fn depth_of(folder: &OwnedFd) -> io::Result<usize> {
    use std::os::fd::AsRawFd;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
    Ok(path.components().count())
}

fn times(seconds: i64, nanoseconds: u32) -> Timestamps {
    let tv_nsec = i32::try_from(nanoseconds).unwrap_or(0).into();
    let time = Timespec { tv_sec: seconds, tv_nsec };
    Timestamps { last_access: time, last_modification: time }
}

fn set_time(parent: &OwnedFd, name: &[u8], seconds: i64, nanoseconds: u32) -> Result<(), Present> {
    Ok(utimensat(parent, name, &times(seconds, nanoseconds), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn mode_of(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o7777)
}

fn owner_of(entry: &Entry) -> Result<(Option<Uid>, Option<Gid>), Present> {
    // The last number means "unchanged" to the kernel.
    let id = |number: u64| {
        u32::try_from(number)
            .ok()
            .filter(|number| *number < u32::MAX)
            .ok_or_else(|| Present::Refused("has an owner out of range".to_owned()))
    };
    Ok((Some(Uid::from_raw(id(entry.owner)?)), Some(Gid::from_raw(id(entry.group)?))))
}

fn set_owner(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Present> {
    let (owner, group) = owner_of(entry)?;
    Ok(chownat(parent, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets owner, mode and extended attributes, in this order: each takes from those after it.
fn set_attributes(file: impl AsFd, entry: &Entry) -> Result<(), Present> {
    let (owner, group) = owner_of(entry)?;
    fchown(&file, owner, group)?;
    fchmod(&file, mode_of(entry))?;
    for (name, value) in &entry.attributes {
        if !ATTRIBUTES.iter().any(|allowed| name.starts_with(allowed)) {
            continue;
        }
        if name.len() > ATTRIBUTE_NAME_BYTES || name.contains(&0) {
            return Err(Present::Refused("has an extended attribute without a name".to_owned()));
        }
        match fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            // Not every file system has all kinds of them (tmpfs).
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(Errno::INVAL | Errno::RANGE | Errno::TOOBIG | Errno::PERM) => {
                return Err(Present::Refused("has a bad extended attribute".to_owned()));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

//! Where an entry goes: the names from the layer's folder down, and nothing else.

/// Bytes in one name; what file systems allow.
const NAME_BYTES: usize = 255;

/// The path cannot be one inside a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    #[error("leaves the layer")]
    Leaves,
    #[error("has a name of more than {NAME_BYTES} bytes")]
    LongName,
    #[error("is deeper than {0} folders")]
    Deep(usize),
    #[error("has a name with a zero byte")]
    Zero,
    #[error("is not a name")]
    NoName,
}

/// A place in a layer. Joined by slashes, without `.` and `..`; empty is the layer's own folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location(Vec<u8>);

impl Location {
    /// Reads an entry's path. An absolute one is meant from the layer's folder.
    pub(super) fn parse(path: &[u8], depth: usize) -> Result<Self, PathError> {
        let mut names: Vec<&[u8]> = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop().ok_or(PathError::Leaves)?),
                _ if name.len() > NAME_BYTES => return Err(PathError::LongName),
                _ if name.contains(&0) => return Err(PathError::Zero),
                _ => names.push(name),
            }
        }
        if names.len() > depth {
            return Err(PathError::Deep(depth));
        }
        Ok(Self(names.join(&b'/')))
    }

    /// The path, relative to the layer's folder; `.` for that itself.
    pub(super) fn as_bytes(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }

    /// How long it is.
    pub(super) const fn bytes(&self) -> usize {
        self.0.len() + size_of::<Self>()
    }

    /// The last name; the layer's own folder has none.
    pub(super) fn name(&self) -> Option<&[u8]> {
        let name = self.0.rsplit(|byte| *byte == b'/').next()?;
        (!name.is_empty()).then_some(name)
    }

    /// The folder it is in.
    pub(super) fn parent(&self) -> Self {
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Self(self.0[..end].to_vec())
    }

    /// Another name in the same folder.
    pub(super) fn sibling(&self, name: &[u8]) -> Result<Self, PathError> {
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return Err(PathError::NoName);
        }
        let mut path = self.parent().0;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(Self(path))
    }

    /// All folders above it, and itself, from the top.
    pub(super) fn ladder(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let whole = (!self.0.is_empty()).then_some(self.0.len());
        ends.chain(whole).map(|end| Self(self.0[..end].to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Location, PathError};

    fn parse(path: &str) -> Result<String, PathError> {
        Location::parse(path.as_bytes(), 4)
            .map(|location| String::from_utf8(location.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn paths_are_made_plain() {
        for (path, plain) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
            ("", "."),
            ("./", "."),
            ("/", "."),
            ("...", "..."),
        ] {
            assert_eq!(parse(path).as_deref(), Ok(plain));
        }
    }

    #[test]
    fn paths_that_leave_or_are_too_much_are_refused() {
        assert_eq!(parse(".."), Err(PathError::Leaves));
        assert_eq!(parse("a/../../b"), Err(PathError::Leaves));
        assert_eq!(parse("/../etc"), Err(PathError::Leaves));
        assert_eq!(parse("a/b/c/d/e"), Err(PathError::Deep(4)));
        assert_eq!(parse(&"n".repeat(256)), Err(PathError::LongName));
        assert_eq!(parse("a\0b"), Err(PathError::Zero));
    }

    #[test]
    fn parents_siblings_and_ladders_fit_together() {
        let location = Location::parse(b"a/b/c", 4).unwrap();
        assert_eq!(location.name(), Some(&b"c"[..]));
        assert_eq!(location.parent().as_bytes(), b"a/b");
        assert_eq!(location.sibling(b"d").unwrap().as_bytes(), b"a/b/d");
        assert_eq!(location.sibling(b".."), Err(PathError::NoName));
        let ladder: Vec<_> = location.ladder().map(|it| it.as_bytes().to_vec()).collect();
        assert_eq!(ladder, [&b"a"[..], b"a/b", b"a/b/c"]);
        let root = Location::parse(b"/", 4).unwrap();
        assert_eq!((root.name(), root.ladder().count()), (None, 0));
        let top = Location::parse(b"a", 4).unwrap();
        assert_eq!((top.parent(), top.sibling(b"b").unwrap().as_bytes()), (root, &b"b"[..]));
    }
}

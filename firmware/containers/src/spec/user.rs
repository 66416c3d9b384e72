//! Users and groups by name, looked up in the image.

use std::path::Path;

use super::SpecError;
use crate::in_root;

/// Bytes of `/etc/passwd` or `/etc/group` that are read.
const TABLE_BYTES: u64 = 1024 * 1024;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) further_groups: Vec<u32>,
    pub(super) home: String,
}

/// The user and group tables of an image.
#[derive(Debug, Default)]
pub(super) struct Tables {
    users: Vec<User>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct User {
    name: String,
    id: u32,
    group: u32,
    home: String,
}

#[derive(Debug)]
struct Group {
    name: String,
    id: u32,
    members: Vec<String>,
}

impl Tables {
    /// Reads the tables; an image without them is an image without names.
    pub(super) fn read(rootfs: &Path) -> Self {
        let text = |path| {
            in_root::read(rootfs, Path::new(path), TABLE_BYTES)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        Self::parse(&text("/etc/passwd"), &text("/etc/group"))
    }

    fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            Some(User {
                name: (*fields.first()?).to_owned(),
                id: fields.get(2)?.parse().ok()?,
                group: fields.get(3)?.parse().ok()?,
                home: fields.get(5).copied().unwrap_or_default().to_owned(),
            })
        });
        let groups = group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let members = fields.get(3).copied().unwrap_or_default();
            Some(Group {
                name: (*fields.first()?).to_owned(),
                id: fields.get(2)?.parse().ok()?,
                members: members.split(',').map(|name| name.trim().to_owned()).collect(),
            })
        });
        Self { users: users.collect(), groups: groups.collect() }
    }

    /// Who `user[:group]` is, in names or numbers. Empty is root.
    pub(super) fn find(&self, field: &str, text: &str) -> Result<Identity, SpecError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let known = match user.parse::<u32>() {
            Ok(number) => self.users.iter().find(|user| user.id == number),
            Err(_) => self.users.iter().find(|known| known.name == user),
        };
        let id = match (known, user.parse()) {
            (Some(known), _) => known.id,
            (None, Ok(number)) => number,
            (None, Err(_)) => {
                return Err(SpecError::new(field, format!("the image has no user `{user}`")));
            }
        };
        let group_id = match group.filter(|group| !group.is_empty()) {
            Some(group) => self.group(field, group)?,
            None => known.map_or(0, |known| known.group),
        };
        let is_member = |group: &&Group| {
            known.is_some_and(|known| group.members.contains(&known.name)) && group.id != group_id
        };
        // As Docker: a group that is named replaces the groups that the user is a member of.
        let further_groups = match group {
            Some(_) => Vec::new(),
            None => self.groups.iter().filter(is_member).map(|group| group.id).collect(),
        };
        let home = known.map(|known| known.home.clone()).filter(|home| home.starts_with('/'));
        Ok(Identity {
            user: id,
            group: group_id,
            further_groups,
            home: home.unwrap_or_else(|| "/".to_owned()),
        })
    }

    /// The number of a group.
    pub(super) fn group(&self, field: &str, text: &str) -> Result<u32, SpecError> {
        let known = self.groups.iter().find(|known| known.name == text).map(|known| known.id);
        text.parse()
            .ok()
            .or(known)
            .ok_or_else(|| SpecError::new(field, format!("the image has no group `{text}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Tables {
        Tables::parse(
            "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\nbroken:x:no\n",
            "root:x:0:\nweb:x:33:\naudio:x:29:web,other\n",
        )
    }

    #[test]
    fn names_and_numbers_find_their_identity() {
        let tables = tables();
        let web = tables.find("user", "web").unwrap();
        assert_eq!((web.user, web.group, web.home.as_str()), (33, 33, "/var/www"));
        assert_eq!(web.further_groups, [29]);
        assert_eq!(tables.find("user", "33").unwrap(), web);
        let other = tables.find("user", "web:audio").unwrap();
        assert_eq!((other.group, other.further_groups.len()), (29, 0));
        let stranger = tables.find("user", "4711:12").unwrap();
        assert_eq!((stranger.user, stranger.group, stranger.home.as_str()), (4711, 12, "/"));
        assert_eq!(tables.find("user", "").unwrap().home, "/root");
    }

    #[test]
    fn a_name_that_the_image_lacks_is_refused() {
        let error = tables().find("user", "ghost").unwrap_err();
        assert_eq!(error.to_string(), "user: the image has no user `ghost`");
        assert!(tables().find("user", "web:ghosts").is_err());
        assert!(Tables::default().find("user", "-1").is_err());
    }
}

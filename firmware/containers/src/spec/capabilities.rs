//! Capabilities: Docker's default set, what is added and what is dropped.

use super::SpecError;

/// All capabilities, by their numbers in the kernel.
const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has if nobody says otherwise: Docker's list.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The capabilities of a container, in the order of their numbers.
///
/// As Docker reads the two lists: `ALL` in the added list starts from all, `ALL` in the dropped
/// list starts from none, and what is named in the other list still counts. Nobody can give what
/// this process does not have (`own`, a bit each): a name is refused, `ALL` is all of those.
pub(super) fn effective(
    own: u64,
    added: &[String],
    dropped: &[String],
) -> Result<Vec<&'static str>, SpecError> {
    let has = |name: &str| own & mask_of(std::iter::once(name)) != 0;
    let (added, adds_all) = read("capabilities_added", added)?;
    let (dropped, drops_all) = read("capabilities_dropped", dropped)?;
    if let Some(name) = added.iter().find(|name| !has(name)) {
        let reason = format!("{name} is not this board's to give");
        return Err(SpecError::new("capabilities_added", reason));
    }
    let is_given = |name: &&str| match (adds_all, drops_all) {
        (true, _) => !dropped.contains(name),
        (false, true) => added.contains(name),
        (false, false) => {
            added.contains(name) || (DEFAULT.contains(name) && !dropped.contains(name))
        }
    };
    Ok(ALL.into_iter().filter(is_given).filter(|name| has(name)).collect())
}

/// The capabilities that this process can give, a bit each; all if the kernel does not say.
pub(super) fn own() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// All capabilities that this process can give.
pub(super) fn all() -> Vec<&'static str> {
    let own = own();
    let has = |name: &&str| own & mask_of(std::iter::once(*name)) != 0;
    ALL.into_iter().filter(has).collect()
}

/// A bit for each capability, by its number in the kernel.
pub(crate) fn mask_of<'a>(names: impl Iterator<Item = &'a str>) -> u64 {
    names
        .filter_map(|name| ALL.iter().position(|known| *known == name))
        .fold(0, |mask, number| mask | 1 << number)
}

fn read(field: &str, names: &[String]) -> Result<(Vec<&'static str>, bool), SpecError> {
    let mut known = Vec::new();
    let mut is_all = false;
    for name in names {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if short == "ALL" {
            is_all = true;
            continue;
        }
        let found = ALL.iter().find(|known| known.strip_prefix("CAP_") == Some(short));
        known.push(*found.ok_or_else(|| {
            SpecError::new(field, format!("`{name}` is no capability: CAP_NET_ADMIN is"))
        })?);
    }
    Ok((known, is_all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(added: &[&str], dropped: &[&str]) -> Vec<&'static str> {
        let owned =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        effective(u64::MAX, &owned(added), &owned(dropped)).unwrap()
    }

    #[test]
    fn the_lists_are_read_as_docker_reads_them() {
        assert_eq!(of(&[], &[]).len(), DEFAULT.len());
        assert!(of(&["NET_ADMIN"], &[]).contains(&"CAP_NET_ADMIN"));
        assert!(!of(&[], &["cap_chown"]).contains(&"CAP_CHOWN"));
        assert_eq!(of(&["CHOWN"], &["ALL"]), ["CAP_CHOWN"]);
        assert_eq!(of(&["ALL"], &[]).len(), ALL.len());
        assert_eq!(of(&["ALL"], &["SYS_ADMIN"]).len(), ALL.len() - 1);
    }

    #[test]
    fn a_capability_that_is_none_is_refused_by_field() {
        let error = effective(u64::MAX, &["CAP_FLY".to_owned()], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "capabilities_added: `CAP_FLY` is no capability: CAP_NET_ADMIN is"
        );
    }

    #[test]
    fn nobody_gives_what_he_does_not_have() {
        let own = !(1 << 24);
        let error = effective(own, &["SYS_RESOURCE".to_owned()], &[]).unwrap_err();
        assert!(error.reason.contains("CAP_SYS_RESOURCE is not this board's"), "{error}");
        assert_eq!(effective(own, &["ALL".to_owned()], &[]).unwrap().len(), ALL.len() - 1);
    }

    #[test]
    fn bits_are_the_kernels() {
        assert_eq!(mask_of(["CAP_CHOWN", "CAP_SYS_ADMIN"].into_iter()), 1 | 1 << 21);
    }
}

//! Kernel settings of an appliance that runs containers, each with its reason.

use std::{fs, io};

use crate::{Places, boot::Findings};

/// Path below `/proc/sys`, value.
const SETTINGS: &[(&str, &str)] = &[
    // Swap is compressed memory and costs no disk: using it early keeps the page cache.
    ("vm/swappiness", "100"),
    // Compressed memory has no neighbours worth reading along.
    ("vm/page-cluster", "0"),
    // A card takes small steady writes better than a burst that stalls everything.
    ("vm/dirty_background_bytes", "16777216"),
    ("vm/dirty_bytes", "50331648"),
    // An allocation by an interrupt (network) fails less often.
    ("vm/min_free_kbytes", "8192"),
    // A board that panicked or went wrong inside the kernel comes back by itself.
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    // Kernel addresses and messages are of no use to a container but for attacking the kernel.
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("net/core/bpf_jit_harden", "2"),
    // The key that reboots a board is for a keyboard that it does not have.
    ("kernel/sysrq", "0"),
    // Links and pipes in folders that everybody may write to.
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    // Containers watch many files.
    ("fs/inotify/max_user_instances", "1024"),
    ("fs/inotify/max_user_watches", "131072"),
    // Containers reach other boards through this one.
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    // A forwarding host would otherwise ignore the routers that give it its own address.
    ("net/ipv6/conf/all/accept_ra", "2"),
    ("net/ipv6/conf/default/accept_ra", "2"),
    // Nobody on the network may redirect what this board sends.
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    // Many tasks and boards on one segment.
    ("net/ipv4/neigh/default/gc_thresh2", "2048"),
    ("net/ipv4/neigh/default/gc_thresh3", "4096"),
];

/// Writes all settings. One that this kernel does not have is left out.
pub(crate) fn write_all(places: &Places, findings: &mut Findings) {
    let root = places.sources.proc.join("sys");
    for (name, value) in SETTINGS {
        match fs::write(root.join(name), value) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                findings.problem(format!("the kernel refuses {name} = {value}: {error}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sources;

    #[test]
    fn what_the_kernel_has_is_set_and_the_rest_left_out() {
        let root = tempfile::tempdir().unwrap();
        let sources = Sources { proc: root.path().to_owned(), ..Sources::default() };
        let swappiness = root.path().join("sys/vm/swappiness");
        fs::create_dir_all(root.path().join("sys/vm")).unwrap();
        fs::write(&swappiness, "60").unwrap();
        // A folder in the place of a setting refuses to be written, as a setting may.
        fs::create_dir_all(root.path().join("sys/kernel/panic")).unwrap();
        // Files that are missing would be made; in /proc they cannot be.
        let mut findings = Findings::default();
        write_all(&Places { sources, ..Places::default() }, &mut findings);
        assert_eq!(fs::read_to_string(swappiness).unwrap(), "100");
        assert_eq!(findings.problems.len(), 1, "{:?}", findings.problems);
        assert!(findings.problems[0].starts_with("the kernel refuses kernel/panic = 10"));
    }

    #[test]
    fn every_setting_is_named_once() {
        for (index, (name, _)) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[..index].iter().all(|(other, _)| other != name), "{name}");
        }
    }
}

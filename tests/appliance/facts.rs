//! What is true inside a machine, found out by containers there: a shell line runs, and what it
//! prints is read from the service's log.

use std::time::Duration;

use crate::observer::{Node, Observer};

/// Between two looks at a log: each is several requests, and the board has enough to do.
const PACE: Duration = Duration::from_millis(500);
/// What a line of a container's prints last.
const END: &str = "end of the facts";

/// Runs a shell line in a container on `node`, with further options, and returns what it prints.
pub fn ask_with(observer: &Observer, node: &Node, options: &[&str], line: &str) -> String {
    const NAME: &str = "facts";
    let place = format!("node.id=={}", node.id);
    let options = [&["--restart-condition", "none", "--constraint", &place], options].concat();
    observer.serve(NAME, &options, &format!("{{ {line}\n}} 2>&1; echo {END}"));
    let mut printed = String::new();
    observer.wait_at(PACE, &format!("`{line}` is done on {}", node.hostname), || {
        let output = observer.try_docker(&["service", "logs", "--raw", NAME]);
        printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.contains(END)
    });
    observer.docker(&["service", "rm", NAME]);
    observer.wait("the question is forgotten", || observer.running(NAME).is_empty());
    printed.replace(END, "").trim().to_owned()
}

/// As [`ask_with`], without further options.
pub fn ask(observer: &Observer, node: &Node, line: &str) -> String {
    ask_with(observer, node, &[], line)
}

/// The memory that a machine uses, in bytes: all but what is free or could be at once.
pub fn used_memory(meminfo: &str) -> Option<u64> {
    let kibibytes = |name: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some((kibibytes("MemTotal:")? - kibibytes("MemAvailable:")?) * 1024)
}

/// The size of the file system below a container's root, in bytes, by `df -Pk /`.
pub fn data_size(df: &str) -> Option<u64> {
    let line = df.lines().find(|line| line.starts_with("overlay "))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// How many bytes were written to each disk and partition so far, by `/proc/diskstats`.
pub fn written(diskstats: &str, device: &str) -> Option<u64> {
    let line = diskstats.lines().find(|line| line.split_whitespace().nth(2) == Some(device))?;
    let sectors: u64 = line.split_whitespace().nth(9)?.parse().ok()?;
    Some(sectors * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        let memory = "MemTotal:  500000 kB\nMemFree: 300000 kB\nMemAvailable:  430000 kB\n";
        assert_eq!(used_memory(memory), Some(70_000 * 1024));
        let disks = " 254 0 vda 10 0 80 5 7 0 56 3 0 8 8 0 0 0 0 0 0\n";
        assert_eq!(written(disks, "vda"), Some(56 * 512));
        assert_eq!(written(disks, "vdb"), None);
        let df =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\noverlay 60000 5 9 1% /\n";
        assert_eq!(data_size(df), Some(60_000 * 1024));
    }
}

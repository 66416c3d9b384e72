//! `config.txt`, as far as it says what a machine starts with.

/// What of it counts for one partition and model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The kernel's file.
    pub kernel: String,
    /// The initramfs' file.
    pub initramfs: Option<String>,
    /// The file of the command line.
    pub cmdline: String,
    /// Seconds until the watchdog bites.
    pub watchdog_seconds: Option<u32>,
    /// Where it leads to.
    pub watchdog_partition: Option<u32>,
}

impl Config {
    /// Reads it for a boot from `partition` of a board of `model`.
    pub fn parse(text: &str, partition: u32, model: &str) -> Self {
        let mut config = Self {
            kernel: "kernel8.img".to_owned(),
            initramfs: None,
            cmdline: "cmdline.txt".to_owned(),
            watchdog_seconds: None,
            watchdog_partition: None,
        };
        let mut is_for_us = true;
        for line in text.lines().map(str::trim) {
            if let Some(filter) = line.strip_prefix('[') {
                let filter = filter.trim_end_matches(']');
                is_for_us = filter == "all"
                    || filter == model
                    || filter == format!("boot_partition={partition}");
            } else if is_for_us {
                config.set(line);
            }
        }
        config
    }

    fn set(&mut self, line: &str) {
        // The one setting that has no `=`.
        if let Some(words) = line.strip_prefix("initramfs ") {
            self.initramfs = words.split_ascii_whitespace().next().map(str::to_owned);
            return;
        }
        let Some((key, value)) = line.split_once('=') else { return };
        match key {
            "kernel" => value.clone_into(&mut self.kernel),
            "cmdline" => value.clone_into(&mut self.cmdline),
            "kernel_watchdog_timeout" => self.watchdog_seconds = value.parse().ok(),
            "kernel_watchdog_partition" => self.watchdog_partition = value.parse().ok(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# slot\nkernel=kernel8.img\ninitramfs bramble.cpio followkernel\n\
        kernel_watchdog_timeout=60\n[boot_partition=2]\nkernel_watchdog_partition=3\n\
        [boot_partition=3]\nkernel_watchdog_partition=2\n[pi5]\nkernel=other.img\n[all]\n";

    #[test]
    fn sections_count_for_their_partition_and_model() {
        let config = Config::parse(TEXT, 3, "pi3");
        assert_eq!(config.initramfs.as_deref(), Some("bramble.cpio"));
        assert_eq!((config.watchdog_seconds, config.watchdog_partition), (Some(60), Some(2)));
        assert_eq!(config.kernel, "kernel8.img");
        assert_eq!(Config::parse(TEXT, 2, "pi5").kernel, "other.img");
    }
}

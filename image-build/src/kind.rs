//! The kinds of image.

use std::fmt;

use clap::ValueEnum;

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Raspberry Pi 3, 4, 5, Zero 2 W and Compute Module 4: one card for all
    Rpi,
    /// QEMU's 64-bit ARM machine
    QemuArm64,
    /// QEMU's PC
    #[value(name = "qemu-x86_64")]
    QemuX86,
}

impl Kind {
    /// Rust's name of the architecture.
    pub(crate) fn arch(self) -> &'static str {
        match self {
            Self::Rpi | Self::QemuArm64 => "aarch64",
            Self::QemuX86 => "x86_64",
        }
    }

    /// Debian's name of the architecture.
    pub(crate) fn debian_arch(self) -> &'static str {
        match self {
            Self::Rpi | Self::QemuArm64 => "arm64",
            Self::QemuX86 => "amd64",
        }
    }

    /// What the names of its boards in `hardware/` begin with.
    pub(crate) fn boards(self) -> &'static str {
        match self {
            Self::Rpi => "raspberry-pi-",
            Self::QemuArm64 => "qemu-arm64",
            Self::QemuX86 => "qemu-x86_64",
        }
    }

    /// How large its compressed image may be: it is downloaded and written by people.
    pub(crate) fn bytes_max(self) -> u64 {
        match self {
            Self::Rpi => 64_000_000,
            Self::QemuArm64 | Self::QemuX86 => 40_000_000,
        }
    }

    /// `cmdline.txt`: one line. The kernel tests its own ciphers at each start unless told not to;
    /// counted by instructions that is more than half of a boot.
    pub(crate) fn command_line(self) -> &'static str {
        match self {
            // The mailbox of the firmware is reached through /dev/mem.
            Self::Rpi => {
                "console=ttyS1,115200 console=tty0 panic=10 iomem=relaxed cryptomgr.notests=1 quiet\n"
            }
            Self::QemuArm64 => "console=ttyAMA0 panic=10 cryptomgr.notests=1 quiet\n",
            Self::QemuX86 => "console=ttyS0 panic=10 cryptomgr.notests=1 quiet\n",
        }
    }

    /// `config.txt` of a slot. `initramfs` has no equals sign; nothing may follow a value.
    pub(crate) fn settings(self) -> &'static str {
        match self {
            Self::Rpi => concat!(
                "arm_64bit=1\n",
                "upstream_kernel=1\n",
                "kernel=kernel8.img\n",
                "initramfs bramble.cpio followkernel\n",
                "enable_uart=1\n",
                "disable_splash=1\n",
                "kernel_watchdog_timeout=60\n",
                "[pi5]\n",
                "os_check=0\n",
                "[all]\n"
            ),
            Self::QemuArm64 | Self::QemuX86 => {
                "kernel=kernel8.img\ninitramfs bramble.cpio followkernel\n"
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rpi => "rpi",
            Self::QemuArm64 => "qemu-arm64",
            Self::QemuX86 => "qemu-x86_64",
        })
    }
}

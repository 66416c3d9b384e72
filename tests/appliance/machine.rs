//! An emulated board: QEMU, a card, a cable, a console.

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use bramble_host::slot::Slot;
use bramble_tests::fake_firmware::{Boot, FakeFirmware, Reset};

use crate::{
    card::Card,
    command::{given, in_namespace, wait_for},
    console::Console,
    dhcp::{address, mac},
    qmp::{End, Qmp},
    segment::Segment,
};

/// How long a machine may take to print that its API is ready. A promise has its own, tighter bound.
pub const BOOT: Duration = Duration::from_secs(120);
/// What a board prints when its API answers.
pub const API_READY: &str = "bramble: API ready";

const MIB: u64 = 1 << 20;

/// Which board is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// QEMU's own board, `-M virt`.
    Virt,
    /// The Raspberry Pi 3 B, from whose card image everything comes.
    Pi3,
    /// A PC, `-M q35`.
    Pc,
}

impl Model {
    /// The image that `tests/run appliance` has built for it.
    pub fn image(self) -> PathBuf {
        given(match self {
            Self::Virt => "BRAMBLE_IMAGE_QEMU_ARM64",
            Self::Pi3 => "BRAMBLE_IMAGE_RPI",
            Self::Pc => "BRAMBLE_IMAGE_QEMU_X86_64",
        })
    }

    /// Its processor, by the name that container images have for it.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Virt | Self::Pi3 => "arm64",
            Self::Pc => "amd64",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Virt | Self::Pi3 => "qemu-system-aarch64",
            Self::Pc => "qemu-system-x86_64",
        }
    }

    fn device_tree(self) -> Option<&'static str> {
        (self == Self::Pi3).then_some("bcm2837-rpi-3-b.dtb")
    }

    /// Its boot firmware. QEMU's Raspberry Pi has a mailbox and no flag behind it.
    fn firmware(self, card: &Card) -> FakeFirmware {
        let firmware = FakeFirmware::new(card.path());
        match self {
            Self::Virt | Self::Pc => firmware,
            Self::Pi3 => firmware.without_flag().of_model("pi3"),
        }
    }
}

/// What may be odd about a machine.
#[derive(Debug, Clone)]
pub struct Settings {
    pub model: Model,
    /// The image on its card; by default the one of its model.
    pub image: Option<PathBuf>,
    /// How many processors it has; a Raspberry Pi 3 has four. Each takes one of this machine's.
    pub processors: u8,
    /// Whether its clock goes by the instructions that it executes, 2 ns each, and not by this machine's
    /// clock: half the pace of a Cortex-A53 of 1 GHz, the slowest processor of a supported board.
    pub counts_instructions: bool,
    /// How big the card is; by default as big as a small one on sale would be, seen from its image.
    pub card_bytes: Option<u64>,
    /// Whether the card's lock is set.
    pub card_is_read_only: bool,
    /// What is added to the kernel's command line.
    pub words: String,
    /// What is added to QEMU's.
    pub arguments: Vec<String>,
    /// Whether its firmware knows no flag that makes a slot boot once.
    pub has_no_flag: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: Model::Virt,
            image: None,
            processors: 1,
            counts_instructions: false,
            card_bytes: Some(2048 * MIB),
            card_is_read_only: false,
            words: String::new(),
            arguments: Vec::new(),
            has_no_flag: false,
        }
    }
}

/// A machine. It has no power until it is started, and loses it when the test ends.
pub struct Machine {
    number: u8,
    namespace: String,
    folder: PathBuf,
    cable: String,
    card: Card,
    firmware: FakeFirmware,
    /// What the last run ended with, as the firmware will see it.
    reset: Reset,
    /// What the present run, or the last, was started with.
    boot: Option<Boot>,
    settings: Settings,
    running: Option<Running>,
    last_console: Option<Console>,
}

struct Running {
    qemu: Child,
    qmp: Qmp,
}

impl Machine {
    /// A machine with a fresh card on which the segment's cluster key is all that was typed.
    pub fn new(segment: &Segment, number: u8) -> Self {
        Self::with(segment, number, Settings::default())
    }

    /// As [`Self::new`], with two processors, as every board on sale has at least.
    pub fn parallel(segment: &Segment, number: u8) -> Self {
        Self::with(segment, number, Settings { processors: 2, ..Settings::default() })
    }

    /// As [`Self::new`], with something odd about it.
    pub fn with(segment: &Segment, number: u8, settings: Settings) -> Self {
        let image = settings.image.clone().unwrap_or_else(|| settings.model.image());
        let path = segment.folder().join(format!("board{number}.img"));
        let card = Card::copy(&image, &path, settings.card_bytes);
        card.configure(&format!("[cluster]\nkey = \"{}\"\n", segment.key()));
        let firmware = settings.model.firmware(&card);
        let firmware = if settings.has_no_flag { firmware.without_flag() } else { firmware };
        Self {
            number,
            namespace: segment.namespace().to_owned(),
            folder: segment.folder().to_owned(),
            cable: segment.lay_tap(number),
            card,
            firmware,
            reset: Reset::Power,
            boot: None,
            settings,
            running: None,
            last_console: None,
        }
    }

    /// The card; leave it alone while the machine has power.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The address that the segment's DHCP server gives it.
    pub fn address(&self) -> String {
        address(self.number)
    }

    /// The slot that the firmware chose for the present run, or the last.
    pub fn slot(&self) -> Slot {
        self.boot.as_ref().expect("the machine was started").slot
    }

    /// Gives it power, or goes on after it asked for a restart.
    pub fn start(&mut self) -> Console {
        assert!(self.running.is_none(), "board{} has power already", self.number);
        let name = format!("board{}", self.number);
        let folder = self.slot_folder();
        let boot = self.firmware.boot(self.reset, &folder).expect("the card boots");
        let socket = self.folder.join(format!("{name}.qmp"));
        // A socket of the last run would be connected to in vain.
        let _ = std::fs::remove_file(&socket);
        let mut command = in_namespace(&self.namespace, "KILL", self.settings.model.program());
        command
            .args(["-display", "none", "-monitor", "none", "-no-reboot"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .arg("-kernel")
            .arg(&boot.kernel)
            .arg("-initrd")
            .arg(boot.initramfs.as_ref().expect("config.txt names an initramfs"))
            .arg("-append")
            .arg(format!("{} {}", boot.cmdline, self.settings.words));
        if let Some(name) = self.settings.model.device_tree() {
            let tree = folder.join(name);
            self.card.extract(boot.slot.partition(), name, &tree);
            command.arg("-dtb").arg(tree);
        }
        self.boot = Some(boot);
        command.args(self.devices()).args(&self.settings.arguments);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("{name}.qemu")))
            .expect("a log");
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("nsenter is installed");
        let output = qemu.stdout.take().expect("its output is a pipe");
        let console = Console::read(&name, output, &self.folder.join(format!("{name}.console")));
        self.running = Some(Running { qemu, qmp: Qmp::connect(&socket) });
        self.last_console = Some(console.clone());
        console
    }

    /// Starts it and waits until its API answers.
    pub fn boot(&mut self) -> Console {
        let console = self.start();
        console.wait_for(API_READY, BOOT);
        console
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let running = self.running.as_mut().expect("the machine has power");
        !matches!(running.qemu.try_wait(), Ok(None))
    }

    /// Waits until it has ended by itself, and says how.
    pub fn wait_for_end(&mut self, patience: Duration) -> End {
        let story = self.story();
        let what = format!("board{} ends", self.number);
        let running = self.running.as_mut().expect("the machine has power");
        wait_for(
            &what,
            patience,
            || story.clone(),
            || !matches!(running.qemu.try_wait(), Ok(None)),
        );
        let end = running.qmp.end();
        self.running = None;
        self.reset = if end == End::Reset { Reset::Reboot } else { Reset::Power };
        end
    }

    /// Pulls its plug.
    pub fn cut_power(&mut self) {
        self.reset = Reset::Power;
        if let Some(mut running) = self.running.take() {
            // Both fail only if it has ended already.
            let _ = running.qemu.kill();
            let _ = running.qemu.wait();
        }
    }

    /// The console of this run, or of the last.
    pub fn console(&self) -> &Console {
        self.last_console.as_ref().expect("the machine was started")
    }

    fn story(&self) -> String {
        self.last_console.as_ref().map(Console::tail).unwrap_or_default()
    }

    fn slot_folder(&self) -> PathBuf {
        let folder = self.folder.join(format!("slot{}", self.number));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn devices(&self) -> Vec<String> {
        let read_only = if self.settings.card_is_read_only { ",readonly=on" } else { "" };
        let card = self.card.path().display();
        let net = format!("tap,id=net,ifname={},script=no,downscript=no", self.cable);
        let mac = mac(self.number);
        let processors = self.settings.processors.to_string();
        let words: &[&str] = match self.settings.model {
            Model::Virt => &["-M", "virt", "-cpu", "cortex-a72", "-smp", &processors, "-m", "512"],
            Model::Pc => &["-M", "q35", "-cpu", "max", "-smp", &processors, "-m", "512"],
            // The console is the second serial line, as on the board; the first is Bluetooth's.
            Model::Pi3 => &["-M", "raspi3b", "-serial", "null"],
        };
        let (drive, devices) = match self.settings.model {
            Model::Virt | Model::Pc => (
                "if=none,id=card",
                vec![
                    "virtio-blk-pci,drive=card".to_owned(),
                    format!("virtio-net-pci,netdev=net,mac={mac},romfile="),
                ],
            ),
            Model::Pi3 => ("if=sd", vec![format!("usb-net,netdev=net,mac={mac}")]),
        };
        let drive = format!("file={card},{drive},format=raw{read_only}");
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.extend(["-serial".to_owned(), "stdio".to_owned(), "-drive".to_owned(), drive]);
        for device in devices {
            words.extend(["-device".to_owned(), device]);
        }
        words.extend(["-netdev".to_owned(), net]);
        if self.settings.counts_instructions {
            words.extend(["-icount".to_owned(), "shift=1".to_owned()]);
        }
        words
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut_power();
        if std::thread::panicking() {
            eprintln!("{}{}", self.story(), qemu_said(&self.folder, self.number));
        }
    }
}

fn qemu_said(folder: &Path, number: u8) -> String {
    let said = std::fs::read_to_string(folder.join(format!("board{number}.qemu")));
    said.ok()
        .filter(|said| !said.is_empty())
        .map(|said| format!("QEMU: {said}"))
        .unwrap_or_default()
}

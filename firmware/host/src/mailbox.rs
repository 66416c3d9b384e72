//! The mailbox of the Raspberry Pi's firmware: temperature, throttling, how to start next time.
//!
//! The foundation's kernel has drivers for these, Debian's has not. What a driver would do is done
//! here through `/dev/mem`, which the kernel allows with `iomem=relaxed` on its command line. Seen
//! to work on an emulated Pi 3; on hardware it is untried.

mod memory;

use std::{
    fs::{File, OpenOptions},
    io,
    time::{Duration, Instant},
};

use self::memory::{Page, Registers};
use crate::{Places, profile};

/// `get throttled`: what is wrong now, and what was since the start.
const GET_THROTTLED: u32 = 0x0003_0046;
/// `get temperature` of the only sensor, 0.
const GET_TEMPERATURE: u32 = 0x0003_0006;
/// `set reboot flags`.
const SET_REBOOT_FLAGS: u32 = 0x0003_8064;
/// The flag that makes the firmware try the other slot, once.
const TRY_ONCE: u32 = 1;

/// The channel for requests of the processor.
const CHANNEL: u32 = 8;
/// Registers of a mailbox, in bytes from the first: what the firmware sends, and whether there is
/// any; what it is sent, and whether it has room for more.
const READ: usize = 0x00;
const READ_STATUS: usize = 0x18;
const EMPTY: u32 = 1 << 30;
const WRITE: usize = 0x20;
const WRITE_STATUS: usize = 0x38;
const FULL: u32 = 1 << 31;
/// What the firmware sets in an answer.
const ANSWERED: u32 = 0x8000_0000;
/// The firmware sees the first GiB here, past its own cache.
const BUS: u32 = 0xc000_0000;
/// Notes of the firmware that its mailbox holds. It answers nobody while the mailbox is full.
const NOTES: usize = 8;
/// An answer takes half a millisecond.
const PATIENCE: Duration = Duration::from_millis(100);
/// Words of the longest message.
const WORDS: usize = 8;

/// A way to talk to the firmware.
#[derive(Debug)]
pub struct Mailbox {
    registers: Registers,
    page: Option<Page>,
}

/// The firmware could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// This is no board with such a firmware.
    #[error("this board has no firmware mailbox")]
    NoMailbox,
    /// The kernel does not let us.
    #[error("the firmware's mailbox cannot be reached; the kernel needs iomem=relaxed")]
    Reach(#[source] io::Error),
    /// It does not answer. It will not be asked again, for it might answer late.
    #[error("the firmware does not answer")]
    Silent,
    /// It does not know the question.
    #[error("the firmware refuses request 0x{tag:08x}")]
    Refused {
        /// The request.
        tag: u32,
    },
}

/// What slows a board down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttled {
    flags: u32,
}

impl Throttled {
    /// What the firmware's number means: bits 0 to 3 are now, 16 to 19 since the start.
    pub fn from_flags(flags: u32) -> Self {
        Self { flags }
    }

    /// Whether the voltage is too low now.
    pub fn is_undervolted(self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether the processor is slowed down now, by heat or voltage.
    pub fn is_slowed(self) -> bool {
        self.flags & 0b1110 != 0
    }

    /// What is or was wrong, for the owner.
    pub fn problems(self) -> Vec<String> {
        let says = |bit: u32, now: &str, before: &str| {
            if self.flags & 1 << bit != 0 {
                Some(now.to_owned())
            } else {
                (self.flags & 1 << (bit + 16) != 0).then(|| before.to_owned())
            }
        };
        let problems = [
            says(
                0,
                "the voltage is too low: use a better power supply or cable",
                "the voltage was too low since the start: use a better power supply or cable",
            ),
            says(
                2,
                "the processor is slowed down",
                "the processor was slowed down since the start",
            ),
            says(
                3,
                "the processor is too hot: give it a heat sink or a fan",
                "the processor was too hot since the start: give it a heat sink or a fan",
            ),
        ];
        problems.into_iter().flatten().collect()
    }
}

impl Mailbox {
    /// The mailbox of this board.
    pub fn open(places: &Places) -> Result<Self, MailboxError> {
        let soc = profile::of_this_board(&places.sources).and_then(|board| board.soc.as_deref());
        let address = soc.and_then(address).ok_or(MailboxError::NoMailbox)?;
        let memory = OpenOptions::new().read(true).write(true).open(places.dev.join("mem"));
        let memory = memory.map_err(MailboxError::Reach)?;
        Self::at(&memory, address).map_err(MailboxError::Reach)
    }

    fn at(memory: &File, address: u64) -> io::Result<Self> {
        let registers = Registers::map(memory, address)?;
        Ok(Self { registers, page: Some(Page::low()?) })
    }

    /// What slows the board down.
    pub fn throttled(&mut self) -> Result<Throttled, MailboxError> {
        self.ask(GET_THROTTLED, &[0]).map(|answer| Throttled::from_flags(answer[0]))
    }

    /// The processor's temperature in thousandths of a degree Celsius.
    pub fn temperature(&mut self) -> Result<i32, MailboxError> {
        let answer = self.ask(GET_TEMPERATURE, &[0, 0])?;
        i32::try_from(answer[1]).map_err(|_| MailboxError::Refused { tag: GET_TEMPERATURE })
    }

    /// Makes the next start, and only that, try the other slot.
    pub fn try_other_slot_once(&mut self) -> Result<(), MailboxError> {
        self.ask(SET_REBOOT_FLAGS, &[TRY_ONCE]).map(drop)
    }

    fn ask(&mut self, tag: u32, values: &[u32]) -> Result<[u32; 2], MailboxError> {
        let mut page = self.page.take().ok_or(MailboxError::Silent)?;
        page.write(&message(tag, values));
        // The page itself tells when it is answered; the firmware's note about it is left from the
        // request before, whoever made that.
        for _ in 0..NOTES {
            if self.registers.read(READ_STATUS) & EMPTY != 0 {
                break;
            }
            self.registers.read(READ);
        }
        let asked = Instant::now();
        let is_late = || asked.elapsed() > PATIENCE;
        while self.registers.read(WRITE_STATUS) & FULL != 0 {
            if is_late() {
                // It was never given the page.
                self.page = Some(page);
                return Err(MailboxError::Silent);
            }
        }
        self.registers.write(WRITE, page.physical() | BUS | CHANNEL);
        loop {
            let words = page.read();
            if words[1] & ANSWERED != 0 {
                self.page = Some(page);
                return answer(&words).ok_or(MailboxError::Refused { tag });
            }
            if is_late() {
                // The firmware may write to it at any time from now on.
                page.abandon();
                return Err(MailboxError::Silent);
            }
        }
    }
}

/// Where a chip has its mailbox.
fn address(soc: &str) -> Option<u64> {
    match soc {
        "bcm2837" | "bcm2710" => Some(0x3f00_b880),
        "bcm2711" => Some(0xfe00_b880),
        "bcm2712" => Some(0x10_7c01_3880),
        _ => None,
    }
}

/// A message with one request: its size, whether it is answered, the request with the room for its
/// values, an end.
fn message(tag: u32, values: &[u32]) -> [u32; WORDS] {
    let mut words = [0; WORDS];
    let count = values.len().min(2);
    let bytes = if count == 2 { 8 } else { 4 };
    words[0] = 24 + bytes;
    words[2] = tag;
    words[3] = bytes;
    words[5..5 + count].copy_from_slice(&values[..count]);
    words
}

/// The values of an answered message.
fn answer(words: &[u32; WORDS]) -> Option<[u32; 2]> {
    let is_whole = words[1] == ANSWERED && words[4] & ANSWERED != 0;
    is_whole.then_some([words[5], words[6]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_the_firmware_reads_it() {
        assert_eq!(message(GET_THROTTLED, &[0]), [28, 0, 0x0003_0046, 4, 0, 0, 0, 0]);
        assert_eq!(message(GET_TEMPERATURE, &[0, 0]), [32, 0, 0x0003_0006, 8, 0, 0, 0, 0]);
        assert_eq!(message(SET_REBOOT_FLAGS, &[1]), [28, 0, 0x0003_8064, 4, 0, 1, 0, 0]);
    }

    #[test]
    fn an_answer_is_told_from_a_refusal() {
        let good = [28, ANSWERED, GET_THROTTLED, 4, ANSWERED | 4, 0x5_0005, 0, 0];
        assert_eq!(answer(&good), Some([0x5_0005, 0]));
        let unknown = [28, ANSWERED, 0x0003_ffff, 4, 0, 0, 0, 0];
        assert_eq!(answer(&unknown), None);
        let garbled = [28, ANSWERED | 1, GET_THROTTLED, 4, ANSWERED | 4, 0, 0, 0];
        assert_eq!(answer(&garbled), None);
    }

    #[test]
    fn what_slows_a_board_down_is_said_to_its_owner() {
        let now = Throttled::from_flags(0x5_0005);
        assert!(now.is_undervolted() && now.is_slowed());
        assert_eq!(now.problems().len(), 2);
        assert!(now.problems()[0].contains("is too low"));
        let before = Throttled::from_flags(0x1_0000);
        assert!(!before.is_undervolted());
        assert!(before.problems()[0].contains("was too low"));
        assert_eq!(Throttled::from_flags(0).problems(), Vec::<String>::new());
    }

    #[test]
    fn a_board_without_a_firmware_has_no_mailbox() {
        let proc = tempfile::tempdir().unwrap();
        let sources = crate::Sources { proc: proc.path().to_owned(), sys: proc.path().to_owned() };
        let opened = Mailbox::open(&Places { sources, ..Places::default() });
        assert!(matches!(opened, Err(MailboxError::NoMailbox)));
        assert_eq!(address("bcm2711"), Some(0xfe00_b880));
        assert_eq!(address("virt"), None);
    }
}

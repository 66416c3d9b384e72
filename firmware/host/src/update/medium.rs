//! Where a card's bytes are: a disk, or what a test makes of one.

use std::io;

/// Bytes of a sector. What is written in one is written whole or not at all.
pub const SECTOR: u64 = 512;

/// A disk that holds a card. Offsets and lengths are multiples of [`SECTOR`].
pub trait Medium: Send {
    /// How large it is.
    fn bytes(&self) -> u64;

    /// Reads what the medium itself holds, not what a cache remembers of it.
    ///
    /// # Errors
    /// Those of the disk; past its end, too.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes. It holds after a power cut only once [`Medium::sync`] has returned.
    ///
    /// # Errors
    /// Those of the disk.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Waits until everything that was written is on the medium.
    ///
    /// # Errors
    /// Those of the disk.
    fn sync(&mut self) -> io::Result<()>;
}

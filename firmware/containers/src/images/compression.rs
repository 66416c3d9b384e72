//! Streams as they come: plain, gzip or zstd, told apart by their first bytes, and bounded.

use std::{
    cell::Cell,
    fmt,
    io::{self, BufRead, BufReader, Cursor, Read},
    rc::Rc,
};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::{Limits, limits::OverLimit};

/// How much is read at a time.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// The largest zstd window: what a decoder may need of memory. `zstd --ultra` asks for 128 MiB,
/// a quarter of the smallest board; every level that builders use stays at or below 8 MiB.
const ZSTD_WINDOW_BYTES: u64 = 32 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a stream turned out to be, decoded.
pub(super) struct Decoded<'a> {
    inner: Box<dyn Read + 'a>,
    consumed: Rc<Cell<u64>>,
    produced: u64,
    expansion: u64,
    free_expansion: u64,
    is_compressed: bool,
}

impl fmt::Debug for Decoded<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Decoded").field("produced", &self.produced).finish_non_exhaustive()
    }
}

impl<'a> Decoded<'a> {
    /// Looks at the first bytes of `reader` and decodes what they announce.
    pub(super) fn new(mut reader: impl Read + 'a, limits: &Limits) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(ZSTD_MAGIC.len());
        reader.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut magic)?;
        let is_gzip = magic.starts_with(&GZIP_MAGIC);
        let is_zstd = magic == ZSTD_MAGIC || is_skippable(&magic);
        let consumed = Rc::new(Cell::new(0));
        let counted =
            Counted { inner: Cursor::new(magic).chain(reader), count: Rc::clone(&consumed) };
        let buffered = BufReader::with_capacity(CHUNK_BYTES, counted);
        let inner: Box<dyn Read + 'a> = if is_gzip {
            Box::new(MultiGzDecoder::new(buffered))
        } else if is_zstd {
            Box::new(Zstd::new(buffered))
        } else {
            Box::new(buffered)
        };
        Ok(Self {
            inner,
            consumed,
            produced: 0,
            expansion: limits.expansion,
            free_expansion: limits.free_expansion,
            is_compressed: is_gzip || is_zstd,
        })
    }
}

impl Read for Decoded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.produced += count as u64;
        let allowed = self.consumed.get().saturating_mul(self.expansion);
        if self.is_compressed && self.produced > self.free_expansion.max(allowed) {
            let what = "bytes that one compressed byte becomes (is it a decompression bomb?)";
            return Err(io::Error::other(OverLimit { what, limit: self.expansion }));
        }
        Ok(count)
    }
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Any number of zstd frames, skippable ones among them (zstd:chunked and pzstd write such).
pub struct Zstd<R> {
    decoder: FrameDecoder,
    source: R,
    is_in_frame: bool,
}

impl<R> fmt::Debug for Zstd<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Zstd")
            .field("is_in_frame", &self.is_in_frame)
            .finish_non_exhaustive()
    }
}

impl<R: BufRead> Zstd<R> {
    /// Decodes what `source` holds, from its beginning.
    pub fn new(source: R) -> Self {
        Self::with_window(source, ZSTD_WINDOW_BYTES)
    }

    /// The same with windows of up to `bytes`: that much memory it may take.
    pub fn with_window(source: R, bytes: u64) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(bytes);
        Self { decoder, source, is_in_frame: false }
    }

    /// Begins the next frame; `false` at the end of the stream.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped =
                        io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(invalid(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_in_frame && !self.begin_frame()? {
                return Ok(0);
            }
            self.is_in_frame = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, UptoBytes(CHUNK_BYTES))
                    .map_err(invalid)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.is_in_frame = false;
        }
    }
}

/// Whether a zstd stream may begin with these bytes because a skippable frame does.
fn is_skippable(magic: &[u8]) -> bool {
    matches!(magic, [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

fn invalid(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;

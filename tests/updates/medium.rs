//! A disk whose power can fail.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex},
};

use bramble_host::update::Medium;

/// What becomes of writes that nobody waited for when the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All are lost.
    All,
    /// Every other one is.
    Some,
    /// None is.
    None,
}

/// When the power fails, shared by the disks of one scenario.
#[derive(Debug, Clone)]
pub(crate) struct Power(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    left: Option<usize>,
    writes: usize,
    loss: Loss,
}

impl Power {
    /// It never fails.
    pub(crate) fn steady() -> Self {
        Self(Arc::new(Mutex::new(State { left: None, writes: 0, loss: Loss::All })))
    }

    /// It fails instead of the write after so many.
    pub(crate) fn failing_after(writes: usize, loss: Loss) -> Self {
        Self(Arc::new(Mutex::new(State { left: Some(writes), writes: 0, loss })))
    }

    /// How many writes there were.
    pub(crate) fn writes(&self) -> usize {
        self.0.lock().expect("a lock").writes
    }
}

/// An image whose writes are held back until they are waited for.
pub(crate) struct Disk {
    file: File,
    bytes: u64,
    pending: Vec<(u64, Vec<u8>)>,
    power: Power,
}

impl Disk {
    pub(crate) fn open(image: &Path, power: &Power) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(image).expect("an image");
        let bytes = file.metadata().expect("its size").len();
        Self { file, bytes, pending: Vec::new(), power: power.clone() }
    }

    fn put(&mut self, keep: impl Fn(usize) -> bool) -> io::Result<()> {
        for (index, (offset, bytes)) in self.pending.drain(..).enumerate() {
            if keep(index) {
                self.file.write_all_at(&bytes, offset)?;
            }
        }
        Ok(())
    }
}

impl Medium for Disk {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)?;
        let end = offset + into.len() as u64;
        for (start, bytes) in &self.pending {
            let (from, to) = (offset.max(*start), end.min(start + bytes.len() as u64));
            if from < to {
                let length = (to - from) as usize;
                into[(from - offset) as usize..][..length]
                    .copy_from_slice(&bytes[(from - start) as usize..][..length]);
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (is_cut, loss) = {
            let mut state = self.power.0.lock().expect("a lock");
            let is_cut = state.left == Some(0);
            state.left = state.left.map(|left| left.saturating_sub(1));
            state.writes += 1;
            (is_cut, state.loss)
        };
        if is_cut {
            self.put(|index| match loss {
                Loss::All => false,
                Loss::Some => index % 2 == 1,
                Loss::None => true,
            })?;
            return Err(io::Error::other("the power failed"));
        }
        self.pending.push((offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.put(|_| true)
    }
}

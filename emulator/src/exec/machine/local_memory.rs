//! Local memory: bytes of one thread. The words of the 32 lanes are interleaved, so that the same
//! variable of all lanes is one row.

/// The local memory of a warp's threads.
#[derive(Default)]
pub(crate) struct LocalMemory {
    /// Words of the local memory. The host maps untouched zero pages lazily, so a large frame that
    /// is little used is cheap.
    pub words: Vec<u32>,
    pub bytes: u32,
    /// Number of rows that may have been written.
    pub written: usize,
}

impl LocalMemory {
    /// Allocates `bytes` bytes per thread, all zero.
    pub fn start(&mut self, bytes: u32) {
        let count = (bytes.div_ceil(4) as usize + 1) * 32;
        if self.words.len() == count {
            self.words[..self.written * 32].fill(0);
        } else {
            self.words = vec![0; count];
        }
        self.bytes = bytes;
        self.written = 0;
    }

    /// A byte of a lane, if the address is valid.
    pub fn byte(&self, lane: usize, address: u64) -> Option<u8> {
        (address < u64::from(self.bytes)).then(|| self.read(lane, address, 1) as u8)
    }

    /// Reads up to eight bytes of a lane.
    pub fn read(&self, lane: usize, address: u64, bytes: u32) -> u64 {
        let word = (address / 4) as usize;
        let low = u64::from(self.words[word * 32 + lane]);
        if bytes == 8 {
            return low | u64::from(self.words[(word + 1) * 32 + lane]) << 32;
        }
        let value = low >> (address % 4 * 8);
        if bytes == 4 {
            value
        } else {
            value & ((1 << (bytes * 8)) - 1)
        }
    }

    /// Writes up to eight bytes of a lane.
    pub fn write(&mut self, lane: usize, address: u64, bytes: u32, value: u64) {
        let word = (address / 4) as usize;
        self.written = self.written.max(word + 1 + usize::from(bytes == 8));
        if bytes >= 4 {
            self.words[word * 32 + lane] = value as u32;
            if bytes == 8 {
                self.words[(word + 1) * 32 + lane] = (value >> 32) as u32;
            }
            return;
        }
        let shift = address % 4 * 8;
        let mask = ((1u32 << (bytes * 8)) - 1) << shift;
        let old = &mut self.words[word * 32 + lane];
        *old = (*old & !mask) | ((value as u32) << shift & mask);
    }
}

//! Positions of a matrix's elements in shared memory, as a copy of a tile leaves them.

/// Bytes within which pieces of 16 bytes are permuted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    None,
    B32,
    B64,
    B128,
}

/// Layout of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    swizzle: Swizzle,
    /// Rows are innermost, not the summed dimension.
    pub transposed: bool,
}

impl Layout {
    pub fn new(swizzle: Swizzle, transposed: bool) -> Layout {
        Layout {
            swizzle,
            transposed,
        }
    }

    /// Bytes of a row of a tile.
    fn span(self) -> usize {
        match self.swizzle {
            Swizzle::None => 16,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }

    /// The byte of an element of `size` bytes in a matrix of `rows` rows and `depth` places: tiles
    /// of `span` bytes by all the rest, one after the other; within a tile pieces are permuted by
    /// the number of their 128 bytes.
    pub fn at(self, (row, k): (usize, usize), (rows, depth): (usize, usize), size: usize) -> usize {
        let (inner, outer, outers) = if self.transposed {
            (row, k, depth)
        } else {
            (k, row, rows)
        };
        let span = self.span();
        let (tile, byte) = (inner * size / span, inner * size % span);
        let linear = tile * outers * span + outer * span + byte;
        let (line, piece) = (linear / 128, linear / 16 % 8);
        let moved = match self.swizzle {
            Swizzle::None => piece,
            Swizzle::B32 => piece ^ (line & 1),
            Swizzle::B64 => piece ^ (line & 3),
            Swizzle::B128 => piece ^ (line & 7),
        };
        line * 128 + moved * 16 + linear % 16
    }

    /// The descriptor of the `step`-th 32 bytes along the summed dimension, of a matrix that starts
    /// at a multiple of 1024.
    pub fn descriptor(
        self,
        start: usize,
        step: usize,
        (rows, depth): (usize, usize),
        size: usize,
    ) -> u64 {
        let span = self.span();
        let per_step = 32 / size;
        // (offset of the step, leading, stride) in bytes.
        let (offset, leading, stride) = match (self.transposed, self.swizzle) {
            // Two pieces along the summed dimension, tiles of 16 bytes: a tile apart.
            (false, Swizzle::None) => (step * 2 * rows * 16, rows * 16, 8 * 16),
            (false, _) => {
                let (tile, byte) = (step * 32 / span, step * 32 % span);
                (tile * rows * span + byte, 16, 8 * span)
            }
            // Here the leading distance is that of eight places, the stride that of eight rows: a
            // tile.
            (true, Swizzle::None) => (step * per_step * 16, 8 * 16, depth * 16),
            // And here the other way round: of tiles, and of eight places.
            (true, _) => (step * per_step * span, depth * span, 8 * span),
        };
        let mode = match self.swizzle {
            Swizzle::None => 0,
            Swizzle::B128 => 1,
            Swizzle::B64 => 2,
            Swizzle::B32 => 3,
        };
        let field = |bytes: usize| (bytes as u64 & 0x3ffff) >> 4;
        field(start + offset) | field(leading) << 16 | field(stride) << 32 | mode << 62
    }
}

//! Tensor maps: descriptors of tensors in device memory for bulk tensor copies.
//!
//! A program treats the 128 bytes of a `CUtensorMap` as opaque. Here they contain the fields of
//! [`TensorMap`] between two marks, which distinguish them from other data, and a checksum, which
//! detects changes.
//!
//! One bit is unused: CUTLASS (`include/cute/atom/copy_traits_sm90_tma.hpp` and
//! `copy_traits_sm90_im2col.hpp`) clears bit 21 of the second 64-bit word of a map, if its tensor
//! is smaller than 128 KiB and the driver is at most 13.1.

mod replace;

pub use replace::Field;

/// The number of bytes of an encoded map.
pub const MAP_BYTES: usize = 128;

/// The maximum number of dimensions.
pub const MAX_RANK: usize = 5;

/// First and last bytes of an encoded map.
const MARKS: [u32; 2] = [0x6d54_5850, 0x5058_546d];

/// Index of the 32-bit word that contains no field except [`FREE_BIT`].
const FREE_WORD: usize = 2;

/// The bit that programs may clear: bit 21 of the second 64-bit word. It is set when a map is
/// encoded, and is not part of the checksum.
const FREE_BIT: u32 = 1 << 21;

/// Index of the 32-bit word with the checksum.
const SUM: usize = 30;

/// Reason why bytes are not a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMap {
    /// The marks are missing: no map was ever encoded there.
    #[error("it is no encoded tensor map")]
    NotEncoded,
    /// The marks exist, but another byte has changed since the map was encoded.
    #[error("its bytes were changed after it was encoded")]
    Changed,
    /// `tensormap.replace` made the map invalid.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Reason why a map cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// An argument is outside of the range that the driver API documents.
    #[error("{0}")]
    Invalid(&'static str),
    /// An argument that the driver supports and the emulator does not.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// Permutation of the 16-byte chunks of rows in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    /// No permutation.
    None,
    /// Within 32 bytes.
    B32,
    /// Within 64 bytes.
    B64,
    /// Within 128 bytes.
    B128,
}

impl Swizzle {
    /// Size in bytes of the area within which chunks move.
    pub fn span(self) -> u32 {
        match self {
            Swizzle::None => 16,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }

    /// Permuted position of the byte at an address of shared memory: address bits 7.. are XORed
    /// into bits 4.. upwards.
    #[inline(always)]
    pub fn apply(self, address: u32) -> u32 {
        address ^ (address >> 3 & (self.span() - 16))
    }
}

/// Elements that a copy transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// The elements of a box.
    Tile {
        /// Elements along each dimension, before strides.
        extent: [u32; MAX_RANK],
    },
    /// Pixels of the bounding box, one after another, with some channels of each.
    Im2col {
        /// The bounding box's first pixel, relative to the tensor's first, along the dimensions
        /// between channels and images.
        lower: [i32; 3],
        /// The bounding box's last pixel, relative to the tensor's last.
        upper: [i32; 3],
        /// Number of channels per pixel.
        channels: u32,
        /// Number of pixels.
        pixels: u32,
    },
}

/// Shared parameters of both kinds of maps, as the driver API takes them. Dimensions run from the
/// innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor<'a> {
    /// `CUtensorMapDataType`
    pub data_type: u32,
    /// The first element's address.
    pub address: u64,
    /// Number of elements along each dimension; the slice's length is the rank.
    pub dims: &'a [u64],
    /// Strides in bytes, along each dimension but the first.
    pub strides: &'a [u64],
    /// Element strides of the copy along each dimension; the first is ignored.
    pub element_strides: &'a [u32],
    /// `CUtensorMapInterleave`
    pub interleave: u32,
    /// `CUtensorMapSwizzle`
    pub swizzle: u32,
    /// `CUtensorMapL2promotion`
    pub promotion: u32,
    /// `CUtensorMapFloatOOBfill`
    pub fill: u32,
}

/// A tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Address of the first element.
    pub address: u64,
    /// Number of dimensions.
    pub rank: usize,
    /// `CUtensorMapDataType`
    pub data_type: u32,
    /// Size of an element in bytes.
    pub size: u32,
    /// Number of elements along each dimension.
    pub dims: [u64; MAX_RANK],
    /// Stride in bytes along each dimension.
    pub strides: [u64; MAX_RANK],
    /// Element strides of the copy.
    pub steps: [u32; MAX_RANK],
    /// Arrangement of rows in shared memory.
    pub swizzle: Swizzle,
    /// True if elements outside of the tensor are filled with NaN, false for zero.
    pub nan: bool,
    /// Elements that a copy transfers.
    pub walk: Walk,
}

/// Size in bytes of an element of a `CUtensorMapDataType`, and whether it is a floating-point type.
fn element(data_type: u32) -> Result<(u32, bool), MapError> {
    Ok(match data_type {
        0 => (1, false),
        1 => (2, false),
        2 | 3 => (4, false),
        4 | 5 => (8, false),
        6 | 9 => (2, true),
        7 | 11 => (4, true),
        8 => (8, true),
        10 | 12 => return Err(MapError::Unsupported("flushing of subnormal numbers")),
        13..=15 => return Err(MapError::Unsupported("a packed data type")),
        _ => return Err(MapError::Invalid("the data type does not exist")),
    })
}

fn need(holds: bool, else_what: &'static str) -> Result<(), MapError> {
    if holds {
        Ok(())
    } else {
        Err(MapError::Invalid(else_what))
    }
}

impl TensorMap {
    /// A tiled map: `cuTensorMapEncodeTiled`.
    ///
    /// # Errors
    /// An argument is invalid according to the driver API's documentation.
    pub fn tiled(tensor: &Tensor<'_>, extent: &[u32]) -> Result<TensorMap, MapError> {
        let mut map = TensorMap::of(tensor, 1)?;
        need(extent.len() == map.rank, "the box has another rank")?;
        need(
            extent.iter().all(|n| (1..=256).contains(n)),
            "a box dimension is outside of 1 to 256",
        )?;
        map.check_row(extent[0])?;
        let mut all = [1; MAX_RANK];
        all[..map.rank].copy_from_slice(extent);
        map.walk = Walk::Tile { extent: all };
        Ok(map)
    }

    /// An im2col map: `cuTensorMapEncodeIm2col`. The corners are in the order of the dimensions,
    /// starting after the channels.
    ///
    /// # Errors
    /// An argument is invalid according to the driver API's documentation.
    pub fn im2col(
        tensor: &Tensor<'_>,
        lower: &[i32],
        upper: &[i32],
        channels: u32,
        pixels: u32,
    ) -> Result<TensorMap, MapError> {
        let mut map = TensorMap::of(tensor, 3)?;
        let spatial = map.rank - 2;
        need(
            lower.len() == spatial && upper.len() == spatial,
            "the corners have another rank",
        )?;
        let range = match spatial {
            1 => -32768..=32767,
            2 => -128..=127,
            _ => -16..=15,
        };
        let mut corners = [[0; 3]; 2];
        for i in 0..spatial {
            need(
                range.contains(&lower[i]) && range.contains(&upper[i]),
                "a corner is out of range",
            )?;
            let last = map.dims[i + 1] as i64 - 1 + i64::from(upper[i]);
            need(last >= i64::from(lower[i]), "the bounding box is empty")?;
            corners[0][i] = lower[i];
            corners[1][i] = upper[i];
        }
        need(
            (1..=256).contains(&channels),
            "channels are outside of 1 to 256",
        )?;
        need(
            (1..=1024).contains(&pixels),
            "pixels are outside of 1 to 1024",
        )?;
        map.check_row(channels)?;
        map.walk = Walk::Im2col {
            lower: corners[0],
            upper: corners[1],
            channels,
            pixels,
        };
        Ok(map)
    }

    /// Shared parts of both kinds.
    fn of(tensor: &Tensor<'_>, least_rank: usize) -> Result<TensorMap, MapError> {
        let (size, float) = element(tensor.data_type)?;
        let rank = tensor.dims.len();
        need(
            (least_rank..=MAX_RANK).contains(&rank),
            "the rank is out of range",
        )?;
        need(tensor.strides.len() == rank - 1, "a stride is missing")?;
        need(
            tensor.element_strides.len() == rank,
            "an element stride is missing",
        )?;
        need(tensor.interleave <= 2, "the interleaving does not exist")?;
        need(tensor.swizzle <= 6, "the swizzle does not exist")?;
        need(tensor.promotion <= 3, "the L2 promotion does not exist")?;
        need(tensor.fill <= 1, "the fill does not exist")?;
        need(float || tensor.fill == 0, "NaN fill of integers")?;
        if tensor.interleave != 0 {
            return Err(MapError::Unsupported("interleaving"));
        }
        need(
            tensor.address.is_multiple_of(16),
            "the address is no multiple of 16",
        )?;
        let mut map = TensorMap {
            address: tensor.address,
            rank,
            data_type: tensor.data_type,
            size,
            dims: [1; MAX_RANK],
            strides: [0; MAX_RANK],
            steps: [1; MAX_RANK],
            swizzle: match tensor.swizzle {
                0 => Swizzle::None,
                1 => Swizzle::B32,
                2 => Swizzle::B64,
                3 => Swizzle::B128,
                _ => return Err(MapError::Unsupported("swizzling of larger pieces")),
            },
            nan: tensor.fill == 1,
            walk: Walk::Tile {
                extent: [1; MAX_RANK],
            },
        };
        for (i, &dim) in tensor.dims.iter().enumerate() {
            need(
                (1..=1 << 32).contains(&dim),
                "a dimension is outside of 1 to 2^32",
            )?;
            map.dims[i] = dim;
        }
        map.strides[0] = size.into();
        for (i, &stride) in tensor.strides.iter().enumerate() {
            need(stride.is_multiple_of(16), "a stride is no multiple of 16")?;
            need(stride < 1 << 40, "a stride is not less than 2^40")?;
            map.strides[i + 1] = stride;
        }
        for (i, &step) in tensor.element_strides.iter().enumerate().skip(1) {
            need(
                (1..=8).contains(&step),
                "an element stride is outside of 1 to 8",
            )?;
            map.steps[i] = step;
        }
        Ok(map)
    }

    /// Checks that rows of `elements` elements are permitted.
    fn check_row(&self, elements: u32) -> Result<(), MapError> {
        let bytes = elements * self.size;
        need(
            bytes.is_multiple_of(16),
            "a row of the box is no multiple of 16 bytes",
        )?;
        need(
            self.swizzle == Swizzle::None || bytes <= self.swizzle.span(),
            "a row of the box is longer than the swizzle",
        )
    }

    /// Encodes the map in its opaque form.
    pub fn encode(&self) -> [u8; MAP_BYTES] {
        let mut words = [0u32; MAP_BYTES / 4];
        words[0] = MARKS[0];
        words[31] = MARKS[1];
        let swizzle = self.swizzle.span() / 16;
        let im2col = matches!(self.walk, Walk::Im2col { .. });
        words[1] = self.rank as u32
            | self.size << 4
            | swizzle << 8
            | u32::from(self.nan) << 12
            | u32::from(im2col) << 13
            | self.data_type << 16;
        words[FREE_WORD] = FREE_BIT;
        (words[28], words[29]) = halves(self.address);
        for i in 0..MAX_RANK {
            words[4 + i] = (self.dims[i] - 1) as u32;
            (words[9 + 2 * i], words[10 + 2 * i]) = halves(self.strides[i]);
            words[19] |= (self.steps[i] - 1) << (4 * i);
        }
        match self.walk {
            Walk::Tile { extent } => words[20..25].copy_from_slice(&extent),
            Walk::Im2col {
                lower,
                upper,
                channels,
                pixels,
            } => {
                words[20..23].copy_from_slice(&lower.map(i32::cast_unsigned));
                words[23..26].copy_from_slice(&upper.map(i32::cast_unsigned));
                (words[26], words[27]) = (channels, pixels);
            }
        }
        words[SUM] = checksum(&words);
        let mut bytes = [0; MAP_BYTES];
        for (four, word) in bytes.chunks_exact_mut(4).zip(words) {
            four.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Decodes the opaque form of a map.
    ///
    /// # Errors
    /// The bytes are not a map, or were changed.
    pub fn decode(bytes: &[u8; MAP_BYTES]) -> Result<TensorMap, NoMap> {
        let mut words = [0u32; MAP_BYTES / 4];
        for (four, word) in bytes.chunks_exact(4).zip(&mut words) {
            *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        }
        let marks = [words[0], words[31]];
        if marks != MARKS {
            // One mark without the other: the map was partly overwritten.
            let either = marks[0] == MARKS[0] || marks[1] == MARKS[1];
            return Err(if either {
                NoMap::Changed
            } else {
                NoMap::NotEncoded
            });
        }
        if words[SUM] != checksum(&words) {
            return Err(NoMap::Changed);
        }
        Self::of_words(&words).ok_or(NoMap::Changed)
    }

    /// Decodes the words of a map with a valid checksum.
    fn of_words(words: &[u32; MAP_BYTES / 4]) -> Option<TensorMap> {
        let long = |i: usize| u64::from(words[i]) | u64::from(words[i + 1]) << 32;
        let flags = words[1];
        let swizzles = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];
        let rank = (flags & 15) as usize;
        let corner = |at: usize| std::array::from_fn(|i| words[at + i].cast_signed());
        Some(TensorMap {
            address: long(28),
            rank: (1..=MAX_RANK).contains(&rank).then_some(rank)?,
            data_type: flags >> 16 & 15,
            size: flags >> 4 & 15,
            dims: std::array::from_fn(|i| u64::from(words[4 + i]) + 1),
            strides: std::array::from_fn(|i| long(9 + 2 * i)),
            steps: std::array::from_fn(|i| (words[19] >> (4 * i) & 15) + 1),
            swizzle: *swizzles.iter().find(|s| s.span() / 16 == flags >> 8 & 15)?,
            nan: flags >> 12 & 1 != 0,
            walk: if flags >> 13 & 1 == 0 {
                Walk::Tile {
                    extent: std::array::from_fn(|i| words[20 + i]),
                }
            } else {
                Walk::Im2col {
                    lower: corner(20),
                    upper: corner(23),
                    channels: words[26],
                    pixels: words[27],
                }
            },
        })
    }

    /// Number of elements of a box along a dimension.
    pub fn count(&self, dim: usize) -> u32 {
        match self.walk {
            Walk::Tile { extent } => extent[dim].div_ceil(self.steps[dim]),
            Walk::Im2col {
                channels, pixels, ..
            } => match dim {
                0 => channels,
                1 => pixels,
                _ => 1,
            },
        }
    }

    /// Bytes per row, and number of rows, of a copy in shared memory.
    pub fn rows(&self) -> (u32, u32) {
        let rows = (1..MAX_RANK).map(|dim| self.count(dim)).product();
        (self.count(0) * self.size, rows)
    }
}

/// The checksum of a map's words, without its own word and the bit that programs may change.
///
/// Every step is invertible, so every change of a single word is detected; other changes are missed
/// with a probability of 2^-32.
fn checksum(words: &[u32; MAP_BYTES / 4]) -> u32 {
    let mut sum = 0x9e37_79b9;
    for (i, &word) in words.iter().enumerate() {
        let word = match i {
            SUM => 0,
            FREE_WORD => word | FREE_BIT,
            _ => word,
        };
        sum = (sum ^ word).wrapping_mul(0x85eb_ca6b).rotate_left(13);
    }
    sum
}

fn halves(long: u64) -> (u32, u32) {
    (long as u32, (long >> 32) as u32)
}

#[cfg(test)]
mod tests;
